//! `milepost ls`.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::{ListOptions, PeopleError, bars, say};
use crate::{
    client::{Client, Request, segment},
    job::printable,
};

/// The service gives no more on one page.
const PAGE_MAX: usize = 500;

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Value>,
    next: Option<String>,
}

pub(super) async fn list(mut client: Client, options: &ListOptions) -> Result<ExitCode, PeopleError> {
    let mut filter = String::new();
    for (name, values) in [("status", &options.status), ("kind", &options.kind), ("label", &options.label)] {
        for value in values {
            filter.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let (mut left, mut cursor) = (options.limit, String::new());
    while left > 0 {
        let path = format!("/jobs?limit={}{filter}{cursor}", left.min(PAGE_MAX));
        let page: Page = client.call(&Request::get(path)).await?.json()?;
        for job in &page.jobs {
            if options.json {
                say(job)?;
            } else {
                say(row(job))?;
            }
        }
        left = left.saturating_sub(page.jobs.len());
        match page.next {
            Some(next) => cursor = format!("&cursor={}", segment(&next)),
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A job on one line; what is longer than its column moves the others.
fn row(job: &Value) -> String {
    let text = |member: &str| printable(job[member].as_str().unwrap_or_default()).into_owned();
    let pct = bars::percent(job);
    let rest = bars::joined(&[text("stage"), bars::reason(job)], "  ");
    let row = format!("{:36}  {:16}  {:10}  {pct:>4}  {rest}", text("id"), text("kind"), text("status"));
    row.trim_end().to_owned()
}

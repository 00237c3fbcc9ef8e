//! `milepost cancel` and `retry`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{CancelOptions, PeopleError, say};
use crate::{
    client::{Client, Request, segment},
    job::printable,
};

pub(super) async fn cancel(mut client: Client, options: &CancelOptions) -> Result<ExitCode, PeopleError> {
    let body = options.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
    let path = format!("/jobs/{}/cancel", segment(&options.id));
    let answer = client.call(&Request::send("POST", path, &body)).await?;
    let is_over = answer.status == 200;
    let id = printable(&options.id);
    say(if is_over { format!("{id} is cancelled") } else { format!("{id} is asked to stop") })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn retry(mut client: Client, id: &str) -> Result<ExitCode, PeopleError> {
    let answer = client.call(&Request::send("POST", format!("/jobs/{}/retry", segment(id)), &json!({}))).await?;
    let job: Value = answer.json()?;
    say(format_args!(
        "{} is {}, attempt {}",
        printable(id),
        printable(job["status"].as_str().unwrap_or("?")),
        job["attempt"]
    ))?;
    Ok(ExitCode::SUCCESS)
}

//! `milepost logs`: the log of a job, and what comes to it.

use std::process::ExitCode;

use serde::Deserialize;

use super::{LogsOptions, Patience, PeopleError, say};
use crate::{
    client::{Client, ClientError, Request, Stream, segment},
    job::printable,
};

/// How many lines are asked for at once.
const PAGE_LINES: usize = 1_000;
/// A line of NDJSON that is longer is none of the service's: a line of a log has at most 16 KiB.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Page {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    line: String,
}

/// Prints lines, and says which are missing.
#[derive(Default)]
struct Printer {
    last: u64,
}

impl Printer {
    fn print(&mut self, line: &Line) -> Result<(), PeopleError> {
        let (from, to) = (self.last + 1, line.seq.saturating_sub(1));
        if from <= to {
            say(format_args!("… lines {from} to {to} are trimmed …"))?;
        }
        self.last = line.seq;
        say(printable(&line.line))
    }
}

pub(super) async fn logs(mut client: Client, options: &LogsOptions) -> Result<ExitCode, PeopleError> {
    let path = format!("/jobs/{}/logs", segment(&options.id));
    let (mut printer, mut patience) = (Printer::default(), Patience::default());
    if !options.follow {
        loop {
            let request = Request::get(format!("{path}?after={}&limit={PAGE_LINES}", printer.last));
            let page: Page = client.call(&request).await?.json()?;
            if page.lines.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            page.lines.iter().try_for_each(|line| printer.print(line))?;
        }
    }
    loop {
        let request = Request::get(format!("{path}?follow=1&after={}", printer.last));
        let followed = match client.open(&request.header("accept", "application/x-ndjson")).await {
            Ok(stream) => {
                patience.reset();
                follow(stream, &mut printer).await
            }
            Err(error) => Err(error.into()),
        };
        match followed {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(PeopleError::Client(error)) => patience.wait(error).await?,
            Err(other) => return Err(other),
        }
    }
}

/// Prints what comes, until the job is done; an error when it breaks off before.
async fn follow(mut stream: Stream, printer: &mut Printer) -> Result<(), PeopleError> {
    let mut rest = Vec::new();
    while let Some(bytes) = stream.bytes().await? {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(piece);
            if rest.len() > LINE_BYTES_MAX {
                return Err(ClientError::Cut("a line is too long".to_owned()).into());
            }
            if rest.ends_with(b"\n") {
                if !rest.trim_ascii().is_empty() {
                    printer.print(&serde_json::from_slice(&rest).map_err(ClientError::from)?)?;
                }
                rest.clear();
            }
        }
    }
    Ok(())
}

//! `milepost watch`: how jobs go on, as bars on a terminal and as lines elsewhere.
//!
//! Promises: goes on through a restart of the service, since whoever comes back is told how all jobs stand.

use std::{io, process::ExitCode};

use rustix::termios::isatty;
use serde_json::Value;

use super::{
    Patience, PeopleError,
    bars::{Bars, Row},
    say,
};
use crate::client::{Client, ClientError, Event, EventReader, Request, Stream, segment};

/// How a job ended, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Completed,
    Cancelled,
    Failed,
    Gone,
}

impl End {
    /// The exit code that tells of it; 1 is a failure everywhere.
    fn code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Failed => 1,
            Self::Cancelled => 2,
            Self::Gone => 3,
        }
    }

    fn of(job: &Value) -> Option<Self> {
        match job["status"].as_str() {
            Some("completed") => Some(Self::Completed),
            Some("failed") => Some(Self::Failed),
            Some("cancelled") => Some(Self::Cancelled),
            Some(_) | None => None,
        }
    }
}

/// The jobs, and what is shown of them.
struct Watch {
    rows: Vec<Row>,
    ends: Vec<Option<End>>,
    /// None: there is no terminal.
    bars: Option<Bars>,
}

pub(super) async fn watch(mut client: Client, ids: &[String]) -> Result<ExitCode, PeopleError> {
    let mut unique: Vec<&String> = Vec::new();
    for id in ids {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    let query: Vec<_> = unique.iter().map(|id| format!("id={}", segment(id))).collect();
    let request = Request::get(format!("/events?{}", query.join("&"))).header("accept", "text/event-stream");
    let rows: Vec<_> = unique.iter().map(|id| Row::new(id)).collect();
    let bars = isatty(io::stdout()).then(Bars::default);
    let mut watch = Watch { ends: vec![None; rows.len()], rows, bars };
    let mut patience = Patience::default();
    loop {
        let seen = match client.open(&request).await {
            Ok(stream) => {
                patience.reset();
                watch.follow(stream).await
            }
            Err(error) => Err(error.into()),
        };
        match seen {
            Ok(()) => break,
            Err(PeopleError::Client(error)) => {
                // It says so in their place, and they are drawn anew below.
                watch.clear()?;
                patience.wait(error).await?;
            }
            Err(other) => return Err(other),
        }
    }
    let worst = watch.ends.iter().flatten().max().copied().unwrap_or(End::Completed);
    Ok(worst.code().into())
}

impl Watch {
    /// Shows what is told, until all jobs are done; an error when the stream ends before.
    async fn follow(&mut self, mut stream: Stream) -> Result<(), PeopleError> {
        let mut reader = EventReader::default();
        while let Some(bytes) = stream.bytes().await? {
            for event in reader.feed(&bytes)? {
                self.heed(&event)?;
            }
            self.draw()?;
            if self.ends.iter().all(Option::is_some) {
                return Ok(());
            }
        }
        Err(ClientError::Cut("the service has ended the stream".to_owned()).into())
    }

    fn heed(&mut self, event: &Event) -> Result<(), PeopleError> {
        let is_gone = event.name == "deleted";
        if !is_gone && event.name != "job" {
            return Ok(());
        }
        let job: Value = serde_json::from_str(&event.data).map_err(ClientError::from)?;
        let Some(at) = self.rows.iter().position(|row| Some(row.id()) == job["id"].as_str()) else { return Ok(()) };
        self.ends[at] = if is_gone { Some(End::Gone) } else { End::of(&job) };
        let is_news = if is_gone { self.rows[at].is_gone() } else { self.rows[at].is(&job) };
        if is_news && self.bars.is_none() {
            say(self.rows[at].line())?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), PeopleError> {
        let Some(bars) = &mut self.bars else { return Ok(()) };
        bars.clear().map_err(|cause| PeopleError::System { what: "stdout", cause })
    }

    fn draw(&mut self) -> Result<(), PeopleError> {
        let Some(bars) = &mut self.bars else { return Ok(()) };
        bars.draw(&self.rows).map_err(|cause| PeopleError::System { what: "stdout", cause })
    }
}

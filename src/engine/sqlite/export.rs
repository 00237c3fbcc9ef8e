//! Exports: everything from one consistent moment, read by a thread of its own.

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{
    attempts,
    log::Rows,
    read, schema, timeline,
    view::{self, View},
};
use crate::{
    engine::{EngineError, Exported, record::Table},
    job::{Attempt, History},
};

/// Pieces read ahead of whoever takes them. Each is a job, or a row of a log.
const AHEAD: usize = 4;

/// Starts reading; ends early when nobody takes the pieces any more.
pub(super) fn start(connection: Connection) -> mpsc::Receiver<Result<Exported, EngineError>> {
    let (pieces, taken) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let exported = view::with_journal(&connection, |view| jobs(view, &pieces));
        if let Err(error) = exported {
            // Whoever took the pieces may be gone.
            let _gone = pieces.blocking_send(Err(error));
        }
    });
    taken
}

fn jobs(view: &View<'_>, pieces: &mpsc::Sender<Result<Exported, EngineError>>) -> Result<(), EngineError> {
    let mut rows = Rows::new(view)?;
    // A store that has not been served since an update is read as it is.
    let format = schema::format(view)?;
    let (has_attempts, has_timelines) = (format >= schema::WITH_ATTEMPTS, format >= schema::WITH_TIMELINES);
    let mut after = 0;
    loop {
        let chunk = read::numbers_after(view, after)?;
        if chunk.is_empty() {
            let _gone = pieces.blocking_send(Ok(Exported::End));
            return Ok(());
        }
        for number in chunk {
            after = number;
            let stored = read::existing_job(view, number, true)?;
            let input = read::json(view, Table::Inputs, number)?;
            let dropped = stored.job.log.dropped;
            let before = stored.job.attempt;
            let has_past = has_attempts && before > Attempt::FIRST;
            let attempts = if has_past { attempts::read(view, number, before)? } else { Vec::new() };
            let timeline = if has_timelines { timeline::read(view, &stored)? } else { None };
            let history = History { attempts, timeline: timeline.unwrap_or_default(), ends: Vec::new() };
            let has_lines = stored.job.log.count > dropped;
            if pieces.blocking_send(Ok(Exported::Job(stored.job, input, history))).is_err() {
                return Ok(());
            }
            let chain = if has_lines { rows.chain(stored.place, dropped)? } else { Vec::new() };
            for row in chain {
                let lines = rows.lines(number, row, dropped)?;
                if pieces.blocking_send(Ok(Exported::Lines(lines))).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

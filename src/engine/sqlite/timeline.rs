//! The timeline of a job: a chain of rows in arrival order, as its log is one.
//!
//! Promises: what one commit adds to a timeline is one row at the end of the table, or some; a job keeps some hundred entries, and
//! what is over is deleted in steps that no request feels.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{
    error::fault,
    read::{self, statement},
};
use crate::{
    engine::{
        EngineError, Stored, TimelinePlace,
        record::{self, EntryRow, ROW_ENTRIES, Table, sql},
    },
    job::TimelineEntry,
};

/// A job keeps two times so many entries at the least, but for those of a row, and three times and a row at the most.
const STRIDE: u64 = 160;
/// So many entries are always kept.
const KEPT: usize = 256;
const _: () = assert!(KEPT < 2 * STRIDE as usize - ROW_ENTRIES + 1);

/// The entries that one commit added to one timeline, linked to the row before.
#[derive(Serialize, Deserialize)]
pub(super) struct TimelineRow<'a> {
    job: u64,
    /// The job's row before this one; 0: none.
    pub(super) prev: u64,
    #[serde(borrow)]
    entries: Vec<EntryRow<'a>>,
}

/// The timeline with one more row of so many entries; and the row that is then to be deleted with all before it.
pub(super) fn link(place: TimelinePlace, row: u64, entries: usize) -> (TimelinePlace, Option<u64>) {
    let mut next = TimelinePlace { entries: place.entries + entries as u64, tail: row, ..place };
    if next.entries / STRIDE == place.entries / STRIDE {
        return (next, None);
    }
    let [last, over] = place.strides;
    next.strides = [row, last];
    (next, (over != 0).then_some(over))
}

/// Writes a row of these entries.
pub(super) fn put(
    connection: &Connection,
    job: u64,
    (prev, row): (u64, u64),
    entries: &[TimelineEntry],
    buffer: &mut Vec<u8>,
) -> Result<(), EngineError> {
    let entries = entries.iter().map(EntryRow::of).collect();
    record::seal(Table::TimelineRows, row, &TimelineRow { job, prev, entries }, buffer)?;
    let columns = (sql(row), &*buffer);
    statement(connection, "INSERT INTO timeline_rows VALUES (?1, ?2)")?.execute(columns).map(drop).map_err(fault)
}

/// See [`Engine::timeline`](crate::engine::Engine::timeline).
pub(super) fn read(connection: &Connection, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
    let number = stored.place.number;
    let mut select = statement(connection, "SELECT body FROM timeline_rows WHERE row = ?1")?;
    let (mut newest_first, mut at) = (Vec::new(), stored.place.timeline.tail);
    while at != 0 {
        let damaged = |what: &str| record::damaged(Table::TimelineRows, at, what);
        let mut found = select.query([sql(at)]).map_err(fault)?;
        let Some(columns) = found.next().map_err(fault)? else {
            let revision = read::revision(connection, number)?;
            if revision.is_none() {
                return Ok(None);
            }
            // What is over goes, also while somebody reads what the job was.
            if newest_first.len() >= KEPT || revision != Some(stored.job.revision) {
                break;
            }
            return Err(damaged("missing"));
        };
        let body = columns.get_ref(0).map_err(fault)?.as_blob().unwrap_or_default();
        let TimelineRow { job, prev, entries } = record::open(Table::TimelineRows, at, body)?;
        if job != number {
            return Err(damaged("belongs to another job"));
        }
        for entry in entries.into_iter().rev() {
            newest_first.push(entry.entry(at)?);
        }
        at = prev;
    }
    newest_first.reverse();
    Ok(Some(newest_first))
}

//! The timeline of a job: a chain of rows in arrival order, as its log is one.
//!
//! Promises: what one commit adds to a timeline is one row at the end of the table, or some, or stands in the draft of the job until
//! there is a row of it; a job keeps some hundred entries, and what is over is deleted in steps that no request feels.

use rusqlite::{CachedStatement, Connection};
use serde::{Deserialize, Serialize};

use super::{error::fault, read::statement, view::View};
use crate::{
    engine::{
        EngineError, Stored, TimelinePlace,
        record::{self, EntryRow, ROW_ENTRIES, Table, sql},
    },
    job::{Job, TimelineEntry},
};

/// A job keeps two times so many entries at the least, but for those of a row, and three times and a row at the most.
const STRIDE: u64 = 160;
/// So many entries are always kept.
const KEPT: usize = 256;
/// Entries that are in no row, at the most: all of them are copied with each change.
const REST_ENTRIES: usize = 16;
/// So many of those that are kept are in the rows of whoever has not heard of the last one.
const IN_ROWS: usize = KEPT - REST_ENTRIES;
/// What most entries need less than, encoded.
const ENTRY_BYTES: usize = 64;
const _: () = assert!(KEPT < 2 * STRIDE as usize - ROW_ENTRIES + 1);

/// The entries that one commit or some added to one timeline, linked to the row before.
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

/// Entries at the end of a timeline that are in no row yet, encoded one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    pub(super) count: u32,
    pub(super) entries: Vec<u8>,
}

impl Rest {
    /// It with more entries; `None` when they are too many to be copied with each change.
    pub(super) fn with(&self, more: &[TimelineEntry]) -> Result<Option<Self>, EngineError> {
        if self.count as usize + more.len() > REST_ENTRIES {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(self.entries.len() + more.len() * ENTRY_BYTES);
        entries.extend_from_slice(&self.entries);
        for entry in more {
            entries = postcard::to_extend(&EntryRow::of(entry), entries).map_err(|error| damaged_rest(&error))?;
        }
        Ok(Some(Self { count: self.count + more.len() as u32, entries }))
    }

    /// The entries, as a row has them.
    pub(super) fn rows(&self) -> Result<Vec<EntryRow<'_>>, EngineError> {
        let (mut rows, mut rest) = (Vec::with_capacity(self.count as usize), &*self.entries);
        while !rest.is_empty() {
            let (entry, others) = postcard::take_from_bytes(rest).map_err(|error| damaged_rest(&error))?;
            rows.push(entry);
            rest = others;
        }
        Ok(rows)
    }
}

fn damaged_rest(error: &postcard::Error) -> EngineError {
    EngineError::Corrupt(format!("journal: an entry of a timeline: {error}"))
}

/// Writes a row of these entries.
pub(super) fn put(
    connection: &Connection,
    job: u64,
    (prev, row): (u64, u64),
    entries: Vec<EntryRow<'_>>,
    buffer: &mut Vec<u8>,
) -> Result<(), EngineError> {
    record::seal(Table::TimelineRows, row, &TimelineRow { job, prev, entries }, buffer)?;
    let columns = (sql(row), &*buffer);
    statement(connection, "INSERT INTO timeline_rows VALUES (?1, ?2)")?.execute(columns).map(drop).map_err(fault)
}

/// How many entries of a job's timeline are in none of the rows that it names.
pub(super) fn rest_of(job: &Job, place: TimelinePlace) -> u64 {
    job.timeline.count.saturating_sub(place.entries)
}

/// See [`Engine::timeline`](crate::engine::Engine::timeline).
pub(super) fn read(view: &View<'_>, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
    let place = stored.place.timeline;
    let mut chain = Chain::new(view, stored)?;
    let Some((mut entries, _)) = chain.back_to(place.tail, 0)? else { return Ok(None) };
    let rest = usize::try_from(rest_of(&stored.job, place)).unwrap_or(usize::MAX);
    if rest > 0 {
        // What was in no row then is in the next ones by now, or still in none.
        let Some((now, rest_now)) = view.timeline(stored.place.number)? else { return Ok(None) };
        let Some((mut next, is_next)) = chain.back_to(now.tail, place.tail)? else { return Ok(None) };
        for entry in rest_now.rows()? {
            next.push(entry.entry(now.tail)?);
        }
        if is_next {
            entries.extend(next.into_iter().take(rest));
        }
    }
    Ok(Some(entries))
}

/// The rows of a timeline.
struct Chain<'c> {
    view: &'c View<'c>,
    stored: &'c Stored,
    select: CachedStatement<'c>,
}

impl<'c> Chain<'c> {
    fn new(view: &'c View<'c>, stored: &'c Stored) -> Result<Self, EngineError> {
        let select = statement(view, "SELECT body FROM timeline_rows WHERE row = ?1")?;
        Ok(Self { view, stored, select })
    }

    /// The entries from a row back to that after another one, or, which is told, to the first that is kept; `None` when the job is
    /// gone.
    fn back_to(&mut self, from: u64, to: u64) -> Result<Option<(Vec<TimelineEntry>, bool)>, EngineError> {
        let number = self.stored.place.number;
        let (mut newest_first, mut at) = (Vec::new(), from);
        while at != to && at != 0 {
            let damaged = |what: &str| record::damaged(Table::TimelineRows, at, what);
            let mut found = self.select.query([sql(at)]).map_err(fault)?;
            let Some(columns) = found.next().map_err(fault)? else {
                let revision = self.view.revision(number)?;
                if revision.is_none() {
                    return Ok(None);
                }
                // What is over goes, also while somebody reads what the job was.
                if newest_first.len() >= IN_ROWS || revision != Some(self.stored.job.revision) {
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
        Ok(Some((newest_first, at == to)))
    }
}

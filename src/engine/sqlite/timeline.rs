//! The timeline of a job: a chain of rows in arrival order, as its log is one.
//!
//! Promises: what one commit adds to a timeline is one row at the end of the table. A job keeps some hundred rows, and what is
//! over is deleted in steps that no request feels.

use std::borrow::Cow;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{
    error::fault,
    read::statement,
    record::{self, Table},
    sql, status_of,
};
use crate::{
    engine::{EngineError, Stored, TimelinePlace},
    job::{Actor, Attempt, Stage, TimelineEntry, TimelineEvent, Timestamp},
};

/// A job keeps twice as many rows at the least, and three times as many at the most.
const STRIDE: u64 = 128;

/// The entries that one commit added to one timeline, linked to the row before.
#[derive(Serialize, Deserialize)]
pub(super) struct TimelineRow<'a> {
    job: u64,
    /// The job's row before this one; 0: none.
    pub(super) prev: u64,
    #[serde(borrow)]
    entries: Vec<EntryRow<'a>>,
}

/// An entry as it is stored.
#[derive(Serialize, Deserialize)]
struct EntryRow<'a> {
    at: u64,
    /// Its place in `TimelineEvent::ALL`.
    event: u8,
    attempt: u32,
    status: u8,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    actor: ActorRow<'a>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
enum ActorRow<'a> {
    Client,
    Worker(#[serde(borrow)] Option<Cow<'a, str>>),
    Service,
}

/// The timeline with one more row; and the row that is then to be deleted with all before it.
pub(super) fn link(place: TimelinePlace, row: u64) -> (TimelinePlace, Option<u64>) {
    let TimelinePlace { rows, strides, .. } = place;
    let mut next = TimelinePlace { rows: rows + 1, tail: row, strides };
    if !next.rows.is_multiple_of(STRIDE) {
        return (next, None);
    }
    let [last, over] = strides;
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

/// The entries of a job's timeline that are kept, as of the moment at which `stored` was read, in order.
pub(super) fn read(connection: &Connection, stored: &Stored) -> Result<Vec<TimelineEntry>, EngineError> {
    let place = stored.place.timeline;
    let mut select = statement(connection, "SELECT body FROM timeline_rows WHERE row = ?1")?;
    let (mut rows, mut at) = (Vec::new(), place.tail);
    while at != 0 {
        let damaged = |what: &str| record::damaged(Table::TimelineRows, at, what);
        let mut found = select.query([sql(at)]).map_err(fault)?;
        // What is over may go while somebody reads.
        let Some(columns) = found.next().map_err(fault)? else { break };
        let body = columns.get_ref(0).map_err(fault)?.as_blob().unwrap_or_default();
        let TimelineRow { job, prev, entries } = record::open(Table::TimelineRows, at, body)?;
        if job != stored.place.number {
            return Err(damaged("belongs to another job"));
        }
        let entries = entries.into_iter().map(|entry| entry.entry(at)).collect::<Result<Vec<_>, _>>();
        rows.push(entries?);
        at = prev;
    }
    Ok(rows.into_iter().rev().flatten().collect())
}

impl<'a> EntryRow<'a> {
    fn of(entry: &'a TimelineEntry) -> Self {
        let TimelineEntry { at, event, attempt, status, stage, actor, reason } = entry;
        let text = |stage: &'a Option<Stage>| stage.as_ref().map(|stage| stage.as_str().into());
        Self {
            at: at.0,
            event: TimelineEvent::ALL.iter().position(|known| known == event).unwrap_or_default() as u8,
            attempt: attempt.0,
            status: *status as u8,
            stage: text(stage),
            actor: match actor {
                Actor::Client => ActorRow::Client,
                Actor::Worker(name) => ActorRow::Worker(name.as_deref().map(Cow::from)),
                Actor::Service => ActorRow::Service,
            },
            reason: text(reason),
        }
    }

    fn entry(self, row: u64) -> Result<TimelineEntry, EngineError> {
        let damaged = |what: &str| record::damaged(Table::TimelineRows, row, what);
        let text = |text: Option<Cow<'_, str>>| text.as_deref().map(Stage::try_from).transpose();
        Ok(TimelineEntry {
            at: Timestamp(self.at),
            event: *TimelineEvent::ALL.get(usize::from(self.event)).ok_or_else(|| damaged("event"))?,
            attempt: Attempt(self.attempt),
            status: status_of(self.status.into()).ok_or_else(|| damaged("status"))?,
            stage: text(self.stage).map_err(|_| damaged("stage"))?,
            actor: match self.actor {
                ActorRow::Client => Actor::Client,
                ActorRow::Worker(name) => Actor::Worker(name.map(Into::into)),
                ActorRow::Service => Actor::Service,
            },
            reason: text(self.reason).map_err(|_| damaged("reason"))?,
        })
    }
}

//! Stored values, the same on every engine: each carries its format version and a checksum, since SQLite has none on its
//! pages and PostgreSQL not always.
//!
//! Promises: what is opened is what was sealed for this very table and row, or the damage is named.
//! Knows nothing of how an engine keeps them.

mod attempt;
mod delta;
mod detail;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod head;
mod log;
mod timeline;

use serde::{Deserialize, Serialize};

pub(super) use self::{
    attempt::AttemptRow,
    delta::{Counted, Delta},
    detail::{Detail, labels},
    feed::{Change, Gathered, How, Move, what_is_gone},
    head::Head,
    log::{LogRow, portions},
    timeline::{EntryRow, ROW_ENTRIES},
};
use super::EngineError;
use crate::job::{Attempt, Job, State, Status, Tenant, Timestamp};

/// Which table a value belongs to; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Heads,
    Details,
    Inputs,
    Results,
    LogRows,
    Once,
    Feed,
    Attempts,
    TimelineRows,
    Tallies,
    Journal,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Details => "details",
            Self::Inputs => "inputs",
            Self::Results => "results",
            Self::LogRows => "log_rows",
            Self::Once => "once",
            Self::Feed => "feed",
            Self::Attempts => "attempts",
            Self::TimelineRows => "timeline_rows",
            Self::Tallies => "tallies",
            Self::Journal => "journal",
        }
    }
}

/// Version of all the values below. A new layout gets a new number and a type of its own; old ones stay readable.
const VERSION: u8 = 1;
/// Version byte and checksum before each value.
pub(super) const HEADER: usize = 5;

/// Seals a value for a row into `into`, which is emptied first.
pub(super) fn seal(table: Table, row: u64, value: &impl Serialize, into: &mut Vec<u8>) -> Result<(), EngineError> {
    seal_padded(table, row, value, |length| length, into)
}

/// As [`seal`], with zeros after the value up to the length that `padded` makes of its own.
fn seal_padded(
    table: Table,
    row: u64,
    value: &impl Serialize,
    padded: fn(usize) -> usize,
    into: &mut Vec<u8>,
) -> Result<(), EngineError> {
    begin(into);
    let sealed = postcard::to_extend(value, std::mem::take(into));
    *into = sealed.map_err(|error| EngineError::Corrupt(format!("{} {row}: cannot encode: {error}", table.name())))?;
    into.resize(padded(into.len()), 0);
    finish(table, row, into);
    Ok(())
}

/// Begins a value that its writer puts together behind what is there then.
pub(super) fn begin(into: &mut Vec<u8>) {
    into.clear();
    into.resize(HEADER, VERSION);
}

/// Seals a value that was begun so.
pub(super) fn finish(table: Table, row: u64, into: &mut [u8]) {
    let sum = checksum(table, row, &into[HEADER..]);
    into[1..HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// Opens the value of a row.
pub(super) fn open<'a, T: Deserialize<'a>>(table: Table, row: u64, bytes: &'a [u8]) -> Result<T, EngineError> {
    let value = checked(table, row, bytes)?;
    postcard::from_bytes(value).map_err(|error| damaged(table, row, &error.to_string()))
}

/// Opens what an idempotency key stands for: digest, id, and the attempt, which values from before format 3 lack.
pub(super) fn open_once(tenant: Tenant, bytes: &[u8]) -> Result<([u8; 32], &str, Attempt), EngineError> {
    let row = u64::from(tenant.0);
    let damaged = |error: postcard::Error| damaged(Table::Once, row, &error.to_string());
    let ((fingerprint, id), rest) =
        postcard::take_from_bytes::<([u8; 32], &str)>(checked(Table::Once, row, bytes)?).map_err(damaged)?;
    let attempt = if rest.is_empty() { 1 } else { postcard::from_bytes(rest).map_err(damaged)? };
    Ok((fingerprint, id, Attempt(attempt)))
}

/// What was sealed, still encoded.
pub(super) fn checked(table: Table, row: u64, bytes: &[u8]) -> Result<&[u8], EngineError> {
    let damaged = |what: &str| damaged(table, row, what);
    let (header, value) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("too short"))?;
    if header[1..] != checksum(table, row, value).to_le_bytes() {
        return Err(damaged("wrong checksum"));
    }
    if header[0] != VERSION {
        return Err(damaged(&format!("unknown version {}", header[0])));
    }
    Ok(value)
}

pub(super) fn damaged(table: Table, row: u64, what: &str) -> EngineError {
    EngineError::Corrupt(format!("{} {row}: {what}", table.name()))
}

/// CRC-32 (IEEE) over version, table, row and value: a value in the wrong place is as wrong as a flipped bit.
fn checksum(table: Table, row: u64, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION, table as u8]);
    hasher.update(&row.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

/// Bits of a job's internal number below its tenant.
pub(super) const OWN_BITS: u32 = 40;

/// A number as a database has it. Numbers here never come near the sign.
pub(super) fn sql(number: u64) -> i64 {
    number.cast_signed()
}

/// A number of a tenant, which stands above so many bits of the number itself, so that every key begins with it; `what`
/// has these numbers.
pub(super) fn numbered(tenant: Tenant, own: u64, own_bits: u32, what: &str) -> Result<u64, EngineError> {
    if own >> own_bits == 0 && tenant.0 < 1 << (63 - own_bits) {
        Ok(u64::from(tenant.0) << own_bits | own)
    } else {
        Err(EngineError::Full(format!("the store has no numbers left for {what}")))
    }
}

/// When a job is to come up: as it is armed, unless that is too late or over.
pub(super) fn armed(armed_at: Option<Timestamp>, job: &Job, now: Timestamp) -> Option<Timestamp> {
    let deadline = job.deadline()?;
    Some(armed_at.filter(|at| *at <= deadline && *at > now).unwrap_or(deadline))
}

/// The rank of a job in the queue of its kind, and since when it waits there; the highest priority comes first.
pub(super) fn queue_place(job: &Job) -> Option<(i64, i64)> {
    (job.state == State::Queued).then(|| (-i64::from(job.spec.priority), sql(job.queued_at.0)))
}

/// The status of a number in the store.
pub(super) fn status_of(number: i64) -> Option<Status> {
    Status::ALL.into_iter().find(|status| *status as i64 == number)
}

/// Whose job a number belongs to.
pub(super) fn tenant_of(number: u64) -> Tenant {
    Tenant(u32::try_from(number >> OWN_BITS).unwrap_or(u32::MAX))
}

//! Stored values, for fuzzers; see `fuzzing.rs`.
//!
//! Promises that are looked at here: bytes of any kind are read or named as damaged; what is read is written so that the
//! same is read again; and every job is read as it was written.

use std::fmt::Debug;

use super::{
    AttemptRow, Change, Counted, Delta, Detail, EntryRow, Gathered, Head, LogRow, Move, Table, VERSION, checksum, open,
    open_once, seal,
};
use crate::{
    engine::{EngineError, Place, Stored, TimelinePlace},
    job::{Job, JobKey, PastAttempt, Tenant, TimelineEntry, Timestamp},
};

const ROW: u64 = 7;

/// Reads the value of a row, which must mean the same after it was sealed anew. A type for each look, as it borrows.
macro_rules! means_the_same_again {
    ($table:expr, $bytes:expr, $type:ty, $meaning:expr) => {
        if let Some(stored) = sound(open::<$type>($table, ROW, $bytes)) {
            let mut sealed = Vec::new();
            sound(seal($table, ROW, &stored, &mut sealed));
            let Some(again) = sound(open::<$type>($table, ROW, &sealed)) else { panic!("sealed and not opened") };
            let meaning = $meaning;
            assert_eq!(told(sound(meaning(stored))), told(sound(meaning(again))));
        }
    };
}

/// Reads bytes as a value of the sort that a letter stands for, as they are, and with the checksum that belongs to them. A
/// head is that of this job.
pub(crate) fn value(sort: u8, bytes: &[u8], of: &Job) {
    let table = match sort {
        b'h' => Table::Heads,
        b'd' => Table::Details,
        b'r' => Table::Results,
        b'l' => Table::LogRows,
        b'o' => Table::Once,
        b'f' | b'm' => Table::Feed,
        b'a' => Table::Attempts,
        b't' => Table::TimelineRows,
        b'c' | b'+' => Table::Tallies,
        _ => return,
    };
    read(sort, table, bytes, of);
    let sum = checksum(table, ROW, bytes).to_le_bytes();
    read(sort, table, &[&[VERSION], &sum[..], bytes].concat(), of);
}

fn read(sort: u8, table: Table, bytes: &[u8], of: &Job) {
    match sort {
        b'h' => head(bytes, of),
        b'd' => means_the_same_again!(table, bytes, Detail<'_>, |detail: Detail<'_>| detail.parts(ROW, Tenant(0))),
        b'l' => means_the_same_again!(table, bytes, LogRow<'_>, |row: LogRow<'_>| {
            let lines: Vec<_> = row.newest_first().collect();
            assert!(lines.iter().all(|line| (row.first..=row.last()).contains(&line.seq)));
            Ok(lines)
        }),
        b'o' => drop(sound(open_once(Tenant(7), bytes).map(told))),
        b'f' => means_the_same_again!(table, bytes, Vec<Change>, |changes: Vec<Change>| {
            let mut gathered = Gathered::default();
            changes.into_iter().try_for_each(|change| gathered.add(change, ROW))?;
            Ok(gathered.finish())
        }),
        b'm' => means_the_same_again!(table, bytes, Move<'_>, |job: Move<'_>| job.elsewhere(Tenant(0))),
        b'a' => {
            means_the_same_again!(table, bytes, AttemptRow<'_>, |row: AttemptRow<'_>| row.past(ROW).inspect(attempt))
        }
        b't' => means_the_same_again!(table, bytes, Vec<EntryRow<'_>>, |rows: Vec<EntryRow<'_>>| {
            rows.into_iter().map(|row| row.entry(ROW).inspect(entry)).collect::<Result<Vec<_>, _>>()
        }),
        b'c' => means_the_same_again!(table, bytes, Counted, Ok),
        b'+' => means_the_same_again!(table, bytes, Delta, |delta: Delta| {
            let mut counted = Counted::default();
            counted.add(&delta);
            Ok((delta.has_ends(), counted))
        }),
        _ => means_the_same_again!(table, bytes, String, Ok),
    }
}

/// An error must be one of damage.
fn sound<T>(result: Result<T, EngineError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(EngineError::Corrupt(_)) => None,
        Err(other) => panic!("damage is told as {other:?}"),
    }
}

fn told(value: impl Debug) -> String {
    format!("{value:?}")
}

fn attempt(past: &PastAttempt) {
    comes_back(AttemptRow::of(past), |bytes| {
        let row: AttemptRow<'_> = open(Table::Attempts, ROW, bytes)?;
        Ok(row.past(ROW)? == *past)
    });
}

fn entry(entry: &TimelineEntry) {
    comes_back(EntryRow::of(entry), |bytes| {
        let row: EntryRow<'_> = open(Table::Attempts, ROW, bytes)?;
        Ok(row.entry(ROW)? == *entry)
    });
}

fn comes_back(row: impl serde::Serialize, is_same: impl FnOnce(&[u8]) -> Result<bool, EngineError>) {
    let mut sealed = Vec::new();
    assert!(seal(Table::Attempts, ROW, &row, &mut sealed).and_then(|()| is_same(&sealed)).is_ok_and(|same| same));
}

/// A head that can be read, with what belongs to it, is that of a job that comes back.
fn head(bytes: &[u8], of: &Job) {
    let Some(head) = sound(Head::open(ROW, bytes)) else { return };
    let result = of.result.clone().filter(|_| head.has_result());
    if let Some(stored) = sound(head.job(ROW, of.revision, Tenant(0), Detail::of(of), result)) {
        stands(&stored);
    }
}

/// A job comes back as it was written, wherever the engine keeps it.
pub(crate) fn kept(job: &Job) {
    stands(&Stored { job: job.clone().into(), place: Place { number: ROW, ..Place::default() } });
    let timeline = TimelinePlace { entries: job.timeline.count, tail: 3, strides: [1, 2] };
    let armed_at = Some(Timestamp(job.version));
    let place = Place { number: ROW, rows: 2, tail: 9, skips: [4, 1], armed_at, timeline };
    stands(&Stored { job: job.clone().into(), place });
}

fn stands(stored: &Stored) {
    let again = written_and_read(&stored.job, stored.place);
    match again {
        Ok(again) => assert_eq!((&*again.job, again.place), (&*stored.job, stored.place)),
        Err(error) => panic!("{error}: {stored:?}"),
    }
}

fn written_and_read(job: &Job, place: Place) -> Result<Stored, EngineError> {
    let (mut head, mut detail) = (Vec::new(), Vec::new());
    Head::seal(job, place, &mut head)?;
    seal(Table::Details, ROW, &Detail::of(job), &mut detail)?;
    let JobKey { tenant, .. } = *job.key();
    let result = match &job.result {
        None => None,
        Some(result) => {
            let mut text = Vec::new();
            seal(Table::Results, ROW, &result.as_str(), &mut text)?;
            let text: String = open(Table::Results, ROW, &text)?;
            crate::job::Json::from_text(text).ok()
        }
    };
    let head = Head::open(ROW, &head)?;
    assert_eq!(head.has_result(), result.is_some());
    head.job(ROW, job.revision, tenant, open(Table::Details, ROW, &detail)?, result)
}

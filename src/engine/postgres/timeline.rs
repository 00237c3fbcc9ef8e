//! Timelines: the newest entries lie beside the head, which is written anyway, until they are worth a row of their own.
//!
//! Promises: a job whose entries are few has no other rows of them; what is read of a timeline is as it was at one moment.
//! Knows nothing of when that is: `commit_batch` moves them.

use super::{Postgres, connect::column};
use crate::{
    engine::{
        EngineError, Place, Stored,
        record::{self, EntryRow, ROW_ENTRIES, Table, damaged, sql},
    },
    job::TimelineEntry,
};

/// Bytes of entries that are worth a row: six to eight of a usual worker's. As `commit_batch` has it, which tells by it what has one: part
/// of the format.
pub(super) const RECENT_BYTES: usize = 256;

/// What one commit adds, or a part of it: the number of the last of these entries, and they.
type Frame<'a> = (u64, Vec<EntryRow<'a>>);
/// Bytes before each frame, which say how long it is. The first of them is 0, as no sealed value begins.
const LENGTH: usize = 4;

/// Entries as they are added to a timeline; the place is then as with them. `None`: there are none.
pub(super) fn frames(place: &mut Place, entries: &[TimelineEntry]) -> Result<Option<Vec<u8>>, EngineError> {
    if entries.is_empty() {
        return Ok(None);
    }
    let (mut frames, mut sealed) = (Vec::new(), Vec::new());
    for entries in entries.chunks(ROW_ENTRIES) {
        place.timeline.entries += entries.len() as u64;
        let frame: Frame<'_> = (place.timeline.entries, entries.iter().map(EntryRow::of).collect());
        record::seal(Table::TimelineRows, place.number, &frame, &mut sealed)?;
        let length = u32::try_from(sealed.len()).ok().filter(|length| length >> 24 == 0);
        let length = length.ok_or_else(|| damaged(Table::TimelineRows, place.number, "entries too long"))?;
        frames.extend(length.to_be_bytes());
        frames.append(&mut sealed);
    }
    Ok(Some(frames))
}

/// A timeline that is put together of its rows, and then of what lies beside the head.
pub(super) struct Timeline {
    number: u64,
    /// The last entry that is wanted, and the last one that there is so far.
    until: u64,
    last: u64,
    entries: Vec<TimelineEntry>,
}

impl Timeline {
    /// That of the job of this number, up to the entry of that one.
    pub(super) fn new(number: u64, until: u64) -> Self {
        Self { number, until, last: 0, entries: Vec::new() }
    }

    /// Adds the next ones: the number of the last entry and what holds them.
    pub(super) fn add(&mut self, last: i64, mut body: &[u8]) -> Result<(), EngineError> {
        // A row of format 1 is the entries of one commit.
        if body.first().is_some_and(|first| *first != 0) {
            let entries = record::open(Table::TimelineRows, self.number, body)?;
            return self.take(last.cast_unsigned(), entries);
        }
        while !body.is_empty() {
            let short = || damaged(Table::TimelineRows, self.number, "too short");
            let (length, rest) = body.split_first_chunk::<LENGTH>().ok_or_else(short)?;
            let (sealed, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)?;
            let (last, entries): Frame<'_> = record::open(Table::TimelineRows, self.number, sealed)?;
            self.take(last, entries)?;
            body = rest;
        }
        Ok(())
    }

    fn take(&mut self, last: u64, entries: Vec<EntryRow<'_>>) -> Result<(), EngineError> {
        // What has got a row of its own lies beside the head as well until more comes.
        if last <= self.last || last > self.until {
            return Ok(());
        }
        // Only what came before the first may have been taken out.
        if self.last > 0 && self.last + entries.len() as u64 != last {
            return Err(damaged(Table::TimelineRows, self.number, "entries are missing"));
        }
        self.last = last;
        for entry in entries {
            self.entries.push(entry.entry(self.number)?);
        }
        Ok(())
    }

    /// The entries in order, of which this must be the number of the last one.
    pub(super) fn finish(self, last: u64) -> Result<Vec<TimelineEntry>, EngineError> {
        if self.last > 0 && self.last != last {
            return Err(damaged(Table::TimelineRows, self.number, "the last entries are missing"));
        }
        Ok(self.entries)
    }
}

impl Postgres {
    pub(super) async fn read_timeline(&self, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
        // The rows of a job that is gone are freed some time later.
        const ENTRIES: &str =
            "SELECT last, body FROM timeline_rows WHERE job = $1 AND EXISTS (SELECT FROM heads WHERE job = $1)
             UNION ALL SELECT $2, recent FROM heads WHERE job = $1 ORDER BY last";
        let number = stored.place.number;
        let rows = self.connections.rows(ENTRIES, &[&sql(number), &i64::MAX]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let last = stored.place.timeline.entries;
        let mut timeline = Timeline::new(number, last);
        for row in &rows {
            timeline.add(column(row, 0)?, column(row, 1)?)?;
        }
        timeline.finish(last).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::job::{Actor, Attempt, Stage, Status, TimelineEvent, Timestamp};

    const NUMBER: u64 = 7;

    fn entries(first: u64, count: usize) -> Vec<TimelineEntry> {
        let entry = |at| TimelineEntry {
            at: Timestamp(at),
            event: TimelineEvent::StageChanged,
            attempt: Attempt::FIRST,
            status: Status::Processing,
            stage: Stage::try_from(&*format!("stage {at}")).ok(),
            actor: Actor::Client,
            reason: None,
        };
        (first..first + count as u64).map(entry).collect()
    }

    fn read(until: u64, rows: &[(u64, Vec<u8>)]) -> Result<Vec<TimelineEntry>, EngineError> {
        let mut timeline = Timeline::new(NUMBER, until);
        for (last, body) in rows {
            timeline.add(sql(*last), body)?;
        }
        timeline.finish(until)
    }

    proptest! {
        /// As `commit_batch` moves what commits add, and as readers meet it, after each commit.
        #[test]
        fn what_commits_add_is_read_wherever_it_lies(
            old in 0..3u64, commits in vec(prop_oneof![15 => 0..4usize, 1 => 60..70usize], 1..20),
        ) {
            let mut place = Place { number: NUMBER, ..Place::default() };
            let (mut rows, mut recent, mut ends) = (Vec::new(), Vec::new(), vec![old]);
            // A row of format 1 for each.
            for last in 1..=old {
                let mut body = Vec::new();
                let entries = entries(last, 1);
                let row: Vec<_> = entries.iter().map(EntryRow::of).collect();
                record::seal(Table::TimelineRows, NUMBER, &row, &mut body).unwrap();
                rows.push((last, body));
            }
            place.timeline.entries = old;
            for count in commits {
                let next = entries(place.timeline.entries + 1, count);
                if let Some(added) = frames(&mut place, &next).unwrap() {
                    if recent.len() >= RECENT_BYTES {
                        recent.clear();
                    }
                    recent.extend(added);
                    if recent.len() >= RECENT_BYTES {
                        rows.push((place.timeline.entries, recent.clone()));
                    }
                }
                ends.push(place.timeline.entries);
                let mut there = rows.clone();
                there.push((u64::MAX >> 1, recent.clone()));
                for until in &ends {
                    prop_assert_eq!(read(*until, &there).unwrap(), entries(1, usize::try_from(*until).unwrap()));
                }
            }
        }
    }
    #[test]
    fn what_is_damaged_is_named() {
        let mut place = Place { number: NUMBER, ..Place::default() };
        let first = frames(&mut place, &entries(1, 2)).unwrap().unwrap();
        let mut both = first.clone();
        both.extend(frames(&mut place, &entries(3, 2)).unwrap().unwrap());
        assert_eq!(read(4, &[(4, both.clone())]).unwrap(), entries(1, 4));
        for cut in 1..both.len() {
            let read = read(4, &[(4, both[..cut].to_vec())]);
            assert!(matches!(read, Err(EngineError::Corrupt(_))), "cut after {cut} bytes");
        }
        for at in 0..both.len() {
            let mut flipped = both.clone();
            flipped[at] ^= 1;
            let read = read(4, &[(4, flipped)]);
            assert!(matches!(read, Err(EngineError::Corrupt(_))), "byte {at} is another");
        }
    }
}

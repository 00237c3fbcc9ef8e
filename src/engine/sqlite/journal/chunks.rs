//! How the journal lies in its table, and what it says.
//!
//! Promises: what is read is what commits have written, each as a whole and in their order, or the damage is named.

use std::sync::Arc;

use rusqlite::Connection;

use super::{FOUND, MARK};
use crate::engine::{
    EngineError,
    record::{self, Head, Table},
    sqlite::{
        drafts::{Draft, Drafts},
        error::fault,
        numbers::marked,
        read::statement,
        timeline::Rest,
    },
};

/// A chunk, sealed: as much as a page of 1 KiB takes beside what SQLite needs of it, so that none is ever moved.
pub(super) const CHUNK_BYTES: usize = 976;
/// Before what a chunk carries: its number in eight bytes, and in two how much it is, with a mark if a commit begins with it.
const PREFIX: usize = 10;
pub(super) const PAYLOAD: usize = CHUNK_BYTES - record::HEADER - PREFIX;
const BEGINS: u16 = 1 << 15;

/// What a change has made of a job.
pub(super) struct Frame<'a> {
    pub(super) job: u64,
    pub(super) revision: u64,
    /// Entries of the rest of its timeline that earlier frames have, and those that this one adds.
    pub(super) before: u32,
    pub(super) count: u32,
    pub(super) head: &'a [u8],
    pub(super) entries: &'a [u8],
}

/// What stands before head and entries: job, revision, before, count, and the lengths of these two.
type Prelude = (u64, u64, u32, u32, u64, u64);

impl<'a> Frame<'a> {
    /// Adds it to others.
    pub(super) fn add_to(&self, frames: &mut Vec<u8>) -> Result<(), EngineError> {
        let Self { job, revision, before, count, head, entries } = self;
        let prelude: Prelude = (*job, *revision, *before, *count, head.len() as u64, entries.len() as u64);
        let begun = postcard::to_extend(&prelude, std::mem::take(frames));
        *frames = begun.map_err(|error| EngineError::Corrupt(format!("journal: job {job}: {error}")))?;
        frames.extend_from_slice(head);
        frames.extend_from_slice(entries);
        Ok(())
    }

    /// The first one of some, and the others; `None` when it is cut off.
    fn first(frames: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (prelude, rest) = postcard::take_from_bytes::<Prelude>(frames).ok()?;
        let (job, revision, before, count, head_bytes, entry_bytes) = prelude;
        let (head, rest) = rest.split_at_checked(usize::try_from(head_bytes).ok()?)?;
        let (entries, others) = rest.split_at_checked(usize::try_from(entry_bytes).ok()?)?;
        Some((Self { job, revision, before, count, head, entries }, others))
    }
}

/// Makes a chunk of its number, whether a commit begins with it, and what it carries: [`PAYLOAD`] bytes at the most.
pub(super) fn seal(slot: u64, (number, begins): (u64, bool), payload: &[u8], into: &mut Vec<u8>) {
    record::begin(into);
    into.extend_from_slice(&number.to_le_bytes());
    let mark = if begins { BEGINS } else { 0 };
    into.extend_from_slice(&(payload.len() as u16 | mark).to_le_bytes());
    into.extend_from_slice(payload);
    into.resize(CHUNK_BYTES, 0);
    record::finish(Table::Journal, slot, into);
}

/// What a journal has at a moment.
pub(in crate::engine::sqlite) struct Left {
    /// Its drafts; the tables may have some of them, or what came after them.
    pub(in crate::engine::sqlite) drafts: Drafts,
    /// The number of its next chunk.
    pub(super) next: u64,
    /// Where chunks are that are needed, and others.
    pub(super) used: Vec<u64>,
    pub(super) free: Vec<u64>,
}

/// Reads what the journal has at this moment.
///
/// # Errors
/// [`EngineError::Corrupt`] when a chunk is damaged or missing: which jobs it was about is not known.
pub(in crate::engine::sqlite) fn read(connection: &Connection) -> Result<Left, EngineError> {
    let first = marked(connection, MARK)?.unwrap_or_default();
    let mut select = statement(connection, "SELECT slot, body FROM journal")?;
    let mut rows = select.query([]).map_err(fault)?;
    let (mut chunks, mut used, mut free) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(columns) = rows.next().map_err(fault)? {
        let slot = columns.get::<_, i64>(0).map_err(fault)?.cast_unsigned();
        let body = columns.get_ref(1).map_err(fault)?.as_blob().unwrap_or_default();
        // One that is taken for another is missing where it was; what is not needed may be as it is.
        if number_of(body).is_some_and(|number| number < first) {
            free.push(slot);
        } else {
            used.push(slot);
            chunks.push(opened(slot, body)?);
        }
    }
    chunks.sort_unstable_by_key(|(number, ..)| *number);
    let (drafts, next) = replay(first, &chunks)?;
    Ok(Left { drafts, next, used, free })
}

/// A chunk: its number, whether a commit begins with it, and what it carries.
type Chunk = (u64, bool, Vec<u8>);

/// The number that a chunk says it has.
fn number_of(body: &[u8]) -> Option<u64> {
    let (number, _) = body.get(record::HEADER..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*number))
}

fn opened(slot: u64, body: &[u8]) -> Result<Chunk, EngineError> {
    let short = || record::damaged(Table::Journal, slot, "too short");
    let (number, rest) = record::checked(Table::Journal, slot, body)?.split_first_chunk().ok_or_else(short)?;
    let (length, payload) = rest.split_first_chunk().ok_or_else(short)?;
    let length = u16::from_le_bytes(*length);
    let payload = payload.get(..usize::from(length & !BEGINS)).ok_or_else(short)?;
    Ok((u64::from_le_bytes(*number), length & BEGINS > 0, payload.to_vec()))
}

/// What chunks say that follow each other from a first one.
fn replay(first: u64, chunks: &[Chunk]) -> Result<(Drafts, u64), EngineError> {
    let (mut drafts, mut next) = (Drafts::default(), first);
    for commit in chunks.chunk_by(|_, (_, begins, _)| !begins) {
        let mut frames = Vec::new();
        for (number, begins, payload) in commit {
            if *number != next || (frames.is_empty() && !begins) {
                return Err(record::damaged(Table::Journal, next, "missing"));
            }
            frames.extend_from_slice(payload);
            next += 1;
        }
        take_over(next, &frames, &mut drafts)?;
    }
    Ok((drafts, next))
}

/// Takes over what a commit says.
fn take_over(number: u64, mut frames: &[u8], drafts: &mut Drafts) -> Result<(), EngineError> {
    let damaged = |what: &str| record::damaged(Table::Journal, number, what);
    while !frames.is_empty() {
        let (frame, others) = Frame::first(frames).ok_or_else(|| damaged("too short"))?;
        let Frame { job, revision, before, count, head, entries } = frame;
        frames = others;
        let mut rest = if before == 0 {
            Rest::default()
        } else {
            let known = drafts.get(job).map(|draft| draft.rest.clone()).filter(|rest| rest.count == before);
            known.ok_or_else(|| damaged("goes on with what is not there"))?
        };
        rest.count = rest.count.checked_add(count).ok_or_else(|| damaged("too many entries"))?;
        rest.entries.extend_from_slice(entries);
        let timeline = Head::open(job, head)?.place(job).timeline;
        let draft = Draft { revision, head: head.into(), timeline, rest, generation: FOUND };
        drafts.set(job, Some(Arc::new(draft)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Whatever a commit is said to be is taken over or named as damaged.
        #[test]
        fn any_bytes_are_read_or_refused(
            frames in vec((0_u64..3, 0_u32..3, 0_u32..3, vec(any::<u8>(), 0..40)), 0..5), rest in vec(any::<u8>(), 0..40)
        ) {
            let mut bytes = Vec::new();
            for (job, before, count, entries) in frames {
                Frame { job, revision: 1, before, count, head: &[], entries: &entries }.add_to(&mut bytes).unwrap();
            }
            bytes.extend(rest);
            let _refused = take_over(0, &bytes, &mut Drafts::default());
        }

        /// A chunk says what it was made of, and fills its page, however much that is.
        #[test]
        fn a_chunk_is_read_as_it_was_made(number in any::<u64>(), begins in any::<bool>(), payload in vec(any::<u8>(), 1..=PAYLOAD)) {
            let mut sealed = Vec::new();
            seal(7, (number, begins), &payload, &mut sealed);
            prop_assert_eq!(sealed.len(), CHUNK_BYTES);
            prop_assert_eq!(opened(7, &sealed).unwrap(), (number, begins, payload));
            prop_assert!(opened(8, &sealed).is_err(), "it is of another slot");
        }
    }
}

//! The journal: what commits have made of heads, in the order of the commits, until the tables have it.
//!
//! Promises: a draft is in the journal, in the transaction that made it, until the tables have that or a later head; of a job that
//! is changed often the tables see few changes, and of one that is not, nothing is written twice. Its chunks each fill a page, and
//! are written over each other in place. It has two parts: while the younger one fills up, what only the older one has is brought
//! into the tables, some with each commit, before its chunks are written over.
//! Knows nothing of when a change may be a draft, and of what it takes to bring one into the tables, which are for [`super::write`].

mod chunks;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
};

use rusqlite::Connection;

use self::chunks::{CHUNK_BYTES, Frame, PAYLOAD};
pub(super) use self::chunks::{Left, read};
use super::{
    drafts::{Committed, Draft},
    error::fault,
    numbers::mark,
    read::statement,
    timeline::Rest,
    view,
};
use crate::engine::{EngineError, TimelinePlace, record::sql};

/// The younger and the older one.
const PARTS: usize = 2;
/// What remembering one job costs that was written to the tables, in bytes, as far as the size of a part goes.
const KNOWN_BYTES: usize = 64;
/// Jobs brought into the tables with a commit, for each that it changes and at the least.
const FOLDED_FOR_EACH: usize = 2;
const FOLDED_MIN: usize = 8;
/// The part that was there at the start; the tables may have some of it already.
pub(super) const FOUND: u32 = 0;
/// The mark that names the first chunk that is needed.
const MARK: &str = "journal";

/// A part of the journal.
#[derive(Default)]
struct Part {
    /// How large it is, with what is remembered of it.
    bytes: usize,
    /// Where its chunks are.
    slots: Vec<u64>,
    /// Jobs of which it has drafts, which the younger part may have, too.
    jobs: VecDeque<u64>,
    /// Those that were written to the tables while it was the younger part.
    known: HashSet<u64>,
}

/// The writing end.
pub(super) struct Journal {
    committed: Committed,
    /// A part of so many bytes is followed by another one.
    part_bytes: usize,
    /// Slots that are not needed, and the number of slots there are.
    free: Vec<u64>,
    slots: u64,
    generation: u32,
    young: Part,
    old: Part,
    /// The first chunk of the younger part, and the next one.
    first: u64,
    next: u64,
    /// The first chunk that is needed, where that is not marked yet.
    unmarked: Option<u64>,
    under_way: Transaction,
    chunk: Vec<u8>,
}

/// What a transaction does, until it is done or undone.
#[derive(Default)]
struct Transaction {
    /// What it adds, and where its chunks are.
    frames: Vec<u8>,
    slots: Vec<u64>,
    /// What it makes of drafts.
    drafts: HashMap<u64, Option<Arc<Draft>>>,
    /// Those of them that are the first of their jobs in the younger part.
    fresh: Vec<u64>,
    /// What it has written to the tables.
    settled: Vec<u64>,
    /// How many jobs of the older part are done with it.
    folded: usize,
    /// Whether it has marked the first chunk that is needed.
    is_marked: bool,
    /// Whether it has left nothing.
    is_emptied: bool,
}

impl Journal {
    /// Goes on with what the last process has left.
    pub(super) fn load(connection: &Connection, journal_bytes_max: usize) -> Result<Self, EngineError> {
        let Left { drafts, next, used, free } = read(connection)?;
        let jobs = drafts.iter().map(|(number, _)| number).collect();
        let committed = Committed::default();
        committed.apply(drafts.iter().map(|(number, draft)| (number, Some(draft.clone()))));
        Ok(Self {
            committed,
            part_bytes: journal_bytes_max / PARTS,
            slots: used.iter().chain(&free).max().map_or(0, |last| last + 1),
            free,
            generation: FOUND + 1,
            young: Part::default(),
            old: Part { jobs: in_order(jobs).into(), slots: used, ..Part::default() },
            first: next,
            next,
            unmarked: None,
            under_way: Transaction::default(),
            chunk: Vec::new(),
        })
    }

    /// The drafts that are committed.
    pub(super) fn committed(&self) -> &Committed {
        &self.committed
    }

    /// What stands of a job here and not in the tables.
    pub(super) fn draft(&self, connection: &Connection, number: u64) -> Result<Option<Arc<Draft>>, EngineError> {
        let draft = match self.under_way.drafts.get(&number) {
            Some(staged) => staged.clone(),
            None => self.committed.get(number),
        };
        if draft.as_ref().is_none_or(|draft| draft.generation != FOUND) {
            return Ok(draft);
        }
        // It may be older than what the tables have, if there still is such a job.
        let table = view::table_revision(connection, number)?;
        Ok(draft.filter(|draft| table.is_some_and(|revision| revision < draft.revision)))
    }

    /// Whether a job of which there is no draft is to have one: what was changed a short while ago is changed again.
    pub(super) fn knows(&self, number: u64) -> bool {
        [&self.young, &self.old].into_iter().any(|part| part.known.contains(&number))
    }

    /// Whether much more was found than there is to be: processes that end early each add to it, and it may have been set to less.
    pub(super) fn is_too_long(&self) -> bool {
        self.old.slots.len() * CHUNK_BYTES > 2 * PARTS * self.part_bytes
    }

    /// Whether the transaction under way may add more.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.frames.len() < self.part_bytes
    }

    /// Adds what a change has made of a job, whose draft was `before`.
    pub(super) fn add(
        &mut self,
        number: u64,
        (revision, head, timeline): (u64, &[u8], TimelinePlace),
        rest: Rest,
        before: Option<&Draft>,
    ) -> Result<(), EngineError> {
        let before = before.filter(|before| before.generation == self.generation);
        if before.is_none() {
            self.under_way.fresh.push(number);
        }
        // This part of the journal is to say it all by itself.
        let known = before.filter(|before| before.timeline == timeline).map(|before| &before.rest);
        let (count_before, bytes_before) = known.map_or((0, 0), |known| (known.count, known.entries.len()));
        let (count, entries) = (rest.count - count_before, &rest.entries[bytes_before..]);
        let frame = Frame { job: number, revision, before: count_before, count, head, entries };
        frame.add_to(&mut self.under_way.frames)?;
        let draft = Draft { revision, head: head.into(), timeline, rest, generation: self.generation };
        self.under_way.drafts.insert(number, Some(Arc::new(draft)));
        Ok(())
    }

    /// Takes note that the tables have the newest head of a job.
    pub(super) fn settle(&mut self, number: u64) {
        self.under_way.drafts.insert(number, None);
        self.under_way.settled.push(number);
    }

    /// Forgets a job that is deleted.
    pub(super) fn forget(&mut self, number: u64) {
        self.under_way.drafts.insert(number, None);
    }

    /// Writes what the transaction has added.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), EngineError> {
        if let Some(first) = self.unmarked {
            mark(connection, MARK, first)?;
            self.under_way.is_marked = true;
        }
        let mut insert = statement(connection, "INSERT OR REPLACE INTO journal VALUES (?1, ?2)")?;
        let mut begins = true;
        for payload in self.under_way.frames.chunks(PAYLOAD) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots += 1;
                self.slots - 1
            });
            let number = self.next + self.under_way.slots.len() as u64;
            self.under_way.slots.push(slot);
            chunks::seal(slot, (number, begins), payload, &mut self.chunk);
            insert.execute((sql(slot), &self.chunk)).map_err(fault)?;
            begins = false;
        }
        Ok(())
    }

    /// How many jobs of the older part are to be brought into the tables with the transaction under way.
    pub(super) fn to_fold(&self) -> usize {
        if self.young.bytes < self.part_bytes / 2 {
            0
        } else if self.young.bytes < self.part_bytes {
            FOLDED_MIN.max(FOLDED_FOR_EACH * self.under_way.drafts.len())
        } else {
            // Its chunks are needed.
            usize::MAX
        }
    }

    /// The next job of the older part that the younger one does not have, as it stands there.
    pub(super) fn next_to_fold(&mut self) -> Option<(u64, Arc<Draft>)> {
        while let Some(number) = self.old.jobs.get(self.under_way.folded).copied() {
            self.under_way.folded += 1;
            // What is staged has gone on.
            let draft = if self.under_way.drafts.contains_key(&number) { None } else { self.committed.get(number) };
            if let Some(draft) = draft.filter(|draft| draft.generation != self.generation) {
                return Some((number, draft));
            }
        }
        None
    }

    /// What the transaction under way has done is done.
    pub(super) fn is_committed(&mut self) {
        let Transaction { frames, slots, drafts, fresh, settled, folded, is_marked, is_emptied } = &mut self.under_way;
        frames.clear();
        self.next += slots.len() as u64;
        self.young.bytes += slots.len() * CHUNK_BYTES + settled.len() * KNOWN_BYTES;
        self.young.slots.append(slots);
        self.young.jobs.extend(fresh.drain(..));
        self.young.known.extend(settled.drain(..));
        self.committed.apply(drafts.drain());
        self.old.jobs.drain(..mem::take(folded));
        if mem::take(is_marked) {
            self.unmarked = None;
        }
        if mem::take(is_emptied) {
            (self.young, self.old) = (Part::default(), Part::default());
            (self.free, self.slots, self.first) = (Vec::new(), 0, self.next);
        }
        if self.young.bytes >= self.part_bytes && self.old.jobs.is_empty() {
            self.turn();
        }
    }

    /// The younger part becomes the older one.
    fn turn(&mut self) {
        self.free.append(&mut self.old.slots);
        self.old = mem::take(&mut self.young);
        self.old.jobs = in_order(mem::take(&mut self.old.jobs).into()).into();
        self.unmarked = Some(mem::replace(&mut self.first, self.next));
        self.generation += 1;
    }

    /// What the transaction under way was to do is undone.
    pub(super) fn is_rolled_back(&mut self) {
        let undone = mem::take(&mut self.under_way);
        self.free.extend(undone.slots);
    }

    /// Leaves nothing within a transaction: the tables have all of it.
    pub(super) fn empty(&mut self, connection: &Connection) -> Result<(), EngineError> {
        self.under_way.is_marked = true;
        self.under_way.is_emptied = true;
        mark(connection, MARK, self.next)?;
        statement(connection, "DELETE FROM journal")?.execute([]).map(drop).map_err(fault)
    }
}

/// Neighbours in the tables after each other, each once.
pub(super) fn in_order(mut jobs: Vec<u64>) -> Vec<u64> {
    jobs.sort_unstable();
    jobs.dedup();
    jobs
}

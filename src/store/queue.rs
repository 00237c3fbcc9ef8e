//! Changes waiting for the committer: a vector that is swapped out whole, so that a change costs a push and no wake-up
//! while others wait already.
//!
//! Promises: arrival order; never more than the configured number and bytes; whoever brings many can wait for room, and leaves
//! half of it to others; after closing, what is in it is still given out and nothing more is taken.

use std::{mem, sync::PoisonError};

use super::{StoreError, committer::Verdict, reserved::Held};
use crate::{
    job::{Change, Claim, Guard, JobKey, Kind, NewJob, Tenant},
    sync::{Mutex, MutexGuard, Notify, oneshot},
};

/// What is asked of one job.
#[derive(Debug)]
pub(super) enum Request {
    /// Make it, under an idempotency key if there is one.
    Create(Box<NewJob>, Option<Held>),
    /// Change it.
    Change(Box<Change>, Guard),
    /// Remove it.
    Delete(Guard),
    /// Do what is due.
    Sweep,
}

impl Request {
    /// Bytes of clients' data that waiting holds in memory.
    fn weight(&self) -> usize {
        FIXED
            + match self {
                Self::Create(new, _) => new.lines.weight() + new.input.as_ref().map_or(0, |input| input.as_str().len()),
                Self::Change(change, _) => change.weight(),
                Self::Delete(_) | Self::Sweep => 0,
            }
    }
}

/// A worker's wish for any job of some kinds.
#[derive(Debug)]
pub(super) struct ClaimRequest {
    pub(super) tenant: Tenant,
    pub(super) kinds: Vec<Kind>,
    pub(super) claim: Claim,
    /// The key under which this happens only once.
    pub(super) held: Option<Held>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// Something of this job.
    OfJob(JobKey, Request),
    /// A job.
    ForJob(Box<ClaimRequest>),
}

impl Ask {
    /// The job it is about, if that is known.
    pub(super) fn key(&self) -> Option<&JobKey> {
        match self {
            Self::OfJob(key, _) => Some(key),
            Self::ForJob(_) => None,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::OfJob(_, request) => request.weight(),
            Self::ForJob(claim) => FIXED + claim.kinds.len() * size_of::<Kind>(),
        }
    }
}

/// Bytes that a request holds beyond what its client sent.
const FIXED: usize = 512;

/// A request on its way to the committer, and where its answer goes.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) ask: Ask,
    /// How often another writer was faster.
    pub(super) conflicts: u32,
    pub(super) reply: oneshot::Sender<Result<Verdict, StoreError>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrival: Notify,
    /// Less than half of it is taken again.
    departure: Notify,
    changes_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    submissions: Vec<Submission>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(changes_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), arrival: Notify::new(), departure: Notify::new(), changes_max, bytes_max }
    }

    /// Returns once less than half of it is taken, or it is closed. Whoever is given up, or does not go on, holds up nobody else.
    pub(super) async fn room(&self) {
        loop {
            // Before the look: what departs after it is not missed.
            let departure = self.departure.notified();
            if self.has_room(&self.lock()) {
                return;
            }
            departure.await;
        }
    }

    fn has_room(&self, waiting: &Waiting) -> bool {
        let is_half = waiting.submissions.len() >= self.changes_max.div_ceil(2) || waiting.bytes >= self.bytes_max / 2;
        !is_half || waiting.submissions.is_empty() || waiting.closed
    }

    /// Adds a submission at the end.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when it is full, [`StoreError::Draining`] when it is closed.
    pub(super) fn push(&self, submission: Submission) -> Result<(), StoreError> {
        let weight = submission.ask.weight();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(StoreError::Draining);
        }
        // A single change always fits, whatever its size: bodies have a limit of their own.
        let over = waiting.submissions.len() >= self.changes_max || waiting.bytes + weight > self.bytes_max;
        if over && !waiting.submissions.is_empty() {
            return Err(StoreError::Overloaded);
        }
        waiting.bytes += weight;
        waiting.submissions.push(submission);
        let first = waiting.submissions.len() == 1;
        drop(waiting);
        if first {
            self.arrival.notify_one();
        }
        Ok(())
    }

    /// The next submissions in order, at most `most`; waits for one. `None` when closed and empty.
    pub(super) async fn take(&self, most: usize) -> Option<Vec<Submission>> {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.submissions.is_empty() {
                    let had_room = self.has_room(&waiting);
                    let taken = waiting.take(most);
                    if !had_room && self.has_room(&waiting) {
                        drop(waiting);
                        self.departure.notify_waiters();
                    }
                    return Some(taken);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.arrival.notified().await;
        }
    }

    /// Whether nothing waits and more may come.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.lock();
        waiting.submissions.is_empty() && !waiting.closed
    }

    /// How many submissions wait.
    pub(super) fn len(&self) -> usize {
        self.lock().submissions.len()
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrival.notify_one();
        self.departure.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds the lock can panic half-way through a change of it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, most: usize) -> Vec<Submission> {
        if self.submissions.len() <= most {
            self.bytes = 0;
            // As many will probably come while these are committed; growing to that size step by step would copy them.
            let next = Vec::with_capacity(self.submissions.len());
            return mem::replace(&mut self.submissions, next);
        }
        let rest = self.submissions.split_off(most);
        let taken = mem::replace(&mut self.submissions, rest);
        self.bytes -= taken.iter().map(|submission| submission.ask.weight()).sum::<usize>();
        taken
    }
}

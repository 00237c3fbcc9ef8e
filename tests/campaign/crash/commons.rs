//! The jobs that writers share, and those that readers know of.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::history::Id;
use crate::random::Random;

/// Jobs that any writer may work on at once.
const SHARED: usize = 10;
/// How many jobs readers remember.
const REMEMBERED: usize = 64;

#[derive(Default)]
pub(super) struct Commons(Mutex<Inner>);

struct Inner {
    /// How often the job of a place has been replaced by a new one.
    shared: [u32; SHARED],
    recent: Vec<Id>,
    deleted: Vec<Id>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { shared: [0; SHARED], recent: Vec::new(), deleted: Vec::new() }
    }
}

impl Commons {
    /// One of the shared jobs.
    pub(super) fn shared(&self, random: &mut Random) -> Id {
        let place = random.below(SHARED as u64) as usize;
        name(place, self.lock().shared[place])
    }

    /// Replaces a shared job that is done or gone by a new one.
    pub(super) fn retire(&self, job: &Id) {
        for (place, generation) in self.lock().shared.iter_mut().enumerate() {
            if name(place, *generation) == *job {
                *generation += 1;
            }
        }
    }

    /// Makes a job known to readers.
    pub(super) fn publish(&self, job: &Id, random: &mut Random) {
        replace_some(&mut self.lock().recent, job, random);
    }

    /// Makes the end of a job known to readers.
    pub(super) fn bury(&self, job: &Id, random: &mut Random) {
        replace_some(&mut self.lock().deleted, job, random);
    }

    pub(super) fn recent(&self, random: &mut Random) -> Option<Id> {
        random.pick(&self.lock().recent).cloned()
    }

    pub(super) fn deleted(&self) -> Vec<Id> {
        self.lock().deleted.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(place: usize, generation: u32) -> Id {
    format!("shared-{place}-{generation}").into()
}

fn replace_some(jobs: &mut Vec<Id>, job: &Id, random: &mut Random) {
    if jobs.contains(job) {
        return;
    }
    if jobs.len() < REMEMBERED {
        jobs.push(job.clone());
    } else {
        jobs[random.below(REMEMBERED as u64) as usize] = job.clone();
    }
}

//! What a commit adds to the counts of a kind.

use serde::{Deserialize, Serialize};

use super::{head::HeadOutcome, status_of};
use crate::{
    engine::{Put, Tally, Write},
    job::{JobEnd, Status, Timestamp},
};

/// What one write adds to the counts of its job's kind.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Delta {
    pub(in crate::engine) kind: i64,
    /// When it was counted.
    at: u64,
    /// When the job was made, if it was.
    made: Option<u64>,
    /// The status that has one job less, and the one that has one more.
    from: Option<u8>,
    to: Option<u8>,
    ends: Vec<EndRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndRow {
    outcome: HeadOutcome,
    at: u64,
    started_at: Option<u64>,
    queued_at: u64,
}

/// All that is counted of a kind: how many jobs are in each status, in the order of [`Status::ALL`], and the rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::engine) struct Counted {
    pub(in crate::engine) jobs: [i64; Status::ALL.len()],
    pub(in crate::engine) tally: Tally,
}

impl Delta {
    /// What a write adds; `None` when that is nothing.
    pub(in crate::engine) fn of(write: &Write, kind: i64, now: Timestamp) -> Option<Self> {
        let before = write.before.as_ref().map(|stored| stored.job.status());
        let (made, from, to) = match &write.put {
            Put::New { job, .. } => (Some(job.spec.created_at.0), None, Some(job.status())),
            Put::Changed(job) => (None, before, Some(job.status())),
            Put::Deleted { .. } => (None, before, None),
        };
        if from == to && write.history.ends.is_empty() {
            return None;
        }
        let number = |status: Option<Status>| status.map(|status| status as u8);
        let ends = write.history.ends.iter().map(EndRow::of).collect();
        Some(Self { kind, at: now.0, made, from: number(from), to: number(to), ends })
    }
}

impl Delta {
    /// Whether a job has ended.
    pub(in crate::engine) fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }
}

impl Counted {
    /// Counts what a write has added.
    pub(in crate::engine) fn add(&mut self, delta: &Delta) {
        let now = Timestamp(delta.at);
        for (status, change) in [(delta.from, -1), (delta.to, 1)] {
            let place = status
                .and_then(|status| status_of(status.into()))
                .and_then(|status| self.jobs.get_mut(status as usize));
            if let Some(jobs) = place {
                *jobs += change;
            }
        }
        if let Some(made) = delta.made {
            self.tally.made(Timestamp(made), now);
        }
        delta.ends.iter().for_each(|end| self.tally.ended(&end.end(), now));
    }
}

impl EndRow {
    fn of(end: &JobEnd) -> Self {
        let JobEnd { outcome, at, started_at, queued_at } = *end;
        Self { outcome: outcome.into(), at: at.0, started_at: started_at.map(|at| at.0), queued_at: queued_at.0 }
    }

    fn end(&self) -> JobEnd {
        JobEnd {
            outcome: self.outcome.into(),
            at: Timestamp(self.at),
            started_at: self.started_at.map(Timestamp),
            queued_at: Timestamp(self.queued_at),
        }
    }
}

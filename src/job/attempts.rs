//! What is remembered of an attempt when the next one has begun.

use std::sync::Arc;

use super::{
    Job,
    id::Attempt,
    json::Json,
    progress::Progress,
    state::{Outcome, State},
    time::Timestamp,
};

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAttempt {
    /// Its number.
    pub attempt: Attempt,
    /// Who claimed it.
    pub worker: Option<Arc<str>>,
    /// When a worker began; `None`: none ever did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
    /// Why, if that was said.
    pub error: Option<Json>,
    /// How far it came.
    pub progress: Progress,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The job ended with it.
    Done(Outcome),
    /// Its worker gave the job back.
    GivenBack,
}

impl AttemptEnd {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done(outcome) => outcome.as_str(),
            Self::GivenBack => "given_back",
        }
    }
}

impl Job {
    /// What is to be remembered of the attempt that a change has ended, if it has begun the next one.
    pub(super) fn ended_attempt(&self, next: &Self) -> Option<PastAttempt> {
        if next.attempt == self.attempt {
            return None;
        }
        let losses = |job: &Self| job.supervision.losses + job.supervision.silent_losses;
        let (end, ended_at) = match self.state {
            State::Done(end) => (AttemptEnd::Done(end.outcome), end.at),
            State::Queued | State::Processing if losses(next) > losses(self) => {
                let is_slow = self.timeout_at().is_some_and(|at| at <= next.queued_at);
                let outcome = if is_slow { Outcome::TimedOut } else { Outcome::Lost };
                (AttemptEnd::Done(outcome), next.queued_at)
            }
            State::Queued | State::Processing => (AttemptEnd::GivenBack, next.queued_at),
        };
        Some(PastAttempt {
            attempt: self.attempt,
            worker: self.worker.clone(),
            started_at: self.started_at,
            ended_at,
            end,
            error: self.error.clone(),
            progress: self.progress,
        })
    }
}

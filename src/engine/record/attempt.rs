//! Attempts that are over.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Table, damaged, head::HeadOutcome};
use crate::{
    engine::EngineError,
    job::{Attempt, AttemptEnd, Json, PastAttempt, Progress, Timestamp},
};

/// An attempt that is over.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct AttemptRow<'a> {
    attempt: u32,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    started_at: Option<u64>,
    ended_at: u64,
    /// None: its worker gave the job back.
    outcome: Option<HeadOutcome>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    progress: u16,
}

impl<'a> AttemptRow<'a> {
    pub(in crate::engine) fn of(past: &'a PastAttempt) -> Self {
        let PastAttempt { attempt, worker, started_at, ended_at, end, error, progress } = past;
        Self {
            attempt: attempt.0,
            worker: worker.as_deref().map(Cow::from),
            started_at: started_at.map(|at| at.0),
            ended_at: ended_at.0,
            outcome: match end {
                AttemptEnd::Done(outcome) => Some((*outcome).into()),
                AttemptEnd::GivenBack => None,
            },
            error: error.as_ref().map(|error| error.as_str().into()),
            progress: progress.hundredths(),
        }
    }

    pub(in crate::engine) fn past(self, number: u64) -> Result<PastAttempt, EngineError> {
        let damaged = |what: &str| damaged(Table::Attempts, number, what);
        let error = self.error.map(|text| Json::from_text(text.into_owned())).transpose();
        Ok(PastAttempt {
            attempt: Attempt(self.attempt),
            worker: self.worker.map(Into::into),
            started_at: self.started_at.map(Timestamp),
            ended_at: Timestamp(self.ended_at),
            end: self.outcome.map_or(AttemptEnd::GivenBack, |outcome| AttemptEnd::Done(outcome.into())),
            error: error.map_err(|_| damaged("error"))?,
            progress: Progress::from_hundredths(self.progress).map_err(|_| damaged("progress"))?,
        })
    }
}

//! Doing what is due: leases that have run out, attempts and waits that took too long, done jobs that are kept no longer.

use super::{JobStore, StoreError, committer::Verdict, queue::Request, verdict};
use crate::job::Status;

/// What came of a job whose time had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// It is queued again.
    Requeued,
    /// It has failed.
    Failed,
    /// It is cancelled.
    Cancelled,
    /// It is gone.
    Removed,
}

impl Swept {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Removed => "removed",
        }
    }

    /// What has come of a job that stands so now.
    pub(super) fn of(status: Status) -> Self {
        match status {
            Status::Queued | Status::Processing => Self::Requeued,
            Status::Completed | Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl JobStore {
    /// Does what is due by now of so many jobs at the most, each for itself. How many came up, and what came of those of
    /// which something was due: of most nothing is, since their leases were renewed.
    ///
    /// # Errors
    /// The store's own. What was not done comes up again.
    pub async fn sweep(&self, jobs_max: usize) -> Result<(usize, Vec<Swept>), StoreError> {
        let due = self.inner.engine.due(self.inner.clock.now(), jobs_max).await?;
        let count = due.len();
        let replies: Vec<_> = due.into_iter().map(|key| self.enqueue(key, Request::Sweep)).collect();
        let mut swept = Vec::new();
        for reply in replies {
            match verdict(reply?).await {
                Ok(Verdict::Swept(effect)) => swept.extend(effect),
                // Somebody was faster.
                Ok(_) | Err(StoreError::NotFound(_) | StoreError::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((count, swept))
    }
}

//! Doing what is due: leases that have run out, attempts and waits that took too long, done jobs that are kept no longer.

use super::{JobStore, StoreError, committer::Verdict, queue::Request, verdict};
use crate::{engine::EngineError, job::Status};

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

/// What came of a look at what is due.
#[derive(Debug)]
pub struct Sweep {
    /// How many jobs came up.
    pub count: usize,
    /// What came of those of which something was due: of most nothing is, since their leases were renewed.
    pub swept: Vec<Swept>,
    /// Why something was not done; it comes up again.
    pub failed: Option<StoreError>,
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
    /// Does what is due by now of so many jobs at the most, each for itself.
    ///
    /// # Errors
    /// The store's own, when it is not known what is due.
    pub async fn sweep(&self, jobs_max: usize) -> Result<Sweep, StoreError> {
        let due = self.inner.engine.due(self.inner.clock.now(), jobs_max).await?;
        let count = due.len();
        let replies: Vec<_> = due.into_iter().map(|key| self.enqueue(key, Request::Sweep)).collect();
        let (mut swept, mut failed) = (Vec::new(), None);
        for reply in replies {
            let outcome = match reply {
                Ok(reply) => verdict(reply).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(Verdict::Swept(effect)) => swept.extend(effect),
                // Somebody was faster; or it is damaged, which is said to those who read it.
                Ok(_) | Err(StoreError::NotFound(_) | StoreError::Engine(EngineError::Corrupt(_))) => {}
                Err(error) => failed = Some(error),
            }
        }
        Ok(Sweep { count, swept, failed })
    }
}

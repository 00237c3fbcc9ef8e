//! Requests that wait for the committer's answer.

use super::{
    StoreError,
    answers::Updated,
    committer::{Changed, Reply, Verdict},
};
use crate::{engine::EngineError, job::JobId};

/// What a request has come to.
///
/// # Errors
/// Its own, or [`EngineError::Indeterminate`] when nobody is left to tell.
pub(super) async fn verdict(answer: Reply) -> Result<Verdict, StoreError> {
    match answer.await {
        Ok(verdict) => verdict,
        Err(_) => Err(EngineError::Indeterminate("the committer ended before it answered".into()).into()),
    }
}

/// A change that has its place in the order of changes.
#[derive(Debug)]
#[must_use = "whether it was made is known only once it is committed"]
pub struct Submitted {
    pub(super) id: JobId,
    pub(super) answer: Reply,
}

impl Submitted {
    /// Waits until it is durable.
    ///
    /// # Errors
    /// As [`JobStore::update`](super::JobStore::update).
    pub async fn committed(self) -> Result<Updated, StoreError> {
        match verdict(self.answer).await? {
            Verdict::Applied(changed) => {
                let Changed { job, lines, duplicates, result_changed } = *changed;
                Ok(Updated { job, lines, duplicates, result_changed })
            }
            Verdict::Stood | Verdict::Deleted | Verdict::Nothing | Verdict::Swept(_) => {
                Err(StoreError::NotFound(self.id))
            }
        }
    }
}

//! The feed: what has moved since somebody last looked, among all jobs of a tenant.

use super::{Caller, JobStore, StoreError};
use crate::engine::{Fed, FeedPage, FeedPlace, FeedQuery};

impl JobStore {
    /// The last entry of the caller's feed. Whoever reads jobs after this has everything up to there.
    ///
    /// # Errors
    /// The store's own.
    pub async fn feed_end(&self, caller: Caller) -> Result<FeedPlace, StoreError> {
        let end = self.inner.engine.feed_end(caller.tenant).await?;
        self.inner.horizon.reached().await;
        Ok(end)
    }

    /// What has moved after a place of a feed; `None` when that is none, or is forgotten.
    ///
    /// # Errors
    /// The store's own.
    pub async fn feed(&self, query: FeedQuery) -> Result<Option<FeedPage>, StoreError> {
        Ok(self.inner.engine.feed(query).await?)
    }

    /// What has become, in their order, of jobs that a feed told of; `None` when one is forgotten.
    ///
    /// # Errors
    /// The store's own.
    pub async fn fed(&self, numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, StoreError> {
        let fed = self.inner.engine.fed(numbers).await?;
        self.inner.horizon.reached().await;
        Ok(fed)
    }
}

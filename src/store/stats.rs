//! What a tenant's jobs are like as a whole, by kind.

use std::collections::BTreeMap;

use super::{Caller, JobStore, StoreError};
use crate::{
    engine::{Count, Tally},
    job::{Kind, Status},
};

/// What the jobs of a kind are like.
#[derive(Clone, Debug, Default)]
pub struct KindStats {
    /// How many are in each status, in the order of [`Status::ALL`].
    pub jobs: [u64; Status::ALL.len()],
    /// What was counted of them.
    pub tally: Tally,
}

impl JobStore {
    /// What the jobs of each kind are like that has had one, from one moment of the commits. Costs as much as there are kinds.
    ///
    /// # Errors
    /// The store's own.
    pub async fn stats(&self, caller: Caller) -> Result<BTreeMap<Kind, KindStats>, StoreError> {
        let mut stats = BTreeMap::<_, KindStats>::new();
        let (counts, tallies) = self.inner.engine.figures(caller.tenant).await?;
        for Count { kind, status, jobs, .. } in counts {
            stats.entry(kind).or_default().jobs[status as usize] = jobs;
        }
        for (kind, tally) in tallies {
            stats.entry(kind).or_default().tally = tally;
        }
        self.inner.horizon.reached().await;
        Ok(stats)
    }
}

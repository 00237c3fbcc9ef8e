//! The last steps that were made: whoever stands where another reader stood gets the same one.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{
    frame::Format,
    step::{Place, Step},
    streams::Settings,
};
use crate::{
    job::{JobKey, LogLine, Timestamp, Version},
    store::{JobStore, Snapshot, StoreError},
};

/// Lines that a step tells at the most: short ones cost more than their text.
const LINES_MAX: usize = 1000;

/// Steps, bounded by bytes.
pub(super) struct Steps {
    made: Cache<StepKey, Arc<Step>, Weight>,
    step_bytes: usize,
}

/// What a step depends on, but for what was trimmed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StepKey {
    key: JobKey,
    created_at: Timestamp,
    version: Version,
    from: Place,
    format: Format,
}

#[derive(Clone)]
struct Weight;

impl Weighter<StepKey, Arc<Step>> for Weight {
    fn weight(&self, _: &StepKey, step: &Arc<Step>) -> u64 {
        step.weight() + size_of::<StepKey>() as u64
    }
}

impl Steps {
    pub(super) fn new(settings: Settings) -> Self {
        /// Only sizes the hash tables at first; the weight is what bounds them.
        const ITEMS_EXPECTED: usize = 1000;
        let made = Cache::with_weighter(ITEMS_EXPECTED, settings.cache_bytes_max, Weight);
        Self { made, step_bytes: settings.step_bytes }
    }

    /// The step from a place to the job of a snapshot: made once for all who ask meanwhile.
    pub(super) async fn get(
        &self,
        store: &JobStore,
        snapshot: &Snapshot,
        from: Place,
        format: Format,
    ) -> Result<Arc<Step>, StoreError> {
        let job = snapshot.job();
        let key =
            StepKey { key: job.key().clone(), created_at: job.spec.created_at, version: job.version, from, format };
        let make = async {
            let lines = self.lines(store, snapshot, from).await?;
            Ok(Arc::new(from.step(job, &lines, format)))
        };
        self.made.get_or_insert_async(&key, make).await
    }

    async fn lines(&self, store: &JobStore, snapshot: &Snapshot, from: Place) -> Result<Vec<LogLine>, StoreError> {
        match from.lines_after(snapshot.job()) {
            None => Ok(Vec::new()),
            Some(seq) => store.lines_after(snapshot, seq, LINES_MAX, self.step_bytes).await,
        }
    }
}

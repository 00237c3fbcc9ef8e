//! How long jobs of each kind usually take.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Tally;
use crate::job::{Kind, Seconds, Tenant};

/// How long jobs of each kind usually take, for those who may not wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Usual(Arc<Mutex<HashMap<(Tenant, Kind), Seconds>>>);

impl Usual {
    /// The median of the last ones in seconds, rounded up; never 0.
    pub(super) fn seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        self.lock().get(&(tenant, kind.clone())).copied()
    }

    pub(super) fn learn(&self, key: (Tenant, Kind), tally: &Tally) {
        if let Some(median) = tally.durations.quantile(0.5) {
            let seconds = u32::try_from(median.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            self.lock().insert(key, Seconds(seconds));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Tenant, Kind), Seconds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

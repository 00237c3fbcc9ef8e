//! The task that does what is due.
//!
//! Promises: costs what is due and one look-up in each interval, however many jobs there are; after a start it waits for a
//! while, since workers could not renew their leases when the service was down.
//! Knows nothing of what is due: that is for the domain to say.

use std::time::Duration;

use tokio::{select, time::sleep};

use crate::{
    job::{Seconds, Timestamp},
    metrics::SweepMetrics,
    store::{JobStore, StoreError, Sweep},
    tasks::Stop,
};

/// How it goes about it; all of it is configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between two looks.
    pub interval: Duration,
    /// Jobs of one look.
    pub jobs_max: usize,
    /// How long after a start nothing is done.
    pub grace_seconds: Seconds,
}

/// Does what is due, until it is told to stop.
pub struct Sweeper {
    store: JobStore,
    settings: Settings,
    metrics: SweepMetrics,
    begin: Timestamp,
}

impl Sweeper {
    /// What sweeps this store, which has just been opened.
    pub fn new(store: JobStore, settings: Settings, metrics: SweepMetrics) -> Self {
        let begin = store.clock().now().after(settings.grace_seconds);
        Self { store, settings, metrics, begin }
    }

    /// Sweeps until it is told to stop.
    pub async fn run(self, mut stop: Stop) {
        loop {
            select! {
                () = stop.requested() => return,
                () = sleep(self.settings.interval) => {}
            }
            if self.store.clock().now() < self.begin {
                continue;
            }
            select! {
                () = stop.requested() => return,
                swept = self.sweep() => {
                    if let Err(error) = swept {
                        tracing::warn!(%error, "what is due could not be done; it is tried again");
                    }
                }
            }
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        loop {
            let Sweep { count, swept, failed } = self.store.sweep(self.settings.jobs_max).await?;
            for effect in swept {
                self.metrics.count(effect.as_str());
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if count < self.settings.jobs_max {
                return Ok(());
            }
        }
    }
}

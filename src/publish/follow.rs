//! Following one job: registered first, read after.

use std::sync::Arc;

use thiserror::Error;

use super::hub::{Hub, Pace, Subject, Watch};
use crate::{
    job::JobId,
    store::{Caller, JobStore, Snapshot, StoreError},
};

/// A reader of one job that hears of its changes. Registered as long as it lives.
pub struct Follower {
    watch: Watch,
    store: JobStore,
    caller: Caller,
    id: JobId,
}

impl Follower {
    /// Registers; only then can it read.
    pub(super) fn new(hub: &Arc<Hub>, store: JobStore, caller: Caller, id: JobId, pace: Pace) -> Self {
        Self { watch: hub.watch(Subject::Job(caller.key(&id)), pace), store, caller, id }
    }

    /// Where it reads.
    pub(super) fn store(&self) -> &JobStore {
        &self.store
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// As [`JobStore::read`].
    pub async fn read(&self) -> Result<Snapshot, StoreError> {
        self.store.read(self.caller, &self.id).await
    }

    /// Returns once the job has moved since this was made, last returned or settled.
    pub(crate) async fn moved(&mut self) {
        self.watch.moved().await;
    }

    /// Takes it that the job is read anew after this.
    pub(super) fn settle(&mut self) {
        self.watch.settle();
    }

    /// Takes it that what was read last holds nothing more to tell.
    pub(super) fn caught_up(&mut self) {
        self.watch.caught_up();
    }

    /// Whether there is no more waiting; whoever waits returns then.
    pub(crate) fn is_closed(&self) -> bool {
        self.watch.is_closed()
    }

    /// The first state of the job that is wanted, from now on; states that pass quickly may never be seen.
    ///
    /// # Errors
    /// As [`JobStore::read`]: [`StoreError::NotFound`] as soon as the job is gone. [`Interrupted::Closing`] as soon as the
    /// hub is closed.
    pub async fn until(&mut self, is_wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Interrupted> {
        let Self { watch, store, caller, id } = self;
        until(watch, || store.read(*caller, id), is_wanted).await?.ok_or(Interrupted::Closing)
    }
}

/// Why somebody who waits is not told more.
#[derive(Clone, Debug, Error)]
pub enum Interrupted {
    /// The service goes down.
    #[error("the service is going down")]
    Closing,
    /// What there is to tell cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads until what is read is wanted, and only after the watch was made; `None` once the hub is closed.
pub(super) async fn until<T, E, F>(
    watch: &mut Watch,
    read: impl Fn() -> F,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<Option<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    while !watch.is_closed() {
        if watch.is_caught_up() {
            watch.moved().await;
            continue;
        }
        let found = read().await?;
        if is_wanted(&found) {
            return Ok(Some(found));
        }
        watch.caught_up();
    }
    Ok(None)
}

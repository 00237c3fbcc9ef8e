//! The one safe door to jobs: every reader and every writer comes through here.
//!
//! Promises: a change is atomic and durable before it is acknowledged or visible; a job never goes back in time for
//! anyone who has seen it; memory is bounded by configuration, not by the number of jobs.
//! Knows nothing of HTTP and nothing of which engine it stands on.

mod answers;
mod attendant;
mod batch;
mod cache;
mod claim;
mod claims;
mod committer;
mod error;
mod feed;
#[cfg(test)]
mod interleavings;
mod news;
pub mod portable;
mod queue;
mod reads;
mod reserved;
mod settings;
mod stats;
mod submitted;
mod sweep;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;

pub(crate) use self::cache::weight;
pub use self::{
    answers::{Created, Creation, Updated},
    attendant::Attendant,
    cache::Snapshot,
    claim::{Claimed, Wish},
    committer::Committer,
    error::StoreError,
    news::{Moved, Publish},
    reserved::IdempotencyKey,
    settings::Settings,
    stats::KindStats,
    submitted::Submitted,
    sweep::{Sweep, Swept},
};
use self::{
    cache::Cache,
    claims::Claims,
    committer::{Horizon, Reply, Verdict},
    queue::{Ask, Queue, Request, Submission},
    reserved::{Held, Reserved},
    submitted::verdict,
};
use crate::{
    clock::Clock,
    engine::{Caution, Count, Engine, EngineError, Found, ListQuery, Page},
    job::{Append, Change, Guard, JobId, JobKey, NewJob, Tenant},
    metrics::StoreMetrics,
    sync::oneshot,
};

/// Who calls. One tenant and no roles until tokens exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Whose jobs the call is about.
    pub tenant: Tenant,
}

impl Caller {
    pub(crate) fn key(self, id: &JobId) -> JobKey {
        JobKey { tenant: self.tenant, id: id.clone() }
    }
}

/// The job store. Clones are the same store.
#[derive(Clone)]
pub struct JobStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    cache: Arc<Cache>,
    queue: Arc<Queue>,
    horizon: Arc<Horizon>,
    clock: Clock,
    settings: Arc<Settings>,
    reserved: Reserved,
    /// One for each export that may still begin.
    exports: Arc<Semaphore>,
    claims: Arc<Claims>,
}

impl JobStore {
    /// A store on an engine, and the tasks that commit for it and hear of what other processes do, which must be run.
    pub fn new(
        engine: Arc<dyn Engine>,
        settings: Settings,
        clock: Clock,
        metrics: Arc<StoreMetrics>,
        publish: Arc<dyn Publish>,
    ) -> (Self, Committer, Attendant) {
        let settings = Arc::new(settings);
        let inner = Inner {
            cache: Arc::new(Cache::new(settings.cache_bytes_max)),
            queue: Arc::new(Queue::new(settings.queue_changes_max, settings.queue_bytes_max)),
            horizon: Arc::new(Horizon::new()),
            reserved: Reserved::default(),
            exports: Arc::new(Semaphore::new(settings.exports_max)),
            claims: Arc::default(),
            engine,
            clock,
            settings,
        };
        let attendant = Attendant {
            engine: inner.engine.clone(),
            cache: inner.cache.clone(),
            publish: publish.clone(),
            claims: inner.claims.clone(),
        };
        let committer = Committer {
            queue: inner.queue.clone(),
            engine: inner.engine.clone(),
            cache: inner.cache.clone(),
            horizon: inner.horizon.clone(),
            clock: inner.clock.clone(),
            settings: inner.settings.clone(),
            metrics,
            publish,
            claims: inner.claims.clone(),
        };
        (Self { inner: Arc::new(inner) }, committer, attendant)
    }

    /// Makes a job of a fresh id; with a key, only once.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyMismatch`], [`StoreError::IdempotencyInProgress`], [`StoreError::NotFound`] when the job
    /// of the key has been deleted, [`StoreError::TooManyKinds`], or the store's own.
    pub async fn create(
        &self,
        caller: Caller,
        new: NewJob,
        key: Option<IdempotencyKey>,
    ) -> Result<Created, StoreError> {
        let Some(key) = key else {
            return self.make(new, None).await?.ok_or(StoreError::Contended);
        };
        match self.held(caller, key).await? {
            (_, Some(earlier)) => self.standing(caller, &earlier.id, Creation::Replayed).await,
            (held, None) => self.make(new, Some(held)).await?.ok_or(StoreError::Contended),
        }
    }

    /// Makes sure that a job of the id in `new` exists; one that stands is left alone. With a key, whoever has made it is told
    /// so however often it asks.
    ///
    /// # Errors
    /// [`StoreError::JobExists`] when it has another kind, [`StoreError::JobDeleted`] while the id of a deleted job is
    /// reserved, those of [`JobStore::create`], or the store's own.
    pub async fn ensure(
        &self,
        caller: Caller,
        new: NewJob,
        once: Option<IdempotencyKey>,
    ) -> Result<Created, StoreError> {
        let held = match once {
            None => None,
            Some(once) => match self.held(caller, once).await? {
                (_, Some(earlier)) => return self.standing(caller, &earlier.id, Creation::Replayed).await,
                (held, None) => Some(held),
            },
        };
        let key = new.spec.key.clone();
        let kind = new.spec.kind.clone();
        // What memory does not have is not looked for first: creations are made in the order in which they are asked for.
        let known = match self.inner.cache.get(&key) {
            Some(_) => match self.standing(caller, &key.id, Creation::Stood).await {
                // Gone since.
                Err(StoreError::NotFound(_)) => None,
                standing => Some(standing?),
            },
            None => None,
        };
        let standing = match known {
            Some(standing) => standing,
            None => match self.make(new, held).await? {
                Some(created) => return Ok(created),
                None => self.standing(caller, &key.id, Creation::Stood).await?,
            },
        };
        if standing.job.spec.kind == kind {
            Ok(standing)
        } else {
            Err(StoreError::JobExists { kind: standing.job.spec.kind.clone() })
        }
    }

    /// Changes a job, all of it in one step.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Rejected`], or the store's own.
    pub async fn update(
        &self,
        caller: Caller,
        id: &JobId,
        change: Change,
        guard: Guard,
    ) -> Result<Updated, StoreError> {
        self.submit_update(caller, id, change, guard)?.committed().await
    }

    /// Returns once less than half of the room for changes that wait for their commit is taken: for those who bring many, so that
    /// others find the rest.
    pub async fn room(&self) {
        self.inner.queue.room().await;
    }

    /// Gives a change its place behind those that were submitted before it, without waiting for its commit. It is made
    /// whether or not anybody waits for it.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`], [`StoreError::Draining`]; the change is then not made.
    pub fn submit_update(
        &self,
        caller: Caller,
        id: &JobId,
        change: Change,
        guard: Guard,
    ) -> Result<Submitted, StoreError> {
        let answer = self.enqueue(caller.key(id), Request::Change(Box::new(change), guard))?;
        Ok(Submitted { id: id.clone(), answer })
    }

    /// Appends lines to a job's log.
    ///
    /// # Errors
    /// As [`JobStore::update`].
    pub async fn append_log(
        &self,
        caller: Caller,
        id: &JobId,
        append: Append,
        guard: Guard,
    ) -> Result<Updated, StoreError> {
        self.update(caller, id, Change::Append(append), guard).await
    }

    /// Removes a job and its log; of one that was deleted and whose id is still reserved: nothing, and well.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was one, [`StoreError::Rejected`] when it has moved since the version
    /// of the guard, or the store's own.
    pub async fn delete(&self, caller: Caller, id: &JobId, guard: Guard) -> Result<(), StoreError> {
        let key = caller.key(id);
        match self.submit(key.clone(), Request::Delete(guard)).await {
            Ok(_) => Ok(()),
            // Perhaps there was one.
            Err(StoreError::NotFound(_)) => self.gone(&key).await,
            Err(error) => Err(error),
        }
    }

    /// One page of a tenant's jobs.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        let page = self.inner.engine.list(query).await?;
        self.inner.horizon.reached().await;
        Ok(page)
    }

    /// How many jobs there are of each kind in each status.
    ///
    /// # Errors
    /// The store's own.
    pub async fn counts(&self) -> Result<Vec<Count>, StoreError> {
        Ok(self.inner.engine.counts().await?)
    }

    /// Everything, as the text of an export, from one consistent moment. After an error it ends without its last line.
    ///
    /// # Errors
    /// [`StoreError::TooManyExports`], or the store's own.
    pub async fn export(&self) -> Result<impl Stream<Item = Result<Bytes, EngineError>> + use<>, StoreError> {
        let exports = self.inner.exports.clone();
        let permit = exports.try_acquire_owned().map_err(|_| StoreError::TooManyExports)?;
        let pieces = self.inner.engine.export().await?;
        self.inner.horizon.reached().await;
        let text = portable::stream(pieces, self.inner.clock.now());
        // Given back with the stream.
        Ok(text.inspect(move |_| {
            let _held = &permit;
        }))
    }

    /// Whether changes are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), StoreError> {
        Ok(self.inner.engine.health()?)
    }

    /// What the operator should know of how the engine is set up.
    pub fn cautions(&self) -> Vec<Caution> {
        self.inner.engine.cautions()
    }

    /// The time that decisions are made at.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The bounds this store keeps to.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Sends away everybody who waits for a job to claim.
    pub fn end_waiting(&self) {
        self.inner.claims.close();
    }

    /// Takes no more changes; those that wait are still committed and answered.
    pub fn close(&self) {
        self.inner.queue.close();
    }

    async fn make(&self, new: NewJob, held: Option<Held>) -> Result<Option<Created>, StoreError> {
        let input = new.input.clone();
        let request = Request::Create(Box::new(new.clone()), held);
        match self.submit(new.spec.key, request).await? {
            Verdict::Applied(changed) => {
                Ok(Some(Created { job: changed.job, input, lines: changed.lines, how: Creation::Made }))
            }
            Verdict::Stood | Verdict::Deleted | Verdict::Nothing | Verdict::Swept(_) => Ok(None),
        }
    }

    async fn standing(&self, caller: Caller, id: &JobId, how: Creation) -> Result<Created, StoreError> {
        let snapshot = self.read(caller, id).await?;
        let input = self.input(&snapshot).await?;
        Ok(Created { job: snapshot.job().clone(), input, lines: Vec::new().into(), how })
    }

    /// Well when the id is that of a deleted job.
    async fn gone(&self, key: &JobKey) -> Result<(), StoreError> {
        match self.inner.engine.find(key).await? {
            Found::Reserved(until) if until > self.inner.clock.now() => Ok(()),
            Found::Reserved(_) | Found::Missing => Err(StoreError::NotFound(key.id.clone())),
            // Made anew between two looks.
            Found::Job(_) => Err(StoreError::Contended),
        }
    }

    async fn submit(&self, key: JobKey, request: Request) -> Result<Verdict, StoreError> {
        verdict(self.enqueue(key, request)?).await
    }

    fn enqueue(&self, key: JobKey, request: Request) -> Result<Reply, StoreError> {
        self.ask(Ask::OfJob(key, request))
    }

    fn ask(&self, ask: Ask) -> Result<Reply, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.push(Submission { ask, conflicts: 0, reply })?;
        Ok(answer)
    }
}

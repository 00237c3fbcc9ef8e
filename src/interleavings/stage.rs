//! A store on the map, with its committer, its hub and its publisher, each a task of its own.

use std::{sync::Arc, time::Duration};

use shuttle::future::{JoinHandle, spawn};

use super::memory::Memory;
use crate::{
    clock::Clock,
    job::{
        Append, Change, Guard, JobId, JobKey, Kind, Labels, Limits, Lines, NewJob, Patch, Retention, Seconds, Spec,
        Status, Tenant, Timestamp,
    },
    metrics::Metrics,
    publish::{self, FeedSettings, Hub, Publisher, Streams},
    store::{Attendant, Caller, JobStore, Settings, StoreError, Updated},
    tasks::{self, Stopper},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Whose jobs all are.
pub(super) const CALLER: Caller = Caller { tenant: Tenant(0) };

pub(super) struct Stage {
    pub(super) store: JobStore,
    pub(super) streams: Streams,
    pub(super) hub: Arc<Hub>,
    pub(super) attendant: Arc<Attendant>,
    committer: JoinHandle<()>,
    publisher: JoinHandle<()>,
    stopper: Stopper,
}

impl Stage {
    pub(super) fn on(engine: &Arc<Memory>) -> Self {
        Self::with(engine, settings())
    }

    pub(super) fn with(engine: &Arc<Memory>, settings: Settings) -> Self {
        let hub = Arc::new(Hub::new());
        let (clock, metrics) = (Clock::manual(NOW), Metrics::new().store.clone());
        let (store, committer, attendant) = JobStore::new(engine.clone(), settings, clock, metrics, hub.clone());
        let streams = Streams::new(hub.clone(), store.clone(), streams());
        let (stopper, stop) = tasks::stop();
        let publisher = Publisher::new(hub.clone(), Duration::from_secs(1));
        let (committer, publisher) = (spawn(committer.run()), spawn(publisher.run(stop)));
        Self { store, streams, hub, attendant: Arc::new(attendant), committer, publisher, stopper }
    }

    /// Stops it, as the service does.
    pub(super) async fn close(self) {
        self.hub.close();
        self.store.end_waiting();
        self.stopper.stop();
        self.publisher.await.unwrap();
        self.store.close();
        self.committer.await.unwrap();
    }

    /// Makes a job that waits for a worker.
    pub(super) async fn make(&self, id: &str, kind: &str) {
        self.store.create(CALLER, new_job(id, kind), None).await.unwrap();
    }
}

/// Changes a job, and waits for it.
pub(super) async fn update(store: &JobStore, id: &str, change: Change) -> Result<Updated, StoreError> {
    store.update(CALLER, &key(id).id, change, Guard::default()).await
}

pub(super) fn key(id: &str) -> JobKey {
    JobKey { tenant: CALLER.tenant, id: JobId::try_from(id).unwrap() }
}

/// A PATCH that sets the status.
pub(super) fn to(status: Status) -> Change {
    Change::Patch(Patch { status: Some(status), ..Patch::default() })
}

/// A line for a log.
pub(super) fn line(text: &str) -> Change {
    let mut lines = Lines::default();
    lines.push(text, &settings().limits);
    Change::Append(Append { lines, ..Append::default() })
}

pub(super) fn settings() -> Settings {
    Settings {
        limits: Limits {
            line_bytes_max: 100,
            job_lines_max: 100,
            job_log_bytes_max: 10_000,
            late_log_seconds: Seconds(60),
            result_bytes_max: 100,
            error_bytes_max: 100,
            writers_max: 1,
            cancel_grace_seconds: Seconds(60),
            retention: Retention::FOR_EVER,
        },
        cache_bytes_max: 1 << 20,
        queue_changes_max: 100,
        queue_bytes_max: 1 << 20,
        commit_changes_max: 2,
        conflict_retries_max: 100,
        exports_max: 1,
        deleted_retain_seconds: Seconds(60),
        idempotency_retain_seconds: Seconds(60),
        document_lines: 10,
        log_page_bytes: 1000,
    }
}

fn streams() -> publish::Settings {
    let feed = FeedSettings { jobs_max: 10, entries_max: 10, cache_bytes_max: 0 };
    publish::Settings { step_bytes: 1000, cache_bytes_max: 0, calm: Duration::from_secs(1), feed }
}

fn new_job(id: &str, kind: &str) -> NewJob {
    let spec = Spec { created_at: NOW, ..Spec::plain(key(id), Kind::try_from(kind).unwrap()) };
    let (labels, lines) = (Labels::default(), Lines::default());
    NewJob { spec, input: None, labels, processing: false, stage: None, lines }
}

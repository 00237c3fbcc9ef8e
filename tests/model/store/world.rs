//! What a saga happens on: an engine, or two on one database, with a store on each. Many sagas share a world; each has a tenant
//! of its own in it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use milepost::{
    clock::Clock,
    engine::{
        Engine,
        postgres::{self, Postgres, Trust},
        sqlite::{self, Sqlite},
    },
    job::{JobKey, Seconds, Tenant, Timestamp},
    metrics::Metrics,
    store::{JobStore, Moved, Publish, Settings},
};
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    PATIENCE,
    ledger::{REMEMBERED_SECONDS, RESERVED_SECONDS},
    planted::{Fault, Faulty},
    saga::Saga,
    teller,
};
use crate::{
    model::wire::{DAWN, limits},
    postgres::empty_store,
};

/// What a world stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Sqlite,
    /// Nothing is kept in memory: every read goes to the disk.
    SqliteWithoutMemory,
    Postgres,
    /// Two processes' worth of everything on one database.
    Replicas,
}

/// How many sagas share a world: its tables would grow without end.
const SAGAS_MAX: u32 = 100;
/// Lines in a document.
pub(super) const DOCUMENT_LINES: usize = 3;

pub(super) struct World {
    runtime: Arc<Runtime>,
    on: On,
    fault: Option<Fault>,
    home: Home,
    clock: Clock,
    engines: Vec<Arc<dyn Engine>>,
    sagas: u32,
}

enum Home {
    Directory(TempDir),
    Schema(String),
}

impl World {
    pub(super) fn new(on: On, fault: Option<Fault>) -> Self {
        let runtime = Arc::new(Builder::new_current_thread().enable_all().build().unwrap());
        let home = match on {
            // In memory where the system has room there: what is lost with the machine is not for these.
            On::Sqlite | On::SqliteWithoutMemory => {
                Home::Directory(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
            }
            On::Postgres | On::Replicas => Home::Schema(runtime.block_on(empty_store())),
        };
        Self { runtime, on, fault, home, clock: Clock::manual(Timestamp(DAWN)), engines: Vec::new(), sagas: 0 }
    }

    /// Tells a saga; what is told after it is another.
    pub(super) fn tell(mut self, saga: &Saga) -> Result<Option<Self>, TestCaseError> {
        let runtime = self.runtime.clone();
        self.sagas += 1;
        runtime.block_on(teller::tell(&mut self, saga))?;
        Ok((self.sagas < SAGAS_MAX).then_some(self))
    }

    /// Whose jobs those of this saga are.
    pub(super) fn tenant(&self) -> Tenant {
        Tenant(self.sagas)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Starts a store on each engine, which are opened if they are not.
    pub(super) async fn sit_down(&mut self, saga: &Saga) -> Vec<Seat> {
        let count = if self.on == On::Replicas { 2 } else { 1 };
        while self.engines.len() < count {
            let engine = self.engine().await;
            self.engines.push(match self.fault {
                Some(fault) => Arc::new(Faulty { engine, fault }),
                None => engine,
            });
        }
        self.engines.iter().map(|engine| Seat::take(engine.clone(), settings(self.on, saga), &self.clock)).collect()
    }

    /// Lets go of the engines, so that others are opened.
    pub(super) async fn close(&mut self) {
        for engine in self.engines.drain(..) {
            engine.close().await.unwrap();
        }
    }

    async fn engine(&self) -> Arc<dyn Engine> {
        match &self.home {
            Home::Directory(directory) => {
                let settings = sqlite::Settings {
                    read_connections: 1,
                    writer_cache_bytes: 1 << 20,
                    reader_cache_bytes: 1 << 20,
                    checkpoint_pages: 1000,
                    journal_bytes_max: 4096,
                    kinds_max: 2,
                    feed_retain_seconds: 1 << 30,
                };
                Arc::new(Sqlite::open(directory.path(), settings, self.clock.clone()).unwrap())
            }
            Home::Schema(url) => {
                let settings = postgres::Settings {
                    url: url.parse().unwrap(),
                    trust: Trust::Anyone,
                    connections_max: 3,
                    connect_seconds: 10,
                    statement_seconds: 10,
                    commit_seconds: 10,
                    poll_milliseconds: 1000,
                    kinds_max: 2,
                    feed_retain_seconds: 1 << 30,
                };
                Arc::new(Postgres::open(settings, self.clock.clone()).await.unwrap())
            }
        }
    }
}

fn settings(on: On, saga: &Saga) -> Settings {
    Settings {
        limits: limits(&saga.rules),
        cache_bytes_max: if on == On::SqliteWithoutMemory { 2 } else { 1 << 20 },
        queue_changes_max: 1000,
        queue_bytes_max: 1 << 20,
        commit_changes_max: saga.commit_changes_max,
        conflict_retries_max: 4,
        exports_max: 1,
        deleted_retain_seconds: Seconds(RESERVED_SECONDS),
        idempotency_retain_seconds: Seconds(REMEMBERED_SECONDS),
        document_lines: DOCUMENT_LINES,
        log_page_bytes: saga.page_bytes,
    }
}

/// A store that runs.
pub(super) struct Seat {
    pub(super) store: JobStore,
    pub(super) engine: Arc<dyn Engine>,
    heard: Arc<Heard>,
    committer: JoinHandle<()>,
    /// What ends with the seat.
    others: JoinSet<()>,
}

impl Seat {
    fn take(engine: Arc<dyn Engine>, settings: Settings, clock: &Clock) -> Self {
        let heard = Arc::new(Heard::default());
        let metrics = Metrics::new().store.clone();
        let (store, committer, attendant) =
            JobStore::new(engine.clone(), settings, clock.clone(), metrics, heard.clone());
        let mut others = JoinSet::new();
        others.spawn(attendant.run());
        Self { store, engine, heard, committer: tokio::spawn(committer.run()), others }
    }

    /// What its readers would have been woken for since this was last asked.
    pub(super) fn heard(&self) -> BTreeMap<JobKey, Moved> {
        std::mem::take(&mut self.heard.0.lock().unwrap())
    }

    /// Stops it, as a service stops.
    pub(super) async fn leave(mut self) {
        self.store.close();
        timeout(PATIENCE, self.committer).await.expect("the committer ends").unwrap();
        self.others.shutdown().await;
    }
}

/// Who is told of what has moved.
#[derive(Debug, Default)]
struct Heard(Mutex<BTreeMap<JobKey, Moved>>);

impl Publish for Heard {
    fn publish(&self, key: &JobKey, moved: Moved) {
        let mut heard = self.0.lock().unwrap();
        // What another replica has done before may be told after this one's own.
        heard.entry(key.clone()).or_insert(moved).is_end |= moved.is_end;
    }

    fn publish_all(&self) {}
}

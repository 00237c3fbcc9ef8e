//! PostgreSQL, for several processes on the same jobs: each commits batches with compare-and-set, and hears of what the others
//! commit through the feed.
//!
//! Promises: a batch is applied once, and is as durable as PostgreSQL is set up to make it when it is reported as committed; what is
//! read was there after it was asked for, whichever process wrote it.
//! How the rows lie is in docs/format.md.

mod batch;
mod commit;
mod connect;
mod counts;
mod error;
mod export;
mod feed;
mod gather;
mod hearing;
mod hosts;
mod kinds;
mod list;
mod log;
mod pooler;
mod read;
mod schedule;
mod schema;
mod standing;
mod tail;
mod timeline;
mod tls;
mod upkeep;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio_postgres::Config;
use uuid::Uuid;

pub use self::tls::{Authorities, Trust};
use self::{
    connect::{Connections, column},
    counts::Counts,
    gather::Gather,
    hearing::Hearing,
    kinds::Kinds,
    log::Part,
    read::LookUp,
    standing::Standing,
};
use super::{
    Caution, Count, Elsewhere, Engine, EngineError, Exported, Fed, FeedPage, FeedPlace, FeedQuery, Found, ListQuery,
    LogSlice, Once, Outcome, Page, QueueQuery, Stored, Tally, Write,
};
use crate::{
    clock::Clock,
    job::{JobKey, Json, Kind, LogLine, PastAttempt, Seconds, Tenant, TimelineEntry, Timestamp},
};

/// How the engine uses the database; all of it is configuration.
#[derive(Clone)]
pub struct Settings {
    /// Where it is.
    pub url: Config,
    /// Whom it has to be.
    pub trust: Trust,
    /// Connections at the most.
    pub connections_max: usize,
    /// Time for a connection.
    pub connect_seconds: u32,
    /// Time for a statement that reads.
    pub statement_seconds: u32,
    /// Time for a commit, and for finding out what became of it.
    pub commit_seconds: u32,
    /// Between two looks for what others have committed that nobody notified us of.
    pub poll_milliseconds: u32,
    /// Kinds of jobs a tenant may have.
    pub kinds_max: usize,
    /// How long an entry of a feed is kept.
    pub feed_retain_seconds: u32,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings").field("connections_max", &self.connections_max).finish_non_exhaustive()
    }
}

/// A store in a schema of a database.
pub struct Postgres {
    connections: Connections,
    /// Of whoever commits.
    committing: Connections,
    settings: Settings,
    clock: Clock,
    /// This process, among those on the same store; another one once it was in doubt about what it has committed.
    origin: Mutex<Uuid>,
    commit_call: String,
    kinds: Kinds,
    counts: Counts,
    look_ups: Gather<LookUp>,
    tails: Gather<Part>,
    hearing: Hearing,
    /// Where commits are told of.
    channel: String,
    standing: Standing,
    /// The last entry of the feed when this was opened.
    tail_from: i64,
}

impl Postgres {
    /// Opens the store of a database, and makes its tables or brings them up to date. From then on the clock, unless it is a
    /// manual one, follows that of the database.
    ///
    /// # Errors
    /// [`EngineError::Format`] when the store is of a version that this one does not understand, or what the database says.
    pub async fn open(settings: Settings, clock: Clock) -> Result<Self, EngineError> {
        let (committing, connections) = Connections::new(&settings)?;
        pooler::check(&connections, Duration::from_secs(settings.statement_seconds.into())).await?;
        schema::migrate(&mut **connections.get().await?).await?;
        // Stores of one database are told apart.
        let row = connections.row("SELECT 'milepost_' || 'feed'::regclass::oid", &[]).await?;
        let channel = row.map_or_else(|| Ok(String::new()), |row| column(&row, 0))?;
        let tail_from = tail::end(&connections).await?;
        let counts = Counts::default();
        counts.take(counts::read(&connections).await?);
        let engine = Self {
            connections,
            committing,
            settings,
            clock,
            origin: Mutex::new(Uuid::new_v4()),
            commit_call: commit::commit_call(),
            kinds: Kinds::default(),
            counts,
            look_ups: Gather::new(),
            tails: Gather::new(),
            hearing: Hearing::default(),
            channel,
            standing: Standing::new(),
            tail_from,
        };
        engine.look().await?;
        engine.begin().await?;
        Ok(engine)
    }

    fn origin(&self) -> Uuid {
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes another name, so that what was committed under the last one is somebody else's.
    fn renew_origin(&self) {
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner) = Uuid::new_v4();
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, EngineError> {
        let begun = Instant::now();
        let outcomes = self.commit_batch(&batch).await;
        self.standing.outages.written(outcomes.as_ref().err(), begun, self.clock.now());
        self.hearing.has_committed();
        outcomes
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn maintain(&self, _is_idle: bool) -> bool {
        // All upkeep is done beside the commits.
        false
    }

    async fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        self.found(keys).await
    }

    async fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        self.read_queue(query).await
    }

    async fn due(&self, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
        let begun = Instant::now();
        let due = self.take_due(now, jobs_max).await;
        // It writes, if there is something; that nothing is due says nothing.
        if let Err(fault) = &due {
            self.standing.outages.written(Some(fault), begun, self.clock.now());
        }
        due
    }

    async fn find(&self, key: &JobKey) -> Result<Found, EngineError> {
        let look_up = LookUp { key: key.clone(), known: None };
        Ok(self.look_ups.ask(&self.connections, look_up).await?.unwrap_or(Found::Missing))
    }

    async fn moved(&self, known: &Stored) -> Result<Option<Found>, EngineError> {
        let look_up = LookUp { key: known.job.key().clone(), known: Some(read::as_known(known)) };
        self.look_ups.ask(&self.connections, look_up).await
    }

    async fn moved_since(&self, known: &[&Stored]) -> Result<Vec<(usize, Found)>, EngineError> {
        let asked: Vec<_> = known.iter().map(|stored| (stored.job.key(), Some(read::as_known(stored)))).collect();
        let found = read::look_up(&self.committing, &asked).await?;
        found
            .into_iter()
            .enumerate()
            .filter_map(|(at, found)| Some(found.transpose()?.map(|found| (at, found))))
            .collect()
    }

    async fn input(&self, stored: &Stored) -> Result<Option<Json>, EngineError> {
        self.read_input(stored.place.number).await
    }

    async fn attempts(&self, stored: &Stored) -> Result<Vec<PastAttempt>, EngineError> {
        self.read_attempts(stored.place.number, stored.job.attempt).await
    }

    async fn timeline(&self, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
        self.read_timeline(stored).await
    }

    async fn log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        self.read_log(stored, slice).await
    }

    async fn once(&self, tenant: Tenant, key: &str, now: Timestamp) -> Result<Option<Once>, EngineError> {
        self.read_once(tenant, key, now).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, EngineError> {
        self.read_page(&query).await
    }

    async fn feed_end(&self, tenant: Tenant) -> Result<FeedPlace, EngineError> {
        self.read_feed_end(tenant).await
    }

    async fn feed(&self, query: FeedQuery) -> Result<Option<FeedPage>, EngineError> {
        self.read_feed(&query).await
    }

    async fn fed(&self, numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, EngineError> {
        self.read_fed(&numbers).await
    }

    async fn counts(&self) -> Result<Vec<Count>, EngineError> {
        self.read_counts().await
    }

    async fn figures(&self, tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError> {
        self.read_figures(tenant).await
    }

    fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        self.counts.usual_seconds(tenant, kind)
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
        export::start(&self.connections).await
    }

    async fn attend(&self, tell: &(dyn Fn(Elsewhere) + Send + Sync)) {
        tokio::join!(self.tail(tell), self.notify(), self.listen(), self.keep_up(), self.learn(), self.watch_over());
    }

    fn health(&self) -> Result<(), EngineError> {
        self.standing.outages.health()
    }

    fn open_since(&self) -> Timestamp {
        self.standing.outages.since(self.clock.now())
    }

    fn cautions(&self) -> Vec<Caution> {
        self.standing.cautions()
    }

    async fn close(&self) -> Result<(), EngineError> {
        self.connections.close();
        self.committing.close();
        Ok(())
    }
}

//! An engine that is a map, for one store or for several: what is in the map is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    engine::{
        Caution, Count, Elsewhere, Engine, EngineError, Exported, Fed, FeedPage, FeedPlace, FeedQuery, Found,
        ListQuery, LogSlice, Once, Outcome, Page, Place, Put, QueueQuery, Stored, Tally, Write,
    },
    job::{Job, JobKey, Json, Kind, LogLine, PastAttempt, Seconds, Status, Tenant, TimelineEntry, Timestamp, Version},
    sync::point,
};

#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
    /// Whether others than who asks may have moved a job.
    is_shared: bool,
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<JobKey, Stored>,
    lines: BTreeMap<u64, Vec<LogLine>>,
    gone: BTreeSet<JobKey>,
    made: u64,
}

/// Until when the id of a deleted job is reserved.
const FOR_EVER: Timestamp = Timestamp(u64::MAX);

impl Memory {
    /// For one store.
    pub(super) fn own() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), is_shared: false })
    }

    /// For several.
    pub(super) fn shared() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), is_shared: true })
    }

    /// The job as it is durable.
    pub(super) fn job(&self, key: &JobKey) -> Option<Arc<Job>> {
        Some(self.state().jobs.get(key)?.job.clone())
    }

    /// Its version; 0: it is not there.
    pub(super) fn version(&self, key: &JobKey) -> Version {
        self.job(key).map_or(0, |job| job.version)
    }

    /// The lines of its log.
    pub(super) fn lines(&self, key: &JobKey) -> Vec<String> {
        let state = self.state();
        let number = state.jobs.get(key).map_or(0, |stored| stored.place.number);
        state.lines.get(&number).into_iter().flatten().map(|line| line.text.to_string()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn find(&self, key: &JobKey) -> Found {
        match self.jobs.get(key) {
            Some(stored) => Found::Job(stored.clone()),
            None if self.gone.contains(key) => Found::Reserved(FOR_EVER),
            None => Found::Missing,
        }
    }

    fn write(&mut self, write: Write) -> Outcome {
        let Write { key, before, put, lines, .. } = write;
        let revision = |stored: &Stored| stored.job.revision;
        let stands_as_expected = self.jobs.get(&key).map(revision) == before.as_ref().map(revision);
        if !stands_as_expected || (before.is_none() && self.gone.contains(&key)) {
            return Outcome::Conflict(self.find(&key));
        }
        let place = before.map(|stored| stored.place).unwrap_or_else(|| {
            self.made += 1;
            Place { number: self.made, ..Place::default() }
        });
        match put {
            Put::New { job, .. } | Put::Changed(job) => drop(self.jobs.insert(key, Stored { job, place })),
            Put::Deleted { .. } => {
                self.jobs.remove(&key);
                self.gone.insert(key);
            }
        }
        let lines = lines.iter().flat_map(|lines| lines.iter().cloned());
        self.lines.entry(place.number).or_default().extend(lines);
        Outcome::Committed(place)
    }
}

/// What these scenarios do not ask for.
fn unasked<T>() -> Result<T, EngineError> {
    Err(EngineError::Unavailable("this is a map".into()))
}

#[async_trait]
impl Engine for Memory {
    async fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, EngineError> {
        point();
        let outcomes = batch.into_iter().map(|write| self.state().write(write)).collect();
        // Durable, and nobody has been told.
        point();
        Ok(outcomes)
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn maintain(&self, _is_idle: bool) -> bool {
        point();
        false
    }

    async fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        point();
        let state = self.state();
        keys.iter().map(|key| Ok(state.find(key))).collect()
    }

    async fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        point();
        let state = self.state();
        let is_wanted =
            |stored: &&Stored| stored.job.status() == Status::Queued && query.kinds.contains(&stored.job.spec.kind);
        Ok(state.jobs.values().filter(is_wanted).take(query.jobs_max).cloned().collect())
    }

    async fn due(&self, _now: Timestamp, _jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
        unasked()
    }

    async fn find(&self, key: &JobKey) -> Result<Found, EngineError> {
        point();
        let found = self.state().find(key);
        // Read, and on its way.
        point();
        Ok(found)
    }

    async fn moved(&self, known: &Stored) -> Result<Option<Found>, EngineError> {
        Ok(self.moved_since(&[known]).await?.pop().map(|(_, found)| found))
    }

    async fn moved_since(&self, known: &[&Stored]) -> Result<Vec<(usize, Found)>, EngineError> {
        if !self.is_shared {
            return Ok(Vec::new());
        }
        point();
        let state = self.state();
        let found = known.iter().map(|stored| (stored, state.find(stored.job.key()))).enumerate();
        let moved = found.filter(|(_, (stored, found))| match found {
            Found::Job(now) => now.job.revision != stored.job.revision || now.place != stored.place,
            Found::Reserved(_) | Found::Missing => true,
        });
        Ok(moved.map(|(place, (_, found))| (place, found)).collect())
    }

    async fn input(&self, _stored: &Stored) -> Result<Option<Json>, EngineError> {
        Ok(None)
    }

    async fn attempts(&self, _stored: &Stored) -> Result<Vec<PastAttempt>, EngineError> {
        unasked()
    }

    async fn timeline(&self, _stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
        unasked()
    }

    async fn log(&self, _stored: &Stored, _slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        unasked()
    }

    async fn once(&self, _tenant: Tenant, _key: &str, _now: Timestamp) -> Result<Option<Once>, EngineError> {
        unasked()
    }

    async fn list(&self, _query: ListQuery) -> Result<Page, EngineError> {
        point();
        let jobs = self.state().jobs.values().map(|stored| stored.job.clone()).collect();
        point();
        Ok(Page { jobs, next: None })
    }

    async fn feed_end(&self, _tenant: Tenant) -> Result<FeedPlace, EngineError> {
        unasked()
    }

    async fn feed(&self, _query: FeedQuery) -> Result<Option<FeedPage>, EngineError> {
        unasked()
    }

    async fn fed(&self, _numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, EngineError> {
        unasked()
    }

    async fn counts(&self) -> Result<Vec<Count>, EngineError> {
        unasked()
    }

    async fn figures(&self, _tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError> {
        unasked()
    }

    fn usual_seconds(&self, _tenant: Tenant, _kind: &Kind) -> Option<Seconds> {
        None
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
        unasked()
    }

    async fn attend(&self, _tell: &(dyn Fn(Elsewhere) + Send + Sync)) {}

    fn cautions(&self) -> Vec<Caution> {
        Vec::new()
    }

    fn open_since(&self) -> Timestamp {
        Timestamp(0)
    }

    fn health(&self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

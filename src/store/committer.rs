//! Group commit: turns single changes into durable batches, in order for each job.
//!
//! Promises: an answer leaves only after its change is durable; changes of one job in a batch are decided one after the
//! other, on what the last commit left, and each has its own version; a job occurs once in a batch. What a conflict throws
//! back is decided anew.
//! Knows nothing of HTTP, tokens or webhooks.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{oneshot, watch};

use super::{
    Moved, Publish, Settings, StoreError,
    cache::Cache,
    queue::{Queue, Request, Submission},
};
use crate::{
    clock::Clock,
    engine::{Engine, EngineError, Found, Once, Outcome, Put, Stored, Write},
    job::{Applied, Job, JobKey, Json, LogLine, Timestamp},
    metrics::StoreMetrics,
};

/// What a request came to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The job was made or changed, or the change left it as it was.
    Applied(Box<Changed>),
    /// The job stood already.
    Stood,
    /// The job is gone.
    Deleted,
}

/// A job as one change left it; a later one of the same batch may have moved it on.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) job: Arc<Job>,
    pub(super) lines: Arc<[LogLine]>,
    pub(super) duplicates: u64,
    pub(super) result_changed: bool,
}

/// Tells readers of the engine when what they may have seen there is what everybody sees.
#[derive(Debug)]
pub(super) struct Horizon {
    begun: AtomicU64,
    published: watch::Sender<u64>,
}

impl Horizon {
    pub(super) fn new() -> Self {
        Self { begun: AtomicU64::new(0), published: watch::Sender::new(0) }
    }

    /// Waits until every commit that a finished read of the engine can have met is published: otherwise a client could
    /// see a change in a list and then the job without it.
    pub(super) async fn reached(&self) {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut published = self.published.subscribe();
        // Fails only when the committer is gone, and then nothing will be published any more.
        let _gone = published.wait_for(|batch| *batch >= begun).await;
    }
}

/// What commits; there is one.
pub struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) cache: Arc<Cache>,
    pub(super) horizon: Arc<Horizon>,
    pub(super) clock: Clock,
    pub(super) settings: Arc<Settings>,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) publish: Arc<dyn Publish>,
}

impl Committer {
    /// Commits until the store is closed and everything that was taken has its answer. Blocks its thread with the engine.
    pub async fn run(self) {
        let mut again = Vec::new();
        loop {
            self.maintain(again.is_empty()).await;
            let mut submissions = std::mem::take(&mut again);
            if submissions.is_empty() {
                match self.queue.take(self.settings.commit_changes_max).await {
                    Some(taken) => submissions = taken,
                    None => return,
                }
            }
            again = self.round(submissions).await;
        }
    }

    /// The engine's upkeep: some after each batch, and as much as there is while nothing waits.
    async fn maintain(&self, mut is_idle: bool) {
        loop {
            is_idle = is_idle && self.queue.is_idle();
            let has_more = self.engine.maintain(is_idle).await;
            if !is_idle || !has_more {
                return;
            }
        }
    }

    /// Decides, commits, publishes and answers one batch; returns what must be decided anew.
    async fn round(&self, submissions: Vec<Submission>) -> Vec<Submission> {
        self.metrics.queue_changes.set(self.queue.len() as i64);
        self.metrics.batch_changes.observe(submissions.len() as f64);
        let mut batch = self.begin(&submissions).await;
        for submission in submissions {
            batch.decide(submission, self);
        }
        let (works, writes) = batch.split();
        let outcomes = if writes.is_empty() { Ok(Vec::new()) } else { self.commit(writes).await };
        match outcomes {
            Ok(outcomes) => self.settle(works, outcomes, batch.later),
            Err(error) => {
                self.published();
                for waiting in works.into_iter().flat_map(|work| work.waiting) {
                    waiting.answer(Err(error.clone().into()));
                }
                batch.later
            }
        }
    }

    /// A batch with the jobs that these are about, from memory or else from the engine.
    async fn begin(&self, submissions: &[Submission]) -> Batch {
        let mut batch = Batch::default();
        let mut unknown = Vec::new();
        for Submission { key, request, .. } in submissions {
            let Entry::Vacant(index) = batch.index.entry(key.clone()) else { continue };
            index.insert(batch.works.len());
            let mut work = Work::new(key.clone());
            match self.cache.get(key) {
                Some(snapshot) => work.stand_on(snapshot.stored().clone()),
                // It finds out when it is committed.
                None if matches!(request, Request::Create(..)) => {}
                None => unknown.push(key.clone()),
            }
            batch.works.push(work);
        }
        if unknown.is_empty() {
            return batch;
        }
        for (key, found) in unknown.iter().zip(self.engine.find_many(&unknown).await) {
            let work = &mut batch.works[batch.index[key]];
            match found {
                Ok(Found::Job(stored)) => work.stand_on(stored),
                Ok(Found::Reserved(_) | Found::Missing) => {}
                Err(fault) => work.fault = Some(fault),
            }
        }
        batch
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Outcome>, EngineError> {
        self.horizon.begun.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        let outcomes = self.engine.commit(writes).await;
        self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        outcomes
    }

    fn published(&self) {
        self.horizon.published.send_replace(self.horizon.begun.load(Ordering::SeqCst));
    }

    /// Publishes what is durable and answers; what met another writer goes round again.
    fn settle(&self, works: Vec<Work>, outcomes: Vec<Outcome>, mut again: Vec<Submission>) -> Vec<Submission> {
        let mut outcomes = outcomes.into_iter();
        let mut answers = Vec::new();
        for work in works {
            if matches!(work.fate, Fate::Untouched) {
                answers.extend(work.waiting);
                continue;
            }
            match outcomes.next() {
                Some(Outcome::Committed(place)) => {
                    self.publish_one(&work.key, work.before.as_ref(), work.now.map(|job| Stored { job, place }));
                    answers.extend(work.waiting);
                }
                Some(Outcome::Conflict(found)) => {
                    self.metrics.conflicts.inc();
                    let now = match &found {
                        Found::Job(stored) => Some(stored.clone()),
                        Found::Reserved(_) | Found::Missing => None,
                    };
                    self.publish_one(&work.key, work.before.as_ref(), now);
                    again.extend(work.waiting.into_iter().filter_map(|waiting| self.retried(waiting, &found)));
                }
                Some(Outcome::TooManyKinds) => {
                    answers.extend(work.waiting.into_iter().map(|w| w.with(Err(StoreError::TooManyKinds))));
                }
                None => {
                    let lost = EngineError::Indeterminate("the engine gave no outcome for a write".into());
                    answers.extend(work.waiting.into_iter().map(|w| w.with(Err(lost.clone().into()))));
                }
            }
        }
        self.published();
        for waiting in answers {
            waiting.send();
        }
        again
    }

    /// Lets everybody read what a job has become, and then lets those know who wait for it.
    fn publish_one(&self, key: &JobKey, before: Option<&Stored>, now: Option<Stored>) {
        let before = before.map(|stored| &*stored.job);
        let moved = Moved::of(before, now.as_ref().map(|stored| &*stored.job));
        match now {
            Some(stored) => self.cache.put(key.clone(), stored),
            None => self.cache.remove(key),
        }
        if let Some(moved) = moved {
            self.publish.publish(key, moved);
        }
    }

    /// A submission that met another writer, with what was found; `None` when it has its answer.
    fn retried(&self, waiting: Waiting, found: &Found) -> Option<Submission> {
        let mut submission = waiting.submission;
        submission.conflicts += 1;
        let answer = match (found, &submission.request) {
            (Found::Job(_), Request::Create(..)) => Ok(Verdict::Stood),
            (Found::Reserved(until), Request::Create(..)) => Err(StoreError::JobDeleted { until: *until }),
            (Found::Reserved(_) | Found::Missing, Request::Change(..) | Request::Delete(_)) => {
                Err(StoreError::NotFound(submission.key.id.clone()))
            }
            _ if submission.conflicts > self.settings.conflict_retries_max => Err(StoreError::Contended),
            // The second: the id became free between two looks.
            (Found::Job(_), Request::Change(..) | Request::Delete(_)) | (Found::Missing, Request::Create(..)) => {
                return Some(submission);
            }
        };
        Waiting { submission, verdict: answer }.send();
        None
    }
}

impl Moved {
    /// `None` when nobody could see it: a renewed lease is nothing that anybody waits for.
    fn of(before: Option<&Job>, now: Option<&Job>) -> Option<Self> {
        let is_end = now.is_none_or(Job::is_done);
        match (before, now) {
            (Some(before), Some(now)) if before.version == now.version => None,
            (Some(before), Some(now)) => Some(Self { is_end, has_news: now.has_news_since(before) }),
            (None, None) => None,
            (None, Some(_)) | (Some(_), None) => Some(Self { is_end, has_news: true }),
        }
    }
}

/// A submission that is decided and waits for the commit.
struct Waiting {
    submission: Submission,
    verdict: Result<Verdict, StoreError>,
}

impl Waiting {
    fn with(self, verdict: Result<Verdict, StoreError>) -> Self {
        Self { verdict, ..self }
    }

    fn answer(self, verdict: Result<Verdict, StoreError>) {
        self.with(verdict).send();
    }

    fn send(self) {
        // Whoever asked may have gone away; the change stands all the same.
        let _gone = self.submission.reply.send(self.verdict);
    }
}

/// One job's part of a batch.
struct Work {
    key: JobKey,
    /// The job as the last commit left it; of one that is to be made: nothing, which the engine will see to.
    before: Option<Stored>,
    /// Why it could not be read.
    fault: Option<EngineError>,
    /// The job as it will be.
    now: Option<Arc<Job>>,
    fate: Fate,
    lines: Vec<Arc<[LogLine]>>,
    waiting: Vec<Waiting>,
}

/// What a batch does to a job.
enum Fate {
    Untouched,
    Made { input: Option<Json>, once: Option<(String, Once)> },
    Changed,
    Deleted { reserved_until: Timestamp },
}

/// The jobs of one commit, each with its changes folded.
#[derive(Default)]
struct Batch {
    works: Vec<Work>,
    index: HashMap<JobKey, usize>,
    /// What can only be decided after this commit.
    later: Vec<Submission>,
}

impl Batch {
    fn decide(&mut self, submission: Submission, committer: &Committer) {
        let at = self.index[&submission.key];
        let work = &mut self.works[at];
        if work.is_closed_to(&submission.request) || self.later.iter().any(|later| later.key == submission.key) {
            self.later.push(submission);
            return;
        }
        let verdict = work.decide(&submission.request, &committer.settings, committer.clock.now());
        work.waiting.push(Waiting { submission, verdict });
    }

    /// The works in order, and the writes of those that are not untouched, in the same order.
    fn split(&mut self) -> (Vec<Work>, Vec<Write>) {
        let mut works = std::mem::take(&mut self.works);
        let writes = works.iter_mut().filter_map(Work::write).collect();
        (works, writes)
    }
}

impl Work {
    fn new(key: JobKey) -> Self {
        let (lines, waiting) = (Vec::new(), Vec::new());
        Self { key, before: None, fault: None, now: None, fate: Fate::Untouched, lines, waiting }
    }

    fn stand_on(&mut self, stored: Stored) {
        self.now = Some(stored.job.clone());
        self.before = Some(stored);
    }

    /// A write is a creation, a change or a deletion, not two of them: what follows a deletion, and a deletion that
    /// follows a creation, wait for the next batch.
    fn is_closed_to(&self, request: &Request) -> bool {
        match self.fate {
            Fate::Deleted { .. } => true,
            Fate::Made { .. } => matches!(request, Request::Delete(_)),
            Fate::Untouched | Fate::Changed => false,
        }
    }

    fn decide(&mut self, request: &Request, settings: &Settings, now: Timestamp) -> Result<Verdict, StoreError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        match (request, &self.now) {
            (Request::Create(new, once), None) => {
                let applied = Job::create(new, &settings.limits, now);
                self.fate = Fate::Made { input: new.input.clone(), once: once.clone() };
                Ok(self.take(applied))
            }
            (Request::Create(..), Some(_)) => Ok(Verdict::Stood),
            (Request::Change(..) | Request::Delete(_), None) => Err(StoreError::NotFound(self.key.id.clone())),
            (Request::Change(change, guard), Some(job)) => {
                let applied = job.apply(change, guard, &settings.limits, now)?;
                Ok(self.take(applied))
            }
            (Request::Delete(guard), Some(job)) => {
                job.check_version(guard)?;
                self.now = None;
                self.fate = Fate::Deleted { reserved_until: now.after(settings.deleted_retain_seconds) };
                Ok(Verdict::Deleted)
            }
        }
    }

    fn take(&mut self, applied: Applied) -> Verdict {
        let Applied { next, lines, duplicates, changed, result_changed } = applied;
        let job = match &self.now {
            Some(same) if !changed => same.clone(),
            Some(_) | None => Arc::new(next),
        };
        if changed {
            self.now = Some(job.clone());
            if matches!(self.fate, Fate::Untouched) {
                self.fate = Fate::Changed;
            }
            if !lines.is_empty() {
                self.lines.push(lines.clone());
            }
        }
        Verdict::Applied(Box::new(Changed { job, lines, duplicates, result_changed }))
    }

    fn write(&mut self) -> Option<Write> {
        let put = match (&self.fate, &self.now) {
            (Fate::Made { input, once }, Some(job)) => {
                Put::New { job: job.clone(), input: input.clone(), once: once.clone() }
            }
            (Fate::Changed, Some(job)) => Put::Changed(job.clone()),
            (Fate::Deleted { reserved_until }, None) => Put::Deleted { reserved_until: *reserved_until },
            _ => return None,
        };
        Some(Write { key: self.key.clone(), before: self.before.clone(), put, lines: std::mem::take(&mut self.lines) })
    }
}

/// The receiving end of an answer.
pub(super) type Reply = oneshot::Receiver<Result<Verdict, StoreError>>;

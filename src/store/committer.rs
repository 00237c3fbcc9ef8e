//! Group commit: turns single changes into durable batches, in order for each job.
//!
//! Promises: an answer leaves only after its change is durable; changes of one job in a batch are decided one after the
//! other, on what the last commit left, and each has its own version; a job occurs once in a batch. What a conflict throws
//! back is decided anew.
//! Knows nothing of HTTP, tokens or webhooks.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    Moved, Publish, Settings, StoreError,
    batch::{Batch, Terms, Waiting, Work},
    cache::Cache,
    claims::Claims,
    queue::{Ask, Queue, Request, Submission},
    sweep::Swept,
};
use crate::{
    clock::Clock,
    engine::{Engine, EngineError, Found, Outcome, Stored, Write},
    job::{Job, JobKey, LogLine, Spec},
    metrics::StoreMetrics,
    sync::{AtomicU64, oneshot, watch},
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
    /// There is no job to claim.
    Nothing,
    /// What was due is done.
    Swept(Option<Swept>),
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
    pub(super) claims: Arc<Claims>,
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
        let open_since = || self.engine.open_since();
        let usual_seconds = |spec: &Spec| self.engine.usual_seconds(spec.key.tenant, &spec.kind);
        for submission in submissions {
            let now = self.clock.now();
            let terms = Terms { settings: &self.settings, now, open_since: &open_since, usual_seconds: &usual_seconds };
            batch.decide(submission, &terms);
        }
        self.metrics.stale_attempts.inc_by(batch.stale_attempts);
        let (mut works, writes) = batch.split();
        let outcomes = if writes.is_empty() { Ok(Vec::new()) } else { self.commit(writes).await };
        match outcomes {
            Ok(outcomes) => {
                self.confirm(&mut works).await;
                self.settle(works, outcomes, batch)
            }
            Err(error) => {
                self.published();
                // Also whoever was told that there is no job: others may not have got theirs.
                let works = works.into_iter().flat_map(|work| work.waiting);
                for waiting in works.chain(batch.answered) {
                    waiting.answer(Err(error.clone().into()));
                }
                batch.later
            }
        }
    }

    /// A batch with the jobs that these are about, from memory or else from the engine.
    async fn begin(&self, submissions: &[Submission]) -> Batch {
        let mut batch = Batch::of(submissions);
        for query in Batch::queues(submissions) {
            let jobs = self.engine.queued(&query).await;
            batch.have_queued(query, jobs);
        }
        let candidates = batch.candidates();
        let mut unknown = Vec::new();
        for work in batch.works_mut() {
            // What was just read of a queue is newer than what memory has.
            if let Some(stored) = candidates.get(&work.key) {
                work.stand_on(stored.clone());
                continue;
            }
            match self.cache.get(&work.key) {
                Some(snapshot) if !snapshot.is_doubted() => work.recall(snapshot.stored().clone()),
                None if work.is_made_here => {}
                Some(_) | None => unknown.push(work),
            }
        }
        if unknown.is_empty() {
            return batch;
        }
        let keys: Vec<_> = unknown.iter().map(|work| work.key.clone()).collect();
        for (work, found) in unknown.into_iter().zip(self.engine.find_many(&keys).await) {
            match found {
                Ok(Found::Job(stored)) => work.stand_on(stored),
                Ok(Found::Reserved(_) | Found::Missing) => {}
                Err(fault) => work.fault = Some(fault),
            }
        }
        batch
    }

    /// Finds out whether what was decided without a commit, on what memory has, is still so.
    async fn confirm(&self, works: &mut [Work]) {
        let (places, known): (Vec<_>, Vec<_>) =
            works.iter().enumerate().filter_map(|(place, work)| Some((place, work.unconfirmed()?))).unzip();
        if known.is_empty() {
            return;
        }
        match self.engine.moved_since(&known).await {
            Ok(moved) => {
                for (place, found) in moved {
                    works[places[place]].moved = Some(found);
                }
            }
            Err(error) => {
                for place in places {
                    works[place].fail(&error);
                }
            }
        }
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
    fn settle(&self, works: Vec<Work>, outcomes: Vec<Outcome>, batch: Batch) -> Vec<Submission> {
        let mut outcomes = outcomes.into_iter();
        let (mut answers, mut again) = (batch.answered, Vec::new());
        answers.reserve(works.iter().map(|work| work.waiting.len()).sum());
        for mut work in works {
            let outcome = if work.is_untouched() {
                let Some(found) = work.moved.take() else {
                    answers.extend(work.waiting);
                    continue;
                };
                Some(Outcome::Conflict(found))
            } else {
                outcomes.next()
            };
            match outcome {
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
                Some(Outcome::KeyTaken) => {
                    self.metrics.conflicts.inc();
                    let (keyed, others): (Vec<_>, _) = work.waiting.into_iter().partition(Waiting::has_key);
                    answers.extend(keyed.into_iter().map(|w| w.with(Err(StoreError::IdempotencyInProgress))));
                    again.extend(others.into_iter().filter_map(|waiting| self.again(waiting)));
                }
                Some(Outcome::Unread(error)) => {
                    answers.extend(work.waiting.into_iter().map(|w| w.with(Err(error.clone().into()))));
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
        // What had to wait came after what goes round again of its job.
        again.extend(batch.later);
        again
    }

    /// Lets everybody read what a job has become, and then lets those know who wait for it.
    fn publish_one(&self, key: &JobKey, before: Option<&Stored>, now: Option<Stored>) {
        let before = before.map(|stored| &*stored.job);
        let moved = Moved::of(before, now.as_ref().map(|stored| &*stored.job));
        let has_come = now.as_ref().map(|stored| &stored.job).filter(|job| job.has_come_since(before)).cloned();
        match now {
            Some(stored) => drop(self.cache.put(key.clone(), stored)),
            None => self.cache.remove(key),
        }
        if let Some(moved) = moved {
            self.publish.publish(key, moved);
        }
        if let Some(job) = has_come {
            self.claims.has_come(key.tenant, &job.spec.kind);
        }
    }

    /// A submission that met another writer, with what was found; `None` when it has its answer.
    fn retried(&self, waiting: Waiting, found: &Found) -> Option<Submission> {
        let answer = match &waiting.submission.ask {
            Ask::OfJob(_, Request::Create(..)) => match found {
                Found::Job(_) => Some(Ok(Verdict::Stood)),
                Found::Reserved(until) => Some(Err(StoreError::JobDeleted { until: *until })),
                // The id became free between two looks.
                Found::Missing => None,
            },
            Ask::OfJob(key, Request::Change(..) | Request::Delete(_) | Request::Sweep) => match found {
                Found::Job(_) => None,
                Found::Reserved(_) | Found::Missing => Some(Err(StoreError::NotFound(key.id.clone()))),
            },
            // Another one, perhaps.
            Ask::ForJob(_) => None,
        };
        match answer {
            Some(answer) => {
                waiting.answer(answer);
                None
            }
            None => self.again(waiting),
        }
    }

    /// A submission that is to be decided anew; `None` when that was so too often.
    fn again(&self, waiting: Waiting) -> Option<Submission> {
        let mut submission = waiting.submission;
        submission.conflicts += 1;
        if submission.conflicts > self.settings.conflict_retries_max {
            Waiting::new(submission, Err(StoreError::Contended)).send();
            return None;
        }
        Some(submission)
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

/// The receiving end of an answer.
pub(super) type Reply = oneshot::Receiver<Result<Verdict, StoreError>>;

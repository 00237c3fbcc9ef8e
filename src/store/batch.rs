//! One batch on its way to its commit: what is asked of each job, decided in order.
//!
//! Promises: changes of one job are decided one after the other, on what the last commit left, and each has its own version;
//! a job occurs once; a claimed job goes to one worker.
//! Knows nothing of engines and of who waits for what.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use super::{
    Settings, StoreError,
    committer::{Changed, Verdict},
    queue::{Ask, ClaimRequest, Request, Submission},
    sweep::Swept,
};
use crate::{
    engine::{EngineError, Found, Keyed, Put, QueueQuery, Stored, Write},
    job::{
        Applied, Change, Guard, History, Job, JobKey, Json, Kind, LogLine, Rejection, Seconds, Spec, Sweep, Tenant,
        Timestamp,
    },
};

/// What changes are decided by.
pub(super) struct Terms<'a> {
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
    /// Since when workers have been able to renew their leases.
    pub(super) open_since: &'a dyn Fn() -> Timestamp,
    /// How long an attempt at such a job usually takes.
    pub(super) usual_seconds: &'a dyn Fn(&Spec) -> Option<Seconds>,
}

/// A submission that is decided and waits for the commit.
pub(super) struct Waiting {
    pub(super) submission: Submission,
    verdict: Result<Verdict, StoreError>,
}

impl Waiting {
    pub(super) fn new(submission: Submission, verdict: Result<Verdict, StoreError>) -> Self {
        Self { submission, verdict }
    }

    /// Whether it was to happen under a key.
    pub(super) fn has_key(&self) -> bool {
        match &self.submission.ask {
            Ask::OfJob(_, Request::Create(_, held)) => held.is_some(),
            Ask::OfJob(_, Request::Change(..) | Request::Delete(_) | Request::Sweep) => false,
            Ask::ForJob(request) => request.held.is_some(),
        }
    }

    pub(super) fn with(self, verdict: Result<Verdict, StoreError>) -> Self {
        Self { verdict, ..self }
    }

    pub(super) fn answer(self, verdict: Result<Verdict, StoreError>) {
        self.with(verdict).send();
    }

    pub(super) fn send(self) {
        let Submission { ask, reply, .. } = self.submission;
        // Before the answer: whoever has it may use the key again at once that this holds.
        drop(ask);
        // Whoever asked may have gone away; the change stands all the same.
        let _gone = reply.send(self.verdict);
    }
}

/// One job's part of a batch.
pub(super) struct Work {
    pub(super) key: JobKey,
    /// The job as the last commit left it, if it is known.
    pub(super) before: Option<Stored>,
    /// Whether it is first asked to be made. Nobody looks for it then: the engine finds out when it is committed.
    pub(super) is_made_here: bool,
    /// Whether that is what memory has, and perhaps no longer so.
    is_recalled: bool,
    /// What it turned out to have become meanwhile.
    pub(super) moved: Option<Found>,
    /// Why it could not be read.
    pub(super) fault: Option<EngineError>,
    /// The job as it will be.
    pub(super) now: Option<Arc<Job>>,
    fate: Fate,
    lines: Vec<Arc<[LogLine]>>,
    history: History,
    once: Option<Keyed>,
    pub(super) waiting: Vec<Waiting>,
}

/// What a batch does to a job.
enum Fate {
    Untouched,
    Made { input: Option<Json> },
    Changed,
    Deleted { reserved_until: Timestamp },
}

/// The jobs of one commit, each with its changes folded.
#[derive(Default)]
pub(super) struct Batch {
    works: Vec<Work>,
    index: HashMap<JobKey, usize>,
    queues: HashMap<(Tenant, Vec<Kind>), Result<Candidates, EngineError>>,
    /// What has its answer without being about any job.
    pub(super) answered: Vec<Waiting>,
    /// What can only be decided after this commit.
    pub(super) later: Vec<Submission>,
    /// Writes of attempts that were over.
    pub(super) stale_attempts: u64,
}

/// Queued jobs that claims of some kinds may get, the first one first.
struct Candidates {
    jobs: VecDeque<Stored>,
    /// Whether these were as many as were asked for.
    may_be_more: bool,
}

/// More candidates than there are claims, since some may be changed by the very batch.
const CANDIDATES_SPARE: usize = 16;

impl Batch {
    /// The jobs that these submissions name, each once, without what is known of them.
    pub(super) fn of(submissions: &[Submission]) -> Self {
        // There are hardly ever fewer jobs than changes, and what is known of each is moved when there is no room.
        let mut batch = Self {
            works: Vec::with_capacity(submissions.len()),
            index: HashMap::with_capacity(submissions.len()),
            ..Self::default()
        };
        for submission in submissions {
            let Ask::OfJob(key, request) = &submission.ask else { continue };
            let (work, is_new) = batch.work(key);
            if is_new {
                work.is_made_here = matches!(request, Request::Create(..));
            }
        }
        batch
    }

    /// The works, to be told what is known of their jobs.
    pub(super) fn works_mut(&mut self) -> impl Iterator<Item = &mut Work> {
        self.works.iter_mut()
    }

    /// The queues that claims are about.
    pub(super) fn queues(submissions: &[Submission]) -> Vec<QueueQuery> {
        let mut claims = HashMap::<_, usize>::new();
        for submission in submissions {
            if let Ask::ForJob(request) = &submission.ask {
                let ClaimRequest { tenant, kinds, .. } = &**request;
                *claims.entry((*tenant, kinds)).or_default() += 1;
            }
        }
        let query = |((tenant, kinds), claims): ((Tenant, &Vec<Kind>), usize)| QueueQuery {
            tenant,
            kinds: kinds.clone(),
            jobs_max: claims + CANDIDATES_SPARE,
        };
        claims.into_iter().map(query).collect()
    }

    /// Takes what stands in a queue.
    pub(super) fn have_queued(&mut self, query: QueueQuery, jobs: Result<Vec<Stored>, EngineError>) {
        let candidates =
            |jobs: Vec<Stored>| Candidates { may_be_more: jobs.len() == query.jobs_max, jobs: jobs.into() };
        self.queues.insert((query.tenant, query.kinds), jobs.map(candidates));
    }

    /// The queued jobs that claims may get.
    pub(super) fn candidates(&self) -> HashMap<JobKey, Stored> {
        let candidates = self.queues.values().flatten().flat_map(|candidates| &candidates.jobs);
        candidates.map(|stored| (stored.job.key().clone(), stored.clone())).collect()
    }

    fn work(&mut self, key: &JobKey) -> (&mut Work, bool) {
        let (at, is_new) = match self.index.entry(key.clone()) {
            Entry::Occupied(entry) => (*entry.get(), false),
            Entry::Vacant(entry) => {
                self.works.push(Work::new(key.clone()));
                (*entry.insert(self.works.len() - 1), true)
            }
        };
        (&mut self.works[at], is_new)
    }

    pub(super) fn decide(&mut self, submission: Submission, terms: &Terms<'_>) {
        match &submission.ask {
            Ask::OfJob(key, request) => {
                let work = &mut self.works[self.index[key]];
                if work.is_closed_to(request) || self.later.iter().any(|later| later.ask.key() == Some(key)) {
                    self.later.push(submission);
                    return;
                }
                let verdict = work.decide(request, terms);
                let is_stale = matches!(verdict, Err(StoreError::Rejected(Rejection::StaleAttempt { .. })));
                work.waiting.push(Waiting::new(submission, verdict));
                self.stale_attempts += u64::from(is_stale);
            }
            Ask::ForJob(_) => self.claim(submission, terms),
        }
    }

    /// Gives a worker the first job that is still queued when its turn comes, unless it has gone away.
    fn claim(&mut self, submission: Submission, terms: &Terms<'_>) {
        let Ask::ForJob(request) = &submission.ask else { return };
        if submission.reply.is_closed() {
            return;
        }
        // Whether a job is another's because of this very batch: then there are others after it.
        let mut is_overtaken = false;
        let queue = (request.tenant, request.kinds.clone());
        loop {
            let stored = match self.queues.get_mut(&queue) {
                Some(Err(fault)) => {
                    let fault = Err(fault.clone().into());
                    return self.answered.push(Waiting::new(submission, fault));
                }
                Some(Ok(candidates)) => match candidates.jobs.pop_front() {
                    Some(stored) => stored,
                    None if candidates.may_be_more && is_overtaken => return self.later.push(submission),
                    // Those that stand in the queue are none: looking again would find the same.
                    None if candidates.may_be_more => {
                        return self.answered.push(Waiting::new(submission, Err(StoreError::Contended)));
                    }
                    None => return self.answered.push(Waiting::new(submission, Ok(Verdict::Nothing))),
                },
                None => return self.later.push(submission),
            };
            let (work, is_new) = self.work(stored.job.key());
            if is_new {
                work.stand_on(stored);
            }
            if let Some(verdict) = work.claim(request, terms) {
                return work.waiting.push(Waiting::new(submission, Ok(verdict)));
            }
            is_overtaken |= !work.is_untouched();
        }
    }

    /// The works in order, and the writes of those that are not untouched, in the same order.
    pub(super) fn split(&mut self) -> (Vec<Work>, Vec<Write>) {
        let mut works = std::mem::take(&mut self.works);
        let mut writes = Vec::with_capacity(works.len());
        writes.extend(works.iter_mut().filter_map(Work::write));
        (works, writes)
    }
}

impl Work {
    fn new(key: JobKey) -> Self {
        Self {
            key,
            before: None,
            is_made_here: false,
            is_recalled: false,
            moved: None,
            fault: None,
            now: None,
            fate: Fate::Untouched,
            lines: Vec::new(),
            history: History::default(),
            once: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn stand_on(&mut self, stored: Stored) {
        self.now = Some(stored.job.clone());
        self.before = Some(stored);
    }

    /// As [`Work::stand_on`], of what memory has.
    pub(super) fn recall(&mut self, stored: Stored) {
        self.stand_on(stored);
        self.is_recalled = true;
    }

    /// What its answers rest on, if no commit shows whether that is still so.
    pub(super) fn unconfirmed(&self) -> Option<&Stored> {
        let is_unconfirmed = self.is_recalled && self.is_untouched() && !self.waiting.is_empty();
        self.before.as_ref().filter(|_| is_unconfirmed)
    }

    /// Gives everybody this answer.
    pub(super) fn fail(&mut self, error: &EngineError) {
        let failed = |waiting: Waiting| waiting.with(Err(error.clone().into()));
        self.waiting = std::mem::take(&mut self.waiting).into_iter().map(failed).collect();
    }

    /// Whether there is nothing to commit of it.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.fate, Fate::Untouched)
    }

    /// A write is a creation, a change or a deletion, not two of them: what follows a deletion, and a deletion that
    /// follows a creation, wait for the next batch.
    fn is_closed_to(&self, request: &Request) -> bool {
        match self.fate {
            Fate::Deleted { .. } => true,
            Fate::Made { .. } => matches!(request, Request::Delete(_) | Request::Sweep),
            Fate::Untouched | Fate::Changed => false,
        }
    }

    fn decide(&mut self, request: &Request, terms: &Terms<'_>) -> Result<Verdict, StoreError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        match (request, &self.now) {
            (Request::Create(new, held), None) => {
                let applied = Job::create(new, &terms.settings.limits, terms.now);
                self.fate = Fate::Made { input: new.input.clone() };
                self.once = held.as_ref().map(|held| held.once(&self.key.id, applied.next.attempt));
                Ok(self.take(applied, terms))
            }
            (Request::Create(..), Some(_)) => Ok(Verdict::Stood),
            (Request::Change(..) | Request::Delete(_) | Request::Sweep, None) => {
                Err(StoreError::NotFound(self.key.id.clone()))
            }
            (Request::Change(change, guard), Some(job)) => {
                let applied = job.apply(change, guard, &terms.settings.limits, terms.now)?;
                Ok(self.take(applied, terms))
            }
            (Request::Delete(guard), Some(job)) => {
                job.check_version(guard)?;
                Ok(self.delete(terms))
            }
            (Request::Sweep, Some(job)) => {
                let is_over = job.state.end().and_then(|end| end.expires_at).is_some_and(|at| at <= terms.now);
                if is_over {
                    self.delete(terms);
                    return Ok(Verdict::Swept(Some(Swept::Removed)));
                }
                let sweep = Change::Sweep(Sweep { open_since: (terms.open_since)() });
                let applied = job.apply(&sweep, &Guard::default(), &terms.settings.limits, terms.now)?;
                let is_news = applied.next.version != job.version;
                let swept = is_news.then(|| Swept::of(applied.next.status()));
                self.take(applied, terms);
                // Also one of which nothing is due is written: it comes up again when something will be.
                if self.is_untouched() {
                    self.fate = Fate::Changed;
                }
                Ok(Verdict::Swept(swept))
            }
        }
    }

    /// The job in a worker's hands; `None` if it is no longer queued.
    fn claim(&mut self, request: &ClaimRequest, terms: &Terms<'_>) -> Option<Verdict> {
        let change = Change::Claim(request.claim.clone());
        let applied = self.now.as_ref()?.apply(&change, &Guard::default(), &terms.settings.limits, terms.now).ok()?;
        self.once = request.held.as_ref().map(|held| held.once(&self.key.id, applied.next.attempt));
        Some(self.take(applied, terms))
    }

    fn delete(&mut self, terms: &Terms<'_>) -> Verdict {
        self.now = None;
        // What a key stood for is gone with it.
        self.once = None;
        self.lines.clear();
        // That it has ended is counted all the same.
        self.history.attempts.clear();
        self.history.timeline.clear();
        self.fate = Fate::Deleted { reserved_until: terms.now.after(terms.settings.deleted_retain_seconds) };
        Verdict::Deleted
    }

    fn take(&mut self, applied: Applied, terms: &Terms<'_>) -> Verdict {
        let Applied { mut next, lines, duplicates, changed, result_changed, history } = applied;
        next.expect(self.now.as_deref(), terms.usual_seconds);
        self.history.extend(history);
        let job = match &self.now {
            Some(same) if !changed => same.clone(),
            Some(_) | None => Arc::new(next),
        };
        if changed {
            self.now = Some(job.clone());
            if self.is_untouched() {
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
            (Fate::Made { input }, Some(job)) => Put::New { job: job.clone(), input: input.clone() },
            (Fate::Changed, Some(job)) => Put::Changed(job.clone()),
            (Fate::Deleted { reserved_until }, None) => Put::Deleted { reserved_until: *reserved_until },
            _ => return None,
        };
        let (lines, history) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.history));
        Some(Write { key: self.key.clone(), before: self.before.clone(), put, lines, history, once: self.once.take() })
    }
}

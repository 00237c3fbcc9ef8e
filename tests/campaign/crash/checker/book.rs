//! The record sorted by request and by job.

use std::collections::{BTreeMap, HashMap};

use super::{Findings, Kind, Violation};
use crate::campaign::crash::{
    history::{Answer, Event, History, Id, OpId, Request, Run, Seen, Sight, Tick, What},
    words::Mark,
};

/// All requests and jobs of a record.
pub(super) struct Book<'h> {
    pub(super) ops: Vec<Op<'h>>,
    pub(super) jobs: BTreeMap<Id, Job<'h>>,
}

/// A request to change something and what came of it.
pub(super) struct Op<'h> {
    pub(super) id: OpId,
    pub(super) request: &'h Request,
    /// When it was first sent.
    pub(super) began: Tick,
    /// When it had its effect at the latest, if it has had one.
    pub(super) ended: Tick,
    pub(super) sendings: u32,
    /// Whether an answer says that it has had an effect.
    pub(super) applied: bool,
    /// Whether it may have had one, as far as answers tell.
    pub(super) may_apply: bool,
    pub(super) answers: Vec<Answered<'h>>,
    /// The sending that has no answer yet.
    open: Option<(Tick, Run)>,
}

/// The answer to one sending.
pub(super) struct Answered<'h> {
    pub(super) sent: Tick,
    pub(super) at: Tick,
    pub(super) answer: &'h Answer,
}

/// A job, with everything that was asked of it and seen of it.
pub(super) struct Job<'h> {
    pub(super) id: Id,
    pub(super) ops: Vec<OpId>,
    /// Its states, as reads and answers have shown them.
    pub(super) sights: Vec<JobSight<'h>>,
    /// Moments at which it had a version: since, until, version.
    pub(super) versions: Vec<(Tick, Tick, u64)>,
    /// Moments at which it was not there: since, until.
    pub(super) gone: Vec<(Tick, Tick)>,
    /// The request that made it.
    pub(super) origin: Option<OpId>,
    /// When it was first known to be there.
    pub(super) known_from: Option<Tick>,
    /// When it was first asked to go by a request that may have had an effect.
    pub(super) deleted_from: Option<Tick>,
    /// When it was first known to be gone for good.
    pub(super) gone_at: Option<Tick>,
}

/// A state of a job that was the present one at some moment between `since` and `until`.
pub(super) struct JobSight<'h> {
    pub(super) since: Tick,
    pub(super) until: Tick,
    pub(super) seen: &'h Seen,
}

impl<'h> Book<'h> {
    pub(super) fn of(history: &'h History, found: &mut Findings) -> Self {
        let mut book = Self { ops: Op::all(history), jobs: BTreeMap::new() };
        for (until, event) in history.events.iter().enumerate() {
            if let Event::Saw { since, sight } = event {
                match sight {
                    Sight::Job(seen) => book.saw(*since, until, seen),
                    Sight::Still(id, version) => book.job(id).versions.push((*since, until, *version)),
                    Sight::Gone(id) => book.job(id).gone.push((*since, until)),
                }
            }
        }
        let ops = std::mem::take(&mut book.ops);
        for op in &ops {
            for answered in &op.answers {
                book.answer(op, answered, found);
            }
        }
        book.ops = ops;
        let made = book.origins(found);
        book.assign(&made);
        book
    }

    pub(super) fn op(&self, id: OpId) -> Option<&Op<'h>> {
        self.ops.get(id as usize)
    }

    fn job(&mut self, id: &Id) -> &mut Job<'h> {
        self.jobs.entry(id.clone()).or_insert_with(|| Job {
            id: id.clone(),
            ops: Vec::new(),
            sights: Vec::new(),
            versions: Vec::new(),
            gone: Vec::new(),
            origin: None,
            known_from: None,
            deleted_from: None,
            gone_at: None,
        })
    }

    fn saw(&mut self, since: Tick, until: Tick, seen: &'h Seen) {
        let job = self.job(&seen.job);
        job.versions.push((since, until, seen.version));
        job.sights.push(JobSight { since, until, seen });
    }

    fn answer(&mut self, op: &Op<'h>, answered: &Answered<'h>, found: &mut Findings) {
        let Answered { sent, at, answer } = *answered;
        let strange = |what: String| Violation { kind: Kind::StrangeAnswer, job: op.request.job.clone(), what };
        match answer {
            Answer::Made(seen) | Answer::Stood(seen) | Answer::Changed(seen) | Answer::Appended { seen, .. } => {
                if op.request.job.as_ref().is_some_and(|job| *job != seen.job) {
                    found.0.push(strange(format!("the answer to request {} is about {}", op.id, seen.job)));
                }
                self.saw(sent, at, seen);
            }
            Answer::Moved(version) => {
                if let Some(id) = &op.request.job {
                    self.job(id).versions.push((sent, at, *version));
                }
            }
            Answer::Deleted | Answer::Gone => {
                if let Some(id) = &op.request.job {
                    self.job(id).gone.push((sent, at));
                }
            }
            Answer::Finished | Answer::Gap(_) | Answer::Busy => {}
            Answer::Strange(text) => found.0.push(strange(format!("request {} {:?}: {text}", op.id, op.request.what))),
        }
    }

    /// Which job each request to make one has made.
    fn origins(&mut self, found: &mut Findings) -> HashMap<OpId, Id> {
        let mut made: HashMap<OpId, Id> = HashMap::new();
        for (id, job) in &mut self.jobs {
            for sight in &job.sights {
                let op = match &sight.seen.facts.origin {
                    None => continue,
                    Some(Mark::Of(op)) => self.ops.get(*op as usize),
                    Some(Mark::Nothing | Mark::Foreign(_)) => None,
                };
                let maker = op.filter(|op| {
                    let named = op.request.job.as_ref().is_none_or(|job| job == id);
                    named && op.request.what.makes() && op.may_apply && op.began < sight.until
                });
                match (maker, job.origin) {
                    (None, _) => {
                        found.add(Kind::Phantom, id, format!("is there at {} by nobody's request", sight.until));
                        break;
                    }
                    (Some(op), None) => job.origin = Some(op.id),
                    (Some(op), Some(before)) if op.id != before => {
                        found.add(Kind::VersionTwice, id, format!("was made by request {before} and by {}", op.id));
                        break;
                    }
                    (Some(_), Some(_)) => {}
                }
            }
            if let Some(op) = job.origin
                && let Some(other) = made.insert(op, id.clone())
            {
                found.add(Kind::TwoJobsOfOneKey, id, format!("request {op} has made {other} as well"));
            }
        }
        for op in self.ops.iter().filter(|op| matches!(op.request.what, What::Create { .. })) {
            for answered in &op.answers {
                if let Answer::Made(seen) | Answer::Stood(seen) = answered.answer
                    && made.get(&op.id).is_some_and(|id| *id != seen.job)
                {
                    found.add(Kind::TwoJobsOfOneKey, &seen.job, format!("is one of several answers to {}", op.id));
                }
            }
        }
        made
    }

    /// Gives each job its requests, and the moments that follow from them.
    fn assign(&mut self, made: &HashMap<OpId, Id>) {
        let ops = std::mem::take(&mut self.ops);
        for op in &ops {
            let Some(id) = op.request.job.as_ref().or_else(|| made.get(&op.id)) else { continue };
            let job = self.job(id);
            job.ops.push(op.id);
            if op.request.what == What::Delete && op.may_apply {
                job.deleted_from = Some(job.deleted_from.map_or(op.began, |began| began.min(op.began)));
            }
            if op.request.job.is_none() {
                let gone = op.answers.iter().filter(|answered| matches!(answered.answer, Answer::Gone));
                job.gone.extend(gone.map(|answered| (answered.sent, answered.at)));
            }
        }
        self.ops = ops;
        for job in self.jobs.values_mut() {
            job.known_from = job.versions.iter().map(|(_, until, _)| *until).min();
            // Before it was known to be there, it may not have been made yet.
            let known_from = job.known_from.unwrap_or(Tick::MAX);
            job.gone.retain(|(since, _)| *since > known_from);
            job.gone_at = job.gone.iter().map(|(_, until)| *until).min();
        }
    }
}

impl<'h> Op<'h> {
    fn all(history: &'h History) -> Vec<Self> {
        let new = |(id, request)| Self {
            id: id as OpId,
            request,
            began: Tick::MAX,
            ended: 0,
            sendings: 0,
            applied: false,
            may_apply: false,
            answers: Vec::new(),
            open: None,
        };
        let mut ops: Vec<_> = history.requests.iter().enumerate().map(new).collect();
        let mut deaths: HashMap<Run, Tick> = HashMap::new();
        for (at, event) in history.events.iter().enumerate() {
            if let Event::Died { run } = event {
                deaths.insert(*run, at);
            }
        }
        for (at, event) in history.events.iter().enumerate() {
            match event {
                Event::Sent { op, run } => ops[*op as usize].sent(at, *run, &deaths),
                Event::Unsent { op } => {
                    ops[*op as usize].open = None;
                    ops[*op as usize].sendings -= 1;
                }
                Event::Answered { op, answer } => ops[*op as usize].answered(at, answer),
                Event::Saw { .. } | Event::Listed { .. } | Event::Died { .. } => {}
            }
        }
        for op in &mut ops {
            op.lose_open(&deaths);
            if op.applied {
                let said = op.answers.iter().filter(|answered| op.says_applied(answered.answer));
                op.ended = said.map(|answered| answered.at).min().unwrap_or(op.ended);
            }
        }
        ops
    }

    fn sent(&mut self, at: Tick, run: Run, deaths: &HashMap<Run, Tick>) {
        self.lose_open(deaths);
        if self.sendings == 0 {
            self.began = at;
        }
        self.sendings += 1;
        self.open = Some((at, run));
    }

    /// What was sent and not answered may have been done as long as that server lived.
    fn lose_open(&mut self, deaths: &HashMap<Run, Tick>) {
        if let Some((_, run)) = self.open.take() {
            self.may_apply = true;
            self.ended = self.ended.max(deaths.get(&run).copied().unwrap_or(Tick::MAX));
        }
    }

    fn answered(&mut self, at: Tick, answer: &'h Answer) {
        let Some((sent, _)) = self.open.take() else { return };
        self.applied |= self.says_applied(answer);
        self.may_apply |= self.applied || matches!(answer, Answer::Deleted);
        self.ended = self.ended.max(at);
        self.answers.push(Answered { sent, at, answer });
    }

    fn says_applied(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Made(_) | Answer::Changed(_) => true,
            // Of a creation with a key, an earlier sending has made the job.
            Answer::Stood(_) => matches!(self.request.what, What::Create { .. }),
            Answer::Appended { duplicates, .. } => *duplicates < self.request.what.lines().count(),
            Answer::Deleted
            | Answer::Gone
            | Answer::Finished
            | Answer::Moved(_)
            | Answer::Gap(_)
            | Answer::Busy
            | Answer::Strange(_) => false,
        }
    }
}

//! Records of servers that never were, told step by step.

use crate::campaign::crash::{
    checker::{Kind, check},
    history::{Answer, Event, Facts, History, Id, Lines, OpId, Patch, Run, Seen, Sight, Status, Tick, What},
    words::{Line, Mark},
};

/// A record in the making.
#[derive(Default)]
pub(super) struct Tale {
    pub(super) history: History,
    run: Run,
}

impl Tale {
    pub(super) fn sends(&mut self, job: &str, what: What) -> OpId {
        let op = self.history.ask(Some(job.into()), what);
        self.sends_again(op);
        op
    }

    pub(super) fn sends_again(&mut self, op: OpId) {
        let run = self.run;
        self.history.push(Event::Sent { op, run });
    }

    pub(super) fn hears(&mut self, op: OpId, answer: Answer) -> OpId {
        self.history.push(Event::Answered { op, answer });
        op
    }

    pub(super) fn creates(&mut self, id: &str) -> OpId {
        let op = self.history.ask(None, What::Create { lines: 0 });
        self.sends_again(op);
        self.hears(op, Answer::Made(fresh(id, op, 0)))
    }

    pub(super) fn ensures(&mut self, job: &str, lines: u32) -> OpId {
        let op = self.sends(job, What::Ensure { lines });
        self.hears(op, Answer::Made(fresh(job, op, lines)))
    }

    pub(super) fn patches(&mut self, job: &str, version: u64, patch: Patch) -> OpId {
        let op = self.sends(job, What::Patch(patch));
        self.hears(op, Answer::Changed(patched(job, version, op, patch)))
    }

    pub(super) fn appends(&mut self, job: &str, version: u64, lines: Lines, log_count: u64, duplicates: u64) -> OpId {
        let op = self.sends(job, What::Append(lines));
        let facts = Facts { log_count: Some(log_count), ..Facts::default() };
        self.hears(op, Answer::Appended { seen: seen(job, version, facts), duplicates })
    }

    pub(super) fn sees(&mut self, seen: Box<Seen>) {
        let since = self.history.now();
        self.sees_since(since, seen);
    }

    pub(super) fn sees_since(&mut self, since: Tick, seen: Box<Seen>) {
        self.history.push(Event::Saw { since, sight: Sight::Job(seen) });
    }

    pub(super) fn sees_version(&mut self, job: &str, version: u64) {
        self.sees(seen(job, version, Facts::default()));
    }

    pub(super) fn sees_stage(&mut self, job: &str, version: u64, op: OpId) {
        self.sees(seen(job, version, Facts { stage: Some(Mark::Of(op)), ..Facts::default() }));
    }

    pub(super) fn sees_log(&mut self, job: &str, version: u64, lines: Vec<Line>) {
        let facts = Facts { log_count: Some(lines.len() as u64), ..Facts::default() };
        self.sees(Box::new(Seen { lines: Some(lines), ..*seen(job, version, facts) }));
    }

    pub(super) fn misses(&mut self, job: &str) {
        let since = self.history.now();
        self.history.push(Event::Saw { since, sight: Sight::Gone(job.into()) });
    }

    pub(super) fn lists(&mut self, jobs: &[&str]) {
        let since = self.history.now();
        let jobs = jobs.iter().map(|job| Id::from(*job)).collect();
        self.history.push(Event::Listed { since, jobs });
    }

    pub(super) fn dies(&mut self) {
        self.history.push(Event::Died { run: self.run });
        self.run += 1;
    }

    #[track_caller]
    pub(super) fn is_reported_as(&self, kind: Kind) {
        let found = check(&self.history);
        assert!(found.iter().any(|violation| violation.kind == kind), "{kind:?} is not among {found:#?}");
    }

    #[track_caller]
    pub(super) fn is_faultless(&self) {
        let found = check(&self.history);
        assert!(found.is_empty(), "{found:#?}");
    }
}

pub(super) fn seen(job: &str, version: u64, facts: Facts) -> Box<Seen> {
    Box::new(Seen { job: job.into(), version, facts, lines_from: 1, lines: None })
}

pub(super) fn fresh(job: &str, op: OpId, lines: u32) -> Box<Seen> {
    let facts = Facts {
        status: Some(Status::Queued),
        progress: Some(0),
        stage: Some(Mark::Nothing),
        result: Some(Mark::Nothing),
        origin: Some(Mark::Of(op)),
        log_count: Some(u64::from(lines)),
    };
    seen(job, 1, facts)
}

pub(super) fn patched(job: &str, version: u64, op: OpId, patch: Patch) -> Box<Seen> {
    let progress = if patch.status == Some(Status::Completed) { Some(10_000) } else { patch.progress };
    let result = patch.result.then_some(Mark::Of(op));
    let facts = Facts { status: patch.status, progress, stage: Some(Mark::Of(op)), result, ..Facts::default() };
    seen(job, version, facts)
}

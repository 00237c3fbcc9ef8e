//! The state machine: what a change does to a job, or why it may not.
//!
//! Checks come in the order attempt, repeat, If-Match, state, so that a request whose answer was lost can be sent again.

mod supervise;

use std::sync::Arc;

use thiserror::Error;

use super::{
    Job, Limits,
    change::{Append, Cancel, Change, Edit, Guard, Heartbeat, LabelEdit, Patch, Retry},
    id::{Attempt, Version},
    json::{self, Json},
    labels::Labels,
    log::{Lines, LogLine, Seq},
    progress::Progress,
    state::{End, Outcome, Stage, State, Status},
    supervision::Supervision,
    time::Timestamp,
    timeline::History,
};

/// What an accepted change made of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The job as it is now.
    pub next: Job,
    /// The lines this change appended.
    pub lines: Arc<[LogLine]>,
    /// Lines that the log had already and that were not appended again.
    pub duplicates: u64,
    /// Whether there is anything to commit.
    pub changed: bool,
    /// Whether the result is another one now.
    pub result_changed: bool,
    /// What is to be remembered of it.
    pub history: History,
}

/// Why a change is refused. Each says in one sentence what the caller can do.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Rejection {
    /// The job is done and the change is not a repeat of what ended it.
    #[error("The job is already {0}; only POST /jobs/{{id}}/retry opens it again.")]
    AlreadyFinished(Status),
    /// A retry of a job that is not done.
    #[error("The job is {0}; only a done job can be retried.")]
    NotFinished(Status),
    /// The job cannot go there from where it stands.
    #[error("A job that is {from} cannot take a {change}; set its status to processing first.")]
    InvalidTransition {
        /// Where it stands.
        from: Status,
        /// What was asked.
        change: &'static str,
    },
    /// The writer's attempt is over.
    #[error("The attempt given is not the current one, which is {current}; stop working on this job.")]
    StaleAttempt {
        /// The attempt that may write.
        current: Attempt,
    },
    /// The job has held a lease, so its writers must say which attempt they are.
    #[error("This job is leased: give `attempt` with every write.")]
    AttemptRequired {
        /// The attempt that may write.
        current: Attempt,
    },
    /// Lines of this writer are missing before the ones sent.
    #[error("Lines of this writer are missing: send again from number {expected} on.")]
    LogGap {
        /// The number the writer's next line must have.
        expected: Seq,
    },
    /// The job has moved since the version of If-Match.
    #[error("The job is at version {current} now; read it again and decide anew.")]
    VersionMismatch {
        /// The version it has now.
        current: Version,
    },
    /// A member is unfit for the job as it stands.
    #[error("`{field}` must be {rule}.")]
    Invalid {
        /// The member.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
}

impl Job {
    /// Decides a change. Pure: the same job, change, guard, limits and time give the same answer on every engine.
    ///
    /// `now` is taken as no earlier than the job's own last change, so a job's clock never runs backwards.
    ///
    /// # Errors
    /// A [`Rejection`]; the job is then as it was.
    pub fn apply(&self, change: &Change, guard: &Guard, limits: &Limits, now: Timestamp) -> Result<Applied, Rejection> {
        let step = Step { job: self, guard, limits, now: now.max(self.updated_at) };
        let mut applied = match change {
            Change::Patch(patch) => step.patch(patch),
            Change::Append(append) => step.append(append),
            Change::Heartbeat(heartbeat) => step.heartbeat(heartbeat),
            Change::Cancel(cancel) => step.cancel(cancel),
            Change::Retry(retry) => step.retry(retry),
            Change::Claim(claim) => step.claim(claim),
            Change::Sweep(sweep) => Ok(step.sweep(*sweep)),
        }?;
        applied.history = applied.next.remember_change(self, change, guard);
        Ok(applied)
    }

    /// Whether a guard that must hold before a deletion does.
    ///
    /// # Errors
    /// [`Rejection::VersionMismatch`] when the job has moved.
    pub fn check_version(&self, guard: &Guard) -> Result<(), Rejection> {
        match &guard.versions {
            Some(versions) if !versions.contains(&self.version) => {
                Err(Rejection::VersionMismatch { current: self.version })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn start(&mut self, now: Timestamp) {
        self.state = State::Processing;
        self.started_at = Some(now);
    }

    /// Any accepted write of a processing attempt renews the lease, or starts the first one.
    pub(super) fn renew_lease(&mut self, now: Timestamp) {
        if let (State::Processing, Some(seconds)) = (self.state, self.lease_seconds()) {
            self.lease_expires_at = Some(now.after(seconds));
            self.fenced = true;
        }
    }

    fn finish(&mut self, outcome: Outcome, limits: &Limits, now: Timestamp) {
        let expires_at = limits.retention.expires_at(&self.spec, outcome.status(), now);
        self.state = State::Done(End { outcome, at: now, expires_at });
        self.lease_expires_at = None;
        self.supervision = Supervision::default();
        self.expected_seconds = None;
        if outcome == Outcome::Succeeded {
            self.progress = Progress::FULL;
        }
    }

    /// Back to the queue for another attempt: everything the last one did but its log is forgotten, and how many were
    /// lost is kept.
    fn requeue(&mut self, now: Timestamp) {
        self.state = State::Queued;
        self.attempt = self.attempt.next();
        self.progress = Progress::ZERO;
        self.expected_seconds = None;
        self.stage = None;
        self.result = None;
        self.error = None;
        self.worker = None;
        self.lease_expires_at = None;
        self.cancel_requested = false;
        let Supervision { losses, silent_losses, .. } = self.supervision;
        self.supervision = Supervision { losses, silent_losses, ..Supervision::default() };
        self.started_at = None;
        self.queued_at = now;
        self.log.writers.clear();
    }

    /// Whether a reader can tell this job from another state of it. Versions count just these differences.
    fn looks_like(&self, other: &Self) -> bool {
        !self.has_news_since(other) && self.log.count == other.log.count && self.log.dropped == other.log.dropped
    }

    /// Whether it has come into the queue since it was so, or was not there; one that was taken and came back waits anew.
    pub fn has_come_since(&self, earlier: Option<&Self>) -> bool {
        let waits = |job: &Self| (job.state == State::Queued).then_some(job.attempt);
        waits(self).is_some() && earlier.and_then(waits) != waits(self)
    }

    /// Whether it tells a reader more than an earlier state of it did, its log aside.
    pub fn has_news_since(&self, earlier: &Self) -> bool {
        let Self {
            spec: _,
            state,
            progress,
            expected_seconds: _,
            stage,
            result,
            error,
            labels,
            attempt,
            worker,
            lease_expires_at: _,
            fenced: _,
            cancel_requested,
            supervision: _,
            log: _,
            timeline: _,
            version: _,
            result_version: _,
            revision: _,
            queued_at: _,
            started_at,
            updated_at: _,
        } = self;
        *state != earlier.state
            || *progress != earlier.progress
            || *stage != earlier.stage
            || *result != earlier.result
            || *error != earlier.error
            || *labels != earlier.labels
            || *attempt != earlier.attempt
            || *worker != earlier.worker
            || *cancel_requested != earlier.cancel_requested
            || *started_at != earlier.started_at
    }
}

/// One change on its way through the checks.
struct Step<'a> {
    job: &'a Job,
    guard: &'a Guard,
    limits: &'a Limits,
    now: Timestamp,
}

impl Step<'_> {
    fn patch(&self, patch: &Patch) -> Result<Applied, Rejection> {
        let members = patch.status.is_some()
            || patch.progress.is_some()
            || !patch.stage.is_keep()
            || !patch.result.is_keep()
            || !patch.error.is_keep();
        self.check_attempt(members || !patch.lines.is_empty())?;
        if self.job.is_done() {
            return self.patch_done(patch, members);
        }
        self.job.check_version(self.guard)?;
        // Counted first: the lines of a worker that gives its job back are still of its own attempt.
        let (mut next, lines, duplicates) = self.log(&patch.lines)?;
        match (patch.status, self.job.state) {
            (Some(Status::Queued), State::Processing) => next.requeue(self.now),
            (Some(Status::Processing), State::Queued) => next.start(self.now),
            _ => {}
        }
        if let Some(progress) = patch.progress {
            next.progress = progress;
        }
        self.edit_members(&mut next, patch)?;
        if let Some(outcome) = patch.status.and_then(Status::outcome) {
            next.finish(outcome, self.limits, self.now);
        }
        Ok(self.done(next, lines, duplicates))
    }

    /// A done job takes a repeat of its last PATCH, which changes nothing, and for a while late lines.
    fn patch_done(&self, patch: &Patch, members: bool) -> Result<Applied, Rejection> {
        let mut same = self.job.clone();
        self.edit_members(&mut same, patch)?;
        let status_differs = patch.status.is_some_and(|status| status != self.job.status());
        if status_differs || !same.looks_like(self.job) {
            self.job.check_version(self.guard)?;
            return Err(Rejection::AlreadyFinished(self.job.status()));
        }
        // It is a repeat if it names more than lines. Without a count of its writer, a line of a repeat cannot be told from
        // the one that came the first time.
        let repeat = members || patch.labels != LabelEdit::default();
        if patch.lines.is_empty() || (repeat && patch.lines.origin.is_none()) {
            return Ok(self.done(self.job.clone(), Vec::new(), 0));
        }
        self.late_lines(&patch.lines, repeat)
    }

    fn append(&self, append: &Append) -> Result<Applied, Rejection> {
        self.check_attempt(true)?;
        if self.job.is_done() {
            let stage_differs = match &append.stage {
                Edit::Set(stage) => self.job.stage.as_ref() != Some(stage),
                Edit::Clear => self.job.stage.is_some(),
                Edit::Keep | Edit::Merge(_) => false,
            };
            if stage_differs {
                self.job.check_version(self.guard)?;
                return Err(Rejection::AlreadyFinished(self.job.status()));
            }
            return self.late_lines(&append.lines, false);
        }
        self.job.check_version(self.guard)?;
        let (mut next, lines, duplicates) = self.log(&append.lines)?;
        report(&mut next, append.progress, &append.stage);
        Ok(self.done(next, lines, duplicates))
    }

    /// Workers flush after finishing: lines of the last attempt are taken for a while, and known ones let pass for ever.
    fn late_lines(&self, lines: &Lines, repeat: bool) -> Result<Applied, Rejection> {
        let logged = self.log(lines);
        let known = matches!(&logged, Ok((_, appended, _)) if appended.is_empty());
        if !known {
            if !repeat {
                self.job.check_version(self.guard)?;
            }
            let late = self.job.state.end().is_some_and(|end| self.now > end.at.after(self.limits.late_log_seconds));
            if late {
                return Err(Rejection::AlreadyFinished(self.job.status()));
            }
        }
        let (next, appended, duplicates) = logged?;
        Ok(self.done(next, appended, duplicates))
    }

    fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Applied, Rejection> {
        self.check_attempt(true)?;
        self.job.check_version(self.guard)?;
        match self.job.state {
            State::Done(_) => Err(Rejection::AlreadyFinished(self.job.status())),
            State::Queued => Err(Rejection::InvalidTransition { from: Status::Queued, change: "heartbeat" }),
            State::Processing => {
                let mut next = self.job.clone();
                report(&mut next, heartbeat.progress, &heartbeat.stage);
                Ok(self.done(next, Vec::new(), 0))
            }
        }
    }

    fn cancel(&self, cancel: &Cancel) -> Result<Applied, Rejection> {
        self.check_attempt(false)?;
        let mut next = self.job.clone();
        match self.job.state {
            State::Done(End { outcome: Outcome::Cancelled, .. }) => {}
            State::Done(_) => {
                self.job.check_version(self.guard)?;
                return Err(Rejection::AlreadyFinished(self.job.status()));
            }
            State::Processing if self.job.cancel_requested => {}
            State::Processing => {
                self.job.check_version(self.guard)?;
                next.cancel_requested = true;
                let grace = self.job.spec.cancel_grace_seconds.unwrap_or(self.limits.cancel_grace_seconds);
                next.supervision.cancel_by = Some(self.now.after(grace));
            }
            State::Queued => {
                self.job.check_version(self.guard)?;
                if let Some(reason) = &cancel.reason {
                    next.error = cancelled_because(reason);
                }
                next.finish(Outcome::Cancelled, self.limits, self.now);
            }
        }
        Ok(self.done(next, Vec::new(), 0))
    }

    fn retry(&self, retry: &Retry) -> Result<Applied, Rejection> {
        let mut next = self.job.clone();
        match retry.attempt {
            Some(attempt) if attempt > self.job.attempt => {
                return Err(Rejection::StaleAttempt { current: self.job.attempt });
            }
            Some(attempt) if attempt < self.job.attempt => return Ok(self.done(next, Vec::new(), 0)),
            Some(_) | None => {}
        }
        self.job.check_version(self.guard)?;
        if !self.job.is_done() {
            return Err(Rejection::NotFinished(self.job.status()));
        }
        next.requeue(self.now);
        Ok(self.done(next, Vec::new(), 0))
    }

    /// Given, the attempt must be the current one; a job that has ever been leased wants it with what a worker writes.
    fn check_attempt(&self, written_by_worker: bool) -> Result<(), Rejection> {
        let current = self.job.attempt;
        match self.guard.attempt {
            Some(attempt) if attempt != current => Err(Rejection::StaleAttempt { current }),
            None if written_by_worker && self.job.fenced => Err(Rejection::AttemptRequired { current }),
            Some(_) | None => Ok(()),
        }
    }

    /// The job with the lines that its log does not have yet, these lines, and how many it had.
    fn log(&self, lines: &Lines) -> Result<(Job, Vec<LogLine>, u64), Rejection> {
        let mut next = self.job.clone();
        let mut had = 0;
        // Where nothing is sent, nothing is missing.
        if let Some(origin) = lines.origin.as_ref().filter(|_| !lines.is_empty()) {
            let written = self.job.log.written_by(&origin.writer);
            let expected = written + 1;
            if origin.seq > expected {
                return Err(Rejection::LogGap { expected });
            }
            let sent = lines.texts.len() as u64;
            had = sent.min(expected - origin.seq);
            let total = written.max(origin.seq - 1 + sent);
            let writers = &mut next.log.writers;
            match writers.iter().position(|(name, _)| *name == origin.writer) {
                Some(known) => writers[known].1 = total,
                None if writers.len() >= self.limits.writers_max => {
                    let rule = format!("one of the {} writers this attempt has already", self.limits.writers_max);
                    return Err(Rejection::Invalid { field: "writer", rule });
                }
                None => writers.push((origin.writer.clone(), total)),
            }
        }
        let fresh = lines.texts.get(usize::try_from(had).unwrap_or(usize::MAX)..).unwrap_or_default();
        let appended = next.log.append(fresh, self.job.attempt, self.limits, self.now);
        Ok((next, appended, had))
    }

    fn edit_members(&self, job: &mut Job, patch: &Patch) -> Result<(), Rejection> {
        edit_stage(job, &patch.stage);
        edit_json(&mut job.result, &patch.result, "result", self.limits.result_bytes_max)?;
        edit_json(&mut job.error, &patch.error, "error", self.limits.error_bytes_max)?;
        if let (Edit::Merge(_), Some(error)) = (&patch.error, &job.error)
            && !error.to_value().is_object()
        {
            return Err(Rejection::Invalid { field: "error", rule: "an object".into() });
        }
        edit_labels(&mut job.labels, &patch.labels)
    }

    /// Settles lease, version and times once everything else is decided.
    fn done(&self, mut next: Job, lines: Vec<LogLine>, duplicates: u64) -> Applied {
        let is_by_worker = self.guard.attempt == Some(self.job.attempt);
        if is_by_worker {
            next.supervision.is_silent = false;
        }
        if is_by_worker || !next.fenced {
            next.renew_lease(self.now);
        }
        if !next.looks_like(self.job) {
            next.version += 1;
            next.updated_at = self.now;
        }
        let result_changed = next.result != self.job.result;
        if result_changed {
            next.result_version = next.version;
        }
        let changed = next != *self.job;
        if changed {
            next.revision += 1;
        }
        Applied { next, lines: lines.into(), duplicates, changed, result_changed, history: History::default() }
    }
}

fn report(job: &mut Job, progress: Option<Progress>, stage: &Edit<Stage>) {
    if let Some(progress) = progress {
        job.progress = progress;
    }
    edit_stage(job, stage);
}

fn edit_stage(job: &mut Job, edit: &Edit<Stage>) {
    match edit {
        // A stage is text, which has nothing to merge.
        Edit::Keep | Edit::Merge(_) => {}
        Edit::Clear => job.stage = None,
        Edit::Set(stage) => job.stage = Some(stage.clone()),
    }
}

fn edit_json(
    member: &mut Option<Json>,
    edit: &Edit<Json>,
    field: &'static str,
    bytes_max: usize,
) -> Result<(), Rejection> {
    match edit {
        Edit::Keep => return Ok(()),
        Edit::Clear => *member = None,
        Edit::Set(json) => *member = Some(json.clone()),
        Edit::Merge(patch) => {
            let mut value = member.as_ref().map_or(serde_json::Value::Null, Json::to_value);
            json::merge(&mut value, patch);
            *member = Json::try_from(&value).ok().filter(|_| !value.is_null());
        }
    }
    match member {
        Some(json) if json.as_str().len() > bytes_max => {
            Err(Rejection::Invalid { field, rule: format!("at most {bytes_max} bytes of JSON") })
        }
        Some(_) | None => Ok(()),
    }
}

fn edit_labels(labels: &mut Labels, edit: &LabelEdit) -> Result<(), Rejection> {
    if !edit.clear && edit.set.is_empty() {
        return Ok(());
    }
    let mut map = if edit.clear { Default::default() } else { labels.to_map() };
    for (key, value) in &edit.set {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
    *labels = Labels::try_from(map).map_err(|rule| Rejection::Invalid { field: "labels", rule: rule.0.into() })?;
    Ok(())
}

fn cancelled_because(reason: &Stage) -> Option<Json> {
    Json::try_from(&serde_json::json!({"reason": "cancelled", "message": reason.as_str()})).ok()
}

//! The domain: what a job is and what may happen to it.
//!
//! Promises: [`Job::apply`] is pure. The same job, change, guard, limits and time give the same answer on every engine
//! and every replica, and it alone decides what a change does.
//! Knows nothing of HTTP, storage, tasks or clocks; time comes in as a [`Timestamp`].

mod apply;
mod attempts;
mod change;
mod document;
mod id;
mod json;
mod labels;
mod log;
mod progress;
mod retention;
mod state;
mod supervision;
mod time;
mod timeline;

use std::sync::Arc;

pub use self::{
    apply::{Applied, Rejection},
    attempts::{AttemptEnd, PastAttempt},
    change::{Append, Cancel, Change, Claim, Edit, Guard, Heartbeat, LabelEdit, Patch, Retry, Sweep},
    document::Document,
    id::{Attempt, JobId, JobKey, Kind, Malformed, Tenant, Version, digits},
    json::Json,
    labels::{LabelKey, LabelValue, Labels},
    log::{LINES_MARKS, Lines, LogLine, LogWindow, Mark, Origin, Seq, Writer, printable},
    progress::Progress,
    retention::Retention,
    state::{End, Outcome, Stage, State, Status},
    supervision::Supervision,
    time::{Seconds, Timestamp},
    timeline::{Actor, History, JobEnd, TimelineEnd, TimelineEntry, TimelineEvent},
};

/// What a job was created with; never changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Tenant and id.
    pub key: JobKey,
    /// What sort of work it is; workers claim by it.
    pub kind: Kind,
    /// Higher is claimed first.
    pub priority: i32,
    /// How many attempts may be lost before the job fails.
    pub max_attempts: u32,
    /// Length of the lease that starts with the first processing write, if the worker must renew one.
    pub lease_seconds: Option<Seconds>,
    /// How long one attempt may take.
    pub timeout_seconds: Option<Seconds>,
    /// How long the job may wait in the queue.
    pub queue_ttl_seconds: Option<Seconds>,
    /// How long a worker may take to obey a cancel.
    pub cancel_grace_seconds: Option<Seconds>,
    /// How long the job is kept once done.
    pub retain_seconds: Option<Seconds>,
    /// When it was created.
    pub created_at: Timestamp,
}

#[cfg(test)]
impl Spec {
    /// One that says nothing but what it must.
    pub(crate) fn plain(key: JobKey, kind: Kind) -> Self {
        Self {
            key,
            kind,
            priority: 0,
            max_attempts: 1,
            lease_seconds: None,
            timeout_seconds: None,
            queue_ttl_seconds: None,
            cancel_grace_seconds: None,
            retain_seconds: None,
            created_at: Timestamp(0),
        }
    }
}

/// A job at one moment. Everything a reader sees but its input and the text of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What it was created with.
    pub spec: Arc<Spec>,
    /// Where it stands; decides `status`, `done`, `outcome`, `finished_at` and `expires_at`.
    pub state: State,
    /// How far the attempt has come.
    pub progress: Progress,
    /// How long the attempt was expected to take when it began, if that was known.
    pub expected_seconds: Option<Seconds>,
    /// The step the worker is in.
    pub stage: Option<Stage>,
    /// What the worker has produced so far.
    pub result: Option<Json>,
    /// Why it failed: an object with `reason` and `message`.
    pub error: Option<Json>,
    /// What lists and feeds filter by.
    pub labels: Labels,
    /// The number of the current attempt, from 1: the fencing token.
    pub attempt: Attempt,
    /// Who claimed the attempt.
    pub worker: Option<Arc<str>>,
    /// When the current lease runs out.
    pub lease_expires_at: Option<Timestamp>,
    /// Whether the job has ever held a lease, so that its workers must name their attempt.
    pub fenced: bool,
    /// Whether its worker has been asked to stop.
    pub cancel_requested: bool,
    /// What its worker is held to beyond that.
    pub supervision: Supervision,
    /// The counters of its log.
    pub log: LogWindow,
    /// The counters of its timeline.
    pub timeline: TimelineEnd,
    /// Rises by one with each request that changes anything a reader can see.
    pub version: Version,
    /// The version that made the result another one: readers who have this one have the result. 0: it never was another.
    pub result_version: Version,
    /// Rises with each change that is committed, seen or not: what compare-and-set is made on.
    pub revision: u64,
    /// When it last entered the queue.
    pub queued_at: Timestamp,
    /// When the attempt began.
    pub started_at: Option<Timestamp>,
    /// When a reader could last see a change.
    pub updated_at: Timestamp,
}

/// What a job is created from.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What never changes afterwards, but for the time of creation.
    pub spec: Spec,
    /// What the worker needs; kept beside the job and given only to those who ask.
    pub input: Option<Json>,
    /// Labels from the start.
    pub labels: Labels,
    /// Whether a worker is already at it.
    pub processing: bool,
    /// The step it begins in.
    pub stage: Option<Stage>,
    /// First lines of its log.
    pub lines: Lines,
}

/// Bounds the domain keeps to; all of them are configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest log line in bytes; longer ones are cut visibly.
    pub line_bytes_max: usize,
    /// Lines kept for one job; the oldest go.
    pub job_lines_max: u64,
    /// Bytes of log text kept for one job; the oldest lines go.
    pub job_log_bytes_max: u64,
    /// How long after the end lines of the last attempt are still taken.
    pub late_log_seconds: Seconds,
    /// The largest result in bytes of compact JSON.
    pub result_bytes_max: usize,
    /// The largest error in bytes of compact JSON.
    pub error_bytes_max: usize,
    /// Writers with a line count of their own in one attempt.
    pub writers_max: usize,
    /// How long a worker that was asked to stop is waited for, unless its job says.
    pub cancel_grace_seconds: Seconds,
    /// How long done jobs are kept.
    pub retention: Retention,
}

impl Job {
    /// The job a creation makes, at version 1, and the lines of its log.
    pub fn create(new: &NewJob, limits: &Limits, now: Timestamp) -> Applied {
        let spec = Spec { created_at: now, ..new.spec.clone() };
        let mut job = Self {
            state: State::Queued,
            progress: Progress::ZERO,
            expected_seconds: None,
            stage: new.stage.clone(),
            result: None,
            error: None,
            labels: new.labels.clone(),
            attempt: Attempt::FIRST,
            worker: None,
            lease_expires_at: None,
            fenced: false,
            cancel_requested: false,
            supervision: Supervision::default(),
            log: LogWindow::default(),
            timeline: TimelineEnd::default(),
            version: 1,
            result_version: 0,
            revision: 1,
            queued_at: now,
            started_at: None,
            updated_at: now,
            spec: Arc::new(spec),
        };
        if new.processing {
            job.start(now);
            job.renew_lease(now);
        }
        let lines = job.log.append(&new.lines.texts, job.attempt, limits, now);
        if let Some(origin) = &new.lines.origin {
            job.log.writers.push((origin.writer.clone(), lines.len() as Seq));
        }
        let history = job.remember_creation();
        Applied { next: job, lines: lines.into(), duplicates: 0, changed: true, result_changed: false, history }
    }

    /// Tenant and id.
    pub fn key(&self) -> &JobKey {
        &self.spec.key
    }

    /// The word for where it stands.
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Whether it has ended; only a retry opens it again.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }
}

//! What may be asked of a job.

use std::sync::Arc;

use serde_json::Value;

use super::{
    id::{Attempt, Version},
    json::Json,
    labels::{LabelKey, LabelValue},
    log::Lines,
    progress::Progress,
    state::{Stage, Status},
    time::{Seconds, Timestamp},
};

/// One request to change a job.
#[derive(Clone, Debug)]
pub enum Change {
    /// Change what is named, all of it in one step.
    Patch(Patch),
    /// Add lines to the log.
    Append(Append),
    /// Renew the lease.
    Heartbeat(Heartbeat),
    /// Ask the job to end.
    Cancel(Cancel),
    /// Send a done job back to the queue.
    Retry(Retry),
    /// Give a queued job to a worker.
    Claim(Claim),
    /// Do what is due by now: nobody's wish, but what was agreed before.
    Sweep(Sweep),
}

impl Change {
    /// What a queue is charged for holding the change, in bytes of clients' data.
    pub fn weight(&self) -> usize {
        match self {
            Self::Patch(patch) => patch.lines.weight() + patch.result.weight() + patch.error.weight(),
            Self::Append(append) => append.lines.weight(),
            Self::Heartbeat(_) | Self::Cancel(_) | Self::Retry(_) | Self::Claim(_) | Self::Sweep(_) => 0,
        }
    }
}

/// What a request makes its change depend on.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The attempt the writer believes to be the current one: the fencing token.
    pub attempt: Option<Attempt>,
    /// The versions one of which must be the current one (If-Match). An empty list never matches.
    pub versions: Option<Vec<Version>>,
}

/// What to do with a member that may be absent, replaced, cleared or merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Edit<T> {
    /// Leave it.
    #[default]
    Keep,
    /// Set it to null.
    Clear,
    /// Replace it whole.
    Set(T),
    /// Apply a JSON merge patch (RFC 7396).
    Merge(Value),
}

impl<T> Edit<T> {
    /// Whether the member is not named at all.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl Edit<Json> {
    fn weight(&self) -> usize {
        match self {
            Self::Keep | Self::Clear => 0,
            Self::Set(json) => json.as_str().len(),
            // A tree takes some times its text; its text was bounded with the body.
            Self::Merge(value) => value.to_string().len() * 4,
        }
    }
}

/// What to do with labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelEdit {
    /// Whether all present ones go first.
    pub clear: bool,
    /// Labels to set, or with `None` to remove.
    pub set: Vec<(LabelKey, Option<LabelValue>)>,
}

/// A change of members and log lines that becomes visible as one.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Where the job shall stand.
    pub status: Option<Status>,
    /// How far it has come.
    pub progress: Option<Progress>,
    /// The step the worker is in.
    pub stage: Edit<Stage>,
    /// What it has produced.
    pub result: Edit<Json>,
    /// Why it failed.
    pub error: Edit<Json>,
    /// Labels to merge in.
    pub labels: LabelEdit,
    /// Lines to append.
    pub lines: Lines,
}

/// Log lines, with the progress they report.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The lines.
    pub lines: Lines,
    /// How far the job has come.
    pub progress: Option<Progress>,
    /// The step the worker is in.
    pub stage: Edit<Stage>,
}

/// A sign of life.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// How far the job has come.
    pub progress: Option<Progress>,
    /// The step the worker is in.
    pub stage: Edit<Stage>,
}

/// A request to end a job.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// Why, for whoever reads the job later.
    pub reason: Option<Stage>,
}

/// A request to send a done job back to the queue.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    /// The attempt that shall be tried again; makes a repeated request harmless.
    pub attempt: Option<Attempt>,
}

/// A worker's wish for a job.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who it is.
    pub worker: Arc<str>,
    /// How long it may be silent.
    pub lease_seconds: Seconds,
}

/// A look at what is due.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Since when workers have been able to renew their leases: a lease that they could not renew for its whole length has not
    /// run out.
    pub open_since: Timestamp,
}

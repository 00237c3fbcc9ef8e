//! What clients ask and what they are answered, in plain words.

use milepost::job::Rejection;
use serde_json::Value;

/// A request as a client would write it, and the clock when it comes.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) attempt: Option<u32>,
    pub(super) if_match: Option<Vec<u64>>,
    pub(super) now: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Patch(Body),
    Append(Sent, Report),
    Heartbeat(Report),
    Cancel { reason: Option<String> },
    Retry { attempt: Option<u32> },
    Claim { worker: &'static str, lease_seconds: u32 },
    Sweep { open_since: u64 },
}

/// The body of a PATCH. A member that is `None` is absent; `Value::Null` and `Some(None)` are null.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Body {
    pub(super) status: Option<&'static str>,
    pub(super) report: Report,
    /// Whether result and error are merge patches instead of values.
    pub(super) merge: bool,
    pub(super) result: Option<Value>,
    pub(super) error: Option<Value>,
    pub(super) clear_labels: bool,
    pub(super) labels: Vec<(String, Option<String>)>,
    pub(super) sent: Sent,
}

/// What a worker says about how far it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) percent: Option<f64>,
    pub(super) stage: Option<Option<String>>,
}

/// Log lines, and who counts them from which number on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sent {
    pub(super) lines: Vec<String>,
    pub(super) writer: Option<(String, u64)>,
}

/// What a job is made with, and the bounds it lives under.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) max_attempts: u32,
    pub(super) lease_seconds: Option<u32>,
    pub(super) timeout_seconds: Option<u32>,
    pub(super) queue_ttl_seconds: Option<u32>,
    pub(super) cancel_grace_seconds: Option<u32>,
    pub(super) usual_cancel_grace_seconds: u32,
    pub(super) retain_seconds: Option<u32>,
    /// Of jobs of this kind; `Some(None)`: for ever.
    pub(super) kind_retain_seconds: Option<Option<u32>>,
    pub(super) failed_retain_seconds: Option<u32>,
    pub(super) line_bytes_max: usize,
    pub(super) job_lines_max: u64,
    pub(super) job_log_bytes_max: u64,
    pub(super) late_log_seconds: u32,
    pub(super) result_bytes_max: usize,
    pub(super) error_bytes_max: usize,
    pub(super) writers_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) at: u64,
    pub(super) attempt: u32,
    pub(super) text: String,
}

/// What an accepted request did.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) lines: Vec<Line>,
    pub(super) duplicates: u64,
    pub(super) changed: bool,
    pub(super) result_changed: bool,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    AlreadyFinished(&'static str),
    NotFinished(&'static str),
    InvalidTransition(&'static str),
    StaleAttempt(u32),
    AttemptRequired(u32),
    LogGap(u64),
    VersionMismatch(u64),
    Invalid(&'static str),
}

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::AlreadyFinished(status) => Self::AlreadyFinished(status.as_str()),
            Rejection::NotFinished(status) => Self::NotFinished(status.as_str()),
            Rejection::InvalidTransition { from, change: _ } => Self::InvalidTransition(from.as_str()),
            Rejection::StaleAttempt { current } => Self::StaleAttempt(current.0),
            Rejection::AttemptRequired { current } => Self::AttemptRequired(current.0),
            Rejection::LogGap { expected } => Self::LogGap(*expected),
            Rejection::VersionMismatch { current } => Self::VersionMismatch(*current),
            Rejection::Invalid { field, rule: _ } => Self::Invalid(field),
        }
    }
}

impl Ask {
    /// Whether a client asks it, with an attempt and a version if it likes; the rest is asked by the service.
    pub(super) fn is_of_a_client(&self) -> bool {
        !matches!(self, Self::Claim { .. } | Self::Sweep { .. })
    }

    /// Whether it is for the job's worker to ask this, and for nobody else.
    pub(super) fn is_of_a_worker(&self) -> bool {
        match self {
            Self::Append(..) | Self::Heartbeat(_) => true,
            Self::Patch(body) => body.names_a_workers_member() || !body.sent.lines.is_empty(),
            Self::Cancel { .. } | Self::Retry { .. } | Self::Claim { .. } | Self::Sweep { .. } => false,
        }
    }
}

impl Body {
    /// Whether it is more than an append in another form.
    pub(super) fn names_more_than_lines(&self) -> bool {
        self.names_a_workers_member() || self.clear_labels || !self.labels.is_empty()
    }

    /// Whether it names a member that only the worker writes; lines aside.
    pub(super) fn names_a_workers_member(&self) -> bool {
        self.status.is_some() || self.report != Report::default() || self.result.is_some() || self.error.is_some()
    }
}

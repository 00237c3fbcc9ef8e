//! Where a job stands.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{id::Malformed, time::Timestamp};

/// Where a job stands and, once done, how it ended. An end without an outcome cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for a worker.
    Queued,
    /// A worker is at it.
    Processing,
    /// It has ended.
    Done(End),
}

/// How and when a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// When it may be removed; `None`: it is kept.
    pub expires_at: Option<Timestamp>,
}

impl State {
    /// The word clients see.
    pub fn status(self) -> Status {
        match self {
            Self::Queued => Status::Queued,
            Self::Processing => Status::Processing,
            Self::Done(end) => end.outcome.status(),
        }
    }

    /// How it ended, if it has.
    pub fn end(self) -> Option<End> {
        match self {
            Self::Done(end) => Some(end),
            Self::Queued | Self::Processing => None,
        }
    }
}

/// The word for where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// A worker is at it.
    Processing,
    /// Ended well.
    Completed,
    /// Ended badly: reported by the worker, lost, timed out or expired.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl Status {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// How a job ends that its worker moves to this status; `None` for a status that is no end.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Queued | Self::Processing => None,
            Self::Completed => Some(Outcome::Succeeded),
            Self::Failed => Some(Outcome::Failed),
            Self::Cancelled => Some(Outcome::Cancelled),
        }
    }
}

impl TryFrom<&str> for Status {
    type Error = Malformed;

    /// Takes the words of the contract and those that real workers send instead.
    fn try_from(word: &str) -> Result<Self, Malformed> {
        match word {
            "queued" | "pending" => Ok(Self::Queued),
            "processing" | "running" | "started" => Ok(Self::Processing),
            "completed" | "done" | "complete" | "succeeded" => Ok(Self::Completed),
            "failed" | "error" => Ok(Self::Failed),
            "cancelled" | "canceled" => Ok(Self::Cancelled),
            _ => Err(Malformed("one of queued, processing, completed, failed, cancelled")),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its worker completed it.
    Succeeded,
    /// Its worker reported a failure.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// An attempt took longer than it may.
    TimedOut,
    /// Its worker stopped renewing the lease.
    Lost,
    /// It waited longer than it may.
    Expired,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::TimedOut, Self::Lost, Self::Expired];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Expired => "expired",
        }
    }

    /// The status a job with this outcome has.
    pub fn status(self) -> Status {
        match self {
            Self::Succeeded => Status::Completed,
            Self::Failed | Self::TimedOut | Self::Lost | Self::Expired => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

/// The step a worker is in: free text, up to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage(Arc<str>);

impl Stage {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Stage {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if is_short_text(text) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed("at most 256 bytes of text without control characters"))
        }
    }
}

/// Whether a text is fit for one line of a list: stages and label values are.
pub(super) fn is_short_text(text: &str) -> bool {
    text.len() <= 256 && !text.chars().any(char::is_control)
}

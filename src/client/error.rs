//! Why a request was not done.

use std::{io, time::Duration};

use serde_json::{Map, Value};
use thiserror::Error;

use super::request::Answer;

/// Why there is no good answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// Where it was tried.
        url: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is somebody, but not surely the service: its certificate is not trusted here.
    #[error("{url} is not trusted: {cause}")]
    Untrusted {
        /// Where it was tried.
        url: String,
        /// What is wrong with its certificate.
        #[source]
        cause: io::Error,
    },
    /// The answer did not come in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The connection broke, or did not speak HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Cut(String),
    /// It is no request at all.
    #[error("this cannot be asked: {0}")]
    NoRequest(#[from] hyper::http::Error),
    /// The answer is none of this service's.
    #[error("the answer is none of Milepost's: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The service refused it.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl ClientError {
    /// The statuses that another try may change.
    const PASSING: [u16; 8] = [408, 425, 429, 500, 502, 503, 504, 507];

    /// Whether the same request may well be answered later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Cut(_)
            | Self::Unreadable(_) => true,
            Self::NoRequest(_) => false,
            Self::Refused(refusal) => {
                Self::PASSING.contains(&refusal.status) || refusal.code == "idempotency_in_progress"
            }
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Cut(_)
            | Self::NoRequest(_)
            | Self::Unreadable(_) => None,
        }
    }
}

/// An answer of 400 and more: the problem document of the service, or what a proxy says in its place.
#[derive(Clone, Debug, Error)]
#[error("{detail} ({status} {code})")]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The word for programs; empty when the answer has none.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// What the code needs.
    pub members: Map<String, Value>,
}

impl Refusal {
    pub(super) fn of(answer: &Answer) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let after = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
        let (code, mut detail) = (text("code"), text("detail"));
        if detail.is_empty() {
            detail.push_str("the answer says no more");
        }
        Self { status: answer.status, code, detail, retry_after: after.map(Duration::from_secs), members }
    }
}

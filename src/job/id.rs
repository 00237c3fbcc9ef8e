//! Names and numbers by which jobs are told apart.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A value that breaks the rule of its type; the text completes the sentence "this must be ...".
#[derive(Clone, Debug, Error, PartialEq)]
#[error("must be {0}")]
pub struct Malformed(pub &'static str);

/// Counts the changes of one job that readers can see, from 1.
pub type Version = u64;

/// A number written in nothing but digits: the standard parser would take a plus sign, too.
pub fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Whose job it is. There is one tenant, number 0, until tokens exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tenant(pub u32);

/// Number of an attempt at a job, from 1; a worker that names an old one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The attempt a job is created with.
    pub const FIRST: Self = Self(1);

    /// The attempt after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a job within its tenant: a UUIDv7 of the server or the client's own, 1-128 characters of a URL path.
#[derive(Clone)]
pub struct JobId(Text);

/// The characters of an id. Those of a UUID stand in the id itself, so that a look-up neither allocates nor follows a
/// pointer to compare.
#[derive(Clone)]
enum Text {
    Inline(ArrayString<UUID_BYTES>),
    Shared(Arc<str>),
}

const UUID_BYTES: usize = 36;

impl JobId {
    const RULE: Malformed =
        Malformed("1 to 128 characters of A-Z a-z 0-9 . _ ~ -, not beginning with a dot, and not `claim`");

    /// The id as it stands in a URL.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Inline(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl TryFrom<&str> for JobId {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(legal);
        // `/jobs/claim` is a route, and a leading dot would let `.` and `..` be resolved away by clients.
        if !fits || text.starts_with('.') || text == "claim" {
            return Err(Self::RULE);
        }
        Ok(Self(ArrayString::from(text).map_or_else(|_| Text::Shared(text.into()), Text::Inline)))
    }
}

impl PartialEq for JobId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JobId {}

impl Hash for JobId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for JobId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for JobId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({})", self.as_str())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job's full name: every key in every store begins with the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// Whose job it is.
    pub tenant: Tenant,
    /// Its name there.
    pub id: JobId,
}

/// What sort of work a job is: 1-64 characters of a-z 0-9 . _ -.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Kind(Arc<str>);

impl Kind {
    /// The kind as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Kind {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if is_name(text) { Ok(Self(text.into())) } else { Err(Malformed("1 to 64 characters of a-z 0-9 . _ -")) }
    }
}

impl Borrow<str> for Kind {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a name of the service's own small alphabet: kinds and label keys are.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

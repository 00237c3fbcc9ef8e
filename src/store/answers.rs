//! What the store answers: jobs as one request has left them, or found them.

use std::sync::Arc;

use crate::job::{Job, Json, LogLine};

/// A job that was asked to exist.
#[derive(Clone, Debug)]
pub struct Created {
    /// The job as it is now.
    pub job: Arc<Job>,
    /// What its worker needs.
    pub input: Option<Json>,
    /// The lines this request appended.
    pub lines: Arc<[LogLine]>,
    /// Whether this request made it.
    pub how: Creation,
}

/// What a creation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// This request made the job.
    Made,
    /// The job stood already and was left alone.
    Stood,
    /// An earlier request with the same idempotency key made the job.
    Replayed,
}

/// A job after a change.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The job as this change left it.
    pub job: Arc<Job>,
    /// The lines this change appended.
    pub lines: Arc<[LogLine]>,
    /// Lines the log had already.
    pub duplicates: u64,
    /// Whether this change made the result another one.
    pub result_changed: bool,
}

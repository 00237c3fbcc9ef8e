//! Bounds of the store.

use crate::job::{Limits, Seconds};

/// Bounds of the store; all of them are configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds of the domain.
    pub limits: Limits,
    /// Memory for jobs and documents in use.
    pub cache_bytes_max: u64,
    /// Changes waiting for their commit.
    pub queue_changes_max: usize,
    /// Bytes of changes waiting for their commit.
    pub queue_bytes_max: usize,
    /// Changes in one commit.
    pub commit_changes_max: usize,
    /// How often a change is decided anew.
    pub conflict_retries_max: u32,
    /// Exports under way at once.
    pub exports_max: usize,
    /// How long a deleted id stays reserved.
    pub deleted_retain_seconds: Seconds,
    /// How long an idempotency key is remembered.
    pub idempotency_retain_seconds: Seconds,
    /// Lines in a document when the reader does not say how many.
    pub document_lines: usize,
    /// Bytes of log text in one answer.
    pub log_page_bytes: usize,
}

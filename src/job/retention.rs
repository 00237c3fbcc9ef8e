//! How long done jobs are kept.

use std::collections::BTreeMap;

use super::{
    Spec,
    id::Kind,
    state::Status,
    time::{Seconds, Timestamp},
};

/// How long jobs are kept that do not say so themselves; `None`: for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Jobs of these kinds, however they ended.
    pub kinds: BTreeMap<Kind, Option<Seconds>>,
    /// Others that have completed.
    pub completed_seconds: Option<Seconds>,
    /// Others that have failed.
    pub failed_seconds: Option<Seconds>,
    /// Others that were cancelled.
    pub cancelled_seconds: Option<Seconds>,
}

impl Retention {
    /// Jobs that do not say so are kept for ever.
    pub const FOR_EVER: Self =
        Self { kinds: BTreeMap::new(), completed_seconds: None, failed_seconds: None, cancelled_seconds: None };

    /// When a job may be removed that has ended in this status at this moment: as itself says, else its kind, else how it
    /// ended.
    pub(super) fn expires_at(&self, spec: &Spec, status: Status, at: Timestamp) -> Option<Timestamp> {
        let usual = || match status {
            Status::Completed => self.completed_seconds,
            Status::Failed => self.failed_seconds,
            Status::Cancelled => self.cancelled_seconds,
            Status::Queued | Status::Processing => None,
        };
        let of_kind = || self.kinds.get(&spec.kind).copied();
        let span = spec.retain_seconds.or_else(|| of_kind().unwrap_or_else(usual));
        span.map(|span| at.after(span))
    }
}

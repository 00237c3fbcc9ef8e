//! Which jobs a reader of a feed wants to hear of.

use crate::{
    engine::Past,
    job::{Job, Kind, LabelKey, LabelValue, Labels, Status},
};

/// A filter; what is empty lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeedFilter {
    /// Only jobs of one of these kinds.
    pub kinds: Vec<Kind>,
    /// Only those in one of these statuses.
    pub statuses: Vec<Status>,
    /// Only those with all of these labels.
    pub labels: Vec<(LabelKey, LabelValue)>,
}

impl FeedFilter {
    /// Whether a job fits as it stands.
    pub(super) fn fits(&self, job: &Job) -> bool {
        self.takes(&job.spec.kind)
            && (self.statuses.is_empty() || self.statuses.contains(&job.status()))
            && self.labels.iter().all(|(key, value)| job.labels.has(key, value))
    }

    /// Whether a job of this kind that stood so may have been told of; `now`: the labels it has, if it is still there.
    pub(super) fn has_fitted(&self, kind: &Kind, past: &Past, now: Option<&Labels>) -> bool {
        self.takes(kind) && past.has_fitted(&self.statuses, &self.labels, now)
    }

    /// Whether jobs of this kind can fit.
    pub(super) fn takes(&self, kind: &Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }

    /// What holding it costs in memory, about.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 64;
        let kinds: usize = self.kinds.iter().map(|kind| kind.as_str().len() + FIXED).sum();
        let labels: usize =
            self.labels.iter().map(|(key, value)| key.as_str().len() + value.as_str().len() + 2 * FIXED).sum();
        size_of::<Self>() + self.statuses.len() + kinds + labels
    }
}

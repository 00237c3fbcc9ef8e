//! The feed of a tenant: which of its jobs have moved, commit by commit, for those who follow all of them.
//!
//! Each commit that tells readers more than log lines adds an entry, in the same transaction. An entry says which jobs
//! moved and how they stood before; how they stand is read when it is told.

use std::{fmt, sync::Arc};

use crate::job::{Job, JobId, Kind, LabelKey, LabelValue, Labels, Status, Tenant};

/// A place in a feed: the last entry that somebody has been told of. Rises with each commit; 0: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPlace(pub u64);

impl fmt::Display for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which part of a feed is wanted.
#[derive(Clone, Copy, Debug)]
pub struct FeedQuery {
    /// Whose feed.
    pub tenant: Tenant,
    /// What comes after this.
    pub after: FeedPlace,
    /// Jobs at the most; but one entry is always taken.
    pub jobs_max: usize,
    /// Entries at the most.
    pub entries_max: usize,
}

/// Part of a feed: each job once, however often it moved, in the order in which they moved last.
#[derive(Clone, Debug)]
pub struct FeedPage {
    /// The jobs.
    pub moved: Vec<Moved>,
    /// The last entry of this page.
    pub to: FeedPlace,
}

/// A job that has moved.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Its internal number.
    pub number: u64,
    /// How it stood before each move.
    pub past: Past,
    /// What it was, if it was deleted.
    pub gone: Option<Box<Gone>>,
}

impl Moved {
    /// What holding it costs in memory, about.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 128;
        let label = |(key, value): (&LabelKey, &LabelValue)| key.as_str().len() + value.as_str().len() + FIXED;
        let labels = |span: &Span| FIXED + span.labels.iter().map(label).sum::<usize>();
        let gone = if self.gone.is_some() { 2 * FIXED } else { 0 };
        size_of::<Self>() + self.past.relabelled.iter().map(labels).sum::<usize>() + gone
    }
}

/// What is left of a job that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: Kind,
}

/// What has become of a job that has moved.
#[derive(Clone, Debug)]
pub enum Fed {
    /// This, its result aside.
    Job(Arc<Job>),
    /// It was deleted after it moved.
    Gone(Gone),
}

/// In which statuses and with which labels a job stood before it moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Since its labels were last changed.
    statuses: Statuses,
    /// Before that, by its labels of the time.
    relabelled: Vec<Span>,
}

/// How a job stood for as long as it had these labels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    statuses: Statuses,
    labels: Labels,
    /// They were changed then, and not the job deleted.
    is_followed: bool,
}

impl Past {
    /// Adds that it stood in this status, with the labels it has now or had until they were changed.
    pub fn stood(&mut self, status: Status) {
        self.statuses.add(status);
    }

    /// Adds that it had these labels up to here: it was deleted.
    pub fn ended(&mut self, labels: Labels) {
        self.had(labels, false);
    }

    /// Adds that it had these labels up to here: it has others since.
    pub fn relabelled(&mut self, labels: Labels) {
        self.had(labels, true);
    }

    fn had(&mut self, labels: Labels, is_followed: bool) {
        let stood = std::mem::take(&mut self.statuses);
        // However often a job's labels change back and forth, it is there once with each of them.
        match self.relabelled.iter_mut().find(|span| span.labels == labels) {
            Some(span) => {
                span.statuses.0 |= stood.0;
                span.is_followed |= is_followed;
            }
            None => self.relabelled.push(Span { statuses: stood, labels, is_followed }),
        }
    }

    /// Whether it may have stood in one of these statuses with all of these labels; `now`: the labels it has. No statuses:
    /// any of them.
    ///
    /// A job is read after its page. If its labels have changed in between, those it had when it left a status are not known any
    /// more. So whoever asks for labels is told when a job loses them, whatever its status was then.
    pub fn has_fitted(&self, statuses: &[Status], labels: &[(LabelKey, LabelValue)], now: Option<&Labels>) -> bool {
        let have = |had: &Labels| labels.iter().all(|(key, value)| had.has(key, value));
        let stands = now.is_some_and(|now| self.statuses.has_any(statuses) && have(now));
        let mut spans = self.relabelled.iter();
        stands
            || spans.any(|span| {
                let may_have_stood = span.is_followed && !labels.is_empty();
                (may_have_stood || span.statuses.has_any(statuses)) && have(&span.labels)
            })
    }
}

/// A set of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Statuses(u8);

impl Statuses {
    fn add(&mut self, status: Status) {
        self.0 |= 1 << status as u8;
    }

    /// Whether it has one of these; of none: whether it has any.
    fn has_any(self, statuses: &[Status]) -> bool {
        if statuses.is_empty() { self.0 != 0 } else { statuses.iter().any(|status| self.0 & 1 << *status as u8 != 0) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn label(value: &str) -> (LabelKey, LabelValue) {
        (LabelKey::try_from("user").unwrap(), LabelValue::try_from(value).unwrap())
    }

    fn labels(value: &str) -> Labels {
        Labels::try_from(BTreeMap::from([label(value)])).unwrap()
    }

    #[test]
    fn a_job_has_fitted_if_status_and_labels_did_at_once() {
        let mut past = Past::default();
        assert!(!past.has_fitted(&[], &[], Some(&Labels::default())), "one that was made has no past");
        past.stood(Status::Queued);
        past.ended(labels("1"));
        past.stood(Status::Processing);
        let fitted = |statuses: &[Status], user: &str| past.has_fitted(statuses, &[label(user)], Some(&labels("2")));
        assert!(fitted(&[Status::Queued], "1") && fitted(&[Status::Processing], "2"));
        assert!(!fitted(&[Status::Queued], "2") && !fitted(&[Status::Processing], "1"));
        assert!(fitted(&[], "1") && fitted(&[], "2") && !fitted(&[], "3"));
        assert!(fitted(&[Status::Failed, Status::Queued], "1") && !fitted(&[Status::Failed], "1"));
        assert!(past.has_fitted(&[Status::Queued], &[], None));
        let mut again = past.clone();
        again.ended(labels("2"));
        again.stood(Status::Failed);
        again.ended(labels("1"));
        assert_eq!(again.relabelled.len(), 2, "labels that it had before are not kept twice");
        assert!(again.has_fitted(&[Status::Failed], &[label("1")], None));
        assert!(!past.has_fitted(&[Status::Processing], &[], None), "what it is now says nothing of one that is gone");
        let mut moved = Past::default();
        moved.stood(Status::Queued);
        moved.relabelled(labels("1"));
        assert!(moved.has_fitted(&[Status::Failed], &[label("1")], None), "it may have failed with that label");
        assert!(!moved.has_fitted(&[Status::Failed], &[label("2")], None));
        assert!(!moved.has_fitted(&[Status::Failed], &[], None), "where labels do not matter its statuses are known");
    }
}

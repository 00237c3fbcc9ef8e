//! The page of a list that is being filled, job by job, in the order of the list.

use std::sync::Arc;

use super::{Cursor, ListQuery, Page};
use crate::job::Job;

/// See the module.
pub(super) struct Pager<'a> {
    query: &'a ListQuery,
    jobs: Vec<Arc<Job>>,
    looked: usize,
    /// The last job that was looked at, and the last one that is on the page.
    at: u64,
    taken: u64,
}

impl<'a> Pager<'a> {
    pub(super) fn new(query: &'a ListQuery) -> Self {
        let at = query.after.map_or_else(|| query.start(), |after| after.0);
        Self { query, jobs: Vec::new(), looked: 0, at, taken: at }
    }

    /// The number after which to look.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether no more may be looked at: the page ends here.
    pub(super) fn is_spent(&self) -> bool {
        self.looked == self.query.scan_max
    }

    /// Looks at the next job; false: it is one too many, and the page ends with the last one that is on it.
    pub(super) fn takes(&mut self, number: u64, job: Arc<Job>) -> bool {
        self.looked += 1;
        if self.query.wants(&job) {
            if self.jobs.len() == self.query.jobs_max {
                self.at = self.taken;
                return false;
            }
            self.jobs.push(job);
            self.taken = number;
        }
        self.at = number;
        true
    }

    /// The page, of a list that goes on.
    pub(super) fn page(self) -> Page {
        Page { jobs: self.jobs, next: Some(Cursor(self.at)) }
    }

    /// The last page.
    pub(super) fn last_page(self) -> Page {
        Page { jobs: self.jobs, next: None }
    }
}

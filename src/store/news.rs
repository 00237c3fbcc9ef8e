//! What the store tells those who watch.

use crate::job::JobKey;

/// Hears of each job that a commit has moved, once everybody can read what it has become.
pub trait Publish: Send + Sync + 'static {
    /// Takes note, between a commit and its answers: must neither block nor take long.
    fn publish(&self, key: &JobKey, moved: Moved);

    /// Takes note that any job may have moved.
    fn publish_all(&self);
}

/// How a job has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// It is done or gone.
    pub is_end: bool,
    /// More of it than its log is another: the feed tells of it.
    pub has_news: bool,
}

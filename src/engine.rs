//! Where bytes become durable: the seam between the store and a database.
//!
//! Promises: what [`Engine::commit`] reports as committed survives the machine's death, and no reader sees it earlier.
//! Knows nothing of HTTP, of who waits for a job, or of what a change means: that was decided before.

mod feed;
mod outages;
mod pager;
pub mod postgres;
mod record;
pub mod sqlite;
mod tally;
mod usual;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

#[cfg(any(test, fuzzing))]
pub(crate) use self::record::fuzzing;
pub use self::{
    feed::{Fed, FeedPage, FeedPlace, FeedQuery, Gone, Moved, Past},
    tally::{Flow, Spans, Tally},
};
use self::{record::OWN_BITS, usual::Usual};
use crate::job::{
    Attempt, History, Job, JobId, JobKey, Json, Kind, LabelKey, LabelValue, LogLine, LogWindow, PastAttempt, Seconds,
    Seq, Status, Tenant, TimelineEntry, Timestamp,
};

/// A durable home of jobs. Dyn-safe, so that nothing above is generic over it.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes each write durable or reports why it stands back, in order; returns when all committed ones are durable.
    ///
    /// A job may occur once in a batch. May block the thread that polls it until then: it is for a caller that has a
    /// thread of its own.
    ///
    /// # Errors
    /// Nothing of the batch is durable, except after [`EngineError::Indeterminate`].
    async fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, EngineError>;

    /// Whether it is another machine, perhaps, that makes writes durable: then the caller of [`Engine::commit`] waits for what comes
    /// over a network, and its thread is not blocked meanwhile.
    fn is_remote(&self) -> bool;

    /// Does a bounded part of the upkeep that no answer should wait for, and more of it when nobody waits for anything;
    /// returns whether there is more of that. To be called after each commit, and while idle until it says no. May block
    /// like a commit.
    async fn maintain(&self, is_idle: bool) -> bool;

    /// The jobs of these names, in their order, as the last commit left them. For the caller of [`Engine::commit`]; may
    /// block like it.
    async fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>>;

    /// The first jobs of some queues, the highest priority and then the longest wait first, as the last commit left them.
    /// For the caller of [`Engine::commit`]; may block like it.
    async fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError>;

    /// Jobs that may have come to their deadline by now, which is for them to say. Costs as much as there are.
    async fn due(&self, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError>;

    /// The job of this name.
    async fn find(&self, key: &JobKey) -> Result<Found, EngineError>;

    /// What a job has become that another process has moved, at some moment since this was asked; `None`: it is as it is known.
    async fn moved(&self, known: &Stored) -> Result<Option<Found>, EngineError>;

    /// As [`Engine::moved`] of several jobs, each with its place among them. None: all are as they are known. For the caller of
    /// [`Engine::commit`].
    async fn moved_since(&self, known: &[&Stored]) -> Result<Vec<(usize, Found)>, EngineError>;

    /// The input a job was created with.
    async fn input(&self, stored: &Stored) -> Result<Option<Json>, EngineError>;

    /// The last attempts before that of `stored`, in order, as many as are kept.
    async fn attempts(&self, stored: &Stored) -> Result<Vec<PastAttempt>, EngineError>;

    /// The last entries of the job's timeline up to `stored`, in order, as many as are kept; `None` when the job is gone.
    async fn timeline(&self, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError>;

    /// Lines of a job's log up to the count it had when `stored` was read, in order; `None` when the job is gone.
    async fn log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError>;

    /// As [`Engine::find`] and then [`Engine::log`], for whoever wants both: an id that leads to no job has no lines.
    async fn find_with_log(&self, key: &JobKey, slice: LogSlice) -> Result<(Found, Vec<LogLine>), EngineError> {
        let found = self.find(key).await?;
        let Found::Job(stored) = &found else { return Ok((found, Vec::new())) };
        if slice.is_nothing_of(&stored.job.log) {
            return Ok((found, Vec::new()));
        }
        Ok(match self.log(stored, slice).await? {
            Some(lines) => (found, lines),
            None => (Found::Missing, Vec::new()),
        })
    }

    /// What was done under an idempotency key, if that is still remembered at `now`.
    async fn once(&self, tenant: Tenant, key: &str, now: Timestamp) -> Result<Option<Once>, EngineError>;

    /// One page of the jobs of a tenant.
    async fn list(&self, query: ListQuery) -> Result<Page, EngineError>;

    /// The last entry of a tenant's feed. Whoever reads jobs after this has everything up to there.
    async fn feed_end(&self, tenant: Tenant) -> Result<FeedPlace, EngineError>;

    /// What has moved after a place of a feed; `None` when that is no place of this feed, or was so long ago that it is
    /// forgotten.
    async fn feed(&self, query: FeedQuery) -> Result<Option<FeedPage>, EngineError>;

    /// What has become, in their order, of the jobs of these numbers, which a feed told of; `None` when one was deleted so
    /// long ago that it is forgotten.
    async fn fed(&self, numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, EngineError>;

    /// How many jobs there are of each kind in each status.
    async fn counts(&self) -> Result<Vec<Count>, EngineError>;

    /// The same of one tenant, and what is counted of each of its kinds beside that, from one moment.
    async fn figures(&self, tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError>;

    /// How long an attempt that completes a job of this kind usually takes: the median of the last ones, as far as it is known
    /// here. For the caller of [`Engine::commit`]; does not block.
    fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds>;

    /// Everything, in the order of creation, from one consistent moment. What ends without [`Exported::End`] is not all.
    async fn export(&self) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError>;

    /// Does what the engine does by itself, as long as it is polled, and tells of each job that another process moves, after
    /// everybody can read what it has become. Never returns. The engine works without it, but for that.
    async fn attend(&self, tell: &(dyn Fn(Elsewhere) + Send + Sync));

    /// What the operator should know of how the engine is set up. Does not block.
    fn cautions(&self) -> Vec<Caution>;

    /// Since when workers have been able to change their jobs without a break, as far as is known here. Does not block.
    fn open_since(&self) -> Timestamp;

    /// Whether the engine takes writes.
    fn health(&self) -> Result<(), EngineError>;

    /// Waits for what is under way and lets go of all files. Later calls fail.
    async fn close(&self) -> Result<(), EngineError>;
}

/// A job as an engine has it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The job.
    pub job: Arc<Job>,
    /// Where the engine keeps it; means something only to the engine.
    pub place: Place,
}

impl Stored {
    /// This, which an id has led to.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] when it is the job of another id: where the id led was damaged.
    pub fn under(self, key: &JobKey) -> Result<Self, EngineError> {
        let there = &self.job.spec.key;
        if there == key {
            return Ok(self);
        }
        Err(EngineError::Corrupt(format!("ids {:?}: leads to {:?}", key.id.as_str(), there.id.as_str())))
    }
}

/// Where the embedded engine keeps a job, the end of its log and the end of its timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The job's internal number.
    pub number: u64,
    /// How many log rows it has ever had.
    pub rows: u64,
    /// The last of them.
    pub tail: u64,
    /// The last rows whose ordinal is a multiple of the two strides of the log's skip chain.
    pub skips: [u64; 2],
    /// When the engine will say that something may be due; no later than it is.
    pub armed_at: Option<Timestamp>,
    /// The end of its timeline.
    pub timeline: TimelinePlace,
}

/// Where the embedded engine keeps the end of a job's timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelinePlace {
    /// How many entries it has ever had.
    pub entries: u64,
    /// The row of the last one.
    pub tail: u64,
    /// The last two rows with which that number has come to a multiple of the stride by which a timeline is trimmed.
    pub strides: [u64; 2],
}

/// One job's part of a commit.
#[derive(Debug)]
pub struct Write {
    /// Which job.
    pub key: JobKey,
    /// The job as it must stand before; `None`: its id must be free.
    pub before: Option<Stored>,
    /// What it becomes.
    pub put: Put,
    /// The lines it gains, in order.
    pub lines: Vec<Arc<[LogLine]>>,
    /// What is to be remembered of it.
    pub history: History,
    /// The key under which this happens only once.
    pub once: Option<Keyed>,
}

/// A key under which a write happens only once.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The key.
    pub name: String,
    /// What it stands for from then on.
    pub once: Once,
    /// When what it stood for was to be forgotten, if it stood for anything before. That it stands for anything else refuses
    /// the write.
    pub replaces: Option<Timestamp>,
}

/// What a write makes of a job.
#[derive(Debug)]
pub enum Put {
    /// A job that was not there.
    New {
        /// The job.
        job: Arc<Job>,
        /// What its worker needs.
        input: Option<Json>,
    },
    /// Another state of a job that was.
    Changed(Arc<Job>),
    /// Nothing: the job goes, with its log.
    Deleted {
        /// Until when its id may not be used again.
        reserved_until: Timestamp,
    },
}

/// What a commit made of one write.
#[derive(Debug)]
pub enum Outcome {
    /// It is durable.
    Committed(Place),
    /// The job was not as expected; this is what was found instead.
    Conflict(Found),
    /// The job was not as expected, and what is there instead could not be read.
    Unread(EngineError),
    /// Its key has come to stand for something else in another process.
    KeyTaken,
    /// The store knows as many kinds as it may.
    TooManyKinds,
}

/// What another process has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It has moved a job.
    Moved(MovedElsewhere),
    /// Nobody knows what: all who wait are to look.
    Anything,
}

/// A job that another process has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedElsewhere {
    /// Which job.
    pub key: JobKey,
    /// It is done or gone.
    pub is_end: bool,
    /// More of it than its log is another: the feed tells of it.
    pub has_news: bool,
    /// It has come into the queue of this kind.
    pub queued: Option<Kind>,
}

/// What an id leads to.
#[derive(Clone, Debug)]
pub enum Found {
    /// A job.
    Job(Stored),
    /// A deleted job, whose id is reserved until then.
    Reserved(Timestamp),
    /// Nothing.
    Missing,
}

impl Found {
    /// The job, if it is one.
    pub fn job(self) -> Option<Stored> {
        match self {
            Self::Job(stored) => Some(stored),
            Self::Reserved(_) | Self::Missing => None,
        }
    }
}

/// What an idempotency key stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Once {
    /// Digest of the parsed request.
    pub fingerprint: [u8; 32],
    /// The job it made or claimed.
    pub id: JobId,
    /// The attempt of the job.
    pub attempt: Attempt,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// Which queued jobs are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueQuery {
    /// Whose jobs.
    pub tenant: Tenant,
    /// Of one of these.
    pub kinds: Vec<Kind>,
    /// Jobs at the most.
    pub jobs_max: usize,
}

/// Which lines of a log are wanted, and at most how much of them.
#[derive(Clone, Copy, Debug)]
pub struct LogSlice {
    /// Which end to begin at.
    pub from: LogEnd,
    /// Lines at the most.
    pub lines_max: usize,
    /// Bytes of text at the most; but the first line is always given.
    pub bytes_max: usize,
}

impl LogSlice {
    /// Whether a log has none of its lines, so that nobody needs to look.
    pub fn is_nothing_of(&self, log: &LogWindow) -> bool {
        let is_nothing = match self.from {
            LogEnd::After(seq) => seq >= log.count,
            LogEnd::Newest => self.lines_max == 0,
        };
        is_nothing || log.count == log.dropped
    }
}

/// Where a slice of a log begins.
#[derive(Clone, Copy, Debug)]
pub enum LogEnd {
    /// With the line after this number, going on.
    After(Seq),
    /// With the newest line, going back.
    Newest,
}

/// Which jobs a list shall have.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Whose jobs.
    pub tenant: Tenant,
    /// Only those in one of these, each of which is there once; empty: all.
    pub statuses: Vec<Status>,
    /// Only those of one of these, each of which is there once; empty: all.
    pub kinds: Vec<Kind>,
    /// Only those with all of these.
    pub labels: Vec<(LabelKey, LabelValue)>,
    /// Only those whose id begins so, or that have exactly this as the value of a label.
    pub text: Option<String>,
    /// Which come first.
    pub order: Order,
    /// Go on after this place of an earlier page.
    pub after: Option<Cursor>,
    /// Jobs at the most.
    pub jobs_max: usize,
    /// Jobs to look at at the most.
    pub scan_max: usize,
}

impl ListQuery {
    /// Whether a job is one of those.
    fn wants(&self, job: &Job) -> bool {
        let text = |text: &String| {
            let mut labels = job.labels.iter();
            job.key().id.as_str().starts_with(text.as_str()) || labels.any(|(_, value)| value.as_str() == text)
        };
        (self.statuses.is_empty() || self.statuses.contains(&job.status()))
            && (self.kinds.is_empty() || self.kinds.contains(&job.spec.kind))
            && self.labels.iter().all(|(key, value)| job.labels.has(key, value))
            && self.text.as_ref().is_none_or(text)
    }

    /// The number before those of all jobs that there can be, in this order.
    fn start(&self) -> u64 {
        let first = u64::from(self.tenant.0) << OWN_BITS;
        match self.order {
            Order::Oldest => first,
            Order::Newest => first + (1 << OWN_BITS),
        }
    }

    /// The number after those of all jobs that there can be, in this order.
    fn end(&self) -> u64 {
        let first = u64::from(self.tenant.0) << OWN_BITS;
        match self.order {
            Order::Oldest => first + (1 << OWN_BITS),
            Order::Newest => first,
        }
    }
}

/// The order of a list, by creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The last created first.
    #[default]
    Newest,
    /// The first created first.
    Oldest,
}

/// A place in a list: the internal number of the last job looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u64);

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The jobs, without their results.
    pub jobs: Vec<Arc<Job>>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

/// How many jobs of a kind are in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Whose jobs.
    pub tenant: Tenant,
    /// Their kind.
    pub kind: Kind,
    /// Their status.
    pub status: Status,
    /// How many.
    pub jobs: u64,
}

/// A piece of an export.
#[derive(Clone, Debug)]
pub enum Exported {
    /// A job, its input and its past; its lines follow.
    Job(Arc<Job>, Option<Json>, History),
    /// Lines of the last job, in order.
    Lines(Vec<LogLine>),
    /// That was everything.
    End,
}

/// Something about an engine that an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caution {
    /// What other processes commit is looked for now and then.
    Polling,
    /// What other processes commit cannot be read.
    FeedUnreadable,
    /// The database writes without syncing.
    FsyncOff,
    /// A page that is written half may be lost.
    FullPageWritesOff,
    /// Commits are reported before they are synced.
    CommitAsynchronous,
    /// Commits are reported before a standby has them.
    StandbyAsynchronous,
}

impl Caution {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::FeedUnreadable => "feed_unreadable",
            Self::FsyncOff => "fsync_off",
            Self::FullPageWritesOff => "full_page_writes_off",
            Self::CommitAsynchronous => "commit_asynchronous",
            Self::StandbyAsynchronous => "standby_asynchronous",
        }
    }

    /// What it means, as a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Polling => "notifications of other replicas' commits are not heard; they are looked for now and then",
            Self::FeedUnreadable => "other replicas' commits cannot be read: who waits here is not told of them",
            Self::FsyncOff => "PostgreSQL has `fsync` off: a power cut may damage it, or lose acknowledged changes",
            Self::FullPageWritesOff => "PostgreSQL has `full_page_writes` off: a power cut may damage it",
            Self::CommitAsynchronous => {
                "PostgreSQL has `synchronous_commit` off: a crash of it may lose acknowledged changes"
            }
            Self::StandbyAsynchronous => {
                "PostgreSQL reports commits before its standbys have them: a failover may lose acknowledged changes"
            }
        }
    }
}

/// Why an engine could not do its work. The texts are for the log, never for clients.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// It cannot be reached or used for now.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// It takes no writes for now.
    #[error("the store takes no writes: {0}")]
    ReadOnly(String),
    /// Whether the batch is durable is not known.
    #[error("whether the last commit is durable is not known: {0}")]
    Indeterminate(String),
    /// There is no room.
    #[error("the disk of the store is full: {0}")]
    Full(String),
    /// A stored value is damaged.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A sync failed; nothing is written until a restart has looked at what is there.
    #[error("the store takes no writes since a sync failed: {0}")]
    Poisoned(String),
    /// The store was written by another program, or a newer one.
    #[error("{0}")]
    Format(String),
    /// Another process has the store.
    #[error("{0}")]
    Locked(String),
}

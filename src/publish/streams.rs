//! Opening streams of jobs and of feeds.

use std::{sync::Arc, time::Duration};

use super::{
    chosen::ChosenReader,
    cursor::Cursor,
    feed::{FeedFilter, FeedReader, FeedSince, Pages},
    follow::Follower,
    frame::{Format, FrameFormat, LogFormat},
    hub::{Hub, Pace},
    reader::Reader,
    step::Place,
    steps::Steps,
};
use crate::{
    job::{JobId, Seq},
    store::{Caller, JobStore, StoreError},
};

/// Bounds of streams; all of them are configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of log text in one step; of frames in one piece, and then those of one more job.
    pub step_bytes: usize,
    /// Memory for steps that other readers may want, too.
    pub cache_bytes_max: u64,
    /// The least time between two looks of one who follows many jobs.
    pub calm: Duration,
    /// Bounds of feeds.
    pub feed: FeedSettings,
}

/// Bounds of feeds.
#[derive(Clone, Copy, Debug)]
pub struct FeedSettings {
    /// Jobs in one page.
    pub jobs_max: usize,
    /// Commits that are looked at for one page.
    pub entries_max: usize,
    /// Memory for pages and texts that other readers may want, too.
    pub cache_bytes_max: u64,
}

/// Opens streams. Clones share their steps.
#[derive(Clone)]
pub struct Streams {
    hub: Arc<Hub>,
    store: JobStore,
    settings: Settings,
    steps: Arc<Steps>,
    pages: Arc<Pages>,
}

/// What a reader has of a job when its stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Nothing: it gets the state, and then the last lines.
    Nothing {
        /// How many lines; more than there are: all of them.
        lines: u64,
    },
    /// What it was sent earlier. If that was never sent of this job, it is told so, and gets what one with nothing gets.
    Cursor {
        /// What it says it has, if that is a cursor at all.
        cursor: Option<Cursor>,
        /// How many lines one with nothing gets.
        lines: u64,
    },
}

impl Streams {
    /// Streams of what is in this store and told by this hub.
    pub fn new(hub: Arc<Hub>, store: JobStore, settings: Settings) -> Self {
        let (steps, pages) = (Steps::new(settings), Pages::new(store.clone(), settings));
        Self { hub, store, settings, steps: Arc::new(steps), pages: Arc::new(pages) }
    }

    /// Somebody who hears of a job's changes and reads it.
    pub fn follow(&self, caller: Caller, id: JobId, pace: Pace) -> Follower {
        Follower::new(&self.hub, self.store.clone(), caller, id, pace)
    }

    /// A reader of a job.
    ///
    /// # Errors
    /// As [`JobStore::read`].
    pub async fn open(
        &self,
        caller: Caller,
        id: JobId,
        since: Since,
        format: FrameFormat,
    ) -> Result<Reader, StoreError> {
        let place = |newest: Cursor| {
            let start = |is_reset, lines| Place::Start { is_reset, seq: newest.seq.saturating_sub(lines) };
            match since {
                Since::Nothing { lines } => start(false, lines),
                Since::Cursor { cursor: Some(cursor), .. } if cursor.is_within(newest) => Place::At(cursor),
                Since::Cursor { lines, .. } => start(true, lines),
            }
        };
        self.reader(caller, id, Format::Frames(format), place).await
    }

    /// A reader of a job's log alone, after this line, which may be ahead of the log.
    ///
    /// # Errors
    /// As [`JobStore::read`].
    pub async fn open_log(
        &self,
        caller: Caller,
        id: JobId,
        after: Seq,
        format: LogFormat,
    ) -> Result<Reader, StoreError> {
        let place = |newest: Cursor| Place::At(Cursor { seq: after.min(newest.seq), ..newest });
        self.reader(caller, id, Format::Log(format), place).await
    }

    /// A reader of what becomes of all jobs that fit.
    ///
    /// # Errors
    /// The store's own.
    pub async fn feed(&self, caller: Caller, filter: FeedFilter, since: FeedSince) -> Result<FeedReader, StoreError> {
        FeedReader::open(&self.hub, self.store.clone(), self.pages.clone(), caller, filter, since).await
    }

    /// A reader of how these jobs stand and of what becomes of them; those that are not there are told as deleted.
    pub fn chosen(&self, caller: Caller, ids: Vec<JobId>) -> ChosenReader {
        let followers = ids.into_iter().map(|id| (id.clone(), self.follow(caller, id, Pace::Calm)));
        let Settings { step_bytes, calm, .. } = self.settings;
        ChosenReader::new(self.store.clone(), caller, followers, step_bytes, calm)
    }

    /// A reader who begins at this place, given the newest there is.
    async fn reader<P>(&self, caller: Caller, id: JobId, format: Format, place: P) -> Result<Reader, StoreError>
    where
        P: FnOnce(Cursor) -> Place,
    {
        let follower = self.follow(caller, id, Pace::Each);
        let snapshot = follower.read().await?;
        let job = snapshot.job();
        Ok(Reader::new(follower, self.steps.clone(), format, place(Cursor::of(job)), job))
    }
}

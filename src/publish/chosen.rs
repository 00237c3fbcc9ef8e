//! Reading chosen jobs over one stream: how they stand, and then what becomes of each.
//!
//! Promises: a reader is told of every chosen job first, and later of each that has more news than log lines, the latest
//! wins; what it has been told it need not say when it comes back. Costs a wake only when one of its jobs moves.

use std::{sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::time::{Instant, sleep_until};

use super::{
    follow::{Follower, Interrupted},
    frame::{Encoder, Format, Frame, FrameFormat, Named, Said},
};
use crate::{
    engine::FeedPlace,
    job::{Document, Job, JobId},
    store::{Caller, JobStore, StoreError},
};

/// A reader of some jobs. Registered as long as it lives.
pub struct ChosenReader {
    store: JobStore,
    caller: Caller,
    chosen: Vec<Chosen>,
    step_bytes: usize,
    calm: Duration,
    /// When it may look at its jobs again.
    rested_at: Instant,
    look: Look,
    is_ready: bool,
}

/// One of the jobs.
struct Chosen {
    id: JobId,
    follower: Follower,
    told: Told,
}

/// What the reader knows of a job.
#[derive(Clone)]
enum Told {
    Nothing,
    /// It stood so; without its result, which may be large and is not told.
    Job(Arc<Job>),
    Gone,
}

impl Told {
    fn of(job: &Job) -> Self {
        Self::Job(Arc::new(Job { result: None, ..job.clone() }))
    }
}

/// Whether all jobs are to be looked at, or how far that has come.
#[derive(Clone, Copy)]
enum Look {
    /// When one has moved.
    Waits,
    /// As soon as it may.
    Due,
    /// Everything up to this place of the feed shows in what is read; this job is the next.
    On(FeedPlace, usize),
}

impl ChosenReader {
    /// A reader of what these follow.
    pub(super) fn new(
        store: JobStore,
        caller: Caller,
        followers: impl IntoIterator<Item = (JobId, Follower)>,
        step_bytes: usize,
        calm: Duration,
    ) -> Self {
        let chosen = followers.into_iter().map(|(id, follower)| Chosen { id, follower, told: Told::Nothing }).collect();
        let rested_at = Instant::now();
        Self { store, caller, chosen, step_bytes, calm, rested_at, look: Look::Due, is_ready: false }
    }

    /// The next piece, once there is one; it never ends. May be given up and called again: nothing is lost.
    ///
    /// # Errors
    /// After one, the reader may come back.
    pub async fn next(&mut self) -> Result<Said, Interrupted> {
        loop {
            if self.chosen.iter().any(|chosen| chosen.follower.is_closed()) {
                return Err(Interrupted::Closing);
            }
            match self.look {
                Look::Waits => {
                    select_all(self.chosen.iter_mut().map(|chosen| Box::pin(chosen.follower.moved()))).await;
                    self.look = Look::Due;
                }
                Look::Due => {
                    sleep_until(self.rested_at).await;
                    self.chosen.iter_mut().for_each(|chosen| chosen.follower.settle());
                    self.look = Look::On(self.store.feed_end(self.caller).await?, 0);
                }
                Look::On(place, begin) => {
                    let said = self.tell(place, begin).await?;
                    if said.frames > 0 {
                        return Ok(said);
                    }
                }
            }
        }
    }

    /// Tells of jobs from this one on, until there is enough to send.
    async fn tell(&mut self, place: FeedPlace, begin: usize) -> Result<Said, Interrupted> {
        let mut encoder = Encoder::new(Format::Frames(FrameFormat::EventStream));
        let mut told = Vec::new();
        for chosen in &self.chosen[begin..] {
            if encoder.len() >= self.step_bytes {
                break;
            }
            told.push(chosen.tell(place, &mut encoder).await?);
        }
        // From here on nothing is waited for, so that what is noted as told is told.
        let next = begin + told.len();
        for (chosen, told) in self.chosen[begin..].iter_mut().zip(told) {
            chosen.told = told;
        }
        self.look = Look::On(place, next);
        if next == self.chosen.len() {
            if !self.is_ready {
                self.is_ready = true;
                encoder.push(place, &Frame::Ready);
            }
            self.look = Look::Waits;
            self.rested_at = Instant::now() + self.calm;
        }
        Ok(Said::of(encoder))
    }
}

impl Chosen {
    /// Tells how a job stands, if that is another than was told.
    async fn tell(&self, place: FeedPlace, encoder: &mut Encoder) -> Result<Told, Interrupted> {
        let now = match self.follower.read().await {
            Ok(snapshot) => Some(snapshot.job().clone()),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let is_another = |old: &Job, new: &Job| old.spec.created_at != new.spec.created_at;
        let has_news = |old: &Job, new: &Job| {
            old.version != new.version
                && (old.result_version != new.result_version || Job { result: None, ..new.clone() }.has_news_since(old))
        };
        let (is_gone, is_news) = match (&self.told, &now) {
            (Told::Nothing | Told::Gone, Some(_)) => (false, true),
            (Told::Nothing | Told::Job(_), None) => (true, false),
            (Told::Gone, None) => (false, false),
            (Told::Job(old), Some(new)) => (is_another(old, new), is_another(old, new) || has_news(old, new)),
        };
        if is_gone {
            encoder.push(place, &Frame::Deleted(Named { id: &self.id }));
        }
        let Some(job) = now else { return Ok(Told::Gone) };
        if !is_news {
            return Ok(self.told.clone());
        }
        encoder.push(place, &Frame::Job(&Document::new(&job).without_result()));
        Ok(Told::of(&job))
    }
}

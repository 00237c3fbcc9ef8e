//! Reading one job as a stream: what the reader lacks, step by step, from the store.

use std::sync::Arc;

use super::{
    cursor::Cursor,
    follow::{Follower, Interrupted},
    frame::Format,
    step::{Place, Step},
    steps::Steps,
};
use crate::{
    job::{Attempt, Job, Timestamp},
    store::{Snapshot, StoreError},
};

/// A reader of one job. Registered as long as it lives.
pub struct Reader {
    follower: Follower,
    steps: Arc<Steps>,
    format: Format,
    place: Place,
    /// Tells the job from a later one of the same id.
    created_at: Timestamp,
    /// The attempt that was last seen.
    attempt: Attempt,
    has_everything: bool,
    is_over: bool,
}

impl Reader {
    /// A reader who stands at this place of this job.
    pub(super) fn new(follower: Follower, steps: Arc<Steps>, format: Format, place: Place, job: &Job) -> Self {
        let (created_at, attempt) = (job.spec.created_at, job.attempt);
        let has_everything = job.is_done() && place == Place::At(Cursor::of(job));
        Self { follower, steps, format, place, created_at, attempt, has_everything, is_over: false }
    }

    /// Whether the job was done when the stream was opened and the reader had all of it: what follows is the end alone.
    pub fn has_everything(&self) -> bool {
        self.has_everything
    }

    /// The next piece, once there is one; `None` after the end. May be given up and called again: nothing is lost.
    ///
    /// # Errors
    /// After one, the reader may come back with the cursor it has.
    pub async fn next(&mut self) -> Result<Option<Arc<Step>>, Interrupted> {
        while !self.is_over {
            let step = match self.step().await {
                Err(Interrupted::Store(StoreError::NotFound(_))) => Arc::new(self.deleted()),
                Err(error) => return Err(error),
                Ok(step) => step,
            };
            self.place = Place::At(step.to);
            self.is_over = step.is_end;
            if !step.texts().is_empty() {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Arc<Step>, Interrupted> {
        let (place, created_at) = (self.place, self.created_at);
        let is_wanted = |snapshot: &Snapshot| {
            let job = snapshot.job();
            job.spec.created_at != created_at || place.lacks(job)
        };
        let snapshot = self.follower.until(is_wanted).await?;
        let job = snapshot.job();
        if job.spec.created_at != created_at {
            return Ok(Arc::new(self.deleted()));
        }
        self.attempt = job.attempt;
        let step = self.steps.get(self.follower.store(), &snapshot, place, self.format).await?;
        if !Place::At(step.to).lacks(job) {
            self.follower.caught_up();
        }
        Ok(step)
    }

    fn deleted(&self) -> Step {
        let at = match self.place {
            Place::Start { seq, .. } => Cursor { version: 0, seq },
            Place::At(cursor) => cursor,
        };
        Step::deleted(at, self.attempt, self.format)
    }
}

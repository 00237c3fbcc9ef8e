//! What a person wants to know of a job's past: each change of its status, stage or attempt, and who made it.

use std::sync::Arc;

use super::{
    Job,
    attempts::{AttemptEnd, PastAttempt},
    change::{Change, Guard},
    id::Attempt,
    state::{Outcome, Stage, State, Status},
    time::{Seconds, Timestamp},
};

/// What is remembered of a job's past beside its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Attempts that are over, in order.
    pub attempts: Vec<PastAttempt>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
}

/// What a job knows of its own timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineEnd {
    /// Entries that it has ever had.
    pub count: u64,
    /// When the last one was made; `None`: there is none.
    pub last_at: Option<Timestamp>,
}

/// A timeline of so many entries takes the next change of the stage only a while after its last entry, so that a worker with
/// a stage for each frame does not drive out what happened before.
const UNHURRIED_ENTRIES: u64 = 32;
const STAGE_SECONDS: Seconds = Seconds(1);

impl History {
    /// Adds what happened after this.
    pub fn extend(&mut self, later: Self) {
        self.attempts.extend(later.attempts);
        self.timeline.extend(later.timeline);
    }
}

/// One thing that happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: TimelineEvent,
    /// The attempt that it is about.
    pub attempt: Attempt,
    /// Where the job stood then.
    pub status: Status,
    /// The step it was in then.
    pub stage: Option<Stage>,
    /// Who did it.
    pub actor: Actor,
    /// Why, if that was said.
    pub reason: Option<Stage>,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineEvent {
    /// It was made.
    Created,
    /// A worker began with it.
    Started,
    /// Its worker came to another step.
    StageChanged,
    /// Its worker was asked to stop.
    CancelRequested,
    /// An attempt ended, and the job with it or not.
    Ended(AttemptEnd),
    /// It went back to the queue after its end.
    Retried,
}

impl TimelineEvent {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Created,
        Self::Started,
        Self::StageChanged,
        Self::CancelRequested,
        Self::Ended(AttemptEnd::Done(Outcome::Succeeded)),
        Self::Ended(AttemptEnd::Done(Outcome::Failed)),
        Self::Ended(AttemptEnd::Done(Outcome::Cancelled)),
        Self::Ended(AttemptEnd::Done(Outcome::TimedOut)),
        Self::Ended(AttemptEnd::Done(Outcome::Lost)),
        Self::Ended(AttemptEnd::Done(Outcome::Expired)),
        Self::Ended(AttemptEnd::GivenBack),
        Self::Retried,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::StageChanged => "stage_changed",
            Self::CancelRequested => "cancel_requested",
            Self::Ended(end) => end.as_str(),
            Self::Retried => "retried",
        }
    }
}

/// Who did something to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever makes, cancels and retries jobs.
    Client,
    /// Its worker, by the name it claimed the job with if it has named its attempt since.
    Worker(Option<Arc<str>>),
    /// The service itself, since something was due.
    Service,
}

impl Actor {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker(_) => "worker",
            Self::Service => "service",
        }
    }

    /// The name of the worker.
    pub fn worker(&self) -> Option<&str> {
        match self {
            Self::Worker(name) => name.as_deref(),
            Self::Client | Self::Service => None,
        }
    }
}

impl Job {
    /// Remembers its creation.
    pub(super) fn remember_creation(&mut self) -> History {
        let timeline = vec![self.remember(TimelineEvent::Created, self.attempt, Actor::Client, None)];
        History { attempts: Vec::new(), timeline }
    }

    /// Remembers a change that has made this of `before`: one thing at the most.
    pub(super) fn remember_change(&mut self, before: &Self, change: &Change, guard: &Guard) -> History {
        let past = before.ended_attempt(self);
        let event = match (&past, before.state, self.state) {
            (Some(_), State::Done(_), _) => TimelineEvent::Retried,
            (Some(past), ..) => TimelineEvent::Ended(past.end),
            (None, State::Queued | State::Processing, State::Done(end)) => {
                TimelineEvent::Ended(AttemptEnd::Done(end.outcome))
            }
            (None, State::Queued, State::Processing) => TimelineEvent::Started,
            _ if self.cancel_requested && !before.cancel_requested => TimelineEvent::CancelRequested,
            _ if self.stage != before.stage && !self.is_hurried() => TimelineEvent::StageChanged,
            _ => return History::default(),
        };
        let attempt = if event == TimelineEvent::Retried { self.attempt } else { before.attempt };
        let (actor, reason) = match change {
            Change::Patch(_) | Change::Append(_) | Change::Heartbeat(_) => {
                let is_named = guard.attempt == Some(before.attempt);
                (Actor::Worker(before.worker.clone().filter(|_| is_named)), None)
            }
            Change::Claim(claim) => (Actor::Worker(Some(claim.worker.clone())), None),
            Change::Cancel(cancel) => (Actor::Client, cancel.reason.clone()),
            Change::Retry(_) => (Actor::Client, None),
            Change::Sweep(_) => (Actor::Service, None),
        };
        let timeline = vec![self.remember(event, attempt, actor, reason)];
        History { attempts: past.into_iter().collect(), timeline }
    }

    /// Whether a change of its stage comes too soon to be remembered.
    fn is_hurried(&self) -> bool {
        let TimelineEnd { count, last_at } = self.timeline;
        count >= UNHURRIED_ENTRIES && last_at.is_some_and(|at| self.updated_at < at.after(STAGE_SECONDS))
    }

    fn remember(
        &mut self,
        event: TimelineEvent,
        attempt: Attempt,
        actor: Actor,
        reason: Option<Stage>,
    ) -> TimelineEntry {
        self.timeline = TimelineEnd { count: self.timeline.count + 1, last_at: Some(self.updated_at) };
        TimelineEntry {
            at: self.updated_at,
            event,
            attempt,
            status: self.status(),
            stage: self.stage.clone(),
            actor,
            reason,
        }
    }
}

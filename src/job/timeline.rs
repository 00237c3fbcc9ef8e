//! What a person wants to know of a job's past: each change of its status, stage or attempt, and who made it.

use std::sync::Arc;

use super::{
    Job,
    attempts::{AttemptEnd, PastAttempt},
    change::{Change, Guard},
    id::Attempt,
    state::{End, Outcome, Stage, State, Status},
    time::Timestamp,
};

/// What is remembered of a job's past beside its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Attempts that are over, in order.
    pub attempts: Vec<PastAttempt>,
    /// What happened, in order.
    pub timeline: Vec<TimelineEntry>,
    /// How the job ended each time that it did.
    pub ends: Vec<JobEnd>,
}

/// An end of a job, which a retry may have taken back since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// When its last attempt began; `None`: nobody was at it.
    pub started_at: Option<Timestamp>,
    /// When it had last entered the queue.
    pub queued_at: Timestamp,
}

/// What a job knows of its own timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineEnd {
    /// Entries that it has ever had.
    pub count: u64,
    /// Those of this attempt that tell of its stage.
    pub stages: u32,
    /// When the last of these was made.
    pub stage_at: Option<Timestamp>,
    /// Whether the stage is another one by now.
    pub is_behind: bool,
}

/// So many changes of an attempt's stage are taken as they come. After them one is taken when the last is a second old, and a
/// sixteenth of the time that the attempt has taken: a worker with a stage for each frame has less than two hundred in a
/// day, and does not drive out what happened before.
const UNHURRIED_STAGES: u32 = 32;
const STAGE_MS: u64 = 1000;
const STAGE_SHARE: u64 = 16;

impl History {
    /// Adds what happened after this.
    pub fn extend(&mut self, later: Self) {
        self.attempts.extend(later.attempts);
        self.timeline.extend(later.timeline);
        self.ends.extend(later.ends);
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
        History { timeline, ..History::default() }
    }

    /// Remembers a change that has made this of `before`: one thing at the most.
    pub(super) fn remember_change(&mut self, before: &Self, change: &Change, guard: &Guard) -> History {
        let past = before.ended_attempt(self);
        if past.is_some() {
            let count = self.timeline.count;
            self.timeline = TimelineEnd { count, ..TimelineEnd::default() };
        }
        let has_moved = self.version > before.version;
        self.timeline.is_behind |= self.stage != before.stage;
        let is_told = has_moved && self.timeline.is_behind && !self.is_hurried();
        let event = match (&past, before.state, self.state) {
            (Some(_), State::Done(_), _) => TimelineEvent::Retried,
            (Some(past), ..) => TimelineEvent::Ended(past.end),
            (None, State::Queued | State::Processing, State::Done(end)) => {
                TimelineEvent::Ended(AttemptEnd::Done(end.outcome))
            }
            (None, State::Queued, State::Processing) => TimelineEvent::Started,
            _ if self.cancel_requested && !before.cancel_requested => TimelineEvent::CancelRequested,
            _ if is_told => TimelineEvent::StageChanged,
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
        let ends = if before.is_done() { None } else { self.last_end() };
        History { attempts: past.into_iter().collect(), timeline, ends: ends.into_iter().collect() }
    }

    /// How it ended, if it has.
    pub fn last_end(&self) -> Option<JobEnd> {
        let End { outcome, at, .. } = self.state.end()?;
        Some(JobEnd { outcome, at, started_at: self.started_at, queued_at: self.queued_at })
    }

    /// Whether a change of its stage comes too soon to be remembered.
    fn is_hurried(&self) -> bool {
        let TimelineEnd { stages, stage_at: Some(stage_at), .. } = self.timeline else { return false };
        let since = |at: Timestamp| self.updated_at.0.saturating_sub(at.0);
        let pause = STAGE_MS.max(self.started_at.map_or(0, since) / STAGE_SHARE);
        stages >= UNHURRIED_STAGES && since(stage_at) < pause
    }

    fn remember(
        &mut self,
        event: TimelineEvent,
        attempt: Attempt,
        actor: Actor,
        reason: Option<Stage>,
    ) -> TimelineEntry {
        self.timeline.count += 1;
        if event == TimelineEvent::StageChanged {
            self.timeline.stages = self.timeline.stages.saturating_add(1);
            self.timeline.stage_at = Some(self.updated_at);
        }
        self.timeline.is_behind = false;
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

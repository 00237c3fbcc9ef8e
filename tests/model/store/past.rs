//! What is remembered of a job's past, in plain words: each change of its status, stage, attempt or cancel flag, and how each
//! attempt ended.

use milepost::job::{PastAttempt, TimelineEntry};
use serde_json::Value;

use crate::model::{
    plain::Model,
    words::{Ask, Request},
};

/// So many changes of an attempt's stage are taken as they come; after them one a second, or fewer.
const UNHURRIED: usize = 32;

/// What happened to one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Past {
    pub(super) timeline: Vec<Happening>,
    pub(super) attempts: Vec<Over>,
    /// Whether the stage has been another one since it was last told.
    is_behind: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Happening {
    at: u64,
    event: &'static str,
    attempt: u32,
    status: &'static str,
    stage: Option<String>,
    /// Who did it, and the name if it was a worker with one.
    actor: (&'static str, Option<String>),
    reason: Option<String>,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Over {
    attempt: u32,
    worker: Option<String>,
    started_at: Option<u64>,
    ended_at: u64,
    end: &'static str,
    error: Value,
    hundredths: u32,
}

impl Past {
    /// Of a job that was just made.
    pub(super) fn of(made: &Model) -> Self {
        let mut past = Self::default();
        past.tell("created", made.attempt, made, ("client", None), None);
        past
    }

    /// Takes note of what a request has made of a job.
    pub(super) fn take(&mut self, before: &Model, request: &Request, after: &Model) {
        let is_over = before.attempt != after.attempt;
        if is_over {
            self.attempts.push(Over::of(before, after));
        }
        self.is_behind = after.stage != before.stage || (self.is_behind && !is_over);
        let event = match (before.status, after.status) {
            _ if is_over && before.is_done() => "retried",
            _ if is_over => Over::of(before, after).end,
            _ if after.is_done() && !before.is_done() => after.outcome.unwrap(),
            ("queued", "processing") => "started",
            _ if after.cancel_requested && !before.cancel_requested => "cancel_requested",
            _ if self.is_behind && after.version > before.version && !self.is_hurried(after) => "stage_changed",
            _ => return,
        };
        let attempt = if event == "retried" { after.attempt } else { before.attempt };
        let by_worker = |name: Option<String>| (("worker", name), None);
        let (actor, reason) = match &request.ask {
            Ask::Patch(_) | Ask::Append(..) | Ask::Heartbeat(_) => {
                by_worker(before.worker.clone().filter(|_| request.attempt == Some(before.attempt)))
            }
            Ask::Claim { worker, .. } => by_worker(Some((*worker).to_owned())),
            Ask::Cancel { reason } => (("client", None), reason.clone()),
            Ask::Retry { .. } => (("client", None), None),
            Ask::Sweep { .. } => (("service", None), None),
        };
        self.tell(event, attempt, after, actor, reason);
    }

    fn tell(
        &mut self,
        event: &'static str,
        attempt: u32,
        after: &Model,
        actor: (&'static str, Option<String>),
        reason: Option<String>,
    ) {
        self.is_behind = false;
        let (status, stage) = (after.status, after.stage.clone());
        self.timeline.push(Happening { at: after.updated_at, event, attempt, status, stage, actor, reason });
    }

    fn is_hurried(&self, now: &Model) -> bool {
        let of_stage = |told: &&Happening| told.attempt == now.attempt && told.event == "stage_changed";
        let told: Vec<_> = self.timeline.iter().filter(of_stage).collect();
        let since = |at: u64| now.updated_at - at;
        let pause = 1000.max(now.started_at.map_or(0, since) / 16);
        told.len() >= UNHURRIED && told.last().is_some_and(|last| since(last.at) < pause)
    }
}

impl From<&TimelineEntry> for Happening {
    fn from(entry: &TimelineEntry) -> Self {
        Self {
            at: entry.at.0,
            event: entry.event.as_str(),
            attempt: entry.attempt.0,
            status: entry.status.as_str(),
            stage: entry.stage.as_ref().map(|stage| stage.as_str().to_owned()),
            actor: (entry.actor.as_str(), entry.actor.worker().map(str::to_owned)),
            reason: entry.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl Over {
    fn of(before: &Model, after: &Model) -> Self {
        let is_lost = after.lost + after.lost_silent > before.lost + before.lost_silent;
        let slow_at = before.started_at.zip(before.rules.timeout_seconds);
        let is_slow = slow_at.is_some_and(|(at, span)| at + u64::from(span) * 1000 <= after.queued_at);
        let (end, ended_at) = match before.outcome.zip(before.finished_at) {
            Some(end) => end,
            None if !is_lost => ("given_back", after.queued_at),
            None => (if is_slow { "timed_out" } else { "lost" }, after.queued_at),
        };
        Self {
            attempt: before.attempt,
            worker: before.worker.clone(),
            started_at: before.started_at,
            ended_at,
            end,
            error: before.error.clone(),
            hundredths: before.hundredths,
        }
    }
}

impl From<&PastAttempt> for Over {
    fn from(past: &PastAttempt) -> Self {
        Self {
            attempt: past.attempt.0,
            worker: past.worker.as_deref().map(str::to_owned),
            started_at: past.started_at.map(|at| at.0),
            ended_at: past.ended_at.0,
            end: past.end.as_str(),
            error: past.error.as_ref().map_or(Value::Null, |error| error.to_value()),
            hundredths: past.progress.hundredths().into(),
        }
    }
}

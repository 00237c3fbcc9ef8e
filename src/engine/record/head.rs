//! The hot part of a job.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Detail, Table, checked, damaged, seal_padded};
use crate::{
    engine::{EngineError, Place, Stored, TimelinePlace},
    job::{
        Attempt, End, Job, Json, LogWindow, Mark, Outcome, Progress, Seconds, Stage, State, Supervision, Tenant,
        TimelineEnd, Timestamp, Writer,
    },
};

/// The hot part of a job: what a change of progress or a log line rewrites.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct Head<'a> {
    state: HeadState,
    progress: u16,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    attempt: u32,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    lease_expires_at: Option<u64>,
    fenced: bool,
    cancel_requested: bool,
    /// Twice the version of its last change, and one more where there is one.
    result: u64,
    version: u64,
    queued_at: u64,
    started_at: Option<u64>,
    updated_at: u64,
    log_count: u64,
    log_dropped: u64,
    log_written: u64,
    log_marks: Vec<(u64, u64)>,
    #[serde(borrow)]
    log_writers: Vec<(Cow<'a, str>, u64)>,
    log_rows: u64,
    log_tail: u64,
    log_skips: [u64; 2],
    /// Stands after the rest, and only where it says something: most jobs have no deadlines.
    #[serde(skip)]
    more: More,
    /// Stands after that, since format 6, if there is any: its counters and its place.
    #[serde(skip)]
    timeline: HeadTimeline,
    /// Stands after that, since format 7, if it is known; 0: it is not.
    #[serde(skip)]
    expected_seconds: u32,
    /// Stands last: twice the entries that tell of the attempt's stage, and one more where it is another one by now.
    #[serde(skip)]
    stages: u64,
}

/// What a head has since format 3.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct More {
    lease_seconds: Option<u32>,
    cancel_by: Option<u64>,
    is_silent: bool,
    losses: u32,
    silent_losses: u32,
    armed_at: Option<u64>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct HeadTimeline {
    count: u64,
    /// When the last entry was made that tells of the attempt's stage.
    stage_at: Option<u64>,
    place: TimelinePlace,
}

#[derive(Serialize, Deserialize)]
enum HeadState {
    Queued,
    Processing,
    Done { outcome: HeadOutcome, at: u64, expires_at: Option<u64> },
}

/// In the order of their numbers in the store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum HeadOutcome {
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    Lost,
    Expired,
}

/// The length that a head of this one is given, so that it keeps its place in its page while the job goes on: one that grows
/// makes SQLite move others to make room. Seven, five or four of these lengths fill a page.
fn padded(length: usize) -> usize {
    const STEP: usize = 56;
    const FIRST: usize = 128;
    FIRST + length.saturating_sub(FIRST).next_multiple_of(STEP)
}

fn says_something(rest: &[u8]) -> bool {
    rest.iter().any(|byte| *byte != 0)
}

impl<'a> Head<'a> {
    /// Seals the head of a job.
    pub(in crate::engine) fn seal(job: &'a Job, place: Place, into: &mut Vec<u8>) -> Result<(), EngineError> {
        Self::of(job, place).seal_as_it_is(place.number, into)
    }

    /// Seals it anew, with its timeline at another place.
    pub(in crate::engine) fn seal_at(
        mut self,
        number: u64,
        timeline: TimelinePlace,
        into: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        self.timeline.place = timeline;
        self.seal_as_it_is(number, into)
    }

    fn seal_as_it_is(&self, number: u64, into: &mut Vec<u8>) -> Result<(), EngineError> {
        // What says nothing is zeros, and need not be written.
        if self.expected_seconds > 0 || self.stages > 0 {
            let value = (self, &self.more, &self.timeline, self.expected_seconds, self.stages);
            seal_padded(Table::Heads, number, &value, padded, into)
        } else if self.timeline != HeadTimeline::default() {
            seal_padded(Table::Heads, number, &(self, &self.more, &self.timeline), padded, into)
        } else {
            seal_padded(Table::Heads, number, &(self, &self.more), padded, into)
        }
    }

    /// Opens the head of a job.
    pub(in crate::engine) fn open(number: u64, bytes: &'a [u8]) -> Result<Self, EngineError> {
        let value = checked(Table::Heads, number, bytes)?;
        let damaged = |error: postcard::Error| damaged(Table::Heads, number, &error.to_string());
        let (mut head, mut rest) = postcard::take_from_bytes::<Self>(value).map_err(damaged)?;
        // After what says something come zeros, or in heads from before format 8 nothing.
        if says_something(rest) {
            (head.more, rest) = postcard::take_from_bytes(rest).map_err(damaged)?;
        }
        if says_something(rest) {
            (head.timeline, rest) = postcard::take_from_bytes(rest).map_err(damaged)?;
        }
        if says_something(rest) {
            (head.expected_seconds, rest) = postcard::take_from_bytes(rest).map_err(damaged)?;
        }
        if says_something(rest) {
            (head.stages, _) = postcard::take_from_bytes(rest).map_err(damaged)?;
        }
        Ok(head)
    }

    fn of(job: &'a Job, place: Place) -> Self {
        let log = &job.log;
        let Supervision { lease_seconds, cancel_by, is_silent, losses, silent_losses } = job.supervision;
        Self {
            state: match job.state {
                State::Queued => HeadState::Queued,
                State::Processing => HeadState::Processing,
                State::Done(End { outcome, at, expires_at }) => {
                    HeadState::Done { outcome: outcome.into(), at: at.0, expires_at: expires_at.map(|at| at.0) }
                }
            },
            progress: job.progress.hundredths(),
            stage: job.stage.as_ref().map(|stage| stage.as_str().into()),
            attempt: job.attempt.0,
            worker: job.worker.as_deref().map(Cow::from),
            lease_expires_at: job.lease_expires_at.map(|at| at.0),
            fenced: job.fenced,
            cancel_requested: job.cancel_requested,
            result: job.result_version << 1 | u64::from(job.result.is_some()),
            version: job.version,
            queued_at: job.queued_at.0,
            started_at: job.started_at.map(|at| at.0),
            updated_at: job.updated_at.0,
            log_count: log.count,
            log_dropped: log.dropped,
            log_written: log.written,
            log_marks: log.marks.iter().map(|mark| (mark.seq, mark.written)).collect(),
            log_writers: log.writers.iter().map(|(writer, count)| (writer.as_str().into(), *count)).collect(),
            log_rows: place.rows,
            log_tail: place.tail,
            log_skips: place.skips,
            more: More {
                lease_seconds: lease_seconds.map(|span| span.0),
                cancel_by: cancel_by.map(|at| at.0),
                is_silent,
                losses,
                silent_losses,
                armed_at: place.armed_at.map(|at| at.0),
            },
            timeline: HeadTimeline {
                count: job.timeline.count,
                stage_at: job.timeline.stage_at.map(|at| at.0),
                place: place.timeline,
            },
            expected_seconds: job.expected_seconds.map_or(0, |span| span.0),
            stages: u64::from(job.timeline.stages) << 1 | u64::from(job.timeline.is_behind),
        }
    }

    pub(in crate::engine) fn has_result(&self) -> bool {
        self.result & 1 == 1
    }

    pub(in crate::engine) fn log_dropped(&self) -> u64 {
        self.log_dropped
    }

    pub(in crate::engine) fn place(&self, number: u64) -> Place {
        let armed_at = self.more.armed_at.map(Timestamp);
        let (rows, tail, skips) = (self.log_rows, self.log_tail, self.log_skips);
        Place { number, rows, tail, skips, armed_at, timeline: self.timeline.place }
    }

    /// The whole job from its parts.
    pub(in crate::engine) fn job(
        self,
        number: u64,
        revision: u64,
        tenant: Tenant,
        detail: Detail<'_>,
        result: Option<Json>,
    ) -> Result<Stored, EngineError> {
        let place = self.place(number);
        let damaged = |what: &str| EngineError::Corrupt(format!("heads {number}: {what}"));
        let (spec, labels, error) = detail.parts(number, tenant)?;
        let stage = self.stage.as_deref().map(Stage::try_from).transpose().map_err(|_| damaged("stage"))?;
        let writer = |(name, count): &(Cow<'_, str>, u64)| Writer::try_from(&**name).map(|writer| (writer, *count));
        let writers = self.log_writers.iter().map(writer).collect::<Result<_, _>>().map_err(|_| damaged("writer"))?;
        let job = Job {
            spec: spec.into(),
            state: match self.state {
                HeadState::Queued => State::Queued,
                HeadState::Processing => State::Processing,
                HeadState::Done { outcome, at, expires_at } => State::Done(End {
                    outcome: outcome.into(),
                    at: Timestamp(at),
                    expires_at: expires_at.map(Timestamp),
                }),
            },
            progress: Progress::from_hundredths(self.progress).map_err(|_| damaged("progress"))?,
            expected_seconds: (self.expected_seconds > 0).then_some(Seconds(self.expected_seconds)),
            stage,
            result,
            error,
            labels,
            attempt: Attempt(self.attempt),
            worker: self.worker.map(Into::into),
            lease_expires_at: self.lease_expires_at.map(Timestamp),
            fenced: self.fenced,
            cancel_requested: self.cancel_requested,
            supervision: Supervision {
                lease_seconds: self.more.lease_seconds.map(Seconds),
                cancel_by: self.more.cancel_by.map(Timestamp),
                is_silent: self.more.is_silent,
                losses: self.more.losses,
                silent_losses: self.more.silent_losses,
            },
            log: LogWindow {
                count: self.log_count,
                dropped: self.log_dropped,
                written: self.log_written,
                marks: self.log_marks.iter().map(|&(seq, written)| Mark { seq, written }).collect(),
                writers,
            },
            timeline: TimelineEnd {
                count: self.timeline.count,
                stages: u32::try_from(self.stages >> 1).unwrap_or(u32::MAX),
                stage_at: self.timeline.stage_at.map(Timestamp),
                is_behind: self.stages & 1 == 1,
            },
            version: self.version,
            result_version: self.result >> 1,
            revision,
            queued_at: Timestamp(self.queued_at),
            started_at: self.started_at.map(Timestamp),
            updated_at: Timestamp(self.updated_at),
        };
        Ok(Stored { job: job.into(), place })
    }
}

impl From<Outcome> for HeadOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Lost => Self::Lost,
            Outcome::Expired => Self::Expired,
        }
    }
}

impl From<HeadOutcome> for Outcome {
    fn from(outcome: HeadOutcome) -> Self {
        match outcome {
            HeadOutcome::Succeeded => Self::Succeeded,
            HeadOutcome::Failed => Self::Failed,
            HeadOutcome::Cancelled => Self::Cancelled,
            HeadOutcome::TimedOut => Self::TimedOut,
            HeadOutcome::Lost => Self::Lost,
            HeadOutcome::Expired => Self::Expired,
        }
    }
}

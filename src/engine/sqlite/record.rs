//! Stored values: each carries its format version and a checksum, since SQLite has none on its pages.
//!
//! Promises: what is opened is what was sealed for this very table and row, or the damage is named.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    engine::{EngineError, Place, Stored, TimelinePlace},
    job::{
        Attempt, AttemptEnd, End, Job, JobId, JobKey, Json, Kind, LabelKey, LabelValue, Labels, LogLine, LogWindow,
        Malformed, Mark, Outcome, PastAttempt, Progress, Seconds, Spec, Stage, State, Supervision, Tenant, TimelineEnd,
        Timestamp, Writer,
    },
};

/// Which table a value belongs to; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Heads,
    Details,
    Inputs,
    Results,
    LogRows,
    Once,
    Feed,
    Attempts,
    TimelineRows,
    Tallies,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Details => "details",
            Self::Inputs => "inputs",
            Self::Results => "results",
            Self::LogRows => "log_rows",
            Self::Once => "once",
            Self::Feed => "feed",
            Self::Attempts => "attempts",
            Self::TimelineRows => "timeline_rows",
            Self::Tallies => "tallies",
        }
    }
}

/// Version of all the values below. A new layout gets a new number and a type of its own; old ones stay readable.
const VERSION: u8 = 1;
/// Version byte and checksum before each value.
const HEADER: usize = 5;

/// Seals a value for a row into `into`, which is emptied first.
pub(super) fn seal(table: Table, row: u64, value: &impl Serialize, into: &mut Vec<u8>) -> Result<(), EngineError> {
    seal_padded(table, row, value, |length| length, into)
}

/// As [`seal`], with zeros after the value up to the length that `padded` makes of its own.
fn seal_padded(
    table: Table,
    row: u64,
    value: &impl Serialize,
    padded: fn(usize) -> usize,
    into: &mut Vec<u8>,
) -> Result<(), EngineError> {
    into.clear();
    into.resize(HEADER, VERSION);
    let sealed = postcard::to_extend(value, std::mem::take(into));
    *into = sealed.map_err(|error| EngineError::Corrupt(format!("{} {row}: cannot encode: {error}", table.name())))?;
    into.resize(padded(into.len()), 0);
    let sum = checksum(table, row, &into[HEADER..]);
    into[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Opens the value of a row.
pub(super) fn open<'a, T: Deserialize<'a>>(table: Table, row: u64, bytes: &'a [u8]) -> Result<T, EngineError> {
    let value = checked(table, row, bytes)?;
    postcard::from_bytes(value).map_err(|error| damaged(table, row, &error.to_string()))
}

/// Opens what an idempotency key stands for: digest, id, and the attempt, which values from before format 3 lack.
pub(super) fn open_once(tenant: Tenant, bytes: &[u8]) -> Result<([u8; 32], &str, Attempt), EngineError> {
    let row = u64::from(tenant.0);
    let damaged = |error: postcard::Error| damaged(Table::Once, row, &error.to_string());
    let ((fingerprint, id), rest) =
        postcard::take_from_bytes::<([u8; 32], &str)>(checked(Table::Once, row, bytes)?).map_err(damaged)?;
    let attempt = if rest.is_empty() { 1 } else { postcard::from_bytes(rest).map_err(damaged)? };
    Ok((fingerprint, id, Attempt(attempt)))
}

/// What was sealed, still encoded.
fn checked(table: Table, row: u64, bytes: &[u8]) -> Result<&[u8], EngineError> {
    let damaged = |what: &str| damaged(table, row, what);
    let (header, value) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("too short"))?;
    if header[1..] != checksum(table, row, value).to_le_bytes() {
        return Err(damaged("wrong checksum"));
    }
    if header[0] != VERSION {
        return Err(damaged(&format!("unknown version {}", header[0])));
    }
    Ok(value)
}

pub(super) fn damaged(table: Table, row: u64, what: &str) -> EngineError {
    EngineError::Corrupt(format!("{} {row}: {what}", table.name()))
}

/// CRC-32 (IEEE) over version, table, row and value: a value in the wrong place is as wrong as a flipped bit.
fn checksum(table: Table, row: u64, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION, table as u8]);
    hasher.update(&row.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

/// The hot part of a job: what a change of progress or a log line rewrites.
#[derive(Serialize, Deserialize)]
pub(super) struct Head<'a> {
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

#[derive(Default, Serialize, Deserialize)]
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
#[derive(Serialize, Deserialize)]
enum HeadOutcome {
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
    pub(super) fn seal(job: &'a Job, place: Place, into: &mut Vec<u8>) -> Result<(), EngineError> {
        let head = Self::of(job, place);
        // What says nothing is zeros, and need not be written.
        if head.expected_seconds > 0 || head.stages > 0 {
            let value = (&head, &head.more, &head.timeline, head.expected_seconds, head.stages);
            seal_padded(Table::Heads, place.number, &value, padded, into)
        } else if head.timeline.count > 0 {
            seal_padded(Table::Heads, place.number, &(&head, &head.more, &head.timeline), padded, into)
        } else {
            seal_padded(Table::Heads, place.number, &(&head, &head.more), padded, into)
        }
    }

    /// Opens the head of a job.
    pub(super) fn open(number: u64, bytes: &'a [u8]) -> Result<Self, EngineError> {
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

    pub(super) fn has_result(&self) -> bool {
        self.result & 1 == 1
    }

    pub(super) fn log_dropped(&self) -> u64 {
        self.log_dropped
    }

    pub(super) fn place(&self, number: u64) -> Place {
        let armed_at = self.more.armed_at.map(Timestamp);
        let (rows, tail, skips) = (self.log_rows, self.log_tail, self.log_skips);
        Place { number, rows, tail, skips, armed_at, timeline: self.timeline.place }
    }

    /// The whole job from its parts.
    pub(super) fn job(
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

/// An attempt that is over.
#[derive(Serialize, Deserialize)]
pub(super) struct AttemptRow<'a> {
    attempt: u32,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    started_at: Option<u64>,
    ended_at: u64,
    /// None: its worker gave the job back.
    outcome: Option<HeadOutcome>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    progress: u16,
}

impl<'a> AttemptRow<'a> {
    pub(super) fn of(past: &'a PastAttempt) -> Self {
        let PastAttempt { attempt, worker, started_at, ended_at, end, error, progress } = past;
        Self {
            attempt: attempt.0,
            worker: worker.as_deref().map(Cow::from),
            started_at: started_at.map(|at| at.0),
            ended_at: ended_at.0,
            outcome: match end {
                AttemptEnd::Done(outcome) => Some((*outcome).into()),
                AttemptEnd::GivenBack => None,
            },
            error: error.as_ref().map(|error| error.as_str().into()),
            progress: progress.hundredths(),
        }
    }

    pub(super) fn past(self, number: u64) -> Result<PastAttempt, EngineError> {
        let damaged = |what: &str| damaged(Table::Attempts, number, what);
        let error = self.error.map(|text| Json::from_text(text.into_owned())).transpose();
        Ok(PastAttempt {
            attempt: Attempt(self.attempt),
            worker: self.worker.map(Into::into),
            started_at: self.started_at.map(Timestamp),
            ended_at: Timestamp(self.ended_at),
            end: self.outcome.map_or(AttemptEnd::GivenBack, |outcome| AttemptEnd::Done(outcome.into())),
            error: error.map_err(|_| damaged("error"))?,
            progress: Progress::from_hundredths(self.progress).map_err(|_| damaged("progress"))?,
        })
    }
}

/// The cold part of a job: what it was created with, and what changes a few times in its life.
#[derive(Serialize, Deserialize)]
pub(super) struct Detail<'a> {
    id: Cow<'a, str>,
    kind: Cow<'a, str>,
    priority: i32,
    max_attempts: u32,
    lease_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    queue_ttl_seconds: Option<u32>,
    cancel_grace_seconds: Option<u32>,
    retain_seconds: Option<u32>,
    created_at: u64,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    error: Option<Cow<'a, str>>,
}

impl<'a> Detail<'a> {
    pub(super) fn of(job: &'a Job) -> Self {
        let spec = &job.spec;
        let seconds = |span: Option<Seconds>| span.map(|span| span.0);
        Self {
            id: spec.key.id.as_str().into(),
            kind: spec.kind.as_str().into(),
            priority: spec.priority,
            max_attempts: spec.max_attempts,
            lease_seconds: seconds(spec.lease_seconds),
            timeout_seconds: seconds(spec.timeout_seconds),
            queue_ttl_seconds: seconds(spec.queue_ttl_seconds),
            cancel_grace_seconds: seconds(spec.cancel_grace_seconds),
            retain_seconds: seconds(spec.retain_seconds),
            created_at: spec.created_at.0,
            labels: job.labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
            error: job.error.as_ref().map(|error| error.as_str().into()),
        }
    }

    fn parts(self, number: u64, tenant: Tenant) -> Result<(Spec, Labels, Option<Json>), EngineError> {
        let damaged = |what: &str| EngineError::Corrupt(format!("details {number}: {what}"));
        let seconds = |span: Option<u32>| span.map(Seconds);
        let id = JobId::try_from(&*self.id).map_err(|_| damaged("id"))?;
        let labels = labels(&self.labels);
        let error = self.error.map(|text| Json::from_text(text.into_owned())).transpose();
        let spec = Spec {
            key: JobKey { tenant, id },
            kind: Kind::try_from(&*self.kind).map_err(|_| damaged("kind"))?,
            priority: self.priority,
            max_attempts: self.max_attempts,
            lease_seconds: seconds(self.lease_seconds),
            timeout_seconds: seconds(self.timeout_seconds),
            queue_ttl_seconds: seconds(self.queue_ttl_seconds),
            cancel_grace_seconds: seconds(self.cancel_grace_seconds),
            retain_seconds: seconds(self.retain_seconds),
            created_at: Timestamp(self.created_at),
        };
        Ok((spec, labels.map_err(|_| damaged("labels"))?, error.map_err(|_| damaged("error"))?))
    }
}

/// Labels from their texts.
pub(super) fn labels<T: AsRef<str>>(texts: &[(T, T)]) -> Result<Labels, Malformed> {
    let label = |(key, value): &(T, T)| Ok((LabelKey::try_from(key.as_ref())?, LabelValue::try_from(value.as_ref())?));
    texts.iter().map(label).collect::<Result<BTreeMap<_, _>, _>>().and_then(Labels::try_from)
}

/// The lines that one commit appended to one job, linked to the row before.
#[derive(Serialize, Deserialize)]
pub(super) struct LogRow<'a> {
    pub(super) job: u64,
    /// The job's row before this one; 0: none.
    pub(super) prev: u64,
    /// On rows whose ordinal is a multiple of the first stride: the last rows before it at each stride.
    pub(super) skips: Option<[u64; 2]>,
    pub(super) first: u64,
    at: u64,
    #[serde(borrow)]
    lines: Vec<RowLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct RowLine<'a> {
    /// Milliseconds after the first line of the row.
    after: u64,
    attempt: u32,
    text: &'a str,
}

impl<'a> LogRow<'a> {
    /// A row of these lines; `None` when there are none.
    pub(super) fn of(
        job: u64,
        prev: u64,
        skips: Option<[u64; 2]>,
        mut lines: impl Iterator<Item = &'a LogLine>,
    ) -> Option<Self> {
        let first = lines.next()?;
        let row_line = |line: &'a LogLine| RowLine {
            after: line.at.0.saturating_sub(first.at.0),
            attempt: line.attempt.0,
            text: &line.text,
        };
        let lines = std::iter::once(first).chain(lines).map(row_line).collect();
        Some(Self { job, prev, skips, first: first.seq, at: first.at.0, lines })
    }

    /// The number of its last line.
    pub(super) fn last(&self) -> u64 {
        self.first + (self.lines.len() as u64).saturating_sub(1)
    }

    /// Its lines, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = LogLine> {
        self.lines.iter().enumerate().rev().map(|(index, line)| LogLine {
            seq: self.first + index as u64,
            at: Timestamp(self.at + line.after),
            attempt: Attempt(line.attempt),
            text: line.text.into(),
        })
    }
}

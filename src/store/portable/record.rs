//! A job as a record of an export: everything that is known of it, under the names of the job document where it has one.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Value, value::RawValue};
use thiserror::Error;

use super::{sound, timeline::TimelineRecord};
use crate::job::{
    Attempt, AttemptEnd, End, History, Job, JobId, JobKey, Json, Kind, LabelKey, LabelValue, Labels, LogWindow,
    Malformed, Mark, Outcome, PastAttempt, Progress, Seconds, Seq, Spec, Stage, State, Status, Supervision, Tenant,
    Timestamp, Writer,
};

/// A member that is not what it must be.
#[derive(Debug, Error)]
#[error("{member} {rule}")]
pub struct BadMember {
    member: &'static str,
    rule: Malformed,
}

impl BadMember {
    pub(super) fn new(member: &'static str, rule: &'static str) -> Self {
        Self { member, rule: Malformed(rule) }
    }

    /// Names the member that breaks the rule of its type.
    pub(super) fn of(member: &'static str) -> impl FnOnce(Malformed) -> Self {
        move |rule| Self { member, rule }
    }
}

/// See the module. `input`, `result` and `error` are left out where there is none, since null is a value of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRecord<'a> {
    tenant: Tenant,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    status: Status,
    outcome: Option<Outcome>,
    progress_pct: f64,
    /// Left out where it is not known, as exports of earlier programs do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected_seconds: Option<Seconds>,
    #[serde(borrow)]
    stage: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    priority: i32,
    attempt: Attempt,
    max_attempts: u32,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    lease_seconds: Option<Seconds>,
    timeout_seconds: Option<Seconds>,
    queue_ttl_seconds: Option<Seconds>,
    cancel_grace_seconds: Option<Seconds>,
    retain_seconds: Option<Seconds>,
    lease_expires_at: Option<Moment>,
    fenced: bool,
    cancel_requested: bool,
    /// Left out where it says nothing, as exports of earlier programs do.
    #[serde(default, skip_serializing_if = "SupervisionRecord::is_usual")]
    supervision: SupervisionRecord,
    version: u64,
    /// Exports of earlier programs do not have it.
    #[serde(default)]
    result_version: Option<u64>,
    revision: u64,
    created_at: Moment,
    queued_at: Moment,
    started_at: Option<Moment>,
    updated_at: Moment,
    finished_at: Option<Moment>,
    expires_at: Option<Moment>,
    #[serde(borrow)]
    log: LogRecord<'a>,
    /// Left out where there are none, as exports of earlier programs do.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptRecord<'a>>,
    /// Left out where it is empty, as exports of earlier programs do.
    #[serde(borrow, default, skip_serializing_if = "TimelineRecord::is_empty")]
    timeline: TimelineRecord<'a>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupervisionRecord {
    lease_seconds: Option<Seconds>,
    cancel_by: Option<Moment>,
    is_silent: bool,
    losses: u32,
    silent_losses: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogRecord<'a> {
    count: Seq,
    dropped: Seq,
    written: u64,
    marks: Vec<(Seq, u64)>,
    #[serde(borrow)]
    writers: Vec<(Cow<'a, str>, Seq)>,
}

/// A timestamp as the job document has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Timestamp::try_from(&*text).map(Self).map_err(D::Error::custom)
    }
}

/// Takes null for a value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl<'a> JobRecord<'a> {
    /// The record of a job. Names every member of it, so that a new one cannot be forgotten here.
    pub(super) fn new(job: &'a Job, input: Option<&'a Json>, history: &'a History) -> Self {
        let Job {
            spec,
            state,
            progress,
            expected_seconds,
            stage,
            result,
            error,
            labels,
            attempt,
            worker,
            lease_expires_at,
            fenced,
            cancel_requested,
            supervision,
            log,
            timeline,
            version,
            result_version,
            revision,
            queued_at,
            started_at,
            updated_at,
        } = job;
        let Spec {
            key: JobKey { tenant, id },
            kind,
            priority,
            max_attempts,
            lease_seconds,
            timeout_seconds,
            queue_ttl_seconds,
            cancel_grace_seconds,
            retain_seconds,
            created_at,
        } = &**spec;
        let end = state.end();
        let labels = labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Self {
            tenant: *tenant,
            id: id.as_str().into(),
            kind: kind.as_str().into(),
            status: state.status(),
            outcome: end.map(|end| end.outcome),
            progress_pct: f64::from(progress.hundredths()) / 100.0,
            expected_seconds: *expected_seconds,
            stage: stage.as_ref().map(|stage| stage.as_str().into()),
            input: input.map(Json::as_raw),
            result: result.as_ref().map(Json::as_raw),
            error: error.as_ref().map(Json::as_raw),
            labels: labels.collect(),
            priority: *priority,
            attempt: *attempt,
            max_attempts: *max_attempts,
            worker: worker.as_deref().map(Into::into),
            lease_seconds: *lease_seconds,
            timeout_seconds: *timeout_seconds,
            queue_ttl_seconds: *queue_ttl_seconds,
            cancel_grace_seconds: *cancel_grace_seconds,
            retain_seconds: *retain_seconds,
            lease_expires_at: lease_expires_at.map(Moment),
            fenced: *fenced,
            cancel_requested: *cancel_requested,
            supervision: SupervisionRecord::new(supervision),
            version: *version,
            result_version: Some(*result_version),
            revision: *revision,
            created_at: Moment(*created_at),
            queued_at: Moment(*queued_at),
            started_at: started_at.map(Moment),
            updated_at: Moment(*updated_at),
            finished_at: end.map(|end| Moment(end.at)),
            expires_at: end.and_then(|end| end.expires_at).map(Moment),
            log: LogRecord::new(log),
            attempts: history.attempts.iter().map(AttemptRecord::new).collect(),
            timeline: TimelineRecord::new(*timeline, &history.timeline),
        }
    }

    /// The job of the record, its input and its past.
    pub(super) fn into_job(self) -> Result<(Job, Option<Json>, History), BadMember> {
        let state = self.state()?;
        let labels = self.labels.iter().map(|(key, value)| {
            let key = LabelKey::try_from(&**key).map_err(BadMember::of("labels"))?;
            Ok((key, LabelValue::try_from(&**value).map_err(BadMember::of("labels"))?))
        });
        let labels = Labels::try_from(labels.collect::<Result<BTreeMap<_, _>, _>>()?);
        let stage = self.stage.as_deref().map(Stage::try_from).transpose();
        let spec = Spec {
            key: JobKey { tenant: self.tenant, id: JobId::try_from(&*self.id).map_err(BadMember::of("id"))? },
            kind: Kind::try_from(&*self.kind).map_err(BadMember::of("kind"))?,
            priority: self.priority,
            max_attempts: self.max_attempts,
            lease_seconds: self.lease_seconds,
            timeout_seconds: self.timeout_seconds,
            queue_ttl_seconds: self.queue_ttl_seconds,
            cancel_grace_seconds: self.cancel_grace_seconds,
            retain_seconds: self.retain_seconds,
            created_at: self.created_at.0,
        };
        let (timeline_end, timeline) = self.timeline.into_timeline()?;
        let job = Job {
            spec: Arc::new(spec),
            state,
            progress: Progress::try_from(self.progress_pct).map_err(BadMember::of("progress_pct"))?,
            expected_seconds: self.expected_seconds,
            stage: stage.map_err(BadMember::of("stage"))?,
            result: json("result", self.result)?,
            error: json("error", self.error)?,
            labels: labels.map_err(BadMember::of("labels"))?,
            attempt: self.attempt,
            worker: worker(self.worker)?,
            lease_expires_at: self.lease_expires_at.map(|at| at.0),
            fenced: self.fenced,
            cancel_requested: self.cancel_requested,
            supervision: self.supervision.into_supervision(),
            log: self.log.into_window()?,
            timeline: timeline_end,
            version: self.version,
            // As if it had just changed: then every reader gets it.
            result_version: self.result_version.unwrap_or(self.version),
            revision: self.revision,
            queued_at: self.queued_at.0,
            started_at: self.started_at.map(|at| at.0),
            updated_at: self.updated_at.0,
        };
        let attempts = self.attempts.into_iter().map(AttemptRecord::into_past).collect::<Result<Vec<_>, _>>()?;
        let history = History { attempts, timeline, ends: job.last_end().into_iter().collect() };
        sound::check(&job, &history)?;
        Ok((job, json("input", self.input)?, history))
    }

    fn state(&self) -> Result<State, BadMember> {
        match (self.status, self.outcome, self.finished_at) {
            (Status::Queued, None, None) => Ok(State::Queued),
            (Status::Processing, None, None) => Ok(State::Processing),
            (status, Some(outcome), Some(Moment(at))) if outcome.status() == status => {
                Ok(State::Done(End { outcome, at, expires_at: self.expires_at.map(|at| at.0) }))
            }
            _ => Err(BadMember::new("status", "one that fits outcome and finished_at")),
        }
    }
}

/// An attempt that is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptRecord<'a> {
    attempt: Attempt,
    #[serde(borrow)]
    worker: Option<Cow<'a, str>>,
    started_at: Option<Moment>,
    ended_at: Moment,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    progress_pct: f64,
}

impl<'a> AttemptRecord<'a> {
    fn new(past: &'a PastAttempt) -> Self {
        let PastAttempt { attempt, worker, started_at, ended_at, end, error, progress } = past;
        Self {
            attempt: *attempt,
            worker: worker.as_deref().map(Into::into),
            started_at: started_at.map(Moment),
            ended_at: Moment(*ended_at),
            outcome: end.as_str().into(),
            error: error.as_ref().map(Json::as_raw),
            progress_pct: f64::from(progress.hundredths()) / 100.0,
        }
    }

    fn into_past(self) -> Result<PastAttempt, BadMember> {
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == self.outcome);
        let end = match (outcome, &*self.outcome) {
            (Some(outcome), _) => AttemptEnd::Done(outcome),
            (None, "given_back") => AttemptEnd::GivenBack,
            (None, _) => return Err(BadMember::new("outcome", "one of an attempt")),
        };
        Ok(PastAttempt {
            attempt: self.attempt,
            worker: worker(self.worker)?,
            started_at: self.started_at.map(|at| at.0),
            ended_at: self.ended_at.0,
            end,
            error: json("error", self.error)?,
            progress: Progress::try_from(self.progress_pct).map_err(BadMember::of("progress_pct"))?,
        })
    }
}

impl SupervisionRecord {
    fn new(supervision: &Supervision) -> Self {
        let Supervision { lease_seconds, cancel_by, is_silent, losses, silent_losses } = *supervision;
        Self { lease_seconds, cancel_by: cancel_by.map(Moment), is_silent, losses, silent_losses }
    }

    fn is_usual(&self) -> bool {
        self.clone().into_supervision() == Supervision::default()
    }

    fn into_supervision(self) -> Supervision {
        let Self { lease_seconds, cancel_by, is_silent, losses, silent_losses } = self;
        Supervision { lease_seconds, cancel_by: cancel_by.map(|at| at.0), is_silent, losses, silent_losses }
    }
}

impl<'a> LogRecord<'a> {
    fn new(log: &'a LogWindow) -> Self {
        let LogWindow { count, dropped, written, marks, writers } = log;
        Self {
            count: *count,
            dropped: *dropped,
            written: *written,
            marks: marks.iter().map(|mark| (mark.seq, mark.written)).collect(),
            writers: writers.iter().map(|(writer, count)| (writer.as_str().into(), *count)).collect(),
        }
    }

    fn into_window(self) -> Result<LogWindow, BadMember> {
        let writers = self.writers.iter().map(|(writer, count)| Ok((Writer::try_from(&**writer)?, *count)));
        Ok(LogWindow {
            count: self.count,
            dropped: self.dropped,
            written: self.written,
            marks: self.marks.into_iter().map(|(seq, written)| Mark { seq, written }).collect(),
            writers: writers.collect::<Result<_, _>>().map_err(BadMember::of("writers"))?,
        })
    }
}

fn json(member: &'static str, raw: Option<&RawValue>) -> Result<Option<Json>, BadMember> {
    let Some(raw) = raw else { return Ok(None) };
    // As deep as everything that reads it later can follow, and without the white space that could end what it stands in.
    let json = serde_json::from_str::<Value>(raw.get()).and_then(|value| Json::try_from(&value));
    json.map(Some).map_err(|_| BadMember::new(member, "JSON that is not nested too deeply"))
}

/// The name of a worker, as a claim has it.
pub(super) fn worker(name: Option<Cow<'_, str>>) -> Result<Option<Arc<str>>, BadMember> {
    let writer = name.as_deref().map(Writer::try_from).transpose().map_err(BadMember::of("worker"))?;
    Ok(writer.map(|writer| writer.as_str().into()))
}

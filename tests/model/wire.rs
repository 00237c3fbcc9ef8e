//! Between the plain words of the model and the types of the domain, as the HTTP layer stands between them and clients.

use std::{collections::BTreeMap, sync::Arc};

use milepost::job::{
    Append, Applied, Attempt, Cancel, Change, Claim, Document, Edit, Guard, Heartbeat, Job, JobId, JobKey, Json, Kind,
    LabelEdit, LabelKey, LabelValue, Labels, Limits, LogLine, NewJob, Origin, Patch, Progress, Rejection, Retention,
    Retry, Seconds, Spec, Stage, Status, Sweep, Tenant, Timestamp, Writer,
};
use serde_json::Value;

use super::words::{Ask, Body, Line, Report, Request, Rules, Sent};

/// When every story begins.
pub(super) const DAWN: u64 = 1_800_000_000_000;

/// What a job is made with.
#[derive(Clone, Debug, Default)]
pub(super) struct Birth {
    pub(super) processing: bool,
    pub(super) worker: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) lines: Vec<String>,
}

impl Birth {
    /// The job and its first lines; `worker` stands for a claim.
    pub(super) fn make(&self, rules: &Rules) -> Applied {
        let mut made = Job::create(&self.new_job("a-job", "restyle", rules), &limits(rules), Timestamp(DAWN));
        made.next.worker = self.worker.as_deref().map(Arc::from);
        made
    }

    /// What a client asks for who wants it.
    pub(super) fn new_job(&self, id: &str, kind: &str, rules: &Rules) -> NewJob {
        let spec = Spec {
            key: JobKey { tenant: Tenant::default(), id: JobId::try_from(id).unwrap() },
            kind: Kind::try_from(kind).unwrap(),
            priority: -3,
            max_attempts: rules.max_attempts,
            lease_seconds: rules.lease_seconds.map(Seconds),
            timeout_seconds: rules.timeout_seconds.map(Seconds),
            queue_ttl_seconds: rules.queue_ttl_seconds.map(Seconds),
            cancel_grace_seconds: rules.cancel_grace_seconds.map(Seconds),
            retain_seconds: rules.retain_seconds.map(Seconds),
            created_at: Timestamp(0),
        };
        let labels: BTreeMap<_, _> =
            self.labels.iter().map(|(key, value)| (label_key(key), label_value(value))).collect();
        NewJob {
            spec,
            input: None,
            labels: Labels::try_from(labels).unwrap(),
            processing: self.processing,
            stage: self.stage.as_deref().map(stage),
            lines: lines(&Sent { lines: self.lines.clone(), writer: None }, rules),
        }
    }
}

/// A job that a worker is at, with nothing said or leased yet.
pub(super) fn processing(rules: &Rules) -> Job {
    Birth { processing: true, ..Birth::default() }.make(rules).next
}

/// Bounds that nothing in a short test comes near to, and no lease.
pub(super) fn wide() -> Rules {
    Rules {
        max_attempts: 2,
        lease_seconds: None,
        timeout_seconds: None,
        queue_ttl_seconds: None,
        cancel_grace_seconds: None,
        usual_cancel_grace_seconds: 60,
        retain_seconds: None,
        kind_retain_seconds: None,
        failed_retain_seconds: None,
        line_bytes_max: 1 << 10,
        job_lines_max: 1 << 10,
        job_log_bytes_max: 1 << 20,
        late_log_seconds: 60,
        result_bytes_max: 1 << 10,
        error_bytes_max: 1 << 10,
        writers_max: 64,
    }
}

/// As [`wide`], with a lease of half a minute.
pub(super) fn leased() -> Rules {
    Rules { lease_seconds: Some(30), ..wide() }
}

/// A request that names neither attempt nor version, at the very beginning.
pub(super) fn ask(ask: Ask) -> Request {
    Request { ask, attempt: None, if_match: None, now: DAWN }
}

/// A PATCH that names only a status.
pub(super) fn to(status: &'static str) -> Request {
    ask(Ask::Patch(Body { status: Some(status), ..Body::default() }))
}

/// Lines of nobody who counts them.
pub(super) fn said(lines: &[&str]) -> Sent {
    Sent { lines: lines.iter().map(|&line| line.to_owned()).collect(), writer: None }
}

/// Asks the domain.
pub(super) fn put(job: &Job, request: &Request, rules: &Rules) -> Result<Applied, Rejection> {
    job.apply(&change(&request.ask, rules), &guard(request), &limits(rules), Timestamp(request.now))
}

pub(super) fn guard(request: &Request) -> Guard {
    Guard { attempt: request.attempt.map(Attempt), versions: request.if_match.clone() }
}

pub(super) fn limits(rules: &Rules) -> Limits {
    Limits {
        line_bytes_max: rules.line_bytes_max,
        job_lines_max: rules.job_lines_max,
        job_log_bytes_max: rules.job_log_bytes_max,
        late_log_seconds: Seconds(rules.late_log_seconds),
        result_bytes_max: rules.result_bytes_max,
        error_bytes_max: rules.error_bytes_max,
        writers_max: rules.writers_max,
        cancel_grace_seconds: Seconds(rules.usual_cancel_grace_seconds),
        retention: Retention {
            kinds: rules
                .kind_retain_seconds
                .map(|span| (Kind::try_from("restyle").unwrap(), span.map(Seconds)))
                .into_iter()
                .collect(),
            failed_seconds: rules.failed_retain_seconds.map(Seconds),
            ..Retention::FOR_EVER
        },
    }
}

/// The document of a job, as a client parses it.
pub(super) fn document(job: &Job) -> Value {
    serde_json::from_slice(&Document::new(job).encode()).unwrap()
}

/// A line in the words of the model.
pub(super) fn plain(line: &LogLine) -> Line {
    Line { seq: line.seq, at: line.at.0, attempt: line.attempt.0, text: line.text.to_string() }
}

pub(super) fn json(value: &Value) -> Json {
    Json::try_from(value).unwrap()
}

pub(super) fn stage(text: &str) -> Stage {
    Stage::try_from(text).unwrap()
}

pub(super) fn writer(name: &str) -> Writer {
    Writer::try_from(name).unwrap()
}

pub(super) fn label_key(text: &str) -> LabelKey {
    LabelKey::try_from(text).unwrap()
}

pub(super) fn label_value(text: &str) -> LabelValue {
    LabelValue::try_from(text).unwrap()
}

pub(super) fn change(ask: &Ask, rules: &Rules) -> Change {
    match ask {
        Ask::Patch(body) => Change::Patch(patch(body, rules)),
        Ask::Append(sent, report) => {
            Change::Append(Append { lines: lines(sent, rules), progress: progress(report), stage: stage_edit(report) })
        }
        Ask::Heartbeat(report) => {
            Change::Heartbeat(Heartbeat { progress: progress(report), stage: stage_edit(report) })
        }
        Ask::Cancel { reason } => Change::Cancel(Cancel { reason: reason.as_deref().map(stage) }),
        Ask::Retry { attempt } => Change::Retry(Retry { attempt: attempt.map(Attempt) }),
        Ask::Claim { worker, lease_seconds } => {
            Change::Claim(Claim { worker: Arc::from(*worker), lease_seconds: Seconds(*lease_seconds) })
        }
        Ask::Sweep { open_since } => Change::Sweep(Sweep { open_since: Timestamp(*open_since) }),
    }
}

fn patch(body: &Body, rules: &Rules) -> Patch {
    let value = |member: &Option<Value>| match member {
        None => Edit::Keep,
        Some(patch) if body.merge => Edit::Merge(patch.clone()),
        Some(Value::Null) => Edit::Clear,
        Some(value) => Edit::Set(json(value)),
    };
    let label = |(key, value): &(String, Option<String>)| (label_key(key), value.as_deref().map(label_value));
    Patch {
        status: body.status.map(|word| Status::try_from(word).unwrap()),
        progress: progress(&body.report),
        stage: stage_edit(&body.report),
        result: value(&body.result),
        error: value(&body.error),
        labels: LabelEdit { clear: body.clear_labels, set: body.labels.iter().map(label).collect() },
        lines: lines(&body.sent, rules),
    }
}

fn progress(report: &Report) -> Option<Progress> {
    report.percent.map(|percent| Progress::try_from(percent).unwrap())
}

fn stage_edit(report: &Report) -> Edit<Stage> {
    match &report.stage {
        None => Edit::Keep,
        Some(None) => Edit::Clear,
        Some(Some(text)) => Edit::Set(stage(text)),
    }
}

fn lines(sent: &Sent, rules: &Rules) -> milepost::job::Lines {
    let mut lines = milepost::job::Lines::default();
    for line in &sent.lines {
        lines.push(line, &limits(rules));
    }
    lines.origin = sent.writer.as_ref().map(|(name, seq)| Origin { writer: writer(name), seq: *seq });
    lines
}

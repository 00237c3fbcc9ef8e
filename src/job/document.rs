//! The job document: a job as every client reads it.

use std::io::Write;

use serde::{Serialize, Serializer, ser::SerializeSeq};
use utoipa::ToSchema;

use super::{
    Job, Kind,
    id::{Attempt, JobId, Version},
    json::Json,
    labels::Labels,
    log::{LogLine, Seq},
    progress::Progress,
    state::{Outcome, Stage, State, Status},
    time::Timestamp,
};

/// A job. All members are always present, null where unknown, but for those said to be left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct Document<'a> {
    /// The name of the job: a UUIDv7, or what its creator chose.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    id: &'a JobId,
    /// What sort of work it is.
    #[schema(value_type = String, min_length = 1, max_length = 64)]
    kind: &'a Kind,
    /// Where it stands.
    status: Status,
    /// Whether it has ended.
    done: bool,
    /// How it ended.
    #[schema(required)]
    outcome: Option<Outcome>,
    /// How far it has come, in percent; two decimals are kept.
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    progress_pct: Progress,
    /// The step the worker is in.
    #[schema(value_type = Option<String>, required)]
    stage: Option<&'a Stage>,
    /// How long it will still take after `updated_at`: at the pace of the attempt so far, or before it has come anywhere as
    /// long as jobs of its kind usually take; null while nothing is known.
    #[schema(required)]
    eta_seconds: Option<u64>,
    /// What it has produced, any JSON; may grow while processing. Left out of lists, and of the answer to a PATCH that
    /// did not change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Option<&'a Json>>,
    /// Why it failed: an object with `reason` and `message`.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>, required)]
    error: Option<&'a Json>,
    /// What lists and feeds filter by.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    labels: &'a Labels,
    /// Higher is claimed first.
    priority: i32,
    /// The number of the current attempt, from 1.
    #[schema(value_type = u32, minimum = 1)]
    attempt: Attempt,
    /// How many attempts may be lost before the job fails.
    #[schema(minimum = 1)]
    max_attempts: u32,
    /// Who claimed the attempt.
    #[schema(required)]
    worker: Option<&'a str>,
    /// When the lease runs out.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    lease_expires_at: Option<Timestamp>,
    /// Whether the worker has been asked to stop.
    cancel_requested: bool,
    /// Lines ever appended to its log.
    #[schema(value_type = u64)]
    log_count: Seq,
    /// The number of the first line in `logs`, or of the next line to come when there is none. Left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = false, minimum = 1)]
    logs_from: Option<Seq>,
    /// Log lines: the last ones on a read, those the request appended in its answer. Left out of lists.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "texts")]
    #[schema(value_type = Option<Vec<String>>)]
    logs: Option<&'a [LogLine]>,
    /// Rises by one with each request that changes anything a reader can see.
    #[schema(value_type = u64, minimum = 1)]
    version: Version,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the attempt began.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Timestamp>,
    /// When it may be removed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// What the worker needs. Only in the answers to create and ensure, and to a read that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Option<&'a Json>>,
}

impl<'a> Document<'a> {
    /// The job with its result, without log lines and input.
    pub fn new(job: &'a Job) -> Self {
        let end = job.state.end();
        Self {
            id: &job.spec.key.id,
            kind: &job.spec.kind,
            status: job.status(),
            done: matches!(job.state, State::Done(_)),
            outcome: end.map(|end| end.outcome),
            progress_pct: job.progress,
            stage: job.stage.as_ref(),
            eta_seconds: job.eta_seconds(),
            result: Some(job.result.as_ref()),
            error: job.error.as_ref(),
            labels: &job.labels,
            priority: job.spec.priority,
            attempt: job.attempt,
            max_attempts: job.spec.max_attempts,
            worker: job.worker.as_deref(),
            lease_expires_at: job.lease_expires_at,
            cancel_requested: job.cancel_requested,
            log_count: job.log.count,
            logs_from: None,
            logs: None,
            version: job.version,
            created_at: job.spec.created_at,
            started_at: job.started_at,
            updated_at: job.updated_at,
            finished_at: end.map(|end| end.at),
            expires_at: end.and_then(|end| end.expires_at),
            input: None,
        }
    }

    /// With these log lines, which must follow one another.
    #[must_use]
    pub fn with_logs(mut self, lines: &'a [LogLine]) -> Self {
        self.logs_from = Some(lines.first().map_or(self.log_count + 1, |line| line.seq));
        self.logs = Some(lines);
        self
    }

    /// With the input, null where the job has none.
    #[must_use]
    pub fn with_input(mut self, input: Option<&'a Json>) -> Self {
        self.input = Some(input);
        self
    }

    /// Without the result.
    #[must_use]
    pub fn without_result(mut self) -> Self {
        self.result = None;
        self
    }

    /// The document as JSON text.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(ENCODED_BYTES);
        self.encode_to(&mut text);
        text
    }

    /// Appends the document as JSON text, which is what serde writes: documents are most of what the service writes, and serde
    /// looks through each name for what is to be escaped.
    pub fn encode_to(&self, text: &mut Vec<u8>) {
        let mut members = Members(text);
        members.word(b"{\"id\":", self.id.as_str());
        members.word(b",\"kind\":", self.kind.as_str());
        members.word(b",\"status\":", self.status.as_str());
        members.bare(b",\"done\":", if self.done { "true" } else { "false" });
        members.word_or_null(b",\"outcome\":", self.outcome.map(Outcome::as_str));
        members.value(b",\"progress_pct\":", &self.progress_pct);
        members.value(b",\"stage\":", &self.stage.map(Stage::as_str));
        members.value(b",\"eta_seconds\":", &self.eta_seconds);
        if let Some(result) = self.result {
            members.json(b",\"result\":", result);
        }
        members.json(b",\"error\":", self.error);
        members.value(b",\"labels\":", &self.labels);
        members.value(b",\"priority\":", &self.priority);
        members.value(b",\"attempt\":", &self.attempt);
        members.value(b",\"max_attempts\":", &self.max_attempts);
        members.value(b",\"worker\":", &self.worker);
        members.moment(b",\"lease_expires_at\":", self.lease_expires_at);
        members.bare(b",\"cancel_requested\":", if self.cancel_requested { "true" } else { "false" });
        members.value(b",\"log_count\":", &self.log_count);
        if let Some(from) = self.logs_from {
            members.value(b",\"logs_from\":", &from);
        }
        if let Some(lines) = self.logs {
            members.lines(b",\"logs\":", lines);
        }
        members.value(b",\"version\":", &self.version);
        members.moment(b",\"created_at\":", Some(self.created_at));
        members.moment(b",\"started_at\":", self.started_at);
        members.moment(b",\"updated_at\":", Some(self.updated_at));
        members.moment(b",\"finished_at\":", self.finished_at);
        members.moment(b",\"expires_at\":", self.expires_at);
        if let Some(input) = self.input {
            members.json(b",\"input\":", input);
        }
        members.0.push(b'}');
    }
}

/// What most documents have as text.
const ENCODED_BYTES: usize = 768;

/// Appends members: what stands before each is its name in quotes, and what ends the one before.
struct Members<'t>(&'t mut Vec<u8>);

impl Members<'_> {
    /// What is JSON already.
    fn bare(&mut self, name: &[u8], json: &str) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A text of which nothing is to be escaped.
    fn word(&mut self, name: &[u8], word: &str) {
        self.0.extend_from_slice(name);
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }

    fn word_or_null(&mut self, name: &[u8], word: Option<&str>) {
        match word {
            Some(word) => self.word(name, word),
            None => self.bare(name, "null"),
        }
    }

    fn json(&mut self, name: &[u8], json: Option<&Json>) {
        self.bare(name, json.map_or("null", Json::as_str));
    }

    fn moment(&mut self, name: &[u8], moment: Option<Timestamp>) {
        let Some(moment) = moment else { return self.bare(name, "null") };
        self.0.extend_from_slice(name);
        // Memory takes all there is.
        let _written = write!(self.0, "\"{moment}\"");
    }

    /// Anything that is a string, a number or a map of strings.
    fn value(&mut self, name: &[u8], value: &(impl Serialize + ?Sized)) {
        self.0.extend_from_slice(name);
        // Nothing of it could fail to be written to memory.
        let written = serde_json::to_writer(&mut *self.0, value);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn lines(&mut self, name: &[u8], lines: &[LogLine]) {
        self.0.extend_from_slice(name);
        self.0.push(b'[');
        for (at, line) in lines.iter().enumerate() {
            self.value(if at > 0 { b"," } else { b"" }, &*line.text);
        }
        self.0.push(b']');
    }
}

fn texts<S: Serializer>(lines: &Option<&[LogLine]>, serializer: S) -> Result<S::Ok, S::Error> {
    let lines = lines.unwrap_or_default();
    let mut sequence = serializer.serialize_seq(Some(lines.len()))?;
    for line in lines {
        sequence.serialize_element(&*line.text)?;
    }
    sequence.end()
}

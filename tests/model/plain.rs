//! The model: a job kept the plain way, with every line it ever had, and rules written down one after the other.

use std::collections::BTreeMap;

use milepost::job::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    wire::Birth,
    words::{Answer, Ask, Body, Line, Refusal, Report, Request, Rules, Sent},
};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) status: &'static str,
    pub(super) outcome: Option<&'static str>,
    pub(super) hundredths: u32,
    pub(super) stage: Option<String>,
    pub(super) result: Value,
    pub(super) error: Value,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) attempt: u32,
    pub(super) worker: Option<String>,
    pub(super) lease_expires_at: Option<u64>,
    pub(super) ever_leased: bool,
    pub(super) cancel_requested: bool,
    /// The lease that this attempt's claim asked for.
    pub(super) claimed_seconds: Option<u32>,
    pub(super) cancel_by: Option<u64>,
    /// Whether somebody has claimed it and said nothing yet.
    pub(super) silent: bool,
    pub(super) lost: u32,
    pub(super) lost_silent: u32,
    /// Every line ever, trimmed ones too.
    pub(super) log: Vec<Line>,
    pub(super) dropped: u64,
    /// What each writer has said in this attempt.
    pub(super) heard: BTreeMap<String, Vec<String>>,
    pub(super) version: u64,
    pub(super) revision: u64,
    pub(super) created_at: u64,
    pub(super) queued_at: u64,
    pub(super) started_at: Option<u64>,
    pub(super) updated_at: u64,
    pub(super) finished_at: Option<u64>,
    pub(super) expires_at: Option<u64>,
}

impl Model {
    /// A job that waits for its first worker and has nothing to tell.
    fn new(rules: &Rules, now: u64) -> Self {
        Self {
            rules: rules.clone(),
            status: "queued",
            outcome: None,
            hundredths: 0,
            stage: None,
            result: Value::Null,
            error: Value::Null,
            labels: BTreeMap::new(),
            attempt: 1,
            worker: None,
            lease_expires_at: None,
            ever_leased: false,
            cancel_requested: false,
            claimed_seconds: None,
            cancel_by: None,
            silent: false,
            lost: 0,
            lost_silent: 0,
            log: Vec::new(),
            dropped: 0,
            heard: BTreeMap::new(),
            version: 1,
            revision: 1,
            created_at: now,
            queued_at: now,
            started_at: None,
            updated_at: now,
            finished_at: None,
            expires_at: None,
        }
    }

    /// A job as it is made; that it may have a worker already is not for its birth to say.
    pub(super) fn born(birth: &Birth, rules: &Rules, now: u64) -> Self {
        let mut model = Self::new(rules, now);
        model.stage = birth.stage.clone();
        model.labels = birth.labels.iter().cloned().collect();
        if birth.processing {
            model.start(now);
            model.lease(now);
        }
        model.hear(&Sent { lines: birth.lines.clone(), writer: None }, now).unwrap();
        model
    }

    /// What a request does; a refused one leaves everything as it was.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let now = request.now.max(self.updated_at);
        let mut next = self.clone();
        next.check_attempt(request)?;
        let (lines, duplicates) = match &request.ask {
            Ask::Patch(body) => next.patch(body, request, now)?,
            Ask::Append(sent, report) => next.append(sent, report, request, now)?,
            Ask::Heartbeat(report) => next.heartbeat(report, request)?,
            Ask::Cancel { reason } => next.cancel(reason.as_ref(), request, now)?,
            Ask::Retry { attempt } => next.retry(*attempt, request, now)?,
            Ask::Claim { worker, lease_seconds } => next.claim(worker, *lease_seconds, now)?,
            Ask::Sweep { open_since } => (next.sweep(*open_since, now), 0),
        };
        let holder = request.attempt == Some(self.attempt) || !next.ever_leased;
        if request.attempt == Some(self.attempt) {
            next.silent = false;
        }
        if next.status == "processing" && holder {
            next.lease(now);
        }
        if counted(next.document()) != counted(self.document()) {
            next.version += 1;
            next.updated_at = now;
        }
        let changed = next != *self;
        if changed {
            next.revision += 1;
        }
        let result_changed = next.result != self.result;
        *self = next;
        Ok(Answer { lines, duplicates, changed, result_changed })
    }

    /// The job as a client reads it, without log lines. Its constant members are those of [`super::wire::Birth`].
    pub(super) fn document(&self) -> Value {
        let time = |at: u64| Timestamp(at).to_string();
        let percent = match self.hundredths % 100 {
            0 => json!(self.hundredths / 100),
            _ => json!(f64::from(self.hundredths) / 100.0),
        };
        json!({
            "id": "a-job",
            "kind": "restyle",
            "status": self.status,
            "done": self.is_done(),
            "outcome": self.outcome,
            "progress_pct": percent,
            "stage": self.stage,
            "eta_seconds": self.eta_seconds(),
            "result": self.result,
            "error": self.error,
            "labels": self.labels,
            "priority": -3,
            "attempt": self.attempt,
            "max_attempts": self.rules.max_attempts,
            "worker": self.worker,
            "lease_expires_at": self.lease_expires_at.map(time),
            "cancel_requested": self.cancel_requested,
            "log_count": self.log.len(),
            "version": self.version,
            "created_at": time(self.created_at),
            "started_at": self.started_at.map(time),
            "updated_at": time(self.updated_at),
            "finished_at": self.finished_at.map(time),
            "expires_at": self.expires_at.map(time),
        })
    }

    /// Lets the log be trimmed to where the job has trimmed it, if that is a place it may be trimmed to: lines go
    /// exactly, bytes in steps of a sixteenth of the limit.
    pub(super) fn trim(&mut self, dropped: u64, appended: bool) -> Result<(), String> {
        let count = self.log.len() as u64;
        let limit = self.rules.job_log_bytes_max;
        let bytes = |line: &Line| line.text.len() as u64;
        let longest = self.log.iter().map(bytes).max().unwrap_or(0);
        let kept: Vec<u64> = self.log.iter().skip(dropped as usize).map(bytes).filter(|&bytes| bytes > 0).collect();
        let (kept, alone) = (kept.iter().sum::<u64>(), kept.len() == 1);
        let least = self.dropped.max(count.saturating_sub(self.rules.job_lines_max));
        if !appended && dropped != self.dropped {
            return Err(format!("trimmed from {} to {dropped} with nothing appended", self.dropped));
        }
        if dropped < least || dropped > count {
            return Err(format!("{dropped} of {count} lines are dropped, which must be at least {least}"));
        }
        if kept > limit && !alone {
            return Err(format!("{kept} bytes are kept, over the limit of {limit}"));
        }
        if dropped > least && kept + longest.max(limit / 16) <= limit {
            return Err(format!("only {kept} bytes are kept of {limit}, though no line has more than {longest}"));
        }
        self.dropped = dropped;
        Ok(())
    }

    /// The rule of three: as long for each hundredth that is left as each has taken.
    fn eta_seconds(&self) -> Option<u64> {
        let begun = self.started_at.filter(|_| self.status == "processing" && self.hundredths > 0)?;
        let milliseconds = self.updated_at.saturating_sub(begun) * u64::from(10_000 - self.hundredths);
        let divisor = u64::from(self.hundredths) * 1000;
        Some(milliseconds / divisor + u64::from(milliseconds % divisor > 0))
    }

    pub(super) fn is_done(&self) -> bool {
        !matches!(self.status, "queued" | "processing")
    }

    fn start(&mut self, now: u64) {
        self.status = "processing";
        self.started_at = Some(now);
    }

    /// Until when a lease lasts that is renewed then.
    fn lease_after(&self, at: u64) -> Option<u64> {
        self.claimed_seconds.or(self.rules.lease_seconds).map(|span| at + u64::from(span) * 1000)
    }

    fn lease(&mut self, now: u64) {
        if let Some(until) = self.lease_after(now) {
            self.lease_expires_at = Some(until);
            self.ever_leased = true;
        }
    }

    fn finish(&mut self, status: &'static str, now: u64) {
        self.status = status;
        self.outcome = Some(if status == "completed" { "succeeded" } else { status });
        self.finished_at = Some(now);
        let by_status = if status == "failed" { self.rules.failed_retain_seconds } else { None };
        let kept = match (self.rules.retain_seconds, self.rules.kind_retain_seconds) {
            (Some(own), _) => Some(own),
            (None, Some(of_kind)) => of_kind,
            (None, None) => by_status,
        };
        self.expires_at = kept.map(|seconds| now + u64::from(seconds) * 1000);
        self.lease_expires_at = None;
        self.claimed_seconds = None;
        self.cancel_by = None;
        self.silent = false;
        self.lost = 0;
        self.lost_silent = 0;
        if status == "completed" {
            self.hundredths = 10_000;
        }
    }

    /// A fresh job but for what is kept, waiting anew.
    fn requeue(&mut self, now: u64) {
        *self = Self {
            attempt: self.attempt + 1,
            labels: self.labels.clone(),
            ever_leased: self.ever_leased,
            lost: self.lost,
            lost_silent: self.lost_silent,
            log: self.log.clone(),
            dropped: self.dropped,
            version: self.version,
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ..Self::new(&self.rules, now)
        };
    }

    fn check_attempt(&self, request: &Request) -> Result<(), Refusal> {
        if matches!(request.ask, Ask::Retry { .. }) {
            // Its own `attempt` says what it needs to.
            return Ok(());
        }
        match request.attempt {
            Some(given) if given != self.attempt => Err(Refusal::StaleAttempt(self.attempt)),
            None if request.ask.is_of_a_worker() && self.ever_leased => Err(Refusal::AttemptRequired(self.attempt)),
            _ => Ok(()),
        }
    }

    fn check_if_match(&self, request: &Request) -> Result<(), Refusal> {
        match &request.if_match {
            Some(versions) if !versions.contains(&self.version) => Err(Refusal::VersionMismatch(self.version)),
            _ => Ok(()),
        }
    }

    fn patch(&mut self, body: &Body, request: &Request, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        if self.is_done() {
            let mut tried = self.clone();
            tried.write(body)?;
            if tried != *self || body.status.is_some_and(|status| status != self.status) {
                self.check_if_match(request)?;
                return Err(Refusal::AlreadyFinished(self.status));
            }
            if body.names_more_than_lines() {
                return match body.sent.writer {
                    Some(_) => self.hear_late(&body.sent, now),
                    None => Ok((Vec::new(), 0)),
                };
            }
            if !self.knows(&body.sent) {
                self.check_if_match(request)?;
            }
            return self.hear_late(&body.sent, now);
        }
        self.check_if_match(request)?;
        let heard = self.hear(&body.sent, now)?;
        match (self.status, body.status) {
            ("processing", Some("queued")) => self.requeue(now),
            ("queued", Some("processing")) => self.start(now),
            _ => {}
        }
        self.progress(&body.report);
        self.write(body)?;
        if let Some(status @ ("completed" | "failed" | "cancelled")) = body.status {
            self.finish(status, now);
        }
        Ok(heard)
    }

    fn append(
        &mut self,
        sent: &Sent,
        report: &Report,
        request: &Request,
        now: u64,
    ) -> Result<(Vec<Line>, u64), Refusal> {
        if self.is_done() {
            if report.stage.as_ref().is_some_and(|stage| *stage != self.stage) {
                self.check_if_match(request)?;
                return Err(Refusal::AlreadyFinished(self.status));
            }
            if !self.knows(sent) {
                self.check_if_match(request)?;
            }
            return self.hear_late(sent, now);
        }
        self.check_if_match(request)?;
        let heard = self.hear(sent, now)?;
        self.progress(report);
        self.enter(report);
        Ok(heard)
    }

    fn heartbeat(&mut self, report: &Report, request: &Request) -> Result<(Vec<Line>, u64), Refusal> {
        self.check_if_match(request)?;
        match self.status {
            "processing" => {
                self.progress(report);
                self.enter(report);
                Ok((Vec::new(), 0))
            }
            "queued" => Err(Refusal::InvalidTransition("queued")),
            done => Err(Refusal::AlreadyFinished(done)),
        }
    }

    fn cancel(&mut self, reason: Option<&String>, request: &Request, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        if self.status == "cancelled" || (self.status == "processing" && self.cancel_requested) {
            return Ok((Vec::new(), 0));
        }
        self.check_if_match(request)?;
        match self.status {
            "processing" => {
                self.cancel_requested = true;
                let grace = self.rules.cancel_grace_seconds.unwrap_or(self.rules.usual_cancel_grace_seconds);
                self.cancel_by = Some(now + u64::from(grace) * 1000);
            }
            "queued" => {
                if let Some(reason) = reason {
                    self.error = json!({"reason": "cancelled", "message": reason});
                }
                self.finish("cancelled", now);
            }
            done => return Err(Refusal::AlreadyFinished(done)),
        }
        Ok((Vec::new(), 0))
    }

    fn retry(&mut self, attempt: Option<u32>, request: &Request, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        if attempt.is_some_and(|attempt| attempt > self.attempt) {
            return Err(Refusal::StaleAttempt(self.attempt));
        }
        if attempt.is_some_and(|attempt| attempt < self.attempt) {
            return Ok((Vec::new(), 0));
        }
        self.check_if_match(request)?;
        if !self.is_done() {
            return Err(Refusal::NotFinished(self.status));
        }
        self.requeue(now);
        Ok((Vec::new(), 0))
    }

    fn claim(&mut self, worker: &str, lease_seconds: u32, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        match self.status {
            "queued" => {
                self.start(now);
                self.worker = Some(worker.to_owned());
                self.claimed_seconds = Some(lease_seconds);
                self.silent = true;
                self.lease(now);
                Ok((Vec::new(), 0))
            }
            "processing" => Err(Refusal::InvalidTransition("processing")),
            done => Err(Refusal::AlreadyFinished(done)),
        }
    }

    /// Everything that happens by itself; the line that says so.
    fn sweep(&mut self, open_since: u64, now: u64) -> Vec<Line> {
        let over = |since: u64, seconds: Option<u32>| seconds.is_some_and(|span| since + u64::from(span) * 1000 <= now);
        let by = |at: Option<u64>| at.is_some_and(|at| at <= now);
        let slow = self.started_at.is_some_and(|at| over(at, self.rules.timeout_seconds));
        match self.status {
            "queued" if over(self.queued_at, self.rules.queue_ttl_seconds) => self.end("failed", "expired", now),
            "processing" if by(self.cancel_by) => self.end("cancelled", "cancelled", now),
            "processing" if !slow && by(self.lease_expires_at) && self.lease_after(open_since) > Some(now) => {
                self.lease_expires_at = self.lease_after(open_since);
                Vec::new()
            }
            "processing" if slow || by(self.lease_expires_at) => {
                let uncounted = self.silent && self.lost_silent < 3;
                if self.cancel_requested {
                    return self.end("cancelled", "cancelled", now);
                }
                if uncounted {
                    self.lost_silent += 1;
                } else {
                    self.lost += 1;
                }
                if self.lost == self.rules.max_attempts {
                    return self.end("failed", if slow { "timed_out" } else { "lost" }, now);
                }
                self.requeue(now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The service ends it. The words are the service's own.
    fn end(&mut self, status: &'static str, outcome: &'static str, now: u64) -> Vec<Line> {
        let why = match outcome {
            "expired" => "it has waited longer than it may for a worker",
            "timed_out" => "the attempt has taken longer than it may",
            "lost" => "its worker has not renewed the lease",
            _ if self.cancel_by.is_some_and(|at| at <= now) => "its worker did not stop in time",
            _ if self.started_at.is_some_and(|at| {
                self.rules.timeout_seconds.is_some_and(|span| at + u64::from(span) * 1000 <= now)
            }) =>
            {
                "the attempt has taken longer than it may"
            }
            _ => "its worker has not renewed the lease",
        };
        let said = self.hear(&Sent { lines: vec![format!("❌ {why}")], writer: None }, now).unwrap().0;
        self.finish(status, now);
        self.outcome = Some(outcome);
        self.error = json!({"reason": outcome, "message": why});
        said
    }

    fn progress(&mut self, report: &Report) {
        if let Some(percent) = report.percent {
            self.hundredths = (percent * 100.0).round() as u32;
        }
    }

    fn enter(&mut self, report: &Report) {
        if let Some(stage) = &report.stage {
            self.stage = stage.clone();
        }
    }

    /// The members of a body that are simply written down.
    fn write(&mut self, body: &Body) -> Result<(), Refusal> {
        self.enter(&body.report);
        if let Some(result) = &body.result {
            self.result = if body.merge { merged(&self.result, result) } else { result.clone() };
            if self.result.to_string().len() > self.rules.result_bytes_max {
                return Err(Refusal::Invalid("result"));
            }
        }
        if let Some(error) = &body.error {
            self.error = if body.merge { merged(&self.error, error) } else { error.clone() };
            let fits = self.error.to_string().len() <= self.rules.error_bytes_max;
            if !fits || !(self.error.is_object() || self.error.is_null()) {
                return Err(Refusal::Invalid("error"));
            }
        }
        if body.clear_labels {
            self.labels.clear();
        }
        for (key, value) in &body.labels {
            match value {
                Some(value) => drop(self.labels.insert(key.clone(), value.clone())),
                None => drop(self.labels.remove(key)),
            }
        }
        if self.labels.len() > 16 { Err(Refusal::Invalid("labels")) } else { Ok(()) }
    }

    /// Whether all of these lines have been said before.
    fn knows(&self, sent: &Sent) -> bool {
        let said = |(writer, first): &(String, u64)| {
            let lines = self.heard.get(writer).map_or(0, Vec::len) as u64;
            first + sent.lines.len() as u64 - 1 <= lines
        };
        sent.lines.is_empty() || sent.writer.as_ref().is_some_and(said)
    }

    /// Lines for a done job: known ones are let pass, new ones for a while.
    fn hear_late(&mut self, sent: &Sent, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        let open_until = self.finished_at.unwrap() + u64::from(self.rules.late_log_seconds) * 1000;
        if !self.knows(sent) && now > open_until {
            return Err(Refusal::AlreadyFinished(self.status));
        }
        self.hear(sent, now)
    }

    /// Adds the lines that are new, each with the next number; tells which, and how many were known.
    fn hear(&mut self, sent: &Sent, now: u64) -> Result<(Vec<Line>, u64), Refusal> {
        let texts: Vec<String> = sent.lines.iter().map(|line| fitted(line, self.rules.line_bytes_max)).collect();
        let mut known = 0;
        if let Some((writer, first)) = sent.writer.as_ref().filter(|_| !texts.is_empty()) {
            let others = self.heard.len();
            let said = self.heard.entry(writer.clone()).or_default();
            let expected = said.len() as u64 + 1;
            if *first > expected {
                return Err(Refusal::LogGap(expected));
            }
            for (number, text) in (*first..).zip(&texts) {
                if number <= said.len() as u64 {
                    known += 1;
                } else {
                    said.push(text.clone());
                }
            }
            if expected == 1 && others >= self.rules.writers_max {
                return Err(Refusal::Invalid("writer"));
            }
        }
        let mut new = Vec::new();
        for text in texts.into_iter().skip(known) {
            let line = Line { seq: self.log.len() as u64 + 1, at: now, attempt: self.attempt, text };
            self.log.push(line.clone());
            new.push(line);
        }
        Ok((new, known as u64))
    }
}

/// What a version counts: the document but for its own counters, the lease and the guess of an end.
pub(super) fn counted(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.retain(|name, _| !matches!(&**name, "version" | "updated_at" | "lease_expires_at" | "eta_seconds"));
    document
}

/// RFC 7396, section 2.
fn merged(target: &Value, patch: &Value) -> Value {
    let Some(patch) = patch.as_object() else { return patch.clone() };
    let mut members: Map<String, Value> = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        let merged = merged(members.get(name).unwrap_or(&Value::Null), value);
        members.insert(name.clone(), merged);
        if value.is_null() {
            members.remove(name);
        }
    }
    Value::Object(members)
}

/// A text as one line of a log: without breaks, and cut visibly when it is too long.
fn fitted(text: &str, bytes_max: usize) -> String {
    let mut line = String::new();
    for character in text.chars() {
        line.push(match character {
            '\n' => '␊',
            '\r' => '␍',
            other => other,
        });
    }
    if line.len() > bytes_max {
        while line.len() + "…[cut]".len() > bytes_max {
            line.pop();
        }
        line.push_str("…[cut]");
    }
    line
}

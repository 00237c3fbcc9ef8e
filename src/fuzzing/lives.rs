//! Jobs that what was parsed is done to, and what must hold of them afterwards.

use std::sync::Arc;

use crate::{
    engine, http,
    http::fuzzing::Asked,
    job::{
        Applied, Cancel, Change, Document, Edit, Guard, History, Job, JobId, JobKey, Json, Kind, Labels, Lines,
        LogLine, NewJob, Patch, Retry, Seconds, Spec, Stage, Status, Sweep, Tenant, Timestamp,
    },
    publish,
    store::portable::{self, Complete},
};

const NOW: Timestamp = Timestamp(1_795_420_800_123);

/// A job, what is remembered of it, and the lines that its log keeps.
pub(super) struct Life {
    job: Arc<Job>,
    input: Option<Json>,
    history: History,
    lines: Vec<LogLine>,
    now: Timestamp,
}

impl Life {
    /// A job in each state.
    pub(super) fn samples() -> [Self; 4] {
        let status = |status| Change::Patch(Patch { status: Some(status), ..Patch::default() });
        let lived = |lease_seconds, changes: &[Change]| {
            let mut life = Self::of(&new_job(lease_seconds));
            changes.iter().for_each(|change| life.go(change));
            life
        };
        [
            lived(None, &[]),
            lived(Some(Seconds(30)), &[status(Status::Processing)]),
            lived(None, &[status(Status::Processing), Change::Cancel(Cancel::default())]),
            lived(None, &[status(Status::Completed)]),
        ]
    }

    fn of(new: &NewJob) -> Self {
        let made = Job::create(new, &http::fuzzing::limits(), NOW);
        let (job, history, lines) = (Arc::new(made.next), made.history, made.lines.to_vec());
        let mut life = Self { job, input: new.input.clone(), history, lines, now: NOW };
        life.trim();
        life
    }

    /// A job as an export has it.
    pub(super) fn imported(complete: &Complete) -> Self {
        let Complete { job, input, history, lines, .. } = complete;
        let now = job.updated_at.max(NOW);
        Self { job: job.clone(), input: input.clone(), history: history.clone(), lines: lines.concat(), now }
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    /// Does what is asked for, if it can be done.
    pub(super) fn meet(&mut self, asked: &Asked) {
        match asked {
            Asked::New(new) => Self::of(new).hold(),
            Asked::Change(change) => self.go(change),
            Asked::Claim(wish) => self.go(&Change::Claim(wish.claim.clone())),
        }
    }

    /// Appends these lines, and sets whatever takes this text.
    pub(super) fn say(&mut self, lines: &Lines, text: &str) {
        let json = Json::try_from(&serde_json::json!({"message": text, text: [text]})).ok();
        let edited = |json: Option<Json>| json.map_or(Edit::Keep, Edit::Set);
        let stage = Stage::try_from(text).map_or(Edit::Keep, Edit::Set);
        let (result, error) = (edited(json.clone()), edited(json));
        self.change(&Change::Patch(Patch { lines: lines.clone(), stage, result, error, ..Patch::default() }));
    }

    /// All that can happen to any job.
    pub(super) fn go_on(&mut self) {
        self.hold();
        let mut lines = Lines::default();
        lines.push("and on", &http::fuzzing::limits());
        let on = |status| Patch { status, lines: lines.clone(), ..Patch::default() };
        self.change(&Change::Sweep(Sweep { open_since: NOW }));
        self.change(&Change::Patch(on(Some(Status::Processing))));
        self.change(&Change::Cancel(Cancel::default()));
        self.change(&Change::Patch(on(Some(Status::Queued))));
        self.change(&Change::Sweep(Sweep { open_since: NOW }));
        self.change(&Change::Patch(on(Some(Status::Failed))));
        self.change(&Change::Retry(Retry::default()));
    }

    fn change(&mut self, change: &Change) {
        self.go(change);
        self.hold();
    }

    /// Takes a change if it is allowed, and says of it what is so.
    fn go(&mut self, change: &Change) {
        self.now = Timestamp(self.now.0 + 1001);
        let guard = Guard { attempt: Some(self.job.attempt), versions: None };
        let Ok(applied) = self.job.apply(change, &guard, &http::fuzzing::limits(), self.now) else { return };
        let Applied { next, lines, changed, history, .. } = applied;
        assert_eq!(next.version - self.job.version, u64::from(next.version != self.job.version), "{change:?}");
        assert_eq!(next.log.count - self.job.log.count, lines.len() as u64, "{change:?}");
        assert!(changed || next == *self.job, "{change:?} is said to change nothing");
        self.job = Arc::new(next);
        self.lines.extend_from_slice(&lines);
        self.history.extend(history);
        self.trim();
    }

    fn trim(&mut self) {
        self.lines.retain(|line| line.seq > self.job.log.dropped);
    }

    /// It can be read, stored, exported and told.
    pub(super) fn hold(&self) {
        let document = Document::new(&self.job).with_logs(&self.lines).with_input(self.input.as_ref());
        assert_eq!(Some(document.encode()), serde_json::to_vec(&document).ok());
        let short = Document::new(&self.job).without_result();
        assert_eq!(Some(short.encode()), serde_json::to_vec(&short).ok());
        let document = document.encode();
        let read: Result<serde_json::Value, _> = serde_json::from_slice(&document);
        let read = read.unwrap_or_default();
        assert_eq!(read["version"], self.job.version);
        assert_eq!(read["logs_from"], self.job.log.first());
        assert!(read["progress_pct"].as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent)));
        let stage = read["stage"].as_str().unwrap_or_default();
        assert!(stage.len() <= 256 && !stage.contains(char::is_control), "{stage:?}");
        for json in [&self.job.result, &self.job.error, &self.input].into_iter().flatten() {
            let again = Json::try_from(&json.to_value()).map(|json| json.as_str().to_owned());
            assert_eq!(again.unwrap_or_default(), json.as_str(), "a value is another one when it is read again");
        }
        engine::fuzzing::kept(&self.job);
        portable::fuzzing::carried(&self.job, self.input.as_ref(), &self.history, &self.lines);
        publish::fuzzing::told(&self.job, &self.lines);
    }
}

fn new_job(lease_seconds: Option<Seconds>) -> NewJob {
    let (Ok(id), Ok(kind)) = (JobId::try_from("fuzzed"), Kind::try_from("restyle")) else { panic!("plain names") };
    let spec = Spec {
        key: JobKey { tenant: Tenant(0), id },
        kind,
        priority: 0,
        max_attempts: 2,
        lease_seconds,
        timeout_seconds: Some(Seconds(600)),
        queue_ttl_seconds: None,
        cancel_grace_seconds: None,
        retain_seconds: None,
        created_at: NOW,
    };
    NewJob { spec, input: None, labels: Labels::default(), processing: false, stage: None, lines: Lines::default() }
}

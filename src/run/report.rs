//! Tells the service of a command: one request after the other, each repeated until it is answered.
//!
//! Promises: each line arrives once and in order (`writer` and `seq`), everything names its attempt, and the end comes with
//! the last lines. The lease is renewed in time. Meanwhile what waits is in the outbox.
//! Must not know the command.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::outbox::{Batch, Outbox};
use crate::{
    client::{Client, ClientError, Pauses, Request, segment},
    job::Status,
};

/// Lines and progress of so long travel together.
const REPORT: Duration = Duration::from_millis(200);
/// How long the service is asked to wait for news of the job.
const LISTEN: Duration = Duration::from_secs(25);
/// News of a job are asked for no more often than this: with what it is told the service answers the same.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// A lease is renewed so many times before it runs out.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// What the service has said of the job.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Somebody wants it to end.
    pub(super) cancel_requested: bool,
    /// Its version; None until it is known to be there.
    version: Option<u64>,
    /// Why it is not this command's any more.
    pub(super) lost: Option<String>,
}

/// Why telling has ended.
#[derive(Debug)]
enum Fault {
    /// Not now.
    Away(ClientError),
    /// Never.
    Lost(String),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        if error.is_passing() { Self::Away(error) } else { Self::Lost(error.to_string()) }
    }
}

/// Tells the service what is in an outbox.
pub(super) struct Reporter<'a> {
    client: &'a mut Client,
    outbox: &'a Outbox,
    heard: &'a watch::Sender<Heard>,
    heartbeat: Duration,
    told_at: Instant,
    /// The version of a queued job that was to be taken.
    taking: Option<u64>,
    /// Nobody adds anything: the command has gone, with an end or without one.
    is_rest: bool,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        client: &'a mut Client,
        outbox: &'a Outbox,
        heard: &'a watch::Sender<Heard>,
        lease: Duration,
    ) -> Self {
        let (heartbeat, told_at) = (lease / HEARTBEATS_PER_LEASE, Instant::now());
        Self { client, outbox, heard, heartbeat, told_at, taking: None, is_rest: false }
    }

    /// Tells what a command has left, which may have no end.
    pub(super) async fn report_rest(mut self) {
        self.is_rest = true;
        self.report().await;
    }

    /// Tells all of it, until the end is told or the job is lost.
    pub(super) async fn report(mut self) {
        let mut pauses = Pauses::default();
        loop {
            match self.step().await {
                Ok(true) => return,
                Ok(false) => {
                    pauses.reset();
                    if !self.outbox.has_end() {
                        self.rest(REPORT).await;
                    }
                }
                Err(Fault::Lost(why)) => {
                    self.outbox.over();
                    self.heard.send_modify(|heard| heard.lost = Some(why));
                    return;
                }
                Err(Fault::Away(error)) => {
                    self.outbox.away();
                    self.rest(pauses.next(&error)).await;
                }
            }
        }
    }

    /// Waits, but no longer than until the command ends: what is left is then tried at once.
    async fn rest(&self, pause: Duration) {
        select! {
            () = sleep(pause) => {}
            () = self.outbox.ending(), if !self.outbox.has_end() => {}
        }
    }

    /// One request; true when all is told.
    async fn step(&mut self) -> Result<bool, Fault> {
        let Some(attempt) = self.outbox.book().attempt else {
            self.create().await?;
            return Ok(false);
        };
        let mut batch = self.outbox.batch();
        if self.is_rest && batch.is_empty() {
            self.outbox.over();
            return Ok(true);
        }
        let due = self.told_at + self.heartbeat;
        while batch.is_empty() && Instant::now() < due {
            select! {
                () = self.outbox.news() => {}
                () = sleep_until(due) => {}
            }
            batch = self.outbox.batch();
        }
        let request = request(&self.outbox.book().id, &self.outbox.book().writer, attempt, &batch);
        match self.client.call(&request).await {
            Ok(answer) => {
                self.told_at = Instant::now();
                self.heed(&answer.json()?, &batch)?;
                self.outbox.acknowledge(&batch);
                Ok(batch.end.is_some())
            }
            Err(error) if error.refusal().is_some_and(|refusal| refusal.code == "log_gap") => {
                self.outbox.begin_anew(writer());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the job, or takes it when it waits for somebody.
    async fn create(&mut self) -> Result<(), Fault> {
        let book = self.outbox.book();
        let path = format!("/jobs/{}", segment(&book.id));
        let create = book.create.unwrap_or_default();
        // With its key the service tells this run that it has made the job, also when the first answer was lost.
        let made = Request::send("PUT", &path, &create).header("idempotency-key", &book.writer);
        let answer = self.client.call(&made).await?;
        let mut job: Value = answer.json()?;
        let status = text(&job, "status");
        // It may have been taken, and the answer to that was lost.
        let is_taken = status == "processing" && self.taking.is_some_and(|version| job["version"] == version + 1);
        if answer.status != 201 && !is_taken {
            if status != "queued" {
                return Err(Fault::Lost(format!("the job {} is there already, and {status}", book.id)));
            }
            let mut take = json!({"status": "processing", "attempt": job["attempt"]});
            if let Some(stage) = create.get("stage") {
                take["stage"] = stage.clone();
            }
            self.taking = job["version"].as_u64();
            let version = format!("\"v{}\"", job["version"]);
            let taken = self.client.call(&Request::send("PATCH", &path, &take).header("if-match", version)).await?;
            job = taken.json()?;
        }
        let attempt = job["attempt"].as_u64().and_then(|attempt| attempt.try_into().ok());
        self.outbox.begun(attempt.ok_or_else(|| Fault::Lost("the service names no attempt".to_owned()))?);
        self.told_at = Instant::now();
        self.heed(&job, &Batch::default())
    }

    fn heed(&self, answer: &Value, batch: &Batch) -> Result<(), Fault> {
        self.heard.send_modify(|heard| {
            heard.cancel_requested |= answer["cancel_requested"] == true;
            heard.version = answer["version"].as_u64().or(heard.version);
        });
        // The late lines of a job that somebody else has ended are taken, too: a good answer alone says nothing.
        let status = text(answer, "status");
        let is_done = Status::try_from(status.as_str()).is_ok_and(|status| status.outcome().is_some());
        let wanted = batch.end.as_ref().map(|end| text(end, "status"));
        if is_done && wanted.as_ref() != Some(&status) {
            return Err(Fault::Lost(format!("somebody else has ended the job: it is {status}")));
        }
        Ok(())
    }
}

/// Learns of a cancel while there is nothing to tell; never returns.
pub(super) async fn listen(mut client: Client, id: &str, heard: &watch::Sender<Heard>) {
    let mut known = heard.subscribe();
    loop {
        let begun = Instant::now();
        let version = match known.wait_for(|heard| heard.version.is_some()).await {
            Ok(heard) => heard.version.unwrap_or_default(),
            // Cannot be: the sender is borrowed.
            Err(_) => return,
        };
        let wait = LISTEN.as_secs();
        let path = format!("/jobs/{}?since={version}&wait={wait}&logs=0", segment(id));
        if let Ok(answer) = client.call(&Request::get(path).waits(LISTEN)).await
            && let Ok(job) = answer.json::<Value>()
        {
            heard.send_modify(|heard| {
                heard.cancel_requested |= job["cancel_requested"] == true;
                heard.version = job["version"].as_u64().max(heard.version);
            });
        }
        sleep_until(begun + LISTEN_PAUSE).await;
    }
}

/// A new name for who counts lines: one that starts over must not have its lines taken for repeats.
pub(super) fn writer() -> String {
    format!("run-{}", Uuid::now_v7().simple())
}

fn text(document: &Value, member: &str) -> String {
    document[member].as_str().unwrap_or_default().to_owned()
}

/// The request that tells what is in a batch.
fn request(id: &str, writer: &str, attempt: u32, batch: &Batch) -> Request {
    let path = format!("/jobs/{}", segment(id));
    let mut body = Map::new();
    body.insert("attempt".into(), attempt.into());
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    let appends = batch.end.is_none() && !batch.lines.is_empty();
    if !batch.lines.is_empty() {
        put(if appends { "lines" } else { "log" }, batch.lines.clone().into());
        put("writer", writer.into());
        put("seq", batch.seq.into());
    }
    if let Some(at) = &batch.at {
        if let Some(pct) = at.pct {
            put(if appends { "pct" } else { "progress_pct" }, pct.into());
        }
        if let Some(stage) = &at.stage {
            put("stage", stage.as_str().into());
        }
    }
    match &batch.end {
        Some(Value::Object(end)) => {
            // It becomes 100 by itself, and nothing when it is given back.
            if end.get("status").is_some_and(|status| status == "completed" || status == "queued") {
                body.remove("progress_pct");
            }
            body.extend(end.clone());
            Request::send("PATCH", path, &body.into())
        }
        Some(_) | None if appends => Request::send("POST", format!("{path}/logs"), &body.into()),
        Some(_) | None => Request::send("POST", format!("{path}/heartbeat"), &body.into()),
    }
}

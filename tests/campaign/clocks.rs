//! Machines whose clock is wrong, and set right, by an hour either way.
//!
//! The system's clock is what libfaketime says it is; how time passes is left alone, as it is by whoever sets a clock.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use super::process::{Launch, PATIENCE, Server};
use crate::{harness::postgres::Database, stream::Events};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// As short as a lease may be and yet outlast a few requests on a busy machine.
const LEASE: Duration = Duration::from_secs(3);

/// What puts a process under a clock that is off by as many seconds as this file says, at any moment.
pub(super) fn under(clock: &Path) -> [(&'static str, String); 4] {
    [
        ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1".into()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
}

/// A machine whose clock somebody sets.
struct Machine {
    directory: TempDir,
    http: Client,
}

impl Machine {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), http: Client::builder().no_proxy().build().unwrap() }
    }

    fn clock(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// Sets the clock this far off what it is here.
    fn set(&self, seconds: i64) {
        let new = self.directory.path().join("set");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.clock()).unwrap();
    }

    async fn start(&self) -> Server {
        let directory = self.directory.path();
        let launch = Launch::serve(&directory.join("store"), &directory.join("log"));
        let launch = under(&self.clock()).into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        // A day of the feed, so that an hour is not too long ago. The grace is for workers that could not reach it, and ours can.
        let launch = launch.env("MILEPOST_PUSH_FEED_RETAIN_SECONDS", DAY).env("MILEPOST_SWEEP_START_GRACE_SECONDS", 0);
        launch.env("MILEPOST_LOG_REQUESTS", "all").listening().await
    }

    async fn ask(&self, server: &Server, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", server.url)).json(body);
        let response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn patch(&self, server: &Server, job: &str, body: Value) -> Value {
        let (status, job) = self.ask(server, Method::PATCH, &format!("/jobs/{job}"), &body).await;
        assert_eq!(status, 200, "{job}");
        job
    }

    async fn read(&self, server: &Server, job: &str) -> Value {
        let (status, job) = self.ask(server, Method::GET, &format!("/jobs/{job}"), &Value::Null).await;
        assert_eq!(status, 200, "{job}");
        job
    }

    /// A job of its own kind in the hands of a worker.
    async fn claimed(&self, server: &Server, job: &str) {
        let (status, made) = self.ask(server, Method::PUT, &format!("/jobs/{job}"), &json!({"kind": job})).await;
        assert_eq!(status, 201, "{made}");
        let claim = json!({"kinds": [job], "worker": job, "lease_seconds": LEASE.as_secs()});
        let (status, claimed) = self.ask(server, Method::POST, "/jobs/claim", &claim).await;
        assert_eq!((status, &claimed["id"], &claimed["attempt"]), (200, &json!(job), &json!(1)), "{claimed}");
    }

    /// Returns when a job has been taken from its worker, which must not be before its lease is over, and how long it took.
    async fn until_lost(&self, server: &Server, job: &str, leased_since: Instant) {
        // Told and not asked for again and again, which would leave the system too little of two processors for its disk.
        let lost = async {
            let mut now = self.read(server, job).await;
            while now["status"] != "queued" {
                now = self.read(server, &format!("{job}?wait=5&since={}", now["version"])).await;
            }
        };
        timeout(PATIENCE, lost).await.unwrap_or_else(|_| panic!("{job} stays with a worker that is dead"));
        let held = leased_since.elapsed();
        assert!(held >= LEASE, "{job} was taken away after {held:?}");
        let (_, attempts) = self.ask(server, Method::GET, &format!("/jobs/{job}/attempts"), &Value::Null).await;
        assert_eq!(attempts["attempts"][0]["outcome"], "lost", "{attempts}");
    }

    /// Which jobs the feed tells of after a place, and the place where it has told of all.
    async fn told(&self, server: &Server, after: Option<&str>) -> (Vec<String>, String) {
        let mut request = self.http.get(format!("{}/events", server.url));
        if let Some(place) = after {
            request = request.header("last-event-id", place);
        }
        let mut events = Events::open(request.into()).await;
        let mut jobs = Vec::new();
        loop {
            let event = events.next().await.expect("it goes on");
            match event.name.as_str() {
                "job" => jobs.push(event.data["id"].as_str().unwrap().to_owned()),
                "ready" => return (jobs, event.id),
                _ => panic!("{event:?}"),
            }
        }
    }

    /// Sets the clock of a machine while its server runs, and returns when that has another time.
    async fn set_under(&self, server: &Server, seconds: i64) {
        let before = self.time_of_day(server).await;
        let off: i64 = fs::read_to_string(self.clock()).unwrap().trim().parse().unwrap();
        self.set(seconds);
        let is_set = |now: i64| (now - before - (seconds - off)).rem_euclid(DAY) < 60;
        let told = async { while !is_set(self.time_of_day(server).await) {} };
        timeout(PATIENCE, told).await.expect("the clock is set");
    }

    /// What the server's log has for the time, in seconds of the day: it is the one that asks the system each time.
    async fn time_of_day(&self, server: &Server) -> i64 {
        self.ask(server, Method::GET, "/jobs?limit=1", &Value::Null).await;
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = lines.next_back().expect("a line for each request");
        let time = last["timestamp"].as_str().and_then(|moment| moment.get(11..19)).unwrap_or_else(|| panic!("{last}"));
        time.split(':').fold(0, |seconds, part| seconds * 60 + part.parse::<i64>().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_takes_no_job_from_its_worker() {
    let machine = Machine::new();
    machine.set(0);
    let server = machine.start().await;
    let mut last = Value::Null;
    for (round, seconds) in [HOUR, -HOUR, 0].into_iter().enumerate() {
        let (busy, dead) = (format!("busy-{round}"), format!("dead-{round}"));
        let leased_since = Instant::now();
        machine.claimed(&server, &busy).await;
        machine.claimed(&server, &dead).await;
        machine.set_under(&server, seconds).await;
        // One worker goes on until the other one's lease is over; nobody else may have its job.
        let works = async {
            loop {
                let job = machine.patch(&server, &busy, json!({"attempt": 1, "log": "goes on"})).await;
                assert_eq!((&job["status"], &job["attempt"]), (&json!("processing"), &json!(1)), "{job}");
                goes_on(&last, &job);
                last = job;
            }
        };
        tokio::select! {
            () = works => {}
            () = machine.until_lost(&server, &dead, leased_since) => {}
        }
        last = Value::Null;
    }
    assert!(server.stop().await.success());
}

/// The time of replicas is their database's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_clock_is_set_takes_no_job_from_its_worker() {
    let machine = Machine::new();
    // The database runs as somebody else, who is to read this.
    fs::set_permissions(machine.directory.path(), Permissions::from_mode(0o755)).unwrap();
    machine.set(0);
    let clock = under(&machine.clock()).map(|(name, value)| format!("{name}={value}"));
    let database = tokio::task::spawn_blocking(move || Database::start(&clock.each_ref().map(String::as_str)));
    let database = database.await.unwrap();
    let log = machine.directory.path().join("log");
    let server = Launch::serve(Path::new(database.url()), &log).env("MILEPOST_SWEEP_START_GRACE_SECONDS", 0);
    let server = server.listening().await;
    let leased_since = Instant::now();
    machine.claimed(&server, "busy").await;
    machine.claimed(&server, "dead").await;
    let before = machine.read(&server, "busy").await;
    machine.set(HOUR);
    let follows = async {
        while !fs::read_to_string(&log).unwrap().contains("leases begin anew") {
            machine.patch(&server, "busy", json!({"attempt": 1, "log": "goes on"})).await;
        }
        machine.until_lost(&server, "dead", leased_since).await;
    };
    timeout(PATIENCE, follows).await.expect("the service follows its database's clock");
    let after = machine.read(&server, "dead").await;
    assert!(updated(&after) > updated(&before) + Duration::from_secs(HOUR.cast_unsigned()) / 2, "{after}");
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_starts_under_another_clock_goes_on_where_it_was() {
    let machine = Machine::new();
    machine.set(0);
    let mut server = machine.start().await;
    let (_, mut place) = machine.told(&server, None).await;
    for (round, seconds) in [HOUR, -HOUR, 0].into_iter().enumerate() {
        let (busy, dead) = (format!("busy-{round}"), format!("dead-{round}"));
        machine.claimed(&server, &busy).await;
        machine.claimed(&server, &dead).await;
        let before = machine.read(&server, &busy).await;
        server.kill().dead();
        machine.set(seconds);
        let leased_since = Instant::now();
        server = machine.start().await;
        assert_eq!(machine.read(&server, &busy).await, before, "what was read is still so");
        let job = machine.patch(&server, &busy, json!({"attempt": 1, "stage": "after"})).await;
        goes_on(&before, &job);
        // Who followed all jobs is told of this, as of everything else, and once.
        let (mut told, ready) = machine.told(&server, Some(&place)).await;
        told.retain(|job| [&busy, &dead].contains(&job));
        told.sort_unstable();
        assert_eq!(told, [busy.as_str(), &dead], "each once");
        place = ready;
        if seconds >= 0 {
            machine.until_lost(&server, &dead, leased_since).await;
        }
    }
    assert!(server.stop().await.success());
}

/// A job as it was and as it became.
fn goes_on(before: &Value, after: &Value) {
    if before.is_null() {
        return;
    }
    assert_eq!(after["version"].as_u64(), before["version"].as_u64().map(|version| version + 1));
    assert!(updated(before) <= updated(after), "a job's own time goes back: {before} {after}");
}

fn updated(job: &Value) -> SystemTime {
    humantime::parse_rfc3339(job["updated_at"].as_str().unwrap()).unwrap()
}

//! A service that works for long, and keeps nothing for longer than it is told to.
//!
//! Shows that what it holds (memory, room on the disk or in the database, open files) does not grow with the work that it has
//! done, when done jobs are removed. Jobs go the whole way: made under a key, claimed, worked at, followed, finished.

use std::{fmt, fs, path::PathBuf, time::Duration};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time};

use super::{
    given,
    process::{Launch, PATIENCE, Server},
};
use crate::harness::postgres::{self, Database};

/// Of each half of what is done.
const WORKERS: usize = 8;
/// Looks at the service, in equal parts of the time.
const LOOKS: u32 = 30;
/// Memory that the allocator may hold on to or not, and pages that a cache may still take, bytes.
const MEMORY_SLACK: u64 = 24 << 20;
/// The log of changes between two checkpoints, and pages that are free at one look and not at the next, bytes.
const DISK_SLACK: u64 = 16 << 20;
/// Connections come and go.
const FILES_SLACK: u64 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_does_not_grow_with_the_work() {
    Soak { lasts: Duration::from_secs(9), retain_seconds: 1, database: None }.run().await;
}

/// `make soak`: on both engines, MILEPOST_SOAK_MINUTES each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour"]
async fn soak_campaign() {
    let minutes = given("MILEPOST_SOAK_MINUTES").unwrap_or(30);
    let lasts = Duration::from_secs(60 * minutes);
    Soak { lasts, retain_seconds: 20, database: None }.run().await;
    let database = Database::start(&["autovacuum_naptime=5s"]);
    Soak { lasts, retain_seconds: 20, database: Some(database.empty_store().await) }.run().await;
}

struct Soak {
    lasts: Duration,
    retain_seconds: u32,
    /// The URL of an empty store of PostgreSQL, or it is an embedded one.
    database: Option<String>,
}

/// What the service holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Held {
    jobs: u64,
    memory: u64,
    disk: u64,
    files: u64,
}

/// A service, and where what it holds is to be seen.
struct Subject {
    server: Server,
    http: Client,
    store: PathBuf,
    database: Option<String>,
}

impl Soak {
    async fn run(self) {
        let directory = TempDir::new().unwrap();
        let store = self.database.as_ref().map_or_else(|| directory.path().join("store"), PathBuf::from);
        let mut launch = Launch::serve(&store, &directory.path().join("log"));
        for key in ["RETENTION_COMPLETED", "JOBS_DELETED_RETAIN", "JOBS_IDEMPOTENCY_RETAIN", "PUSH_FEED_RETAIN"] {
            launch = launch.env(&format!("MILEPOST_{key}_SECONDS"), self.retain_seconds);
        }
        // Room that is taken anew in short turns, so that a short look sees many of them.
        let launch = launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", 1000).env("MILEPOST_SWEEP_START_GRACE_SECONDS", 0);
        let server = launch.listening().await;
        let http = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let subject = Subject { server, http, store, database: self.database };

        let (made, is_made) = watch::channel(false);
        let (processed, is_processed) = watch::channel(false);
        let (mut makers, mut workers) = (JoinSet::new(), JoinSet::new());
        for number in 0..WORKERS {
            let (url, http) = (subject.server.url.clone(), subject.http.clone());
            makers.spawn(make(number, url.clone(), http.clone(), is_made.clone()));
            workers.spawn(process(number, url, http, is_processed.clone()));
        }
        let mut looks = Vec::new();
        let mut tick = time::interval(self.lasts / LOOKS);
        tick.tick().await;
        for _ in 0..LOOKS {
            tick.tick().await;
            looks.push(subject.look().await);
        }
        made.send_replace(true);
        let done: u64 = makers.join_all().await.into_iter().sum();
        processed.send_replace(true);
        workers.join_all().await;
        println!("{done} jobs in {:?}; at each look:", self.lasts);
        looks.iter().for_each(|held| println!("  {held}"));
        is_level(&looks, done);
        subject.comes_to_nothing().await;
        assert!(subject.server.stop().await.success());
    }
}

/// What was held in the last third is no more than what was held in the second one.
fn is_level(looks: &[Held], done: u64) {
    let third = looks.len() / 3;
    let most = |looks: &[Held], of: fn(&Held) -> u64| looks.iter().map(of).max().unwrap();
    let (before, after) = (&looks[third..2 * third], &looks[2 * third..]);
    for (what, of, slack) in [
        ("memory", (|held| held.memory) as fn(&Held) -> u64, MEMORY_SLACK),
        ("room on the disk", |held| held.disk, DISK_SLACK),
        ("open files", |held| held.files, FILES_SLACK),
    ] {
        let (before, after) = (most(before, of), most(after, of));
        assert!(after <= before + before / 4 + slack, "{what} grows: {before}, then {after}");
    }
    let kept = most(looks, |held| held.jobs);
    assert!(kept * 3 < done, "{kept} jobs are there of {done} made: too few have gone to show anything");
}

impl Subject {
    async fn look(&self) -> Held {
        let id = self.server.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count() as u64;
        let disk = match &self.database {
            None => fs::read_dir(&self.store).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum(),
            Some(url) => {
                let sizes = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace";
                postgres::value(&url.parse().unwrap(), sizes).await.parse().unwrap()
            }
        };
        Held { jobs: self.jobs().await, memory: memory * 1024, disk, files }
    }

    /// How many jobs there are.
    async fn jobs(&self) -> u64 {
        let text = self.http.get(format!("{}/metrics", self.server.url)).send().await.unwrap().text().await.unwrap();
        let counts = text.lines().filter(|line| line.starts_with("milepost_jobs{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Once nobody works any more, all that was done goes.
    async fn comes_to_nothing(&self) {
        let gone = async {
            loop {
                let listed = self.http.get(format!("{}/jobs?status=completed&limit=1", self.server.url)).send().await;
                let page: Value = listed.unwrap().json().await.unwrap();
                if page["jobs"] == json!([]) {
                    return;
                }
            }
        };
        time::timeout(PATIENCE, gone).await.expect("done jobs go");
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, memory, disk, files } = self;
        write!(f, "{jobs:6} jobs, {:4} MiB of memory, {:5} MiB of disk, {files:3} files", memory >> 20, disk >> 20)
    }
}

/// Makes jobs and follows each to its end; how many.
async fn make(number: usize, url: String, http: Client, is_over: watch::Receiver<bool>) -> u64 {
    let mut made = 0;
    while !*is_over.borrow() {
        let new = json!({"kind": "soak", "input": {"text": "x".repeat(500)}, "labels": {"maker": number.to_string()}});
        let key = format!("{number}-{made}");
        let request = http.post(format!("{url}/jobs")).header("idempotency-key", key).json(&new);
        let job: Value = request.send().await.unwrap().json().await.unwrap();
        made += 1;
        let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}"));
        // Half of them are followed; whoever waits for none makes more than there is work for.
        let path = if made % 2 == 0 { format!("/jobs/{id}/events") } else { format!("/jobs/{id}?until=done&wait=5") };
        let followed = http.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(followed.status(), StatusCode::OK);
        followed.bytes().await.unwrap();
    }
    made
}

/// Claims jobs and finishes them.
async fn process(number: usize, url: String, http: Client, is_over: watch::Receiver<bool>) {
    let ask = async |method: Method, path: &str, body: Value| -> (StatusCode, Value) {
        let response = http.request(method, format!("{url}{path}")).json(&body).send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    };
    let claim = json!({"kinds": ["soak"], "worker": number.to_string(), "lease_seconds": 60, "wait_seconds": 1});
    while !*is_over.borrow() {
        let (status, job) = ask(Method::POST, "/jobs/claim", claim.clone()).await;
        if status == StatusCode::NO_CONTENT {
            continue;
        }
        assert_eq!(status, StatusCode::OK, "{job}");
        let path = format!("/jobs/{}", job["id"].as_str().unwrap());
        for step in 0..3 {
            let lines: Vec<_> = (0..5).map(|line| format!("step {step}, line {line}, {}", "x".repeat(60))).collect();
            let body = json!({"attempt": 1, "stage": format!("step {step}"), "log": lines});
            let (status, answer) = ask(Method::PATCH, &path, body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
        let end = json!({"attempt": 1, "status": "completed", "result": {"text": "y".repeat(500)}});
        let (status, answer) = ask(Method::PATCH, &path, end).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
}

/// The negative control: what keeps everything is found out.
#[test]
fn what_grows_is_found_out() {
    let mut looks = vec![Held { jobs: 10, memory: 60 << 20, disk: 20 << 20, files: 40 }; LOOKS as usize];
    is_level(&looks, 1000);
    let found_out = |looks: &[Held], done| std::panic::catch_unwind(|| is_level(looks, done)).is_err();
    assert!(found_out(&looks, 20), "nothing has gone");
    looks[LOOKS as usize - 1].disk = 60 << 20;
    assert!(found_out(&looks, 1000), "the disk fills");
}

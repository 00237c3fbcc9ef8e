//! Workers that claim jobs, some of which die, while their server is killed again and again: each job must be finished once,
//! in its last attempt, and be in nobody else's hands in the same attempt.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client as Http, Method};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::campaign::process::{Launch, PATIENCE, Server};
use crate::random::Random;

const WORKERS: usize = 20;
const KILLS: usize = 5;
/// Of a hundred jobs so many lose their worker.
const DEATHS_PERCENT: u64 = 5;
const KINDS: [&str; 3] = ["restyle", "shortform", "probe"];

/// What the server stands on.
pub(super) enum Ground {
    /// A store of its own.
    Embedded,
    /// The store of a database, on which there are three of it.
    Replicas(String),
}

/// Where the server listens, or the last one did; or each of its replicas.
type Address = watch::Receiver<Vec<String>>;

/// What everybody knows together.
#[derive(Default)]
struct Record {
    /// In whose hands each attempt of a job was.
    hands: HashMap<(String, u64), u64>,
    /// In which attempt a job was finished, as its worker was told.
    finished: HashMap<String, u64>,
    fenced: usize,
    deaths: usize,
}

#[derive(Clone)]
struct Client {
    http: Http,
    address: Address,
    turns: Arc<AtomicUsize>,
}

impl Client {
    /// Sends until there is an answer, whoever listens by then.
    async fn ask(&self, method: Method, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        let asked = async {
            loop {
                let url = {
                    let urls = self.address.borrow();
                    urls[self.turns.fetch_add(1, Ordering::SeqCst) % urls.len()].clone()
                };
                let mut request = self.http.request(method.clone(), format!("{url}{path}")).json(body);
                if let Some(key) = key {
                    request = request.header("idempotency-key", key);
                }
                let Ok(response) = request.send().await else { continue };
                let status = response.status().as_u16();
                let Ok(text) = response.bytes().await else { continue };
                let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
                // The first request is still being answered, somewhere, or the server is on its way down or up.
                if status < 500 && answer["code"] != "idempotency_in_progress" {
                    return (status, answer);
                }
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{method} {path} is never answered"))
    }
}

struct Worker {
    /// Changes with each death.
    name: u64,
    random: Random,
    client: Client,
    record: Arc<Mutex<Record>>,
    finished: watch::Sender<usize>,
    is_over: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        while !*self.is_over.borrow() {
            let key = format!("{}-{}", self.name, self.random.next());
            let body = json!({"kinds": KINDS, "worker": self.name.to_string(), "lease_seconds": 2, "wait_seconds": 1});
            let (status, job) = self.client.ask(Method::POST, "/jobs/claim", Some(&key), &body).await;
            if status == 204 {
                continue;
            }
            assert_eq!(status, 200, "{job}");
            let (id, attempt) =
                (job["id"].as_str().expect("an id").to_owned(), job["attempt"].as_u64().expect("a number"));
            assert_eq!(job["input"], json!({"of": id}));
            let before = self.record.lock().expect("nobody panicked").hands.insert((id.clone(), attempt), self.name);
            assert!(before.is_none_or(|other| other == self.name), "{id} {attempt}: {} and {before:?}", self.name);
            if self.random.percent(DEATHS_PERCENT) {
                self.record.lock().expect("nobody panicked").deaths += 1;
                self.name += WORKERS as u64;
                continue;
            }
            let is_fenced = self.work(&id, attempt).await.is_err();
            self.record.lock().expect("nobody panicked").fenced += usize::from(is_fenced);
        }
    }

    /// Does the work, and says each thing up to three times. An error: it is no longer this worker's.
    async fn work(&mut self, id: &str, attempt: u64) -> Result<(), ()> {
        let mut said = 0;
        for _ in 0..self.random.below(3) {
            let lines: Vec<_> =
                (1..=1 + self.random.below(4)).map(|line| format!("{attempt} {}", said + line)).collect();
            let path = format!("/jobs/{id}/logs");
            let body = json!({"lines": lines, "attempt": attempt, "writer": "w", "seq": said + 1});
            for _ in 0..1 + self.random.below(3) {
                let answer = self.client.ask(Method::POST, &path, None, &body).await;
                taken(&answer)?;
            }
            said += lines.len() as u64;
        }
        let end = json!({"status": "completed", "attempt": attempt, "result": {"attempt": attempt, "said": said}});
        for _ in 0..1 + self.random.below(2) {
            let answer = self.client.ask(Method::PATCH, &format!("/jobs/{id}"), None, &end).await;
            taken(&answer)?;
        }
        let before = self.record.lock().expect("nobody panicked").finished.insert(id.to_owned(), attempt);
        assert!(before.is_none(), "{id} is finished in {attempt} and in {before:?}");
        self.finished.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Whether an answer is one that takes what was said, and not that the job is another's.
fn taken((status, answer): &(u16, Value)) -> Result<(), ()> {
    match (status, answer["code"].as_str()) {
        (200, _) => Ok(()),
        (409, Some("stale_attempt" | "already_finished")) => Err(()),
        other => panic!("{other:?}: {answer}"),
    }
}

async fn serve(directory: &tempfile::TempDir, ground: &Ground) -> Server {
    let store = match ground {
        Ground::Embedded => directory.path().join("store"),
        Ground::Replicas(url) => url.into(),
    };
    Launch::serve(&store, &directory.path().join("log")).env("MILEPOST_SWEEP_START_GRACE_SECONDS", 1).listening().await
}

async fn left(client: &Client) -> usize {
    let (status, page) = client.ask(Method::GET, "/jobs?status=queued,processing&limit=500", None, &Value::Null).await;
    assert_eq!(status, 200);
    page["jobs"].as_array().expect("jobs").len() + usize::from(!page["next"].is_null())
}

pub(super) async fn each_job_is_finished_once(seed: u64, jobs: usize, ground: Ground) {
    println!("seed {seed}");
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let mut servers = vec![serve(&directory, &ground).await];
    if let Ground::Replicas(_) = ground {
        for _ in 1..3 {
            servers.push(serve(&directory, &ground).await);
        }
    }
    let urls = |servers: &[Server]| servers.iter().map(|server| server.url.clone()).collect();
    let (address, at) = watch::channel(urls(&servers));
    let client = Client {
        http: Http::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client"),
        address: at,
        turns: Arc::default(),
    };
    for first in (0..jobs).step_by(500) {
        let make = |number: usize| {
            let (id, kind) = (format!("j{number}"), KINDS[number % KINDS.len()]);
            json!({"op": "create", "id": id, "kind": kind, "input": {"of": id}, "max_attempts": 1000,
                "priority": number % 3})
        };
        let operations: Vec<_> = (first..jobs.min(first + 500)).map(make).collect();
        assert_eq!(client.ask(Method::POST, "/batch", None, &json!(operations)).await.0, 200);
    }
    let record = Arc::<Mutex<Record>>::default();
    let (over, is_over) = watch::channel(false);
    let (finished, mut progress) = watch::channel(0);
    let mut workers = JoinSet::new();
    for name in 0..WORKERS as u64 {
        let worker = Worker {
            name,
            random: random.fork(),
            client: client.clone(),
            record: record.clone(),
            finished: finished.clone(),
            is_over: is_over.clone(),
        };
        workers.spawn(worker.run());
    }
    for kill in 1..=KILLS {
        let enough = jobs * kill / (KILLS + 2);
        let reached = progress.wait_for(|count| *count >= enough);
        timeout(PATIENCE, reached).await.expect("jobs are finished").expect("its sender lives");
        let place = random.below(servers.len() as u64) as usize;
        servers.swap_remove(place).kill().dead();
        servers.push(serve(&directory, &ground).await);
        address.send_replace(urls(&servers));
    }
    let done = async { while left(&client).await > 0 {} };
    timeout(2 * PATIENCE, done).await.expect("all jobs are finished");
    over.send_replace(true);
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker sees nothing strange");
    }
    let record = std::mem::take(&mut *record.lock().expect("nobody panicked"));
    println!(
        "{jobs} jobs in {} attempts, {} deaths, {} fenced; took {:?}",
        record.hands.len(),
        record.deaths,
        record.fenced,
        begun.elapsed()
    );
    assert!(record.deaths > jobs / 100 && record.hands.len() > jobs, "hardly anybody died");
    let export = client.http.get(format!("{}/export", servers[0].url)).send().await.expect("an export");
    let export = export.text().await.expect("all of it");
    let mut lines = export.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).peekable();
    let mut seen = 0;
    while let Some(line) = lines.next() {
        let Some(job) = line.get("job") else { continue };
        seen += 1;
        let (id, attempt) = (job["id"].as_str().expect("an id"), job["attempt"].as_u64().expect("a number"));
        assert_eq!((&job["status"], &job["result"]["attempt"]), (&json!("completed"), &json!(attempt)), "{job}");
        // Its worker may have been killed off before it was told.
        assert!(record.finished.get(id).is_none_or(|told| *told == attempt), "{job}");
        let mut said = 0;
        while let Some(more) = lines.next_if(|line| line.get("lines").is_some()) {
            for line in more["lines"].as_array().expect("lines").iter().filter(|line| line[2] == attempt) {
                said += 1;
                assert_eq!(line[3], format!("{attempt} {said}"), "{id}");
            }
        }
        assert_eq!(job["result"]["said"], said, "{job}");
    }
    assert_eq!(seen, jobs);
    for server in servers {
        assert!(server.stop().await.success(), "a clean stop");
    }
}

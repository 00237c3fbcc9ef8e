//! A store has no room. PostgreSQL goes away, comes back, is slow or full, ends connections, takes no writes: nothing acknowledged is lost, nothing is done twice, and
//! the service goes on by itself.

mod busy;
mod failover;
mod full;
mod hearing;
mod network;
mod pooler;
mod tls;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use milepost::{
    app::{App, StartError},
    clock::Clock,
    config::{Config, Flags},
};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Answer, Server, eventually, postgres::Database, script::aside};

/// What became of lines that were sent, each once and in its own request.
#[derive(Debug, Default)]
struct Sent {
    acknowledged: BTreeSet<String>,
    /// They may be there or not.
    unknown: BTreeSet<String>,
    /// They were refused, and must not be there.
    refused: BTreeSet<String>,
}

/// Writers that each append lines to a job of their own and to one that all share, until they are told to stop.
struct Load {
    writers: JoinSet<Sent>,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

const WRITERS: usize = 8;

impl Load {
    async fn begin(servers: &[Arc<Server>]) -> Self {
        servers[0].job("shared", "k").await;
        let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            servers[0].job(&format!("own-{number}"), "k").await;
            let (server, is_over) = (servers[number % servers.len()].clone(), is_over.clone());
            let count_acknowledged = acknowledged.clone();
            writers.spawn(async move {
                let mut sent = Sent::default();
                for count in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let job = if count % 2 == 0 { "shared".to_owned() } else { format!("own-{number}") };
                    let line = format!("{job} {number}-{count}");
                    let answer = server.patch(&job, json!({"stage": line, "log": line})).await;
                    match answer.status {
                        200 => {
                            sent.acknowledged.insert(line);
                            count_acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        503 => {
                            assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
                            let is_unknown = answer.text.contains("is not known");
                            if is_unknown {
                                sent.unknown.insert(line)
                            } else {
                                sent.refused.insert(line)
                            };
                        }
                        429 => drop(sent.refused.insert(line)),
                        _ => panic!("{answer:?}"),
                    }
                }
                sent
            });
        }
        Self { writers, is_over, acknowledged }
    }

    /// Returns once so many more changes are acknowledged.
    async fn goes_on(&self, count: usize) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + count;
        let reached = async || (self.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(());
        eventually(reached).await.expect("changes are acknowledged");
    }

    /// Ends, and compares what is there with what was said.
    async fn end(self, server: &Server) {
        self.is_over.store(true, Ordering::SeqCst);
        let mut all = Sent::default();
        for sent in self.writers.join_all().await {
            all.acknowledged.extend(sent.acknowledged);
            all.unknown.extend(sent.unknown);
            all.refused.extend(sent.refused);
        }
        let mut found = BTreeSet::new();
        for job in (0..WRITERS).map(|number| format!("own-{number}")).chain(["shared".to_owned()]) {
            let (mut after, mut count) = (0, 0);
            loop {
                let page = server.get(&format!("/jobs/{job}/logs?after={after}&limit=10000")).await.is(200).json();
                let lines = page["lines"].as_array().unwrap();
                if lines.is_empty() {
                    break;
                }
                for line in lines {
                    count += 1;
                    assert_eq!(line["seq"], count, "{job} has a hole");
                    assert!(found.insert(line["line"].as_str().unwrap().to_owned()), "{line} is there twice");
                }
                after = count;
            }
            let document = server.read(&job).await;
            assert_eq!(document["version"], count + 1, "{job}: a version for each line");
        }
        let lost: Vec<_> = all.acknowledged.difference(&found).collect();
        assert_eq!(lost, Vec::<&String>::new(), "acknowledged and lost");
        let phantoms: Vec<_> = all.refused.intersection(&found).collect();
        assert_eq!(phantoms, Vec::<&String>::new(), "refused and there");
        let (acknowledged, unknown, refused) = (all.acknowledged.len(), all.unknown.len(), all.refused.len());
        println!("{acknowledged} acknowledged, {unknown} unknown, {refused} refused");
    }
}

/// A service on a database of its own.
async fn start(settings: &[&'static str], configure: impl FnOnce(&mut Config)) -> (Database, Arc<Server>) {
    let settings = settings.to_vec();
    let database = tokio::task::spawn_blocking(move || Database::start(&settings)).await.unwrap();
    let server = Server::start_at(database.empty_store().await, configure).await;
    (database, Arc::new(server))
}

/// What becomes of a service with this URL.
async fn start_and_stop(url: &str) -> Result<(), StartError> {
    let flags = Flags { config: None, listen: Some("127.0.0.1:0".into()), store: Some(url.into()) };
    let mut config = Config::load(&flags, []).unwrap();
    impatient(&mut config, Duration::from_secs(2));
    let app = App::open(config, Clock::system()).await?;
    app.serve().await?.shutdown().await.unwrap();
    Ok(())
}

/// A read of `j` that waits for what comes after this version, once it waits.
async fn waits(replica: &Server, version: u32) -> JoinHandle<Answer> {
    let call = replica.get(&format!("/jobs/j?since={version}&wait=60"));
    let waiting = tokio::spawn(async move { call.await });
    replica.until_open("wait", 1).await;
    waiting
}

/// Has the service wait so long for its database, whatever for.
fn impatient(config: &mut Config, wait: Duration) {
    let seconds = wait.as_secs() as u32;
    config.postgres.connect_seconds = seconds;
    config.postgres.statement_seconds = seconds;
    config.postgres.commit_seconds = seconds;
}

/// Returns when the service takes work, or no longer does.
pub(crate) async fn until_ready(server: &Server, is_ready: bool) {
    let becomes = async || ((server.get("/readyz").await.status == 200) == is_ready).then_some(());
    if eventually(becomes).await.is_none() {
        let health = server.get("/health").await.json();
        panic!("never ready: {is_ready}: {health}");
    }
}

/// Returns once a change is taken again.
async fn until_written(server: &Server, id: &str) -> Duration {
    let begun = Instant::now();
    let written = async || (server.put(&format!("/jobs/{id}"), json!({"kind": "k"})).await.status < 429).then_some(());
    eventually(written).await.expect("changes are taken again");
    begun.elapsed()
}

/// Kills a database and starts it again after a while.
async fn restart(database: Database, pause: Duration) -> Database {
    let restart = move |database: &mut Database| {
        database.kill();
        std::thread::sleep(pause);
        database.restart();
    };
    aside(database, restart).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_loses_nothing_and_is_used_again() {
    let (mut database, first) = start(&[], |_| {}).await;
    let replica = Arc::new(first.replica().await);
    let servers = [first, replica];
    let load = Load::begin(&servers).await;
    for round in 0..3 {
        load.goes_on(100).await;
        database = restart(database, Duration::from_millis(round * 100)).await;
        for server in &servers {
            let took = until_written(server, &format!("after-{round}")).await;
            println!("written again {took:?} after it was there");
        }
    }
    for server in &servers {
        until_ready(server, true).await;
    }
    load.end(&servers[1]).await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_ended_cost_no_change() {
    let (database, server) = start(&["fsync=off"], |_| {}).await;
    let load = Load::begin(std::slice::from_ref(&server)).await;
    for round in 0..20 {
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        load.goes_on(20).await;
        assert_ne!(database.value(others).await, "0");
        until_written(&server, &format!("round-{round}")).await;
    }
    load.end(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_of_in_time_and_reads_come_back_too() {
    let (database, server) = start(&["fsync=off"], |config| {
        config.postgres.connect_seconds = 1;
        config.postgres.commit_seconds = 2;
    })
    .await;
    server.job("j", "k").await;
    let database = aside(database, Database::kill).await;
    until_ready(&server, false).await;
    server.get("/readyz").await.refused(503, "storage_unavailable");
    assert_eq!(server.get("/health").await.is(200).json()["store"]["status"], "unavailable");
    server.get("/livez").await.is(200);
    let begun = Instant::now();
    server.get("/jobs/j").await.refused(503, "storage_unavailable");
    server.get("/jobs").await.refused(503, "storage_unavailable");
    let answer = server.patch("j", json!({"stage": "x"})).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    answer.refused(503, "storage_unavailable");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let database = aside(database, Database::restart).await;
    until_ready(&server, true).await;
    assert_eq!(server.read("j").await["version"], 1);
    server.patch("j", json!({"stage": "x"})).await.is(200);
    drop(database);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_read_and_said_to_be_so() {
    let (database, server) = start(&["fsync=off"], |_| {}).await;
    server.job("j", "k").await;
    database.value("ALTER SYSTEM SET default_transaction_read_only = on").await;
    database.value("SELECT pg_reload_conf()").await;
    until_ready(&server, false).await;
    let answer = server.patch("j", json!({"stage": "x"})).await.refused(503, "storage_unavailable");
    assert!(answer["detail"].as_str().unwrap().contains("takes no writes"), "{answer}");
    let health = server.get("/health").await.json();
    assert!(health["store"]["detail"].as_str().unwrap().contains("takes no writes"), "{health}");
    assert_eq!(server.read("j").await["version"], 1);
    database.value("ALTER SYSTEM RESET default_transaction_read_only").await;
    database.value("SELECT pg_reload_conf()").await;
    until_ready(&server, true).await;
    server.patch("j", json!({"stage": "x"})).await.is(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_acknowledgements_less_than_durable_is_told() {
    let (database, server) = start(&["fsync=off", "full_page_writes=off", "synchronous_commit=off"], |_| {}).await;
    let expected = json!(["fsync_off", "full_page_writes_off", "commit_asynchronous"]);
    assert_eq!(server.get("/readyz").await.is(200).json()["cautions"], expected);
    drop(database);
    until_ready(&server, false).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_leads_to_another_job_is_found_out() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off"])).await.unwrap();
    let server = Server::start_at(database.url().to_string(), |_| {}).await;
    for job in ["a", "b"] {
        server.job(job, "k").await;
    }
    server.patch("a", json!({"stage": "here"})).await.is(200);
    database.value("UPDATE ids SET job = (SELECT job FROM ids WHERE id = 'b') WHERE id = 'a'").await;
    // It has the job not in memory.
    let replica = server.replica().await;
    for answer in [replica.get("/jobs/a").await, replica.patch("a", json!({"stage": "x"})).await] {
        assert!(matches!(answer.status, 500 | 503), "{answer:?}");
    }
    replica.stop().await;
    assert_eq!(server.get("/jobs/b").await.is(200).json()["version"], 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_keep_their_jobs_when_the_database_was_away_for_longer_than_their_leases() {
    let (database, server) = start(&["fsync=off"], |_| {}).await;
    let leased = json!({"kind": "k", "status": "processing", "lease_seconds": 30});
    server.put("/jobs/j", leased).await.is(201);
    let database = aside(database, Database::kill).await;
    until_ready(&server, false).await;
    // It is away for so long by the clock of the story, and for a while by that on the wall.
    server.pass(Duration::from_secs(31));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        server.get("/readyz").await.is(503);
    }
    let _database = aside(database, Database::restart).await;
    until_ready(&server, true).await;
    server.pass(Duration::from_secs(29));
    // The sweep has come by in the meantime.
    let receipt = server.post("/jobs/j/heartbeat", json!({"attempt": 1})).await.is(200).json();
    assert_eq!(receipt["attempt"], 1, "{receipt}");
    server.pass(Duration::from_secs(31));
    server.until("j", |job| job["status"] == "failed").await;
    server.stop().await;
}

//! Several replicas on one store: what one has acknowledged all others know, and what one does no other does again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    harness::{Call, On, PATIENCE, Server, eventually, only},
    outages::until_ready,
    stream::{Events, Lines},
};

/// So many replicas of a service.
async fn replicas(count: usize) -> Vec<Arc<Server>> {
    let first = Server::start(On::Postgres, |_| {}).await;
    let mut all = vec![];
    for _ in 1..count {
        all.push(Arc::new(first.replica().await));
    }
    all.push(Arc::new(first));
    all
}

async fn stop(all: Vec<Arc<Server>>) {
    for server in all {
        server.stop().await;
    }
}

/// A database ends one of two transactions that wait for each other after a second of deadlock_timeout, so these would be slow as well.
#[tokio::test]
async fn replicas_that_change_the_same_jobs_the_other_way_round_never_wait_for_each_other() {
    const JOBS: usize = 40;
    let all = replicas(2).await;
    let ids: Vec<_> = (0..JOBS).map(|number| format!("j{number}")).collect();
    let made: Vec<_> = ids.iter().map(|id| json!({"op": "create", "id": id, "kind": "k"})).collect();
    all[0].post("/batch", json!(made)).await.is(200);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before = all[0].value(deadlocks).await;
    for round in 0..150 {
        let change = |id: &String| json!({"op": "patch", "id": id, "stage": format!("s{round}")});
        let on: Vec<_> = ids.iter().map(change).collect();
        let back: Vec<_> = on.iter().rev().cloned().collect();
        let (on, back) = tokio::join!(all[0].post("/batch", json!(on)), all[1].post("/batch", json!(back)));
        for answer in [on.is(200), back.is(200)] {
            let statuses = answer.json()["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["status"].clone())
                .collect::<Vec<_>>();
            assert_eq!(statuses, vec![json!(200); JOBS]);
        }
    }
    assert_eq!(all[0].value(deadlocks).await, before);
    stop(all).await;
}

#[tokio::test]
async fn what_one_has_acknowledged_all_others_tell() {
    let all = replicas(3).await;
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    a.job("j", "k").await;
    for number in 1..20 {
        // Whoever remembers the job from the last round does not tell of that.
        let writer = &all[number % 3];
        let stage = format!("s{number}");
        writer.patch("j", json!({"stage": stage, "log": stage})).await.is(200);
        for reader in &all {
            let job = reader.read("j").await;
            let logs: Vec<_> = (1..=number).map(|number| format!("s{number}")).collect();
            assert_eq!(
                only(&job, &["stage", "version", "logs"]),
                json!({"stage": stage, "version": number + 1, "logs": logs})
            );
            let same = reader.get("/jobs/j").header("if-none-match", &format!("\"v{}\"", number + 1));
            same.await.is(304);
        }
    }
    b.patch("j", json!({"status": "completed", "result": 1})).await.is(200);
    assert_eq!(c.get("/jobs?status=completed").await.json()["jobs"][0]["id"], "j");
    c.delete("/jobs/j").await.is(204);
    for reader in &all {
        reader.get("/jobs/j").await.refused(404, "job_not_found");
        reader.patch("j", json!({"stage": "x"})).await.refused(404, "job_not_found");
    }
    stop(all).await;
}

#[tokio::test]
async fn what_is_refused_is_refused_for_what_is_and_not_for_what_was() {
    let all = replicas(2).await;
    let [a, b] = [&all[0], &all[1]];
    a.put("/jobs/j", json!({"kind": "k", "status": "processing"})).await.is(201);
    b.read("j").await;
    a.patch("j", json!({"status": "completed"})).await.is(200);
    b.patch("j", json!({"status": "failed"})).await.refused(409, "already_finished");
    // The same again is no change, and it is the other one that it is the same as.
    assert_eq!(b.patch("j", json!({"status": "completed"})).await.is(200).json()["version"], 2);
    a.post("/jobs/j/retry", json!({})).await.is(200);
    // For b it was done a moment ago.
    b.patch("j", json!({"status": "processing", "attempt": 2})).await.is(200);
    a.patch("j", json!({"stage": "x", "attempt": 1})).await.refused(409, "stale_attempt");
    a.patch("j", json!({"stage": "x"})).header("if-match", "\"v2\"").await.refused(412, "version_mismatch");
    // Made, deleted and made anew: each knows which one it is.
    a.put("/jobs/r", json!({"kind": "k"})).await.is(201);
    b.put("/jobs/r", json!({"kind": "k"})).await.is(200);
    b.put("/jobs/r", json!({"kind": "other"})).await.refused(409, "job_exists");
    a.delete("/jobs/r").await.is(204);
    b.put("/jobs/r", json!({"kind": "k"})).await.refused(409, "job_deleted");
    all[0].pass(Duration::from_secs(86_401));
    b.put("/jobs/r", json!({"kind": "other"})).await.is(201);
    assert_eq!(a.read("r").await["kind"], "other");
    stop(all).await;
}

#[tokio::test]
async fn whoever_waits_hears_of_what_others_do() {
    let all = replicas(2).await;
    let [a, b] = [&all[0], &all[1]];
    a.job("j", "k").await;
    let mut job = Events::open(b.get("/jobs/j/events")).await;
    let mut feed = Events::open(b.get("/events")).await;
    let mut lines = Lines::open(b.get("/jobs/j/logs?follow=1")).await;
    assert_eq!(job.next().await.unwrap().name, "job");
    assert_eq!(feed.next().await.unwrap().name, "ready");
    let call = b.get("/jobs/j?until=done&wait=60");
    let end = tokio::spawn(async move { call.await });
    b.until_open("wait", 1).await;

    a.patch("j", json!({"status": "processing", "log": "one"})).await.is(200);
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("one"));
    a.post("/jobs/j/logs", json!({"line": "two"})).await.is(200);
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("two"));
    a.patch("j", json!({"status": "completed", "result": {"url": "/v/1.mp4"}})).await.is(200);
    assert_eq!(end.await.unwrap().is(200).json()["result"]["url"], "/v/1.mp4");
    let told = job.rest().await;
    let logs: Vec<_> =
        told.iter().filter(|event| event.name == "log").map(|event| event.data["line"].clone()).collect();
    assert_eq!(logs, ["one", "two"], "{told:?}");
    let last = told.iter().rfind(|event| event.name == "job").unwrap();
    assert_eq!(last.data["status"], "completed", "{told:?}");
    assert_eq!(lines.rest().await, Vec::<String>::new());
    let mut last = feed.next().await.unwrap();
    while last.data["status"] != "completed" {
        last = feed.next().await.unwrap();
    }
    // A place that one has told is one for the other. How a job stands is read after the page that it is on, so `completed`
    // may have been told with the place of an earlier change: then it is told again.
    let mut other = Events::open(a.get("/events").header("last-event-id", &last.id)).await;
    let mut next = other.next().await.unwrap();
    if next.name == "job" {
        assert_eq!(next.data, last.data);
        next = other.next().await.unwrap();
    }
    assert_eq!(next.name, "ready", "{next:?}");
    drop((feed, other));
    stop(all).await;
}

fn claim(server: &Server, worker: &str, wait_seconds: u64) -> Call {
    let wish = json!({"kinds": ["k"], "worker": worker, "lease_seconds": 30, "wait_seconds": wait_seconds});
    server.post("/jobs/claim", wish)
}

/// A worker behind a balancer writes through one replica and then through another.
#[tokio::test]
async fn what_one_has_changed_another_does_not_decide_on_as_it_was() {
    let all = replicas(2).await;
    for id in ["j", "last"] {
        all[0].job(id, "k").await;
    }
    for version in 1..12 {
        let (near, far) = (&all[version % 2], &all[(version + 1) % 2]);
        // Who is told of the last change has heard of all before it; the job itself nobody reads.
        let call = far.get(&format!("/jobs/last?since={version}&wait=20"));
        let told = tokio::spawn(async move { call.await });
        far.until_open("wait", 1).await;
        for id in ["j", "last"] {
            near.patch(id, json!({"stage": format!("s{version}")})).await.is(200);
        }
        assert_eq!(told.await.unwrap().is(200).json()["version"], version + 1);
    }
    for server in &all {
        let metrics = server.get("/metrics").await.is(200).text;
        assert!(metrics.contains("\nmilepost_commit_conflicts_total 0\n"), "{metrics}");
    }
    stop(all).await;
}

#[tokio::test]
async fn a_job_that_comes_to_one_wakes_who_waits_at_another() {
    let all = replicas(2).await;
    for number in 0..5 {
        let call = claim(&all[1], "w", 20);
        let worker = tokio::spawn(async move { call.await });
        all[1].until_open("claim", 1).await;
        all[0].job(&format!("j-{number}"), "k").await;
        assert_eq!(worker.await.unwrap().is(200).json()["id"], format!("j-{number}"));
    }
    stop(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_goes_to_one_worker_whichever_replica_it_asks() {
    const JOBS: usize = 300;
    let all = replicas(3).await;
    let create = |number: usize| json!({"op": "create", "id": format!("j-{number}"), "kind": "k"});
    all[0].post("/batch", (0..JOBS).map(create).collect()).await.is(200);
    let mut workers = JoinSet::new();
    for number in 0..12 {
        let server = all[number % 3].clone();
        workers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let answer = claim(&server, &format!("w-{number}"), 0).await;
                match answer.status {
                    // Others were faster too often; there may be more.
                    503 => drop(answer.refused(503, "contended")),
                    204 => return got,
                    _ => got.push(answer.is(200).json()["id"].as_str().unwrap().to_owned()),
                }
            }
        });
    }
    let mut got: Vec<_> = workers.join_all().await.concat();
    got.sort_unstable();
    let claimed = got.len();
    got.dedup();
    assert_eq!((got.len(), claimed), (JOBS, JOBS), "each goes to one");
    stop(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_version_of_a_job_has_one_writer() {
    const WRITERS: usize = 64;
    const EACH: usize = 10;
    let all = replicas(3).await;
    all[0].job("j", "k").await;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let server = all[number % 3].clone();
        writers.spawn(async move {
            let (mut versions, mut contended) = (Vec::new(), 0);
            while versions.len() < EACH {
                let stage = format!("{number}-{}", versions.len());
                let answer = server.patch("j", json!({"stage": stage, "log": stage})).await;
                if answer.status == 503 {
                    answer.refused(503, "contended");
                    contended += 1;
                    continue;
                }
                let job = answer.is(200).json();
                assert_eq!(job["stage"], stage);
                versions.push((job["version"].as_u64().unwrap(), stage));
            }
            (versions, contended)
        });
    }
    let (mut writes, mut contended) = (BTreeMap::new(), 0);
    for (versions, met) in writers.join_all().await {
        contended += met;
        for (version, stage) in versions {
            assert_eq!(writes.insert(version, stage), None, "version {version} has two writers");
        }
    }
    let count = (WRITERS * EACH) as u64;
    assert!(writes.keys().copied().eq(2..count + 2), "every version has a writer");
    let lines = all[1].get("/jobs/j/logs?limit=1000").await.is(200).json();
    let texts: Vec<_> = lines["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap()).collect();
    assert!(texts.iter().eq(writes.values()), "lines are in the order of the versions");
    println!("{count} writes, {contended} answered `contended`");
    stop(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_makes_one_job_whichever_replica_it_comes_to() {
    let all = replicas(3).await;
    for round in 0..20 {
        let mut requests = JoinSet::new();
        for server in &all {
            let call = server.post("/jobs", json!({"kind": "k"})).header("idempotency-key", &format!("key-{round}"));
            requests.spawn(async move { call.await });
        }
        let mut ids = Vec::new();
        for answer in requests.join_all().await {
            match answer.status {
                409 => drop(answer.refused(409, "idempotency_in_progress")),
                _ => {
                    let is_made = answer.header("idempotency-replayed").is_none();
                    ids.push((is_made, answer.is(201).json()["id"].clone()));
                }
            }
        }
        assert_eq!(ids.iter().filter(|(is_made, _)| *is_made).count(), 1, "{ids:?}");
        assert!(ids.iter().all(|(_, id)| *id == ids[0].1), "{ids:?}");
        let again = all[round % 3].post("/jobs", json!({"kind": "k"}));
        let again = again.header("idempotency-key", &format!("key-{round}")).await.is(201).json();
        assert_eq!(again["id"], ids[0].1);
    }
    assert_eq!(all[0].get("/stats").await.json()["jobs"]["queued"], 20);
    stop(all).await;
}

#[tokio::test]
async fn what_is_due_is_done_once() {
    let all = replicas(3).await;
    for number in 0..60 {
        let job = json!({"kind": "k", "max_attempts": 9});
        all[0].put(&format!("/jobs/j-{number}"), job).await.is(201);
        claim(&all[number % 3], "w", 0).await.is(200);
    }
    all[0].pass(Duration::from_secs(31));
    for number in 0..60 {
        let job = all[number % 3].until(&format!("j-{number}"), |job| job["status"] == "queued").await;
        assert_eq!(only(&job, &["attempt", "version"]), json!({"attempt": 2, "version": 3}));
    }
    let mut done = 0;
    for server in &all {
        let metrics = server.get("/metrics").await.text;
        let requeued =
            metrics.lines().find_map(|line| line.strip_prefix("milepost_swept_jobs_total{effect=\"requeued\"} "));
        done += requeued.map_or(0, |count| count.parse::<u64>().unwrap());
    }
    assert_eq!(done, 60, "each is counted where it was done");
    stop(all).await;
}

#[tokio::test]
async fn figures_are_those_of_all() {
    let all = replicas(2).await;
    for number in 0..10 {
        let (id, server) = (format!("j-{number}"), &all[number % 2]);
        server.put(&format!("/jobs/{id}"), json!({"kind": "k", "status": "processing"})).await.is(201);
        all[0].pass(Duration::from_secs(10));
        all[(number + 1) % 2].patch(&id, json!({"status": "completed"})).await.is(200);
    }
    let stats = |server: Arc<Server>| async move { server.get("/stats").await.is(200).json() };
    let told: Vec<Value> = vec![stats(all[0].clone()).await, stats(all[1].clone()).await];
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0]["jobs"]["completed"], 10);
    // Also once what was added is folded in.
    let folded = async || (all[0].value("SELECT count(*) FROM deltas").await == "0").then_some(());
    eventually(folded).await.expect("counts are folded");
    assert_eq!(stats(all[1].clone()).await, told[0]);
    stop(all).await;
}

#[tokio::test]
async fn a_place_in_the_feed_outlives_any_number_of_log_lines() {
    let all = replicas(1).await;
    let server = &all[0];
    server.job("j", "k").await;
    server.patch("j", json!({"stage": "news"})).await.is(200);
    let mut feed = Events::open(server.get("/events")).await;
    let place = feed.next().await.unwrap().id;
    for _ in 0..3 {
        server.pass(Duration::from_secs(601));
        for number in 0..40 {
            server.post("/jobs/j/logs", json!({"line": format!("line {number}")})).await.is(200);
        }
    }
    // Entries without news are forgotten, but for the newest ones.
    const COUNT: &str = "SELECT count(*) FROM feed WHERE cardinality(changes) = 0 AND tenant = 0";
    let forgotten = async || (server.value(COUNT).await.parse::<u64>().unwrap() <= 60).then_some(());
    eventually(forgotten).await.expect("old entries are forgotten");
    let mut resumed = Events::open(server.get("/events").header("last-event-id", &place)).await;
    let ready = resumed.next().await.unwrap();
    assert_eq!((ready.name.as_str(), &ready.id), ("ready", &place));
    // And whoever stayed hears of what comes.
    server.patch("j", json!({"stage": "more news"})).await.is(200);
    for feed in [&mut feed, &mut resumed] {
        assert_eq!(feed.next().await.unwrap().data["stage"], "more news");
    }
    drop((feed, resumed));
    stop(all).await;
}

#[tokio::test]
async fn how_long_a_job_takes_is_learnt_from_all() {
    let all = replicas(2).await;
    let [a, b] = [&all[0], &all[1]];
    a.put("/jobs/first", json!({"kind": "k", "status": "processing"})).await.is(201);
    a.pass(Duration::from_secs(20));
    a.patch("first", json!({"status": "completed"})).await.is(200);
    let learnt = async {
        for number in 0.. {
            let path = format!("/jobs/j-{number}");
            let job = b.put(&path, json!({"kind": "k", "status": "processing"})).await.is(201).json();
            if !job["eta_seconds"].is_null() {
                return job["eta_seconds"].clone();
            }
        }
        Value::Null
    };
    let eta = tokio::time::timeout(PATIENCE, learnt).await.expect("it is learnt");
    assert!((19.0..=21.0).contains(&eta.as_f64().unwrap()), "{eta}");
    stop(all).await;
}

#[tokio::test]
async fn a_replica_that_a_newer_program_has_made_unfit_changes_nothing() {
    let server = Server::start(On::Postgres, |_| {}).await;
    server.job("j", "k").await;
    until_ready(&server, true).await;
    server.value("UPDATE store SET oldest = 99 RETURNING oldest").await;
    until_ready(&server, false).await;
    server.get("/readyz").await.refused(503, "storage_unavailable");
    server.patch("j", json!({"stage": "x"})).await.refused(503, "storage_unavailable");
    assert_eq!(server.read("j").await["version"], 1);
    server.value("UPDATE store SET oldest = 2 RETURNING oldest").await;
    until_ready(&server, true).await;
    // Put back to what a former program has left.
    server.value("UPDATE store SET format = 1 RETURNING format").await;
    until_ready(&server, false).await;
    server.get("/readyz").await.refused(503, "storage_unavailable");
    server.value("UPDATE store SET format = 2 RETURNING format").await;
    until_ready(&server, true).await;
    server.patch("j", json!({"stage": "x"})).await.is(200);
    server.stop().await;
}

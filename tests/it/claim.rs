//! Claiming jobs: who gets which, who waits, and who may still write.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Answer, Call, Server, only};

fn claim(server: &Server, kinds: &[&str], worker: &str) -> Call {
    server.post("/jobs/claim", json!({"kinds": kinds, "worker": worker, "lease_seconds": 30}))
}

fn waiting(server: &Server, kinds: &[&str], worker: &str) -> Call {
    server.post("/jobs/claim", json!({"kinds": kinds, "worker": worker, "lease_seconds": 30, "wait_seconds": 20}))
}

/// A worker that waits for a job, alone.
async fn waits(server: &Server, worker: &str) -> JoinHandle<Answer> {
    let call = waiting(server, &["k"], worker);
    let worker = tokio::spawn(async move { call.await });
    server.until_open("claim", 1).await;
    worker
}

/// The id of the job that an answer gives, if it does.
fn id(answer: &Answer) -> Option<String> {
    match answer.status {
        204 => None,
        _ => Some(answer.json()["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()),
    }
}

each_engine!(a_claimed_job_is_the_workers, |server| async move {
    let new = json!({"kind": "restyle", "input": {"clip": "/v/1.mp4"}, "log": "made", "labels": {"user": "42"}});
    server.put("/jobs/j", new).await.is(201);
    server.pass(Duration::from_secs(5));
    claim(server, &["shortform"], "w-1").await.is(204);
    let answer = claim(server, &["restyle", "shortform"], "w-1").await.is(200);
    assert_eq!(answer.header("etag"), Some("\"v2\""));
    let job = answer.json();
    let expected = json!({
        "id": "j", "status": "processing", "attempt": 1, "worker": "w-1", "version": 2, "input": {"clip": "/v/1.mp4"},
        "lease_expires_at": "2026-11-23T08:00:35.000Z", "started_at": "2026-11-23T08:00:05.000Z", "labels": {"user": "42"},
        "logs": [], "logs_from": 2, "log_count": 1
    });
    let members: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(only(&job, &members), expected);
    claim(server, &["restyle"], "w-2").await.is(204);
    // Its worker names the attempt, and nobody else may write.
    server.patch("j", json!({"progress_pct": 5})).await.refused(409, "attempt_required");
    server.patch("j", json!({"progress_pct": 5, "attempt": 1})).await.is(200);
    server.pass(Duration::from_secs(10));
    let receipt = server.post("/jobs/j/heartbeat", json!({"attempt": 1})).await.is(200).json();
    assert_eq!(receipt["lease_expires_at"], "2026-11-23T08:00:45.000Z");
    assert!(server.read("j").await.get("input").is_none());
});

each_engine!(the_first_of_the_highest_priority_comes_first, |server| async move {
    for (id, kind, priority) in [
        ("a", "k", 0),
        ("b", "k", 5),
        ("c", "other", 9),
        ("d", "third", 5),
        ("e", "k", 5),
        ("f", "k", -7),
        ("g", "k", 0),
    ] {
        server.put(&format!("/jobs/{id}"), json!({"kind": kind, "priority": priority})).await.is(201);
        server.pass(Duration::from_millis(1));
    }
    let mut order = Vec::new();
    while let Some(id) = id(&claim(server, &["k", "third", "k"], "w").await) {
        order.push(id);
    }
    assert_eq!(order, ["b", "d", "e", "a", "g", "f"]);
    // Given back, it waits anew, behind those that came meanwhile; a done one is none.
    server.pass(Duration::from_secs(1));
    server.job("h", "k").await;
    server.pass(Duration::from_secs(1));
    server.patch("a", json!({"status": "queued", "attempt": 1})).await.is(200);
    server.job("cancelled", "k").await;
    server.call("POST", "/jobs/cancelled/cancel").await.is(200);
    server.job("deleted", "k").await;
    server.delete("/jobs/deleted").await.is(204);
    server.job("taken", "k").await;
    server.patch("taken", json!({"status": "processing"})).await.is(200);
    assert_eq!(id(&claim(server, &["k"], "w").await).as_deref(), Some("h"));
    let again = claim(server, &["k"], "w").await.is(200).json();
    assert_eq!(only(&again, &["id", "attempt"]), json!({"id": "a", "attempt": 2}));
    claim(server, &["k"], "w").await.is(204);
});

each_engine!(a_job_that_was_taken_and_given_back_in_one_commit_waits_once, |server| async move {
    // More of them than a claim looks at.
    const JOBS: usize = 40;
    for number in 0..JOBS {
        let id = format!("j{number}");
        server.put(&format!("/jobs/{id}"), json!({"kind": "k", "priority": 5})).await.is(201);
        server.pass(Duration::from_millis(3));
        let there_and_back = json!([
            {"op": "patch", "id": id, "status": "processing"}, {"op": "patch", "id": id, "status": "queued"}
        ]);
        server.post("/batch", there_and_back).await.is(200);
        assert_eq!(server.read(&id).await["attempt"], 2);
    }
    for _ in 0..JOBS / 2 {
        let job = claim(server, &["k"], "w").await.is(200).json();
        server.patch(job["id"].as_str().unwrap(), json!({"attempt": 2, "status": "completed"})).await.is(200);
    }
    for _ in JOBS / 2..JOBS {
        let job = claim(server, &["k"], "w").await.is(200).json();
        server.delete(&format!("/jobs/{}", job["id"].as_str().unwrap())).await.is(204);
    }
    claim(server, &["k"], "w").await.is(204);
    server.job("last", "k").await;
    assert_eq!(claim(server, &["k"], "w").await.is(200).json()["id"], "last");
});

each_engine!(a_job_goes_to_one_worker, |server| async move {
    const JOBS: usize = 60;
    let mut claims = JoinSet::new();
    for number in 0..JOBS {
        server.job(&format!("j{number}"), "k").await;
    }
    for worker in 0..8 {
        // A claim is answered with the rest of its batch, so that all of them meet in one.
        for _ in 0..10 {
            let call = claim(server, &["k"], &format!("w-{worker}"));
            claims.spawn(async move { id(&call.await) });
        }
    }
    let mut taken: Vec<String> = claims.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken.len(), JOBS);
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), JOBS, "no job is in two hands");
});

each_engine!(a_waiting_worker_gets_the_job_that_comes, |server| async move {
    let mut workers = JoinSet::new();
    for worker in 0..3_u64 {
        let call = waiting(server, &["k", "other"], &format!("w-{worker}"));
        workers.spawn(async move { call.await });
        server.until_open("claim", worker + 1).await;
    }
    for left in (0..3).rev() {
        let name = format!("j{left}");
        server.job(&name, if left == 1 { "other" } else { "k" }).await;
        let answer = workers.join_next().await.unwrap().unwrap().is(200);
        assert_eq!(answer.json()["id"], name.as_str());
        assert_eq!(server.count_open("claim").await, left, "one job is for one worker");
    }
});

each_engine!(every_way_into_the_queue_wakes_a_worker, |server| async move {
    let worker = waits(server, "by a creation").await;
    server.post("/batch", json!([{"op": "create", "kind": "k", "id": "j"}])).await.is(200);
    assert_eq!(worker.await.unwrap().is(200).json()["attempt"], 1);
    let worker = waits(server, "given back").await;
    server.patch("j", json!({"status": "queued", "attempt": 1})).await.is(200);
    assert_eq!(worker.await.unwrap().is(200).json()["attempt"], 2);
    server.patch("j", json!({"status": "failed", "attempt": 2})).await.is(200);
    let worker = waits(server, "by a retry").await;
    server.call("POST", "/jobs/j/retry").await.is(200);
    assert_eq!(worker.await.unwrap().is(200).json()["attempt"], 3);
    let worker = waits(server, "since the last one was lost").await;
    server.pass(Duration::from_secs(31));
    assert_eq!(worker.await.unwrap().is(200).json()["attempt"], 4);
});

each_engine!(who_goes_away_leaves_the_job_to_the_next, |server| async move {
    let gone = waiting(server, &["k"], "gone");
    let gone = tokio::spawn(async move { gone.begin().await });
    server.until_open("claim", 1).await;
    let next = waiting(server, &["k"], "next");
    let next = tokio::spawn(async move { next.await });
    server.until_open("claim", 2).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    server.until_open("claim", 1).await;
    server.job("j", "k").await;
    assert_eq!(next.await.unwrap().is(200).json()["worker"], "next");
});

each_engine!(a_stop_sends_waiting_workers_away, |server| async move {
    let call = waiting(server, &["k"], "w");
    let worker = tokio::spawn(async move { call.await });
    server.until_open("claim", 1).await;
    server.stop().await;
    assert_eq!(id(&worker.await.unwrap()), None);
});

each_engine!(a_repeated_claim_is_answered_with_the_same_job, |server| async move {
    let keyed = |key: &str| claim(server, &["k"], "w").header("idempotency-key", key);
    keyed("one").await.is(204);
    for id in ["a", "b", "c"] {
        server.job(id, "k").await;
        server.pass(Duration::from_millis(1));
    }
    assert_eq!(keyed("one").await.is(200).json()["id"], "a");
    let again = keyed("one").await.is(200);
    assert_eq!((again.json()["id"].as_str(), again.header("idempotency-replayed")), (Some("a"), Some("true")));
    assert_eq!(keyed("two").await.is(200).json()["id"], "b");
    let other = json!({"kinds": ["k"], "worker": "w", "lease_seconds": 31});
    server.post("/jobs/claim", other).header("idempotency-key", "one").await.refused(422, "idempotency_mismatch");
    // Keys of creations are others.
    server.post("/jobs", json!({"kind": "z"})).header("idempotency-key", "one").await.is(201);
    // What is over is not given out again.
    server.patch("a", json!({"status": "completed", "attempt": 1})).await.is(200);
    let fresh = keyed("one").await.is(200);
    assert_eq!((fresh.json()["id"].as_str(), fresh.header("idempotency-replayed")), (Some("c"), None));
    server.patch("c", json!({"status": "queued", "attempt": 1})).await.is(200);
    assert_eq!(only(&keyed("one").await.is(200).json(), &["id", "attempt"]), json!({"id": "c", "attempt": 2}));
    server.delete("/jobs/c").await.is(204);
    keyed("one").await.is(204);
});

each_engine!(a_zombie_changes_nothing, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "max_attempts": 3})).await.is(201);
    claim(server, &["k"], "zombie").await.is(200);
    server.patch("j", json!({"progress_pct": 40, "attempt": 1, "log": "z", "writer": "w", "seq": 1})).await.is(200);
    server.pass(Duration::from_secs(31));
    server.until("j", |job| job["attempt"] == 2).await;
    claim(server, &["k"], "second").await.is(200);
    let before = server.read("j").await;
    let body = |more: Value| {
        let mut body = json!({"attempt": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for call in [
        server.patch("j", body(json!({"status": "completed"}))),
        server.patch("j", body(json!({"labels": {"a": "b"}}))),
        server.post("/jobs/j/logs", body(json!({"line": "x"}))),
        server.call("POST", "/jobs/j/logs?attempt=1").body("text/plain", "x"),
        server.post("/jobs/j/heartbeat", body(json!({}))),
    ] {
        assert_eq!(call.await.refused(409, "stale_attempt")["current_attempt"], 2);
    }
    let results =
        server.post("/batch", json!([{"op": "log", "id": "j", "line": "x", "attempt": 1}])).await.is(200).json();
    assert_eq!(results["results"][0]["problem"]["code"], "stale_attempt", "{results}");
    assert_eq!(server.read("j").await, before);
    let metrics = server.get("/metrics").await.is(200).text;
    assert!(metrics.contains("milepost_stale_attempts_total 6"), "{metrics}");
});

each_engine!(what_a_claim_cannot_take_is_named, |server| async move {
    server.job("j", "k").await;
    for (member, value) in [
        ("kinds", json!([])),
        ("kinds", json!("k")),
        ("kinds", json!([1])),
        ("kinds", json!(["K"])),
        ("kinds", json!(null)),
        ("kinds", (0..101).map(|number| format!("k{number}")).collect()),
        ("worker", json!("")),
        ("worker", json!("a\nb")),
        ("worker", json!("x".repeat(65))),
        ("lease_seconds", json!(0)),
        ("lease_seconds", json!(86_401)),
        ("lease_seconds", json!("30")),
        ("wait_seconds", json!(-1)),
        ("wait_seconds", json!(1.5)),
        ("kind", json!("k")),
    ] {
        let mut body = json!({"kinds": ["k"], "worker": "w", "lease_seconds": 30});
        body[member] = value;
        server.post("/jobs/claim", body).await.names(member);
    }
    for member in ["kinds", "worker", "lease_seconds"] {
        let mut body = json!({"kinds": ["k"], "worker": "w", "lease_seconds": 30});
        body.as_object_mut().unwrap().remove(member);
        server.post("/jobs/claim", body).await.names(member);
    }
    assert_eq!(server.read("j").await["status"], "queued");
});

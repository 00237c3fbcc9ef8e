//! Cancel, retry, heartbeat: what may be asked of a job beside a change of its members.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, only};

async fn ask(server: &Server, id: &str, what: &str, body: Value) -> Answer {
    server.post(&format!("/jobs/{id}/{what}"), body).await
}

/// A job at which a worker is.
async fn processing(server: &Server, id: &str) {
    server.put(&format!("/jobs/{id}"), json!({"kind": "k", "status": "processing"})).await.is(201);
}

each_engine!(a_queued_job_is_cancelled_at_once, |server| async move {
    server.job("j", "k").await;
    let answer = ask(server, "j", "cancel", json!({"reason": "wrong clip"})).await.is(200);
    assert_eq!(answer.header("etag"), Some("\"v2\""));
    let job = answer.json();
    let expected = json!({
        "status": "cancelled", "done": true, "outcome": "cancelled", "cancel_requested": false,
        "error": {"reason": "cancelled", "message": "wrong clip"}, "logs": [], "version": 2
    });
    assert_eq!(only(&job, &["status", "done", "outcome", "cancel_requested", "error", "logs", "version"]), expected);
    // Once more changes nothing, whatever the reason.
    let again = ask(server, "j", "cancel", json!({"reason": "another"})).await.is(200).json();
    assert_eq!(only(&again, &["version", "error"]), only(&job, &["version", "error"]));
    server.job("without", "k").await;
    let job = server.call("POST", "/jobs/without/cancel").await.is(200).json();
    assert_eq!(only(&job, &["status", "error"]), json!({"status": "cancelled", "error": null}));
});

each_engine!(the_worker_of_a_processing_job_is_told_to_stop, |server| async move {
    processing(server, "j").await;
    let job = ask(server, "j", "cancel", json!({})).await.is(202).json();
    assert_eq!(
        only(&job, &["status", "cancel_requested", "version"]),
        json!({"status": "processing", "cancel_requested": true, "version": 2})
    );
    assert_eq!(ask(server, "j", "cancel", json!(null)).await.status, 422);
    assert_eq!(server.call("POST", "/jobs/j/cancel").await.is(202).json()["version"], 2);
    // Each answer to a write says so.
    assert_eq!(server.patch("j", json!({"progress_pct": 5})).await.is(200).json()["cancel_requested"], true);
    let minimal = server.patch("j", json!({"progress_pct": 6})).header("prefer", "return=minimal").await.is(204);
    assert_eq!(minimal.header("milepost-cancel"), Some("requested"));
    assert_eq!(server.post("/jobs/j/logs", json!({"line": "x"})).await.is(200).json()["cancel_requested"], true);
    assert_eq!(ask(server, "j", "heartbeat", json!({})).await.is(200).json()["cancel_requested"], true);
    let minimal = server.post("/jobs/j/heartbeat", json!({})).header("prefer", "return=minimal").await.is(204);
    assert_eq!(minimal.header("milepost-cancel"), Some("requested"));
    let job = server.patch("j", json!({"status": "cancelled"})).await.is(200).json();
    assert_eq!(only(&job, &["status", "outcome"]), json!({"status": "cancelled", "outcome": "cancelled"}));
    ask(server, "j", "cancel", json!({})).await.is(200);
});

each_engine!(a_worker_that_ends_its_job_wins_over_a_cancel, |server| async move {
    for (status, outcome) in [("completed", "succeeded"), ("failed", "failed")] {
        processing(server, status).await;
        ask(server, status, "cancel", json!({})).await.is(202);
        let job = server.patch(status, json!({"status": status})).await.is(200).json();
        assert_eq!(job["outcome"], outcome);
        let problem = ask(server, status, "cancel", json!({})).await.refused(409, "already_finished");
        assert!(problem["detail"].as_str().unwrap().contains(status), "{problem}");
    }
});

each_engine!(a_done_job_is_tried_again, |server| async move {
    processing(server, "j").await;
    server
        .patch("j", json!({"progress_pct": 40, "stage": "Matting", "log": "first", "labels": {"a": "b"}}))
        .await
        .is(200);
    ask(server, "j", "retry", json!({})).await.refused(409, "not_finished");
    let failed = json!({"status": "failed", "result": {"half": 1}, "error": {"reason": "oom"}});
    server.patch("j", failed).await.is(200);
    server.pass(Duration::from_secs(5));
    let job = ask(server, "j", "retry", json!({"attempt": 1})).await.is(200).json();
    let expected = json!({
        "status": "queued", "done": false, "outcome": null, "attempt": 2, "progress_pct": 0, "stage": null,
        "error": null, "worker": null, "cancel_requested": false, "started_at": null, "finished_at": null,
        "expires_at": null, "labels": {"a": "b"}, "log_count": 1, "version": 4
    });
    let members: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(only(&job, &members), expected);
    assert!(job["result"].is_null(), "{job}");
    // The answer to this was lost, and the request comes again: whatever has become of the new attempt by then.
    assert_eq!(ask(server, "j", "retry", json!({"attempt": 1})).await.is(200).json()["version"], 4);
    server.patch("j", json!({"status": "completed", "log": "second"})).await.is(200);
    assert_eq!(ask(server, "j", "retry", json!({"attempt": 1})).await.is(200).json()["status"], "completed");
    let problem = ask(server, "j", "retry", json!({"attempt": 3})).await.refused(409, "stale_attempt");
    assert_eq!(problem["current_attempt"], 2);
    let lines = server.get("/jobs/j/logs").await.is(200).json();
    let lines: Vec<_> =
        lines["lines"].as_array().unwrap().iter().map(|line| only(line, &["attempt", "line"])).collect();
    assert_eq!(lines, [json!({"attempt": 1, "line": "first"}), json!({"attempt": 2, "line": "second"})]);
    let minimal = server.call("POST", "/jobs/j/retry").header("prefer", "return=minimal").await.is(204);
    assert_eq!(minimal.header("etag"), Some("\"v6\""));
    assert_eq!(server.read("j").await["attempt"], 3);
    // The writer of the last attempt is too late, if it says which it was.
    server.patch("j", json!({"progress_pct": 1, "attempt": 2})).await.refused(409, "stale_attempt");
});

each_engine!(a_command_depends_on_the_version_it_names, |server| async move {
    server.job("j", "k").await;
    let moved = server.call("POST", "/jobs/j/cancel").header("if-match", "\"v9\"").await;
    assert_eq!(moved.refused(412, "version_mismatch")["current_version"], 1);
    server.call("POST", "/jobs/j/cancel").header("if-match", "\"v1\"").await.is(200);
    // A repeat comes before the version.
    server.call("POST", "/jobs/j/cancel").header("if-match", "\"v1\"").await.is(200);
    server.call("POST", "/jobs/j/retry").header("if-match", "\"v1\"").await.refused(412, "version_mismatch");
    server.call("POST", "/jobs/j/retry").header("if-match", "\"v2\"").await.is(200);
    server.post("/jobs/j/heartbeat", json!({})).header("if-match", "\"v1\"").await.refused(412, "version_mismatch");
});

each_engine!(a_heartbeat_renews_the_lease, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "status": "processing", "lease_seconds": 30})).await.is(201);
    server.pass(Duration::from_secs(20));
    let receipt = ask(server, "j", "heartbeat", json!({"attempt": 1, "pct": 5})).await;
    receipt.names("pct");
    let receipt = ask(server, "j", "heartbeat", json!({"attempt": 1, "progress_pct": 12, "stage": "Matting"})).await;
    let expected = json!({
        "id": "j", "status": "processing", "attempt": 1, "version": 2, "log_count": 0, "duplicates": 0,
        "cancel_requested": false, "lease_expires_at": "2026-11-23T08:00:50.000Z"
    });
    assert_eq!(receipt.is(200).json(), expected);
    server.pass(Duration::from_secs(20));
    // A sign of life alone is nothing that a reader sees.
    let receipt = server.post("/jobs/j/heartbeat?attempt=1", json!({})).await.is(200).json();
    assert_eq!(
        only(&receipt, &["version", "lease_expires_at"]),
        json!({"version": 2, "lease_expires_at": "2026-11-23T08:01:10.000Z"})
    );
    ask(server, "j", "heartbeat", json!({})).await.refused(409, "attempt_required");
    ask(server, "j", "heartbeat", json!({"attempt": 2})).await.refused(409, "stale_attempt");
    server.post("/jobs/j/heartbeat?attempt=1", json!({"attempt": 1})).await.names("attempt");
    server.patch("j", json!({"status": "completed", "attempt": 1})).await.is(200);
    ask(server, "j", "heartbeat", json!({"attempt": 1})).await.refused(409, "already_finished");
    server.job("queued", "k").await;
    ask(server, "queued", "heartbeat", json!({})).await.refused(409, "invalid_transition");
});

each_engine!(what_a_command_cannot_take_is_named, |server| async move {
    server.job("j", "k").await;
    let before = server.read("j").await;
    for (what, body, member) in [
        ("cancel", json!({"reason": 5}), "reason"),
        ("cancel", json!({"reason": "a\nb"}), "reason"),
        ("cancel", json!({"reason": "x".repeat(257)}), "reason"),
        ("cancel", json!({"status": "cancelled"}), "status"),
        ("retry", json!({"attempt": 0}), "attempt"),
        ("retry", json!({"attempt": 1.5}), "attempt"),
        ("retry", json!({"attempt": "1"}), "attempt"),
        ("retry", json!({"from": 1}), "from"),
        ("heartbeat", json!({"progress_pct": 101}), "progress_pct"),
        ("heartbeat", json!({"progress": 1, "progress_pct": 1}), "progress"),
        ("heartbeat", json!({"log": "x"}), "log"),
    ] {
        ask(server, "j", what, body).await.names(member);
    }
    for what in ["cancel", "retry", "heartbeat"] {
        let path = format!("/jobs/j/{what}");
        server.call("POST", &path).body("text/plain", "x").await.refused(415, "unsupported_media_type");
        server.post(&path.replace("/j/", "/none/"), json!({})).await.refused(404, "job_not_found");
    }
    assert_eq!(server.read("j").await, before);
});

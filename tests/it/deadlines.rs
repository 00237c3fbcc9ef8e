//! What happens to jobs that nobody asks for: leases, attempts and waits that run out, workers that do not stop, jobs that
//! are kept no longer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, only};

async fn claim(server: &Server, lease_seconds: u32) -> Value {
    let body = json!({"kinds": ["k"], "worker": "w", "lease_seconds": lease_seconds});
    server.post("/jobs/claim", body).await.is(200).json()
}

async fn create(server: &Server, id: &str, more: Value) {
    let mut body = json!({"kind": "k"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.put(&format!("/jobs/{id}"), body).await.is(201);
}

fn ended(job: &Value) -> Value {
    only(job, &["status", "outcome", "error"])
}

each_engine!(a_lost_attempt_is_made_anew_until_there_were_enough, |server| async move {
    create(server, "j", json!({"max_attempts": 2, "labels": {"a": "b"}})).await;
    claim(server, 30).await;
    server.patch("j", json!({"attempt": 1, "progress_pct": 40, "stage": "s", "log": "first"})).await.is(200);
    server.pass(Duration::from_secs(31));
    let job = server.until("j", |job| job["status"] == "queued").await;
    let expected = json!({
        "attempt": 2, "worker": null, "lease_expires_at": null, "progress_pct": 0, "stage": null, "started_at": null,
        "labels": {"a": "b"}, "log_count": 1, "error": null
    });
    let members: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(only(&job, &members), expected);
    claim(server, 30).await;
    server.patch("j", json!({"attempt": 2, "progress_pct": 60})).await.is(200);
    server.pass(Duration::from_secs(31));
    let job = server.until("j", |job| job["done"] == true).await;
    let why = "its worker has not renewed the lease";
    let end = json!({"status": "failed", "outcome": "lost", "error": {"reason": "lost", "message": why}});
    assert_eq!((ended(&job), &job["attempt"], &job["progress_pct"]), (end, &json!(2), &json!(60)));
    assert_eq!(job["logs"], json!(["first", format!("❌ {why}")]));
    // A retry has all its attempts before it.
    server.call("POST", "/jobs/j/retry").await.is(200);
    claim(server, 30).await;
    server.patch("j", json!({"attempt": 3, "progress_pct": 60})).await.is(200);
    server.pass(Duration::from_secs(31));
    server.until("j", |job| job["status"] == "queued").await;
});

each_engine!(attempts_that_never_began_do_not_count_three_times, |server| async move {
    create(server, "j", json!({})).await;
    for attempt in 1..=3 {
        assert_eq!(claim(server, 1).await["attempt"], attempt);
        server.pass(Duration::from_secs(2));
        server.until("j", |job| job["attempt"] == attempt + 1).await;
    }
    claim(server, 1).await;
    server.pass(Duration::from_secs(2));
    assert_eq!(server.until("j", |job| job["done"] == true).await["outcome"], "lost");
});

each_engine!(a_worker_that_writes_keeps_its_job, |server| async move {
    create(server, "j", json!({"lease_seconds": 10, "status": "processing"})).await;
    create(server, "other", json!({"lease_seconds": 10, "status": "processing"})).await;
    server.patch("other", json!({"attempt": 1, "progress_pct": 1})).await.is(200);
    for percent in 1..=8 {
        server.pass(Duration::from_secs(9));
        server.patch("j", json!({"attempt": 1, "progress_pct": percent})).await.is(200);
        // Each time, the lease as it was first agreed has run out.
        if percent == 4 {
            server.until("other", |job| job["outcome"] == "lost").await;
        }
    }
    assert_eq!(only(&server.read("j").await, &["status", "attempt"]), json!({"status": "processing", "attempt": 1}));
    server.pass(Duration::from_secs(10));
    server.until("j", |job| job["outcome"] == "lost").await;
});

each_engine!(an_attempt_may_take_so_long, |server| async move {
    create(server, "j", json!({"timeout_seconds": 20, "max_attempts": 2, "status": "processing"})).await;
    server.pass(Duration::from_secs(19));
    server.patch("j", json!({"progress_pct": 1})).await.is(200);
    server.pass(Duration::from_secs(1));
    server.until("j", |job| job["attempt"] == 2).await;
    server.patch("j", json!({"status": "processing"})).await.is(200);
    server.pass(Duration::from_secs(20));
    let job = server.until("j", |job| job["done"] == true).await;
    let why = "the attempt has taken longer than it may";
    assert_eq!(
        ended(&job),
        json!({"status": "failed", "outcome": "timed_out", "error": {"reason": "timed_out", "message": why}})
    );
});

each_engine!(a_job_may_wait_so_long, |server| async move {
    create(server, "j", json!({"queue_ttl_seconds": 20})).await;
    create(server, "claimed", json!({"queue_ttl_seconds": 20, "priority": 1})).await;
    claim(server, 86_400).await;
    server.pass(Duration::from_secs(20));
    let job = server.until("j", |job| job["done"] == true).await;
    let why = "it has waited longer than it may for a worker";
    assert_eq!(
        ended(&job),
        json!({"status": "failed", "outcome": "expired", "error": {"reason": "expired", "message": why}})
    );
    assert_eq!(server.read("claimed").await["status"], "processing");
    // The wait begins anew.
    server.call("POST", "/jobs/j/retry").await.is(200);
    server.pass(Duration::from_secs(19));
    assert_eq!(claim(server, 30).await["id"], "j");
});

each_engine!(a_worker_that_does_not_stop_is_not_waited_for_for_ever, |server| async move {
    create(server, "j", json!({"status": "processing", "cancel_grace_seconds": 5})).await;
    create(server, "usual", json!({"status": "processing"})).await;
    create(server, "obeys", json!({"status": "processing", "cancel_grace_seconds": 5})).await;
    for id in ["j", "usual", "obeys"] {
        server.call("POST", &format!("/jobs/{id}/cancel")).await.is(202);
    }
    server.patch("obeys", json!({"status": "completed"})).await.is(200);
    server.pass(Duration::from_secs(5));
    let job = server.until("j", |job| job["done"] == true).await;
    let why = "its worker did not stop in time";
    let end = json!({"status": "cancelled", "outcome": "cancelled", "error": {"reason": "cancelled", "message": why}});
    assert_eq!((ended(&job), &job["logs"]), (end, &json!([format!("❌ {why}")])));
    server.patch("j", json!({"status": "completed"})).await.refused(409, "already_finished");
    assert_eq!(server.read("usual").await["status"], "processing");
    server.pass(Duration::from_secs(55));
    server.until("usual", |job| job["status"] == "cancelled").await;
    assert_eq!(server.read("obeys").await["status"], "completed");
});

each_engine!(a_lost_worker_that_was_to_stop_leaves_a_cancelled_job, |server| async move {
    create(server, "j", json!({"max_attempts": 5})).await;
    claim(server, 10).await;
    server.call("POST", "/jobs/j/cancel").await.is(202);
    server.pass(Duration::from_secs(10));
    let job = server.until("j", |job| job["done"] == true).await;
    assert_eq!(only(&job, &["status", "attempt"]), json!({"status": "cancelled", "attempt": 1}));
});

each_engine!(a_done_job_goes_when_it_is_kept_no_longer, |server| async move {
    create(server, "j", json!({"retain_seconds": 20, "log": "x"})).await;
    server.patch("j", json!({"status": "completed"})).await.is(200);
    create(server, "retried", json!({"retain_seconds": 20})).await;
    server.patch("retried", json!({"status": "completed"})).await.is(200);
    server.pass(Duration::from_secs(19));
    server.call("POST", "/jobs/retried/retry").await.is(200);
    assert_eq!(server.read("j").await["expires_at"], "2026-11-23T08:00:20.000Z");
    server.pass(Duration::from_secs(1));
    server.until_gone("j").await;
    server.put("/jobs/j", json!({"kind": "k"})).await.refused(409, "job_deleted");
    assert_eq!(server.read("retried").await["status"], "queued");
    let metrics = server.get("/metrics").await.is(200).text;
    assert!(metrics.contains("milepost_swept_jobs_total{effect=\"removed\"} 1"), "{metrics}");
});

each_engine!(
    a_job_is_kept_as_its_kind_or_its_end_says,
    |config| {
        config.retention.kinds = vec![
            milepost::config::KindRetention { kind: "short".into(), seconds: 10 },
            milepost::config::KindRetention { kind: "kept".into(), seconds: 0 },
        ];
        config.retention.completed_seconds = 20;
        config.retention.failed_seconds = 30;
    },
    |server| async move {
        let at = |seconds: u64| json!(format!("2026-11-23T08:00:{seconds}.000Z"));
        for (id, kind, own, status, expires_at) in [
            ("own", "short", json!(40), "completed", at(40)),
            ("kind", "short", json!(null), "completed", at(10)),
            ("for-ever", "kept", json!(null), "failed", json!(null)),
            ("completed", "k", json!(null), "completed", at(20)),
            ("failed", "k", json!(null), "failed", at(30)),
            ("cancelled", "k", json!(null), "cancelled", json!(null)),
        ] {
            server.put(&format!("/jobs/{id}"), json!({"kind": kind, "retain_seconds": own})).await.is(201);
            let job = server.patch(id, json!({"status": status})).await.is(200).json();
            assert_eq!(job["expires_at"], expires_at, "{id}");
        }
        for (seconds, gone) in [(10, "kind"), (10, "completed"), (10, "failed"), (10, "own")] {
            server.pass(Duration::from_secs(seconds));
            server.until_gone(gone).await;
        }
        for id in ["for-ever", "cancelled"] {
            server.read(id).await;
        }
    }
);

each_engine!(
    deadlines_survive_a_restart_and_leave_workers_a_moment,
    |config| {
        config.sweep.start_grace_seconds = 30;
    },
    |server| async move {
        for id in ["renewed", "lost"] {
            create(server, id, json!({"max_attempts": 1, "lease_seconds": 10, "status": "processing"})).await;
            server.patch(id, json!({"attempt": 1, "progress_pct": 5})).await.is(200);
        }
        create(server, "waits", json!({"queue_ttl_seconds": 5})).await;
        create(server, "long", json!({"lease_seconds": 100, "status": "processing"})).await;
        server.patch("long", json!({"attempt": 1, "progress_pct": 5})).await.is(200);
        let server = server.restarted().await;
        server.pass(Duration::from_secs(29));
        // The lease has run out, but nobody could have renewed it.
        server.post("/jobs/renewed/heartbeat", json!({"attempt": 1})).await.is(200);
        assert_eq!(server.read("lost").await["status"], "processing");
        server.pass(Duration::from_secs(2));
        server.until("lost", |job| job["outcome"] == "lost").await;
        server.until("waits", |job| job["outcome"] == "expired").await;
        assert_eq!(server.read("renewed").await["status"], "processing");
        server.pass(Duration::from_secs(8));
        server.until("renewed", |job| job["outcome"] == "lost").await;
        // Its lease lasts as long as it would if it had been renewed with the start: its worker could not.
        server.pass(Duration::from_secs(51));
        let server = server.restarted().await;
        server.pass(Duration::from_secs(30));
        let job = server.until("long", |job| job["lease_expires_at"] == "2026-11-23T08:03:10.000Z").await;
        assert_eq!((&job["status"], &job["version"]), (&json!("processing"), &json!(2)));
        server.pass(Duration::from_secs(69));
        server.post("/jobs/long/heartbeat", json!({"attempt": 1})).await.is(200);
        server.pass(Duration::from_secs(99));
        assert_eq!(server.read("long").await["status"], "processing");
        server.pass(Duration::from_secs(1));
        server.until("long", |job| job["outcome"] == "lost").await;
        server.stop().await;
    }
);

each_engine!(
    many_come_up_at_once,
    |config| {
        config.sweep.jobs_max = 7;
    },
    |server| async move {
        let jobs: Vec<_> = (0..50)
            .map(|id| json!({"op": "create", "id": format!("j{id}"), "kind": "k", "queue_ttl_seconds": 5}))
            .collect();
        server.post("/batch", json!(jobs)).await.is(200);
        server.pass(Duration::from_secs(5));
        for id in 0..50 {
            server.until(&format!("j{id}"), |job| job["outcome"] == "expired").await;
        }
        let metrics = server.get("/metrics").await.is(200).text;
        assert!(metrics.contains("milepost_swept_jobs_total{effect=\"failed\"} 50"), "{metrics}");
    }
);

each_engine!(every_attempt_is_remembered, |server| async move {
    create(server, "j", json!({"max_attempts": 2})).await;
    let attempts = async || server.get("/jobs/j/attempts").await.is(200).json()["attempts"].clone();
    let time = |seconds: u64| format!("2026-11-23T08:00:{seconds:02}.000Z");
    let waiting = json!({
        "attempt": 1, "worker": null, "started_at": null, "ended_at": null, "outcome": null, "error": null, "progress_pct": 0
    });
    assert_eq!(attempts().await, json!([waiting]));
    claim(server, 10).await;
    server.patch("j", json!({"attempt": 1, "progress_pct": 40})).await.is(200);
    server.pass(Duration::from_secs(10));
    server.until("j", |job| job["attempt"] == 2).await;
    claim(server, 10).await;
    server.patch("j", json!({"attempt": 2, "progress_pct": 5})).await.is(200);
    server.patch("j", json!({"attempt": 2, "status": "queued"})).await.is(200);
    server.pass(Duration::from_secs(5));
    // In one commit, or in two: nothing of it is forgotten.
    server.post("/batch", json!([
        {"op": "patch", "id": "j", "attempt": 3, "status": "processing"},
        {"op": "patch", "id": "j", "attempt": 3, "status": "failed", "error": {"reason": "oom"}, "progress_pct": 7},
    ])).await.is(200);
    server.call("POST", "/jobs/j/retry").await.is(200);
    claim(server, 10).await;
    let past = |attempt, worker, started, ended, outcome, progress, error| {
        json!({
            "attempt": attempt, "worker": worker, "started_at": time(started), "ended_at": ended, "outcome": outcome,
            "error": error, "progress_pct": progress
        })
    };
    let none = json!(null);
    let expected = json!([
        past(1, json!("w"), 0, json!(time(10)), json!("lost"), 40, none.clone()),
        past(2, json!("w"), 10, json!(time(10)), json!("given_back"), 5, none.clone()),
        past(3, none.clone(), 15, json!(time(15)), json!("failed"), 7, json!({"reason": "oom"})),
        past(4, json!("w"), 15, none.clone(), none.clone(), 0, none),
    ]);
    assert_eq!(attempts().await, expected);
    let restarted = server.restarted().await;
    assert_eq!(restarted.get("/jobs/j/attempts").await.is(200).json()["attempts"], expected);
    restarted.get("/jobs/none/attempts").await.refused(404, "job_not_found");
    restarted.get("/jobs/j/attempts?limit=1").await.names("limit");
    restarted.delete("/jobs/j").await.is(204);
    restarted.get("/jobs/j/attempts").await.is(404);
    restarted.stop().await;
});

each_engine!(a_timeline_tells_what_happened_and_who_did_it, |server| async move {
    create(server, "j", json!({"max_attempts": 5})).await;
    let timeline = async |server: &Server| server.get("/jobs/j/timeline").await.is(200).json();
    let entry = |seconds: u64, event: &str, attempt: u32, status: &str, stage: Value, by: Value, reason: Value| {
        json!({
            "at": format!("2026-11-23T08:00:{seconds:02}.000Z"), "event": event, "attempt": attempt, "status": status,
            "stage": stage, "by": by[0], "worker": by[1], "reason": reason
        })
    };
    let (client, service, nobody) = (json!(["client", null]), json!(["service", null]), json!(["worker", null]));
    let (w, null) = (json!(["worker", "w"]), json!(null));
    let created = entry(0, "created", 1, "queued", null.clone(), client.clone(), null.clone());
    assert_eq!(timeline(server).await, json!({"timeline": [created], "dropped": 0}));
    server.pass(Duration::from_secs(1));
    claim(server, 10).await;
    server.patch("j", json!({"attempt": 1, "stage": "probe", "progress_pct": 40})).await.is(200);
    server.patch("j", json!({"attempt": 1, "stage": "probe", "progress_pct": 41, "log": "a"})).await.is(200);
    server.post("/jobs/j/heartbeat", json!({"attempt": 1, "stage": "cut"})).await.is(200);
    server.pass(Duration::from_secs(10));
    server.until("j", |job| job["attempt"] == 2).await;
    claim(server, 10).await;
    server.patch("j", json!({"attempt": 2, "status": "queued"})).await.is(200);
    // In one commit, or in more: nothing of it is forgotten.
    server
        .post(
            "/batch",
            json!([
                {"op": "patch", "id": "j", "attempt": 3, "status": "processing", "stage": "cut"},
                {"op": "log", "id": "j", "attempt": 3, "stage": "mux", "line": "b"},
            ]),
        )
        .await
        .is(200);
    server.post("/jobs/j/cancel", json!({"reason": "the user has left"})).await.is(202);
    server.post("/jobs/j/cancel", json!({"reason": "again"})).await.is(202);
    server.patch("j", json!({"attempt": 3, "status": "cancelled"})).await.is(200);
    server.call("POST", "/jobs/j/retry").await.is(200);
    server.patch("j", json!({"attempt": 4, "status": "completed", "stage": "all done"})).await.is(200);
    let expected = json!([
        created,
        entry(1, "started", 1, "processing", null.clone(), w.clone(), null.clone()),
        entry(1, "stage_changed", 1, "processing", json!("probe"), w.clone(), null.clone()),
        entry(1, "stage_changed", 1, "processing", json!("cut"), w.clone(), null.clone()),
        entry(11, "lost", 1, "queued", null.clone(), service, null.clone()),
        entry(11, "started", 2, "processing", null.clone(), w.clone(), null.clone()),
        entry(11, "given_back", 2, "queued", null.clone(), w, null.clone()),
        entry(11, "started", 3, "processing", json!("cut"), nobody.clone(), null.clone()),
        entry(11, "stage_changed", 3, "processing", json!("mux"), nobody.clone(), null.clone()),
        entry(11, "cancel_requested", 3, "processing", json!("mux"), client.clone(), json!("the user has left")),
        entry(11, "cancelled", 3, "cancelled", json!("mux"), nobody.clone(), null.clone()),
        entry(11, "retried", 4, "queued", null.clone(), client, null.clone()),
        entry(11, "succeeded", 4, "completed", json!("all done"), nobody, null),
    ]);
    assert_eq!(timeline(server).await, json!({"timeline": expected, "dropped": 0}));
    let restarted = server.restarted().await;
    assert_eq!(timeline(&restarted).await["timeline"], expected);
    restarted.get("/jobs/none/timeline").await.refused(404, "job_not_found");
    restarted.get("/jobs/j/timeline?limit=1").await.names("limit");
    restarted.delete("/jobs/j").await.is(204);
    restarted.get("/jobs/j/timeline").await.is(404);
    restarted.stop().await;
});

each_engine!(the_last_entries_of_a_timeline_are_kept, |server| async move {
    create(server, "j", json!({})).await;
    for attempt in 1..=300 {
        server.patch("j", json!({"attempt": attempt, "status": "failed"})).await.is(200);
        server.post("/jobs/j/retry", json!({"attempt": attempt})).await.is(200);
    }
    let kept = server.get("/jobs/j/timeline").await.is(200).json();
    let entries = kept["timeline"].as_array().unwrap();
    assert!((256..544).contains(&entries.len()), "{}", entries.len());
    assert_eq!(kept["dropped"], 601 - entries.len());
    assert_eq!(
        (&entries.last().unwrap()["event"], &entries.last().unwrap()["attempt"]),
        (&json!("retried"), &json!(301))
    );
});

each_engine!(the_last_hundred_attempts_are_kept, |server| async move {
    create(server, "j", json!({})).await;
    for attempt in 1..=130 {
        server.patch("j", json!({"attempt": attempt, "status": "failed"})).await.is(200);
        server.post("/jobs/j/retry", json!({"attempt": attempt})).await.is(200);
    }
    let attempts = server.get("/jobs/j/attempts").await.is(200).json();
    let numbers: Vec<_> =
        attempts["attempts"].as_array().unwrap().iter().map(|one| one["attempt"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (31..=131).collect::<Vec<_>>());
});

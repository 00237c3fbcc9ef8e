//! Changing a job: PATCH /jobs/{id}.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::only;

each_engine!(status_result_progress_and_lines_become_visible_together, |server| async move {
    server.job("j", "restyle").await;
    let answer = server
        .patch("j", json!({"status": "processing", "progress_pct": 12.345, "stage": "Matting", "log": ["a", "b"]}))
        .await
        .is(200);
    assert_eq!((answer.header("etag"), answer.header("cache-control")), (Some("\"v2\""), Some("private, no-cache")));
    let job = answer.json();
    let expected = json!({
        "status": "processing", "progress_pct": 12.35, "stage": "Matting", "logs_from": 1, "logs": ["a", "b"],
        "version": 2
    });
    assert_eq!(only(&job, &["status", "progress_pct", "stage", "logs_from", "logs", "version"]), expected);
    assert!(job.get("result").is_none() && job.get("input").is_none());

    let job =
        server.patch("j", json!({"status": "completed", "result": {"url": "/v/1"}, "log": "c"})).await.is(200).json();
    let expected = json!({
        "status": "completed", "done": true, "outcome": "succeeded", "progress_pct": 100, "result": {"url": "/v/1"},
        "logs_from": 3, "logs": ["c"], "log_count": 3, "version": 3, "finished_at": "2026-11-23T08:00:00.000Z"
    });
    let members = [
        "status",
        "done",
        "outcome",
        "progress_pct",
        "result",
        "logs_from",
        "logs",
        "log_count",
        "version",
        "finished_at",
    ];
    assert_eq!(only(&job, &members), expected);
    let read = server.read("j").await;
    assert_eq!((&read["logs"], &read["result"]), (&json!(["a", "b", "c"]), &json!({"url": "/v/1"})));
});

each_engine!(the_words_of_real_workers_are_understood, |server| async move {
    let words = [
        ("running", "processing"),
        ("started", "processing"),
        ("pending", "queued"),
        ("done", "completed"),
        ("complete", "completed"),
        ("succeeded", "completed"),
        ("error", "failed"),
        ("canceled", "cancelled"),
    ];
    for (word, status) in words {
        server.job(word, "k").await;
        assert_eq!(server.patch(word, json!({"status": word})).await.is(200).json()["status"], status);
    }
    server.job("j", "k").await;
    for name in ["stage", "message", "step", "current_step"] {
        assert_eq!(server.patch("j", json!({name: name})).await.is(200).json()["stage"], name);
    }
    assert_eq!(server.patch("j", json!({"progress": 7})).await.is(200).json()["progress_pct"], 7);
    let both = server.patch("j", json!({"progress": 7, "progress_pct": 7})).await.names("progress");
    assert!(both["detail"].as_str().unwrap().contains("`progress_pct` and `progress`"));
    server.patch("j", json!({"stage": "a", "message": "b"})).await.names("message");
    server.patch("j", json!({"step": "a", "current_step": null})).await.names("current_step");
});

each_engine!(null_clears_what_can_be_cleared, |server| async move {
    server.job("j", "k").await;
    server
        .patch("j", json!({"stage": "s", "result": 1, "error": {"reason": "r"}, "labels": {"a": "1", "b": "2"}}))
        .await
        .is(200);
    let job = server
        .patch("j", json!({"stage": null, "result": null, "error": null, "labels": {"a": null}}))
        .await
        .is(200)
        .json();
    let expected = json!({"stage": null, "result": null, "error": null, "labels": {"b": "2"}});
    assert_eq!(only(&job, &["stage", "result", "error", "labels"]), expected);
    for member in ["status", "progress_pct", "labels"] {
        server.patch("j", json!({member: null})).await.names(member);
    }
    let unchanged = server.patch("j", json!({"log": null, "attempt": null, "writer": null, "seq": null})).await.is(200);
    assert_eq!(unchanged.header("etag"), Some("\"v3\""));
});

each_engine!(a_merge_patch_goes_into_result_error_and_labels, |server| async move {
    server.job("j", "k").await;
    let error = json!({"reason": "r", "code": 1});
    let first = json!({"result": {"a": {"x": 1, "y": 2}, "b": 1}, "error": error, "labels": {"a": "1"}});
    server.patch("j", first).await.is(200);
    let merge = |body: Value| server.call("PATCH", "/jobs/j").body("application/merge-patch+json", body.to_string());
    let job =
        merge(json!({"result": {"a": {"x": null, "z": 3}, "c": [1]}, "error": {"code": null}, "labels": {"b": "2"}}))
            .await
            .is(200)
            .json();
    let result = json!({"a": {"y": 2, "z": 3}, "b": 1, "c": [1]});
    let expected = json!({"result": result, "error": {"reason": "r"}, "labels": {"a": "1", "b": "2"}});
    assert_eq!(only(&job, &["result", "error", "labels"]), expected);
    let job = merge(json!({"result": [1], "labels": null, "error": null})).await.is(200).json();
    assert_eq!(only(&job, &["result", "error", "labels"]), json!({"result": [1], "error": null, "labels": {}}));
    merge(json!({"status": null})).await.names("status");
    merge(json!({"error": "text"})).await.names("error");
    let replaced = server.patch("j", json!({"result": {"only": "this"}})).await.is(200).json();
    assert_eq!(replaced["result"], json!({"only": "this"}));
});

each_engine!(a_request_that_changes_nothing_leaves_the_version, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"progress_pct": 5, "labels": {"a": "1"}})).await.is(200);
    server.pass(Duration::from_secs(5));
    for same in [
        json!({}),
        json!({"progress_pct": 5}),
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"b": null}}),
        json!({"log": []}),
    ] {
        let answer = server.patch("j", same).await.is(200);
        assert_eq!(answer.header("etag"), Some("\"v2\""));
        assert_eq!(answer.json()["updated_at"], "2026-11-23T08:00:00.000Z");
    }
});

each_engine!(if_match_makes_it_a_compare_and_set, |server| async move {
    server.job("j", "k").await;
    let patch =
        |tags: &str, progress: u64| server.patch("j", json!({"progress_pct": progress})).header("if-match", tags);
    patch("\"v1\"", 1).await.is(200);
    let problem = patch("\"v1\"", 2).await.refused(412, "version_mismatch");
    assert_eq!(problem["current_version"], 2);
    patch("W/\"v2\"", 2).await.refused(412, "version_mismatch");
    patch("\"other\"", 2).await.refused(412, "version_mismatch");
    patch("\"v9\", \"v2\"", 2).await.is(200);
    patch("*", 3).await.is(200);
    for tags in ["v4", "4", "\"v4", "", "\"v4\" x"] {
        let problem = patch(tags, 4).await.refused(400, "invalid_header");
        assert_eq!(problem["field"], "If-Match");
    }
    assert_eq!(server.read("j").await["progress_pct"], 3);
});

each_engine!(of_many_compare_and_sets_at_once_one_wins, |server| async move {
    server.job("j", "k").await;
    let race = (0..24).map(|racer| {
        server.patch("j", json!({"stage": format!("racer {racer}")})).header("if-match", "\"v1\"").into_future()
    });
    let answers = futures_util::future::join_all(race).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 412));
    assert_eq!(server.read("j").await["version"], 2);
});

each_engine!(a_client_that_wants_little_gets_a_status_and_a_tag, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "status": "processing"})).await.is(201);
    for wish in ["return=minimal", "Return=\"minimal\"", "respond-async, return=minimal; x=1", "wait=5, return=minimal"]
    {
        let answer = server.patch("j", json!({"stage": wish})).header("prefer", wish).await.is(204);
        assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
        assert!(answer.header("etag").unwrap().starts_with("\"v") && answer.text.is_empty());
        assert_eq!(answer.header("milepost-cancel"), None);
    }
    let answer = server.patch("j", json!({"stage": "x"})).header("prefer", "return=representation").await.is(200);
    assert_eq!(answer.header("preference-applied"), None);
    let answer = server.post("/jobs/j/logs", json!({"line": "x"})).header("prefer", "return=minimal").await.is(204);
    assert_eq!(answer.header("etag"), Some("\"v7\""));
});

each_engine!(a_done_job_takes_a_repeat_and_nothing_else, |server| async move {
    server.job("j", "k").await;
    let end = json!({"status": "completed", "result": {"a": 1}, "log": "done", "progress_pct": 90});
    server.patch("j", end.clone()).header("if-match", "\"v1\"").await.is(200);
    let again = server.patch("j", end).header("if-match", "\"v1\"").await.is(200).json();
    assert_eq!(
        only(&again, &["version", "log_count", "progress_pct"]),
        json!({"version": 2, "log_count": 1, "progress_pct": 100})
    );
    for change in [
        json!({"status": "failed"}),
        json!({"result": {"a": 2}}),
        json!({"stage": "x"}),
        json!({"labels": {"a": "b"}}),
        json!({"status": "queued"}),
    ] {
        server.patch("j", change).await.refused(409, "already_finished");
    }
    assert_eq!(server.read("j").await["version"], 2);
});

each_engine!(a_job_given_back_is_another_attempt, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "input": 1, "labels": {"a": "b"}, "status": "processing"})).await.is(201);
    server
        .patch("j", json!({"progress_pct": 50, "stage": "s", "result": 1, "error": {"reason": "r"}, "log": "first"}))
        .await
        .is(200);
    let job = server.patch("j", json!({"status": "queued", "log": "giving up"})).await.is(200).json();
    let expected = json!({
        "status": "queued", "attempt": 2, "progress_pct": 0, "stage": null, "result": null, "error": null,
        "started_at": null, "labels": {"a": "b"}, "log_count": 2
    });
    let members =
        ["status", "attempt", "progress_pct", "stage", "result", "error", "started_at", "labels", "log_count"];
    assert_eq!(only(&job, &members), expected);
    let problem = server.patch("j", json!({"status": "processing", "attempt": 1})).await.refused(409, "stale_attempt");
    assert_eq!(problem["current_attempt"], 2);
    server.call("PATCH", "/jobs/j?attempt=1").json(json!({})).await.refused(409, "stale_attempt");
    server.call("PATCH", "/jobs/j?attempt=2").json(json!({"status": "processing"})).await.is(200);
    server.call("PATCH", "/jobs/j?attempt=2").json(json!({"attempt": 2})).await.names("attempt");
    let lines = server.get("/jobs/j/logs").await.is(200).json();
    assert_eq!((&lines["lines"][1]["attempt"], &lines["lines"][1]["line"]), (&json!(1), &json!("giving up")));
});

each_engine!(a_leased_job_wants_its_writers_to_name_the_attempt, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "lease_seconds": 30})).await.is(201);
    server.patch("j", json!({"status": "processing"})).await.is(200);
    for change in
        [json!({"status": "completed"}), json!({"progress_pct": 1}), json!({"result": 1}), json!({"log": "x"})]
    {
        let problem = server.patch("j", change).await.refused(409, "attempt_required");
        assert_eq!(problem["current_attempt"], 1);
    }
    server.post("/jobs/j/logs", json!({"line": "x"})).await.refused(409, "attempt_required");
    server.patch("j", json!({"labels": {"a": "b"}})).await.is(200);
    server.pass(Duration::from_secs(10));
    let receipt = server.post("/jobs/j/logs", json!({"line": "x", "attempt": 1})).await.is(200).json();
    assert_eq!(receipt["lease_expires_at"], "2026-11-23T08:00:40.000Z");
    server.call("POST", "/jobs/j/logs?attempt=1").body("text/plain", "y").await.is(200);
    server.patch("j", json!({"status": "completed", "attempt": 1})).await.is(200);
});

each_engine!(progress_is_a_number_from_0_to_100, |server| async move {
    server.job("j", "k").await;
    for (sent, kept) in [
        (json!(0), json!(0)),
        (json!(100.0), json!(100)),
        (json!(33.333), json!(33.33)),
        (json!(5e-1), json!(0.5)),
        (json!(2), json!(2)),
    ] {
        assert_eq!(server.patch("j", json!({"progress_pct": sent})).await.is(200).json()["progress_pct"], kept);
    }
    for unfit in [json!(-0.01), json!(100.01), json!("50"), json!(true), json!([50]), json!({"pct": 50})] {
        server.patch("j", json!({"progress_pct": unfit})).await.names("progress_pct");
    }
});

each_engine!(
    members_keep_to_their_bounds,
    |config| {
        config.jobs.result_bytes_max = 50;
        config.jobs.error_bytes_max = 50;
    },
    |server| async move {
        server.job("j", "k").await;
        server.patch("j", json!({"result": "x".repeat(48)})).await.is(200);
        server.patch("j", json!({"result": "x".repeat(49)})).await.names("result");
        server.patch("j", json!({"error": {"message": "x".repeat(50)}})).await.names("error");
        server.patch("j", json!({"stage": "ä".repeat(128)})).await.is(200);
        server.patch("j", json!({"stage": "ä".repeat(129)})).await.names("stage");
        server.patch("j", json!({"stage": "two\nlines"})).await.names("stage");
        for error in [json!("text"), json!([]), json!({"reason": 1}), json!({"message": {}})] {
            server.patch("j", json!({"error": error})).await.names("error");
        }
        let many: Value = (0..17).map(|number| (format!("l{number}"), json!("v"))).collect();
        server.patch("j", json!({"labels": many})).await.names("labels");
        for labels in [
            json!({"User": "1"}),
            json!({"": "1"}),
            json!({"a": 1}),
            json!({"a": "x".repeat(257)}),
            json!({"a": "\u{7}"}),
            json!([]),
        ] {
            server.patch("j", json!({"labels": labels})).await.names("labels");
        }
        assert_eq!(server.read("j").await["version"], 3);
    }
);

each_engine!(what_a_change_cannot_set_is_refused_with_the_way_to_do_it, |server| async move {
    server.job("j", "k").await;
    let job = server.read("j").await;
    let settable = ["status", "progress_pct", "stage", "result", "error", "labels", "attempt"];
    for name in job.as_object().unwrap().keys().filter(|name| !settable.contains(&name.as_str())) {
        let problem = server.patch("j", json!({name: job[name]})).await.names(name);
        assert!(!problem["detail"].as_str().unwrap().contains("There is no member"), "{problem}");
    }
    assert!(server.patch("j", json!({"logs": []})).await.names("logs")["detail"].as_str().unwrap().contains("/logs"));
    server.patch("j", json!({"progres": 1})).await.names("progres");
    assert_eq!(server.read("j").await["version"], 1);
});

each_engine!(how_long_it_will_take_follows_from_the_pace, |server| async move {
    server.job("j", "k").await;
    let eta = async |body: Value| server.patch("j", body).await.is(200).json()["eta_seconds"].clone();
    assert_eq!(eta(json!({"status": "processing"})).await, json!(null));
    server.pass(Duration::from_secs(10));
    assert_eq!(eta(json!({"progress_pct": 25})).await, 30);
    server.pass(Duration::from_secs(10));
    assert_eq!(eta(json!({"progress_pct": 60})).await, 14, "13 seconds and a third");
    // A line is a change, after which it has taken longer for as much.
    server.pass(Duration::from_secs(10));
    server.post("/jobs/j/logs", json!({"line": "x"})).await.is(200);
    assert_eq!(server.read("j").await["eta_seconds"], 20);
    assert_eq!(server.get("/jobs").await.json()["jobs"][0]["eta_seconds"], 20);
    assert_eq!(eta(json!({"progress_pct": 100})).await, 0);
    assert_eq!(eta(json!({"status": "completed"})).await, json!(null));
});

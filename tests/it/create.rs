//! Creating jobs: POST /jobs with and without an Idempotency-Key, PUT /jobs/{id}.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, only};

each_engine!(a_job_begins_queued_with_what_it_was_given, |server| async move {
    let new = json!({
        "kind": "restyle", "input": {"clip": "/v/1.mp4"}, "labels": {"user": "42"}, "priority": 3, "max_attempts": 2,
        "stage": "waiting", "log": ["one", "two"], "lease_seconds": 30, "timeout_seconds": 600, "queue_ttl_seconds": 60,
        "cancel_grace_seconds": 5, "retain_seconds": 86400
    });
    let answer = server.post("/jobs", new).await.is(201);
    let job = answer.json();
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    assert_eq!(answer.header("location").unwrap(), format!("/jobs/{}", job["id"].as_str().unwrap()));
    let expected = json!({
        "kind": "restyle", "status": "queued", "done": false, "outcome": null, "progress_pct": 0, "stage": "waiting",
        "eta_seconds": null, "result": null, "error": null, "labels": {"user": "42"}, "priority": 3, "attempt": 1,
        "max_attempts": 2, "worker": null, "lease_expires_at": null, "cancel_requested": false, "log_count": 2,
        "logs_from": 1, "logs": ["one", "two"], "version": 1, "created_at": "2026-11-23T08:00:00.000Z",
        "started_at": null, "updated_at": "2026-11-23T08:00:00.000Z", "finished_at": null, "expires_at": null,
        "input": {"clip": "/v/1.mp4"}
    });
    let mut seen = job.clone();
    seen.as_object_mut().unwrap().remove("id");
    assert_eq!(seen, expected);

    let mut read = server.get(&format!("/jobs/{}?input=1", job["id"].as_str().unwrap())).await.is(200).json();
    assert_eq!(read, job);
    read = server.read(job["id"].as_str().unwrap()).await;
    assert!(read.get("input").is_none());
});

each_engine!(a_job_may_begin_with_a_worker_at_it, |server| async move {
    for word in ["processing", "running", "started"] {
        let job = server.post("/jobs", json!({"kind": "k", "status": word, "lease_seconds": 60})).await.is(201).json();
        assert_eq!(job["status"], "processing");
        assert_eq!(job["started_at"], "2026-11-23T08:00:00.000Z");
        assert_eq!(job["lease_expires_at"], "2026-11-23T08:01:00.000Z");
    }
    for word in ["queued", "pending"] {
        let job = server.post("/jobs", json!({"kind": "k", "status": word})).await.is(201).json();
        assert_eq!(job["status"], "queued");
    }
    server.post("/jobs", json!({"kind": "k", "status": "completed"})).await.names("status");
});

each_engine!(null_says_the_same_as_nothing_when_a_job_is_created, |server| async move {
    let members = [
        "input",
        "labels",
        "priority",
        "max_attempts",
        "status",
        "stage",
        "lease_seconds",
        "timeout_seconds",
        "queue_ttl_seconds",
        "cancel_grace_seconds",
        "retain_seconds",
        "log",
    ];
    let mut new: Value = members.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    new["kind"] = "k".into();
    let job = server.post("/jobs", new.clone()).await.is(201).json();
    assert_eq!(
        only(&job, &["status", "priority", "max_attempts"]),
        json!({"status": "queued", "priority": 0, "max_attempts": 1})
    );
    new["kind"] = Value::Null;
    server.post("/jobs", new).await.names("kind");
});

each_engine!(ids_of_the_service_are_uuids_in_the_order_of_creation, |server| async move {
    let mut last = String::new();
    for _ in 0..20 {
        let job = server.post("/jobs", json!({"kind": "k"})).await.is(201).json();
        let id = job["id"].as_str().unwrap().to_owned();
        assert_eq!((id.len(), &id[14..15]), (36, "7"));
        assert!(id > last);
        last = id;
    }
});

each_engine!(put_makes_a_job_once_and_leaves_it_alone_afterwards, |server| async move {
    let new = json!({"kind": "restyle", "input": [1], "log": "made"});
    let made = server.put("/jobs/mine", new.clone()).await.is(201);
    assert_eq!(made.header("location"), Some("/jobs/mine"));
    assert_eq!(made.json()["logs"], json!(["made"]));
    server.patch("mine", json!({"status": "processing"})).await.is(200);
    let other = json!({"kind": "restyle", "input": [2], "labels": {"a": "b"}, "log": "again", "status": "queued"});
    let stood = server.put("/jobs/mine", other).await.is(200);
    assert_eq!((stood.header("etag"), stood.header("location")), (Some("\"v2\""), None));
    let stood = stood.json();
    let expected =
        json!({"status": "processing", "input": [1], "labels": {}, "log_count": 1, "logs": [], "logs_from": 2});
    assert_eq!(only(&stood, &["status", "input", "labels", "log_count", "logs", "logs_from"]), expected);
    let problem = server.put("/jobs/mine", json!({"kind": "other"})).await.refused(409, "job_exists");
    assert!(problem["detail"].as_str().unwrap().contains("`restyle`"));
});

each_engine!(every_id_of_the_rule_can_be_chosen_and_no_other, |server| async move {
    for id in ["a", "A-Z_09.~x", "-", "_", "~", "x.", &"x".repeat(128), "CLAIM", "claims"] {
        assert_eq!(server.job(id, "k").await["id"], id);
        assert_eq!(server.read(id).await["id"], id);
    }
    for path in ["/jobs/claim", "/jobs/.a", "/jobs/a%20b", "/jobs/%C3%A4", "/jobs/a%2Fb", "/jobs/a%00", "/jobs/a+b"] {
        server.put(path, json!({"kind": "k"})).await.names("id");
    }
    server.put(&format!("/jobs/{}", "x".repeat(129)), json!({"kind": "k"})).await.names("id");
    assert_eq!(server.put("/jobs/%61%62", json!({"kind": "k"})).await.is(201).json()["id"], "ab");
});

each_engine!(a_deleted_id_stays_reserved_for_a_day, |server| async move {
    server.job("gone", "k").await;
    server.delete("/jobs/gone").await.is(204);
    server.put("/jobs/gone", json!({"kind": "k"})).await.refused(409, "job_deleted");
    server.pass(Duration::from_secs(86_401));
    let again = server.put("/jobs/gone", json!({"kind": "other"})).await.is(201).json();
    assert_eq!(only(&again, &["kind", "version", "log_count"]), json!({"kind": "other", "version": 1, "log_count": 0}));
});

each_engine!(a_repeated_creation_with_its_key_makes_nothing_new, |server| async move {
    let body = json!({"kind": "restyle", "input": {"a": 1, "b": [true]}, "log": "hello"});
    let create = |body: &str| {
        server.call("POST", "/jobs").body("application/json", body.to_owned()).header("idempotency-key", "key-1")
    };
    let first = create(&body.to_string()).await.is(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    server.patch(&id, json!({"status": "processing"})).await.is(200);

    let spelt_otherwise = r#" {"log":"hello", "input":{ "b":[true],"a":1 }, "kind":"restyle"} "#;
    for body in [body.to_string().as_str(), spelt_otherwise] {
        let again = create(body).await.is(201);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.header("location").unwrap(), format!("/jobs/{id}"));
        let again = again.json();
        let expected =
            json!({"id": id, "status": "processing", "version": 2, "input": {"a": 1, "b": [true]}, "logs": []});
        assert_eq!(only(&again, &["id", "status", "version", "input", "logs"]), expected);
    }
    create(r#"{"kind": "restyle"}"#).await.refused(422, "idempotency_mismatch");
    assert_eq!(server.get("/jobs").await.is(200).json()["jobs"].as_array().unwrap().len(), 1);

    server.delete(&format!("/jobs/{id}")).await.is(204);
    create(&body.to_string()).await.refused(404, "job_not_found");
    server.pass(Duration::from_secs(86_401));
    let new = create(&body.to_string()).await.is(201);
    assert_ne!(new.json()["id"], id);
});

each_engine!(whoever_has_made_a_job_of_its_own_id_is_told_so_again, |server| async move {
    let make = |server: &Server, id: &str, key: &'static str, kind: &str| {
        server.put(&format!("/jobs/{id}"), json!({"kind": kind, "status": "processing"})).header("idempotency-key", key)
    };
    assert_eq!(make(server, "j", "one", "k").await.is(201).header("idempotency-replayed"), None);
    make(server, "j", "two", "k").await.is(200);
    make(server, "j", "two", "other").await.refused(409, "job_exists");
    server.patch("j", json!({"stage": "x"})).await.is(200);
    let server = server.restarted().await;
    let again = make(&server, "j", "one", "k").await.is(201);
    assert_eq!((again.header("idempotency-replayed"), again.json()["version"].as_u64()), (Some("true"), Some(2)));
    make(&server, "j", "one", "other").await.refused(422, "idempotency_mismatch");
    assert_eq!(make(&server, "i", "one", "k").await.is(201).header("idempotency-replayed"), None, "another job");
    // Of many at once one makes it, and each knows who.
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for _ in 0..2 {
        let answers =
            futures_util::future::join_all(keys.map(|key| make(&server, "race", key, "k").into_future())).await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!((made, answers.iter().filter(|answer| answer.status == 200).count()), (1, keys.len() - 1));
    }
    server.delete("/jobs/j").await.is(204);
    make(&server, "j", "one", "k").await.refused(404, "job_not_found");
    make(&server, "j", "two", "k").await.refused(409, "job_deleted");
    server.stop().await;
});

each_engine!(of_many_creations_with_one_key_at_once_one_makes_the_job, |server| async move {
    let create = || server.post("/jobs", json!({"kind": "k", "input": "x"})).header("idempotency-key", "one");
    let answers = futures_util::future::join_all((0..16).map(|_| create().into_future())).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    let fresh = made.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count();
    assert_eq!(fresh, 1);
    assert!(made.iter().all(|answer| answer.json()["id"] == made[0].json()["id"]));
    for other in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((other.status, other.json()["code"].as_str()), (409, Some("idempotency_in_progress")));
    }
    assert_eq!(server.get("/jobs").await.json()["jobs"].as_array().unwrap().len(), 1);
});

each_engine!(a_key_is_visible_ascii_and_given_once, |server| async move {
    let create = |key: &str| server.post("/jobs", json!({"kind": "k"})).header("idempotency-key", key);
    create(&"k".repeat(255)).await.is(201);
    create("!~").await.is(201);
    for key in ["", "two words", "ä", &"k".repeat(256)] {
        let problem = create(key).await.refused(400, "invalid_header");
        assert_eq!(problem["field"], "Idempotency-Key");
    }
    create("a").header("idempotency-key", "b").await.refused(400, "invalid_header");
});

each_engine!(
    a_store_knows_a_bounded_number_of_kinds,
    |config| {
        config.jobs.kinds_max = 3;
    },
    |server| async move {
        for kind in ["a", "b", "c", "a"] {
            server.post("/jobs", json!({"kind": kind})).await.is(201);
        }
        server.post("/jobs", json!({"kind": "d"})).await.names("kind");
        server.put("/jobs/x", json!({"kind": "d"})).await.names("kind");
        server.get("/jobs/x").await.refused(404, "job_not_found");
    }
);

each_engine!(
    input_has_a_limit_and_any_json_may_be_in_it,
    |config| {
        config.jobs.input_bytes_max = 100;
    },
    |server| async move {
        for input in
            [json!("a\u{0}\n\u{1b}"), json!([[[]]]), json!(-0.5), json!(false), json!(u64::MAX), json!({"ä": "€"})]
        {
            let job = server.post("/jobs", json!({"kind": "k", "input": input})).await.is(201).json();
            assert_eq!(job["input"], input);
            let path = format!("/jobs/{}?input=1", job["id"].as_str().unwrap());
            assert_eq!(server.get(&path).await.json()["input"], input);
        }
        server.post("/jobs", json!({"kind": "k", "input": "x".repeat(98)})).await.is(201);
        server.post("/jobs", json!({"kind": "k", "input": "x".repeat(99)})).await.names("input");
    }
);

each_engine!(what_a_creation_cannot_set_is_refused_with_the_way_to_do_it, |server| async move {
    let create = |member: &str, value: Value| server.post("/jobs", json!({"kind": "k", member: value}));
    assert!(create("id", json!("x")).await.names("id")["detail"].as_str().unwrap().contains("PUT"));
    assert!(create("progress_pct", json!(1)).await.names("progress_pct")["detail"].as_str().unwrap().contains("PATCH"));
    create("result", json!(1)).await.names("result");
    create("logs", json!([])).await.names("logs");
    create("lables", json!({})).await.names("lables");
    assert!(server.get("/jobs").await.json()["jobs"].as_array().unwrap().is_empty());
});

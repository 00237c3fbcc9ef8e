//! What those who run the service look at: probes, metrics, pages, request ids, CORS, export.

use serde_json::{Value, json};

use crate::harness::{On, eventually};

each_engine!(probes_say_how_it_is, |server| async move {
    assert_eq!(server.get("/livez").await.is(200).json(), json!({"status": "live"}));
    // The database of the tests does not sync.
    let with_cautions = |mut value: Value| {
        if server.stands_on(On::Postgres) {
            value["cautions"] = json!(["fsync_off"]);
        }
        value
    };
    let ready = server.get("/readyz?x=1").await.is(200);
    assert_eq!(
        (ready.json(), ready.header("cache-control")),
        (with_cautions(json!({"status": "ready"})), Some("no-store"))
    );
    let health = server.get("/health").await.is(200).json();
    let store = with_cautions(json!({"status": "ready"}));
    assert_eq!(health, json!({"status": "ready", "version": env!("CARGO_PKG_VERSION"), "store": store}));
    let told = server.get("/metrics").await.text.contains("milepost_store_cautions{caution=\"fsync_off\"} 1\n");
    assert_eq!(told, server.stands_on(On::Postgres));
    assert_eq!(server.call("HEAD", "/livez").await.is(200).text, "");
});

each_engine!(metrics_count_requests_by_route_and_jobs_by_status, |server| async move {
    server.job("a", "clip").await;
    server.job("b", "clip").await;
    server.patch("b", json!({"status": "completed"})).await.is(200);
    server.get("/jobs/none").await.is(404);
    server.get("/no/such/route?secret=1").await.is(404);
    server.call("FROB", "/jobs").await.is(405);
    let answer = server.get("/metrics").await.is(200);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for line in [
        "milepost_jobs{kind=\"clip\",status=\"queued\"} 1",
        "milepost_jobs{kind=\"clip\",status=\"completed\"} 1",
        "milepost_http_requests_total{route=\"/jobs/{id}\",method=\"PUT\",status=\"201\"} 2",
        "milepost_http_requests_total{route=\"/jobs/{id}\",method=\"PATCH\",status=\"200\"} 1",
        "milepost_http_requests_total{route=\"/jobs/{id}\",method=\"GET\",status=\"404\"} 1",
        "milepost_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "milepost_http_requests_total{route=\"/jobs\",method=\"other\",status=\"405\"} 1",
        "milepost_http_request_seconds_count{route=\"/jobs/{id}\",method=\"PUT\"} 2",
        "milepost_http_requests_in_flight 1",
    ] {
        assert!(answer.text.lines().any(|found| found == line), "{line}\n{}", answer.text);
    }
    assert!(!answer.text.contains("secret") && answer.text.ends_with("# EOF\n"));
});

each_engine!(a_request_has_a_name_that_its_client_may_choose, |server| async move {
    let named = async |name: &str| {
        let answer = server.get("/livez").header("x-request-id", name).await;
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(named("job-7/try:2").await, "job-7/try:2");
    for unfit in ["two words", "", "ä", &"x".repeat(129)] {
        assert_ne!(named(unfit).await, unfit);
    }
    let first = server.get("/livez").await;
    let second = server.get("/livez").await;
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let refused = server.get("/jobs/none").header("x-request-id", "mine").await.is(404);
    assert_eq!(refused.header("x-request-id"), Some("mine"));
});

each_engine!(every_problem_has_a_page, |server| async move {
    for code in milepost::http::Code::ALL {
        let page = server.get(&format!("/problems/{}", code.as_str().replace('_', "-"))).await.is(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.text.contains(code.as_str()) && page.text.contains(code.title()));
    }
    for unknown in ["nope", "stale_attempt", "%ff", "..%2f"] {
        server.get(&format!("/problems/{unknown}")).await.refused(404, "not_found");
    }
});

each_engine!(pages_may_do_nothing_but_be_shown, |server| async move {
    for path in ["/", "/docs", "/problems/not-found"] {
        let page = server.get(path).await.is(200);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert!(!page.text.contains("<script"));
    }
    assert!(server.get("/docs").await.text.contains("PATCH /jobs/{id}"));
});

each_engine!(nobody_is_told_anything_across_origins_unless_it_is_configured, |server| async move {
    let answer = server.get("/jobs").header("origin", "https://app.example.com").await.is(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let preflight = server
        .call("OPTIONS", "/jobs")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET");
    preflight.await.refused(405, "method_not_allowed");
});

each_engine!(
    configured_origins_may_call_and_read_every_answer,
    |config| {
        let flags = milepost::config::Flags::default();
        let variable = ("MILEPOST_HTTP_CORS_ORIGINS".into(), "https://app.example.com".into());
        config.http.cors_origins = milepost::config::Config::load(&flags, [variable]).unwrap().http.cors_origins;
    },
    |server| async move {
        let ours = "https://app.example.com";
        let answer = server.get("/jobs").header("origin", ours).await.is(200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(ours));
        assert!(answer.header("access-control-expose-headers").unwrap().contains("etag"));
        for (method, path, status) in
            [("GET", "/jobs/none", 404), ("GET", "/nope", 404), ("POST", "/livez", 405), ("GET", "/jobs?x=1", 422)]
        {
            let refused = server.call(method, path).header("origin", ours).await.is(status);
            assert_eq!(refused.header("access-control-allow-origin"), Some(ours));
        }
        let other = server.get("/jobs").header("origin", "https://evil.example").await.is(200);
        assert_ne!(other.header("access-control-allow-origin"), Some("https://evil.example"));
        let preflight =
            server.call("OPTIONS", "/jobs/j").header("origin", ours).header("access-control-request-method", "PATCH");
        let preflight = preflight.header("access-control-request-headers", "content-type,if-match").begin().await;
        assert_eq!(preflight.status(), 200);
        let allowed = |name: &str| preflight.headers()[name].to_str().unwrap().to_owned();
        assert!(allowed("access-control-allow-methods").contains("PATCH"));
        assert!(allowed("access-control-allow-headers").contains("if-match"));
    }
);

each_engine!(an_export_has_everything_and_says_that_it_is_complete, |server| async move {
    server.put("/jobs/a", json!({"kind": "k", "input": {"x": 1}, "log": ["one", "two"]})).await.is(201);
    server.job("b", "k").await;
    let answer = server.get("/export").await.is(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["milepost_export"], 1);
    assert_eq!((&lines[1]["job"]["id"], &lines[1]["job"]["input"]), (&json!("a"), &json!({"x": 1})));
    assert_eq!(lines[2]["lines"][1][3], "two");
    assert_eq!(lines.last().unwrap()["end"], json!({"jobs": 2, "lines": 2}));
});

each_engine!(
    exports_under_way_are_bounded,
    |config| {
        config.store.exports_max = 1;
    },
    |server| async move {
        // More than sockets hold, so that an export which nobody reads does not end.
        let line = "x".repeat(16_000);
        let lines = vec![line; 60];
        for job in ["a", "b"] {
            server.job(job, "k").await;
            for _ in 0..12 {
                server.post(&format!("/jobs/{job}/logs"), json!({"lines": lines})).await.is(200);
            }
        }
        let unread = server.get("/export").begin().await;
        assert_eq!(unread.status(), 200);
        let refused = server.get("/export").await.is(429);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["code"], "too_many_requests");
        drop(unread);
        // The next one can begin once the service has noticed that the reader is gone.
        let begins = async || (server.get("/export").begin().await.status() == 200).then_some(());
        eventually(begins).await.expect("the next one can begin");
    }
);

each_engine!(a_service_that_stops_answers_what_is_under_way, |server| async move {
    server.job("j", "k").await;
    let writes = (0..50).map(|number| server.post("/jobs/j/logs", json!({"line": number.to_string()})).outcome());
    let (answers, ()) = tokio::join!(futures_util::future::join_all(writes), async {
        // At least one of them is there before the stop.
        while server.get("/jobs/j?logs=0").await.json()["log_count"] == 0 {}
        server.stop().await;
    });
    let answers: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    let acknowledged = answers.iter().filter(|answer| answer.status == 200).count() as u64;
    assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)));
    let after = server.restarted().await;
    assert_eq!(after.read("j").await["log_count"], acknowledged);
    after.stop().await;
});

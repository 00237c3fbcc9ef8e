//! The read shapes of the origin, for its unchanged frontends.

use serde_json::json;

each_engine!(the_origins_frontends_read_what_they_are_used_to, |server| async move {
    server.job("j", "restyle").await;
    let restyle = async || server.get("/api/restyle/j").await.is(200).json();
    assert_eq!(restyle().await, json!({"status": "queued", "logs": [], "progress_pct": 0, "result": null}));
    server
        .patch("j", json!({"status": "processing", "progress_pct": 33.99, "log": ["one", "a \"quoted\"\tline"]}))
        .await
        .is(200);
    let logs = json!(["one", "a \"quoted\"\tline"]);
    assert_eq!(restyle().await, json!({"status": "processing", "logs": logs, "progress_pct": 33, "result": null}));
    for path in ["/api/status/j", "/api/saasshorts/status/j", "/api/status/j?t=123"] {
        let answer = server.get(path).await.is(200);
        assert_eq!(answer.json(), json!({"status": "processing", "logs": logs, "result": null}));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    server.patch("j", json!({"status": "completed", "result": {"video_url": "/v/1.mp4"}})).await.is(200);
    let expected =
        json!({"status": "completed", "logs": logs, "progress_pct": 100, "result": {"video_url": "/v/1.mp4"}});
    assert_eq!(restyle().await, expected);
});

each_engine!(cancelled_reads_as_failed, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"status": "cancelled"})).await.is(200);
    assert_eq!(server.get("/api/status/j").await.is(200).json()["status"], "failed");
    assert_eq!(server.get("/api/restyle/j").await.is(200).json()["status"], "failed");
});

each_engine!(there_is_one_answer_for_every_job_that_is_not_there, |server| async move {
    for route in ["restyle", "status", "saasshorts/status"] {
        for id in ["none", ".hidden", "a%2Fb", "%ff", "claim", "a%00"] {
            let answer = server.get(&format!("/api/{route}/{id}")).await.is(404);
            assert_eq!(
                (answer.text.as_str(), answer.header("content-type")),
                ("{\"detail\":\"Job not found\"}", Some("application/json"))
            );
        }
    }
    server.call("POST", "/api/status/none").await.refused(405, "method_not_allowed");
});

each_engine!(
    indices_never_move_when_lines_are_trimmed,
    |config| {
        config.logs.job_lines_max = 3;
    },
    |server| async move {
        server.job("j", "k").await;
        for number in 1..=6 {
            server.post("/jobs/j/logs", json!({"line": number.to_string()})).await.is(200);
        }
        let logs = json!(["", "", "", "4", "5", "6"]);
        assert_eq!(server.get("/api/status/j").await.is(200).json()["logs"], logs);
        assert_eq!(server.get("/api/restyle/j").await.is(200).json()["logs"], logs);
    }
);

each_engine!(
    a_log_of_many_pages_is_complete,
    |config| {
        config.logs.log_page_bytes = 10_000;
        config.logs.job_lines_max = 40_000;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut expected = Vec::new();
        for request in 0..12 {
            let lines: Vec<_> = (0..5000).map(|line| format!("line {request}-{line} of a long log")).collect();
            server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
            expected.extend(lines);
        }
        for line in &mut expected[..20_000] {
            line.clear();
        }
        let answer = server.get("/api/restyle/j").await.is(200);
        assert_eq!(answer.json(), json!({"status": "queued", "logs": expected, "progress_pct": 0, "result": null}));
    }
);

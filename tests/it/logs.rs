//! A job's log: what goes in, in three forms, exactly once; what comes out, page by page.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, only};

async fn texts(server: &Server, id: &str) -> Vec<String> {
    let page = server.get(&format!("/jobs/{id}/logs")).await.is(200).json();
    page["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap().to_owned()).collect()
}

each_engine!(lines_come_as_json, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "status": "processing"})).await.is(201);
    let receipt = server.post("/jobs/j/logs", json!({"line": "one", "pct": 10, "stage": "s"})).await.is(200).json();
    let expected = json!({
        "id": "j", "status": "processing", "attempt": 1, "version": 2, "log_count": 1, "duplicates": 0,
        "cancel_requested": false, "lease_expires_at": null
    });
    assert_eq!(receipt, expected);
    server.post("/jobs/j/logs", json!({"lines": ["two", "", "a\nb\r\nc"], "pct": null, "stage": null})).await.is(200);
    server.post("/jobs/j/logs", json!({"lines": []})).await.is(200);
    assert_eq!(texts(server, "j").await, ["one", "two", "", "a␊b␍␊c"]);
    let job = server.read("j").await;
    assert_eq!(
        only(&job, &["version", "progress_pct", "stage"]),
        json!({"version": 3, "progress_pct": 10, "stage": "s"})
    );

    server.post("/jobs/j/logs", json!({})).await.names("line");
    server.post("/jobs/j/logs", json!({"line": "a", "lines": ["b"]})).await.names("lines");
    for (body, field) in [
        (json!({"line": 1}), "line"),
        (json!({"line": ["a"]}), "line"),
        (json!({"lines": "a"}), "lines"),
        (json!({"lines": ["a", 1]}), "lines"),
        (json!({"lines": [["a"]]}), "lines"),
        (json!({"line": "a", "pct": 101}), "pct"),
        (json!({"line": "a", "pct": "1"}), "pct"),
        (json!({"line": "a", "stage": 1}), "stage"),
        (json!({"line": "a", "level": 1}), "level"),
        (json!({"line": "a", "pct": 1, "progress": 1}), "progress"),
        (json!({"line": "a", "attempt": 0}), "attempt"),
        (json!({"line": "a", "writer": "w"}), "seq"),
        (json!({"line": "a", "seq": 1}), "writer"),
        (json!({"line": "a", "writer": "", "seq": 1}), "writer"),
        (json!({"line": "a", "writer": "w", "seq": 0}), "seq"),
        (json!({"line": "a", "writer": "w", "seq": 1.5}), "seq"),
    ] {
        server.post("/jobs/j/logs", body).await.names(field);
    }
    assert_eq!(server.read("j").await["version"], 3);
});

each_engine!(lines_come_as_text, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "status": "processing"})).await.is(201);
    let append = |query: &str, text: &[u8]| {
        server.call("POST", &format!("/jobs/j/logs{query}")).body("text/plain; charset=UTF-8", text.to_vec())
    };
    append("?pct=12.5&stage=in+work%21&attempt=1", b"one\ntwo\r\n\nthree").await.is(200);
    append("", b"four\n").await.is(200);
    append("", b"caf\xc3\xa9 \xff\xfe\n\x1b[31mred\ra\n").await.is(200);
    assert_eq!(append("", b"").await.is(200).json()["log_count"], 7);
    assert_eq!(
        texts(server, "j").await,
        ["one", "two", "", "three", "four", "café \u{fffd}\u{fffd}", "\u{1b}[31mred␍a"]
    );
    let job = server.read("j").await;
    assert_eq!(only(&job, &["progress_pct", "stage"]), json!({"progress_pct": 12.5, "stage": "in work!"}));
    for (query, field) in [
        ("?pct=x", "pct"),
        ("?pct=NaN", "pct"),
        ("?pct=-1", "pct"),
        ("?pct=1&pct=1", "pct"),
        ("?attempt=0", "attempt"),
        ("?attempt=1e0", "attempt"),
        ("?writer=w", "seq"),
        ("?seq=1", "writer"),
        ("?stage=%0a", "stage"),
        ("?line=x", "line"),
        ("?follow=1", "follow"),
    ] {
        append(query, b"x").await.names(field);
    }
    server.call("POST", "/jobs/j/logs?pct=5").json(json!({"line": "x", "pct": 5})).await.names("pct");
});

each_engine!(lines_come_as_lines_of_json, |server| async move {
    server.job("j", "k").await;
    let append = |query: &str, text: &str| {
        server.call("POST", &format!("/jobs/j/logs{query}")).body("application/x-ndjson", text.to_owned())
    };
    append("", "\"one\"\r\n\n{\"line\": \"two\"}\n{\"lines\": [\"three\", \"four\"]}").await.is(200);
    append("?writer=w&seq=1", "\"five\"\n").await.is(200);
    assert_eq!(texts(server, "j").await, ["one", "two", "three", "four", "five"]);
    let problem = append("", "\"six\"\n{\"line\": \"seven\"\n").await.refused(400, "invalid_json");
    assert!(problem["detail"].as_str().unwrap().starts_with("Line 2: "));
    append("", "\"six\"\n7\n").await.names("line");
    append("", "\"six\"\n{\"line\": \"x\", \"pct\": 1}\n").await.names("pct");
    assert_eq!(texts(server, "j").await.len(), 5);
});

each_engine!(
    a_long_line_is_cut_and_says_so,
    |config| {
        config.logs.line_bytes_max = 64;
    },
    |server| async move {
        server.job("j", "k").await;
        server.post("/jobs/j/logs", json!({"lines": ["x".repeat(64), "x".repeat(65), "ä".repeat(40)]})).await.is(200);
        let lines = texts(server, "j").await;
        assert_eq!(lines[0], "x".repeat(64));
        assert_eq!(lines[1], format!("{}…[cut]", "x".repeat(56)));
        assert_eq!(lines[2], format!("{}…[cut]", "ä".repeat(28)));
    }
);

each_engine!(
    a_request_has_a_bounded_number_of_lines,
    |config| {
        config.logs.append_lines_max = 3;
    },
    |server| async move {
        server.job("j", "k").await;
        server.post("/jobs/j/logs", json!({"lines": ["a", "b", "c"]})).await.is(200);
        server.post("/jobs/j/logs", json!({"lines": ["a", "b", "c", "d"]})).await.names("lines");
        server.call("POST", "/jobs/j/logs").body("text/plain", "a\nb\nc\nd\n").await.names("lines");
        server.patch("j", json!({"log": ["a", "b", "c", "d"]})).await.names("log");
        assert_eq!(server.read("j").await["log_count"], 3);
    }
);

each_engine!(a_writer_that_counts_appends_exactly_once, |server| async move {
    server.job("j", "k").await;
    let append =
        |seq: u64, lines: Value| server.post("/jobs/j/logs", json!({"lines": lines, "writer": "w", "seq": seq}));
    append(1, json!(["1", "2"])).await.is(200);
    let again = append(1, json!(["1", "2", "3"])).await.is(200).json();
    assert_eq!(only(&again, &["duplicates", "log_count"]), json!({"duplicates": 2, "log_count": 3}));
    let version = again["version"].clone();
    assert_eq!(append(2, json!(["2", "3"])).await.is(200).json()["version"], version);
    assert_eq!(append(5, json!(["5"])).await.refused(409, "log_gap")["expected"], 4);
    server.patch("j", json!({"log": ["3", "4"], "writer": "w", "seq": 3})).await.is(200);
    server.call("POST", "/jobs/j/logs?writer=w&seq=4").body("text/plain", "4\n5\n").await.is(200);
    assert_eq!(texts(server, "j").await, ["1", "2", "3", "4", "5"]);
});

each_engine!(
    writers_that_count_are_bounded,
    |config| {
        config.logs.writers_max = 2;
    },
    |server| async move {
        server.job("j", "k").await;
        for writer in ["a", "b", "a"] {
            server.post("/jobs/j/logs", json!({"line": "x", "writer": writer, "seq": 1})).await.is(200);
        }
        server.post("/jobs/j/logs", json!({"line": "x", "writer": "c", "seq": 1})).await.names("writer");
    }
);

each_engine!(
    what_is_trimmed_is_counted,
    |config| {
        config.logs.job_lines_max = 10;
    },
    |server| async move {
        server.job("j", "k").await;
        for batch in 0..5 {
            let lines: Vec<_> = (1..=5).map(|line| format!("{}", batch * 5 + line)).collect();
            server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
        }
        let page = server.get("/jobs/j/logs").await.is(200).json();
        assert_eq!(
            only(&page, &["next", "log_count", "first", "dropped"]),
            json!({"next": 25, "log_count": 25, "first": 16, "dropped": 15})
        );
        assert_eq!(page["lines"][0], json!({"seq": 16, "at": "2026-11-23T08:00:00.000Z", "attempt": 1, "line": "16"}));
        assert_eq!(page["lines"].as_array().unwrap().len(), 10);
        let job = server.read("j").await;
        assert_eq!(only(&job, &["log_count", "logs_from"]), json!({"log_count": 25, "logs_from": 16}));
    }
);

each_engine!(a_log_is_read_page_by_page, |server| async move {
    server.job("j", "k").await;
    let empty = server.get("/jobs/j/logs").await.is(200);
    assert_eq!(empty.json(), json!({"lines": [], "next": 0, "log_count": 0, "first": 1, "dropped": 0}));
    assert_eq!(empty.header("link"), None);
    let lines: Vec<_> = (1..=7).map(|line| line.to_string()).collect();
    server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
    let mut path = "/jobs/j/logs?limit=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let answer = server.get(&path).await.is(200);
        let page = answer.json();
        seen.extend(page["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap().to_owned()));
        match answer.header("link") {
            None => break assert_eq!(page["next"], 7),
            Some(link) => path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned(),
        }
    }
    assert_eq!(seen, lines);
    for after in ["7", "8", "9007199254740991"] {
        let page = server.get(&format!("/jobs/j/logs?after={after}")).await.is(200).json();
        assert_eq!((&page["lines"], &page["next"]), (&json!([]), &json!(7)));
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1e9", "limit"),
        ("limit=10001", "limit"),
        ("limit=", "limit"),
        ("after=-1", "after"),
        ("after=1&after=2", "after"),
    ] {
        server.get(&format!("/jobs/j/logs?{query}")).await.names(field);
    }
    let problem = server.get("/jobs/j/logs?limit=10001").await.names("limit");
    assert!(problem["detail"].as_str().unwrap().contains("10000"));
});

each_engine!(bare_lines_cannot_command_a_terminal, |server| async move {
    server.job("j", "k").await;
    server
        .post("/jobs/j/logs", json!({"lines": ["one", "\u{1b}[2J\u{7}x\ty", "a\nb", "\u{2028}\u{9b}"]}))
        .await
        .is(200);
    let answer = server.get("/jobs/j/logs?limit=3").header("accept", "text/plain").await.is(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("link"), Some("</jobs/j/logs?after=3&limit=3>; rel=\"next\""));
    assert_eq!(answer.text, "one\n␛[2J␇x\ty\na␊b\n");
    let rest = server.get("/jobs/j/logs?after=3").header("accept", "text/plain, */*;q=0.1").await.is(200);
    assert_eq!(rest.text, "\u{fffd}\u{fffd}\n");
    for accept in ["*/*", "application/json", "text/html,*/*;q=0.8", "text/plain;q=0.5, application/json"] {
        let answer = server.get("/jobs/j/logs").header("accept", accept).await.is(200);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{accept}");
    }
});

each_engine!(late_lines_are_taken_for_a_while, |server| async move {
    server.job("j", "k").await;
    server.patch("j", json!({"status": "failed", "error": {"message": "boom"}, "log": "❌ boom"})).await.is(200);
    server.pass(Duration::from_secs(60));
    let receipt = server.post("/jobs/j/logs", json!({"line": "flushed"})).await.is(200).json();
    assert_eq!(
        only(&receipt, &["status", "log_count", "version"]),
        json!({"status": "failed", "log_count": 2, "version": 3})
    );
    server.pass(Duration::from_secs(1));
    server.post("/jobs/j/logs", json!({"line": "too late"})).await.refused(409, "already_finished");
    assert_eq!(texts(server, "j").await, ["❌ boom", "flushed"]);
});

each_engine!(appends_of_many_writers_lose_nothing, |server| async move {
    server.job("j", "k").await;
    let writers = (0..8).map(|writer| async move {
        for seq in (1..=40_u64).step_by(2) {
            let lines = [format!("{writer}:{seq}"), format!("{writer}:{}", seq + 1)];
            server
                .post("/jobs/j/logs", json!({"lines": lines, "writer": writer.to_string(), "seq": seq}))
                .await
                .is(200);
        }
    });
    futures_util::future::join_all(writers).await;
    let lines = texts(server, "j").await;
    assert_eq!(lines.len(), 320);
    for writer in 0..8 {
        let own: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{writer}:"))).collect();
        let expected: Vec<_> = (1..=40).map(|seq| seq.to_string()).collect();
        assert_eq!(own, expected);
    }
});

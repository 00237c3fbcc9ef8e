//! Reading one job: the document, conditional requests, and how many lines come along.

use serde_json::{Value, json};

use crate::harness::Server;

async fn logged(server: &Server, lines: usize) {
    server.job("j", "k").await;
    let lines: Vec<_> = (1..=lines).map(|number| format!("line {number}")).collect();
    server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
}

fn lines(job: &Value) -> (u64, Vec<&str>) {
    let lines = job["logs"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    (job["logs_from"].as_u64().unwrap(), lines.collect())
}

each_engine!(a_document_has_its_last_hundred_lines, |server| async move {
    logged(server, 250).await;
    let job = server.read("j").await;
    let (from, lines) = lines(&job);
    assert_eq!((from, lines.len(), lines[0], lines[99]), (151, 100, "line 151", "line 250"));
    assert_eq!((&job["log_count"], &job["version"]), (&json!(250), &json!(2)));
});

each_engine!(a_reader_says_how_many_lines, |server| async move {
    logged(server, 250).await;
    let read = async |query: &str| server.get(&format!("/jobs/j?{query}")).await.is(200).json();
    let job = read("logs=0").await;
    assert_eq!(lines(&job), (251, vec![]));
    let job = read("logs=2").await;
    assert_eq!(lines(&job), (249, vec!["line 249", "line 250"]));
    let job = read("logs=all").await;
    assert_eq!(lines(&job).1.len(), 250);
    let job = read("logs=100000000000000000000").await;
    assert_eq!(lines(&job).1.len(), 250);
    let job = read("logs_after=248").await;
    assert_eq!(lines(&job), (249, vec!["line 249", "line 250"]));
    let job = read("logs_after=0").await;
    assert_eq!(lines(&job).1.len(), 250);
    let job = read("logs_after=3&logs=2").await;
    assert_eq!(lines(&job), (4, vec!["line 4", "line 5"]));
    for ahead in ["logs_after=250", "logs_after=9007199254740991", "logs_after=3&logs=0"] {
        let job = read(ahead).await;
        assert_eq!(lines(&job), (251, vec![]), "{ahead}");
    }
    for (query, field) in [
        ("logs=-1", "logs"),
        ("logs=", "logs"),
        ("logs=1e2", "logs"),
        ("logs=1&logs=2", "logs"),
        ("logs_after=x", "logs_after"),
        ("logs_after=9007199254740992", "logs_after"),
        ("input=yes", "input"),
        ("wait=25", "wait"),
        ("_=1", "_"),
        ("logs=%zz", "logs"),
        ("logs=%ff", "logs"),
        ("%ff=1", "%ff"),
    ] {
        server.get(&format!("/jobs/j?{query}")).await.names(field);
    }
});

each_engine!(
    lines_of_one_answer_are_bounded_by_bytes,
    |config| {
        config.logs.log_page_bytes = 1000;
    },
    |server| async move {
        server.job("j", "k").await;
        let long: Vec<_> = (0..20).map(|number| format!("{number:0100}")).collect();
        server.post("/jobs/j/logs", json!({"lines": long})).await.is(200);
        let job = server.get("/jobs/j?logs=all").await.is(200).json();
        let (from, newest) = lines(&job);
        assert_eq!((from, newest.len()), (11, 10));
        let job = server.get("/jobs/j?logs_after=0").await.is(200).json();
        let (from, oldest) = lines(&job);
        assert_eq!((from, oldest.len(), oldest[0]), (1, 10, long[0].as_str()));
    }
);

each_engine!(a_client_with_the_newest_version_gets_304, |server| async move {
    server.job("j", "k").await;
    let read = |tags: &str| server.get("/jobs/j").header("if-none-match", tags);
    for tags in ["\"v1\"", "W/\"v1\"", "*", "\"v7\", \"v1\"", "\"other\",\"v1\""] {
        let answer = read(tags).await.is(304);
        assert_eq!((answer.header("etag"), answer.text.as_str()), (Some("\"v1\""), ""));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    }
    for tags in ["\"v2\"", "\"v01\"", "\"v1-gzip\"", "\"\""] {
        let answer = read(tags).await.is(200);
        assert_eq!(answer.header("etag"), Some("\"v1\""));
    }
    for tags in ["v1", "\"v1", "", "\"v1\" \"v2\"", "*, \"v1\""] {
        read(tags).await.refused(400, "invalid_header");
    }
    server.patch("j", json!({"progress_pct": 1})).await.is(200);
    read("\"v1\"").await.is(200);
    read("\"v2\"").await.is(304);
});

each_engine!(a_document_is_never_compressed_so_that_its_tag_is_strong, |server| async move {
    logged(server, 100).await;
    let answer = server.get("/jobs/j").header("accept-encoding", "gzip").await.is(200);
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    let page = server.get("/jobs/j/logs").header("accept-encoding", "gzip").begin().await;
    assert_eq!(page.headers()["content-encoding"], "gzip");
});

each_engine!(what_is_compressed_says_the_same, |server| async move {
    logged(server, 100).await;
    for path in ["/jobs", "/jobs/j/logs", "/export", "/openapi.json", "/docs"] {
        let plain = server.get(path).await.is(200).text;
        let url = format!("http://{}{path}", server.address());
        let arguments =
            ["--silent", "--show-error", "--fail", "--compressed", "--noproxy", "*", &url].map(str::to_owned);
        let curl = move || std::process::Command::new("curl").args(arguments).output().unwrap();
        let output = tokio::task::spawn_blocking(curl).await.unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), plain, "{path}");
    }
});

each_engine!(head_answers_as_get_does_without_a_body, |server| async move {
    server.job("j", "k").await;
    let document = server.get("/jobs/j").await.is(200);
    let head = server.call("HEAD", "/jobs/j").await.is(200);
    assert_eq!((head.header("etag"), head.text.as_str()), (Some("\"v1\""), ""));
    assert_eq!(head.header("content-length"), document.header("content-length"));
    assert_eq!(server.call("HEAD", "/jobs/none").await.is(404).text, "");
});

each_engine!(a_deleted_job_is_gone_with_everything, |server| async move {
    logged(server, 3).await;
    server.delete("/jobs/j").header("if-match", "\"v1\"").await.refused(412, "version_mismatch");
    server.delete("/jobs/j").header("if-match", "\"v2\"").await.is(204);
    for path in ["/jobs/j", "/jobs/j/logs"] {
        server.get(path).await.refused(404, "job_not_found");
    }
    server.patch("j", json!({"progress_pct": 1})).await.refused(404, "job_not_found");
    server.post("/jobs/j/logs", json!({"line": "x"})).await.refused(404, "job_not_found");
    server.delete("/jobs/j").await.is(204);
    server.delete("/jobs/never").await.refused(404, "job_not_found");
});

each_engine!(what_is_acknowledged_is_there_after_a_restart, |server| async move {
    logged(server, 5).await;
    server.patch("j", json!({"status": "completed", "result": {"url": "/v/1"}, "labels": {"a": "b"}})).await.is(200);
    let before = server.read("j").await;
    let after = server.restarted().await;
    assert_eq!(after.read("j").await, before);
    after.stop().await;
});

each_engine!(
    a_document_is_the_same_from_the_disk_and_from_memory,
    |config| { config.logs.job_lines_max = 200 },
    |server| async move {
        let numbered =
            |text: &str, numbers: std::ops::Range<usize>| numbers.map(|n| format!("{text} {n}")).collect::<Vec<_>>();
        // What each request appends. Many commits, more than a document tells, more than is kept, rows that are long between others.
        let logs = [
            ("bare", vec![]),
            ("short", (0..3).map(|n| numbered("line", n..n + 1)).collect()),
            ("long", (0..70).map(|n| numbered("line", 2 * n..2 * n + 2)).collect()),
            ("trimmed", [0, 150, 300].map(|first| numbered("line", first..first + 150)).to_vec()),
            ("heavy", ["first", &"heavy ".repeat(1000), "last"].map(|text| numbered(text, 0..2)).to_vec()),
            ("gone", vec![numbered("line", 0..3)]),
        ];
        for (id, requests) in &logs {
            server.job(id, "k").await;
            for lines in requests {
                server.post(&format!("/jobs/{id}/logs"), json!({"lines": lines})).await.is(200);
            }
        }
        server.patch("long", json!({"status": "completed", "result": {"url": "/v/1"}})).await.is(200);
        server.delete("/jobs/gone").await.is(204);
        let mut before = Vec::new();
        for (id, requests) in &logs[..5] {
            let answer = server.get(&format!("/jobs/{id}")).await.is(200);
            let all = requests.concat();
            assert_eq!(lines(&answer.json()).1, all[all.len().saturating_sub(100)..], "{id}");
            before.push((id, answer.header("etag").unwrap().to_owned(), answer.text));
        }
        let after = server.restarted().await;
        for (at, (id, tag, text)) in before.iter().enumerate() {
            let path = format!("/jobs/{id}");
            if at % 2 == 0 {
                // Whoever has it is not told, and the next one is.
                after.get(&path).header("if-none-match", tag).await.is(304);
            }
            for _ in 0..2 {
                let answer = after.get(&path).await.is(200);
                assert_eq!((answer.header("etag").unwrap(), &answer.text), (&**tag, text));
            }
        }
        after.get("/jobs/gone").await.refused(404, "job_not_found");
        after.get("/jobs/never").await.refused(404, "job_not_found");
        after.stop().await;
    }
);

//! Bad input of every sort to every route: each has its documented 4xx, none is a fault of the service, and nothing is
//! changed by any of it.

use serde_json::{Value, json};

use crate::harness::Server;

/// Every route that takes a body, as method and path; `j` is a job of kind `k`.
const BODIES: [(&str, &str); 8] = [
    ("POST", "/jobs"),
    ("PUT", "/jobs/new"),
    ("PATCH", "/jobs/j"),
    ("POST", "/jobs/j/logs"),
    ("POST", "/jobs/j/heartbeat"),
    ("POST", "/batch"),
    OPTIONAL[0],
    OPTIONAL[1],
];

/// Those of them where the body may be left out.
const OPTIONAL: [(&str, &str); 2] = [("POST", "/jobs/j/cancel"), ("POST", "/jobs/j/retry")];

/// All there is, to compare with later.
async fn everything(server: &Server) -> Vec<String> {
    // The first line says when the export was made.
    server.get("/export").await.is(200).text.lines().skip(1).map(str::to_owned).collect()
}

async fn one_job(server: &Server) -> Vec<String> {
    server
        .put("/jobs/j", json!({"kind": "k", "labels": {"a": "b"}, "log": "line", "status": "processing"}))
        .await
        .is(201);
    everything(server).await
}

each_engine!(a_body_that_is_no_json_is_told_so, |server| async move {
    let before = one_job(server).await;
    let deep = "[".repeat(10_000);
    let deep_object = "{\"a\":".repeat(10_000);
    let deep_and_closed = format!("{{\"kind\":\"k\",\"input\":{}{}}}", "[".repeat(101), "]".repeat(101));
    for (method, path) in BODIES {
        for body in [
            "",
            " ",
            "{",
            "{\"kind\": \"k\"",
            "nope",
            "{'kind': 'k'}",
            "{\"kind\": \"k\",}",
            "{} {}",
            "\u{feff}{}",
            "[1,]",
            "\0",
        ] {
            if body.is_empty() && OPTIONAL.contains(&(method, path)) {
                continue;
            }
            server.call(method, path).body("application/json", body).await.refused(400, "invalid_json");
        }
        for body in [&deep, &deep_object, &deep_and_closed] {
            server.call(method, path).body("application/json", body.clone()).await.refused(400, "invalid_json");
        }
        for body in [&b"{\"kind\": \"\xff\"}"[..], b"\xff\xfe{\0}\0", b"{\"a\": \"\xed\xa0\x80\"}"] {
            server.call(method, path).body("application/json", body.to_vec()).await.refused(400, "invalid_json");
        }
    }
    assert_eq!(everything(server).await, before);
});

each_engine!(a_body_that_is_no_object_is_told_so, |server| async move {
    let before = one_job(server).await;
    for (method, path) in BODIES {
        for body in ["null", "5", "\"text\"", "true"] {
            server.call(method, path).body("application/json", body).await.refused(422, "invalid_field");
        }
        let other = if path == "/batch" { "{}" } else { "[]" };
        server.call(method, path).body("application/json", other).await.refused(422, "invalid_field");
    }
    assert_eq!(everything(server).await, before);
});

each_engine!(numbers_beyond_a_double_are_no_json, |server| async move {
    let before = one_job(server).await;
    for (path, member) in
        [("/jobs/j", "progress_pct"), ("/jobs/j", "result"), ("/jobs/j", "error"), ("/jobs/j", "attempt")]
    {
        for number in ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "[1e400]", "0x1", "01", "1.", ".5", "+1"] {
            let body = format!("{{\"{member}\": {number}}}");
            let number_in_array = member != "result" && number.starts_with('[');
            let answer = server.call("PATCH", path).body("application/json", body).await;
            // An array is no progress whatever is in it, and nobody looks.
            assert_eq!(answer.status, if number_in_array && member != "error" { 422 } else { 400 }, "{answer:?}");
        }
    }
    let input = "{\"kind\": \"k\", \"input\": {\"deep\": [{\"n\": 1e400}]}}";
    server.call("POST", "/jobs").body("application/json", input).await.refused(400, "invalid_json");
    let surrogate = r#"{"kind": "k", "input": "\ud800"}"#;
    server.call("POST", "/jobs").body("application/json", surrogate).await.refused(400, "invalid_json");
    assert_eq!(everything(server).await, before);
});

each_engine!(members_of_the_wrong_type_are_refused_by_name, |server| async move {
    let before = one_job(server).await;
    let of_another_type = |good: &str| -> Vec<Value> {
        let all = [json!("x\n"), json!(1.5), json!(true), json!([1]), json!({"A": 1})];
        all.into_iter()
            .filter(|value| {
                !good.contains(match value {
                    Value::String(_) => 's',
                    Value::Number(_) => 'n',
                    Value::Bool(_) => 'b',
                    Value::Array(_) => 'a',
                    Value::Object(_) | Value::Null => 'o',
                })
            })
            .collect()
    };
    let creation = [
        ("kind", ""),
        ("labels", ""),
        ("priority", ""),
        ("max_attempts", ""),
        ("status", ""),
        ("stage", ""),
        ("lease_seconds", ""),
        ("timeout_seconds", ""),
        ("queue_ttl_seconds", ""),
        ("cancel_grace_seconds", ""),
        ("retain_seconds", ""),
        ("log", "s"),
    ];
    for (member, good) in creation {
        for value in of_another_type(good) {
            let mut body = json!({"kind": "k"});
            body[member] = value;
            server.post("/jobs", body.clone()).await.names(member);
            server.put("/jobs/new", body).await.names(member);
        }
    }
    let change = [
        ("status", ""),
        ("progress_pct", "n"),
        ("progress", "n"),
        ("stage", ""),
        ("message", ""),
        ("error", "o"),
        ("labels", ""),
        ("log", "s"),
        ("attempt", ""),
        ("writer", ""),
        ("seq", ""),
    ];
    for (member, good) in change {
        for value in of_another_type(good) {
            server.patch("j", json!({member: value})).await.names(member);
        }
    }
    for (member, range) in [
        ("lease_seconds", 86_400),
        ("max_attempts", 1000),
        ("timeout_seconds", 2_592_000),
        ("cancel_grace_seconds", 86_400),
    ] {
        for number in [json!(0), json!(-1), json!(range + 1), json!(0.5), json!(1e300), json!(u64::MAX)] {
            let problem = server.post("/jobs", json!({"kind": "k", member: number})).await.names(member);
            assert!(problem["detail"].as_str().unwrap().contains(&range.to_string()));
        }
    }
    for priority in [json!(i64::from(i32::MAX) + 1), json!(i64::from(i32::MIN) - 1)] {
        server.post("/jobs", json!({"kind": "k", "priority": priority})).await.names("priority");
    }
    for kind in ["", "K", "a b", "ä", &"k".repeat(65), "k\0"] {
        server.post("/jobs", json!({"kind": kind})).await.names("kind");
    }
    server.post("/jobs", json!({})).await.names("kind");
    assert_eq!(everything(server).await, before);
});

each_engine!(a_member_that_is_there_twice_is_refused_by_name, |server| async move {
    let before = one_job(server).await;
    let patch = |body: &str| server.call("PATCH", "/jobs/j").body("application/json", body.to_owned());
    patch(r#"{"status": "completed", "status": "failed"}"#).await.names("status");
    patch(r#"{"status": "completed", "st\u0061tus": "completed"}"#).await.names("status");
    patch(r#"{"labels": {"a": "1", "a": "2"}}"#).await.names("a");
    patch(r#"{"unknown": 1, "unknown": 2}"#).await.names("unknown");
    let many: String = (0..50_000).map(|number| format!(r#""m{number}":0,"#)).collect();
    patch(&format!("{{{}\"last\":0}}", many)).await.names("m64");
    assert_eq!(everything(server).await, before);
});

each_engine!(a_body_of_another_type_is_told_which_to_send, |server| async move {
    let before = one_job(server).await;
    let body = "{\"kind\": \"k\", \"line\": \"x\"}";
    for (method, path) in BODIES {
        for media_type in [
            "application/x-www-form-urlencoded",
            "text/html",
            "application/xml",
            "application/json; charset=latin1",
            "json",
            "",
        ] {
            let problem = server.call(method, path).body(media_type, body).await.refused(415, "unsupported_media_type");
            assert!(problem["detail"].as_str().unwrap().contains("`Content-Type: application/json`"), "{problem}");
        }
        server.call(method, path).bare(body).await.refused(415, "unsupported_media_type");
        let zipped = server.call(method, path).body("application/json", body).header("content-encoding", "gzip");
        zipped.await.refused(415, "unsupported_media_type");
        if !OPTIONAL.contains(&(method, path)) {
            server.call(method, path).await.refused(400, "invalid_json");
        }
    }
    server
        .call("POST", "/jobs")
        .body("application/merge-patch+json", body)
        .await
        .refused(415, "unsupported_media_type");
    server.call("PATCH", "/jobs/j").body("text/plain", body).await.refused(415, "unsupported_media_type");
    assert_eq!(everything(server).await, before);
    for media_type in ["application/json;charset=UTF-8", "APPLICATION/JSON", "application/json; charset=\"utf-8\""] {
        server.call("POST", "/jobs").body(media_type, "{\"kind\": \"k\"}").await.is(201);
    }
});

each_engine!(ids_that_can_be_no_jobs_are_not_found, |server| async move {
    let before = one_job(server).await;
    let long = "x".repeat(129);
    let endless = "x".repeat(5000);
    let malformed = [
        "a%2Fb",
        "..",
        ".",
        ".a",
        "%2e%2e",
        "a%00b",
        "%00",
        "%",
        "%zz",
        "%ff",
        "a%20b",
        "a b%0d%0a",
        "j%0a",
        "claim",
        "a,b",
        "a;b",
        "%C3%A4",
        "%F0%9F%92%A9",
        "a:b",
        "a@b",
        "a'b",
        "*",
        "$ref",
        &long,
        &endless,
    ];
    for id in malformed {
        for (method, suffix, body) in [
            ("GET", "", ""),
            ("HEAD", "", ""),
            ("DELETE", "", ""),
            ("PATCH", "", "{}"),
            ("GET", "/logs", ""),
            ("GET", "/attempts", ""),
            ("POST", "/logs", "{\"line\":\"x\"}"),
            ("POST", "/cancel", "{}"),
            ("POST", "/retry", "{}"),
            ("POST", "/heartbeat", "{}"),
        ] {
            let id = id.replace(' ', "%20");
            let answer = server.raw_call(method, &format!("/jobs/{id}{suffix}"), body).await.is(404);
            if method != "HEAD" {
                answer.refused(404, "job_not_found");
            }
        }
        let put = server.raw_call("PUT", &format!("/jobs/{}", id.replace(' ', "%20")), "{\"kind\":\"k\"}").await;
        put.names("id");
    }
    for path in [
        "/jobs/",
        "/jobs//",
        "/jobs/j/",
        "/jobs/a/b",
        "/jobs/j/logs/",
        "//jobs",
        "/JOBS",
        "/jobs/j/../j",
        "/nope",
        "/api",
        "/%6Aobs",
    ] {
        server.raw_call("GET", path, "").await.refused(404, "not_found");
    }
    assert_eq!(everything(server).await, before);
});

each_engine!(a_method_that_a_route_does_not_take_is_told_which_it_takes, |server| async move {
    let before = one_job(server).await;
    for (path, allowed) in [
        ("/jobs", "GET,HEAD,POST"),
        ("/jobs/j", "GET,HEAD,PUT,PATCH,DELETE"),
        ("/jobs/j/logs", "GET,HEAD,POST"),
        ("/jobs/j/cancel", "POST"),
        ("/jobs/j/retry", "POST"),
        ("/jobs/j/heartbeat", "POST"),
        ("/batch", "POST"),
        ("/export", "GET,HEAD"),
        ("/livez", "GET,HEAD"),
        ("/", "GET,HEAD"),
        ("/api/status/j", "GET,HEAD"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "X-1"] {
            if !allowed.split(',').any(|name| name == method) {
                let answer = server.call(method, path).json(json!({"kind": "k"})).await;
                assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
                answer.refused(405, "method_not_allowed");
            }
        }
    }
    assert_eq!(everything(server).await, before);
});

each_engine!(unknown_parameters_are_refused_by_name, |server| async move {
    let before = one_job(server).await;
    for (method, path) in [
        ("POST", "/jobs"),
        ("PUT", "/jobs/new"),
        ("GET", "/jobs/j"),
        ("PATCH", "/jobs/j"),
        ("DELETE", "/jobs/j"),
        ("POST", "/jobs/j/logs"),
        ("GET", "/jobs/j/logs"),
        ("POST", "/jobs/j/cancel"),
        ("POST", "/jobs/j/retry"),
        ("POST", "/jobs/j/heartbeat"),
        ("GET", "/jobs"),
        ("POST", "/batch"),
        ("GET", "/export"),
    ] {
        server
            .call(method, &format!("{path}?surprise=1"))
            .json(json!({"kind": "k", "line": "x"}))
            .await
            .names("surprise");
        server.call(method, &format!("{path}?sur%70rise")).json(json!({"kind": "k"})).await.names("surprise");
    }
    assert_eq!(everything(server).await, before);
});

each_engine!(
    a_body_over_its_limit_is_413_however_it_is_sent,
    |config| {
        config.http.body_bytes_max = 4096;
    },
    |server| async move {
        let before = one_job(server).await;
        for (method, path) in BODIES {
            for size in [4097, 10_000, 3_000_000] {
                let big = format!("{{\"kind\":\"k\",\"input\":\"{}\"}}", "x".repeat(size - 23));
                assert_eq!(big.len(), size);
                server.call(method, path).body("application/json", big.clone()).await.refused(413, "body_too_large");
                let pieces = futures_util::stream::iter(
                    big.as_bytes()
                        .chunks(1000)
                        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
                        .collect::<Vec<_>>(),
                );
                let chunked = reqwest::Body::wrap_stream(pieces);
                server.call(method, path).body("application/json", chunked).await.refused(413, "body_too_large");
            }
        }
        let announced =
            "POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n{";
        assert!(server.raw(announced).await.starts_with("HTTP/1.1 413 "));
        let head = "POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        let expecting = format!("{head}\r\nexpect: 100-continue\r\ncontent-length: 5000\r\n\r\n");
        assert!(server.raw(expecting).await.starts_with("HTTP/1.1 413 "));
        assert_eq!(everything(server).await, before);
        let fits = format!("{{\"kind\":\"k\",\"input\":\"{}\"}}", "x".repeat(4096 - 23));
        server.call("POST", "/jobs").body("application/json", fits).await.is(201);
    }
);

each_engine!(
    a_body_that_does_not_come_is_408,
    |config| {
        config.http.body_read_seconds = 1;
    },
    |server| async move {
        let before = one_job(server).await;
        for (length, sent) in
            [("content-length: 30", "{\"kind\":"), ("transfer-encoding: chunked", "8\r\n{\"kind\":\r\n")]
        {
            let slow =
                format!("POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n{sent}");
            let answer = server.raw(slow).await;
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(
                answer.contains("\"code\":\"request_timeout\"") && answer.contains("connection: close"),
                "{answer}"
            );
        }
        assert_eq!(everything(server).await, before);
    }
);

each_engine!(
    headers_that_do_not_end_are_408,
    |config| {
        config.http.header_read_seconds = 1;
    },
    |server| async move {
        for begun in ["GET /jobs/j HTTP/1.1\r\nhost: x\r\n", "GET /jo", "\r\nG"] {
            let answer = server.raw(begun).await;
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"), "{answer}");
            assert!(answer.contains("\r\ndate: ") && answer.ends_with(" GMT\r\n\r\n"), "{answer}");
        }
        // Nobody asked for anything.
        assert_eq!(server.raw("").await, "");
        let answered = server.raw("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answered.starts_with("HTTP/1.1 200 ") && answered.ends_with("{\"status\":\"live\"}"), "{answered}");
    }
);

each_engine!(headers_over_their_limit_and_requests_that_are_none_are_refused, |server| async move {
    let before = one_job(server).await;
    let long = format!("GET /jobs/j HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(70_000));
    assert!(server.raw(long).await.starts_with("HTTP/1.1 431 "));
    let many: String = (0..2000).map(|number| format!("x-{number}: y\r\n")).collect();
    assert!(server.raw(format!("GET /jobs/j HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await.starts_with("HTTP/1.1 431 "));
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /jobs HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    ] {
        assert!(server.raw(nonsense).await.starts_with("HTTP/1.1 400 "), "{nonsense:?}");
    }
    let smuggled = "POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}";
    assert!(server.raw(smuggled).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(everything(server).await, before);
});

each_engine!(a_client_that_breaks_off_changes_nothing, |server| async move {
    let before = one_job(server).await;
    for (method, path) in BODIES {
        use std::io::Write;
        let mut connection = server.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        );
        connection.write_all(format!("{head}{{\"kind\": \"k\"}}").as_bytes()).unwrap();
        drop(connection);
    }
    // What came after it on other connections is answered as if nothing had been.
    assert_eq!(everything(server).await, before);
});

each_engine!(the_order_of_checks_is_that_of_the_contract, |server| async move {
    server.put("/jobs/j", json!({"kind": "k", "lease_seconds": 60, "status": "processing"})).await.is(201);
    let patch = |body: Value| server.patch("j", body).header("if-match", "\"v9\"");
    server.patch("none", json!({"progress_pct": "x"})).await.names("progress_pct");
    server.patch("none", json!({"attempt": 7})).header("if-match", "\"v9\"").await.refused(404, "job_not_found");
    patch(json!({"attempt": 7})).await.refused(409, "stale_attempt");
    patch(json!({"progress_pct": 1, "attempt": 1})).await.refused(412, "version_mismatch");
    server.patch("j", json!({"status": "completed", "attempt": 1})).await.is(200);
    patch(json!({"status": "completed", "attempt": 1})).await.is(200);
    patch(json!({"status": "failed", "attempt": 1})).await.refused(412, "version_mismatch");
    server.patch("j", json!({"status": "failed", "attempt": 1})).await.refused(409, "already_finished");
});

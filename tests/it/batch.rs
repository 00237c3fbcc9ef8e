//! Many operations in one request: as an array, as lines, and as a stream that is answered while it is sent.

use std::{io::Write, net::Shutdown};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Call, On, Server, only};

const NDJSON: &str = "application/x-ndjson";

fn statuses(answer: &Value) -> Vec<u64> {
    answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ids of all jobs in the order in which they were made.
async fn listed(server: &Server) -> Vec<String> {
    let list = server.get("/jobs?order=oldest&limit=300").await.is(200).json();
    list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

each_engine!(operations_are_done_in_order_each_on_its_own, |server| async move {
    let answer = server.post("/batch", json!([
        {"op": "create", "id": "a", "kind": "clip", "input": [1], "status": "processing"},
        {"op": "log", "id": "a", "lines": ["one", "two"], "pct": 10, "writer": "w", "seq": 1},
        {"op": "log", "id": "a", "lines": ["two", "three"], "writer": "w", "seq": 2, "attempt": 1},
        {"op": "heartbeat", "id": "a", "progress_pct": 20, "stage": "s"},
        {"op": "patch", "id": "a", "status": "done", "result": {"url": "x"}, "log": "four", "if_match": "\"v4\""},
        {"op": "patch", "id": "a", "status": "done", "result": {"url": "x"}, "log": "four", "if_match": "v4"},
        {"op": "patch", "id": "a", "status": "failed"},
        {"op": "create", "kind": "clip"},
        {"op": "create", "id": "a", "kind": "clip"},
        {"op": "create", "id": "a", "kind": "other"}
    ])).await.is(200).json();
    assert_eq!(statuses(&answer), [201, 200, 200, 200, 200, 200, 409, 201, 200, 409]);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(only(&results[0]["job"], &["id", "input", "version"]), json!({"id": "a", "input": [1], "version": 1}));
    assert_eq!(
        only(&results[2]["job"], &["log_count", "duplicates", "version"]),
        json!({"log_count": 3, "duplicates": 1, "version": 3})
    );
    let done = json!({"status": "completed", "version": 5, "result": {"url": "x"}, "logs": ["four"]});
    assert_eq!(only(&results[4]["job"], &["status", "version", "result", "logs"]), done);
    assert_eq!((&results[5]["job"]["version"], results[5]["job"].get("result")), (&json!(5), None));
    let problem = &results[6]["problem"];
    assert_eq!(
        only(problem, &["code", "status", "instance"]),
        json!({"code": "already_finished", "status": 409, "instance": "/batch#6"})
    );
    assert_eq!(results[7]["job"]["id"].as_str().unwrap().len(), 36);
    assert_eq!((&results[8]["job"]["version"], &results[9]["problem"]["code"]), (&json!(5), &json!("job_exists")));
});

each_engine!(whoever_wants_little_gets_versions_instead_of_jobs, |server| async move {
    let operations = [
        json!({"op": "create", "id": "a", "kind": "clip", "status": "processing"}),
        json!({"op": "log", "id": "a", "lines": ["one"]}),
        json!({"op": "patch", "id": "a", "progress_pct": 10}),
        json!({"op": "heartbeat", "id": "a"}),
        json!({"op": "patch", "id": "a", "progress_pct": 10, "if_match": "v1"}),
    ];
    let minimal = |call: Call| call.header("prefer", "return=minimal");
    let check = |results: &[Value], versions: [u64; 3], is_cancelled| {
        assert_eq!(only(&results[0]["job"], &["id", "kind"]), json!({"id": "a", "kind": "clip"}));
        for (result, version) in results[1..4].iter().zip(versions) {
            let mut expected = json!({"status": 204, "version": version});
            if is_cancelled {
                expected["cancel_requested"] = true.into();
            }
            assert_eq!(*result, expected);
        }
        assert_eq!(only(&results[4]["problem"], &["code"]), json!({"code": "version_mismatch"}));
        assert_eq!(results.len(), 5);
    };
    let answer = minimal(server.post("/batch", json!(operations))).await.is(200);
    assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    check(answer.json()["results"].as_array().unwrap(), [2, 3, 3], false);
    server.post("/jobs/a/cancel", json!({})).await.is(202);
    let text: String = operations.iter().map(|operation| format!("{operation}\n")).collect();
    let stream = server.call("POST", "/batch").body(NDJSON, text).header("accept", NDJSON);
    let answer = minimal(stream).await.is(200);
    assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    check(&lines(&answer.text), [5, 5, 5], true);
});

each_engine!(
    many_operations_wait_for_room_among_the_changes,
    |config| {
        config.store.queue_changes_max = 4;
    },
    |server| async move {
        const JOBS: usize = 50;
        let created = (0..JOBS).map(|job| json!({"op": "create", "id": format!("j{job}"), "kind": "k"}));
        let logged =
            (0..6 * JOBS).map(|n| json!({"op": "log", "id": format!("j{}", n % JOBS), "lines": [n.to_string()]}));
        let operations: Vec<_> = created.chain(logged).collect();
        let whole = server.post("/batch", json!(operations)).await.is(200).json();
        assert!(statuses(&whole).iter().all(|status| [200, 201].contains(status)), "{whole}");
        assert_eq!(listed(server).await, (0..JOBS).map(|job| format!("j{job}")).collect::<Vec<_>>());
        let text: String = operations[JOBS..].iter().map(|operation| format!("{operation}\n")).collect();
        let streamed = server.call("POST", "/batch").body(NDJSON, text).header("accept", NDJSON).await.is(200);
        let streamed = lines(&streamed.text);
        assert!(streamed.len() == 6 * JOBS && streamed.iter().all(|result| result["status"] == 200), "{streamed:?}");
        for job in [0, JOBS - 1] {
            let log = server.get(&format!("/jobs/j{job}/logs")).header("accept", "text/plain").await.is(200).text;
            let once: Vec<_> = (0..6).map(|round| (round * JOBS + job).to_string()).collect();
            assert_eq!(log.lines().collect::<Vec<_>>(), [&once[..], &once[..]].concat());
        }
    }
);

each_engine!(
    a_stream_that_is_not_read_does_not_hold_others_up,
    |config| {
        config.store.queue_changes_max = 4;
    },
    |server| async move {
        server.job("unread", "k").await;
        server.job("j", "k").await;
        let mut unread = server.connect_narrow().await;
        let request = format!(
            "POST /batch HTTP/1.1\r\nhost: x\r\ncontent-type: {NDJSON}\r\naccept: {NDJSON}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        unread.write_all(request.as_bytes()).unwrap();
        let mut writing = unread.try_clone().unwrap();
        // More than the kernel holds of its answers, each of which has this result.
        let sender = tokio::task::spawn_blocking(move || {
            for number in 0..1000 {
                let result = format!("{number}{}", "x".repeat(16_000));
                let line = format!("{}\n", json!({"op": "patch", "id": "unread", "result": result}));
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                if writing.write_all(chunk.as_bytes()).is_err() {
                    break;
                }
            }
        });
        let operations: Vec<_> = (0..500).map(|n| json!({"op": "log", "id": "j", "line": n.to_string()})).collect();
        // It does not go on, for all that is to be seen.
        let (mut version, mut still) = (json!(null), 0);
        while still < 50 {
            let now = server.read("unread").await["version"].clone();
            still = if now == version { still + 1 } else { 0 };
            version = now;
        }
        let answer = server.post("/batch", json!(operations)).await.is(200).json();
        assert!(statuses(&answer).iter().all(|status| *status == 200), "{answer}");
        unread.shutdown(Shutdown::Both).unwrap();
        sender.await.unwrap();
    }
);

each_engine!(an_operation_that_is_none_does_not_stop_the_others, |server| async move {
    let operations = json!([
        5, {}, {"op": "drop"}, {"op": "patch"}, {"op": "patch", "id": "a/b"}, {"op": "patch", "id": 7},
        {"op": "patch", "id": "none"}, {"op": "create", "id": ".a", "kind": "k"}, {"op": "create"},
        {"op": "log", "id": "a"},
        {"op": "patch", "id": "a", "if_match": "v1 v2"}, {"op": "patch", "id": "a", "logs": []},
        {"op": "heartbeat", "id": "a", "line": "x"}, {"op": "create", "kind": "k", "if_match": "v1"}, null,
        {"op": "create", "id": "a", "kind": "k"}, {"op": "heartbeat", "id": "a"},
        {"op": "patch", "id": "a", "if_match": "W/\"v1\""}
    ]);
    let answer = server.post("/batch", operations).await.is(200).json();
    let expected = [422, 422, 422, 422, 404, 422, 404, 422, 422, 422, 422, 422, 422, 422, 422, 201, 409, 412];
    assert_eq!(statuses(&answer), expected);
    let fields: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["problem"]["field"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(
        fields,
        [
            "-", "op", "op", "id", "-", "id", "-", "id", "kind", "line", "if_match", "logs", "line", "if_match", "-",
            "-", "-", "-"
        ]
    );
    assert_eq!(answer["results"][16]["problem"]["code"], "invalid_transition");
    assert_eq!(server.read("a").await["version"], 1);
});

#[tokio::test]
async fn operations_on_one_job_share_commits_and_keep_their_order() {
    const LINES: usize = 800;
    let server = Server::start(On::Sqlite, |_| {}).await;
    let create = json!({"op": "create", "id": "a", "kind": "k"});
    let lines = (1..=LINES).map(|n| json!({"op": "log", "id": "a", "line": format!("line {n}")}));
    let operations: Vec<Value> = [create].into_iter().chain(lines).collect();
    let answer = server.post("/batch", operations.into()).await.is(200).json();
    let counts =
        answer["results"].as_array().unwrap().iter().map(|result| result["job"]["log_count"].as_u64().unwrap());
    assert!(counts.eq(0..=LINES as u64));
    let log = server.get(&format!("/jobs/a/logs?limit={LINES}")).await.is(200).json();
    let texts: Vec<_> = log["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap()).collect();
    assert!(texts.iter().enumerate().all(|(at, text)| *text == format!("line {}", at + 1)), "{texts:?}");
    let metrics = server.get("/metrics").await.is(200).text;
    let commits = metrics.lines().find_map(|line| line.strip_prefix("milepost_commit_seconds_count ")).unwrap();
    let commits: usize = commits.parse().unwrap();
    assert!(commits < LINES / 4, "{commits} commits");
    server.stop().await;
}

each_engine!(jobs_are_made_in_the_order_of_their_operations, |server| async move {
    let expected: Vec<_> = (0..300).map(|number| format!("j{number}")).collect();
    let operations: Vec<_> = expected.iter().map(|id| json!({"op": "create", "id": id, "kind": "k"})).collect();
    assert!(
        statuses(&server.post("/batch", json!(operations)).await.is(200).json()).iter().all(|status| *status == 201)
    );
    assert_eq!(listed(server).await, expected);
});

each_engine!(an_empty_batch_has_no_results, |server| async move {
    assert_eq!(server.post("/batch", json!([])).await.is(200).text, "{\"results\":[]}");
    let answer = server.call("POST", "/batch").body(NDJSON, "\n \n").await.is(200);
    assert_eq!(answer.text, "{\"results\":[]}");
    let answer = server.call("POST", "/batch").body(NDJSON, "").header("accept", NDJSON).await.is(200);
    assert_eq!((answer.text.as_str(), answer.header("content-type")), ("", Some(NDJSON)));
});

each_engine!(either_form_of_a_batch_is_answered_in_either_form, |server| async move {
    let array = json!([{"op": "create", "id": "a", "kind": "k"}, {"op": "log", "id": "a", "line": "x"}]).to_string();
    let as_lines =
        "{\"op\": \"create\", \"id\": \"a\", \"kind\": \"k\"}\n{\"op\": \"log\", \"id\": \"a\", \"line\": \"x\"}";
    let mut count = 0;
    for (media_type, body) in [("application/json", array.as_str()), (NDJSON, as_lines)] {
        let whole = server.call("POST", "/batch").body(media_type, body.to_owned()).await.is(200);
        assert_eq!(whole.header("content-type"), Some("application/json"));
        assert_eq!(whole.json()["results"][1]["job"]["log_count"], count + 1);
        let streamed =
            server.call("POST", "/batch").body(media_type, body.to_owned()).header("accept", NDJSON).await.is(200);
        assert_eq!(streamed.header("content-type"), Some(NDJSON));
        assert_eq!(lines(&streamed.text)[1]["job"]["log_count"], count + 2);
        count += 2;
    }
});

each_engine!(
    a_batch_that_is_answered_as_a_whole_is_bounded,
    |config| {
        config.batch.operations_max = 3;
    },
    |server| async move {
        let create = json!({"op": "create", "kind": "k"});
        server.post("/batch", json!([create, create, create])).await.is(200);
        let problem =
            server.post("/batch", json!([create, create, create, create])).await.refused(422, "invalid_field");
        assert!(problem["detail"].as_str().unwrap().contains("at most 3"));
        let four = format!("{create}\n{create}\n{create}\n{create}\n");
        server.call("POST", "/batch").body(NDJSON, four.clone()).await.refused(422, "invalid_field");
        assert_eq!(server.get("/jobs").await.json()["jobs"].as_array().unwrap().len(), 3);
        let answer = server.call("POST", "/batch").body(NDJSON, four).header("accept", NDJSON).await.is(200);
        assert_eq!(lines(&answer.text).len(), 4);
        server.post("/batch", json!({"operations": []})).await.refused(422, "invalid_field");
        server.call("POST", "/batch").body("text/plain", "x").await.refused(415, "unsupported_media_type");
        server.call("POST", "/batch").body("application/json", "[{]").await.refused(400, "invalid_json");
    }
);

/// A stream that a story feeds line by line.
struct Stream {
    operations: mpsc::Sender<String>,
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn begin(server: &Server) -> Self {
        let (operations, receiver) = mpsc::channel::<String>(1);
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
        });
        let body = reqwest::Body::wrap_stream(pieces);
        let call = server.call("POST", "/batch").body(NDJSON, body).header("accept", NDJSON);
        Self { operations, answer: call.begin().await, text: String::new() }
    }

    async fn send(&self, text: impl Into<String>) {
        self.operations.send(text.into()).await.unwrap();
    }

    /// The next result; `None` at the end of the answer.
    async fn result(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let result = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some(result);
            }
            let piece = self.answer.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

each_engine!(a_stream_is_answered_while_it_is_sent, |server| async move {
    let mut stream = Stream::begin(server).await;
    stream.send("{\"op\": \"create\", \"id\": \"a\", \"kind\": \"k\"}\n").await;
    assert_eq!(stream.result().await.unwrap()["status"], 201);
    assert_eq!(server.read("a").await["version"], 1);
    // A line may come in pieces, and several in one.
    stream.send("{\"op\": \"log\", \"id\": \"a\",").await;
    stream.send(" \"line\": \"one\"}\n{\"op\": \"log\", \"id\": \"a\", \"line\": \"two\"}\nnonsense\n\n{\"op\":").await;
    assert_eq!(stream.result().await.unwrap()["job"]["log_count"], 1);
    assert_eq!(stream.result().await.unwrap()["job"]["log_count"], 2);
    let problem = stream.result().await.unwrap();
    assert_eq!(
        only(&problem["problem"], &["code", "instance"]),
        json!({"code": "invalid_json", "instance": "/batch#3"})
    );
    stream.send("\"heartbeat\", \"id\": \"b\"}").await;
    let Stream { operations, .. } = &mut stream;
    let (closed, _) = mpsc::channel(1);
    *operations = closed;
    assert_eq!(stream.result().await.unwrap()["problem"]["code"], "job_not_found");
    assert_eq!(stream.result().await, None);
});

each_engine!(a_stream_ends_with_a_word_when_the_service_stops, |server| async move {
    let mut stream = Stream::begin(server).await;
    stream.send("{\"op\": \"create\", \"id\": \"a\", \"kind\": \"k\"}\n").await;
    assert_eq!(stream.result().await.unwrap()["status"], 201);
    let (_, last) = tokio::join!(server.stop(), stream.result());
    assert_eq!(last.unwrap()["problem"]["code"], "draining");
    assert_eq!(stream.result().await, None);
});

each_engine!(
    a_long_stream_keeps_the_order_of_each_job,
    |config| {
        config.batch.window = 16;
    },
    |server| async move {
        let mut text = String::new();
        for id in 0..7 {
            text += &format!("{}\n", json!({"op": "create", "id": format!("j{id}"), "kind": "k"}));
        }
        for number in 0..700 {
            text += &format!(
                "{}\n",
                json!({"op": "log", "id": format!("j{}", number % 7), "line": (number / 7).to_string()})
            );
        }
        let answer = server.call("POST", "/batch").body(NDJSON, text).header("accept", NDJSON).await.is(200);
        let results = lines(&answer.text);
        assert_eq!(results.len(), 707);
        for (number, result) in results[7..].iter().enumerate() {
            let expected = json!({"id": format!("j{}", number % 7), "log_count": number / 7 + 1});
            assert_eq!(only(&result["job"], &["id", "log_count"]), expected);
        }
        for id in 0..7 {
            let log = server.get(&format!("/jobs/j{id}/logs")).header("accept", "text/plain").await.is(200);
            let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
            assert_eq!(log.text, expected);
        }
    }
);

each_engine!(
    a_line_that_is_too_long_has_its_own_error,
    |config| {
        config.batch.line_bytes_max = 1024;
    },
    |server| async move {
        let long = json!({"op": "create", "id": "long", "kind": "k", "input": "x".repeat(2000)});
        let create = |id: &str| json!({"op": "create", "id": id, "kind": "k"});
        let text = format!("{}\n{long}\n{}\n", create("a"), create("b"));
        let answer = server.call("POST", "/batch").body(NDJSON, text).header("accept", NDJSON).await.is(200);
        let results = lines(&answer.text);
        let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [201, 413, 201]);
        assert_eq!(results[1]["problem"]["code"], "body_too_large");
    }
);

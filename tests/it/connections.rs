//! What becomes of a connection on which an answer goes on, and of what its client sends meanwhile.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use serde_json::json;

use crate::harness::{PATIENCE, Server};

const WATCH: &str = "GET /jobs/j/events HTTP/1.1\r\nhost: x\r\n\r\n";
const READ: &str = "GET /jobs/j HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";

/// A connection of a client that says what it wants, byte for byte.
struct Client(TcpStream);

impl Client {
    fn new(server: &Server) -> Self {
        let stream = server.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// What a shell's `printf ... | nc -N` does.
    fn says_no_more(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// All that comes, until it fits.
    async fn hear(self, fits: impl Fn(&str) -> bool + Send + 'static) -> (Self, String) {
        let hear = move || {
            let Self(mut stream) = self;
            let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
            while !fits(&String::from_utf8_lossy(&heard)) {
                let length = stream.read(&mut piece).unwrap();
                assert_ne!(length, 0, "closed after {}", String::from_utf8_lossy(&heard));
                heard.extend_from_slice(&piece[..length]);
            }
            (Self(stream), String::from_utf8(heard).unwrap())
        };
        tokio::task::spawn_blocking(hear).await.unwrap()
    }

    /// All that comes until the service closes the connection.
    async fn rest(self) -> String {
        let hear = move || {
            let Self(mut stream) = self;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            heard
        };
        tokio::task::spawn_blocking(hear).await.unwrap()
    }
}

async fn complete(server: &Server) {
    server.patch("j", json!({"status": "completed"})).await.is(200);
}

/// A client that has asked to be told of a job which was done only then.
async fn told(server: &Server, request: &str) -> Client {
    server.job("j", "k").await;
    let mut client = Client::new(server);
    client.say(request);
    server.until_open("events", 1).await;
    complete(server).await;
    client
}

each_engine!(a_connection_serves_on_after_a_stream, |server| async move {
    let mut client = Client::new(server);
    for id in ["first", "second"] {
        server.job(id, "k").await;
        client.say(&WATCH.replace("/j/", &format!("/{id}/")));
        server.until_open("events", 1).await;
        server.patch(id, json!({"status": "completed"})).await.is(200);
        let (mut same, heard) = client.hear(|heard| heard.ends_with(LAST_CHUNK)).await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
        assert!(heard.contains("\r\ntransfer-encoding: chunked\r\n") && heard.contains("\nevent: end\n"), "{heard}");
        same.say(&READ.replace("/j ", &format!("/{id} ")));
        let (same, heard) = same.hear(|heard| heard.contains("\"status\":\"completed\"")).await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
        client = same;
    }
});

each_engine!(requests_that_are_sent_ahead_are_answered_after_the_stream, |server| async move {
    server.job("j", "k").await;
    let mut client = Client::new(server);
    // Some come with the first and some later; all together are more than is read ahead.
    client.say(&format!("{WATCH}{}", READ.repeat(3)));
    server.until_open("events", 1).await;
    client.say(&READ.repeat(200));
    server.patch("j", json!({"stage": "still told"})).await.is(200);
    let (client, stream) = client.hear(|heard| heard.contains("still told")).await;
    complete(server).await;
    let is_all = |heard: &str| heard.matches("HTTP/1.1 200 OK").count() == 203 && heard.ends_with('}');
    let (_, answers) = client.hear(is_all).await;
    let (end, answers) = answers.split_once(LAST_CHUNK).unwrap();
    assert!(end.contains("\nevent: end\n") && !stream.contains(LAST_CHUNK), "{end}");
    assert_eq!(answers.matches("\"status\":\"completed\"").count(), 203);
});

each_engine!(a_client_that_wants_its_connection_closed_has_it_closed, |server| async move {
    let client = told(server, "GET /jobs/j/events HTTP/1.1\r\nhost: x\r\nconnection: x, Close\r\n\r\n").await;
    let heard = client.rest().await;
    assert!(heard.contains("\nevent: end\n") && heard.ends_with(LAST_CHUNK), "{heard}");
});

each_engine!(a_client_of_http_1_0_is_told_without_chunks, |server| async move {
    let client = told(server, "GET /jobs/j/events HTTP/1.0\r\nhost: x\r\n\r\n").await;
    let heard = client.rest().await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert!(body.starts_with("retry: ") && body.contains("\nevent: end\n") && !body.contains('\r'), "{body}");
});

each_engine!(a_request_with_a_body_is_told_as_well, |server| async move {
    let client = told(server, "GET /jobs/j/events HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\nignored").await;
    let (mut client, heard) = client.hear(|heard| heard.ends_with(LAST_CHUNK)).await;
    assert!(heard.contains("\nevent: end\n"), "{heard}");
    client.say(READ);
    client.hear(|heard| heard.contains("\"status\":\"completed\"")).await;
});

each_engine!(who_says_no_more_gets_its_answers, |server| async move {
    server.job("j", "k").await;
    let post = |method: &str, path: &str, media: &str, body: &str| {
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\naccept: {media}\r\ncontent-type: {media}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    };
    let patch = |stage: &str| post("PATCH", "/jobs/j", "application/json", &format!("{{\"stage\": \"{stage}\"}}"));
    let line = |stage: &str| format!("{{\"op\": \"patch\", \"id\": \"j\", \"stage\": \"{stage}\"}}\n");
    let batch = (1..=300).map(|number| line(&number.to_string())).collect::<String>();
    let pipelined = format!("{}{READ}{}", patch("<2>"), patch("<3>"));
    for (requests, answers, last) in [
        (READ.to_owned(), 1, "\"status\":\"queued\""),
        (patch("<1>"), 1, "\"stage\":\"<1>\""),
        (pipelined, 3, "\"stage\":\"<3>\""),
        (post("POST", "/jobs/j/logs", "application/json", "{\"line\": \"x\"}"), 1, "\"log_count\":1"),
        (post("POST", "/batch", "application/x-ndjson", &batch), 1, "\"stage\":\"300\""),
        ("GET /export HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 1, "{\"end\":{\"jobs\":1,\"lines\":1}}"),
    ] {
        let mut client = Client::new(server);
        client.say(&requests);
        client.says_no_more();
        let heard = client.rest().await;
        assert_eq!(heard.matches("HTTP/1.1 200 OK\r\n").count(), answers, "{requests}: {heard}");
        assert!(heard.contains(last), "{requests}: {heard}");
    }
});

each_engine!(nobody_is_waited_for_who_says_no_more, |server| async move {
    server.job("j", "other").await;
    let claim = "{\"kinds\":[\"k\"],\"worker\":\"w\",\"lease_seconds\":60,\"wait_seconds\":60}";
    let length = claim.len();
    for (request, kind) in [
        (WATCH.to_owned(), "events"),
        (WATCH.replace("1.1", "1.0"), "events"),
        (WATCH.replace("\r\n\r\n", "\r\ncontent-length: 7\r\n\r\nignored"), "events"),
        (WATCH.replace("events", "logs?follow=1").replace("1.1", "1.0"), "log"),
        (READ.replace(" HTTP", "?since=1&wait=60 HTTP"), "wait"),
        (
            format!(
                "POST /jobs/claim HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{claim}"
            ),
            "claim",
        ),
    ] {
        let mut client = Client::new(server);
        client.say(&request);
        server.until_open(kind, 1).await;
        client.says_no_more();
        server.until_open(kind, 0).await;
    }
});

each_engine!(requests_that_are_sent_ahead_are_answered_after_the_wait, |server| async move {
    server.job("j", "k").await;
    let mut client = Client::new(server);
    client.say(&READ.replace(" HTTP", "?since=1&wait=60 HTTP"));
    server.until_open("wait", 1).await;
    // Some while it waits, in two pieces; all together are more than is read ahead.
    client.say(&READ.repeat(2));
    server.get("/jobs/j").await.is(200);
    client.say(&READ.repeat(200));
    server.patch("j", json!({"stage": "news"})).await.is(200);
    let is_all = |heard: &str| heard.matches("\"stage\":\"news\"").count() == 203 && heard.ends_with('}');
    let (client, _) = client.hear(is_all).await;
    client.says_no_more();
    assert_eq!(client.rest().await, "");
});

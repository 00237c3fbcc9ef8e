//! Reads that wait: for another version, for the end, and not longer than they say.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Answer, Call, Server};

/// Starts a request and returns once the service has it waiting.
async fn waiting(server: &Server, call: Call) -> tokio::task::JoinHandle<Answer> {
    let before = server.count_open("wait").await;
    let task = tokio::spawn(async move { call.await });
    server.until_open("wait", before + 1).await;
    task
}

/// What nothing here should ever come near.
const LONG: Duration = Duration::from_secs(20);

each_engine!(a_change_answers_those_who_wait_for_it, |server| async move {
    server.job("j", "k").await;
    let by_header = server.get("/jobs/j").header("if-none-match", "\"v1\"").header("prefer", "wait=50");
    let by_header = waiting(server, by_header).await;
    let by_query = waiting(server, server.get("/jobs/j?since=1&wait=50&logs_after=0")).await;
    let mixed = waiting(server, server.get("/jobs/j?wait=50").header("if-none-match", "\"v1\"")).await;
    let begun = Instant::now();
    server.patch("j", json!({"progress_pct": 30, "log": "a line"})).await.is(200);

    let answer = by_header.await.unwrap().is(200);
    assert_eq!(answer.header("preference-applied"), Some("wait=50"));
    assert_eq!((answer.header("etag"), &answer.json()["progress_pct"]), (Some("\"v2\""), &json!(30)));
    let answer = by_query.await.unwrap().is(200);
    assert_eq!(answer.header("preference-applied"), None);
    assert_eq!((&answer.json()["version"], &answer.json()["logs"]), (&json!(2), &json!(["a line"])));
    mixed.await.unwrap().is(200);
    assert!(begun.elapsed() < LONG);
    server.until_open("wait", 0).await;
});

each_engine!(what_is_new_already_is_not_waited_for, |server| async move {
    server.job("j", "k").await;
    let begun = Instant::now();
    for query in ["since=0&wait=60", "since=2&wait=60", "since=9007199254740991&wait=60", "since=1", "until=done"] {
        assert_eq!(server.get(&format!("/jobs/j?{query}")).await.is(200).json()["version"], 1, "{query}");
    }
    let wish = server.get("/jobs/j").header("prefer", "wait=60").await.is(200);
    assert_eq!(wish.header("preference-applied"), None, "there is nothing to wait for");
    let newer = server.get("/jobs/j").header("if-none-match", "\"v7\"").header("prefer", "wait=60").await.is(200);
    assert_eq!(newer.header("preference-applied"), Some("wait=60"));
    server.patch("j", json!({"status": "completed"})).await.is(200);
    assert_eq!(server.get("/jobs/j?until=done&wait=60").await.is(200).json()["done"], true);
    assert!(begun.elapsed() < LONG);
    server.get("/jobs/none?since=1&wait=60").await.refused(404, "job_not_found");
});

each_engine!(a_wait_that_is_over_says_so, |server| async move {
    server.job("j", "k").await;
    let begun = Instant::now();
    let answer = server.get("/jobs/j").header("if-none-match", "\"v1\"").header("prefer", "wait=1").await.is(304);
    assert_eq!((answer.header("etag"), answer.header("preference-applied")), (Some("\"v1\""), Some("wait=1")));
    assert_eq!(server.get("/jobs/j?since=1&wait=1").await.is(200).json()["version"], 1);
    assert_eq!(server.get("/jobs/j?until=done&wait=1").await.is(200).json()["done"], false);
    // A tenth of each may be missing.
    assert!(begun.elapsed() >= Duration::from_millis(2_700), "{:?}", begun.elapsed());
});

each_engine!(
    nobody_waits_longer_than_the_service_grants,
    |config| {
        config.push.wait_seconds_max = 1;
    },
    |server| async move {
        server.job("j", "k").await;
        let begun = Instant::now();
        let wish = server.get("/jobs/j").header("if-none-match", "\"v1\"").header("prefer", "wait=99999999999");
        assert_eq!(wish.await.is(304).header("preference-applied"), Some("wait=1"));
        server.get("/jobs/j?since=1&wait=86400").await.is(200);
        assert!(begun.elapsed() < LONG);
    }
);

each_engine!(the_end_is_waited_for_through_every_change, |server| async move {
    server.job("j", "k").await;
    let end = waiting(server, server.get("/jobs/j?until=done&wait=60")).await;
    for progress in 1..20 {
        server.patch("j", json!({"progress_pct": progress})).await.is(200);
    }
    server.until_open("wait", 1).await;
    server.patch("j", json!({"status": "completed", "result": {"url": "/v/1"}})).await.is(200);
    let job = end.await.unwrap().is(200).json();
    assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &json!({"url": "/v/1"})));
});

each_engine!(a_job_that_goes_is_not_waited_for, |server| async move {
    server.job("j", "k").await;
    let change = waiting(server, server.get("/jobs/j?since=1&wait=60")).await;
    let end = waiting(server, server.get("/jobs/j?until=done&wait=60")).await;
    server.delete("/jobs/j").await.is(204);
    change.await.unwrap().refused(404, "job_not_found");
    end.await.unwrap().refused(404, "job_not_found");
});

each_engine!(a_renewed_lease_is_no_news, |server| async move {
    server
        .post("/batch", json!([{"op": "create", "id": "j", "kind": "k", "status": "processing", "lease_seconds": 60}]))
        .await
        .is(200);
    let version = server.read("j").await["version"].as_u64().unwrap();
    let lease = server.read("j").await["lease_expires_at"].clone();
    let news = waiting(server, server.get(&format!("/jobs/j?since={version}&wait=60"))).await;
    server.pass(Duration::from_secs(5));
    let heartbeat = json!([{"op": "heartbeat", "id": "j", "attempt": 1}]);
    server.post("/batch", heartbeat).await.is(200);
    assert_ne!(server.read("j").await["lease_expires_at"], lease);
    server.until_open("wait", 1).await;
    server.patch("j", json!({"attempt": 1, "stage": "x"})).await.is(200);
    assert_eq!(news.await.unwrap().is(200).json()["stage"], "x");
});

each_engine!(a_client_that_goes_away_is_not_waited_for, |server| async move {
    server.job("j", "k").await;
    let mut stream = server.connect();
    stream.write_all(b"GET /jobs/j?since=1&wait=60 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.until_open("wait", 1).await;
    drop(stream);
    server.until_open("wait", 0).await;
});

each_engine!(a_service_that_goes_down_answers_those_who_wait, |server| async move {
    server.job("j", "k").await;
    let by_header = server.get("/jobs/j").header("if-none-match", "\"v1\"").header("prefer", "wait=60");
    let by_header = waiting(server, by_header).await;
    let end = waiting(server, server.get("/jobs/j?until=done&wait=60")).await;
    let begun = Instant::now();
    server.stop().await;
    by_header.await.unwrap().is(304);
    assert_eq!(end.await.unwrap().is(200).json()["done"], false);
    assert!(begun.elapsed() < LONG);
});

each_engine!(unfit_waits_are_refused_by_name, |server| async move {
    server.job("j", "k").await;
    for (query, field) in [
        ("wait=25", "wait"),
        ("since=1&wait=-1", "wait"),
        ("since=1&wait=1.5", "wait"),
        ("since=1&wait=86401", "wait"),
        ("since=1&wait=1&wait=2", "wait"),
        ("since=v1&wait=1", "since"),
        ("since=-1", "since"),
        ("since=9007199254740992", "since"),
        ("until=failed&wait=1", "until"),
        ("until=", "until"),
    ] {
        server.get(&format!("/jobs/j?{query}")).await.names(field);
    }
});

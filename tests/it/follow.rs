//! Logs that are followed: `curl -N .../logs?follow=1`.

use std::{
    io::{Read, Write},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{harness::Server, stream::Lines};

async fn log(server: &Server, lines: &[&str]) {
    server.post("/jobs/j/logs", json!({"lines": lines})).await.is(200);
}

each_engine!(lines_are_printed_as_they_come_until_the_job_is_done, |server| async move {
    server.job("j", "k").await;
    log(server, &["1"]).await;
    let mut lines = Lines::open(server.get("/jobs/j/logs?follow=1")).await;
    assert_eq!(lines.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(lines.header("x-content-type-options"), "nosniff");
    assert_eq!(lines.header("x-accel-buffering"), "no");
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("1"));
    log(server, &["2", "\u{1b}[31mred\nand\u{2028}more"]).await;
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("2"));
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("␛[31mred␊and\u{fffd}more"));
    server.patch("j", json!({"progress_pct": 50})).await.is(200);
    server.patch("j", json!({"status": "completed", "log": "3"})).await.is(200);
    assert_eq!(lines.rest().await, ["3"]);
    assert_eq!(Lines::open(server.get("/jobs/j/logs?follow=1&after=2")).await.rest().await.len(), 2);
    assert!(Lines::open(server.get("/jobs/j/logs?follow=1&after=999")).await.rest().await.is_empty());
    server.until_open("log", 0).await;
});

each_engine!(lines_of_json_come_on_request, |server| async move {
    server.job("j", "k").await;
    log(server, &["1", "2"]).await;
    let call = server.get("/jobs/j/logs?follow=1&after=1").header("accept", "application/x-ndjson");
    let mut lines = Lines::open(call.header("accept-encoding", "gzip")).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let first: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(first, server.get("/jobs/j/logs").await.json()["lines"][1]);
    server.patch("j", json!({"status": "failed", "log": "3"})).await.is(200);
    let rest = lines.rest().await;
    assert_eq!(rest.len(), 1);
    assert_eq!(serde_json::from_str::<Value>(&rest[0]).unwrap()["seq"], 3);
});

each_engine!(
    missing_lines_are_not_passed_over,
    |config| {
        config.logs.job_lines_max = 2;
    },
    |server| async move {
        server.job("j", "k").await;
        log(server, &["1"]).await;
        let mut lines = Lines::open(server.get("/jobs/j/logs?follow=1")).await;
        assert_eq!(lines.next().await.unwrap().as_deref(), Some("1"));
        log(server, &["2", "3", "4", "5"]).await;
        server.patch("j", json!({"status": "completed"})).await.is(200);
        assert_eq!(lines.rest().await, ["… lines 2 to 3 are trimmed …", "4", "5"]);
    }
);

each_engine!(a_deleted_job_closes_its_log, |server| async move {
    server.job("j", "k").await;
    log(server, &["1"]).await;
    let mut lines = Lines::open(server.get("/jobs/j/logs?follow=1")).await;
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("1"));
    server.delete("/jobs/j").await.is(204);
    assert!(lines.rest().await.is_empty());
});

each_engine!(a_log_that_breaks_off_does_not_look_whole, |server| async move {
    server.job("j", "k").await;
    log(server, &["1"]).await;
    let mut lines = Lines::open(server.get("/jobs/j/logs?follow=1")).await;
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("1"));
    server.stop().await;
    lines.next().await.unwrap_err();
});

each_engine!(unfit_wishes_are_refused, |server| async move {
    server.job("j", "k").await;
    server.get("/jobs/none/logs?follow=1").await.refused(404, "job_not_found");
    server.get("/jobs/j/logs?follow=2").await.names("follow");
    server.get("/jobs/j/logs?follow=1&limit=5").await.names("limit");
    server.get("/jobs/j/logs?follow=0&limit=5").await.is(200);
});

each_engine!(
    a_client_that_reads_nothing_is_cut_off_and_harms_nobody,
    |config| {
        config.http.write_stall_seconds = 1;
    },
    |server| async move {
        server.job("j", "k").await;
        let mut stalled = server.connect();
        stalled.write_all(b"GET /jobs/j/logs?follow=1 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        server.until_open("log", 1).await;
        let reader = tokio::spawn(Lines::open(server.get("/jobs/j/logs?follow=1")).await.rest());
        // More than the kernel holds for a connection on loopback.
        let line = "x".repeat(16_000);
        let mut sent = 0;
        while server.count_open("log").await == 2 {
            log(server, &[line.as_str(); 60]).await;
            sent += 60;
            assert!(sent < 60_000, "it is never cut off");
        }
        server.patch("j", json!({"status": "completed"})).await.is(200);
        let read = reader.await.unwrap();
        let trimmed = read.iter().filter(|line| line.starts_with('…')).count();
        assert!(read.len() - trimmed <= sent && read.last() == Some(&line));
        if trimmed == 0 {
            assert_eq!(read.len(), sent);
        }
        let metrics = server.get("/metrics").await.is(200).text;
        assert!(metrics.lines().any(|line| line == "milepost_http_connections_stalled_total 1"), "{metrics}");
        // What it was sent before is still there for it, and then the connection is closed.
        stalled.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        let _reset = stalled.read_to_end(&mut bytes);
        assert!(bytes.len() < 1_000 * line.len());
    }
);

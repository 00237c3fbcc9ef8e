//! What is not read: streams and answers that nobody takes, and streams on which nothing happens.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use super::{
    ground::Ground,
    memory::{MIB, Memory},
    talker::{JSON, NDJSON, Talker, get, head, request},
};
use crate::campaign::process::PATIENCE;

/// What an idle stream may cost.
const STREAM_BYTES_MAX: u64 = 16 << 10;
/// What a server may take meanwhile for the client that behaves; with thousands of streams it is nothing.
const BESIDE_BYTES_MAX: u64 = 8 * MIB;
/// What a server may take at its most beside that which it holds for each.
const GROWN_BYTES_MAX: u64 = 24 * MIB;
/// What it may hold for one who does not take its answer: a MiB of a log as lines, and as JSON in a buffer that has grown
/// by doubling.
const UNREAD_BYTES_MAX: u64 = 5 * MIB;
/// A result whose every change is more than a small receive buffer and `http.unsent_bytes_max` hold after a few.
const RESULT_BYTES: usize = 40_000;
/// Counts the connections that were cut because their client reads nothing.
pub(super) const CUT: &str = "milepost_http_connections_stalled_total";
/// Clients that connect at once.
const TOGETHER: usize = 100;

/// So many clients with small buffers, each of which has said this.
async fn narrow(ground: &Ground, count: usize, words: &str) -> Vec<Talker> {
    let mut talkers = Vec::new();
    while talkers.len() < count {
        let mut connecting = JoinSet::new();
        for _ in talkers.len()..count.min(talkers.len() + TOGETHER) {
            let (address, words) = (ground.address, words.to_owned());
            connecting.spawn(async move {
                let mut talker = Talker::narrow(address).await;
                talker.say(words).await;
                talker
            });
        }
        talkers.extend(connecting.join_all().await);
    }
    talkers
}

/// Returns when so many streams of jobs are open, beside that of the client that behaves.
async fn until_open(ground: &Ground, asking: &mut Talker, count: usize) {
    ground.until(asking, "milepost_push_open{kind=\"events\"}", |open| open == count as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_are_cut() {
    let mut ground = Ground::with(&[("HTTP_WRITE_STALL_SECONDS", 2)]).await;
    are_cut(&mut ground, 200).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

async fn are_cut(ground: &mut Ground, count: usize) {
    ground.job("j").await;
    let mut asking = ground.talker().await;
    let silent = narrow(ground, count, &get("/jobs/j/events")).await;
    until_open(ground, &mut asking, count).await;
    let result = "x".repeat(RESULT_BYTES);
    let are_cut = async {
        for change in 1.. {
            asking.ask("PATCH", "/jobs/j", &json!({"result": format!("{change} {result}")})).await.is(200);
            if ground.metric(&mut asking, CUT).await >= count as u64 {
                break;
            }
            // Not only in the end.
            ground.polite.goes_on().await;
        }
    };
    // The limit may be half of it.
    timeout(2 * PATIENCE, are_cut).await.expect("streams that nobody reads are cut");
    until_open(ground, &mut asking, 0).await;
    assert_eq!(ground.metric(&mut asking, CUT).await, count as u64, "and nobody else");
    drop(silent);
}

/// Whoever asks for more and more and takes none of it, in each way in which an answer can be long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_cut() {
    const CLIENTS: usize = 10;
    const FOR_EVER: u64 = u64::MAX / MIB;
    let mut ground = Ground::with(&[("HTTP_WRITE_STALL_SECONDS", 1)]).await;
    let mut asking = ground.talker().await;
    let lines = json!({"kind": "k", "log": vec!["x".repeat(10_000); 100]});
    asking.ask("PUT", "/jobs/j", &lines).await.is(201);
    let operation = "{\"op\":\"none\"}\n".repeat(1_000);
    let batch = format!("{}transfer-encoding: chunked\r\n\r\n", head("POST", "/batch", NDJSON));
    let chunk = format!("{:x}\r\n{operation}\r\n", operation.len());
    let mut cases = vec![(String::new(), get("/jobs/j?logs=all")), (batch, chunk)];
    for path in ["/jobs/j/logs", "/export", "/jobs", "/metrics"] {
        cases.push((String::new(), get(path)));
    }
    cases.push((String::new(), request("POST", "/jobs/j/logs", JSON, "{}")));
    let count = cases.len() * CLIENTS;
    let mut deaf = JoinSet::new();
    for (begin, piece) in cases {
        for mut talker in narrow(&ground, CLIENTS, &begin).await {
            let piece = piece.clone();
            // Until nobody takes it any more.
            deaf.spawn(async move { talker.pour_deaf(piece.as_bytes(), FOR_EVER).await });
        }
    }
    ground.polite.goes_on().await;
    assert_eq!(deaf.join_all().await.len(), count);
    ground.until(&mut asking, CUT, |cut| cut >= count as u64).await;
    ground.ends_unharmed(GROWN_BYTES_MAX + count as u64 * UNREAD_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_on_which_nothing_happens_cost_little() {
    let mut ground = Ground::with(&[]).await;
    let found = idle(&mut ground, 800, 400).await;
    println!("{found:?}");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[derive(Debug)]
#[expect(dead_code, reason = "to be printed")]
struct Idle {
    bytes_each: u64,
    p50: Duration,
    p99: Duration,
    last: Duration,
}

/// So many idle streams, of which some are of one job, which then changes: all of these are told.
async fn idle(ground: &mut Ground, count: usize, told: usize) -> Idle {
    ground.job("silent").await;
    ground.job("told").await;
    let mut asking = ground.talker().await;
    let before = Memory::of(&ground.server).resident;
    let silent = narrow(ground, count - told, &get("/jobs/silent/events")).await;
    let mut hearing = narrow(ground, told, &get("/jobs/told/events")).await;
    until_open(ground, &mut asking, count).await;
    for talker in &mut hearing {
        talker.hear_up_to("\"version\":1,").await.expect("the stream has begun");
    }
    let bytes = Memory::of(&ground.server).resident.saturating_sub(before);
    let bytes_each = bytes / count as u64;
    let bytes_max = BESIDE_BYTES_MAX + count as u64 * STREAM_BYTES_MAX;
    assert!(bytes <= bytes_max, "an idle stream takes {bytes_each} bytes");
    ground.polite.goes_on().await;

    let mut told = JoinSet::new();
    for mut talker in hearing {
        told.spawn(async move {
            talker.hear_up_to("\"stage\":\"news\"").await.expect("everybody is told");
            (Instant::now(), talker)
        });
    }
    let begun = Instant::now();
    asking.ask("PATCH", "/jobs/told", &json!({"stage": "news"})).await.is(200);
    let (mut moments, hearing): (Vec<_>, Vec<_>) = told.join_all().await.into_iter().unzip();
    moments.sort_unstable();
    let at = |part: usize| moments[(moments.len() - 1) * part / 100] - begun;
    drop((silent, hearing));
    until_open(ground, &mut asking, 0).await;
    Idle { bytes_each, p50: at(50), p99: at(99), last: at(100) }
}

/// `make hostile`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make hostile"]
async fn streams_hostile_campaign() {
    const UNREAD: usize = 1_000;
    const IDLE: usize = 15_000;
    const TOLD: usize = 10_000;
    // With the limit of docs/api.md.
    let mut ground = Ground::with(&[("HTTP_WRITE_STALL_SECONDS", 30)]).await;
    are_cut(&mut ground, UNREAD).await;
    println!("{UNREAD} streams that nobody read were cut");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;

    let mut ground = Ground::with(&[("HTTP_CONNECTIONS_MAX", 18_000)]).await;
    let found = idle(&mut ground, IDLE, TOLD).await;
    println!("{IDLE} idle streams, {TOLD} of them told: {found:?}");
    let grown_bytes_max = GROWN_BYTES_MAX + IDLE as u64 * STREAM_BYTES_MAX;
    ground.ends_unharmed(grown_bytes_max).await;
}

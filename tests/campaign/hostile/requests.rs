//! What is sent: no requests, requests that say two things, and bodies without an end.

use serde_json::json;

use super::{
    ground::Ground,
    memory::MIB,
    talker::{JSON, NDJSON, Talker, get, head, request},
};

/// What a server may take for one such client after the other: a body of a MiB while it grows, what hyper reads ahead, and
/// what the allocator keeps of all of them; far less than what they send.
const GROWN_BYTES_MAX: u64 = 64 * MIB;
/// Pieces of endless bodies, and how many of them come to a GiB.
const PIECE: usize = 64 * 1024;
const PIECES: u64 = (1 << 30) / PIECE as u64;
/// A body that is refused is taken no further than what the kernel holds of it on both sides, and what the service lingers
/// for: far from this.
const TAKEN_BYTES_MAX: u64 = 256 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused() {
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let with = |header: &str| format!("{}{header}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n", head("PATCH", "/jobs/j", JSON));
    let mut cases: Vec<(u16, Vec<u8>)> = vec![
        (400, (0..=255_u8).cycle().take(100_000).collect()),
        (400, vec![0; 1000]),
        (400, b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03 a TLS client".to_vec()),
        (400, b"GET /jobs/j\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/2.0\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nhost : x\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nhost: x\r\nfolded: a\r\n b\r\n\r\n".to_vec()),
        (431, b"\r\n".repeat(40_000)),
        (431, format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(40_000)).into_bytes()),
        (431, format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100)).into_bytes()),
        // Not ended, and too long already.
        (431, format!("GET / HTTP/1.1\r\nhost: x\r\na: {}", "a".repeat(65_536)).into_bytes()),
    ];
    for length in ["-1", "+2", "", "2, 2", "2 2", "0x2", "1e9", "100000000000000000000000"] {
        cases.push((400, with(&format!("content-length: {length}")).into_bytes()));
    }
    for coding in ["identity", "xchunked", "chunked, gzip"] {
        cases.push((400, with(&format!("transfer-encoding: {coding}")).into_bytes()));
    }
    cases.push((400, with("transfer-encoding: chunked").replace("1.1", "1.0").into_bytes()));
    for (status, bytes) in cases {
        let begins = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let mut talker = ground.talker().await;
        // It may be refused before all of it is taken.
        let _closed = talker.try_say(bytes).await;
        let answer = talker.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{begins:?}: {answer:?}");
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{begins:?}: {answer:?}");
        assert_eq!(talker.rest().await, "", "{begins:?}");
    }
    let mut talker = ground.talker().await;
    talker.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(talker.rest().await, "", "whoever begins with HTTP/2 is not understood");
    is_untouched(&ground).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_none_are_refused() {
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let good = "{\"stage\":\"x\"}";
    let ended = format!("{:x}\r\n{good}\r\n0\r\n", good.len());
    for body in [
        "zz\r\n".to_owned(),
        "\r\n".to_owned(),
        "-d\r\n".to_owned(),
        "d d\r\n".to_owned(),
        "fffffffffffffffff\r\n{".to_owned(),
        format!("{:x}\r\n{good}xx0\r\n\r\n", good.len()),
        format!("{:x};{}", good.len(), "a".repeat(100_000)),
        format!("{ended}{}", "a: b\r\n".repeat(30_000)),
        format!("{ended}{}", "a".repeat(100_000)),
    ] {
        let mut talker = ground.talker().await;
        let chunked = format!("{}transfer-encoding: chunked\r\n\r\n{body}", head("PATCH", "/jobs/j", JSON));
        let _closed = talker.try_say(chunked).await;
        talker.answer().await.refuses(400, "invalid_json");
        assert_eq!(talker.rest().await, "");
    }
    is_untouched(&ground).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

/// Where a proxy and the service could take one request for two, only one is heard, and nothing after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_within_another_is_not_obeyed() {
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let hidden = request("PATCH", "/jobs/j", JSON, "{\"stage\":\"hidden\"}");
    let head = head("POST", "/jobs/j/logs", JSON);
    let line = "{\"line\":\"x\"}";
    let chunked = format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len());
    let length = chunked.len() + hidden.len();
    let size = hidden.len();
    for (status, text) in [
        (200, format!("{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}{hidden}")),
        (200, format!("{head}transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n{chunked}{hidden}")),
        (
            400,
            format!("{head}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n{size:x}\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        (400, format!("{head}transfer-encoding: xchunked\r\ncontent-length: 4\r\n\r\nnull{hidden}")),
        (400, format!("{head}content-length: 0\r\ncontent-length: {size}\r\n\r\n{hidden}")),
    ] {
        let mut talker = ground.talker().await;
        talker.say(&text).await;
        assert_eq!(talker.answer().await.status, status, "{text}");
        assert_eq!(talker.rest().await, "", "{text}");
    }
    let job = ground.talker().await.get("/jobs/j").await.is(200).json();
    assert_eq!((&job["stage"], &job["log_count"]), (&json!(null), &json!(2)), "{job}");
    // The control: it is a request that is obeyed when it is not hidden.
    let mut talker = ground.talker().await;
    talker.say(format!("{}{hidden}", get("/jobs/j"))).await;
    talker.answer().await.is(200);
    assert_eq!(talker.answer().await.is(200).json()["stage"], "hidden");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gib_is_refused_before_it_has_come() {
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let chunk = format!("{PIECE:x}\r\n{}\r\n", " ".repeat(PIECE));
    for (method, path, media) in [
        ("POST", "/jobs", JSON),
        ("PATCH", "/jobs/j", JSON),
        ("POST", "/jobs/j/logs", "text/plain"),
        ("POST", "/jobs/j/logs", NDJSON),
        ("POST", "/batch", JSON),
    ] {
        let head = head(method, path, media).replace(&format!("accept: {media}\r\n"), "");
        for (length, piece) in [
            ("content-length: 1073741824", " ".repeat(PIECE)),
            ("content-length: 18446744073709551613", " ".repeat(PIECE)),
            ("transfer-encoding: chunked", chunk.clone()),
        ] {
            let mut talker = ground.talker().await;
            talker.say(format!("{head}{length}\r\n\r\n")).await;
            let taken = talker.pour(piece.as_bytes(), PIECES).await;
            assert!(taken < TAKEN_BYTES_MAX, "{method} {path} {length}: {taken} bytes were taken");
            talker.answer().await.refuses(413, "body_too_large");
            assert_eq!(talker.rest().await, "");
        }
    }
    is_untouched(&ground).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

/// A stream of operations has no end; each of its lines must have one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_endless_or_deep_is_refused_and_the_next_is_read() {
    let ground = Ground::with(&[]).await;
    endless_line(&ground, 128 * MIB).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

async fn endless_line(ground: &Ground, bytes: u64) {
    let mut talker = ground.talker().await;
    talker.say(format!("{}transfer-encoding: chunked\r\n\r\n", head("POST", "/batch", NDJSON))).await;
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let piece = chunk(&"x".repeat(PIECE));
    let taken = talker.pour(piece.as_bytes(), bytes / PIECE as u64).await;
    assert!(taken >= bytes, "{taken} bytes of the line were taken");
    let deep = "[".repeat(10_000);
    let lines = format!("\n{{\"op\":\"create\",\"id\":\"k\",\"kind\":\"k\",\"input\":{deep}\n{deep}\n");
    talker.say(chunk(&lines)).await;
    talker.say(chunk("{\"op\":\"create\",\"id\":\"j\",\"kind\":\"k\"}\n")).await;
    for expected in ["{\"status\":413,", "{\"status\":400,", "{\"status\":400,", "{\"status\":201,"] {
        let line = talker.hear_up_to("{\"status\":").await.expect("a result");
        let rest = talker.hear_up_to(",").await.expect("a result");
        assert_eq!(format!("{{\"status\":{rest}"), expected, "{line}{rest}");
    }
    talker.say("0\r\n\r\n").await;
    talker.hear_up_to("\r\n0\r\n\r\n").await.expect("the end of the answer");
}

/// The job is as it was made.
async fn is_untouched(ground: &Ground) {
    let mut talker: Talker = ground.talker().await;
    let job = talker.get("/jobs/j").await.is(200).json();
    assert_eq!((&job["version"], &job["log_count"]), (&json!(1), &json!(0)), "{job}");
    let jobs = talker.get("/jobs").await.is(200).json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(2), "{jobs}");
}

/// `make hostile`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make hostile"]
async fn endless_line_hostile_campaign() {
    let ground = Ground::with(&[("HTTP_BODY_READ_SECONDS", 300)]).await;
    endless_line(&ground, 1024 * MIB).await;
    println!("a line of 1 GiB was refused");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

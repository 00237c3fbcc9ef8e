//! How it is sent: a byte at a time, half of it, many at once, and bodies that are held back.

use serde_json::json;
use tokio::{select, sync::watch, task::JoinSet, time::timeout};

use super::{
    ground::Ground,
    memory::MIB,
    talker::{Answer, JSON, NDJSON, Talker, get, head, request},
};
use crate::campaign::process::PATIENCE;

/// How many clients are slow at once.
const CLIENTS: usize = 20;
/// What a server may take for so few clients that send so little: hyper's buffers, and what the allocator keeps.
const GROWN_BYTES_MAX: u64 = 16 * MIB;

/// Says one more piece with each round of the client that behaves, until there is an answer.
async fn drip(mut talker: Talker, piece: &str, mut rounds: watch::Receiver<u64>) -> Answer {
    let dripped = async {
        loop {
            select! {
                answer = talker.answer() => return answer,
                round = rounds.changed() => round.expect("the client that behaves goes on"),
            }
            // The answer may be on its way.
            let _closed = talker.try_say(piece).await;
        }
    };
    timeout(PATIENCE, dripped).await.expect("an answer, whatever the client still says")
}

/// The answers to many who begin in this way, and go on with a piece at a time.
async fn drips(ground: &Ground, begin: &str, piece: &'static str) -> Vec<Answer> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut talker = ground.talker().await;
        talker.say(begin).await;
        clients.spawn(drip(talker, piece, ground.polite.rounds()));
    }
    clients.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_drip_are_408() {
    // More than a second, lest the connections of the client that behaves are idle for as long on a busy machine.
    let ground = Ground::with(&[("HTTP_HEADER_READ_SECONDS", 3)]).await;
    let idle = ground.talker().await;
    for answer in drips(&ground, "GET /jobs HTTP/1.1\r\nhost: x\r\nx: ", "x").await {
        assert_eq!((answer.status, answer.body.as_str()), (408, ""), "{answer:?}");
    }
    assert_eq!(idle.rest().await, "", "whoever asks nothing is sent away without a word");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_drip_are_408() {
    let ground = Ground::with(&[("HTTP_BODY_READ_SECONDS", 1)]).await;
    ground.job("j").await;
    let patch = head("PATCH", "/jobs/j", JSON);
    for (length, piece) in [
        ("content-length: 1000000\r\n\r\n{", " "),
        ("transfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        // The size of a chunk, and the trailers.
        ("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n1;", "x"),
        ("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "x"),
    ] {
        for answer in drips(&ground, &format!("{patch}{length}"), piece).await {
            answer.refuses(408, "request_timeout");
        }
    }
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

/// Between lines a stream of operations may rest, within a line it may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_drips_is_408_and_the_lines_before_it_are_done() {
    let ground = Ground::with(&[("HTTP_BODY_READ_SECONDS", 1)]).await;
    let line = "{\"op\":\"create\",\"id\":\"j\",\"kind\":\"k\"}\n{";
    let mut talker = ground.talker().await;
    let begin = format!("{}transfer-encoding: chunked\r\n\r\n", head("POST", "/batch", NDJSON));
    talker.say(format!("{begin}{:x}\r\n{line}\r\n", line.len())).await;
    talker.hear_up_to("{\"status\":201,").await.expect("the first is done");
    let mut rounds = ground.polite.rounds();
    let dripped = async {
        loop {
            select! {
                heard = talker.hear_up_to("{\"status\":408,") => return heard,
                round = rounds.changed() => round.expect("the client that behaves goes on"),
            }
            let _closed = talker.try_say("1\r\n \r\n").await;
        }
    };
    let heard = timeout(PATIENCE, dripped).await.expect("a result, whatever the client still says");
    assert!(heard.is_some(), "the second has a result");
    talker.hear_up_to("\r\n0\r\n\r\n").await.expect("the end of the answer");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_in_the_middle_change_nothing() {
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let patch = head("PATCH", "/jobs/j", JSON);
    let halves = [
        "content-length: 30\r\n\r\n{\"stage\":\"x\"}",
        "content-length: 1\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nd\r\n{\"stage\":\"x\"}\r\n",
        "transfer-encoding: chunked\r\n\r\nd\r\n{\"stage\":\"x\"}\r\n0\r\n",
        "transfer-encoding: chunked\r\n\r\nd\r\n{\"stage\":",
        "transfer-encoding: chunked\r\n\r\n1",
    ];
    for half in halves {
        let mut talker = ground.talker().await;
        talker.say(format!("{patch}{half}")).await;
        talker.says_no_more().await;
        talker.answer().await.refuses(400, "invalid_json");
        assert_eq!(talker.rest().await, "", "{half}");
        for _ in 0..10 {
            let mut talker = ground.talker().await;
            talker.say(format!("{patch}{half}")).await;
            talker.breaks_off();
        }
    }
    let job = ground.talker().await.get("/jobs/j").await.is(200).json();
    assert_eq!(job["version"], 1, "{job}");
    // Of a stream, the lines that are whole are done.
    let line = |stage: &str| format!("{{\"op\":\"patch\",\"id\":\"j\",\"stage\":\"{stage}\"}}\n");
    let lines = format!("{}{}", line("whole"), line("half").trim_end().trim_end_matches('}'));
    let mut talker = ground.talker().await;
    let begin = format!("{}transfer-encoding: chunked\r\n\r\n", head("POST", "/batch", NDJSON));
    talker.say(format!("{begin}{:x}\r\n{lines}\r\n", lines.len())).await;
    talker.says_no_more().await;
    let heard = talker.rest().await;
    assert_eq!(heard.matches("{\"status\":").count(), 1, "{heard}");
    assert!(heard.contains("\"stage\":\"whole\"") && heard.ends_with("\r\n0\r\n\r\n"), "{heard}");
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

/// Bodies that come all but for their last byte are held no longer than they may, and no more of them than there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_held_back_take_no_more_than_they_may() {
    const BODY_BYTES: usize = 1 << 20;
    // Its buffer, as much in smaller ones that it has outgrown, and again as much that the allocator keeps.
    const HELD_BYTES_MAX: u64 = CLIENTS as u64 * 4 * BODY_BYTES as u64;
    let limits = [("HTTP_BODY_READ_SECONDS", 3), ("HTTP_BODY_BYTES_MAX", BODY_BYTES as u64)];
    let mut ground = Ground::with(&limits).await;
    let mut talkers = Vec::new();
    for number in 0..CLIENTS {
        let mut talker = ground.talker().await;
        let (length, chunk) = if number % 2 == 0 {
            (format!("content-length: {BODY_BYTES}"), String::new())
        } else {
            ("transfer-encoding: chunked".to_owned(), format!("{BODY_BYTES:x}\r\n"))
        };
        talker.say(format!("{}{length}\r\n\r\n{chunk}", head("POST", "/jobs", JSON))).await;
        talker.say(" ".repeat(BODY_BYTES - 1)).await;
        talkers.push(talker);
    }
    ground.polite.goes_on().await;
    for mut talker in talkers {
        talker.answer().await.refuses(408, "request_timeout");
    }
    let grown = ground.ends_unharmed(GROWN_BYTES_MAX + HELD_BYTES_MAX).await;
    // The control: what is held is seen.
    assert!(grown > CLIENTS as u64 * BODY_BYTES as u64 / 2, "{grown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_one_packet_are_answered_in_their_order() {
    const REQUESTS: u64 = 300;
    let ground = Ground::with(&[]).await;
    ground.job("j").await;
    let patch = |number: u64| request("PATCH", "/jobs/j", JSON, &format!("{{\"stage\":\"<{number}>\"}}"));
    let all: String = (1..=REQUESTS).map(|number| format!("{}{}", patch(number), get("/jobs/j?logs=0"))).collect();
    let mut talker = ground.talker().await;
    // Taken as the answers are heard, since nobody holds all of them.
    assert_eq!(talker.pour(all.as_bytes(), 1).await, all.len() as u64);
    for number in 1..=REQUESTS {
        for _change_and_read in 0..2 {
            let job = talker.answer().await.is(200).json();
            assert_eq!((&job["stage"], &job["version"]), (&json!(format!("<{number}>")), &json!(number + 1)));
        }
    }
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

//! How many there are: more connections than the service may have, and more than the system lets it open.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{
    ground::Ground,
    memory::MIB,
    talker::{Talker, get},
};
use crate::campaign::process::PATIENCE;

/// What a server may take for a few hundred connections: hyper begins with two buffers of 8 KiB for each.
const GROWN_BYTES_MAX: u64 = 24 * MIB;
/// Clients beyond the limit, and more than what of it others have.
const BEYOND: usize = 150;

/// So many clients that begin a request and say no more of it.
async fn flood(ground: &Ground, clients: usize) -> Vec<Talker> {
    let mut talkers = Vec::new();
    for _ in 0..clients {
        let mut talker = ground.talker().await;
        talker.say("GET /jobs HTTP/1.1\r\n").await;
        talkers.push(talker);
    }
    talkers
}

/// Somebody who comes last, and asks.
async fn newcomer(ground: &Ground) -> Talker {
    let mut talker = ground.talker().await;
    talker.say(get("/livez")).await;
    talker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_files_serves_those_it_has_and_recovers() {
    const FILES: usize = 256;
    let few = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
    let mut ground = Ground::under(&["sh", "-c", &few], &[("PUSH_COMMENT_SECONDS", 1)]).await;
    ground.job("quiet").await;
    let mut quiet = ground.talker().await;
    quiet.say(get("/jobs/quiet/events")).await;
    quiet.hear_up_to("event: job\n").await.expect("it is told");
    let mut exporting = ground.talker().await;
    export(&mut exporting).await;
    let flooding = flood(&ground, FILES + BEYOND).await;
    let runs_out = async {
        while !ground.logged().contains("no connection can be accepted at the moment") {
            ground.polite.goes_on().await;
        }
    };
    timeout(PATIENCE, runs_out).await.expect("so many are too many");
    let mut waiting = newcomer(&ground).await;
    ground.polite.goes_on().await;
    // An export reads through a file of its own, and is the only answer that does.
    exporting.get("/export").await.refuses(503, "storage_unavailable");

    // While nothing else is to be done, trying to accept must not be what the processor does.
    ground.polite.rests();
    let (begun, before) = (Instant::now(), processor_time(&ground));
    while begun.elapsed() < Duration::from_secs(2) {
        quiet.hear_up_to(":\n\n").await.expect("a comment each second");
    }
    let (elapsed, used) = (begun.elapsed(), processor_time(&ground) - before);
    println!("of {elapsed:?} the service had the processor for {used:?}");
    assert!(used * 10 < elapsed, "{used:?} of {elapsed:?} were spent on accepting nothing");
    ground.polite.goes_on().await;

    drop(flooding);
    waiting.answer().await.is(200);
    export(&mut exporting).await;
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

async fn export(talker: &mut Talker) {
    talker.get("/export").await.is(200);
    talker.hear_up_to("\r\n0\r\n\r\n").await.expect("the whole of it");
}

/// What the processes of the service have had of the processors.
fn processor_time(ground: &Ground) -> Duration {
    /// Linux tells times to programs in hundredths of a second.
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{}/stat", ground.server.id())).expect("the kernel says it");
    // The name of the program, which may be anything, ends with the last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks: u32 = [11, 12].iter().map(|field| fields[*field].parse::<u32>().expect("ticks")).sum();
    TICK * ticks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_until_those_who_do_nothing_are_cut() {
    const CONNECTIONS: u64 = 64;
    let limits = [("HTTP_CONNECTIONS_MAX", CONNECTIONS), ("HTTP_HEADER_READ_SECONDS", 3)];
    let mut ground = Ground::with(&limits).await;
    let mut asking = ground.talker().await;
    let open = "milepost_http_connections";
    let flooding = flood(&ground, CONNECTIONS as usize).await;
    let mut waiting = newcomer(&ground).await;
    ground.until(&mut asking, open, |open| open >= CONNECTIONS).await;
    ground.polite.goes_on().await;
    assert_eq!(ground.metric(&mut asking, open).await, CONNECTIONS, "never more");
    // Nobody gives way; the service makes room by itself.
    waiting.answer().await.is(200);
    for mut talker in flooding {
        assert_eq!(talker.answer().await.status, 408);
    }
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_served_when_others_end() {
    const CONNECTIONS: u64 = 64;
    let ground = Ground::with(&[("HTTP_CONNECTIONS_MAX", CONNECTIONS)]).await;
    for _ in 0..3 {
        let flooding = flood(&ground, CONNECTIONS as usize + BEYOND).await;
        let mut waiting = newcomer(&ground).await;
        drop(flooding);
        waiting.answer().await.is(200);
    }
    ground.ends_unharmed(GROWN_BYTES_MAX).await;
}

//! Two writers at once: whatever they ask, one of them is first, and both are told what that means.

use std::{collections::BTreeMap, time::Duration};

use milepost::config::Config;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Call, On, Server};

/// Rounds of each race, and how many are run side by side.
const ROUNDS: usize = 96;
const TOGETHER: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Complete,
    Fail,
    Cancel,
    Retry,
    Claim,
    /// The lease, the wait or the time that a done job is kept runs out.
    Expire,
    Delete,
}

use Act::{Cancel, Claim, Complete, Delete, Expire, Fail, Retry};

/// How a job stands before a race.
#[derive(Clone, Copy, Debug)]
enum Stand {
    Queued,
    /// Claimed by a worker that has written something.
    Leased,
    Completed,
    Failed,
}

use Stand::{Completed, Failed, Leased, Queued};

/// Where each race begins, and all that may come of it: what the two are told, and the job's status and attempt.
const RACES: [(Act, Act, Stand, &[&str]); 23] = [
    (Complete, Fail, Leased, &["200, 409 already_finished: completed 1", "409 already_finished, 200: failed 1"]),
    (Complete, Cancel, Leased, &["200, 409 already_finished: completed 1", "200, 202: completed 1"]),
    (Complete, Retry, Failed, &["409 already_finished, 200: queued 2", "409 stale_attempt, 200: queued 2"]),
    (Complete, Claim, Queued, &["200, 204: completed 1", "409 attempt_required, 200: processing 1"]),
    (Complete, Expire, Leased, &["200, -: completed 1", "409 stale_attempt, -: queued 2"]),
    (Complete, Delete, Leased, &["200, 204: gone", "404 job_not_found, 204: gone"]),
    (Fail, Cancel, Leased, &["200, 409 already_finished: failed 1", "200, 202: failed 1"]),
    (Fail, Retry, Completed, &["409 already_finished, 200: queued 2", "409 stale_attempt, 200: queued 2"]),
    (Fail, Claim, Queued, &["200, 204: failed 1", "409 attempt_required, 200: processing 1"]),
    (Fail, Expire, Leased, &["200, -: failed 1", "409 stale_attempt, -: queued 2"]),
    (Fail, Delete, Leased, &["200, 204: gone", "404 job_not_found, 204: gone"]),
    (Cancel, Retry, Failed, &["409 already_finished, 200: queued 2", "200, 200: cancelled 2"]),
    (Cancel, Claim, Queued, &["200, 204: cancelled 1", "202, 200: processing 1"]),
    (Cancel, Expire, Leased, &["202, -: cancelled 1", "200, -: cancelled 2"]),
    (Cancel, Delete, Leased, &["202, 204: gone", "404 job_not_found, 204: gone"]),
    (Retry, Claim, Failed, &["200, 204: queued 2", "200, 200: processing 2"]),
    (Retry, Expire, Failed, &["200, -: queued 2", "404 job_not_found, -: gone"]),
    (Retry, Delete, Failed, &["200, 204: gone", "404 job_not_found, 204: gone"]),
    (Claim, Expire, Queued, &["200, -: processing 1", "204, -: failed 1"]),
    (Claim, Delete, Queued, &["200, 204: gone", "204, 204: gone"]),
    (Expire, Delete, Leased, &["-, 204: gone"]),
    (Claim, Claim, Queued, &["200, 204: processing 1", "204, 200: processing 1"]),
    (Retry, Retry, Failed, &["200, 409 not_finished: queued 2", "409 not_finished, 200: queued 2"]),
];

/// A job of a kind of its own, ready for a race.
async fn begin(server: &Server, id: &str, stand: Stand, races: [Act; 2]) {
    let mut new = json!({"kind": id, "max_attempts": 5});
    match stand {
        Queued if races.contains(&Expire) => new["queue_ttl_seconds"] = json!(5),
        Failed if races.contains(&Expire) => new["retain_seconds"] = json!(5),
        Queued | Leased | Completed | Failed => {}
    }
    server.put(&format!("/jobs/{id}"), new).await.is(201);
    match stand {
        Queued => {}
        Leased => {
            claim(server, id, 5).await.is(200);
            server.patch(id, json!({"attempt": 1, "progress_pct": 1})).await.is(200);
        }
        Completed => drop(server.patch(id, json!({"status": "completed"})).await.is(200)),
        Failed => drop(server.patch(id, json!({"status": "failed"})).await.is(200)),
    }
}

fn claim(server: &Server, kind: &str, lease_seconds: u32) -> Call {
    server.post("/jobs/claim", json!({"kinds": [kind], "worker": "w", "lease_seconds": lease_seconds}))
}

/// What asks for it, if anybody does.
fn call(server: &Server, id: &str, act: Act, stand: Stand) -> Option<Call> {
    let end = |status: &str| {
        // Who knows of no attempt names none.
        let body =
            if matches!(stand, Queued) { json!({"status": status}) } else { json!({"status": status, "attempt": 1}) };
        server.patch(id, body)
    };
    let ask = |what: &str| server.call("POST", &format!("/jobs/{id}/{what}"));
    match act {
        Complete => Some(end("completed")),
        Fail => Some(end("failed")),
        Cancel => Some(ask("cancel")),
        Retry => Some(ask("retry")),
        Claim => Some(claim(server, id, 60)),
        Delete => Some(server.delete(&format!("/jobs/{id}"))),
        Expire => None,
    }
}

/// What came of one of the two.
async fn told(call: Option<Call>) -> String {
    let Some(call) = call else { return "-".to_owned() };
    let answer = call.await;
    match answer.status {
        status @ 200..300 => status.to_string(),
        status => format!("{status} {}", answer.json()["code"].as_str().unwrap()),
    }
}

/// Where the job stands after it.
async fn stand(server: &Server, id: &str) -> String {
    let answer = server.get(&format!("/jobs/{id}")).await;
    if answer.status == 404 {
        return "gone".to_owned();
    }
    let job = answer.is(200).json();
    format!("{} {}", job["status"].as_str().unwrap(), job["attempt"])
}

async fn race(server: &Server, number: usize, seen: &mut BTreeMap<String, usize>) {
    let (one, other, begins, legal) = RACES[number];
    for first in (0..ROUNDS).step_by(TOGETHER) {
        let ids: Vec<_> = (first..first + TOGETHER).map(|round| format!("j{number}-{round}")).collect();
        for id in &ids {
            begin(server, id, begins, [one, other]).await;
        }
        let mut racers = JoinSet::new();
        for (index, id) in ids.iter().enumerate() {
            let mut both = [(0, one), (1, other)];
            // Each of the two is sent first as often.
            if index % 2 == 1 {
                both.reverse();
            }
            for (place, act) in both {
                let call = call(server, id, act, begins);
                racers.spawn(async move { (index, place, told(call).await) });
            }
        }
        if one == Expire || other == Expire {
            server.pass(Duration::from_secs(5));
        }
        let mut heard = vec![[const { String::new() }; 2]; ids.len()];
        while let Some(told) = racers.join_next().await {
            let (index, place, told) = told.unwrap();
            heard[index][place] = told;
        }
        for (id, [one_told, other_told]) in ids.iter().zip(&heard) {
            let outcome = async || format!("{one_told}, {other_told}: {}", stand(server, id).await);
            // What happens by itself may take its time.
            let ends = async {
                loop {
                    let outcome = outcome().await;
                    if legal.contains(&outcome.as_str()) {
                        return outcome;
                    }
                }
            };
            match tokio::time::timeout(Duration::from_secs(5), ends).await {
                Ok(outcome) => *seen.entry(format!("{one:?} {other:?}: {outcome}")).or_default() += 1,
                Err(_) => panic!("{one:?} and {other:?}: {}", outcome().await),
            }
        }
    }
}

async fn run_all(on: On) {
    let configure = |config: &mut Config| {
        config.jobs.kinds_max = 100_000;
        config.sweep.interval_milliseconds = 1;
    };
    let server = Server::start(on, configure).await;
    let mut seen = BTreeMap::new();
    for number in 0..RACES.len() {
        race(&server, number, &mut seen).await;
    }
    println!("{seen:#?}");
    let possible: usize = RACES.iter().map(|(.., legal)| legal.len()).sum();
    assert!(seen.len() > possible * 2 / 3, "the races are hardly ever close: {seen:#?}");
    server.stop().await;
}

// With threads of their own the two are really under way at once.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_have_one_winner() {
    run_all(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_have_one_winner_without_memory() {
    run_all(On::SqliteWithoutMemory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_have_one_winner_on_postgres() {
    run_all(On::Postgres).await;
}

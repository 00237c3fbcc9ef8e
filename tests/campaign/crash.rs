//! The store under fire: servers that are killed, disks that fail or are full, stores that are damaged.
//!
//! An oracle stands outside: clients change and read jobs over HTTP, everything they ask and hear is recorded, and a pure
//! checker says afterwards which promise was broken. kill -9 shows that nothing is acknowledged before the system has it
//! and that recovery finds it; it does not show that the disk has it, which only losing power would.

mod campaign;
mod checker;
mod client;
mod commons;
mod history;
mod inspect;
mod planted;
mod reader;
mod watchers;
mod wire;
mod words;
mod workers;
mod writer;

use std::{env, time::Duration};

use self::{
    campaign::{Mood, Plan, Report},
    checker::Kind,
    workers::Ground,
};
use crate::harness::postgres;

/// A campaign has enough to do with two threads; more would take them from the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing() {
    let plan = Plan {
        seed: seed(),
        kills: 50,
        mood: Mood::Acknowledgements(400),
        check_every: 10,
        forgetful: false,
        database: None,
    };
    blameless(plan).await;
}

/// Three replicas on one database, which die together; what one acknowledges or tells the others must know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_die_lose_nothing_and_tell_the_same() {
    let mood = Mood::Acknowledgements(1500);
    let database = Some(postgres::empty_store().await);
    blameless(Plan { seed: seed(), kills: 5, mood, check_every: 5, forgetful: false, database }).await;
}

/// `make replicas`: the same for long, MILEPOST_CRASH_KILLS times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn replicas_campaign() {
    let kills = env::var("MILEPOST_CRASH_KILLS").map_or(100, |kills| kills.parse().expect("a number of kills"));
    let database = Some(postgres::empty_store().await);
    let mood = Mood::Time(Duration::from_millis(1500));
    blameless(Plan { seed: seed(), kills, mood, check_every: 50, forgetful: false, database }).await;
    workers::each_job_is_finished_once(seed(), 5_000, Ground::Replicas(postgres::empty_store().await)).await;
}

/// Streams resume exactly where they were cut off, by whomever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_miss_nothing_over_kills_and_cuts() {
    watchers::everybody_has_the_whole_story(seed()).await;
}

/// Each job is finished once, whoever dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimed_jobs_are_finished_once_over_kills_and_deaths() {
    workers::each_job_is_finished_once(seed(), 10_000, Ground::Embedded).await;
}

/// The same with three replicas, of which one dies at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimed_jobs_are_finished_once_whichever_replica_dies() {
    workers::each_job_is_finished_once(seed(), 1_000, Ground::Replicas(postgres::empty_store().await)).await;
}

/// `make crash`: MILEPOST_CRASH_KILLS times, with MILEPOST_CRASH_SEED or another seed each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn crash_campaign() {
    /// The record and the time it takes to check grow with the square of these.
    const KILLS_OF_ONE_STORE: u32 = 100;
    let mood = Mood::Time(Duration::from_millis(1500));
    let mut seed = seed();
    let mut left = env::var("MILEPOST_CRASH_KILLS").map_or(500, |kills| kills.parse().expect("a number of kills"));
    while left > 0 {
        let kills = left.min(KILLS_OF_ONE_STORE);
        blameless(Plan { seed, kills, mood, check_every: 50, forgetful: false, database: None }).await;
        left -= kills;
        seed += 1;
    }
}

/// The negative control: a store that loses the last of what it acknowledged is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgets_is_found_out() {
    let plan = Plan {
        seed: seed(),
        kills: 5,
        mood: Mood::Acknowledgements(600),
        check_every: 1,
        forgetful: true,
        database: None,
    };
    let report = plan.carry_out().await;
    println!("{report}");
    if let Some(kept) = &report.kept {
        std::fs::remove_dir_all(kept).expect("nothing of it is worth keeping");
    }
    let lost = report.violations.iter().filter(|violation| violation.kind == Kind::AcknowledgementLost);
    assert!(lost.count() > 0, "what was lost on purpose went unnoticed");
}

async fn blameless(plan: Plan) {
    println!("seed {}", plan.seed);
    let report: Report = plan.carry_out().await;
    println!("{report}");
    assert!(report.violations.is_empty(), "the store broke its promises");
}

/// Time is good enough, and the seed is printed; what the machine does in between is not in our hands anyway.
fn seed() -> u64 {
    match env::var("MILEPOST_CRASH_SEED") {
        Ok(seed) => seed.parse().expect("a seed is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_secs()),
    }
}

//! The store under fire: servers that are killed, disks that fail or are full, stores that are damaged.
//!
//! An oracle stands outside: clients change and read jobs over HTTP, everything they ask and hear is recorded, and a pure
//! checker says afterwards which promise was broken. kill -9 shows that nothing is acknowledged before the system has it
//! and that recovery finds it; that the disk has it is for those campaigns to show in which the machine loses its power.

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

use std::time::Duration;

use self::{
    campaign::{Fate, Mood, Plan, Report},
    checker::Kind,
    workers::Ground,
};
use crate::{campaign::given, harness::postgres};

/// A campaign has enough to do with two threads; more would take them from the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing() {
    let plan = Plan { seed: seed(), kills: 50, check_every: 10, fate: Fate::Killed(Mood::Acknowledgements(400)) };
    blameless(plan).await;
}

/// Three replicas on one database, which die together; what one acknowledges or tells the others must know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_die_lose_nothing_and_tell_the_same() {
    let fate = Fate::Together(Mood::Acknowledgements(1500), postgres::empty_store().await);
    blameless(Plan { seed: seed(), kills: 5, check_every: 5, fate }).await;
}

/// `make replicas`: the same for long, MILEPOST_CRASH_KILLS times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn replicas_campaign() {
    let kills = given("MILEPOST_CRASH_KILLS").unwrap_or(100);
    let fate = Fate::Together(Mood::Time(Duration::from_millis(1500)), postgres::empty_store().await);
    blameless(Plan { seed: seed(), kills, check_every: 50, fate }).await;
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
    let kills = given("MILEPOST_CRASH_KILLS").unwrap_or(500);
    again_and_again(kills, &Fate::Killed(Mood::Time(Duration::from_millis(1500)))).await;
}

/// Each life of the server has another time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_under_other_clocks_lose_nothing() {
    let fate = Fate::KilledInTime(Mood::Acknowledgements(200));
    blameless(Plan { seed: seed(), kills: 10, check_every: 10, fate }).await;
}

/// `make faults`: MILEPOST_CRASH_KILLS times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn clock_campaign() {
    let kills = given("MILEPOST_CRASH_KILLS").unwrap_or(100);
    again_and_again(kills, &Fate::KilledInTime(Mood::Time(Duration::from_millis(1500)))).await;
}

/// What was not synced when the power goes is there afterwards in part, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_is_lost_loses_nothing() {
    let fate = Fate::PowerLost { operations: 300, syncs: true };
    blameless(Plan { seed: seed(), kills: 20, check_every: 10, fate }).await;
}

/// After a sync or a write that has failed nothing is acknowledged that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_loses_nothing() {
    let fate = Fate::DiskFails { operations: 200 };
    blameless(Plan { seed: seed(), kills: 10, check_every: 10, fate }).await;
}

/// `make faults`: MILEPOST_DISK_FAULTS times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn disk_campaign() {
    let faults = given("MILEPOST_DISK_FAULTS").unwrap_or(200);
    again_and_again(faults, &Fate::DiskFails { operations: 600 }).await;
}

/// `make power`: MILEPOST_POWER_CUTS times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn power_campaign() {
    let cuts = given("MILEPOST_POWER_CUTS").unwrap_or(1000);
    again_and_again(cuts, &Fate::PowerLost { operations: 1200, syncs: true }).await;
}

/// The negative control: a disk that only says that it has synced is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_sync_is_found_out() {
    let fate = Fate::PowerLost { operations: 600, syncs: false };
    found_out(Plan { seed: seed(), kills: 10, check_every: 1, fate }).await;
}

/// The negative control: a store that loses the last of what it acknowledged is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgets_is_found_out() {
    let fate = Fate::Forgotten(Mood::Acknowledgements(600));
    found_out(Plan { seed: seed(), kills: 5, check_every: 1, fate }).await;
}

/// So often, in campaigns of their own.
async fn again_and_again(times: u32, fate: &Fate) {
    /// The record and the time it takes to check grow with the square of these.
    const TIMES_WITH_ONE_STORE: u32 = 100;
    let (mut seed, mut left) = (seed(), times);
    while left > 0 {
        let kills = left.min(TIMES_WITH_ONE_STORE);
        blameless(Plan { seed, kills, check_every: 50, fate: fate.clone() }).await;
        left -= kills;
        seed += 1;
    }
}

async fn found_out(plan: Plan) {
    let report = plan.carry_out().await;
    println!("{report}");
    if let Some(kept) = &report.kept {
        std::fs::remove_dir_all(kept).expect("nothing of it is worth keeping");
    }
    // It may be lost altogether, so that what is left can't be read.
    let kinds = [Kind::AcknowledgementLost, Kind::StrangeAnswer];
    assert!(
        report.violations.iter().any(|violation| kinds.contains(&violation.kind)),
        "what was lost on purpose went unnoticed"
    );
}

async fn blameless(plan: Plan) {
    println!("seed {}", plan.seed);
    let report: Report = plan.carry_out().await;
    println!("{report}");
    assert!(report.violations.is_empty(), "the store broke its promises");
}

fn seed() -> u64 {
    super::seed("MILEPOST_CRASH_SEED")
}

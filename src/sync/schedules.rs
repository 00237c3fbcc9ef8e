//! Running a scenario under many schedules: which task goes on is chosen anew at each point.
//!
//! Half of the schedules are random, and in half of them the task of the highest priority goes on, and priorities change at
//! three points: that finds what takes few changes at the right moments (<https://doi.org/10.1145/1736020.1736040>). A failure tells
//! its schedule, which `shuttle::replay` takes.

use std::{env, sync::OnceLock, thread};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};
use tokio::runtime::{Builder, Runtime};

/// So many schedules unless MILEPOST_SCHEDULES says otherwise.
const SCHEDULES: usize = 250;
/// Under so many of each sort at the most what does not hold must have failed.
const SCHEDULES_OF_A_CONTROL: usize = 20_000;
/// So many changes of priorities.
const CHANGES: usize = 3;
/// Bytes of stack for each task.
const STACK_BYTES: usize = 1 << 19;
/// No scenario has as many steps, unless it has no end.
const STEPS_MAX: usize = 100_000;

/// Has to hold under all of many schedules. Whoever waits for ever is found out, too.
pub(crate) fn holds(scenario: fn()) {
    let all = env::var("MILEPOST_SCHEDULES").map_or(SCHEDULES, |all| all.parse().unwrap());
    run(RandomScheduler::new(all / 2), FailurePersistence::Print, scenario);
    run(PctScheduler::new(CHANGES, all - all / 2), FailurePersistence::Print, scenario);
    println!("{}: {all} schedules", thread::current().name().unwrap_or_default());
}

/// Whether it fails under one of some schedules: they can find what they look for.
pub(crate) fn is_found_out(scenario: fn()) -> bool {
    let random = move || run(RandomScheduler::new(SCHEDULES_OF_A_CONTROL), FailurePersistence::None, scenario);
    let pct = move || run(PctScheduler::new(CHANGES, SCHEDULES_OF_A_CONTROL), FailurePersistence::None, scenario);
    // What has failed leaves its thread as it is.
    thread::spawn(random).join().is_err() || thread::spawn(pct).join().is_err()
}

fn run(scheduler: impl Scheduler + 'static, failures: FailurePersistence, scenario: fn()) {
    // Time-outs can be waited for, and never come.
    static STANDSTILL: OnceLock<Runtime> = OnceLock::new();
    let standstill = STANDSTILL.get_or_init(|| Builder::new_current_thread().enable_time().build().unwrap());
    let _time = standstill.enter();
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = failures;
    Runner::new(scheduler, config).run(scenario);
}

//! The state machine where jobs are kept: random lives of whole stores, told to every engine and to a plain map.
//!
//! A saga has a few jobs, made and changed one by one and many at once, claimed, waited for, cancelled, retried, swept and
//! deleted under a clock of its own, by a store that is stopped and opened again in between, and on PostgreSQL by two of them.
//! What each request is answered is what the map says, and in the end whatever can be read: documents, logs, inputs,
//! timelines, attempts, lists, counts, the feed and an export.

mod answers;
mod entry;
mod ledger;
mod look;
mod past;
mod planted;
mod saga;
mod survey;
mod teller;
mod turns;
mod world;

use std::{
    cell::{Cell, RefCell},
    env,
    time::Duration,
};

use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestError, TestRng, TestRunner};

use self::{
    planted::Fault,
    saga::{Saga, saga},
    world::{On, World},
};

/// How long anything may take on a very busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many sagas unless PROPTEST_CASES says otherwise; on PostgreSQL, where each takes ten times as long, fewer.
const CASES: u32 = 50;
const CASES_ON_POSTGRES: u32 = 15;

/// Tells random sagas; how many scenes they had.
fn tell_sagas(runner: &mut TestRunner, on: On, fault: Option<Fault>) -> Result<usize, Box<TestError<Saga>>> {
    let (world, scenes) = (RefCell::new(None), Cell::new(0));
    let told = runner.run(&saga(), |saga| {
        // One that a saga has failed in is not used again.
        let own = world.take().unwrap_or_else(|| World::new(on, fault));
        world.replace(own.tell(&saga)?);
        scenes.update(|told| told + saga.scenes.len());
        Ok(())
    });
    told.map(|()| scenes.get()).map_err(Box::new)
}

fn is_what_the_model_says(on: On) {
    let seeds = FileFailurePersistence::Direct("tests/model/store/regressions.txt");
    let usual = match on {
        On::Sqlite | On::SqliteWithoutMemory => CASES,
        On::Postgres | On::Replicas => CASES_ON_POSTGRES,
    };
    let cases = env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: Some(Box::new(seeds)), ..Config::default() };
    let told = tell_sagas(&mut TestRunner::new(config), on, None);
    let scenes = told.unwrap_or_else(|failure| panic!("on {on:?}: {failure}"));
    println!("{on:?}: {cases} sagas of {scenes} scenes are as the model says");
}

#[test]
fn sqlite_is_what_the_model_says() {
    is_what_the_model_says(On::Sqlite);
}

#[test]
fn sqlite_without_memory_is_what_the_model_says() {
    is_what_the_model_says(On::SqliteWithoutMemory);
}

#[test]
fn postgres_is_what_the_model_says() {
    is_what_the_model_says(On::Postgres);
}

#[test]
fn two_replicas_are_what_the_model_says() {
    is_what_the_model_says(On::Replicas);
}

/// That the sagas can find what they look for.
#[test]
fn an_engine_that_breaks_a_promise_is_found_out() {
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    for fault in Fault::ALL {
        let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let told = tell_sagas(&mut runner, On::SqliteWithoutMemory, Some(fault));
        let is_found = told.is_err_and(|failure| matches!(*failure, TestError::Fail(..)));
        assert!(is_found, "{fault:?} was not found in {CASES} sagas");
    }
}

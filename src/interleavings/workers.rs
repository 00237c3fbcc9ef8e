//! Who waits for a job to claim while jobs come, and others who wait go away.

use std::{sync::Arc, time::Duration};

use shuttle::future::{JoinHandle, block_on, spawn};

use super::{
    memory::Memory,
    stage::{CALLER, Stage, key, line, to, update},
};
use crate::{
    job::{Change, Claim, Kind, Retry, Seconds, Status},
    store::{JobStore, Wish},
    sync::schedules::holds,
};

/// No scenario takes as long.
const LONG: Duration = Duration::from_secs(3600);

const KINDS: [&str; 2] = ["k", "l"];

/// Waits for a job, whose id it gives.
fn worker(store: &JobStore, name: &'static str, kinds: &[&str]) -> JoinHandle<Option<String>> {
    let store = store.clone();
    let kinds = kinds.iter().map(|kind| Kind::try_from(*kind).unwrap()).collect();
    let wish = Wish { kinds, claim: Claim { worker: name.into(), lease_seconds: Seconds(30) }, wait: LONG };
    spawn(async move {
        let claimed = store.claim(CALLER, wish, None).await.unwrap();
        claimed.map(|claimed| claimed.job.key().id.as_str().to_owned())
    })
}

/// Jobs come in different ways, and as many workers wait for them.
fn jobs_come() {
    block_on(async {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        update(&stage.store, "a", to(Status::Completed)).await.unwrap();
        let workers = [worker(&stage.store, "w-1", &KINDS), worker(&stage.store, "w-2", &KINDS)];
        let maker = spawn({
            let stage = stage.clone();
            async move { stage.make("b", "l").await }
        });
        update(&stage.store, "a", Change::Retry(Retry::default())).await.unwrap();
        maker.await.unwrap();
        let mut given = Vec::new();
        for worker in workers {
            given.push(worker.await.unwrap().unwrap());
        }
        given.sort();
        assert_eq!(given, ["a", "b"]);
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn nobody_waits_for_a_job_that_is_there() {
    holds(jobs_come);
}

/// A worker that was woken for one job finds another one first, and the job it was woken for is for the next who waits.
fn another_is_found() {
    block_on(async {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        let [first, second] = [worker(&stage.store, "w-1", &["k", "l"]), worker(&stage.store, "w-2", &["k"])];
        let maker = spawn({
            let stage = stage.clone();
            // The map gives it out first.
            async move { stage.make("a", "l").await }
        });
        stage.make("z", "k").await;
        maker.await.unwrap();
        if first.await.unwrap().unwrap() == "z" {
            stage.make("y", "k").await;
        }
        assert!(second.await.unwrap().is_some());
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn whoever_finds_another_job_leaves_its_own_to_the_next() {
    holds(another_is_found);
}

/// Two workers wait for the job that comes, and one of them goes away, perhaps when it was woken for it.
fn one_goes_away() {
    block_on(async {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("another", "m").await;
        let [first, second] = [worker(&stage.store, "w-1", &KINDS), worker(&stage.store, "w-2", &KINDS)];
        let maker = spawn({
            let stage = stage.clone();
            async move { stage.make("a", "k").await }
        });
        first.abort();
        let _gone = first.await;
        maker.await.unwrap();
        // Whatever the first has asked for is decided before this is answered.
        update(&stage.store, "another", line("one")).await.unwrap();
        if engine.job(&key("a")).unwrap().worker.as_deref() == Some("w-1") {
            stage.make("b", "k").await;
        }
        assert!(second.await.unwrap().is_some());
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn whoever_goes_away_leaves_the_job_to_the_next() {
    holds(one_goes_away);
}

/// The service goes down while workers come and wait.
fn sent_away() {
    block_on(async {
        let engine = Memory::own();
        let stage = Stage::on(&engine);
        let workers = [worker(&stage.store, "w-1", &KINDS), worker(&stage.store, "w-2", &KINDS)];
        stage.store.end_waiting();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
        stage.close().await;
    });
}

#[test]
fn whoever_waits_for_a_job_is_sent_away_in_any_order() {
    holds(sent_away);
}

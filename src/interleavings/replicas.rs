//! Two stores on one map, as replicas are on one database: each finds out what the other has done when it needs to know.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join3;
use shuttle::future::{JoinHandle, block_on, spawn};

use super::{
    memory::Memory,
    stage::{CALLER, Stage, key, line, update},
};
use crate::{
    engine::{Elsewhere, MovedElsewhere},
    job::{Change, Guard, Patch, Version},
    store::{JobStore, StoreError},
    sync::schedules::holds,
};

/// Tells a replica, at some moment, that another one has moved the job, whether or not it has.
fn heard(by: &Stage) -> JoinHandle<()> {
    let attendant = by.attendant.clone();
    let moved = MovedElsewhere { key: key("a"), is_end: false, has_news: false, queued: None };
    spawn(async move { attendant.tell(Elsewhere::Moved(moved)) })
}

async fn version(store: &JobStore) -> Version {
    store.read(CALLER, &key("a").id).await.unwrap().version()
}

/// Both have the job in memory and change it, and somebody reads it there and here.
fn both_write() {
    block_on(async {
        let engine = Memory::shared();
        let stages = [Stage::on(&engine), Stage::on(&engine)];
        stages[0].make("a", "k").await;
        version(&stages[1].store).await;
        let acknowledged = Arc::new(AtomicU64::new(1));
        let writers = [0, 1].map(|at| {
            let (store, acknowledged) = (stages[at].store.clone(), acknowledged.clone());
            spawn(async move {
                let updated = update(&store, "a", line(&format!("of {at}"))).await.unwrap();
                acknowledged.fetch_max(updated.job.version, Ordering::SeqCst);
                updated.job.version
            })
        });
        let reader = spawn({
            let (stores, acknowledged) = (stages.each_ref().map(|stage| stage.store.clone()), acknowledged.clone());
            async move {
                let mut last = 0;
                for store in stores {
                    last = acknowledged.load(Ordering::SeqCst).max(last);
                    let seen = version(&store).await;
                    assert!(seen >= last, "a job goes back in time");
                    last = seen;
                }
            }
        });
        let told = stages.each_ref().map(heard);
        let [one, other] = writers;
        let mut versions = [one.await.unwrap(), other.await.unwrap()];
        reader.await.unwrap();
        versions.sort_unstable();
        assert_eq!(versions, [2, 3], "each version has one writer");
        let mut lines = engine.lines(&key("a"));
        lines.sort();
        assert_eq!(lines, ["of 0", "of 1"]);
        for told in told {
            told.await.unwrap();
        }
        for stage in stages {
            stage.close().await;
        }
    });
}

#[test]
fn each_version_has_one_writer_and_nothing_goes_back() {
    holds(both_write);
}

/// What one has answered is what the other decides on, also if there is nothing to commit.
fn decided_on_what_is() {
    block_on(async {
        let engine = Memory::shared();
        let stages = [Stage::on(&engine), Stage::on(&engine)];
        stages[0].make("a", "k").await;
        let reader = spawn({
            let store = stages[1].store.clone();
            async move { version(&store).await }
        });
        let updated = update(&stages[0].store, "a", line("one")).await.unwrap();
        // It changes nothing, and is refused of any other version.
        let guard = Guard { versions: Some(vec![updated.job.version]), ..Guard::default() };
        let nothing = stages[1].store.update(CALLER, &key("a").id, Change::Patch(Patch::default()), guard).await;
        assert_eq!(nothing.unwrap().job.version, updated.job.version);
        reader.await.unwrap();
        for stage in stages {
            stage.close().await;
        }
    });
}

#[test]
fn a_change_is_decided_on_what_is_there() {
    holds(decided_on_what_is);
}

/// A deletion stands between two appends that come at once, and another replica changes the job before or meanwhile.
fn deleted_in_between() {
    block_on(async {
        let engine = Memory::shared();
        let stages = [Stage::on(&engine), Stage::on(&engine)];
        stages[0].make("a", "k").await;
        version(&stages[1].store).await;
        let another = spawn({
            let store = stages[0].store.clone();
            async move {
                match update(&store, "a", line("of another")).await {
                    Ok(_) | Err(StoreError::NotFound(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let told = heard(&stages[1]);
        let store = &stages[1].store;
        // Each is submitted when it is first polled, in this order.
        let (before, deleted, after) = join3(
            update(store, "a", line("before")),
            store.delete(CALLER, &key("a").id, Guard::default()),
            update(store, "a", line("after")),
        )
        .await;
        before.unwrap();
        deleted.unwrap();
        assert!(matches!(after, Err(StoreError::NotFound(_))), "{after:?}");
        another.await.unwrap();
        told.await.unwrap();
        for stage in stages {
            stage.close().await;
        }
    });
}

#[test]
fn what_comes_after_a_deletion_stays_after_it() {
    holds(deleted_in_between);
}

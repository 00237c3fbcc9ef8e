//! Who follows a job while it changes, comes, goes or is sent away.

use std::sync::Arc;

use shuttle::future::{block_on, spawn};

use super::{
    memory::Memory,
    stage::{CALLER, Stage, key, line, to, update},
};
use crate::{
    job::{Status, Version},
    publish::{Interrupted, Pace},
    store::StoreError,
    sync::schedules::{holds, is_found_out},
};

/// What a reader does.
#[derive(Clone, Copy)]
enum Way {
    /// Registers, and reads until the job is done.
    Follow(Pace),
    /// Reads, and registers after that.
    ReadFirst,
}

/// Follows the job to its end; the versions that were read.
async fn follow(stage: Arc<Stage>, engine: Arc<Memory>, way: Way) -> Vec<Version> {
    let mut seen = Vec::new();
    let mut see = |version| {
        assert!(version <= engine.version(&key("a")), "{version} is read, and is not durable");
        seen.push(version);
    };
    match way {
        Way::Follow(pace) => {
            let mut follower = stage.streams.follow(CALLER, key("a").id, pace);
            loop {
                let snapshot = follower.until(|_| true).await.unwrap();
                see(snapshot.version());
                if snapshot.job().is_done() {
                    break;
                }
                follower.moved().await;
            }
        }
        Way::ReadFirst => loop {
            let snapshot = stage.store.read(CALLER, &key("a").id).await.unwrap();
            see(snapshot.version());
            if snapshot.job().is_done() {
                break;
            }
            stage.streams.follow(CALLER, key("a").id, Pace::Each).moved().await;
        },
    }
    seen
}

/// A job is worked at, and readers in these ways follow it to its end.
fn followed(ways: &'static [Way]) {
    block_on(async move {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        let readers: Vec<_> = ways.iter().map(|way| spawn(follow(stage.clone(), engine.clone(), *way))).collect();
        let writer = spawn({
            let stage = stage.clone();
            async move {
                update(&stage.store, "a", line("one")).await.unwrap();
                update(&stage.store, "a", to(Status::Completed)).await.unwrap()
            }
        });
        let last = writer.await.unwrap().job.version;
        for reader in readers {
            let seen = reader.await.unwrap();
            assert!(seen.is_sorted(), "back in time: {seen:?}");
            assert_eq!(seen.last(), Some(&last));
        }
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn whoever_registers_first_sees_the_end() {
    holds(|| followed(&[Way::Follow(Pace::Each), Way::Follow(Pace::Calm)]));
}

#[test]
fn whoever_reads_first_may_wait_for_ever() {
    assert!(is_found_out(|| followed(&[Way::ReadFirst])));
}

/// Readers come and go while the job changes: nobody is left registered.
fn come_and_go() {
    block_on(async {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        let reader = |pace| {
            let stage = stage.clone();
            spawn(async move {
                for _ in 0..2 {
                    let mut follower = stage.streams.follow(CALLER, key("a").id, pace);
                    follower.until(|_| true).await.unwrap();
                }
            })
        };
        let readers = [reader(Pace::Each), reader(Pace::Each)];
        update(&stage.store, "a", line("one")).await.unwrap();
        update(&stage.store, "a", line("two")).await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
        let hub = stage.hub.clone();
        Arc::into_inner(stage).unwrap().close().await;
        assert_eq!(hub.topics(), 0);
    });
}

#[test]
fn entries_vanish_with_their_last_reader_in_any_order() {
    holds(come_and_go);
}

/// The hub closes while readers register and wait.
fn sent_away(register_first: bool) {
    block_on(async move {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        let reader = |pace| {
            let stage = stage.clone();
            spawn(async move {
                if register_first {
                    let mut follower = stage.streams.follow(CALLER, key("a").id, pace);
                    let interrupted = follower.until(|snapshot| snapshot.job().is_done()).await.unwrap_err();
                    assert!(matches!(interrupted, Interrupted::Closing));
                } else if !stage.streams.follow(CALLER, key("a").id, pace).is_closed() {
                    stage.streams.follow(CALLER, key("a").id, pace).moved().await;
                }
            })
        };
        let readers = [reader(Pace::Each), reader(Pace::Calm)];
        let closer = spawn({
            let hub = stage.hub.clone();
            async move { hub.close() }
        });
        for reader in readers {
            reader.await.unwrap();
        }
        closer.await.unwrap();
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn whoever_waits_is_sent_away_in_any_order() {
    holds(|| sent_away(true));
}

#[test]
fn whoever_asks_first_whether_it_is_over_may_wait_for_ever() {
    assert!(is_found_out(|| sent_away(false)));
}

/// A job is deleted while it is followed.
fn deleted() {
    block_on(async {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        let reader = spawn({
            let stage = stage.clone();
            async move {
                let mut follower = stage.streams.follow(CALLER, key("a").id, Pace::Each);
                follower.until(|snapshot| snapshot.job().is_done()).await.unwrap_err()
            }
        });
        update(&stage.store, "a", line("one")).await.unwrap();
        stage.store.delete(CALLER, &key("a").id, Default::default()).await.unwrap();
        let interrupted = reader.await.unwrap();
        assert!(matches!(interrupted, Interrupted::Store(StoreError::NotFound(_))), "{interrupted:?}");
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn whoever_follows_a_job_hears_that_it_is_deleted() {
    holds(deleted);
}

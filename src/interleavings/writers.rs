//! Who changes jobs while others do, and while the store is closed.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use shuttle::future::{block_on, spawn};

use super::{
    memory::Memory,
    stage::{CALLER, Stage, key, line, settings, update},
};
use crate::{
    job::Guard,
    store::{Settings, StoreError},
    sync::schedules::{holds, is_found_out},
};

/// Two bring many changes, and wait for room or not; a third one changes the job once and does not wait for room.
fn crowded(is_patient: bool) {
    block_on(async move {
        let engine = Memory::own();
        let stage = Stage::with(&engine, Settings { queue_changes_max: 6, ..settings() });
        stage.make("a", "k").await;
        let many = ["one", "two"].map(|name| {
            let store = stage.store.clone();
            spawn(async move {
                let mut submitted = Vec::new();
                for number in 0..4 {
                    if is_patient {
                        store.room().await;
                    }
                    let text = format!("{name} {number}");
                    submitted.push(store.submit_update(CALLER, &key("a").id, line(&text), Guard::default()).unwrap());
                }
                for submitted in submitted {
                    submitted.committed().await.unwrap();
                }
            })
        });
        update(&stage.store, "a", line("single")).await.unwrap();
        for writer in many {
            writer.await.unwrap();
        }
        stage.close().await;
        assert_eq!(engine.lines(&key("a")).len(), 9);
    });
}

#[test]
fn who_brings_many_changes_waits_for_room_and_leaves_some() {
    holds(|| crowded(true));
}

#[test]
fn who_does_not_wait_for_room_may_find_none() {
    assert!(is_found_out(|| crowded(false)));
}

/// One waits for room and does not go on, as a stream whose client does not read; another one waits behind it.
fn behind_one_that_does_not_go_on() {
    block_on(async {
        let engine = Memory::own();
        let stage = Stage::with(&engine, Settings { queue_changes_max: 2, ..settings() });
        stage.make("a", "k").await;
        let first = stage.store.submit_update(CALLER, &key("a").id, line("first"), Guard::default()).unwrap();
        let mut idle = Box::pin(stage.store.room());
        let _pending = idle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let second = spawn({
            let store = stage.store.clone();
            async move {
                store.room().await;
                update(&store, "a", line("second")).await.unwrap();
            }
        });
        first.committed().await.unwrap();
        second.await.unwrap();
        drop(idle);
        stage.close().await;
        assert_eq!(engine.lines(&key("a")), ["first", "second"]);
    });
}

#[test]
fn who_waits_for_room_and_does_not_go_on_holds_up_nobody() {
    holds(behind_one_that_does_not_go_on);
}

/// Two writers append lines, two at a time, and the store may be closed meanwhile; there is room for two changes.
fn closed_meanwhile() {
    block_on(async {
        let engine = Memory::own();
        let stage = Stage::with(&engine, Settings { queue_changes_max: 2, ..settings() });
        stage.make("a", "k").await;
        let writer = |name: &'static str| {
            let store = stage.store.clone();
            spawn(async move {
                let submit = |text: &str| store.submit_update(CALLER, &key("a").id, line(text), Guard::default());
                let submitted = [1, 2].map(|number| {
                    let text = format!("{name} {number}");
                    (submit(&text), text)
                });
                let mut said = Vec::new();
                for (submitted, text) in submitted {
                    let answer = match submitted {
                        Ok(submitted) => submitted.committed().await,
                        Err(error) => Err(error),
                    };
                    match answer {
                        Ok(_) => said.push(text),
                        Err(StoreError::Overloaded | StoreError::Draining) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                said
            })
        };
        let writers = [("one", writer("one")), ("two", writer("two"))];
        let closer = spawn({
            let store = stage.store.clone();
            async move { store.close() }
        });
        let mut said = 0;
        for (name, writer) in writers {
            let answered = writer.await.unwrap();
            said += answered.len();
            let durable: Vec<_> = engine.lines(&key("a")).into_iter().filter(|line| line.starts_with(name)).collect();
            assert_eq!(answered, durable, "what was answered, and what is there");
        }
        closer.await.unwrap();
        stage.close().await;
        assert_eq!(engine.lines(&key("a")).len(), said, "what is there, and nobody was told of");
    });
}

#[test]
fn every_change_is_made_or_refused_while_the_store_is_closed() {
    holds(closed_meanwhile);
}

/// A job changes, and whoever has its answer reads: from memory, from the engine, or once somebody else has.
fn read_after(begin_with_answer: bool) {
    block_on(async move {
        let engine = Memory::own();
        // What is made here is not in the memory of the other.
        let before = Stage::on(&engine);
        before.make("a", "k").await;
        before.close().await;
        let stage = Arc::new(Stage::on(&engine));
        let read = |stage: Arc<Stage>| async move {
            let snapshot = stage.store.read(CALLER, &key("a").id).await.unwrap();
            snapshot.version()
        };
        let reader = spawn({
            let (stage, engine) = (stage.clone(), engine.clone());
            async move {
                let first = read(stage.clone()).await;
                let second = read(stage.clone()).await;
                assert!(first <= second, "a job goes back in time");
                assert!(second <= engine.version(&key("a")), "what is read is not durable");
            }
        });
        let writer = spawn({
            let stage = stage.clone();
            async move {
                let change = update(&stage.store, "a", line("one"));
                let version = if begin_with_answer { change.await.unwrap().job.version } else { 2 };
                assert!(read(stage.clone()).await >= version, "what was acknowledged is not there");
            }
        });
        reader.await.unwrap();
        writer.await.unwrap();
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn what_is_acknowledged_is_read_and_nothing_goes_back() {
    holds(|| read_after(true));
}

#[test]
fn what_is_not_acknowledged_may_not_be_read() {
    assert!(is_found_out(|| read_after(false)));
}

//! Who reads a list, and then a job of it.

use std::sync::Arc;

use shuttle::future::{block_on, spawn};

use super::{
    memory::Memory,
    stage::{CALLER, Stage, key, line, update},
};
use crate::{
    engine::{Engine, ListQuery, Order},
    sync::schedules::{holds, is_found_out},
};

fn all() -> ListQuery {
    ListQuery {
        tenant: CALLER.tenant,
        statuses: Vec::new(),
        kinds: Vec::new(),
        labels: Vec::new(),
        text: None,
        order: Order::Newest,
        after: None,
        jobs_max: 10,
        scan_max: 10,
    }
}

/// A job changes while somebody reads the list, of the store or of the engine below it, and then the job.
fn listed(through_the_store: bool) {
    block_on(async move {
        let engine = Memory::own();
        let stage = Arc::new(Stage::on(&engine));
        stage.make("a", "k").await;
        let reader = spawn({
            let (stage, engine) = (stage.clone(), engine.clone());
            async move {
                let page = if through_the_store {
                    stage.store.list(all()).await
                } else {
                    Ok(engine.list(all()).await.unwrap())
                };
                let listed = page.unwrap().jobs[0].version;
                let read = stage.store.read(CALLER, &key("a").id).await.unwrap().version();
                assert!(read >= listed, "a job goes back in time");
            }
        });
        update(&stage.store, "a", line("one")).await.unwrap();
        update(&stage.store, "a", line("two")).await.unwrap();
        reader.await.unwrap();
        Arc::into_inner(stage).unwrap().close().await;
    });
}

#[test]
fn a_list_shows_nothing_that_is_not_read_after_it() {
    holds(|| listed(true));
}

#[test]
fn whoever_does_not_wait_for_what_is_published_may_see_more_than_is_read() {
    assert!(is_found_out(|| listed(false)));
}

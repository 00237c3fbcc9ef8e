//! A pooler stands before PostgreSQL.

use std::process::Command;

use super::*;
use crate::harness::script::Script;

/// A database, a PgBouncer before it, which is gone when this is, and its URL.
async fn behind_a_pooler(settings: &'static [&str]) -> (Database, Script, String) {
    let start = move || {
        let database = Database::start(&["fsync=off"]);
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-pooler");
        let (script, url) = Script::start(Command::new(program).arg(database.url()).args(settings));
        assert!(url.starts_with("postgres://"), "no pooler: `make test` installs it; what it says is above");
        (database, script, url)
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_of_sessions_takes_nothing_away() {
    let (_database, pooler, url) = behind_a_pooler(&["session"]).await;
    let server = Server::start_at(url, |_| {}).await;
    let replica = server.replica().await;
    server.job("j", "k").await;
    for round in 2..4 {
        let waiting = waits(&replica, round - 1).await;
        server.patch("j", json!({"stage": format!("s{round}")})).await.is(200);
        assert_eq!(waiting.await.unwrap().is(200).json()["version"], round);
    }
    let pooler = aside(pooler, |pooler| pooler.say("kill")).await;
    until_ready(&server, false).await;
    server.patch("j", json!({"stage": "lost"})).await.is(503);
    let _pooler = aside(pooler, |pooler| pooler.say("start")).await;
    until_ready(&server, true).await;
    until_ready(&replica, true).await;
    server.patch("j", json!({"stage": "s4"})).await.is(200);
    assert_eq!(replica.read("j").await["stage"], "s4");
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_forgets_statements_is_not_used() {
    for (settings, why) in [
        (&["forgetful"][..], "max_prepared_statements"),
        (&["forgetful", "default_pool_size=1"], "over two connections at once"),
    ] {
        let (_database, _pooler, url) = behind_a_pooler(settings).await;
        let refused = start_and_stop(&url).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

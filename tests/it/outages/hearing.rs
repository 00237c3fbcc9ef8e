//! What other replicas commit is heard of late, or cannot be read: nothing is missed, and it is told.

use super::*;

/// Returns once a service that is ready tells of a caution, or no longer does. On a busy machine it may tell of more.
async fn until_cautious(server: &Server, caution: &str, is_so: bool) {
    let is_told = async || {
        let answer = server.get("/readyz").await;
        (answer.status == 200 && answer.text.contains(&format!("\"{caution}\"")) == is_so).then_some(())
    };
    if eventually(is_told).await.is_none() {
        let health = server.get("/health").await.json();
        panic!("never so: {caution}, {is_so}: {health}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_nothing_is_missed() {
    let (database, server) = start(&["fsync=off"], |_| {}).await;
    let replica = server.replica().await;
    server.job("j", "k").await;
    // The connection that listens goes, again and again, as a pooler would take it away.
    let deafen = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    for round in 2..8 {
        let waiting = waits(&replica, round - 1).await;
        database.value(deafen).await;
        let begun = Instant::now();
        server.patch("j", json!({"stage": format!("s{round}")})).await.is(200);
        assert_eq!(waiting.await.unwrap().is(200).json()["version"], round);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_notified_is_found_and_said_to_be_looked_for() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off"])).await.unwrap();
    // Notifications go nowhere: a function of that name is found first.
    database.value("CREATE SCHEMA deaf").await;
    database.value("CREATE FUNCTION deaf.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''").await;
    let url = format!("{}?options=-csearch_path%3Dpublic%2Cdeaf%2Cpg_catalog", database.url());
    let server = Server::start_at(url, |_| {}).await;
    let replica = server.replica().await;
    server.job("j", "k").await;
    let waiting = waits(&replica, 1).await;
    server.patch("j", json!({"stage": "x"})).await.is(200);
    assert_eq!(waiting.await.unwrap().is(200).json()["version"], 2);
    // The other one has committed nothing, and would be told nothing either.
    for server in [&server, &replica] {
        until_cautious(server, "polling", true).await;
        assert!(server.get("/metrics").await.text.contains("milepost_store_cautions{caution=\"polling\"} 1"));
    }
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_what_others_commit_cannot_be_read_is_told() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off"])).await.unwrap();
    database.value("CREATE ROLE owner LOGIN").await;
    database.value("CREATE SCHEMA owner AUTHORIZATION owner").await;
    let url = database.url().replace("milepost@", "owner@");
    let server = Server::start_at(url, |_| {}).await;
    let replica = server.replica().await;
    server.job("j", "k").await;
    let waiting = waits(&replica, 1).await;
    // Commits add to it nevertheless.
    database.value("REVOKE SELECT ON owner.feed FROM owner").await;
    until_cautious(&replica, "feed_unreadable", true).await;
    let metrics = replica.get("/metrics").await.text;
    assert!(metrics.contains("milepost_store_cautions{caution=\"feed_unreadable\"} 1"), "{metrics}");
    server.patch("j", json!({"stage": "x"})).await.is(200);
    assert_eq!(replica.read("j").await["stage"], "x");
    database.value("GRANT SELECT ON owner.feed TO owner").await;
    assert_eq!(waiting.await.unwrap().is(200).json()["version"], 2, "nothing of it was missed");
    until_cautious(&replica, "feed_unreadable", false).await;
    replica.stop().await;
    server.stop().await;
}

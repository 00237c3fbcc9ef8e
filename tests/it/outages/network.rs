//! The network between the service and its database fails: it breaks, it says nothing, it brings what was sent when nobody
//! waits for it any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use milepost::config::Config;
use serde_json::json;

use super::{Load, impatient, until_ready, until_written};
use crate::{
    campaign::given,
    harness::{
        PATIENCE, Server,
        network::{Link, Network},
        postgres::{self, Database},
    },
    random::Random,
};

/// How long the service waits for its database, seconds.
const WAIT: u64 = 2;

/// Two replicas, each with a network of its own to one database.
async fn two() -> [(Network, Arc<Server>); 2] {
    let url = postgres::empty_store().await;
    let mut two = Vec::new();
    for _ in 0..2 {
        let (url, network) = behind_a_network(&url).await;
        let configure = |config: &mut Config| {
            impatient(config, Duration::from_secs(WAIT));
            // Each line is looked for at the end.
            config.logs.job_lines_max = 100_000_000;
            config.logs.job_log_bytes_max = 1 << 40;
        };
        two.push((network, Arc::new(Server::start_at(url, configure).await)));
    }
    two.try_into().unwrap_or_else(|_| unreachable!())
}

async fn behind_a_network(url: &str) -> (String, Network) {
    let (before, rest) = url.split_once('@').unwrap();
    let (address, after) = rest.split_once('/').unwrap();
    let network = Network::to(address.parse().unwrap()).await;
    (format!("{before}@{}/{after}", network.address()), network)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_says_so_and_tells_nothing_old() {
    let [(network, near), (_other_network, other)] = two().await;
    near.job("j", "k").await;
    other.patch("j", json!({"stage": "begun"})).await.is(200);
    for (link, round) in [(Link::Silent, 1), (Link::Deaf, 2), (Link::Broken, 3)] {
        network.set(link);
        let stage = json!({"stage": format!("{link:?}")});
        let begun = Instant::now();
        // What it has in memory may not be so any more, and it can't know.
        other.patch("j", stage.clone()).await.is(200);
        near.get("/jobs/j").await.refused(503, "storage_unavailable");
        let answer = near.patch("j", json!({"stage": "nobody knows"})).await;
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
        answer.refused(503, "storage_unavailable");
        until_ready(&near, false).await;
        assert!(begun.elapsed() < Duration::from_secs(10 * WAIT), "{:?}", begun.elapsed());
        until_ready(&other, true).await;
        network.set(Link::Up);
        until_ready(&near, true).await;
        let (told, there) = (near.read("j").await, other.read("j").await);
        assert_eq!(told, there);
        // A change that got through, or gets through late, is one change.
        let version = told["version"].as_u64().unwrap();
        assert!((2 + round..=2 + 2 * round).contains(&version), "{told}");
    }
    near.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_comes_and_goes_loses_and_doubles_nothing() {
    rounds(6).await;
}

/// `make failover`: so often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make failover"]
async fn network_campaign() {
    rounds(given("MILEPOST_NETWORK_CUTS").unwrap_or(100)).await;
}

async fn rounds(count: u64) {
    let mut random = Random::new(7);
    let [(one_network, one), (other_network, other)] = two().await;
    let servers = [one, other];
    let load = Load::begin(&servers).await;
    for round in 0..count {
        load.goes_on(random.below(100) as usize).await;
        let link = [Link::Silent, Link::Deaf, Link::Broken][(round % 3) as usize];
        let cut = if random.percent(50) { &one_network } else { &other_network };
        cut.set(link);
        // Shorter than anybody waits, and longer.
        tokio::time::sleep(Duration::from_millis(random.below(2_500 * WAIT))).await;
        cut.set(Link::Up);
        for server in &servers {
            until_written(server, &format!("round-{round}")).await;
        }
    }
    for server in &servers {
        until_ready(server, true).await;
    }
    load.end(&servers[0]).await;
    for server in servers {
        server.stop().await;
    }
}

/// A replica that is cut off in the middle of something keeps the others from it for a while only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_holds_nothing_for_long() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off"])).await.unwrap();
    let (url, network) = behind_a_network(database.url()).await;
    let server = Server::start_at(url, |config| {
        impatient(config, Duration::from_secs(WAIT));
        config.postgres.statement_seconds = 1;
    })
    .await;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    let turns = async |is_held: bool, within| {
        let turned = async { while (database.value(held).await != "0") != is_held {} };
        tokio::time::timeout(within, turned).await.is_ok()
    };
    // Its upkeep begins a transaction each second, if others have left it a connection that was there before.
    let cut_off = async {
        loop {
            network.set(Link::Deaf);
            if turns(true, Duration::from_secs(2)).await {
                return;
            }
            network.set(Link::Up);
            until_ready(&server, true).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, cut_off).await.expect("its upkeep is cut off");
    assert!(turns(false, PATIENCE).await, "the transaction of who is cut off stays");
    network.set(Link::Up);
    until_ready(&server, true).await;
    server.stop().await;
}

/// Of two hosts the one that takes connections and says nothing does not keep the service from the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_nothing_is_passed_over() {
    let database = tokio::task::spawn_blocking(|| Database::start(&["fsync=off"])).await.unwrap();
    let (url, network) = behind_a_network(database.url()).await;
    let (_, address) = database.url().rsplit_once('@').unwrap();
    let (address, _) = address.split_once('/').unwrap();
    network.set(Link::Silent);
    let both = url.replace(&network.address().to_string(), &format!("{},{address}", network.address()));
    let server = Server::start_at(both, |_| {}).await;
    server.job("j", "k").await;
    until_ready(&server, true).await;
    server.stop().await;
}

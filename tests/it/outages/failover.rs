//! The primary dies and its synchronous standby takes over, or it crashes and comes back, while three replicas serve.

use std::time::Duration;

use super::{Load, until_written};
use crate::{
    campaign::given,
    harness::{Server, cluster::Cluster, script::aside},
};

/// Has a cluster do something.
async fn say(cluster: Cluster, commands: &'static [&'static str]) -> Cluster {
    aside(cluster, |cluster| commands.iter().for_each(|command| cluster.say(command))).await
}

/// So many fail-overs, each with a restart after it, under load; how long changes were not taken after a promotion, at the most.
async fn campaign(rounds: usize) -> Duration {
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let replicas = cluster.replicas();
    let load = Load::begin(&replicas).await;
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        load.goes_on(50).await;
        cluster = say(cluster, &["kill primary", "promote"]).await;
        for (number, replica) in replicas.iter().enumerate() {
            longest = longest.max(until_written(replica, &format!("promoted-{round}-{number}")).await);
        }
        load.goes_on(20).await;
        cluster = say(cluster, &["rebuild"]).await;
        load.goes_on(50).await;
        cluster = say(cluster, &["restart primary"]).await;
        let balancer = cluster.balancer();
        until_written(&balancer, &format!("restarted-{round}")).await;
    }
    load.end(&replicas[0]).await;
    // Each replica and the balancer tell the same.
    let document = |server: &Server| server.get("/jobs/shared");
    let told = document(&replicas[1]).await.is(200).text;
    assert_eq!(document(&replicas[2]).await.is(200).text, told);
    assert_eq!(document(&cluster.balancer()).await.is(200).text, told);
    tokio::task::spawn_blocking(move || drop(cluster)).await.unwrap();
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_takes_nothing_with_it() {
    let longest = campaign(1).await;
    println!("changes were taken {longest:?} after a promotion at the latest");
}

/// `make failover`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make failover"]
async fn failover_campaign() {
    let rounds = given("MILEPOST_FAILOVERS").unwrap_or(30);
    let longest = campaign(rounds).await;
    println!(
        "{rounds} fail-overs and {rounds} restarts; changes were taken {longest:?} after a promotion at the latest"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

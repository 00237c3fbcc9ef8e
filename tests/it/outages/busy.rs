//! The database is there, and has no time or no connection for the service.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::{Client, NoTls};

use super::{
    full::{LEASE_SECONDS, put_leased, the_worker_goes_on},
    impatient, start, until_ready,
};
use crate::harness::{Call, postgres::Database};

/// How long the service waits for a statement or a commit.
const WAIT: Duration = Duration::from_secs(1);

/// Somebody else's connection to the database, which ends with the client.
async fn other(database: &Database) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What the problem says of a call that is refused in time.
async fn refused_in_time(call: Call) -> String {
    let begun = Instant::now();
    let answer = call.await;
    let took = begun.elapsed();
    assert!(took >= WAIT && took < 5 * WAIT, "{took:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    answer.refused(503, "storage_unavailable")["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_slow_is_waited_for_so_long_and_no_longer() {
    let (database, server) = start(&["fsync=off"], |config| impatient(config, WAIT)).await;
    put_leased(&server).await;
    let slow = other(&database).await;
    let schema = server.value("SELECT current_schema()").await;
    slow.batch_execute(&format!("BEGIN; LOCK TABLE {schema}.heads IN ACCESS EXCLUSIVE MODE")).await.unwrap();

    let change = json!({"attempt": 1, "stage": "s", "log": "once"});
    let detail = refused_in_time(server.patch("j", change)).await;
    assert!(detail.contains("is not known"), "it may still be made: {detail}");
    refused_in_time(server.get("/jobs/j")).await;

    // The lease runs out while the worker cannot renew it, although whoever only looks finds the database well.
    server.pass(Duration::from_secs(LEASE_SECONDS + 1));
    server.post("/jobs/j/heartbeat", json!({"attempt": 1})).await.refused(503, "storage_unavailable");
    server.get("/readyz").await.refused(503, "storage_unavailable");

    slow.batch_execute("COMMIT").await.unwrap();
    until_ready(&server, true).await;
    // What was given up may be made now that nothing is in its way; whoever has read the job knows.
    let line = json!({"attempt": 1, "writer": "w", "seq": 1, "lines": ["counted"]});
    server.post("/jobs/j/logs", line.clone()).await.is(200);
    server.post("/jobs/j/logs", line).await.is(200);
    let log = server.get("/jobs/j/logs").await.is(200).json();
    let lines: Vec<_> = log["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap()).collect();
    assert!(matches!(lines[..], ["once", "counted"] | ["counted"]), "{lines:?}");
    the_worker_goes_on(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_a_connection_to_spare_is_told_of_and_used_again() {
    let (database, server) =
        start(&["fsync=off", "max_connections=12", "superuser_reserved_connections=0"], |config| {
            impatient(config, WAIT)
        })
        .await;
    server.job("j", "k").await;
    // Whoever takes what the service lets go of. Its own are ended until all are somebody else's.
    const MINE: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'milepost'";
    let first = other(&database).await;
    let mut others = Vec::new();
    while first.query_one(MINE, &[]).await.unwrap().get::<_, i64>(0) > 0 || others.len() < 11 {
        const END: &str =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'milepost' LIMIT 1";
        first.query(END, &[]).await.unwrap();
        if let Ok((client, connection)) = tokio_postgres::connect(database.url(), NoTls).await {
            tokio::spawn(connection);
            others.push(client);
        }
    }
    until_ready(&server, false).await;
    let health = server.get("/health").await.is(200).json();
    assert_eq!(health["store"]["status"], "unavailable", "{health}");
    for answer in [server.patch("j", json!({"stage": "s"})).await, server.get("/jobs/j").await] {
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
        answer.refused(503, "storage_unavailable");
    }
    drop(others);
    until_ready(&server, true).await;
    assert_eq!(server.read("j").await["version"], 1, "nothing was made that was refused");
    server.patch("j", json!({"stage": "s"})).await.is(200);
    server.stop().await;
}

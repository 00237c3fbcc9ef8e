//! The disk of a store is full: changes are refused, reads go on, and no worker loses its job for it.

use std::{process::Command, time::Duration};

use serde_json::json;

use super::{start, until_ready};
use crate::{
    campaign::faults::full::SmallDisk,
    harness::{Server, script::aside},
};

pub(super) const LEASE_SECONDS: u64 = 30;

/// Changes the job of a worker until the disk is full, and lets its lease run out meanwhile. How many changes were made.
async fn full_for_longer_than_a_lease(server: &Server) -> u64 {
    let change = json!({"attempt": 1, "log": "x".repeat(8000)});
    let mut made = 0;
    while server.patch("j", change.clone()).await.status == 200 {
        made += 1;
        assert!(made < 10_000, "the disk is never full");
    }
    // What is small may find room where that does not.
    let heartbeat = json!({"attempt": 1});
    let mut renewed = 0;
    while server.post("/jobs/j/heartbeat", heartbeat.clone()).await.status == 200 {
        renewed += 1;
        // Otherwise there is nothing to renew.
        server.pass(Duration::from_millis(1));
        assert!(renewed < 10_000, "the disk is never full to the last byte");
    }
    server.pass(Duration::from_secs(LEASE_SECONDS + 1));
    // For a while on the wall as well, with several looks at what is due and at how the store stands; reads go on.
    for _ in 0..3 {
        server.patch("j", change.clone()).await.refused(507, "storage_full");
        server.post("/jobs/j/heartbeat", heartbeat.clone()).await.refused(507, "storage_full");
        let read = server.get(&format!("/jobs/j?since={}&wait=1", made + 1)).await;
        assert!(matches!(read.status, 200 | 304), "{read:?}");
        assert_eq!(server.read("j").await["version"], made + 1);
    }
    made
}

/// A job in the hands of a worker.
pub(super) async fn put_leased(server: &Server) {
    let leased = json!({"kind": "k", "status": "processing", "lease_seconds": LEASE_SECONDS});
    server.put("/jobs/j", leased).await.is(201);
}

/// The worker has its job, with a whole lease from now on.
pub(super) async fn the_worker_goes_on(server: &Server) {
    // What is due is looked for, and done: a job that nobody waits for is gone by then.
    server.put("/jobs/due", json!({"kind": "k", "queue_ttl_seconds": 1})).await.is(201);
    server.pass(Duration::from_secs(LEASE_SECONDS - 1));
    server.until("due", |job| job["outcome"] == "expired").await;
    let receipt = server.post("/jobs/j/heartbeat", json!({"attempt": 1})).await.is(200).json();
    assert_eq!(receipt["status"], "processing", "{receipt}");
    server.pass(Duration::from_secs(LEASE_SECONDS + 1));
    server.until("j", |job| job["outcome"] == "lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_no_job_from_its_worker() {
    let Some(disk) = SmallDisk::mount("a_full_disk_takes_no_job_from_its_worker") else { return };
    let server = Server::start_at(disk.store().to_str().unwrap().to_owned(), |_| {}).await;
    put_leased(&server).await;
    disk.fill_up_to(500_000);
    let made = full_for_longer_than_a_lease(&server).await;
    disk.make_room();
    assert_eq!(server.read("j").await["log_count"], made);
    the_worker_goes_on(&server).await;
    server.stop().await;
}

/// Whether scripts/throwaway-postgres may mount a disk of its own.
fn may_mount() -> bool {
    let mount = r#"owner=; [ "$(id -u)" = 0 ] || owner="--user --map-root-user"
        exec unshare $owner --mount --propagation private mount -t tmpfs none /tmp"#;
    Command::new("sh").args(["-c", mount]).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_a_full_disk_is_read_and_said_to_be_full() {
    if !may_mount() {
        eprintln!("SKIPPED: a_database_with_a_full_disk_is_read_and_said_to_be_full needs to mount a tmpfs");
        return;
    }
    let (database, server) = start(&["disk=160m", "fsync=off"], |_| {}).await;
    put_leased(&server).await;
    until_ready(&server, true).await;
    let database = aside(database, |database| database.fill()).await;
    let made = full_for_longer_than_a_lease(&server).await;
    // Also when a look at the database has found nothing wrong with it since.
    server.get("/readyz").await.refused(507, "storage_full");
    let health = server.get("/health").await.is(200).json();
    assert_eq!(health["store"]["status"], "unavailable");
    assert!(health["store"]["detail"].as_str().unwrap().contains("is full"), "{health}");
    let database = aside(database, |database| database.free()).await;
    // By itself: nobody sends changes to what is not ready.
    until_ready(&server, true).await;
    assert_eq!(server.read("j").await["log_count"], made);
    the_worker_goes_on(&server).await;
    server.stop().await;
    drop(database);
}

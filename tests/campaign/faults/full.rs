//! A disk that is full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;

use super::{Api, Heard};
use crate::campaign::process::{Launch, Server};

/// A small disk of its own, with something on it that takes room and can go.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and said loudly, where disks cannot be mounted.
    pub(crate) fn mount(test: &str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(directory.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(directory)),
            refused => {
                eprintln!("SKIPPED: {test} needs to mount a tmpfs, which takes root: {refused:?}");
                None
            }
        }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Leaves so many bytes.
    pub(crate) fn fill_up_to(&self, bytes: usize) {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(self.0.path()).output().unwrap();
        let free: usize = String::from_utf8(output.stdout).unwrap().lines().last().unwrap().trim().parse().unwrap();
        fs::write(self.ballast(), vec![1; free.saturating_sub(bytes)]).unwrap();
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        let unmounted = unmounted.is_ok_and(|status| status.success());
        assert!(unmounted || std::thread::panicking(), "{} stays mounted", self.0.path().display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_heals() {
    let Some(disk) = SmallDisk::mount("a_full_disk_refuses_and_heals") else { return };
    let directory = TempDir::new().unwrap();
    let start = || start(&disk, directory.path(), 1_000);
    let mut server = start().await;
    assert_eq!(Api::of(&server).put("a").await.0, 201);
    let mut acknowledged = 0;
    // Filled to another point each time, by changes of another size.
    for (round, bytes) in [100, 3_000, 40, 700].into_iter().enumerate() {
        let api = Api::of(&server);
        disk.fill_up_to(400_000 + round * 123_456);
        acknowledged = write_until_full(&api, acknowledged, bytes).await;

        let (status, job) = api.get("/jobs/a").await;
        assert_eq!((status, job["version"].as_u64()), (200, Some(acknowledged + 1)), "reads go on");
        assert_eq!(api.get("/jobs").await.0, 200);
        assert_eq!(api.get("/jobs/a/logs?limit=5").await.1["lines"].as_array().map(Vec::len), Some(5));
        is_full(&api.patch("a", acknowledged + 1, bytes + 2_000).await);

        disk.make_room();
        let (status, body) = api.patch("a", acknowledged + 1, bytes).await;
        assert_eq!(status, 200, "round {round}, there is room again: {body}");
        acknowledged += 1;
        if round % 2 == 1 {
            server.kill().dead();
            server = start().await;
        }
        everything_is_there(&Api::of(&server), acknowledged).await;
    }
    server.kill().dead();
}

/// The index of the write-ahead log grows when everything else of a commit is on the disk already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_disk_refused_does_not_come_back() {
    /// Where the index of a log of 1 KiB pages needs its second block, see walIndexAppend() in SQLite's wal.c.
    const BLOCK: usize = 4062 * (1024 + 24);
    let Some(disk) = SmallDisk::mount("what_a_full_disk_refused_does_not_come_back") else { return };
    let directory = TempDir::new().unwrap();
    let start = || start(&disk, directory.path(), 20_000);
    let server = start().await;
    let api = Api::of(&server);
    assert_eq!(api.put("a").await.0, 201);
    let log_bytes = || fs::metadata(disk.store().join("milepost.db-wal")).unwrap().len() as usize;
    let mut acknowledged = 0;
    while log_bytes() < BLOCK - 80_000 {
        acknowledged += 1;
        assert_eq!(api.patch("a", acknowledged, 3_000).await.0, 200);
    }
    disk.fill_up_to(BLOCK - log_bytes() + 20_000);
    acknowledged = write_until_full(&api, acknowledged, 1).await;
    let index_bytes = fs::metadata(disk.store().join("milepost.db-shm")).unwrap().len();
    assert!(index_bytes > 32_768, "the index has tried to grow: {index_bytes} bytes");
    server.kill().dead();

    // With room for the index, so that a transaction which stands in the log comes back; and where the log ends just at
    // the block, nothing could be recovered without it.
    disk.fill_up_to(65_536);
    let server = start().await;
    let api = Api::of(&server);
    assert_eq!(api.get("/jobs/a").await.1["version"].as_u64(), Some(acknowledged + 1), "it was refused");
    disk.make_room();
    assert_eq!(api.patch("a", acknowledged + 1, 1).await.0, 200);
    everything_is_there(&api, acknowledged + 1).await;
    server.kill().dead();
}

async fn start(disk: &SmallDisk, directory: &Path, checkpoint_pages: u32) -> Server {
    let launch = Launch::serve(&disk.store(), &directory.join("log"));
    launch.env("MILEPOST_SQLITE_CHECKPOINT_PAGES", checkpoint_pages).listening().await
}

/// Changes the job until the disk is full, and returns how many changes were acknowledged.
async fn write_until_full(api: &Api, mut acknowledged: u64, bytes: usize) -> u64 {
    loop {
        let heard = api.patch("a", acknowledged + 1, bytes).await;
        if heard.0 != 200 {
            is_full(&heard);
            return acknowledged;
        }
        acknowledged += 1;
        assert_eq!(heard.1["version"].as_u64(), Some(acknowledged + 1));
        assert!(acknowledged < 100_000, "the disk is never full");
    }
}

#[track_caller]
fn is_full(heard: &Heard) {
    assert_eq!((heard.0, &heard.1["code"]), (507, &json!("storage_full")), "{}", heard.1);
}

/// Every line that was acknowledged, in its place, and the last state.
async fn everything_is_there(api: &Api, acknowledged: u64) {
    let (_, job) = api.get("/jobs/a?logs=0").await;
    assert_eq!(job["stage"], format!("step {acknowledged}"));
    assert_eq!(job["log_count"].as_u64(), Some(acknowledged));
    let mut after = 0;
    while after < acknowledged {
        let (_, page) = api.get(&format!("/jobs/a/logs?after={after}")).await;
        for line in page["lines"].as_array().unwrap() {
            after += 1;
            let text = line["line"].as_str().unwrap();
            assert!(text.starts_with(&format!("{after} ")), "line {after} is {text}");
        }
    }
}

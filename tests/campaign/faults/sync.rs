//! A sync that fails.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{Api, Heard};
use crate::campaign::process::Launch;

/// Pages of a log that is never moved into the tables here.
const LONG_LOG: u32 = 20_000;

/// What the disk has after a failed sync is nobody's knowledge, and syncing again would only seem to help: nothing is
/// acknowledged any more, and a restart looks at what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_poisons_the_store() {
    // With a log that is never moved into the tables the sync of a commit fails, with a short one that of the tables or
    // of the log may be the one.
    for (failing, checkpoint_pages) in [(10, LONG_LOG), (9, 100), (13, 100), (14, 100)] {
        let directory = TempDir::new().unwrap();
        fail_a_sync(directory.path(), failing, checkpoint_pages, None).await;
    }
}

/// Checkpoints sync the tables, beside the commits or in between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_a_checkpoint_poisons_the_store() {
    for failing in [1, 2] {
        let directory = TempDir::new().unwrap();
        fail_a_sync(directory.path(), failing, 100, Some("milepost.db")).await;
    }
}

/// A sync of this file of the store fails, or of any.
async fn fail_a_sync(directory: &Path, failing: u32, checkpoint_pages: u32, file: Option<&str>) {
    let (store, log, trace) = (directory.join("store"), directory.join("log"), directory.join("trace"));
    let server = Launch::serve(&store, &log).listening().await;
    assert_eq!(Api::of(&server).put("a").await.0, 201);
    assert!(server.stop().await.success());

    // Each thread's calls are counted on their own.
    let inject = format!("inject=fdatasync:error=EIO:when={failing}");
    let file = file.map(|name| store.join(name));
    let mut strace = tracing("trace=fdatasync,fsync", &trace);
    strace.extend(["-e", &inject]);
    strace.extend(file.iter().flat_map(|file| ["-P", file.to_str().unwrap()]));
    strace.push("--");
    let launch = Launch::under(&strace, &store, &log).env("MILEPOST_SQLITE_CHECKPOINT_PAGES", checkpoint_pages);
    let server = launch.listening().await;
    let api = Api::of(&server);
    let mut acknowledged = 1;
    let refusal = loop {
        let (status, body) = api.patch("a", acknowledged, 3_000).await;
        if status != 200 {
            break (status, body);
        }
        acknowledged = body["version"].as_u64().unwrap();
        // A checkpointer that gets little of the processor makes few passes in many commits.
        assert!(acknowledged < 2_000, "no sync has failed");
    };
    is_unavailable(&refusal);
    nothing_is_written(&api).await;
    assert_eq!(api.get("/readyz").await.0, 503);
    assert_eq!(api.get("/livez").await.0, 200);
    let (status, job) = api.get("/jobs/a?logs=all").await;
    assert_eq!((status, job["version"].as_u64()), (200, Some(acknowledged)), "reads show what was acknowledged");
    assert_eq!(job["logs"].as_array().map(Vec::len), Some(acknowledged as usize - 1));
    assert_eq!(api.get("/jobs").await.1["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.stop().await.code(), Some(1), "a stop that could not keep everything is not a clean one");
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("the store takes no more writes"), "{logged}");
    let trace = fs::read_to_string(trace).unwrap();
    no_pass_begins_after_a_failed_sync(&trace, &store);

    // What the failed sync was to make durable is there or not; all that was acknowledged is.
    let trace = directory.join("trace of the next");
    let version = is_there(&store, &log, acknowledged, &trace).await;
    assert!(version <= acknowledged + 1, "{version} after {acknowledged}");
    let secured = the_log_is_secured(&fs::read_to_string(trace).unwrap(), &store);
    // A short one may have been about to begin anew.
    assert!(secured > 0 || checkpoint_pages < LONG_LOG, "all commits are in the log");

    let server = Launch::serve(&store, &log).listening().await;
    let api = Api::of(&server);
    assert_eq!(api.patch("a", version, 100).await.0, 200);
    assert_eq!(api.get("/readyz").await.0, 200);
}

/// A tracer of these calls beside the server (-D), so that the process we started is the server; with the paths of files (-y).
fn tracing<'a>(calls: &'a str, trace: &'a Path) -> Vec<&'a str> {
    vec!["strace", "-D", "-f", "-y", "-o", trace.to_str().unwrap(), "-e", calls]
}

/// A sync after one that failed says nothing, and is not made; only a checkpoint beside the one who fails may have begun
/// already. It moves what was known to be durable before, and syncs the log, its directory the first time (SQLite does it
/// for each handle that may have created the file), and then the tables: when it has reached the end of the log, and after
/// every pass, which may both be.
fn no_pass_begins_after_a_failed_sync(trace: &str, store: &Path) {
    let lines: Vec<_> = trace.lines().collect();
    let failed = lines.iter().position(|line| line.contains("(INJECTED)")).expect("a sync has failed");
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let later: Vec<_> = lines[failed + 1..].iter().filter(|line| line.contains("sync(")).collect();
    let tables = store.join("milepost.db");
    let mut pass = [store.join("milepost.db-wal"), store.to_owned(), tables.clone(), tables].into_iter();
    let mut is_next = |line: &str| pass.any(|file| line.contains(&format!("<{}>", file.display())));
    assert!(later.iter().all(|line| is_next(line)), "more than what is left of one pass: {later:#?}");
    assert!(later.iter().all(|line| thread(line) == thread(later[0])), "{later:#?}");
    assert!(later.iter().all(|line| thread(line) != thread(lines[failed])), "{later:#?}");
}

/// What a recovery has found may be in the system's memory only: before anybody is served all of it is written anew, and synced.
/// How many bytes those are. (That it has to be is for `crash::disk_campaign` to show.)
fn the_log_is_secured(trace: &str, store: &Path) -> u64 {
    let of_log = format!("<{}>", store.join("milepost.db-wal").display());
    let before: Vec<_> = trace.lines().take_while(|line| !line.contains("listen(")).collect();
    let mut calls = before.iter().filter(|line| line.contains(&of_log)).skip_while(|line| !line.contains("pwrite64("));
    let mut written = 0;
    let is_synced = calls.any(|line| {
        let (call, result) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("{line}"));
        if line.contains("pwrite64(") {
            let (_, offset) =
                call.trim_end().trim_end_matches(')').rsplit_once(", ").unwrap_or_else(|| panic!("{line}"));
            assert_eq!(offset.parse(), Ok(written), "from one end to the other: {line}");
        }
        written += result.trim().parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
        line.contains("fdatasync(")
    });
    assert_eq!(written, committed_bytes(&fs::read(store.join("milepost.db-wal")).unwrap()), "{before:#?}");
    assert!(is_synced || written == 0, "{before:#?}");
    written
}

/// How long a write-ahead log is up to its last commit, if it has one; see <https://www.sqlite.org/fileformat2.html#walformat>.
fn committed_bytes(log: &[u8]) -> u64 {
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let (page_bytes, salts) = (number(8) as usize, &log[16..24]);
    let frames = log[32..].chunks_exact(24 + page_bytes).take_while(|frame| frame[8..16] == *salts);
    let is_commit = |frame: &[u8]| frame[4..8] != [0; 4];
    let last = frames.enumerate().filter(|(_, frame)| is_commit(frame)).last();
    last.map_or(0, |(at, _)| 32 + ((at + 1) * (24 + page_bytes)) as u64)
}

/// Starts a server, sees that it has at least this version of the job, kills it again and returns which one it has.
async fn is_there(store: &Path, log: &Path, acknowledged: u64, trace: &Path) -> u64 {
    let mut strace = tracing("trace=pwrite64,fdatasync,listen", trace);
    strace.push("--");
    let server = Launch::under(&strace, store, log).listening().await;
    let (status, job) = Api::of(&server).get("/jobs/a?logs=all").await;
    server.kill().dead();
    let version = job["version"].as_u64().unwrap_or_default();
    assert!(status == 200 && version >= acknowledged, "version {acknowledged} was acknowledged: {job}");
    assert_eq!(job["logs"].as_array().map(Vec::len), Some(version as usize - 1));
    version
}

async fn nothing_is_written(api: &Api) {
    let line = json!({"line": "x"});
    let batch = json!([{"op": "log", "id": "a", "line": "x"}, {"op": "create", "id": "c", "kind": "restyle"}]);
    for number in 0..3 {
        is_unavailable(&api.patch("a", 1_000 + number, 100).await);
        is_unavailable(&api.put("b").await);
        is_unavailable(&api.ask(Method::POST, "/jobs", Some(json!({"kind": "restyle"}))).await);
        is_unavailable(&api.ask(Method::POST, "/jobs/a/logs", Some(line.clone())).await);
        is_unavailable(&api.ask(Method::DELETE, "/jobs/a", None).await);
        let (status, answer) = api.ask(Method::POST, "/batch", Some(batch.clone())).await;
        let results = answer["results"].as_array().unwrap();
        assert_eq!((status, results.len()), (200, 2));
        assert!(results.iter().all(|result| result["status"] == 503), "{answer}");
    }
}

#[track_caller]
fn is_unavailable(heard: &Heard) {
    assert_eq!((heard.0, &heard.1["code"]), (503, &json!("storage_unavailable")), "{}", heard.1);
}

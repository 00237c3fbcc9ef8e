//! Stores that another process has, that a newer program has written, and in which bits have flipped.

use std::{fs, path::Path};

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Api;
use crate::{campaign::process::Launch, random::Random, stream::Events};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused() {
    let directory = TempDir::new().unwrap();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let first = Launch::serve(&store, &log).listening().await;
    let second = Launch::serve(&store, &directory.path().join("second")).start().listening().await;
    let (status, logged) = second.err().expect("two processes have the store");
    assert_eq!(status.code(), Some(1));
    assert!(logged.contains("another process is using the store"), "{logged}");
    assert_eq!(Api::of(&first).put("a").await.0, 201, "the first one is not disturbed");
    first.kill().dead();
    // What a dead process had is free.
    let third = Launch::serve(&store, &log).listening().await;
    assert_eq!(Api::of(&third).get("/jobs/a").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused() {
    let directory = TempDir::new().unwrap();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let server = Launch::serve(&store, &log).listening().await;
    assert_eq!(Api::of(&server).put("a").await.0, 201);
    assert!(server.stop().await.success());
    let format = |number: &str| {
        let connection = Connection::open(store.join("milepost.db")).unwrap();
        let before: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        connection.execute_batch(&format!("PRAGMA user_version = {number}")).unwrap();
        before.to_string()
    };
    let before = format("1000");
    let newer = Launch::serve(&store, &log).start().listening().await;
    let (status, logged) = newer.err().expect("it serves a store that it does not know");
    assert_eq!(status.code(), Some(1));
    assert!(logged.contains("format 1000") && logged.contains("newer version"), "{logged}");
    assert_eq!(format(&before), "1000", "it was left alone");
    let server = Launch::serve(&store, &log).listening().await;
    assert_eq!(Api::of(&server).get("/jobs/a").await.0, 200);
}

/// Damage is found when it is read, named in the server's log, and the trouble of no other job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_named() {
    const JOBS: usize = 12;
    let directory = TempDir::new().unwrap();
    let whole = directory.path().join("whole");
    let server = Launch::serve(&whole, &directory.path().join("log")).listening().await;
    let api = Api::of(&server);
    for job in 0..JOBS {
        assert_eq!(api.put(&job.to_string()).await.0, 201);
        for number in 0..3 {
            assert_eq!(api.patch(&job.to_string(), number, 50 + job * 40).await.0, 200);
        }
    }
    assert!(server.stop().await.success());
    let mut random = Random::new(7);
    for table in ["heads", "details", "results", "inputs", "log_rows"] {
        for _ in 0..2 {
            let store = directory.path().join("damaged");
            fs::create_dir_all(&store).unwrap();
            fs::copy(whole.join("milepost.db"), store.join("milepost.db")).unwrap();
            let file = store.join("milepost.db");
            let row = flip(&file, &values(&file, table), &mut random);
            let log = directory.path().join("damaged.log");
            look_around(&store, &log, JOBS, &format!("{table} {row}")).await;
            fs::remove_file(log).unwrap();
            fs::remove_dir_all(store).unwrap();
        }
    }
}

/// Nobody is told of another's job, or changes it, by an id that leads astray.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_leads_to_another_job_is_found_out() {
    let directory = TempDir::new().unwrap();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let server = Launch::serve(&store, &log).listening().await;
    let api = Api::of(&server);
    for job in ["a", "b"] {
        assert_eq!(api.put(job).await.0, 201);
    }
    assert!(server.stop().await.success());
    let connection = Connection::open(store.join("milepost.db")).unwrap();
    connection.execute("UPDATE ids SET job = (SELECT job FROM ids WHERE id = 'b') WHERE id = 'a'", []).unwrap();
    drop(connection);
    let server = Launch::serve(&store, &log).listening().await;
    let api = Api::of(&server);
    assert!(matches!(api.get("/jobs/a").await.0, 500 | 503));
    assert!(matches!(api.patch("a", 0, 10).await.0, 500 | 503));
    assert!(matches!(api.ask(Method::DELETE, "/jobs/a", None).await.0, 500 | 503));
    let (status, untouched) = api.get("/jobs/b").await;
    assert_eq!((status, &untouched["id"], &untouched["version"]), (200, &json!("b"), &json!(1)));
    assert!(server.stop().await.success());
    let logged = fs::read_to_string(log).unwrap();
    assert!(logged.contains(r#"ids \"a\": leads to \"b\""#), "{logged}");
}

/// Who is behind a damaged entry of the feed is told to read the list anew, and then of what comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_feed_is_a_reset() {
    let directory = TempDir::new().unwrap();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let server = Launch::serve(&store, &log).listening().await;
    let api = Api::of(&server);
    for job in ["a", "b", "c"] {
        assert_eq!(api.put(job).await.0, 201);
    }
    assert!(server.stop().await.success());
    let file = store.join("milepost.db");
    let entry = |row: i64| (row & ((1 << 46) - 1)).to_string();
    // The beginning, and one for each job.
    let rows = values(&file, "feed");
    assert_eq!(rows.len(), 4);
    let damaged = flip(&file, &rows[2..3], &mut Random::new(7));
    assert_eq!(damaged, rows[2].0);
    let server = Launch::serve(&store, &log).listening().await;
    let api = Api::of(&server);
    let url = format!("{}/events", server.url);
    let open = |after: i64| Events::open(api.http.get(&url).header("last-event-id", entry(after)).into());
    let names = async |events: &mut Events, count| {
        events.take(count).await.into_iter().map(|event| event.name).collect::<Vec<_>>()
    };
    let mut behind = open(rows[1].0).await;
    assert_eq!(names(&mut behind, 2).await, ["reset", "ready"]);
    let mut ahead = open(damaged).await;
    assert_eq!(names(&mut ahead, 2).await, ["job", "ready"]);
    assert_eq!(api.patch("a", 0, 10).await.0, 200);
    for events in [&mut behind, &mut ahead] {
        let told = events.next().await.unwrap();
        assert_eq!((told.name.as_str(), &told.data["id"]), ("job", &json!("a")));
    }
    drop((behind, ahead));
    assert!(server.stop().await.success());
    let logged = fs::read_to_string(log).unwrap();
    assert!(
        logged.contains("part of a feed cannot be read") && logged.contains(&format!("feed {damaged}")),
        "{logged}"
    );
}

/// Flips one bit of one of these values, somewhere in the file, and returns which row it belongs to.
fn flip(file: &Path, rows: &[(i64, Vec<u8>)], random: &mut Random) -> i64 {
    let (row, body) = random.pick(rows).unwrap();
    // The beginning of a value is never broken between pages.
    let beginning = &body[..body.len().min(40)];
    let mut bytes = fs::read(file).unwrap();
    let is_it = |at: &usize| bytes[*at..].starts_with(beginning);
    // SQLite leaves old copies behind where it moves values.
    let places: Vec<usize> = (0..bytes.len()).filter(is_it).collect();
    assert!(!places.is_empty(), "{row} is not in the file");
    let (byte, bit) = (random.below(beginning.len() as u64) as usize, random.below(8));
    places.iter().for_each(|at| bytes[at + byte] ^= 1 << bit);
    fs::write(file, bytes).unwrap();
    *row
}

/// The numbers and values of a table.
fn values(file: &Path, table: &str) -> Vec<(i64, Vec<u8>)> {
    let connection = Connection::open(file).unwrap();
    let mut select = connection.prepare(&format!("SELECT rowid, body FROM {table}")).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// One job is damaged, and that is said; all others are as they were, also after another start.
async fn look_around(store: &Path, log: &Path, jobs: usize, damage: &str) {
    for last in [false, true] {
        let server = Launch::serve(store, log).listening().await;
        let api = Api::of(&server);
        let mut damaged = Vec::new();
        for job in 0..jobs {
            let (status, body) = api.get(&format!("/jobs/{job}?logs=all&input=1")).await;
            if status == 200 {
                is_whole(job, &body);
                assert_eq!(api.patch(&job.to_string(), 3, 50).await.0, 200, "{damage}: other jobs take changes");
            } else {
                assert!(matches!(status, 500 | 503), "{damage}: {status} {body}");
                assert!(body["code"].is_string() && !body.to_string().contains("checksum"), "{damage}: {body}");
                damaged.push(job);
            }
        }
        let [job] = damaged[..] else { panic!("{damage}: jobs {damaged:?} are damaged") };
        // Whatever becomes of these, they come to an end, and the server lives on.
        let (listed, _) = api.get("/jobs").await;
        let (read, _) = api.get(&format!("/jobs/{job}/logs")).await;
        let (patched, _) = api.patch(&job.to_string(), 7, 10).await;
        assert!([listed, read, patched].iter().all(|status| matches!(status, 200 | 500 | 503)), "{damage}");
        if last {
            let (deleted, _) = api.ask(Method::DELETE, &format!("/jobs/{job}"), None).await;
            assert!(matches!(deleted, 204 | 500 | 503), "{damage}: {deleted}");
        }
        assert_eq!(api.get("/readyz").await.0, 200, "{damage}");
        assert!(server.stop().await.success(), "{damage}");
        // Written by then: no request waits for the log.
        let logged = fs::read_to_string(log).unwrap();
        assert!(logged.contains(damage), "job {job}: `{damage}` is not named in {logged}");
    }
}

fn is_whole(job: usize, body: &Value) {
    assert_eq!(body["input"], json!({"of": job.to_string()}));
    assert!(body["result"]["text"].is_string());
    let lines = body["logs"].as_array().unwrap();
    assert_eq!(Some(lines.len() as u64), body["log_count"].as_u64());
    for (number, line) in lines.iter().take(3).enumerate() {
        assert!(line.as_str().unwrap().starts_with(&format!("{number} ")), "{line}");
    }
}

//! `milepost verify`: a store without damage is said to be whole, and whatever is wrong in one is named.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::process::{Service, milepost};

/// What it says on stdout and on stderr, and its exit code.
fn verify(store: &Path) -> (String, String, Option<i32>) {
    let output = milepost(&["verify", "--store", store.to_str().unwrap()]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// Jobs of all sorts: queued, at work under a lease, done, tried again, with labels, inputs, results and logs; one was deleted.
fn fill(service: &Service) {
    for number in 0..8 {
        let job = json!({"kind": format!("kind-{}", number % 2), "labels": {"user": number.to_string()}, "input": number,
            "lease_seconds": 600, "log": ["one", "two"]});
        assert_eq!(service.call("PUT", &format!("/jobs/job-{number}"), &job).0, 201);
    }
    let patch = |id: &str, patch| {
        let (status, answer) = service.call("PATCH", &format!("/jobs/{id}"), &patch);
        assert_eq!(status, 200, "{answer}");
    };
    for id in ["job-0", "job-1", "job-2"] {
        patch(id, json!({"attempt": 1, "status": "processing", "stage": "x", "log": "three"}));
    }
    for id in ["job-1", "job-2"] {
        patch(id, json!({"attempt": 1, "status": "completed", "result": {"of": id}}));
    }
    assert_eq!(service.call("POST", "/jobs/job-2/retry", &json!({})).0, 200);
    assert_eq!(service.call("DELETE", "/jobs/job-7", &json!({})).0, 204);
}

#[test]
fn damage_is_named_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let service = Service::start(&store, &[]);
    fill(&service);
    let whole = "nothing is damaged: 7 jobs with 17 log lines\n";
    assert_eq!(verify(&store), (whole.to_owned(), String::new(), Some(0)), "beside the service");
    service.signal("TERM");
    assert_eq!(service.end().0, Some(0));
    assert_eq!(verify(&store), (whole.to_owned(), String::new(), Some(0)));

    for (damage, named) in [
        ("UPDATE heads SET body = x'00' WHERE job = 1", "heads 1: too short"),
        ("UPDATE heads SET body = (SELECT body FROM heads WHERE job = 2) WHERE job = 1", "heads 1: wrong checksum"),
        ("UPDATE heads SET job = 100 WHERE job = 1", "inputs: there is no job 1"),
        ("DELETE FROM details WHERE job = 1", "details 1: missing"),
        ("UPDATE ids SET id = 'other' WHERE id = 'job-3'", "ids \"job-3\": missing; it is the id of job 4"),
        ("UPDATE ids SET job = 3 WHERE id = 'job-3'", "leads to \"job-2\""),
        ("UPDATE ids SET job = 100 WHERE id = 'job-3'", "ids \"job-3\": there is no job 100"),
        ("INSERT INTO ids VALUES (0, 'more', 4, NULL)", "ids: 8 rows, and the jobs say 7"),
        ("UPDATE inputs SET job = 100 WHERE job = 3", "inputs: there is no job 100"),
        ("UPDATE inputs SET job = 8 WHERE job = 3", "inputs: there is no job 8"),
        ("UPDATE results SET body = x'0102030405' WHERE job = 2", "results 2: wrong checksum"),
        ("UPDATE lists SET status = 3 WHERE job = 4", "lists: job 4 is missing"),
        ("INSERT INTO lists VALUES (1, 3, 4)", "lists: 8 rows, and the jobs say 7"),
        ("DELETE FROM queue WHERE job = 4", "queue: job 4 is missing"),
        ("UPDATE queue SET rank = rank + 1 WHERE job = 4", "queue: job 4 is missing"),
        ("DELETE FROM deadlines", "deadlines: job 1 is missing"),
        ("INSERT INTO deadlines VALUES (1, 4)", "deadlines: 2 rows, and the jobs say 1"),
        ("UPDATE labels SET value = '9' WHERE job = 4", "labels: job 4 is missing"),
        ("INSERT INTO labels VALUES (0, 'v', 'k', 4)", "labels: 8 rows, and the jobs say 7"),
        ("UPDATE counts SET jobs = jobs + 1 WHERE status = 0", "are listed"),
        ("DELETE FROM log_rows WHERE log_row = 4", "log_rows 4: missing"),
        ("UPDATE log_rows SET body = x'00' WHERE log_row = 4", "log_rows 4: too short"),
        ("UPDATE timeline_rows SET body = x'00' WHERE row = 4", "timeline_rows 4: too short"),
        ("UPDATE attempts SET body = x'00'", "attempts 3: too short"),
        ("UPDATE attempts SET job = 100", "attempts: there is no job 100"),
        ("UPDATE feed SET body = x'00' WHERE row = (SELECT min(row) FROM feed)", ": too short"),
        ("UPDATE tallies SET body = x'00'", "tallies 1: too short"),
        ("UPDATE kinds SET name = 'other' WHERE name = 'kind-0'", "kinds \"kind-0\": missing; it is the kind of job 1"),
    ] {
        let damaged = tempfile::tempdir().unwrap();
        std::fs::copy(store.join("milepost.db"), damaged.path().join("milepost.db")).unwrap();
        let connection = Connection::open(damaged.path().join("milepost.db")).unwrap();
        assert!(connection.execute(damage, []).unwrap() > 0, "{damage}");
        drop(connection);
        let (told, complaint, code) = verify(damaged.path());
        assert!(told.contains(named) && code == Some(1), "{damage}: {told}{complaint}");
        assert_eq!(complaint, format!("milepost: faults found: {}\n", told.lines().count()), "{damage}");
    }
}

#[test]
fn what_is_no_store_to_be_looked_through_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let none = verify(directory.path());
    assert!(none.2 == Some(1) && none.1.contains("unable to open database file"), "{none:?}");
    let old = include_str!("engine/format-5.sql");
    let connection = Connection::open(directory.path().join("milepost.db")).unwrap();
    connection.execute_batch(old).unwrap();
    connection.execute_batch("PRAGMA application_id = 1297107539; PRAGMA user_version = 5").unwrap();
    drop(connection);
    let early = verify(directory.path());
    assert!(early.2 == Some(1) && early.1.contains("`milepost migrate` brings it up to date"), "{early:?}");
}

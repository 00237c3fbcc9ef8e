//! Looks at a store while no server has it: through the program's own export, and with SQLite's own eyes.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{
    client::Client,
    history::{Event, Seen, Sight},
    wire,
    words::Line,
};
use crate::campaign::process;

/// Exports the store and records it as one more reader's sight of every job. Nobody may be writing.
pub(super) async fn export(store: &Path, client: &Client) {
    let since = client.history().now();
    let store = store.to_str().expect("a path of ours");
    let output = process::run(env!("CARGO_BIN_EXE_milepost"), &["export", "--store", store]).await;
    assert!(output.status.success(), "export: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("an export is text");
    let mut jobs: Vec<Seen> = Vec::new();
    let mut ended = false;
    for record in text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON")) {
        if let Some(job) = record.get("job") {
            jobs.push(job_of(job));
        } else if let Some(lines) = record["lines"].as_array() {
            let job = jobs.last_mut().expect("lines follow their job");
            let log = job.lines.get_or_insert_default();
            for line in lines {
                assert_eq!(line[0].as_u64(), Some(log.len() as u64 + 1), "lines of {} in the export", job.job);
                log.push(Line::of(line[3].as_str().expect("a line is text")));
            }
        } else {
            ended = record["end"]["jobs"].as_u64() == Some(jobs.len() as u64);
        }
    }
    assert!(ended, "the export ends with the number of its jobs: {}", text.lines().last().unwrap_or_default());
    let listed = jobs.iter().map(|seen| seen.job.clone()).collect();
    for seen in jobs {
        client.saw(since, Sight::Job(Box::new(seen)));
    }
    client.history().push(Event::Listed { since, jobs: listed });
}

fn job_of(record: &Value) -> Seen {
    // A record of an export has the members of a document, but for the log's.
    let mut document = record.clone();
    document["log_count"] = record["log"]["count"].clone();
    document["logs_from"] = 1.into();
    document["logs"] = Value::Array(Vec::new());
    if document.get("result").is_none() {
        document["result"] = Value::Null;
    }
    wire::seen(&document).unwrap_or_else(|| panic!("a record of an export: {record}"))
}

/// What the program, and SQLite itself, have to say, and whether the tables agree with each other.
pub(super) async fn integrity(store: &Path) {
    let place = store.to_str().expect("a path of ours");
    let verified = process::run(env!("CARGO_BIN_EXE_milepost"), &["verify", "--store", place]).await;
    assert!(verified.status.success(), "verify: {}", String::from_utf8_lossy(&verified.stdout));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(store.join("milepost.db"), flags).expect("the store opens");
    let text = |query: &str| connection.query_row(query, [], |row| row.get::<_, String>(0)).expect(query);
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    for (what, query) in [
        ("heads without details", "SELECT count(*) FROM heads WHERE job NOT IN (SELECT job FROM details)"),
        ("details without heads", "SELECT count(*) FROM details WHERE job NOT IN (SELECT job FROM heads)"),
        ("results without heads", "SELECT count(*) FROM results WHERE job NOT IN (SELECT job FROM heads)"),
        ("inputs without heads", "SELECT count(*) FROM inputs WHERE job NOT IN (SELECT job FROM heads)"),
        ("labels without heads", "SELECT count(*) FROM labels WHERE job NOT IN (SELECT job FROM heads)"),
        (
            "ids without heads",
            "SELECT count(*) FROM ids WHERE reserved_until IS NULL AND job NOT IN (SELECT job FROM heads)",
        ),
        ("heads without ids", "SELECT count(*) FROM heads WHERE job NOT IN (SELECT job FROM ids)"),
        ("heads not in one list", "SELECT (SELECT count(*) FROM lists) - (SELECT count(*) FROM heads)"),
        ("lists without heads", "SELECT count(*) FROM lists WHERE job NOT IN (SELECT job FROM heads)"),
        (
            "counts unlike the lists",
            "SELECT count(*) FROM (SELECT kind, status, jobs FROM counts WHERE jobs <> 0
             EXCEPT SELECT kind, status, count(*) FROM lists GROUP BY kind, status)",
        ),
    ] {
        let wrong: i64 = connection.query_row(query, [], |row| row.get(0)).expect(query);
        assert_eq!(wrong, 0, "{what}");
    }
}

//! Stores that earlier programs have written.

use super::*;

/// Takes out of a store the tables that later formats than this one have added.
pub(super) fn take_back_to(file: &rusqlite::Connection, format: i64) {
    const ADDED: [(i64, &str); 7] = [
        (2, "DROP TABLE feed; DROP TABLE gone"),
        (3, "DROP TABLE queue; DROP TABLE deadlines"),
        (4, "DROP INDEX once_expiry; DROP INDEX ids_expiry"),
        (5, "DROP TABLE attempts"),
        (6, "DROP TABLE timeline_rows; DROP TABLE freed_timeline"),
        (7, "DROP TABLE tallies"),
        (9, "DROP TABLE journal"),
    ];
    for (_, tables) in ADDED.iter().filter(|(added, _)| *added > format) {
        file.execute_batch(tables).unwrap();
    }
    file.execute_batch(&format!("PRAGMA user_version = {format}")).unwrap();
}

/// The ids of queued jobs of a kind in their order.
async fn queue(engine: &Sqlite, kind: &str) -> Vec<String> {
    let query = QueueQuery { tenant: Tenant(0), kinds: vec![Kind::try_from(kind).unwrap()], jobs_max: 10 };
    let id = |stored: Stored| stored.job.key().id.to_string();
    engine.queued(&query).await.unwrap().into_iter().map(id).collect()
}

async fn due(engine: &Sqlite, now: Timestamp) -> Vec<String> {
    engine.due(now, 10).await.unwrap().iter().map(|key| key.id.to_string()).collect()
}

#[tokio::test]
async fn a_store_of_an_older_format_gets_queues_and_deadlines() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let with = |id: &str, priority, lease: Option<u32>| {
        let mut new = new_job(id, "k", &[]);
        new.spec.priority = priority;
        new.spec.lease_seconds = lease.map(Seconds);
        (new.spec.queue_ttl_seconds, new.spec.retain_seconds) = (None, None);
        new
    };
    for new in [with("low", -1, None), with("high", 1, None), with("other", 0, None)] {
        create(&engine, &new).await;
    }
    let leased = create(&engine, &with("leased", 0, Some(30))).await;
    let status = |status| Change::Patch(Patch { status: Some(status), ..Patch::default() });
    let leased = change(&engine, &leased, &status(Status::Processing)).await;
    let result = Change::Patch(Patch { result: Edit::Set(Json::from_text("[1]".into()).unwrap()), ..Patch::default() });
    let leased = change(&engine, &leased, &result).await;
    engine.close().await.unwrap();
    drop(engine);
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    let dropped: usize =
        ["DELETE FROM queue", "DELETE FROM deadlines"].map(|text| file.execute(text, []).unwrap()).iter().sum();
    assert_eq!(dropped, 4, "each stood in its table");
    take_back_to(&file, 2);
    drop(file);
    // An export reads it as it is.
    let mut exported = sqlite::export(directory.path()).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = exported.recv().await {
        pieces.push(piece.unwrap());
    }
    assert_eq!(pieces.len(), 5, "four jobs and the end");
    let engine = open(directory.path());
    assert_eq!(queue(&engine, "k").await, ["high", "other", "low"]);
    let lost_at = NOW.after(Seconds(30));
    assert!(due(&engine, Timestamp(lost_at.0 - 1)).await.is_empty());
    assert_eq!(due(&engine, lost_at).await, ["leased"]);
    let found = find(&engine, "leased").await;
    assert_eq!(found.job, leased.job, "its result is still there");
    // It is armed as if it had never been otherwise.
    change(&engine, &found, &status(Status::Completed)).await;
    assert!(due(&engine, lost_at).await.is_empty());
}

/// The file of a store that a program wrote which knew formats up to 5 (commit 7882712), and what that program exported.
const FORMAT_5: [&str; 2] = [include_str!("format-5.sql"), include_str!("format-5.ndjson")];

/// The export of a store, without its header.
async fn exported(directory: &std::path::Path) -> String {
    let mut pieces = sqlite::export(directory).unwrap();
    let mut encoder = Encoder::new(NOW);
    loop {
        match pieces.recv().await.expect("it goes on to its end").expect("nothing is damaged") {
            Exported::End => break,
            piece @ (Exported::Job(..) | Exported::Lines(_)) => encoder.push(&piece),
        }
    }
    let text = String::from_utf8(encoder.finish().to_vec()).unwrap();
    text.split_once('\n').unwrap().1.to_owned()
}

#[tokio::test]
async fn a_store_that_format_5_has_written_is_what_it_was_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let [written, export] = FORMAT_5;
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    file.execute_batch("PRAGMA page_size = 1024").unwrap();
    file.execute_batch(written).unwrap();
    file.execute_batch("PRAGMA application_id = 0x4D504A53; PRAGMA user_version = 5; PRAGMA journal_mode = WAL")
        .unwrap_or(());
    drop(file);
    assert_eq!(exported(directory.path()).await, export, "before it has been opened");
    let engine = open(directory.path());
    assert_eq!(exported(directory.path()).await, export);
    for id in ["queued", "plain", "leased", "completed", "retried"] {
        let found = find(&engine, id).await;
        assert_eq!(engine.timeline(&found).await.unwrap(), Some(vec![]), "nobody has remembered what happened to it");
        let labels = LabelEdit { clear: true, set: Vec::new() };
        let stage = Edit::Set(milepost::job::Stage::try_from("on").unwrap());
        let patch = match found.job.is_done() {
            true => Change::Retry(milepost::job::Retry { attempt: None }),
            false => Change::Patch(Patch { stage, labels, ..Patch::default() }),
        };
        let next = change(&engine, &found, &patch).await;
        assert_eq!(find(&engine, id).await.job, next.job);
        assert_eq!(engine.timeline(&next).await.unwrap().unwrap().len(), 1);
    }
    engine.close().await.unwrap();
}

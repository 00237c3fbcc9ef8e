//! What is counted of each kind.

use super::*;

#[tokio::test]
async fn what_is_counted_is_what_was_committed() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let flow = async |engine: &Sqlite| {
        let (_, tallies) = engine.figures(Tenant(0)).await.unwrap();
        tallies.first().map(|(_, tally)| tally.flow(NOW, 60)).unwrap_or_default()
    };
    let status = |status| Change::Patch(Patch { status: Some(status), ..Patch::default() });
    let stored = create(&engine, &new_job("j", "k", &[])).await;
    let begun = change(&engine, &stored, &status(Status::Processing)).await;
    let expected = Flow { created: 1, ..Flow::default() };
    assert_eq!(flow(&engine).await, expected);
    // What meets another writer counts for nothing, and is not what comes with it either.
    let guard = Guard { attempt: Some(Attempt::FIRST), versions: None };
    let ended = begun.job.apply(&status(Status::Completed), &guard, &limits(), NOW).unwrap();
    let write = |before: &Stored| Write {
        key: key("j"),
        before: Some(before.clone()),
        put: Put::Changed(Arc::new(ended.next.clone())),
        lines: vec![],
        history: ended.history.clone(),
        once: None,
    };
    assert!(matches!(commit(&engine, write(&stored)).await, Outcome::Conflict(_)));
    assert_eq!(flow(&engine).await, expected);
    assert!(matches!(commit(&engine, write(&begun)).await, Outcome::Committed(_)));
    let expected = Flow { completed: 1, ..expected };
    assert_eq!(flow(&engine).await, expected);
    assert_eq!(engine.usual_seconds(Tenant(0), &Kind::try_from("k").unwrap()), Some(Seconds(1)));
    // A job that ends and is deleted in one commit has ended.
    let other = create(&engine, &new_job("other", "k", &[])).await;
    let cancelled = Change::Cancel(milepost::job::Cancel { reason: None });
    let cancelled = other.job.apply(&cancelled, &Guard::default(), &limits(), NOW).unwrap();
    let write = Write {
        key: key("other"),
        before: Some(other),
        put: Put::Deleted { reserved_until: NOW },
        lines: vec![],
        history: History { ends: cancelled.history.ends, ..History::default() },
        once: None,
    };
    assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    let expected = Flow { created: 2, cancelled: 1, ..expected };
    assert_eq!(flow(&engine).await, expected);
    engine.close().await.unwrap();
    drop(engine);
    let engine = open(directory.path());
    assert_eq!(flow(&engine).await, expected, "over a restart");
    engine.close().await.unwrap();
    drop(engine);

    // A damaged row is named, keeps nobody from working, and is written anew.
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    assert_eq!(file.execute("UPDATE tallies SET body = zeroblob(20)", []).unwrap(), 1);
    drop(file);
    let engine = open(directory.path());
    assert!(matches!(engine.figures(Tenant(0)).await, Err(EngineError::Corrupt(damage)) if damage.contains("tallies")));
    create(&engine, &new_job("third", "k", &[])).await;
    assert_eq!(flow(&engine).await, Flow { created: 1, ..Flow::default() });
    engine.close().await.unwrap();
}

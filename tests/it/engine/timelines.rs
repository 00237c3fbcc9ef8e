//! Timelines: their last entries, and what is left of them.

use super::*;

#[tokio::test]
async fn a_timeline_keeps_its_last_entries_and_leaves_no_row_behind() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("long", "k", &[])).await;
    let mut counts = Vec::new();
    // An attempt that is given up has three entries: it is begun, it fails, it is tried again.
    for step in 0..600_u32 {
        let status = |status| Change::Patch(Patch { status: Some(status), ..Patch::default() });
        let next = match step % 3 {
            0 => status(Status::Processing),
            1 => status(Status::Failed),
            _ => Change::Retry(milepost::job::Retry { attempt: None }),
        };
        stored = change(&engine, &stored, &next).await;
        let kept = engine.timeline(&stored).await.unwrap().unwrap();
        counts.push(kept.len());
        let attempt = Attempt(step / 3 + 1 + u32::from(step % 3 == 2));
        assert_eq!(kept.last().map(|entry| (entry.attempt, entry.status)), Some((attempt, stored.job.status())));
    }
    assert_eq!(stored.job.timeline.count, 601);
    assert_eq!(counts[..255], (2..257).collect::<Vec<_>>(), "none goes too early");
    assert!(counts[255..].iter().all(|kept| (256..544).contains(kept)), "{counts:?}");
    assert!(counts.windows(2).any(|pair| pair[1] < pair[0]), "some go");
    let early = stored.clone();
    let kept = engine.timeline(&stored).await.unwrap();
    let old = engine.timeline(&find(&engine, "long").await).await.unwrap();
    assert_eq!(kept, old, "also of the job as it is read");
    let write = deletion(&stored, Timestamp(NOW.0 + 5));
    assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    assert_eq!(engine.timeline(&early).await.unwrap(), None, "it is gone");
    for step in 0..20 {
        create(&engine, &new_job(&format!("other-{step}"), "k", &[])).await;
    }
    engine.close().await.unwrap();
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    let rows =
        |table| file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((rows("timeline_rows"), rows("freed_timeline")), (20, 0));
}

#[tokio::test]
async fn a_damaged_timeline_is_named_and_deleted_all_the_same() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let status = |status| Change::Patch(Patch { status: Some(status), ..Patch::default() });
    let mut jobs = Vec::new();
    for id in ["flipped", "missing"] {
        let stored = create(&engine, &new_job(id, "k", &[])).await;
        let stored = change(&engine, &stored, &status(Status::Processing)).await;
        jobs.push(change(&engine, &stored, &status(Status::Completed)).await);
    }
    engine.close().await.unwrap();
    drop(engine);
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    file.execute_batch(
        "UPDATE timeline_rows SET body = zeroblob(30) WHERE row = 2; DELETE FROM timeline_rows WHERE row = 5",
    )
    .unwrap();
    drop(file);
    let engine = open(directory.path());
    for stored in &jobs {
        let read = engine.timeline(stored).await;
        assert!(matches!(&read, Err(EngineError::Corrupt(damage)) if damage.contains("timeline_rows")), "{read:?}");
        let write = deletion(stored, NOW);
        assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    }
    create(&engine, &new_job("next", "k", &[])).await;
    engine.close().await.unwrap();
}

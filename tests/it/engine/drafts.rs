//! Drafts: heads that stand in the journal, and not yet in their table.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

use milepost::job::TimelineEntry;

/// What a job is to be, and all that its timeline has ever had.
#[derive(Clone)]
struct Expected {
    stored: Stored,
    timeline: Vec<TimelineEntry>,
}

/// What is done to a store, or how it is looked at.
#[derive(Clone, Copy, Debug)]
enum Step {
    Stage(usize),
    Lines(usize),
    /// It fails, and is tried again.
    Fails(usize),
    Labels(usize),
    /// All are changed in one commit, of more than a chunk.
    All,
    /// It is deleted, and another one has its id.
    Again(usize),
    /// All that is said of all jobs, and of what they were.
    Look,
    /// It is left as it is, and the next process goes on.
    Dies,
    /// As it stands it is copied, looked through and opened.
    Copied,
}

const JOBS: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let job = || 0..JOBS;
    let step = prop_oneof![
        20 => job().prop_map(Step::Stage),
        // One job more often than others, whose drafts then come to be the older ones.
        20 => Just(Step::Stage(0)),
        4 => job().prop_map(Step::Lines),
        1 => job().prop_map(Step::Fails),
        1 => job().prop_map(Step::Labels),
        1 => job().prop_map(Step::Again),
        4 => Just(Step::All),
        3 => Just(Step::Look),
        1 => Just(Step::Dies),
        1 => Just(Step::Copied),
    ];
    prop::collection::vec(step, 1..200)
}

fn small(directory: &Path, journal_bytes_max: usize) -> Sqlite {
    Sqlite::open(directory, Settings { journal_bytes_max, ..settings() }, Clock::manual(NOW)).expect("it opens")
}

fn id(job: usize) -> String {
    format!("job-{job}")
}

fn staged(text: &str) -> Change {
    let stage = milepost::job::Stage::try_from(text).unwrap();
    Change::Patch(Patch { stage: Edit::Set(stage), ..Patch::default() })
}

fn to_status(status: Status) -> Change {
    Change::Patch(Patch { status: Some(status), ..Patch::default() })
}

/// Makes a job that is being worked at, as its stages are told.
async fn begun(engine: &Sqlite, id: &str) -> Expected {
    let write = creation(&new_job(id, "k", &[]));
    let timeline = write.history.timeline.clone();
    assert!(matches!(commit(engine, write).await, Outcome::Committed(_)));
    let mut made = Expected { stored: find(engine, id).await, timeline };
    changed(engine, &mut made, &to_status(Status::Processing)).await;
    made
}

async fn changed(engine: &Sqlite, expected: &mut Expected, what: &Change) {
    let applied = applied(&expected.stored.job, what);
    expected.timeline.extend(applied.history.timeline.iter().cloned());
    expected.stored = change(engine, &expected.stored, what).await;
}

/// It fails, is tried again and begun again.
async fn fails(engine: &Sqlite, job: &mut Expected) {
    let retry = Change::Retry(milepost::job::Retry { attempt: None });
    for what in [to_status(Status::Failed), retry, to_status(Status::Processing)] {
        changed(engine, job, &what).await;
    }
}

/// Each way to the jobs leads to what they are.
async fn looked_at(engine: &Sqlite, all: &[Expected]) {
    for Expected { stored, timeline } in all {
        let id = stored.job.key().id.as_str();
        assert_eq!(find(engine, id).await.job, stored.job);
        let slice = LogSlice { from: LogEnd::Newest, lines_max: 3, bytes_max: 1 << 20 };
        let (found, lines) = engine.find_with_log(&key(id), slice).await.unwrap();
        assert_eq!(job_of(found).job, stored.job);
        assert_eq!(lines.last().map_or(0, |line| line.seq), stored.job.log.count);
        assert_eq!(engine.log(stored, slice).await.unwrap().unwrap(), lines);
        assert_eq!(job_of(engine.find_many(&[key(id)]).await.remove(0).unwrap()).job, stored.job);
        assert_eq!(engine.timeline(stored).await.unwrap().unwrap(), *timeline);
    }
    let exported = jobs_of(engine).await;
    assert_eq!(exported.len(), all.len());
    for Expected { stored, timeline } in all {
        let found = exported.iter().find(|(job, _)| job.key() == stored.job.key()).expect("it is exported");
        assert_eq!((&*found.0, &found.1), (&*stored.job, timeline));
    }
}

async fn jobs_of(engine: &Sqlite) -> Vec<(Arc<Job>, Vec<TimelineEntry>)> {
    let mut pieces = engine.export().await.unwrap();
    let mut jobs = Vec::new();
    while let Some(piece) = pieces.recv().await {
        if let Exported::Job(job, _, history) = piece.unwrap() {
            jobs.push((job, history.timeline));
        }
    }
    jobs
}

/// A copy of a store that is served, in which nothing is amiss.
fn copied(directory: &Path, jobs: u64) -> TempDir {
    let copy = TempDir::new().unwrap();
    sqlite::backup(directory, &copy.path().join("milepost.db")).unwrap();
    for directory in [directory, copy.path()] {
        let mut faults = Vec::new();
        let verified = sqlite::verify(directory, &mut |fault| faults.push(fault.to_owned())).unwrap();
        assert_eq!((faults, verified.jobs), (Vec::new(), jobs));
    }
    copy
}

async fn lives(steps: &[Step], journal_bytes_max: usize) {
    let directory = TempDir::new().unwrap();
    let mut engine = small(directory.path(), journal_bytes_max);
    let mut all = Vec::new();
    for job in 0..JOBS {
        all.push(begun(&engine, &id(job)).await);
    }
    let mut earlier: Vec<Expected> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Stage(job) => changed(&engine, &mut all[job], &staged(&format!("stage {number}"))).await,
            Step::Lines(job) => changed(&engine, &mut all[job], &append([format!("line {number}")])).await,
            Step::Fails(job) => fails(&engine, &mut all[job]).await,
            Step::Labels(job) => {
                let key = LabelKey::try_from("l").unwrap();
                let value = LabelValue::try_from(&*number.to_string()).unwrap();
                let labels = LabelEdit { set: [(key, Some(value))].into_iter().collect(), ..LabelEdit::default() };
                let patch = Patch { labels, ..Patch::default() };
                changed(&engine, &mut all[job], &Change::Patch(patch)).await;
            }
            Step::All => {
                let long = format!("{number} {}", "long ".repeat(30));
                let writes = all.iter_mut().map(|expected| {
                    let applied = applied(&expected.stored.job, &staged(&long));
                    expected.timeline.extend(applied.history.timeline.iter().cloned());
                    let before = std::mem::replace(&mut expected.stored.job, Arc::new(applied.next));
                    let stored = Stored { job: before, place: expected.stored.place };
                    change_to(stored, &expected.stored.job, applied.lines, applied.history)
                });
                let outcomes = engine.commit(writes.collect()).await.unwrap();
                for (expected, outcome) in all.iter_mut().zip(outcomes) {
                    let Outcome::Committed(place) = outcome else { panic!("{outcome:?}") };
                    expected.stored.place = place;
                }
            }
            Step::Again(job) => {
                let write = deletion(&all[job].stored, NOW);
                assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
                earlier.retain(|earlier| earlier.stored.place.number != all[job].stored.place.number);
                all[job] = begun(&engine, &id(job)).await;
            }
            Step::Look => {
                looked_at(&engine, &all).await;
                // Also of what was known of a job some time ago its timeline is what it was.
                for Expected { stored, timeline } in &earlier {
                    assert_eq!(engine.timeline(stored).await.unwrap().unwrap(), *timeline);
                }
                earlier.extend(all.iter().cloned());
            }
            Step::Dies => {
                drop(engine);
                engine = small(directory.path(), journal_bytes_max);
                looked_at(&engine, &all).await;
            }
            Step::Copied => {
                let copy = copied(directory.path(), JOBS as u64);
                let copied = small(copy.path(), journal_bytes_max);
                looked_at(&copied, &all).await;
            }
        }
    }
    looked_at(&engine, &all).await;
    engine.close().await.unwrap();
    drop(engine);
    // What is closed has all of it in its tables.
    for Expected { stored, .. } in &all {
        assert_eq!(in_table(directory.path(), stored), stored.job.revision);
    }
    looked_at(&small(directory.path(), journal_bytes_max), &all).await;
}

#[test]
fn jobs_are_as_they_were_left_wherever_their_heads_are() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    // Some lives fill many parts of a journal, and some none.
    let checked =
        TestRunner::new(config).run(&(steps(), prop::sample::select(vec![4096, 1 << 16])), |(steps, bytes)| {
            runtime.block_on(lives(&steps, bytes));
            Ok(())
        });
    checked.unwrap();
}

/// The revision that its table has of a job.
fn in_table(directory: &Path, stored: &Stored) -> u64 {
    let file = rusqlite::Connection::open(directory.join("milepost.db")).unwrap();
    let row = [stored.place.number.cast_signed()];
    let revision = file.query_row("SELECT revision FROM heads WHERE job = ?1", row, |row| row.get::<_, i64>(0));
    revision.unwrap().cast_unsigned()
}

#[tokio::test]
async fn what_is_changed_again_and_again_is_written_to_its_table_now_and_then() {
    let directory = TempDir::new().unwrap();
    let engine = small(directory.path(), 4096);
    let mut job = begun(&engine, "j").await;
    let mut seen = BTreeSet::new();
    for number in 0..300 {
        changed(&engine, &mut job, &staged(&format!("stage {number}"))).await;
        seen.insert(in_table(directory.path(), &job.stored));
    }
    assert!((1..10).contains(&seen.len()), "{seen:?}");
    // Two parts of 2 KiB, each with the chunk that has filled it.
    let chunks = chunks_in(directory.path());
    assert!((2..=6).contains(&chunks), "{chunks} chunks");
    engine.close().await.unwrap();
    assert_eq!(in_table(directory.path(), &job.stored), job.stored.job.revision);
}

/// A store that was left with a draft in its journal.
async fn left_with_a_draft() -> TempDir {
    let directory = TempDir::new().unwrap();
    let engine = small(directory.path(), 1 << 16);
    let mut job = begun(&engine, "j").await;
    for number in 0..20 {
        changed(&engine, &mut job, &staged(&format!("stage {number}"))).await;
    }
    assert!(in_table(directory.path(), &job.stored) < job.stored.job.revision);
    drop(engine);
    directory
}

#[tokio::test]
async fn a_damaged_journal_is_refused_and_named() {
    let damages = [
        ("UPDATE journal SET body = zeroblob(976) WHERE slot = 3", "journal 3: wrong checksum"),
        ("UPDATE journal SET body = x'00' WHERE slot = 3", "journal 3: too short"),
        ("DELETE FROM journal WHERE slot = 3", "missing"),
        (
            "UPDATE journal SET body = (SELECT body FROM journal WHERE slot = 2) WHERE slot = 3",
            "journal 3: wrong checksum",
        ),
    ];
    for (damage, named) in damages {
        let directory = left_with_a_draft().await;
        rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap().execute_batch(damage).unwrap();
        let refused = Sqlite::open(directory.path(), settings(), Clock::manual(NOW));
        assert!(matches!(&refused, Err(EngineError::Corrupt(what)) if what.contains(named)), "{damage}: {refused:?}");
        let mut faults = Vec::new();
        sqlite::verify(directory.path(), &mut |fault| faults.push(fault.to_owned())).unwrap();
        assert!(faults.iter().any(|fault| fault.contains(named)), "{damage}: {faults:?}");
    }
}

#[tokio::test]
async fn a_change_of_what_a_job_was_is_a_conflict_also_with_a_draft() {
    let directory = TempDir::new().unwrap();
    for journal_bytes_max in [4096, 1 << 16] {
        let engine = small(directory.path(), journal_bytes_max);
        let name = format!("j-{journal_bytes_max}");
        let mut job = begun(&engine, &name).await;
        let mut old = vec![job.clone()];
        for number in 0..60 {
            changed(&engine, &mut job, &staged(&format!("stage {number}"))).await;
            for old in &old {
                let again = applied(&old.stored.job, &staged("x"));
                let write = change_to(old.stored.clone(), &Arc::new(again.next), again.lines, again.history);
                for write in [write, deletion(&old.stored, NOW)] {
                    let outcome = commit(&engine, write).await;
                    assert!(
                        matches!(&outcome, Outcome::Conflict(Found::Job(found)) if found.job == job.stored.job),
                        "{outcome:?}"
                    );
                }
            }
            if number % 20 == 0 {
                old.push(job.clone());
            }
        }
        engine.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whoever_reads_meanwhile_sees_nothing_old_and_nothing_torn() {
    let directory = TempDir::new().unwrap();
    let engine = Arc::new(small(directory.path(), 4096));
    let mut job = begun(&engine, "j").await;
    let acknowledged = Arc::new(AtomicU64::new(job.stored.job.revision));
    let readers = [(); 2].map(|()| {
        let (engine, acknowledged) = (engine.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut reads = 0;
            loop {
                let floor = acknowledged.load(Ordering::SeqCst);
                if floor == u64::MAX {
                    return reads;
                }
                let slice = LogSlice { from: LogEnd::Newest, lines_max: 2, bytes_max: 1 << 20 };
                let (found, lines) = engine.find_with_log(&key("j"), slice).await.unwrap();
                let stored = job_of(found);
                assert!(stored.job.revision >= floor, "{} after {floor}", stored.job.revision);
                assert_eq!(lines.last().map_or(0, |line| line.seq), stored.job.log.count);
                // It is the result of the stage that it names.
                let result = stored.job.result.as_ref().map(Json::as_str);
                assert_eq!(result.is_some(), stored.job.progress.hundredths() == 5000, "{result:?}");
                let timeline = engine.timeline(&stored).await.unwrap().unwrap();
                if stored.job.timeline.count <= 256 {
                    assert_eq!(timeline.len() as u64, stored.job.timeline.count);
                }
                assert!(timeline.len() >= stored.job.timeline.count.min(256) as usize);
                reads += 1;
            }
        })
    });
    for number in 0..1500_u32 {
        let mut patch = Patch {
            stage: Edit::Set(milepost::job::Stage::try_from(&*format!("stage {number}")).unwrap()),
            ..Patch::default()
        };
        match number % 10 {
            // These two are not in the head alone.
            8 => {
                patch.result = Edit::Set(Json::from_text(format!("[{number}]")).unwrap());
                patch.progress = Some(milepost::job::Progress::from_hundredths(5000).unwrap());
            }
            9 => {
                patch.result = Edit::Clear;
                patch.progress = Some(milepost::job::Progress::from_hundredths(100).unwrap());
            }
            _ => {}
        }
        changed(&engine, &mut job, &Change::Patch(patch)).await;
        // Few stages of an attempt are in its timeline.
        if number % 40 == 30 {
            fails(&engine, &mut job).await;
        }
        if number % 3 == 0 {
            changed(&engine, &mut job, &append([format!("line {number}")])).await;
        }
        acknowledged.store(job.stored.job.revision, Ordering::SeqCst);
    }
    acknowledged.store(u64::MAX, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 100);
    }
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_change_of_what_a_job_was_is_a_conflict_also_without_a_draft() {
    let directory = TempDir::new().unwrap();
    let engine = small(directory.path(), 4096);
    let mut deleted = begun(&engine, "deleted").await;
    let mut settled = begun(&engine, "settled").await;
    let stale = [&deleted, &settled].map(|expected| expected.stored.clone());
    let write = deletion(&deleted.stored, NOW);
    assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    // Another part of the journal begins, and the job is written to its table in both.
    deleted = begun(&engine, "others").await;
    for number in 0..30 {
        changed(&engine, &mut deleted, &staged(&format!("stage {number}"))).await;
    }
    let label = (LabelKey::try_from("l").unwrap(), Some(LabelValue::try_from("v").unwrap()));
    let labels = LabelEdit { set: [label].into_iter().collect(), ..LabelEdit::default() };
    changed(&engine, &mut settled, &Change::Patch(Patch { labels, ..Patch::default() })).await;
    for stale in stale {
        let again = applied(&stale.job, &staged("x"));
        let write = change_to(stale, &Arc::new(again.next), again.lines, again.history);
        assert!(matches!(commit(&engine, write).await, Outcome::Conflict(_)));
    }
    changed(&engine, &mut settled, &staged("y")).await;
    looked_at(&engine, &[settled, deleted]).await;
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_journal_stays_short_over_any_number_of_deaths() {
    let directory = TempDir::new().unwrap();
    let mut engine = small(directory.path(), 4096);
    let mut job = begun(&engine, "j").await;
    for number in 0..60 {
        // Less than fills a part.
        for step in 0..3 {
            changed(&engine, &mut job, &staged(&format!("stage {number}.{step}"))).await;
        }
        drop(engine);
        let chunks = chunks_in(directory.path());
        assert!(chunks <= 16, "{chunks} chunks after {number} deaths");
        engine = small(directory.path(), 4096);
        looked_at(&engine, std::slice::from_ref(&job)).await;
    }
    engine.close().await.unwrap();
    assert_eq!(chunks_in(directory.path()), 0, "what is closed has no journal");
}

#[tokio::test]
async fn what_is_not_needed_of_a_journal_may_be_damaged() {
    let directory = TempDir::new().unwrap();
    let engine = small(directory.path(), 4096);
    let mut job = begun(&engine, "j").await;
    let (mut needed, mut others) = (0, 0);
    for number in 0..60 {
        changed(&engine, &mut job, &staged(&format!("stage {number}"))).await;
        // Each chunk in turn: some are needed, and after a part has ended some are not.
        for slot in 0..chunks_in(directory.path()) {
            let copy = copied(directory.path(), 1);
            flip(copy.path(), slot);
            match Sqlite::open(copy.path(), settings(), Clock::manual(NOW)) {
                Ok(engine) => {
                    others += 1;
                    looked_at(&engine, std::slice::from_ref(&job)).await;
                }
                Err(error) => {
                    needed += 1;
                    assert!(error.to_string().contains(&format!("journal {slot}: wrong checksum")), "{error}");
                }
            }
        }
    }
    assert!(needed > 0 && others > 0, "{needed} are needed, {others} are not");
    engine.close().await.unwrap();
}

/// Changes a byte of a chunk.
fn flip(directory: &Path, slot: i64) {
    const FLIP: &str =
        "UPDATE journal SET body = CAST(substr(body, 1, 900) || x'99' || substr(body, 902) AS BLOB) WHERE slot = ?1";
    let file = rusqlite::Connection::open(directory.join("milepost.db")).unwrap();
    assert_eq!(file.execute(FLIP, [slot]).unwrap(), 1);
}

fn chunks_in(directory: &Path) -> i64 {
    let file = rusqlite::Connection::open(directory.join("milepost.db")).unwrap();
    file.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap()
}

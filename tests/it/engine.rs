//! What an engine promises beneath the server: logs of any length, lists, conflicts, reserved ids, freed space.

mod feed;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    task::{Context, Waker},
};

use milepost::{
    clock::Clock,
    engine::{
        Cursor, Engine, EngineError, Exported, Flow, Found, Keyed, ListQuery, LogEnd, LogSlice, Once, Order, Outcome,
        Put, QueueQuery, Stored, Write,
        sqlite::{self, Settings, Sqlite},
    },
    job::{
        Append, Attempt, Change, Edit, Guard, History, Job, JobId, JobKey, Json, Kind, LabelEdit, LabelKey, LabelValue,
        Labels, Limits, Lines, LogLine, NewJob, Patch, Retention, Seconds, Spec, Status, Tenant, Timestamp,
    },
    store::portable::Encoder,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_000_000);

fn limits() -> Limits {
    Limits {
        line_bytes_max: 1000,
        job_lines_max: 20_000,
        job_log_bytes_max: 1 << 30,
        late_log_seconds: Seconds(60),
        result_bytes_max: 1000,
        error_bytes_max: 1000,
        writers_max: 64,
        cancel_grace_seconds: Seconds(60),
        retention: Retention::FOR_EVER,
    }
}

fn settings() -> Settings {
    Settings {
        read_connections: 2,
        writer_cache_bytes: 1 << 20,
        reader_cache_bytes: 1 << 20,
        checkpoint_pages: 1000,
        kinds_max: 5,
        feed_retain_seconds: 600,
    }
}

fn open_at(directory: &Path, now: Timestamp) -> Sqlite {
    Sqlite::open(directory, settings(), Clock::manual(now)).expect("the store opens")
}

fn open(directory: &Path) -> Sqlite {
    open_at(directory, NOW)
}

fn new_job(id: &str, kind: &str, labels: &[(&str, &str)]) -> NewJob {
    let label =
        |(key, value): &(&str, &str)| (LabelKey::try_from(*key).unwrap(), LabelValue::try_from(*value).unwrap());
    NewJob {
        spec: Spec {
            key: key(id),
            kind: Kind::try_from(kind).unwrap(),
            priority: 3,
            max_attempts: 2,
            lease_seconds: Some(Seconds(30)),
            timeout_seconds: None,
            queue_ttl_seconds: Some(Seconds(7)),
            cancel_grace_seconds: None,
            retain_seconds: Some(Seconds(9)),
            created_at: NOW,
        },
        input: None,
        labels: Labels::try_from(labels.iter().map(label).collect::<std::collections::BTreeMap<_, _>>()).unwrap(),
        processing: false,
        stage: None,
        lines: Lines::default(),
    }
}

fn key(id: &str) -> JobKey {
    JobKey { tenant: Tenant(0), id: JobId::try_from(id).unwrap() }
}

fn creation(new: &NewJob) -> Write {
    let made = Job::create(new, &limits(), NOW);
    let put = Put::New { job: Arc::new(made.next), input: new.input.clone() };
    Write { key: new.spec.key.clone(), before: None, put, lines: vec![made.lines], history: made.history, once: None }
}

/// Takes out of a store the tables that later formats than this one have added.
fn take_back_to(file: &rusqlite::Connection, format: i64) {
    const ADDED: [(i64, &str); 6] = [
        (2, "DROP TABLE feed; DROP TABLE gone"),
        (3, "DROP TABLE queue; DROP TABLE deadlines"),
        (4, "DROP INDEX once_expiry; DROP INDEX ids_expiry"),
        (5, "DROP TABLE attempts"),
        (6, "DROP TABLE timeline_rows; DROP TABLE freed_timeline"),
        (7, "DROP TABLE tallies"),
    ];
    for (_, tables) in ADDED.iter().filter(|(added, _)| *added > format) {
        file.execute_batch(tables).unwrap();
    }
    file.execute_batch(&format!("PRAGMA user_version = {format}")).unwrap();
}

fn deletion(stored: &Stored, reserved_until: Timestamp) -> Write {
    Write {
        key: stored.job.key().clone(),
        before: Some(stored.clone()),
        put: Put::Deleted { reserved_until },
        lines: vec![],
        history: History::default(),
        once: None,
    }
}

async fn commit(engine: &Sqlite, write: Write) -> Outcome {
    engine.commit(vec![write]).await.expect("the commit works").remove(0)
}

async fn create(engine: &Sqlite, new: &NewJob) -> Stored {
    assert!(matches!(commit(engine, creation(new)).await, Outcome::Committed(_)));
    find(engine, new.spec.key.id.as_str()).await
}

async fn find(engine: &Sqlite, id: &str) -> Stored {
    let found = engine.find(&key(id)).await.expect("the read works");
    let Found::Job(stored) = found else { panic!("{id}: {found:?}") };
    stored
}

/// Applies a change as the store does and tells where the job is then.
async fn change(engine: &Sqlite, before: &Stored, change: &Change) -> Stored {
    let guard = Guard { attempt: Some(before.job.attempt), versions: None };
    let applied = before.job.apply(change, &guard, &limits(), NOW).expect("the change is legal");
    let job = Arc::new(applied.next);
    let write = Write {
        key: job.key().clone(),
        before: Some(before.clone()),
        put: Put::Changed(job.clone()),
        lines: vec![applied.lines],
        history: applied.history,
        once: None,
    };
    let outcome = commit(engine, write).await;
    let Outcome::Committed(place) = outcome else { panic!("{outcome:?}") };
    Stored { job, place }
}

fn append(texts: impl IntoIterator<Item = String>) -> Change {
    let mut lines = Lines::default();
    texts.into_iter().for_each(|text| lines.push(&text, &limits()));
    Change::Append(Append { lines, ..Append::default() })
}

async fn log(engine: &Sqlite, stored: &Stored, from: LogEnd, lines_max: usize) -> Vec<LogLine> {
    let slice = LogSlice { from, lines_max, bytes_max: 1 << 20 };
    engine.log(stored, slice).await.expect("the read works").expect("the job is there")
}

#[tokio::test]
async fn many_lines_in_one_commit_become_rows_of_a_bounded_size() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let new = new_job("a", "k", &[]);
    let before = Job::create(&new, &limits(), NOW).next;
    // As an import brings them: forty portions of 20 KiB.
    let mut job = before.clone();
    let mut portions = Vec::new();
    for portion in 0..40 {
        let lines = append((0..20).map(|line| format!("{portion} {line} {}", "x".repeat(980))));
        let applied = job.apply(&lines, &Guard::default(), &limits(), NOW).expect("the lines are taken");
        job = applied.next;
        portions.push(applied.lines);
    }
    let put = Put::New { job: Arc::new(job), input: None };
    let outcome = commit(
        &engine,
        Write { key: key("a"), before: None, put, lines: portions.clone(), history: History::default(), once: None },
    )
    .await;
    let Outcome::Committed(place) = outcome else { panic!("{outcome:?}") };
    // Four portions go over 64 KiB.
    assert_eq!(place.rows, 10);
    let stored = find(&engine, "a").await;
    assert_eq!(stored.place, place);
    let lines = log(&engine, &stored, LogEnd::After(0), 1000).await;
    assert_eq!(lines, portions.iter().flat_map(|lines| lines.iter().cloned()).collect::<Vec<_>>());
    engine.close().await.expect("it closes");
}

#[tokio::test]
async fn what_was_committed_is_read_back_whole_after_reopening() {
    let directory = TempDir::new().unwrap();
    let mut new = new_job("one", "restyle", &[("user", "42"), ("tier", "free")]);
    new.input = Some(Json::try_from(&json!({"clip": "/v/1.mp4", "deep": [1, [2.5, null]]})).unwrap());
    new.lines.push("hello", &limits());
    let engine = open(directory.path());
    let made = create(&engine, &new).await;
    let mut lines = Lines::default();
    lines.push("second", &limits());
    let patch = Patch {
        status: Some(Status::Failed),
        stage: milepost::job::Edit::Set("Matting subject".try_into().unwrap()),
        result: milepost::job::Edit::Set(Json::try_from(&json!({"part": 1})).unwrap()),
        error: milepost::job::Edit::Set(Json::try_from(&json!({"reason": "x", "message": "y\nz"})).unwrap()),
        lines: Lines { origin: Some(milepost::job::Origin { writer: "w".try_into().unwrap(), seq: 1 }), ..lines },
        ..Patch::default()
    };
    let failed = change(&engine, &made, &Change::Patch(patch)).await;
    engine.close().await.unwrap();
    drop(engine);
    let engine = open(directory.path());
    let read = find(&engine, "one").await;
    assert_eq!(read.job, failed.job);
    assert_eq!(read.place, failed.place);
    assert_eq!(engine.input(&read).await.unwrap(), new.input);
    let texts: Vec<_> = log(&engine, &read, LogEnd::After(0), 10).await.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["hello".into(), "second".into()] as [Arc<str>; 2]);
}

#[tokio::test]
async fn any_line_of_a_long_log_is_found_and_trimmed_ones_are_freed() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("long", "k", &[])).await;
    let mut said: Vec<String> = Vec::new();
    // Far over the longer stride, in rows of one to three lines, and over the limit, so that old ones go.
    for step in 0..13_000_usize {
        let texts: Vec<_> = (0..step % 3 + 1).map(|line| format!("line {} of step {step}", line + 1)).collect();
        said.extend(texts.clone());
        stored = change(&engine, &stored, &append(texts)).await;
    }
    let count = said.len() as u64;
    assert_eq!(stored.job.log.count, count);
    assert_eq!(stored.job.log.dropped, count - 20_000);
    let first = stored.job.log.first();
    let expect = |from: u64, until: u64| -> Vec<(u64, String)> {
        (from..=until).map(|seq| (seq, said[usize::try_from(seq).unwrap() - 1].clone())).collect()
    };
    let told = |lines: Vec<LogLine>| -> Vec<(u64, String)> {
        lines.into_iter().map(|line| (line.seq, line.text.to_string())).collect()
    };
    for after in [0, first - 1, first, first + 1, first + 4_095, first + 4_096, first + 4_097, count - 2, count - 1] {
        let from = after.max(first - 1) + 1;
        let read = told(log(&engine, &stored, LogEnd::After(after), 70).await);
        assert_eq!(read, expect(from, count.min(from + 69)), "after {after}");
    }
    assert_eq!(log(&engine, &stored, LogEnd::After(count), 70).await, []);
    assert_eq!(told(log(&engine, &stored, LogEnd::Newest, 100).await), expect(count - 99, count));
    assert_eq!(told(log(&engine, &stored, LogEnd::Newest, 100_000).await), expect(first, count));
    engine.close().await.unwrap();
    let rows = |query: &str| -> u64 {
        let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
        file.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    // 20,000 lines are kept in two rows of three; trimming is freed a thousand lines at a time.
    assert!(rows("SELECT count(*) FROM log_rows") < 10_000 + 1_100);
    drop(engine);
    let engine = open(directory.path());
    let stored = find(&engine, "long").await;
    let write = deletion(&stored, Timestamp(NOW.0 + 5));
    assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    // Freeing goes on in the background; each commit does its part as well, so enough of them have freed it all.
    for step in 0..200 {
        create(&engine, &new_job(&format!("other-{step}"), "k", &[])).await;
    }
    engine.close().await.unwrap();
    assert_eq!(rows("SELECT count(*) FROM log_rows"), 0);
    for table in ["details", "timeline_rows", "inputs", "results", "labels", "freed", "freed_timeline"] {
        let left = rows(&format!("SELECT count(*) FROM {table}"));
        // One for each of the others.
        assert_eq!(left, if ["details", "timeline_rows"].contains(&table) { 200 } else { 0 }, "{table}");
    }
}

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
async fn a_page_of_a_log_keeps_to_its_bytes_from_either_end() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("bytes", "k", &[])).await;
    for _ in 0..10 {
        stored = change(&engine, &stored, &append((0..3).map(|_| "x".repeat(100)))).await;
    }
    let seqs = async |from, bytes_max| {
        let slice = LogSlice { from, lines_max: 1000, bytes_max };
        let lines = engine.log(&stored, slice).await.unwrap().unwrap();
        lines.into_iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(LogEnd::After(4), 450).await, [5, 6, 7, 8]);
    assert_eq!(seqs(LogEnd::Newest, 450).await, [27, 28, 29, 30]);
    assert_eq!(seqs(LogEnd::After(4), 1).await, [5], "the first line is always given");
    assert_eq!(seqs(LogEnd::Newest, 1).await, [30]);
}

#[tokio::test]
async fn a_write_on_another_state_than_the_stored_one_is_a_conflict() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let old = create(&engine, &new_job("one", "k", &[])).await;
    let new = change(&engine, &old, &append(["a".into()])).await;
    let stale = Write {
        key: key("one"),
        before: Some(old.clone()),
        put: Put::Changed(old.job.clone()),
        lines: vec![vec![LogLine { seq: 1, at: NOW, attempt: Attempt(1), text: "b".into() }].into()],
        history: History::default(),
        once: None,
    };
    let put = Put::Deleted { reserved_until: NOW };
    let stale_deletion =
        Write { put, lines: vec![], key: key("one"), before: Some(old), history: History::default(), once: None };
    for write in [stale, stale_deletion, creation(&new_job("one", "other", &[]))] {
        let outcome = commit(&engine, write).await;
        let Outcome::Conflict(Found::Job(found)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(found.job, new.job);
    }
    let texts: Vec<_> = log(&engine, &new, LogEnd::After(0), 10).await.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["a".into()] as [Arc<str>; 1]);
}

#[tokio::test]
async fn a_deleted_id_is_reserved_and_then_free_and_never_sees_the_old_log() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let delete = async |reserved_until| {
        let stored = find(&engine, "one").await;
        let put = Put::Deleted { reserved_until };
        let write = Write {
            key: key("one"),
            before: Some(stored),
            put,
            lines: vec![],
            history: History::default(),
            once: None,
        };
        assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    };
    let stored = create(&engine, &new_job("one", "k", &[])).await;
    change(&engine, &stored, &append(["old".into()])).await;
    delete(Timestamp(NOW.0 + 1)).await;
    assert!(matches!(engine.find(&key("one")).await.unwrap(), Found::Reserved(Timestamp(1_000_001))));
    let outcome = commit(&engine, creation(&new_job("one", "k", &[]))).await;
    let Outcome::Conflict(Found::Reserved(until)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(until.0, NOW.0 + 1);
    assert_eq!(engine.log(&stored, LogSlice { from: LogEnd::Newest, lines_max: 9, bytes_max: 9 }).await.unwrap(), None);
    // The reservation ends now.
    engine.close().await.unwrap();
    drop(engine);
    let engine = open_at(directory.path(), Timestamp(NOW.0 + 2));
    let again = create(&engine, &new_job("one", "k", &[])).await;
    assert_ne!(again.place.number, stored.place.number);
    assert_eq!(log(&engine, &again, LogEnd::Newest, 10).await, []);
}

#[tokio::test]
async fn one_kind_too_many_is_refused_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    for kind in 0..5 {
        create(&engine, &new_job(&format!("job-{kind}"), &format!("kind-{kind}"), &[])).await;
    }
    assert!(matches!(commit(&engine, creation(&new_job("more", "kind-5", &[]))).await, Outcome::TooManyKinds));
    assert!(matches!(engine.find(&key("more")).await.unwrap(), Found::Missing));
    create(&engine, &new_job("known", "kind-0", &[])).await;
    let counts = engine.counts().await.unwrap();
    assert_eq!(counts.iter().map(|count| count.jobs).collect::<Vec<_>>(), [2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn keys_and_reserved_ids_are_forgotten_when_they_are_over() {
    let directory = TempDir::new().unwrap();
    let remember = async |engine: &Sqlite, name: &str, now: Timestamp| {
        let new = new_job(name, "k", &[]);
        let (id, attempt) = (new.spec.key.id.clone(), Attempt(1));
        let once = Once { fingerprint: [7; 32], id, attempt, expires_at: Timestamp(now.0 + 10) };
        let keyed = Keyed { name: name.into(), once, replaces: None };
        let outcome = commit(engine, Write { once: Some(keyed), ..creation(&new) }).await;
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        let stored = find(engine, name).await;
        let put = Put::Deleted { reserved_until: Timestamp(now.0 + 10) };
        commit(
            engine,
            Write { key: key(name), before: Some(stored), put, lines: vec![], history: History::default(), once: None },
        )
        .await;
    };
    let rows = || {
        let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
        let count = |table: &str| {
            file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
        };
        [count("once"), count("ids")]
    };
    let engine = open(directory.path());
    for number in 0..20 {
        remember(&engine, &format!("old-{number}"), NOW).await;
    }
    assert_eq!(rows(), [20, 20], "none is over yet");
    engine.close().await.unwrap();
    drop(engine);
    // Each that comes takes two that are over with it.
    let later = Timestamp(NOW.0 + 10);
    let engine = open_at(directory.path(), later);
    for number in 0..3 {
        remember(&engine, &format!("new-{number}"), later).await;
    }
    let [keys, ids] = rows();
    assert!(keys <= 20 - 2 * 3 + 3 && ids <= 20 - 2 * 3 + 3, "{keys} keys and {ids} ids are left");
    // The rest goes when nothing else is to be done.
    while engine.maintain(true).await {}
    assert_eq!(rows(), [3, 3]);
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

#[tokio::test]
async fn an_idempotency_key_is_remembered_until_it_expires() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let new = new_job("one", "k", &[]);
    let (id, attempt) = (new.spec.key.id.clone(), Attempt(3));
    let once = Once { fingerprint: [7; 32], id, attempt, expires_at: Timestamp(NOW.0 + 10) };
    let write =
        Write { once: Some(Keyed { name: "key".into(), once: once.clone(), replaces: None }), ..creation(&new) };
    commit(&engine, write).await;
    let at = async |now: u64, tenant: u32| engine.once(Tenant(tenant), "key", Timestamp(now)).await.unwrap();
    assert_eq!(at(NOW.0 + 9, 0).await, Some(once));
    assert_eq!(at(NOW.0 + 10, 0).await, None);
    assert_eq!(at(NOW.0, 1).await, None);
}

#[tokio::test]
async fn a_read_that_is_given_up_is_in_nobodys_way() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let many = (0..1000).map(|number| creation(&new_job(&number.to_string(), "k", &[]))).collect();
    engine.commit(many).await.unwrap();
    let query = ListQuery {
        tenant: Tenant(0),
        statuses: Vec::new(),
        kinds: Vec::new(),
        labels: Vec::new(),
        text: None,
        order: Order::Oldest,
        after: None,
        jobs_max: 1000,
        scan_max: 1000,
    };
    for _ in 0..10 {
        // As many as there are connections, each for longer than the read that follows.
        for _ in 0..2 {
            let _begun = engine.list(query.clone()).as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        find(&engine, "7").await;
    }
}

#[tokio::test]
async fn one_process_has_the_store() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let second = Sqlite::open(directory.path(), settings(), Clock::system());
    assert!(matches!(second, Err(EngineError::Locked(_))), "{second:?}");
    engine.close().await.unwrap();
    drop(engine);
    open(directory.path());
}

/// Lists are what filtering and sorting all jobs in memory would give, page by page.
#[test]
fn lists_are_what_a_plain_filter_gives() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = TempDir::new().unwrap();
    let engine = runtime.block_on(async { open(directory.path()) });
    let mut all = Vec::new();
    runtime.block_on(async {
        for number in 0..300_u32 {
            let user = (number % 7).to_string();
            let labels: &[(&str, &str)] = match number % 3 {
                0 => &[],
                1 => &[("user", &user)],
                _ => &[("user", &user), ("other", "3")],
            };
            let id = format!("{}{number}", if number % 2 == 0 { "even-" } else { "odd-" });
            let mut stored = create(&engine, &new_job(&id, &format!("kind-{}", number % 4), labels)).await;
            let status = Status::ALL[number as usize % 5];
            if status != Status::Queued {
                let patch = Patch { status: Some(status), ..Patch::default() };
                stored = change(&engine, &stored, &Change::Patch(patch)).await;
            }
            all.push(stored.job);
        }
    });
    let some = |max: usize, of: usize| prop::collection::btree_set(0..of, 0..=max);
    let label = prop::option::of((prop::sample::select(vec!["user", "other", "none"]), 0..8_u32));
    let text = prop::option::of(prop::sample::select(vec!["even-", "odd-1", "3", "even-100", "nothing", "o"]));
    let strategy =
        (some(2, 5), some(2, 5), label, text, any::<bool>(), 1..40_usize, prop::sample::select(vec![7, 1000]));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() });
    let checked = runner.run(&strategy, |(statuses, kinds, label, text, oldest, jobs_max, scan_max)| {
        let statuses: Vec<_> = statuses.into_iter().map(|index| Status::ALL[index]).collect();
        // The fifth kind does not exist.
        let kinds: Vec<_> = kinds.into_iter().map(|kind| Kind::try_from(&*format!("kind-{kind}")).unwrap()).collect();
        let labels: Vec<_> = label
            .into_iter()
            .map(|(key, value)| (LabelKey::try_from(key).unwrap(), LabelValue::try_from(&*value.to_string()).unwrap()))
            .collect();
        let mut expected: Vec<String> = all
            .iter()
            .filter(|job| statuses.is_empty() || statuses.contains(&job.status()))
            .filter(|job| kinds.is_empty() || kinds.contains(&job.spec.kind))
            .filter(|job| labels.iter().all(|(key, value)| job.labels.has(key, value)))
            .filter(|job| {
                text.is_none_or(|text| {
                    job.key().id.as_str().starts_with(text)
                        || job.labels.iter().any(|(_, value)| value.as_str() == text)
                })
            })
            .map(|job| job.key().id.to_string())
            .collect();
        if !oldest {
            expected.reverse();
        }
        let mut query = ListQuery {
            tenant: Tenant(0),
            statuses,
            kinds,
            labels,
            text: text.map(str::to_owned),
            order: if oldest { Order::Oldest } else { Order::Newest },
            after: None,
            jobs_max,
            scan_max,
        };
        let mut listed = Vec::new();
        let mut cursors = BTreeSet::new();
        loop {
            let page = runtime.block_on(engine.list(query.clone())).unwrap();
            prop_assert!(page.jobs.len() <= jobs_max);
            listed.extend(page.jobs.iter().map(|job| job.key().id.to_string()));
            let Some(Cursor(next)) = page.next else { break };
            prop_assert!(cursors.insert(next), "a page begins where an earlier one did");
            query.after = page.next;
        }
        prop_assert_eq!(listed, expected);
        Ok(())
    });
    checked.unwrap();
}

/// The file of a store that a program wrote which knew formats up to 5 (commit 7882712), and what that program exported.
const FORMAT_5: [&str; 2] = [include_str!("engine/format-5.sql"), include_str!("engine/format-5.ndjson")];

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

#[tokio::test]
async fn a_head_keeps_its_length_while_its_job_goes_on() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("j", "k", &[])).await;
    let length = || -> i64 {
        let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
        file.query_row("SELECT length(body) FROM heads", [], |row| row.get(0)).unwrap()
    };
    let at_first = length();
    for (status, stage) in [("processing", "Probing"), ("processing", "Matting subject 12 of 40"), ("completed", "")] {
        let stage = milepost::job::Stage::try_from(stage).unwrap();
        let patch = Patch { status: Status::try_from(status).ok(), stage: Edit::Set(stage), ..Patch::default() };
        stored = change(&engine, &stored, &Change::Patch(patch)).await;
        assert_eq!(length(), at_first, "{status}");
    }
    let stage = milepost::job::Stage::try_from(&*"long ".repeat(50)).unwrap();
    let retry = change(&engine, &stored, &Change::Retry(milepost::job::Retry { attempt: None })).await;
    change(&engine, &retry, &Change::Patch(Patch { stage: Edit::Set(stage), ..Patch::default() })).await;
    assert!(length() > at_first, "what is long needs more");
    engine.close().await.unwrap();
}

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

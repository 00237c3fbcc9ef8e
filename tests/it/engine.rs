//! What the embedded engine promises beneath the server: conflicts, reserved ids, keys, freed space, and in files of their own the rest.

mod drafts;
mod feed;
mod figures;
mod formats;
mod lists;
mod logs;
mod timelines;

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
        Append, Applied, Attempt, Change, Edit, Guard, History, Job, JobId, JobKey, Json, Kind, LabelEdit, LabelKey,
        LabelValue, Labels, Limits, Lines, LogLine, NewJob, Patch, Retention, Seconds, Spec, Status, Tenant, Timestamp,
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
        journal_bytes_max: 16 * 1024,
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
    job_of(engine.find(&key(id)).await.expect("the read works"))
}

fn job_of(found: Found) -> Stored {
    let Found::Job(stored) = found else { panic!("no job: {found:?}") };
    stored
}

/// What a change makes of a job, as the store decides it.
fn applied(job: &Job, change: &Change) -> Applied {
    let guard = Guard { attempt: Some(job.attempt), versions: None };
    job.apply(change, &guard, &limits(), NOW).expect("the change is legal")
}

/// The write of a job that becomes another one, with what came of it beside.
fn change_to(before: Stored, job: &Arc<Job>, lines: Arc<[LogLine]>, history: History) -> Write {
    let put = Put::Changed(job.clone());
    Write { key: job.key().clone(), before: Some(before), put, lines: vec![lines], history, once: None }
}

/// Applies a change as the store does and tells where the job is then.
async fn change(engine: &Sqlite, before: &Stored, change: &Change) -> Stored {
    let Applied { next, lines, history, .. } = applied(&before.job, change);
    let job = Arc::new(next);
    let outcome = commit(engine, change_to(before.clone(), &job, lines, history)).await;
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
    // It stands in the journal until then.
    engine.close().await.unwrap();
    assert!(length() > at_first, "what is long needs more");
}

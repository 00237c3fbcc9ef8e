//! What the feed of an engine promises: who comes back to a place learns what every job that moved has become, and what
//! it was, whatever happened meanwhile.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use milepost::{
    engine::{Fed, FeedPage, FeedPlace, FeedQuery},
    job::Progress,
};
use proptest::test_runner::FileFailurePersistence;

use super::{formats::take_back_to, *};

const TENANT: Tenant = Tenant(0);

async fn page(engine: &Sqlite, after: FeedPlace) -> Option<FeedPage> {
    engine.feed(FeedQuery { tenant: TENANT, after, jobs_max: 100, entries_max: 100 }).await.expect("the read works")
}

async fn end(engine: &Sqlite) -> FeedPlace {
    engine.feed_end(TENANT).await.expect("the read works")
}

async fn delete(engine: &Sqlite, before: &Stored) {
    let put = Put::Deleted { reserved_until: NOW };
    let write = Write {
        key: before.job.key().clone(),
        before: Some(before.clone()),
        put,
        lines: vec![],
        history: History::default(),
        once: None,
    };
    assert!(matches!(commit(engine, write).await, Outcome::Committed(_)));
}

fn progress(percent: u8) -> Change {
    let progress = Progress::try_from(f64::from(percent)).unwrap();
    Change::Patch(Patch { progress: Some(progress), ..Patch::default() })
}

fn status(status: Status) -> Change {
    Change::Patch(Patch { status: Some(status), ..Patch::default() })
}

fn user(value: &str) -> (LabelKey, LabelValue) {
    (LabelKey::try_from("user").unwrap(), LabelValue::try_from(value).unwrap())
}

fn relabel(value: &str) -> Change {
    let (key, value) = user(value);
    let labels = LabelEdit { set: [(key, Some(value))].into_iter().collect(), ..LabelEdit::default() };
    Change::Patch(Patch { labels, ..Patch::default() })
}

#[tokio::test]
async fn a_commit_with_news_is_an_entry_and_one_without_is_none() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    assert_eq!(end(&engine).await, FeedPlace(0));
    assert_eq!(page(&engine, FeedPlace(0)).await.unwrap().to, FeedPlace(0));
    let one = create(&engine, &new_job("one", "k", &[])).await;
    let two = create(&engine, &new_job("two", "k", &[])).await;
    let both = page(&engine, FeedPlace(0)).await.expect("who came before the first entry has a place");
    assert_eq!(both.moved.iter().map(|moved| moved.number).collect::<Vec<_>>(), [one.place.number, two.place.number]);
    assert_eq!(both.to, end(&engine).await);

    let logged = change(&engine, &one, &append(["line".into()])).await;
    assert_eq!(end(&engine).await, both.to, "a log line is no news");
    let stale = Write {
        key: key("one"),
        before: Some(one.clone()),
        put: Put::Changed(one.job.clone()),
        lines: vec![],
        history: History::default(),
        once: None,
    };
    assert!(matches!(commit(&engine, stale).await, Outcome::Conflict(_)));
    assert_eq!(end(&engine).await, both.to, "nor is a conflict");

    change(&engine, &two, &progress(1)).await;
    change(&engine, &logged, &progress(2)).await;
    let after = page(&engine, both.to).await.unwrap();
    assert_eq!(after.moved.iter().map(|moved| moved.number).collect::<Vec<_>>(), [two.place.number, one.place.number]);
    assert!(page(&engine, end(&engine).await).await.unwrap().moved.is_empty());
    for unknown in [1, both.to.0 - 2, end(&engine).await.0 + 1, u64::MAX] {
        assert!(page(&engine, FeedPlace(unknown)).await.is_none(), "{unknown}");
    }
}

#[tokio::test]
async fn the_feed_outlives_the_process_and_forgets_what_is_old() {
    let directory = TempDir::new().unwrap();
    let clock = Clock::manual(NOW);
    let engine = Sqlite::open(directory.path(), settings(), clock.clone()).unwrap();
    let mut job = create(&engine, &new_job("one", "k", &[])).await;
    let other = create(&engine, &new_job("other", "k", &[])).await;
    let first = end(&engine).await;
    job = change(&engine, &job, &progress(1)).await;
    delete(&engine, &other).await;
    let numbers = vec![other.place.number, job.place.number];
    let fed = engine.fed(numbers.clone()).await.unwrap().unwrap();
    assert!(matches!(&fed[..], [Fed::Gone(gone), Fed::Job(_)] if gone.id.as_str() == "other"), "{fed:?}");
    let second = end(&engine).await;
    engine.close().await.unwrap();
    drop(engine);
    let engine = Sqlite::open(directory.path(), settings(), clock.clone()).unwrap();
    assert_eq!(end(&engine).await, second);
    assert_eq!(page(&engine, first).await.unwrap().to, second);
    assert!(engine.fed(numbers.clone()).await.unwrap().is_some());
    // Long after: who has everything that is old has everything; who has less may have missed something.
    clock.advance_ms(601_000);
    for percent in 0..70 {
        job = change(&engine, &job, &progress(percent)).await;
    }
    assert!(page(&engine, first).await.is_none());
    assert_eq!(page(&engine, second).await.unwrap().moved.len(), 1);
    clock.advance_ms(601_000);
    for percent in 0..70 {
        job = change(&engine, &job, &progress(percent)).await;
    }
    assert!(page(&engine, second).await.is_none());
    assert!(engine.fed(numbers).await.unwrap().is_none());
    engine.close().await.unwrap();
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    let count = |table: &str| -> i64 {
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let left = count("feed");
    assert_eq!(count("gone"), 0);
    assert!((70..=70 + 64).contains(&left), "{left} entries are left");
}

#[tokio::test]
async fn a_store_of_the_first_format_gets_a_feed() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let one = create(&engine, &new_job("one", "k", &[])).await;
    engine.close().await.unwrap();
    drop(engine);
    let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
    take_back_to(&file, 1);
    drop(file);
    let engine = open(directory.path());
    assert_eq!((find(&engine, "one").await.job, end(&engine).await), (one.job.clone(), FeedPlace(0)));
    change(&engine, &one, &progress(1)).await;
    assert_eq!(page(&engine, FeedPlace(0)).await.unwrap().moved.len(), 1);
}

#[tokio::test]
async fn a_page_keeps_to_its_bounds_and_takes_an_entry_at_least() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let many = (0..5).map(|number| creation(&new_job(&format!("many-{number}"), "k", &[]))).collect();
    engine.commit(many).await.unwrap();
    for number in 0..5 {
        create(&engine, &new_job(&format!("single-{number}"), "k", &[])).await;
    }
    let counts = async |jobs_max, entries_max| {
        let (mut after, mut counts) = (FeedPlace(0), Vec::new());
        while after != end(&engine).await {
            let query = FeedQuery { tenant: TENANT, after, jobs_max, entries_max };
            let page = engine.feed(query).await.unwrap().unwrap();
            counts.push(page.moved.len());
            after = page.to;
        }
        counts
    };
    assert_eq!(counts(3, 100).await, [5, 3, 2]);
    assert_eq!(counts(7, 100).await, [7, 3]);
    assert_eq!(counts(100, 2).await, [6, 2, 2]);
}

#[derive(Clone, Debug)]
enum Act {
    Create(u8),
    Progress(u8, u8),
    Status(u8, Status),
    Retry(u8),
    Relabel(u8, u8),
    Log(u8),
    Delete(u8),
    /// A reader takes a page of so many jobs.
    Page(usize),
    /// It is told what these have become.
    Tell,
}

fn act() -> impl Strategy<Value = Act> {
    let job = || 0..4_u8;
    prop_oneof![
        3 => job().prop_map(Act::Create),
        1 => (job(), 0..3_u8).prop_map(|(job, percent)| Act::Progress(job, percent)),
        4 => (job(), prop::sample::select(Status::ALL.to_vec())).prop_map(|(job, status)| Act::Status(job, status)),
        1 => job().prop_map(Act::Retry),
        3 => (job(), 0..2_u8).prop_map(|(job, user)| Act::Relabel(job, user)),
        1 => job().prop_map(Act::Log),
        2 => job().prop_map(Act::Delete),
        3 => (1..3_usize).prop_map(Act::Page),
        3 => Just(Act::Tell),
    ]
}

/// Somebody who knows a list and keeps it up to date from the feed.
struct Reader {
    statuses: Vec<Status>,
    labels: Vec<(LabelKey, LabelValue)>,
    at: FeedPlace,
    page: Option<FeedPage>,
    known: BTreeSet<String>,
}

impl Reader {
    fn fits(&self, job: &Job) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&job.status()))
            && self.labels.iter().all(|(key, value)| job.labels.has(key, value))
    }

    async fn tell(&mut self, engine: &Sqlite) {
        let Some(FeedPage { moved, to }) = self.page.take() else { return };
        let numbers = moved.iter().filter(|moved| moved.gone.is_none()).map(|moved| moved.number).collect();
        let mut fed = engine.fed(numbers).await.unwrap().expect("nothing is forgotten").into_iter();
        for moved in moved {
            let has_fitted = |labels| moved.past.has_fitted(&self.statuses, &self.labels, labels);
            let (id, is_here) = match &moved.gone {
                Some(gone) => (gone.id.clone(), has_fitted(None).then_some(false)),
                None => match fed.next().unwrap() {
                    Fed::Job(job) if self.fits(&job) => (job.key().id.clone(), Some(true)),
                    Fed::Job(job) => (job.key().id.clone(), has_fitted(Some(&job.labels)).then_some(false)),
                    Fed::Gone(gone) => (gone.id, Some(false)),
                },
            };
            match is_here {
                Some(true) => drop(self.known.insert(id.to_string())),
                Some(false) => drop(self.known.remove(id.as_str())),
                // What it is not told of it need not know.
                None => {}
            }
        }
        self.at = to;
    }
}

async fn play(
    acts: Vec<Act>,
    statuses: Vec<Status>,
    labels: Vec<(LabelKey, LabelValue)>,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut jobs: BTreeMap<u8, Stored> = BTreeMap::new();
    let mut reader = Reader { statuses, labels, at: FeedPlace(0), page: None, known: BTreeSet::new() };
    for act in acts {
        let (number, wanted) = match act {
            Act::Create(number) => {
                if let Entry::Vacant(place) = jobs.entry(number) {
                    let new = new_job(&format!("job-{number}"), "k", &[("user", "0")]);
                    place.insert(create(&engine, &new).await);
                }
                continue;
            }
            Act::Delete(number) => {
                if let Some(stored) = jobs.remove(&number) {
                    delete(&engine, &stored).await;
                }
                continue;
            }
            Act::Page(jobs_max) => {
                if reader.page.is_none() {
                    let query = FeedQuery { tenant: TENANT, after: reader.at, jobs_max, entries_max: 3 };
                    reader.page = engine.feed(query).await.unwrap();
                }
                continue;
            }
            Act::Tell => {
                reader.tell(&engine).await;
                continue;
            }
            Act::Progress(number, percent) => (number, progress(percent)),
            Act::Status(number, to) => (number, status(to)),
            Act::Retry(number) => (number, Change::Retry(milepost::job::Retry { attempt: None })),
            Act::Relabel(number, to) => (number, relabel(&to.to_string())),
            Act::Log(number) => (number, append(["line".into()])),
        };
        let Some(before) = jobs.get(&number) else { continue };
        let guard = Guard { attempt: Some(before.job.attempt), versions: None };
        if before.job.apply(&wanted, &guard, &limits(), NOW).is_ok_and(|applied| applied.changed) {
            let after = change(&engine, before, &wanted).await;
            jobs.insert(number, after);
        }
    }
    reader.tell(&engine).await;
    while reader.at != end(&engine).await {
        reader.page = page(&engine, reader.at).await;
        reader.tell(&engine).await;
    }
    let fitting = jobs.values().filter(|stored| reader.fits(&stored.job));
    let expected = fitting.map(|stored| stored.job.key().id.to_string()).collect();
    (reader.known, expected)
}

#[test]
fn who_follows_a_feed_knows_what_a_list_would_say() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let statuses = prop::collection::vec(prop::sample::select(Status::ALL.to_vec()), 0..3);
    let labels = prop::option::of((0..2_u8).prop_map(|value| user(&value.to_string())));
    let seeds = FileFailurePersistence::Direct("tests/it/engine/regressions.txt");
    let config = ProptestConfig { failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::with_cases(150) };
    let acts = prop::collection::vec(act(), 1..60);
    let checked = TestRunner::new(config).run(&(acts, statuses, labels), |(acts, statuses, label)| {
        let (known, expected) = runtime.block_on(play(acts, statuses, label.into_iter().collect()));
        prop_assert_eq!(known, expected);
        Ok(())
    });
    checked.unwrap();
}

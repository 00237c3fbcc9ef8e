//! Reads all jobs in every way there is, and compares them with the ledger.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::TryStreamExt;
use milepost::{
    engine::{Fed, FeedQuery, Flow, ListQuery, Order},
    job::{Document, Job, Kind, Status},
    store::{JobStore, KindStats, StoreError, portable::Decoder},
};
use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};
use serde_json::Value;

use super::{
    answers::{Told, is_document},
    entry::Entry,
    ledger::Tally,
    look::given,
    past::{Happening, Over},
    saga::KINDS,
    teller::Teller,
};
use crate::model::wire::{self, label_key, label_value};

/// How far back flows are counted.
const FLOW_MINUTES: u64 = 60;

/// Lists, counts and an export.
pub(super) async fn survey(teller: &mut Teller<'_>, store: &JobStore, page: usize) -> Told {
    let all = query(teller, page);
    list(teller, store, all.clone(), |_| true).await?;
    list(teller, store, ListQuery { order: Order::Oldest, ..all.clone() }, |_| true).await?;
    // One filter of each sort will do; which is another one each time.
    let turn = teller.ledger.jobs.len() + page;
    let (status, kind) = (Status::ALL[turn % Status::ALL.len()], KINDS[turn % KINDS.len()]);
    let statuses: BTreeSet<_> = [status, Status::Queued].into();
    let by_status = ListQuery {
        statuses: statuses.iter().copied().collect(),
        kinds: vec![Kind::try_from(kind).unwrap()],
        ..all.clone()
    };
    let has_status =
        |entry: &Entry| entry.kind == kind && statuses.iter().any(|status| status.as_str() == entry.model.status);
    list(teller, store, by_status, has_status).await?;
    let labels: BTreeSet<_> = teller.ledger.jobs.values().flat_map(|entry| entry.model.labels.clone()).collect();
    if let Some((key, value)) = labels.iter().cycle().nth(turn) {
        let wanted = vec![(label_key(key), label_value(value))];
        let by_label = ListQuery { labels: wanted, ..all.clone() };
        list(teller, store, by_label, |entry| entry.model.labels.get(key) == Some(value)).await?;
        let by_text = ListQuery { text: Some(value.clone()), ..all.clone() };
        let has_text = |entry: &Entry| entry.id.starts_with(value) || entry.model.labels.values().any(|v| v == value);
        list(teller, store, by_text, has_text).await?;
    }
    figures(teller, store).await?;
    export(teller, store).await
}

fn query(teller: &Teller<'_>, jobs_max: usize) -> ListQuery {
    ListQuery {
        tenant: teller.caller.tenant,
        statuses: Vec::new(),
        kinds: Vec::new(),
        labels: Vec::new(),
        text: None,
        order: Order::Newest,
        after: None,
        jobs_max,
        scan_max: jobs_max + 1,
    }
}

/// The jobs of one query, page by page.
async fn list(teller: &Teller<'_>, store: &JobStore, mut query: ListQuery, is_wanted: impl Fn(&Entry) -> bool) -> Told {
    let mut entries: Vec<_> = teller.ledger.jobs.values().filter(|entry| is_wanted(entry)).collect();
    entries.sort_by_key(|entry| entry.nth);
    if query.order == Order::Newest {
        entries.reverse();
    }
    let mut listed: Vec<Arc<Job>> = Vec::new();
    loop {
        let page = given(store.list(query.clone()).await)?;
        prop_assert!(page.jobs.len() <= query.jobs_max, "more jobs than were asked for");
        listed.extend(page.jobs);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
        prop_assert!(listed.len() <= entries.len(), "a list without end: {:?}", query);
    }
    let ids: Vec<_> = listed.iter().map(|job| job.key().id.as_str().to_owned()).collect();
    let expected: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
    prop_assert_eq!(ids, expected, "the jobs of {:?}", query);
    for (job, entry) in listed.iter().zip(entries) {
        prop_assert_eq!(&job.result, &None, "a list is without results");
        without_result(teller, job, entry)?;
    }
    Ok(())
}

fn without_result(teller: &Teller<'_>, job: &Job, entry: &Entry) -> Told {
    let mut entry = entry.clone();
    entry.model.result = Value::Null;
    is_document(&Document::new(job).encode(), &entry, &teller.ledger)
}

/// What is counted of all of them.
async fn figures(teller: &Teller<'_>, store: &JobStore) -> Told {
    let mut stats = given(store.stats(teller.caller).await)?;
    let now = teller.world.clock().now();
    for kind in KINDS {
        let KindStats { jobs, tally } = stats.remove(&Kind::try_from(kind).unwrap()).unwrap_or_default();
        let stand = |status: &Status| {
            let stands = |entry: &&Entry| entry.kind == kind && entry.model.status == status.as_str();
            teller.ledger.jobs.values().filter(stands).count() as u64
        };
        prop_assert_eq!(jobs.to_vec(), Status::ALL.iter().map(stand).collect::<Vec<_>>(), "how many jobs are {}", kind);
        let known = teller.ledger.tallies.get(kind).copied().unwrap_or_default();
        let mut counted = Tally { begun: tally.waits.count(), timed: tally.durations.count(), ..known };
        // Of what was longer ago only these two are kept.
        if now.0 < teller.begun + (FLOW_MINUTES - 1) * 60_000 {
            let Flow { created, completed, failed, cancelled } = tally.flow(now, FLOW_MINUTES);
            counted = Tally { created, completed, failed, cancelled, ..counted };
        }
        prop_assert_eq!(counted, known, "what is counted of {}", kind);
    }
    prop_assert!(stats.is_empty(), "kinds that nobody named: {:?}", stats);
    Ok(())
}

/// Everything, as text. Others have taken out what was theirs.
async fn export(teller: &Teller<'_>, store: &JobStore) -> Told {
    let pieces: Vec<_> = given(given(store.export().await)?.map_err(StoreError::from).try_collect().await)?;
    let (text, mut decoder, mut jobs) = (pieces.concat(), Decoder::new(), Vec::new());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        jobs.extend(decoder.line(line).map_err(|error| TestCaseError::fail(error.to_string()))?);
    }
    prop_assert!(decoder.finish().is_ok(), "the export was cut off");
    let mut entries: Vec<_> = teller.ledger.jobs.values().collect();
    entries.sort_by_key(|entry| entry.nth);
    prop_assert_eq!(jobs.len(), entries.len(), "jobs in the export");
    for (exported, entry) in jobs.iter().zip(entries) {
        is_document(&Document::new(&exported.job).encode(), entry, &teller.ledger)?;
        prop_assert_eq!(exported.job.revision, entry.model.revision);
        prop_assert_eq!(exported.input.as_ref().map(|input| input.to_value()), entry.input.clone());
        let timeline: Vec<_> = exported.history.timeline.iter().map(Happening::from).collect();
        prop_assert_eq!(&timeline, &entry.past.timeline, "the timeline of {}", entry.id);
        let attempts: Vec<_> = exported.history.attempts.iter().map(Over::from).collect();
        prop_assert_eq!(&attempts, &entry.past.attempts, "the attempts of {}", entry.id);
        let lines: Vec<_> = exported.lines.iter().flat_map(|lines| lines.iter()).map(wire::plain).collect();
        let begin = exported.job.log.dropped as usize;
        prop_assert_eq!(&lines[..], &entry.model.log[begin..], "the log of {}", entry.id);
    }
    Ok(())
}

/// What has moved since the feed was last read, in pages of so many jobs.
pub(super) async fn feed(teller: &mut Teller<'_>, jobs_max: usize) -> Told {
    let store = teller.stores().swap_remove(0);
    let mut due = std::mem::take(&mut teller.ledger.fed);
    let end = given(store.feed_end(teller.caller).await)?;
    let (mut moved, mut gone) = (BTreeSet::new(), due.gone.clone());
    while teller.mark < end {
        let query = FeedQuery { tenant: teller.caller.tenant, after: teller.mark, jobs_max, entries_max: 2 };
        let Some(page) = given(store.feed(query).await)? else {
            prop_assert!(false, "the feed after {} is forgotten", teller.mark);
            break;
        };
        prop_assert!(page.to > teller.mark, "a page of the feed that leads nowhere");
        teller.mark = page.to;
        let numbers = page.moved.iter().map(|moved| moved.number).collect();
        let Some(fed) = given(store.fed(numbers).await)? else {
            prop_assert!(false, "what the feed told of is forgotten");
            break;
        };
        for fed in fed {
            match fed {
                Fed::Job(job) => {
                    let Some(entry) = teller.ledger.jobs.get(job.key().id.as_str()) else {
                        prop_assert!(false, "the feed tells of {:?}, which is none", job);
                        continue;
                    };
                    prop_assert!(due.moved.contains_key(&entry.nth), "{} has not moved", entry.id);
                    without_result(teller, &job, entry)?;
                    moved.insert(entry.nth);
                }
                Fed::Gone(told) => {
                    let is_it = |(id, kind): &(String, &str)| id == told.id.as_str() && *kind == told.kind.as_str();
                    prop_assert!(due.gone.values().any(is_it), "{:?} has not gone", told);
                    gone.retain(|_, gone| !is_it(gone));
                }
            }
        }
    }
    prop_assert_eq!(gone, Default::default(), "jobs that have gone, and the feed does not tell");
    // What moved and was as before is told or not: it may have been one commit.
    due.moved.retain(|nth, news| {
        let entry = teller.ledger.jobs.values().find(|entry| entry.nth == *nth);
        !moved.contains(nth) && entry.is_some_and(|entry| entry.news() != *news)
    });
    prop_assert!(due.moved.is_empty(), "jobs that have moved, and the feed does not tell: {:?}", due.moved);
    Ok(())
}

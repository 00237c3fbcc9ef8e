//! Reads jobs in every way there is, and compares them with the ledger.

use milepost::{
    engine::LogEnd,
    store::{JobStore, Snapshot, StoreError},
};
use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};
use serde_json::{Value, json};

use super::{
    answers::{Told, is_document},
    entry::Entry,
    ledger::Why,
    past::{Happening, Over},
    survey,
    teller::Teller,
    world::DOCUMENT_LINES,
};
use crate::model::{wire, words::Line};

/// Everything, at each store, in pages of so many.
pub(super) async fn look(teller: &mut Teller<'_>, page: usize) -> Told {
    for store in teller.stores() {
        for entry in teller.ledger.jobs.clone().into_values() {
            job(teller, &store, &entry, page).await?;
        }
        for id in teller.ids() {
            if !teller.ledger.jobs.contains_key(&id) {
                let found = store.read(teller.caller, &teller.key(&id).id).await;
                let is_missing = found.as_ref().is_err_and(|error| Why::from(error) == Why::NotFound);
                prop_assert!(is_missing, "{} is no job, but {:?}", id, found);
            }
        }
        survey::survey(teller, &store, page).await?;
    }
    survey::feed(teller, page).await
}

/// What the store gives whenever it is asked.
pub(super) fn given<T>(answer: Result<T, StoreError>) -> Result<T, TestCaseError> {
    answer.map_err(|error| TestCaseError::fail(error.to_string()))
}

async fn job(teller: &mut Teller<'_>, store: &JobStore, entry: &Entry, page: usize) -> Told {
    let snapshot = given(store.read(teller.caller, &teller.key(&entry.id).id).await)?;
    teller.is_as(snapshot.job(), entry)?;
    let input = given(store.input(&snapshot).await)?;
    prop_assert_eq!(input.map(|input| input.to_value()), entry.input.clone(), "the input of {}", entry.id);
    let timeline: Vec<_> = given(store.timeline(&snapshot).await)?.iter().map(Happening::from).collect();
    prop_assert_eq!(&timeline, &entry.past.timeline, "the timeline of {}", entry.id);
    let attempts: Vec<_> = given(store.attempts(&snapshot).await)?.iter().map(Over::from).collect();
    prop_assert_eq!(&attempts, &entry.past.attempts, "the attempts of {}", entry.id);
    let lines = &entry.model.log[snapshot.job().log.dropped as usize..];
    log(teller, store, &snapshot, lines, page).await?;
    poll(teller, store, &snapshot, (entry, lines)).await
}

/// The lines that a log has, page by page from its begin, and from its end.
async fn log(teller: &Teller<'_>, store: &JobStore, of: &Snapshot, lines: &[Line], page: usize) -> Told {
    let (id, count) = (&of.job().key().id, of.job().log.count);
    let is_page = |got: &[Line]| {
        let bytes: usize = got.iter().map(|line| line.text.len()).sum();
        got.len() <= page && (bytes <= teller.saga.page_bytes || got.len() == 1)
    };
    let (mut told, mut seq) = (Vec::new(), 0);
    while seq < count && !lines.is_empty() {
        let got = given(store.lines_after(of, seq, page, teller.saga.page_bytes).await)?;
        let got: Vec<_> = got.iter().map(wire::plain).collect();
        prop_assert!(is_page(&got), "the lines of {} after {} are too many: {:?}", id, seq, got);
        let Some(last) = got.last() else {
            prop_assert!(false, "the log of {} breaks off after {}", id, seq);
            break;
        };
        seq = last.seq;
        told.extend(got);
    }
    prop_assert_eq!(&told[..], lines, "the log of {}", id);
    let got = given(store.lines(of, LogEnd::Newest, page).await)?;
    let got: Vec<_> = got.iter().map(wire::plain).collect();
    prop_assert!(is_page(&got), "the last lines of {} are too many: {:?}", id, got);
    prop_assert!(lines.ends_with(&got), "the last lines of {}: {:?}", id, got);
    prop_assert!(got.is_empty() == lines.is_empty(), "the last lines of {} are none", id);
    Ok(())
}

/// What a poll gets: the document with the last lines.
async fn poll(teller: &Teller<'_>, store: &JobStore, of: &Snapshot, (entry, lines): (&Entry, &[Line])) -> Told {
    let text = given(store.document(of).await)?;
    let mut document: Value = serde_json::from_slice(&text).unwrap();
    let members = document.as_object_mut().unwrap();
    let (logs, from) = (members.remove("logs"), members.remove("logs_from"));
    let texts: Vec<_> = lines.iter().map(|line| json!(line.text)).collect();
    let Some(Value::Array(logs)) = logs else {
        prop_assert!(false, "a document without logs: {}", document);
        return Ok(());
    };
    prop_assert!(texts.ends_with(&logs), "the logs of {} are {:?}", entry.id, logs);
    prop_assert!(logs.len() <= DOCUMENT_LINES && logs.is_empty() == texts.is_empty(), "{:?}", logs);
    prop_assert_eq!(from, Some(json!(entry.model.log.len() - logs.len() + 1)), "where the logs of {} begin", entry.id);
    is_document(document.to_string().as_bytes(), entry, &teller.ledger)
}

//! What the store says, beside what the ledger says.

use milepost::{
    job::{Document, Job},
    store::{Claimed, Created, Creation, StoreError, Updated},
};
use proptest::{prop_assert_eq, test_runner::TestCaseError};
use serde_json::Value;

use super::{
    entry::Entry,
    ledger::{Given, Ledger, Why},
    teller::{Seen, Teller},
};
use crate::model::{wire, words::Answer};

pub(super) type Told = Result<(), TestCaseError>;

impl Teller<'_> {
    /// A job was made, or stood, as it was to.
    pub(super) fn is_made(
        &mut self,
        answer: Result<Created, StoreError>,
        expected: Result<(Entry, Creation), Why>,
    ) -> Told {
        let Some((created, (entry, how))) = both(answer, expected)? else { return Ok(()) };
        prop_assert_eq!(created.how, how, "how {} came to be", entry.id);
        prop_assert_eq!(created.input.map(|input| input.to_value()), entry.input.clone(), "the input of {}", entry.id);
        let lines: Vec<_> = created.lines.iter().map(wire::plain).collect();
        let said = if how == Creation::Made { entry.model.log.clone() } else { Vec::new() };
        prop_assert_eq!(lines, said, "the lines that {} was made with", entry.id);
        self.is_as(&created.job, &entry)
    }

    /// A job was changed as it was to be.
    pub(super) fn is_changed(
        &mut self,
        answer: Result<Updated, StoreError>,
        expected: Result<(Entry, Answer), Why>,
    ) -> Told {
        let Some((updated, (entry, answer))) = both(answer, expected)? else { return Ok(()) };
        let lines: Vec<_> = updated.lines.iter().map(wire::plain).collect();
        prop_assert_eq!(lines, answer.lines, "the lines appended to {}", entry.id);
        prop_assert_eq!(updated.duplicates, answer.duplicates, "lines that the log of {} had", entry.id);
        prop_assert_eq!(updated.result_changed, answer.result_changed, "whether {} has a new result", entry.id);
        self.is_as(&updated.job, &entry)
    }

    /// A worker got the job that it was to get, or none.
    pub(super) fn is_given(
        &mut self,
        answer: Result<Option<Claimed>, StoreError>,
        expected: Result<Option<Given>, Why>,
    ) -> Told {
        match both(answer, expected)? {
            None | Some((None, None)) => Ok(()),
            Some((Some(claimed), Some(Given { entry, is_replayed }))) => {
                prop_assert_eq!(claimed.job.key(), &self.key(&entry.id), "another one's turn");
                prop_assert_eq!(claimed.is_replayed, is_replayed, "whether {} was given before", entry.id);
                let input = claimed.input.map(|input| input.to_value());
                prop_assert_eq!(input, entry.input.clone(), "the input of {}", entry.id);
                self.is_as(&claimed.job, &entry)
            }
            Some((claimed, given)) => Err(TestCaseError::fail(format!("given {claimed:?}\ninstead of {given:?}"))),
        }
    }

    /// A job is as the ledger has it.
    pub(super) fn is_as(&mut self, job: &Job, entry: &Entry) -> Told {
        let mut model = entry.model.clone();
        let seen = self.seen.entry(entry.nth).or_default();
        model.dropped = seen.dropped;
        let trimmed = model.trim(job.log.dropped, entry.model.log.len() > seen.lines);
        *seen = Seen { dropped: job.log.dropped, lines: entry.model.log.len() };
        prop_assert_eq!(trimmed, Ok(()), "where the log of {} begins", entry.id);
        prop_assert_eq!(job.revision, entry.model.revision, "the revision of {}", entry.id);
        is_document(&Document::new(job).encode(), entry, &self.ledger)
    }
}

/// The document of a job is as the ledger has it.
pub(super) fn is_document(document: &[u8], entry: &Entry, ledger: &Ledger) -> Told {
    let document: Value = serde_json::from_slice(document).unwrap();
    let mut expected = entry.document();
    // Once others of its kind have been completed, it says how long it may take before it has come anywhere.
    let has_begun = expected["status"] == "processing" && expected["progress_pct"] == 0;
    if has_begun && ledger.tallies.get(entry.kind).is_some_and(|tally| tally.timed > 0) {
        expected["eta_seconds"] = document["eta_seconds"].clone();
    }
    prop_assert_eq!(document, expected, "the document of {}", entry.id);
    Ok(())
}

/// Both did it, and here is what came of it; or neither, for the same reason.
pub(super) fn both<S, L>(
    answer: Result<S, StoreError>,
    expected: Result<L, Why>,
) -> Result<Option<(S, L)>, TestCaseError> {
    match (answer, expected) {
        (Ok(answer), Ok(expected)) => Ok(Some((answer, expected))),
        (answer, expected) => {
            let refused = (answer.err().as_ref().map(Why::from), expected.err());
            prop_assert_eq!(&refused.0, &refused.1, "why nothing was done");
            Ok(None)
        }
    }
}

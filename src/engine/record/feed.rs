//! What entries of a feed hold.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{labels, status_of};
use crate::{
    engine::{EngineError, Gone, Moved, Past},
    job::{JobId, Kind, Labels, Status},
};

/// How a job moved.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct Change {
    pub(in crate::engine) job: u64,
    pub(in crate::engine) how: How,
}

/// What it was before; statuses by their numbers in the store.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) enum How {
    Made,
    Changed(u8),
    Relabelled(u8, Texts),
    Deleted { status: u8, labels: Texts, id: String, kind: String },
}

/// Labels.
pub(in crate::engine) type Texts = Vec<(String, String)>;

pub(in crate::engine) fn texts(labels: &Labels) -> Texts {
    labels.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned())).collect()
}

/// Jobs that have moved, each once.
#[derive(Default)]
pub(in crate::engine) struct Gathered {
    moved: Vec<(u64, Moved)>,
    index: HashMap<u64, usize>,
}

impl Gathered {
    /// How many jobs there would be.
    pub(in crate::engine) fn count_with(&self, changes: &[Change]) -> usize {
        self.moved.len() + changes.iter().filter(|change| !self.index.contains_key(&change.job)).count()
    }

    pub(in crate::engine) fn add(&mut self, change: Change, entry: u64) -> Result<(), EngineError> {
        let number = change.job;
        let at = *self.index.entry(number).or_insert_with(|| {
            self.moved.push((entry, Moved { number, past: Past::default(), gone: None }));
            self.moved.len() - 1
        });
        let (last, moved) = &mut self.moved[at];
        *last = entry;
        match change.how {
            How::Made => {}
            How::Changed(status) => moved.past.stood(stood(entry, status)?),
            How::Relabelled(status, labels) => {
                moved.past.stood(stood(entry, status)?);
                moved.past.had(had(entry, &labels)?);
            }
            How::Deleted { status, labels, id, kind } => {
                moved.past.stood(stood(entry, status)?);
                moved.past.had(had(entry, &labels)?);
                moved.gone = Some(Box::new(what_is_gone(entry, &id, &kind)?));
            }
        }
        Ok(())
    }

    /// In the order of their last entries; those of one entry in the order in which they came.
    pub(in crate::engine) fn finish(mut self) -> Vec<Moved> {
        self.moved.sort_by_key(|(last, _)| *last);
        self.moved.into_iter().map(|(_, moved)| moved).collect()
    }
}

fn damaged(entry: u64, what: &str) -> EngineError {
    EngineError::Corrupt(format!("feed {entry}: {what}"))
}

fn stood(entry: u64, status: u8) -> Result<Status, EngineError> {
    status_of(status.into()).ok_or_else(|| damaged(entry, "status"))
}

fn had(entry: u64, texts: &Texts) -> Result<Labels, EngineError> {
    labels(texts).map_err(|_| damaged(entry, "labels"))
}

pub(in crate::engine) fn what_is_gone(entry: u64, id: &str, kind: &str) -> Result<Gone, EngineError> {
    let id = JobId::try_from(id).map_err(|_| damaged(entry, "id"))?;
    Ok(Gone { id, kind: Kind::try_from(kind).map_err(|_| damaged(entry, "kind"))? })
}

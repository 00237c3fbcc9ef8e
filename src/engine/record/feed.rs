//! What entries of a feed hold.

use std::{borrow::Cow, collections::HashMap};

use serde::{Deserialize, Serialize};

use super::{labels, status_of};
use crate::{
    engine::{Elsewhere, EngineError, Gone, Moved, MovedElsewhere, Past, Put, Write},
    job::{Job, JobId, JobKey, Kind, Labels, Status, Tenant},
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
type Texts = Vec<(String, String)>;

impl How {
    /// How a job has moved that was so before; `None` when that is no news.
    pub(in crate::engine) fn changed(before: &Job, job: &Job) -> Option<Self> {
        if !job.has_news_since(before) {
            return None;
        }
        let status = before.status() as u8;
        let is_relabelled = before.labels != job.labels;
        Some(if is_relabelled { Self::Relabelled(status, texts(&before.labels)) } else { Self::Changed(status) })
    }

    /// That a job was deleted which was so before.
    pub(in crate::engine) fn deleted(before: &Job) -> Self {
        let id = before.key().id.as_str().to_owned();
        let kind = before.spec.kind.as_str().to_owned();
        Self::Deleted { status: before.status() as u8, labels: texts(&before.labels), id, kind }
    }
}

/// That a job has moved, for those who wait for it elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Move<'a> {
    id: Cow<'a, str>,
    is_end: bool,
    has_news: bool,
    /// The kind in whose queue it has come.
    queued: Option<Cow<'a, str>>,
}

impl<'a> Move<'a> {
    /// What a write moves; `None` when nobody can see it.
    pub(in crate::engine) fn of(write: &'a Write, has_news: bool) -> Option<Self> {
        let before = write.before.as_ref().map(|stored| &*stored.job);
        let now = match &write.put {
            Put::New { job, .. } | Put::Changed(job) => Some(&**job),
            Put::Deleted { .. } => None,
        };
        if before.map(|job| job.version) == now.map(|job| job.version) {
            return None;
        }
        let has_come = now.filter(|job| job.has_come_since(before));
        Some(Self {
            id: write.key.id.as_str().into(),
            is_end: now.is_none_or(Job::is_done),
            has_news,
            queued: has_come.map(|job| job.spec.kind.as_str().into()),
        })
    }

    /// The same with the names that it stands for.
    pub(in crate::engine) fn elsewhere(self, tenant: Tenant) -> Result<Elsewhere, EngineError> {
        let damaged = |what: &str| EngineError::Corrupt(format!("feed: {what} of a move"));
        let id = JobId::try_from(&*self.id).map_err(|_| damaged("id"))?;
        let kind = self.queued.as_deref().map(Kind::try_from).transpose().map_err(|_| damaged("kind"))?;
        let (is_end, has_news) = (self.is_end, self.has_news);
        let key = JobKey { tenant, id };
        Ok(Elsewhere::Moved(MovedElsewhere { key, is_end, has_news, queued: kind }))
    }
}

fn texts(labels: &Labels) -> Texts {
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
                moved.past.relabelled(had(entry, &labels)?);
            }
            How::Deleted { status, labels, id, kind } => {
                moved.past.stood(stood(entry, status)?);
                moved.past.ended(had(entry, &labels)?);
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

//! Jobs in use and their encoded documents, bounded by bytes and not by the number of jobs.
//!
//! Promises: a job in the cache is the last one committed here. A read that was overtaken by a commit never puts the
//! older job back, since the commit takes the place that the read had reserved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quick_cache::{
    Weighter,
    sync::{Cache as Map, EntryAction, EntryResult},
};

use crate::{
    engine::{EngineError, Stored},
    job::{Job, JobKey, Json, Version},
};

/// A job as it was at one moment, with its document once a poll has asked for it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// These two of the job, so that an answer from memory, or making room, touches nothing else.
    version: Version,
    weight: u64,
    document: Option<Bytes>,
    /// Another process is said to have moved the job since.
    is_doubted: AtomicBool,
    stored: Stored,
}

impl Snapshot {
    pub(super) fn new(stored: Stored) -> Self {
        Self::with(stored, None, false)
    }

    /// One whose document is known.
    pub(super) fn with_document(stored: Stored, document: Bytes) -> Self {
        Self::with(stored, Some(document), false)
    }

    fn with(stored: Stored, document: Option<Bytes>, is_doubted: bool) -> Self {
        let (version, weight) = (stored.job.version, weight(&stored.job, document.as_ref()));
        Self(Arc::new(Inner { version, weight, document, is_doubted: is_doubted.into(), stored }))
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.0.stored.job
    }

    /// The version of the job.
    pub fn version(&self) -> Version {
        self.0.version
    }

    pub(super) fn stored(&self) -> &Stored {
        &self.0.stored
    }

    /// Whether it is hardly the job as it is, and better looked for again than decided on.
    pub(super) fn is_doubted(&self) -> bool {
        self.0.is_doubted.load(Ordering::Relaxed)
    }

    pub(super) fn document(&self) -> Option<&Bytes> {
        self.0.document.as_ref()
    }
}

/// The memory of the store.
pub(super) struct Cache {
    jobs: Map<JobKey, Snapshot, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<JobKey, Snapshot> for Weight {
    fn weight(&self, _: &JobKey, snapshot: &Snapshot) -> u64 {
        snapshot.0.weight
    }
}

/// Bytes of memory that a job and its document take, about.
pub(crate) fn weight(job: &Job, document: Option<&Bytes>) -> u64 {
    // What the structs, their reference counts and a slot of the map take: 900 measured with a million jobs, what makes a
    // snapshot of them, and the end of a timeline.
    const FIXED: usize = 1200;
    let json = |value: &Option<Json>| value.as_ref().map_or(0, |json| json.as_str().len());
    let labels: usize = job.labels.iter().map(|(key, value)| key.as_str().len() + value.as_str().len() + 64).sum();
    let writers: usize = job.log.writers.iter().map(|(writer, _)| writer.as_str().len() + 48).sum();
    let document = document.map_or(0, |text| text.len() + 64);
    (FIXED + json(&job.result) + json(&job.error) + labels + writers + document) as u64
}

impl Cache {
    /// A cache of at most this many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        // Only sizes the hash tables at first; the weight is what bounds them.
        let expected_items = usize::try_from(bytes_max / 2048).unwrap_or(usize::MAX).clamp(16, 100_000);
        Self { jobs: Map::with_weighter(expected_items, bytes_max, Weight) }
    }

    /// The job, if it is here.
    pub(super) fn get(&self, key: &JobKey) -> Option<Snapshot> {
        self.jobs.get(key)
    }

    /// The job, if there is one, from memory or else from `load`, which is called once for all who ask meanwhile; and whether it
    /// was for this caller.
    pub(super) async fn get_or_load<F>(&self, key: &JobKey, load: F) -> Result<Option<(Snapshot, bool)>, EngineError>
    where
        F: Future<Output = Result<Option<Snapshot>, EngineError>>,
    {
        match self.jobs.get_value_or_guard_async(key).await {
            Ok(snapshot) => Ok(Some((snapshot, false))),
            Err(place) => {
                let Some(snapshot) = load.await? else { return Ok(None) };
                let kept =
                    if self.has_room(&snapshot) { snapshot.clone() } else { Snapshot::new(snapshot.stored().clone()) };
                // Fails when a commit was faster; what was read is then as old as the request, which is fresh enough.
                let _overtaken = place.insert(kept);
                Ok(Some((snapshot, true)))
            }
        }
    }

    /// Takes the state a commit has made durable.
    pub(super) fn put(&self, key: JobKey, stored: Stored) -> Snapshot {
        let snapshot = Snapshot::new(stored);
        if self.has_room(&snapshot) {
            self.jobs.insert(key, snapshot.clone());
        } else {
            // The map would refuse it and leave a read under way in its place, which would then bring back an older job.
            self.jobs.remove(&key);
        }
        snapshot
    }

    /// Takes note that another process has moved a job. Whoever puts it back without that costs a look, and no more.
    pub(super) fn doubt(&self, key: &JobKey) {
        if let Some(snapshot) = self.jobs.peek(key) {
            snapshot.0.is_doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets a job that is gone.
    pub(super) fn remove(&self, key: &JobKey) {
        self.jobs.remove(key);
    }

    /// Keeps the document of a snapshot, unless there is a newer one by now.
    pub(super) fn put_document(&self, of: &Snapshot, document: Bytes) {
        let key = of.job().key();
        let with_document = Snapshot::with(of.stored().clone(), Some(document), of.is_doubted());
        if !self.has_room(&with_document) {
            return;
        }
        let same = |_: &JobKey, here: &mut Snapshot| {
            if Arc::ptr_eq(&here.0, &of.0) { EntryAction::ReplaceWithGuard } else { EntryAction::Retain(()) }
        };
        // Without waiting: whoever loads the job meanwhile brings another snapshot of it.
        if let EntryResult::Replaced(place, _) = self.jobs.entry(key, Some(Duration::ZERO), same) {
            let _overtaken = place.insert(with_document);
        }
    }

    fn has_room(&self, snapshot: &Snapshot) -> bool {
        snapshot.0.weight <= self.jobs.shard_capacity() / 2
    }
}

//! Jobs in use and their encoded documents, bounded by bytes and not by the number of jobs.
//!
//! Promises: a job in the cache is the last one committed here. A read that was overtaken by a commit never puts the
//! older job back, since the commit takes the place that the read had reserved.

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache as Map};

use crate::{
    engine::{EngineError, Found, Stored},
    job::JobKey,
};

/// A document as the poll of a frontend gets it, and the revision of the job that it shows.
#[derive(Clone, Debug)]
struct Encoded {
    revision: u64,
    text: Bytes,
}

/// The memory of the store.
pub(super) struct Cache {
    jobs: Map<JobKey, Stored, JobWeight>,
    documents: Map<JobKey, Encoded, DocumentWeight>,
}

#[derive(Clone)]
struct JobWeight;

impl Weighter<JobKey, Stored> for JobWeight {
    fn weight(&self, key: &JobKey, stored: &Stored) -> u64 {
        // What the structs, their reference counts and a slot of the map take; measured with a million jobs.
        const FIXED: usize = 900;
        let job = &stored.job;
        let json = |value: &Option<crate::job::Json>| value.as_ref().map_or(0, |json| json.as_str().len());
        let labels: usize = job.labels.iter().map(|(key, value)| key.as_str().len() + value.as_str().len() + 64).sum();
        let writers: usize = job.log.writers.iter().map(|(writer, _)| writer.as_str().len() + 48).sum();
        (FIXED + key.id.as_str().len() * 2 + json(&job.result) + json(&job.error) + labels + writers) as u64
    }
}

#[derive(Clone)]
struct DocumentWeight;

impl Weighter<JobKey, Encoded> for DocumentWeight {
    fn weight(&self, key: &JobKey, document: &Encoded) -> u64 {
        const FIXED: usize = 160;
        (FIXED + key.id.as_str().len() + document.text.len()) as u64
    }
}

impl Cache {
    /// A cache of at most this many bytes, half of them for jobs and half for documents.
    pub(super) fn new(bytes_max: u64) -> Self {
        // Only sizes the hash tables at first; the weight is what bounds them.
        let expected_items = usize::try_from(bytes_max / 2 / 1024).unwrap_or(usize::MAX).clamp(16, 100_000);
        Self {
            jobs: Map::with_weighter(expected_items, bytes_max / 2, JobWeight),
            documents: Map::with_weighter(expected_items, bytes_max / 2, DocumentWeight),
        }
    }

    /// The job, if it is here.
    pub(super) fn get(&self, key: &JobKey) -> Option<Stored> {
        self.jobs.get(key)
    }

    /// The job, from memory or else from `load`, which is called once for all who ask meanwhile.
    pub(super) async fn get_or_load<F>(&self, key: &JobKey, load: F) -> Result<Found, EngineError>
    where
        F: Future<Output = Result<Found, EngineError>>,
    {
        match self.jobs.get_value_or_guard_async(key).await {
            Ok(stored) => Ok(Found::Job(stored)),
            Err(place) => {
                let found = load.await?;
                if let Found::Job(stored) = &found {
                    // Fails when a commit was faster; what was read is then as old as the request, which is fresh enough.
                    let _overtaken = place.insert(stored.clone());
                }
                Ok(found)
            }
        }
    }

    /// Takes the state a commit has made durable.
    pub(super) fn put(&self, stored: Stored) {
        let key = stored.job.key().clone();
        if JobWeight.weight(&key, &stored) > self.jobs.shard_capacity() / 2 {
            // The map would refuse it and leave a read under way in its place, which would then bring back an older job.
            self.jobs.remove(&key);
        } else {
            self.jobs.insert(key, stored);
        }
    }

    /// Forgets a job that is gone.
    pub(super) fn remove(&self, key: &JobKey) {
        self.jobs.remove(key);
        self.documents.remove(key);
    }

    /// The document of this very revision, if it is here.
    pub(super) fn document(&self, stored: &Stored) -> Option<Bytes> {
        let encoded = self.documents.get(stored.job.key())?;
        (encoded.revision == stored.job.revision).then_some(encoded.text)
    }

    /// Keeps the document of a revision.
    pub(super) fn put_document(&self, stored: &Stored, text: Bytes) {
        let encoded = Encoded { revision: stored.job.revision, text };
        self.documents.insert(stored.job.key().clone(), encoded);
    }
}

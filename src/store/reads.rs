//! Reads of one job: from memory where it is there, and else from the engine.
//!
//! Promises: what is read is as new as the last answer to a change, whichever process gave it; parts of a job are those of the
//! moment of its snapshot.

use bytes::Bytes;

use super::{Caller, Inner, JobStore, Settings, Snapshot, StoreError};
use crate::{
    engine::{EngineError, Found, LogEnd, LogSlice},
    job::{Attempt, Document, Job, JobId, JobKey, Json, LogLine, PastAttempt, Seq, TimelineEntry},
};

impl JobStore {
    /// A job as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the store's own.
    pub async fn read(&self, caller: Caller, id: &JobId) -> Result<Snapshot, StoreError> {
        let key = caller.key(id);
        let load = async {
            let found = self.inner.engine.find(&key).await?;
            Ok(found.job().map(Snapshot::new))
        };
        self.read_or_load(&key, load).await
    }

    /// As [`JobStore::read`], for whoever wants the document next: what is not in memory is read with all that it needs.
    ///
    /// # Errors
    /// As [`JobStore::read`].
    pub async fn read_for_document(&self, caller: Caller, id: &JobId) -> Result<Snapshot, StoreError> {
        let key = caller.key(id);
        let load = async {
            let (found, lines) = self.inner.engine.find_with_log(&key, self.document_slice()).await?;
            Ok(found.job().map(|stored| {
                let document = document(&stored.job, &lines);
                Snapshot::with_document(stored, document)
            }))
        };
        self.read_or_load(&key, load).await
    }

    async fn read_or_load(
        &self,
        key: &JobKey,
        load: impl Future<Output = Result<Option<Snapshot>, EngineError>>,
    ) -> Result<Snapshot, StoreError> {
        let Inner { cache, engine, .. } = &*self.inner;
        let snapshot = match cache.get(key) {
            Some(snapshot) => snapshot,
            None => match cache.get_or_load(key, load).await? {
                Some((snapshot, true)) => return Ok(snapshot),
                // Read for somebody who asked earlier.
                Some((snapshot, false)) => snapshot,
                None => return Err(StoreError::NotFound(key.id.clone())),
            },
        };
        match engine.moved(snapshot.stored()).await? {
            None => Ok(snapshot),
            Some(Found::Job(stored)) => Ok(cache.put(key.clone(), stored)),
            Some(Found::Reserved(_) | Found::Missing) => {
                cache.remove(key);
                Err(StoreError::NotFound(key.id.clone()))
            }
        }
    }

    /// The lines that stand in a document.
    fn document_slice(&self) -> LogSlice {
        let Settings { document_lines, log_page_bytes, .. } = *self.inner.settings;
        LogSlice { from: LogEnd::Newest, lines_max: document_lines, bytes_max: log_page_bytes }
    }

    /// The document that a poll gets: the job with the last lines of its log. Encoded once for each version.
    ///
    /// # Errors
    /// As [`JobStore::read`].
    pub async fn document(&self, snapshot: &Snapshot) -> Result<Bytes, StoreError> {
        if let Some(text) = snapshot.document() {
            return Ok(text.clone());
        }
        let lines = self.slice(snapshot, self.document_slice()).await?;
        let text = document(snapshot.job(), &lines);
        self.inner.cache.put_document(snapshot, text.clone());
        Ok(text)
    }

    /// Lines of a job's log, of the moment of the snapshot; at most `log_page_bytes` of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the job has gone meanwhile, or the store's own.
    pub async fn lines(&self, of: &Snapshot, from: LogEnd, lines_max: usize) -> Result<Vec<LogLine>, StoreError> {
        self.slice(of, LogSlice { from, lines_max, bytes_max: self.inner.settings.log_page_bytes }).await
    }

    /// Lines of a job's log that follow this one, of the moment of the snapshot; the first of them even if it alone is
    /// over `bytes_max`. None: all of them have been trimmed.
    ///
    /// # Errors
    /// As [`JobStore::lines`].
    pub async fn lines_after(
        &self,
        of: &Snapshot,
        seq: Seq,
        lines_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        self.slice(of, LogSlice { from: LogEnd::After(seq), lines_max, bytes_max }).await
    }

    async fn slice(&self, of: &Snapshot, slice: LogSlice) -> Result<Vec<LogLine>, StoreError> {
        if slice.is_nothing_of(&of.job().log) {
            return Ok(Vec::new());
        }
        let lines = self.inner.engine.log(of.stored(), slice).await?;
        lines.ok_or_else(|| StoreError::NotFound(of.job().key().id.clone()))
    }

    /// The attempts before that of the snapshot, in order, as many as are kept.
    ///
    /// # Errors
    /// The store's own.
    pub async fn attempts(&self, of: &Snapshot) -> Result<Vec<PastAttempt>, StoreError> {
        if of.job().attempt == Attempt::FIRST {
            return Ok(Vec::new());
        }
        Ok(self.inner.engine.attempts(of.stored()).await?)
    }

    /// The last entries of the job's timeline up to the snapshot, in order, as many as are kept.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the job has gone meanwhile, or the store's own.
    pub async fn timeline(&self, of: &Snapshot) -> Result<Vec<TimelineEntry>, StoreError> {
        let entries = self.inner.engine.timeline(of.stored()).await?;
        entries.ok_or_else(|| StoreError::NotFound(of.job().key().id.clone()))
    }

    /// The input a job was created with.
    ///
    /// # Errors
    /// The store's own.
    pub async fn input(&self, of: &Snapshot) -> Result<Option<Json>, StoreError> {
        Ok(self.inner.engine.input(of.stored()).await?)
    }
}

/// The document of a job with these lines.
fn document(job: &Job, lines: &[LogLine]) -> Bytes {
    Document::new(job).with_logs(lines).encode().into()
}

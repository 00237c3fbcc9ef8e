//! From an export into an engine, past the store: for the command line, while no service uses the engine.

use std::{
    collections::HashSet,
    io::{self, BufRead, Read},
    mem,
};

use thiserror::Error;

use super::decode::{Complete, Decoder, Incomplete, Invalid};
use crate::{
    engine::{Engine, EngineError, Found, Outcome, Put, Write},
    job::{JobId, JobKey, Kind, Timestamp},
};

/// The longest line that is read: a job with the largest input, result and error that a configuration allows.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Jobs in one commit.
const COMMIT_JOBS: usize = 1000;
/// Bytes of text in one commit; but a job goes whole.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// What an import has brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Jobs.
    pub jobs: u64,
    /// Lines of their logs.
    pub lines: u64,
}

/// Why an import ended early.
#[derive(Debug, Error)]
#[error("{refusal}; jobs imported before: {imported}")]
pub struct ImportError {
    /// What went wrong.
    #[source]
    pub refusal: Refusal,
    /// How many jobs are in the store for all that.
    pub imported: u64,
}

/// What stops an import.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The file cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line has no end.
    #[error("line {0} is longer than any line of an export")]
    Endless(u64),
    /// A line is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The file was cut off.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// A job of this id is there already.
    #[error("the store has a job `{0}` already")]
    Exists(JobId),
    /// The id is that of a deleted job.
    #[error("the id `{id}` belonged to a job that was deleted and is reserved until {until}")]
    Reserved {
        /// The id.
        id: JobId,
        /// When it is free again.
        until: Timestamp,
    },
    /// The store knows as many kinds as it may.
    #[error("the store knows as many kinds as jobs.kinds_max allows, and `{0}` is not one of them")]
    TooManyKinds(Kind),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Brings exports into an engine.
pub struct Importer<'a> {
    engine: &'a dyn Engine,
    imported: Imported,
    batch: Vec<Write>,
    keys: HashSet<JobKey>,
    bytes: usize,
}

impl<'a> Importer<'a> {
    /// Into this engine.
    pub fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, imported: Imported::default(), batch: Vec::new(), keys: HashSet::new(), bytes: 0 }
    }

    /// Reads a whole export and looks whether it can be imported: it is complete and none of its ids is taken at `now`.
    ///
    /// # Errors
    /// The first thing that would stop the import.
    pub async fn check(&self, export: impl BufRead, now: Timestamp) -> Result<(), ImportError> {
        self.look(export, now).await.map_err(|refusal| ImportError { refusal, imported: 0 })
    }

    /// Reads an export and commits its jobs. Blocks the thread while it reads.
    ///
    /// # Errors
    /// The first thing that is wrong, and how many jobs were committed until then.
    pub async fn import(mut self, export: impl BufRead) -> Result<Imported, ImportError> {
        match self.take(export).await {
            Ok(()) => Ok(self.imported),
            Err(refusal) => Err(ImportError { refusal, imported: self.imported.jobs }),
        }
    }

    async fn look(&self, export: impl BufRead, now: Timestamp) -> Result<(), Refusal> {
        let mut lines = Lines::new(export);
        let mut decoder = Decoder::new();
        while let Some(line) = lines.next()? {
            let Some(complete) = decoder.line(line)? else { continue };
            let id = || complete.job.key().id.clone();
            match self.engine.find(complete.job.key()).await? {
                Found::Job(_) => return Err(Refusal::Exists(id())),
                Found::Reserved(until) if until > now => return Err(Refusal::Reserved { id: id(), until }),
                Found::Reserved(_) | Found::Missing => {}
            }
        }
        decoder.finish()?;
        Ok(())
    }

    async fn take(&mut self, export: impl BufRead) -> Result<(), Refusal> {
        let mut lines = Lines::new(export);
        let mut decoder = Decoder::new();
        while let Some(line) = lines.next()? {
            if let Some(complete) = decoder.line(line)? {
                self.push(complete).await?;
            }
        }
        // What was read whole is kept even when the rest is missing.
        self.commit().await?;
        decoder.finish()?;
        Ok(())
    }

    async fn push(&mut self, complete: Complete) -> Result<(), Refusal> {
        let Complete { job, input, history, lines, .. } = complete;
        let key = job.key().clone();
        if self.keys.contains(&key) || self.batch.len() >= COMMIT_JOBS || self.bytes >= COMMIT_BYTES {
            self.commit().await?;
        }
        self.bytes += lines.iter().flat_map(|lines| lines.iter()).map(|line| line.text.len()).sum::<usize>();
        let values = [&input, &job.result, &job.error];
        self.bytes += values.into_iter().flatten().map(|json| json.as_str().len()).sum::<usize>();
        // About: times, words and a stage.
        self.bytes += history.timeline.len() * 128;
        self.keys.insert(key.clone());
        self.batch.push(Write { key, before: None, put: Put::New { job, input }, lines, history, once: None });
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Refusal> {
        self.bytes = 0;
        self.keys.clear();
        let batch = mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let jobs: Vec<_> = batch.iter().filter_map(about).collect();
        let outcomes = self.engine.commit(batch).await?;
        self.engine.maintain(false).await;
        let mut refusal = Ok(());
        for ((key, kind, lines), outcome) in jobs.into_iter().zip(outcomes) {
            let why = match outcome {
                Outcome::Committed(_) => {
                    self.imported.jobs += 1;
                    self.imported.lines += lines;
                    continue;
                }
                Outcome::Conflict(Found::Reserved(until)) => Refusal::Reserved { id: key.id, until },
                // An import has no keys.
                Outcome::Conflict(Found::Job(_) | Found::Missing) | Outcome::KeyTaken => Refusal::Exists(key.id),
                Outcome::Unread(error) => Refusal::Engine(error),
                Outcome::TooManyKinds => Refusal::TooManyKinds(kind),
            };
            refusal = refusal.and(Err(why));
        }
        refusal
    }
}

/// What has to be known of a write once it is handed to the engine.
fn about(write: &Write) -> Option<(JobKey, Kind, u64)> {
    let Put::New { job, .. } = &write.put else { return None };
    let lines = write.lines.iter().map(|lines| lines.len() as u64).sum();
    Some((write.key.clone(), job.spec.kind.clone(), lines))
}

/// The lines of a text, without their ends; a last one without an end counts, as it may be cut.
struct Lines<R> {
    from: R,
    text: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, text: Vec::new(), number: 0 }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Refusal> {
        self.text.clear();
        self.number += 1;
        let read = self.from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text)?;
        if read as u64 == LINE_BYTES_MAX {
            return Err(Refusal::Endless(self.number));
        }
        Ok((read > 0).then(|| self.text.trim_ascii_end()))
    }
}

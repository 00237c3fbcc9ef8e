//! From text back to jobs, line by line.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use thiserror::Error;

use super::{
    FORMAT,
    record::{BadMember, JobRecord},
};
use crate::job::{Attempt, History, Job, JobId, Json, LogLine, Seq, Timestamp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    milepost_export: u32,
    #[serde(rename = "exported_at")]
    _exported_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record<'a> {
    #[serde(borrow)]
    Job(Box<JobRecord<'a>>),
    #[serde(borrow)]
    Lines(Vec<(Seq, u64, Attempt, Cow<'a, str>)>),
    End {
        jobs: u64,
        lines: u64,
    },
}

/// A job with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Complete {
    /// The job.
    pub job: Arc<Job>,
    /// What its worker needs.
    pub input: Option<Json>,
    /// Its past.
    pub history: History,
    /// Its lines, in order, in the portions they came in.
    pub lines: Vec<Arc<[LogLine]>>,
    /// The number of the last of them; of the last dropped line when there is none.
    last: Seq,
}

/// A line that does not belong into an export, or not there.
#[derive(Debug, Error)]
#[error("line {line}: {misfit}")]
pub struct Invalid {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    #[source]
    pub misfit: Misfit,
}

/// What can be wrong with a line.
#[derive(Debug, Error)]
pub enum Misfit {
    /// The first line is not that of an export.
    #[error("this is not an export of Milepost: it does not begin with {{\"milepost_export\":")]
    NoHeader,
    /// The export is of another format.
    #[error("the export has format {0}, and this version reads format {FORMAT}")]
    Format(u32),
    /// The line is no JSON, or not that of a record.
    #[error("not a record of an export: {0}")]
    Json(#[from] serde_json::Error),
    /// A member of a job is not what it must be.
    #[error("{0}")]
    Member(#[from] BadMember),
    /// Log lines come before any job.
    #[error("log lines without a job")]
    NoJob,
    /// A log line is missing or there twice.
    #[error("line {expected} of the log of job `{id}` is missing: {found} comes instead")]
    Gap {
        /// The job.
        id: JobId,
        /// The number that should come.
        expected: Seq,
        /// The number that does.
        found: Seq,
    },
    /// The log of the job before does not go to its end.
    #[error("the log of job `{id}` should go to line {count} and ends with {last}")]
    Short {
        /// The job.
        id: JobId,
        /// How many it should have.
        count: Seq,
        /// The last that came.
        last: Seq,
    },
    /// A log line has a line break in it.
    #[error("a log line must not contain line breaks")]
    Broken,
    /// The last line counts other numbers than there were.
    #[error("the export should have {jobs} jobs and {lines} log lines; some of it is missing")]
    Counts {
        /// Jobs it should have.
        jobs: u64,
        /// Log lines it should have.
        lines: u64,
    },
    /// Something follows the last line.
    #[error("nothing may follow the line {{\"end\":...}}")]
    AfterEnd,
}

/// The export was cut off.
#[derive(Debug, Error)]
#[error("the export was cut off after line {0}: its last line, {{\"end\":...}}, is missing")]
pub struct Incomplete(pub u64);

/// Takes the lines of an export one by one.
#[derive(Debug, Default)]
pub struct Decoder {
    line: u64,
    jobs: u64,
    lines: u64,
    current: Option<Complete>,
    ended: bool,
}

impl Decoder {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line, and gives the job that is complete with it.
    ///
    /// # Errors
    /// [`Invalid`]; nothing after that line should be relied on.
    pub fn line(&mut self, text: &[u8]) -> Result<Option<Complete>, Invalid> {
        self.line += 1;
        self.take(text).map_err(|misfit| Invalid { line: self.line, misfit })
    }

    /// How many jobs and log lines there were.
    ///
    /// # Errors
    /// [`Incomplete`]
    pub fn finish(self) -> Result<(u64, u64), Incomplete> {
        if self.ended { Ok((self.jobs, self.lines)) } else { Err(Incomplete(self.line)) }
    }

    fn take(&mut self, text: &[u8]) -> Result<Option<Complete>, Misfit> {
        if self.line == 1 {
            let Header { milepost_export, .. } = serde_json::from_slice(text).map_err(|_| Misfit::NoHeader)?;
            return if milepost_export == FORMAT { Ok(None) } else { Err(Misfit::Format(milepost_export)) };
        }
        if self.ended {
            return Err(Misfit::AfterEnd);
        }
        match serde_json::from_slice(text)? {
            Record::Job(record) => {
                let complete = self.complete()?;
                let (job, input, history) = record.into_job()?;
                let last = job.log.dropped;
                self.current = Some(Complete { job: Arc::new(job), input, history, lines: Vec::new(), last });
                self.jobs += 1;
                Ok(complete)
            }
            Record::Lines(lines) => {
                self.lines += lines.len() as u64;
                self.current.as_mut().ok_or(Misfit::NoJob)?.append(lines)?;
                Ok(None)
            }
            Record::End { jobs, lines } => {
                let complete = self.complete()?;
                if (jobs, lines) != (self.jobs, self.lines) {
                    return Err(Misfit::Counts { jobs, lines });
                }
                self.ended = true;
                Ok(complete)
            }
        }
    }

    /// The job before, which nothing more can belong to.
    fn complete(&mut self) -> Result<Option<Complete>, Misfit> {
        match self.current.take() {
            Some(Complete { job, last, .. }) if last != job.log.count => {
                Err(Misfit::Short { id: job.key().id.clone(), count: job.log.count, last })
            }
            complete => Ok(complete),
        }
    }
}

impl Complete {
    fn append(&mut self, lines: Vec<(Seq, u64, Attempt, Cow<'_, str>)>) -> Result<(), Misfit> {
        let lines = lines.into_iter().map(|(seq, at, attempt, text)| {
            let expected = self.last + 1;
            if seq != expected {
                return Err(Misfit::Gap { id: self.job.key().id.clone(), expected, found: seq });
            }
            if text.contains(['\n', '\r']) {
                return Err(Misfit::Broken);
            }
            self.last = seq;
            Ok(LogLine { seq, at: Timestamp(at), attempt, text: text.into() })
        });
        let lines = lines.collect::<Result<Arc<[LogLine]>, _>>()?;
        self.lines.push(lines);
        Ok(())
    }
}

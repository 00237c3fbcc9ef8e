//! What is to be told of one job and is not acknowledged yet: lines in order, where the command is, and how it ended.
//!
//! Promises: lines leave in the order in which they came, each numbered once, whether they waited in memory or on the
//! disk; the command is never kept waiting. What waits is bounded: over that, lines are dropped, counted, and said to be.
//! Must not know how it is told.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::Notify;

use super::{
    gauge::Position,
    spool::{Book, Spool},
};

/// How much text waits in memory before it goes to the disk: a second or two of a very talkative command.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// How many lines go in one request; the service takes 10,000.
const BATCH_LINES_MAX: usize = 1_000;
/// How much text goes in one request: the service takes bodies of 1 MiB, and JSON may make six bytes of one.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// What waits to be told of one job.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
    ending: Notify,
}

#[derive(Debug)]
struct Waiting {
    book: Book,
    /// Lines in memory; empty while there are some on the disk.
    lines: VecDeque<String>,
    bytes: usize,
    spool: Option<Spool>,
    directory: PathBuf,
    /// What the service knows of where the command is.
    told: Position,
    /// Lines dropped that no line tells of yet.
    dropped: u64,
    is_over: bool,
}

/// What goes in one request.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The oldest lines.
    pub(super) lines: Vec<String>,
    /// The number of the first of them.
    pub(super) seq: u64,
    /// Where the command is, when that is news.
    pub(super) at: Option<Position>,
    /// How it ended, when these are the last lines.
    pub(super) end: Option<Value>,
    /// Where the spool is after these lines.
    offset: u64,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.at.is_none() && self.end.is_none()
    }
}

/// What could not be told.
#[derive(Debug)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// It is on the disk.
    Spooled(PathBuf),
    /// It could not be written, either.
    Lost(io::Error),
}

impl Outbox {
    /// Of a job of which nothing is told yet.
    pub(super) fn new(book: Book, directory: &Path) -> Self {
        Self::with(book, None, directory.to_owned())
    }

    /// Of what an earlier run has left; None while that run, or another program, is at it.
    pub(super) fn left_in(directory: &Path) -> io::Result<Option<Self>> {
        let Some((book, spool)) = Spool::open(directory)? else { return Ok(None) };
        let above = directory.parent().unwrap_or(directory).to_owned();
        Ok(Some(Self::with(book, Some(spool), above)))
    }

    fn with(book: Book, spool: Option<Spool>, directory: PathBuf) -> Self {
        let waiting = Waiting {
            book,
            lines: VecDeque::new(),
            bytes: 0,
            spool,
            directory,
            told: Position::default(),
            dropped: 0,
            is_over: false,
        };
        Self { waiting: Mutex::new(waiting), news: Notify::new(), ending: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change below is complete before anything can panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the job is called, and how it is made.
    pub(super) fn book(&self) -> Book {
        self.waiting().book.clone()
    }

    /// The job is there, and this is its attempt.
    pub(super) fn begun(&self, attempt: u32) {
        let mut waiting = self.waiting();
        waiting.book.attempt = Some(attempt);
        waiting.book.create = None;
    }

    /// Adds a line.
    pub(super) fn line(&self, line: String) {
        self.waiting().add(line);
        self.news.notify_one();
    }

    /// The command is there now.
    pub(super) fn at(&self, position: Position) {
        self.waiting().book.at = position.into();
        self.news.notify_one();
    }

    /// The command has ended, and this is to become of its job.
    pub(super) fn end(&self, change: Value) {
        self.waiting().book.end = Some(change);
        self.news.notify_one();
        self.ending.notify_one();
    }

    /// Whether the command has ended.
    pub(super) fn has_end(&self) -> bool {
        self.waiting().book.end.is_some()
    }

    /// Returns when there may be something to tell.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Returns when the command has ended; once.
    pub(super) async fn ending(&self) {
        self.ending.notified().await;
    }

    /// What goes in the next request.
    pub(super) fn batch(&self) -> Batch {
        self.waiting().batch()
    }

    /// The service has it.
    pub(super) fn acknowledge(&self, batch: &Batch) {
        self.waiting().acknowledge(batch);
    }

    /// The service counts this writer's lines otherwise, since it is back from a backup: another writer begins at 1.
    pub(super) fn begin_anew(&self, writer: String) {
        let mut waiting = self.waiting();
        waiting.book.writer = writer;
        waiting.book.seq = 1;
    }

    /// The service is away: what waits goes to the disk, where it outlives this process.
    pub(super) fn away(&self) {
        // Where that cannot be, it waits in memory.
        let _kept = self.waiting().spill();
    }

    /// The job is not this command's any more, or has its end: nothing is to be told.
    pub(super) fn over(&self) {
        self.waiting().over();
    }

    /// How many lines were dropped in all.
    pub(super) fn dropped(&self) -> u64 {
        self.waiting().book.dropped
    }

    /// Lets go of it; what is not told yet is on the disk then.
    pub(super) fn leave(&self) -> Left {
        let mut waiting = self.waiting();
        if waiting.is_over {
            return Left::Nothing;
        }
        waiting.tell_dropped();
        match waiting.spill().and_then(|()| waiting.keep()) {
            Ok(path) => Left::Spooled(path),
            Err(cause) => Left::Lost(cause),
        }
    }
}

impl Waiting {
    fn add(&mut self, line: String) {
        if self.is_over {
            return;
        }
        if self.spool.is_none() && self.bytes + line.len() > MEMORY_BYTES_MAX {
            // Where that cannot be, the line is dropped below.
            let _kept = self.spill();
        }
        let is_kept = match &mut self.spool {
            Some(spool) => spool.append(&line, self.book.offset),
            None if self.bytes + line.len() > MEMORY_BYTES_MAX => false,
            None => {
                self.bytes += line.len();
                self.lines.push_back(line);
                true
            }
        };
        if !is_kept {
            self.dropped += 1;
            self.book.dropped += 1;
        }
    }

    /// Brings what is in memory to the disk, and what comes after it.
    fn spill(&mut self) -> io::Result<()> {
        if self.spool.is_some() || self.is_over {
            return Ok(());
        }
        self.book.offset = 0;
        let mut spool = Spool::create(&self.directory, &self.book)?;
        let mut dropped = 0;
        for line in self.lines.drain(..) {
            dropped += u64::from(!spool.append(&line, 0));
        }
        self.dropped += dropped;
        self.book.dropped += dropped;
        self.bytes = 0;
        self.spool = Some(spool);
        Ok(())
    }

    fn keep(&mut self) -> io::Result<PathBuf> {
        match &mut self.spool {
            Some(spool) => spool.keep(&self.book),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch { seq: self.book.seq, offset: self.book.offset, ..Batch::default() };
        let mut bytes = 0;
        let mut fits = |line: &str, count: usize| {
            bytes += line.len();
            count < BATCH_LINES_MAX && (count == 0 || bytes <= BATCH_BYTES_MAX)
        };
        let is_all = match &mut self.spool {
            Some(spool) => {
                let (lines, offset) = spool.read(self.book.offset, fits);
                (batch.lines, batch.offset) = (lines, offset);
                spool.is_end(offset)
            }
            None => {
                for line in &self.lines {
                    if !fits(line, batch.lines.len()) {
                        break;
                    }
                    batch.lines.push(line.clone());
                }
                batch.lines.len() == self.lines.len()
            }
        };
        let at = Position::from(self.book.at.clone());
        batch.at = (at != self.told).then_some(at);
        batch.end = if is_all { self.book.end.clone() } else { None };
        batch
    }

    fn acknowledge(&mut self, batch: &Batch) {
        let count = batch.lines.len();
        self.book.seq += count as u64;
        self.book.offset = batch.offset;
        if let Some(at) = &batch.at {
            self.told.clone_from(at);
        }
        if batch.end.is_some() {
            self.over();
            return;
        }
        match &self.spool {
            Some(spool) if spool.is_end(batch.offset) => self.forget(),
            Some(_) => {}
            None => {
                let gone: usize = self.lines.drain(..count.min(self.lines.len())).map(|line| line.len()).sum();
                self.bytes -= gone;
            }
        }
        if self.dropped > 0 && self.spool.is_none() {
            self.tell_dropped();
        }
    }

    fn tell_dropped(&mut self) {
        let count = std::mem::take(&mut self.dropped);
        if count > 0 {
            self.add(format!("… {count} lines were dropped here: no more of them could wait for the service …"));
        }
    }

    fn over(&mut self) {
        self.is_over = true;
        self.lines.clear();
        self.bytes = 0;
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(spool) = self.spool.take() {
            spool.remove();
        }
        self.book.offset = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outbox(directory: &Path) -> Outbox {
        Outbox::new(Book::new("http://x", "job", "writer", Some(json!({"kind": "k"}))), directory)
    }

    /// Tells everything, as numbers and lines.
    fn told(outbox: &Outbox) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        loop {
            let batch = outbox.batch();
            if batch.lines.is_empty() {
                return told;
            }
            told.extend((batch.seq..).zip(batch.lines.clone()));
            outbox.acknowledge(&batch);
        }
    }

    fn numbered(from: u64, to: u64) -> Vec<(u64, String)> {
        (from..=to).map(|number| (number, format!("line {number}"))).collect()
    }

    #[test]
    fn lines_keep_their_order_and_numbers_through_memory_and_disk() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = outbox(directory.path());
        let put = |from, to| numbered(from, to).into_iter().for_each(|(_, line)| outbox.line(line));
        put(1, 3);
        outbox.away();
        put(4, 2500);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let first = outbox.batch();
        assert_eq!((first.seq, first.lines.len()), (1, BATCH_LINES_MAX));
        // One that was not acknowledged is the same once more.
        assert_eq!(outbox.batch().lines, first.lines);
        assert_eq!(told(&outbox), numbered(1, 2500));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the disk is left clean");
        put(2501, 2502);
        assert_eq!(told(&outbox), numbered(2501, 2502));
    }

    #[test]
    fn what_is_left_is_taken_up_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let left = {
            let outbox = outbox(directory.path());
            numbered(1, 1500).into_iter().for_each(|(_, line)| outbox.line(line));
            outbox.away();
            let first = outbox.batch();
            outbox.begun(1);
            outbox.acknowledge(&first);
            outbox.at(Position { pct: Some(40.0), stage: None });
            outbox.end(json!({"status": "completed"}));
            let Left::Spooled(path) = outbox.leave() else { panic!("nothing is left") };
            // Nobody else takes it up meanwhile.
            assert!(Outbox::left_in(&path).unwrap().is_none());
            path
        };
        let outbox = Outbox::left_in(&left).unwrap().unwrap();
        assert_eq!((outbox.book().attempt, outbox.book().create), (Some(1), None));
        let rest = outbox.batch();
        assert_eq!((rest.seq, rest.lines.len()), (1001, 500));
        assert_eq!(rest.at, Some(Position { pct: Some(40.0), stage: None }));
        assert_eq!(rest.end, Some(json!({"status": "completed"})));
        outbox.acknowledge(&rest);
        assert!(!left.exists());
        assert!(matches!(outbox.leave(), Left::Nothing));
    }

    #[test]
    fn without_a_disk_lines_wait_in_memory_up_to_a_bound_and_those_dropped_are_counted() {
        let outbox = outbox(Path::new("/proc/nowhere"));
        let line = "x".repeat(1024);
        for _ in 0..1030 {
            outbox.line(line.clone());
        }
        outbox.away();
        assert_eq!(outbox.dropped(), 6);
        let told = told(&outbox);
        assert_eq!(told.len(), 1025);
        assert!(told.iter().any(|(_, line)| line.contains("6 lines were dropped")));
        outbox.line("more".into());
        assert!(matches!(outbox.leave(), Left::Lost(_)));
    }

    #[test]
    fn the_end_goes_with_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = outbox(directory.path());
        numbered(1, 1001).into_iter().for_each(|(_, line)| outbox.line(line));
        outbox.end(json!({"status": "failed"}));
        let first = outbox.batch();
        assert_eq!(first.end, None);
        outbox.acknowledge(&first);
        let last = outbox.batch();
        assert_eq!((last.lines.len(), last.end.is_some()), (1, true));
    }
}

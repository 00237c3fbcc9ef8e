//! What waits for the service on the disk: a directory for each run, with a book of what is to be told and its lines.
//!
//! Promises: what was appended is read back in order. One process at a time has it. A book is replaced whole. Bounded.
//! Must not know what is in memory, nor when it is told.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gauge::Position;

/// How much of one run waits on the disk at the most.
const RUN_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is to be told, but for the lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    /// Where.
    pub(super) server: String,
    /// Of which job.
    pub(super) id: String,
    /// What it is made of; none once it is there.
    pub(super) create: Option<Value>,
    /// Which attempt it is; not known before it is there.
    pub(super) attempt: Option<u32>,
    /// Who counts the lines, and the number of the first that is left.
    pub(super) writer: String,
    pub(super) seq: u64,
    /// Where in the file that line is.
    pub(super) offset: u64,
    /// Where the command is.
    pub(super) at: At,
    /// What becomes of the job; none while the command runs, or when its end was never seen.
    pub(super) end: Option<Value>,
    /// How many lines could not be kept.
    pub(super) dropped: u64,
}

/// A position as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct At {
    pct: Option<f64>,
    stage: Option<String>,
}

impl From<Position> for At {
    fn from(Position { pct, stage }: Position) -> Self {
        Self { pct, stage }
    }
}

impl From<At> for Position {
    fn from(At { pct, stage }: At) -> Self {
        Self { pct, stage }
    }
}

impl Book {
    /// Of a job of which nothing is told yet.
    pub(super) fn new(server: &str, id: &str, writer: &str, create: Option<Value>) -> Self {
        Self {
            server: server.to_owned(),
            id: id.to_owned(),
            create,
            attempt: None,
            writer: writer.to_owned(),
            seq: 1,
            offset: 0,
            at: At::default(),
            end: None,
            dropped: 0,
        }
    }
}

/// The lines of one run on the disk.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    lines: File,
    written: u64,
    bytes_max: u64,
}

impl Spool {
    const BOOK: &str = "book.json";
    const LINES: &str = "lines";

    /// An empty one, in a directory of its own below this one.
    pub(super) fn create(above: &Path, book: &Book) -> io::Result<Self> {
        let directory = above.join(&book.writer);
        // What commands print is nobody else's.
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).clone();
        let lines = options.open(directory.join(Self::LINES))?;
        lines.try_lock()?;
        let mut spool = Self { directory, lines, written: 0, bytes_max: RUN_BYTES_MAX };
        spool.write_book(book)?;
        Ok(spool)
    }

    /// One that is there; None when somebody has it.
    pub(super) fn open(directory: &Path) -> io::Result<Option<(Book, Self)>> {
        let lines = OpenOptions::new().read(true).write(true).open(directory.join(Self::LINES))?;
        match lines.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        // Only now: whoever had it may have written it anew.
        let book: Book = serde_json::from_slice(&fs::read(directory.join(Self::BOOK))?)?;
        let written = whole_lines(&lines)?;
        let spool = Self { directory: directory.to_owned(), lines, written, bytes_max: RUN_BYTES_MAX };
        Ok(Some((book, spool)))
    }

    /// Appends a line; false when there is no room for it. Whatever is before `offset` is told and does not count.
    pub(super) fn append(&mut self, line: &str, offset: u64) -> bool {
        let Ok(mut text) = serde_json::to_vec(line) else { return false };
        text.push(b'\n');
        let length = text.len() as u64;
        // Half a line at the end of a full disk is written over by the next one.
        let is_kept =
            self.written - offset + length <= self.bytes_max && self.lines.write_all_at(&text, self.written).is_ok();
        if is_kept {
            self.written += length;
        }
        is_kept
    }

    /// Lines from there on, as many as fit, and where the next one is.
    pub(super) fn read(&self, offset: u64, mut fits: impl FnMut(&str, usize) -> bool) -> (Vec<String>, u64) {
        let (mut lines, mut at) = (Vec::new(), offset);
        let mut file = &self.lines;
        if file.seek(SeekFrom::Start(offset)).is_err() {
            return (lines, at);
        }
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        while at < self.written {
            text.clear();
            let Ok(length @ 1..) = reader.read_until(b'\n', &mut text) else { break };
            let line = serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned());
            if !fits(&line, lines.len()) {
                break;
            }
            at += length as u64;
            lines.push(line);
        }
        (lines, at)
    }

    /// Whether no line follows.
    pub(super) fn is_end(&self, offset: u64) -> bool {
        offset >= self.written
    }

    /// Brings it to the disk for good; where it is.
    pub(super) fn keep(&mut self, book: &Book) -> io::Result<PathBuf> {
        self.lines.set_len(self.written)?;
        self.lines.sync_all()?;
        self.write_book(book)?;
        Ok(self.directory.clone())
    }

    fn write_book(&mut self, book: &Book) -> io::Result<()> {
        let (path, new) = (self.directory.join(Self::BOOK), self.directory.join("book.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(book)?)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Removes it: all is told.
    pub(super) fn remove(self) {
        // What cannot be removed is told again some day, and is refused then.
        let _left = fs::remove_dir_all(&self.directory);
    }
}

/// The length of the file up to the end of its last whole line: its process may have been killed in the midst of one.
fn whole_lines(file: &File) -> io::Result<u64> {
    let (mut reader, mut whole, mut at) = (BufReader::new(file), 0, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(whole);
        }
        let length = buffer.len();
        if let Some(last) = buffer.iter().rposition(|byte| *byte == b'\n') {
            whole = at + last as u64 + 1;
        }
        at += length as u64;
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_of_a_process_that_was_killed_is_none() {
        let above = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(above.path(), &Book::new("http://x", "job", "writer", None)).unwrap();
        assert!(spool.append("one\ntwo", 0) && spool.append("three", 0));
        spool.lines.write_all_at(b"\"fou", spool.written).unwrap();
        let directory = spool.directory.clone();
        drop(spool);
        let (_, spool) = Spool::open(&directory).unwrap().unwrap();
        let (lines, offset) = spool.read(0, |_, _| true);
        assert_eq!(lines, ["one\ntwo", "three"]);
        assert!(spool.is_end(offset));
    }

    #[test]
    fn what_was_told_makes_room_for_what_comes() {
        let above = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(above.path(), &Book::new("http://x", "job", "writer", None)).unwrap();
        spool.bytes_max = 20;
        let line = "12345678";
        assert!(!spool.append(&"x".repeat(18), 0), "a line that is longer than all the room");
        assert_eq!([0, 0, 11].map(|told| spool.append(line, told)), [true, false, true]);
        assert!(!spool.append(line, 11));
        assert_eq!(spool.read(11, |_, _| true).0, [line]);
    }

    #[test]
    fn it_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let above = tempfile::tempdir().unwrap();
        let spool = Spool::create(above.path(), &Book::new("http://x", "job", "writer", None)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&spool.directory), 0o700);
        assert_eq!(mode(&spool.directory.join("lines")), 0o600);
    }
}

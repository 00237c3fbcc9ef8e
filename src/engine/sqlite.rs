//! The embedded engine: SQLite in WAL mode, laid out so that a change dirties as few bytes as it can.
//!
//! Promises: one transaction and one sync for each batch; one process for each directory; after a failed write or sync
//! it takes no more writes and never syncs again, since what the disk then has is for a restart to find out.
//! How the bytes lie is in docs/format.md.

mod attempts;
mod checkpoint;
mod drafts;
mod error;
mod export;
mod feed;
mod free;
mod journal;
mod list;
mod log;
mod numbers;
mod poison;
mod read;
mod readers;
mod recovered;
mod schedule;
mod schema;
mod tallies;
mod timeline;
mod verify;
mod view;
mod write;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, backup::Backup};
use tokio::{sync::mpsc, time::Instant};

pub use self::verify::Verified;
use self::{error::fault, readers::Readers, view::View, writer::Writer};
use super::{
    Caution, Count, Elsewhere, Engine, EngineError, Exported, Fed, FeedPage, FeedPlace, FeedQuery, Found, ListQuery,
    LogSlice, Once, Outcome, Page, QueueQuery, Stored, Tally, Write,
    outages::Outages,
    record::{Table, status_of},
};
use crate::{
    clock::Clock,
    job::{JobKey, Json, Kind, LogLine, PastAttempt, Seconds, Tenant, TimelineEntry, Timestamp},
};

/// How the engine uses memory and disk; all of it is configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections that read while the one writer writes.
    pub read_connections: usize,
    /// Page cache of the writer in bytes.
    pub writer_cache_bytes: usize,
    /// Page cache of each reader in bytes.
    pub reader_cache_bytes: usize,
    /// Pages of 1 KiB in the write-ahead log that start a checkpoint.
    pub checkpoint_pages: u32,
    /// Bytes of changes that are kept in the journal before the tables have them.
    pub journal_bytes_max: usize,
    /// Kinds of jobs a tenant may have.
    pub kinds_max: usize,
    /// How long an entry of a feed is kept.
    pub feed_retain_seconds: u32,
}

/// A store in a directory.
#[derive(Debug)]
pub struct Sqlite {
    directory: PathBuf,
    settings: Settings,
    readers: Arc<Readers>,
    writer: Writer,
    clock: Clock,
    outages: Outages,
    /// Held as long as the store is open, so that no second process opens it.
    _lock: File,
}

impl Sqlite {
    /// Opens the store of a directory, making both when they are not there.
    ///
    /// # Errors
    /// [`EngineError::Locked`] when another process has it, [`EngineError::Format`] when it is of another program or a
    /// newer version, or what the disk says.
    pub fn open(directory: &Path, settings: Settings, clock: Clock) -> Result<Self, EngineError> {
        create_durably(directory)?;
        let lock = lock(directory)?;
        let outages = Outages::new(clock.now());
        let writer = Writer::open(directory, &settings, clock.clone())?;
        // Now that the tables are there.
        let (connections, cache_bytes) = (settings.read_connections, settings.reader_cache_bytes);
        let readers = Arc::new(Readers::open(directory, connections, cache_bytes, writer.drafts().clone())?);
        Ok(Self { directory: directory.to_owned(), settings, readers, writer, clock, outages, _lock: lock })
    }
}

/// Copies a store to a file, also beside the process that writes to it, from one consistent moment.
///
/// The copy is the `milepost.db` of a directory of its own. See <https://www.sqlite.org/backup.html>.
///
/// # Errors
/// [`EngineError::Unavailable`] when there is no store or the file is there already, or what the disks say.
pub fn backup(directory: &Path, to: &Path) -> Result<(), EngineError> {
    let source = read::open(directory, 1 << 20)?;
    let refuse = |error: std::io::Error| EngineError::Unavailable(format!("{}: {error}", to.display()));
    File::create_new(to).map_err(refuse)?;
    let copied = copy(&source, to).and_then(|()| File::open(to).and_then(|file| file.sync_all()).map_err(refuse));
    if copied.is_err() {
        // Half a copy would look like a backup, and be in the way of the next.
        fs::remove_file(to).map_err(refuse)?;
    }
    copied
}

fn copy(source: &Connection, to: &Path) -> Result<(), EngineError> {
    let mut copy = Connection::open(to).map_err(fault)?;
    // All pages in one step: with smaller ones each commit in between would start the copy anew.
    const ALL_PAGES: i32 = i32::MAX;
    Backup::new(source, &mut copy)
        .and_then(|backup| backup.run_to_completion(ALL_PAGES, Duration::from_millis(10), None))
        .map_err(fault)?;
    copy.close().map_err(|(_, error)| fault(error))
}

/// Everything in a store, also beside the process that writes to it, from one consistent moment. What ends without
/// [`Exported::End`] is not all.
///
/// # Errors
/// What opening it meets.
pub fn export(directory: &Path) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
    let connection = read::open(directory, 1 << 20)?;
    Ok(export::start(connection))
}

/// Looks through a store for damage, also beside the process that writes to it, and tells each fault in words.
///
/// # Errors
/// [`EngineError::Format`] when it is not of this version's format, or what the disk says.
pub fn verify(directory: &Path, tell: &mut dyn FnMut(&str)) -> Result<Verified, EngineError> {
    verify::run(&read::open(directory, 1 << 24)?, tell)
}

#[async_trait]
impl Engine for Sqlite {
    async fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, EngineError> {
        let begun = Instant::now();
        let outcomes = self.writer.commit(&batch);
        self.outages.written(outcomes.as_ref().err(), begun, self.clock.now());
        outcomes
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn maintain(&self, is_idle: bool) -> bool {
        self.writer.maintain(is_idle)
    }

    async fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        self.writer.find_many(keys)
    }

    async fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        self.writer.queued(query)
    }

    async fn due(&self, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
        self.readers.read(move |view| schedule::due(view, now, jobs_max)).await
    }

    async fn find(&self, key: &JobKey) -> Result<Found, EngineError> {
        let key = key.clone();
        self.readers.read(move |view| read::find(view, &key)).await
    }

    async fn moved(&self, _known: &Stored) -> Result<Option<Found>, EngineError> {
        // There is no other process.
        Ok(None)
    }

    async fn moved_since(&self, _known: &[&Stored]) -> Result<Vec<(usize, Found)>, EngineError> {
        Ok(Vec::new())
    }

    async fn input(&self, stored: &Stored) -> Result<Option<Json>, EngineError> {
        let number = stored.place.number;
        self.readers.read(move |connection| read::json(connection, Table::Inputs, number)).await
    }

    async fn attempts(&self, stored: &Stored) -> Result<Vec<PastAttempt>, EngineError> {
        let (number, before) = (stored.place.number, stored.job.attempt);
        self.readers.read(move |connection| attempts::read(connection, number, before)).await
    }

    async fn timeline(&self, stored: &Stored) -> Result<Option<Vec<TimelineEntry>>, EngineError> {
        let stored = stored.clone();
        self.readers.read(move |view| timeline::read(view, &stored)).await
    }

    async fn log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        let (number, count) = (stored.place.number, stored.job.log.count);
        self.readers.read(move |view| read::log(view, number, count, slice)).await
    }

    async fn find_with_log(&self, key: &JobKey, slice: LogSlice) -> Result<(Found, Vec<LogLine>), EngineError> {
        let key = key.clone();
        self.readers.read(move |view| read::find_with_log(view, &key, slice)).await
    }

    async fn once(&self, tenant: Tenant, key: &str, now: Timestamp) -> Result<Option<Once>, EngineError> {
        let key = key.to_owned();
        self.readers.read(move |connection| read::once(connection, tenant, &key, now)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, EngineError> {
        self.readers.read(move |view| list::page(view, &query)).await
    }

    async fn feed_end(&self, tenant: Tenant) -> Result<FeedPlace, EngineError> {
        Ok(self.writer.feed_end(tenant))
    }

    async fn feed(&self, query: FeedQuery) -> Result<Option<FeedPage>, EngineError> {
        let end = self.writer.feed_end(query.tenant);
        self.readers.read(move |connection| feed::page(connection, &query, end)).await
    }

    async fn fed(&self, numbers: Vec<u64>) -> Result<Option<Vec<Fed>>, EngineError> {
        self.readers.read(move |view| feed::fed(view, &numbers)).await
    }

    async fn counts(&self) -> Result<Vec<Count>, EngineError> {
        counted(self.readers.read(|view| list::counts(view)).await?)
    }

    async fn figures(&self, tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError> {
        let read = move |connection: &View<'_>| Ok((list::counts(connection)?, tallies::read(connection, tenant)?));
        let (counts, tallies) = self.readers.read(read).await?;
        let own = counted(counts)?.into_iter().filter(|count| count.tenant == tenant).collect();
        Ok((own, tallies))
    }

    fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        self.writer.usual().seconds(tenant, kind)
    }

    async fn export(&self) -> Result<mpsc::Receiver<Result<Exported, EngineError>>, EngineError> {
        let connection = read::open(&self.directory, self.settings.reader_cache_bytes)?;
        Ok(export::start(connection))
    }

    async fn attend(&self, _tell: &(dyn Fn(Elsewhere) + Send + Sync)) {
        std::future::pending().await
    }

    fn open_since(&self) -> Timestamp {
        self.outages.since(self.clock.now())
    }

    fn cautions(&self) -> Vec<Caution> {
        Vec::new()
    }

    fn health(&self) -> Result<(), EngineError> {
        self.writer.health()
    }

    async fn close(&self) -> Result<(), EngineError> {
        let (readers, writer) = (self.readers.clone(), self.writer.clone());
        let close = move || {
            readers.close();
            // Moves the rest of the write-ahead log into the tables, which the caller may not have the time for.
            writer.close()
        };
        let closed = tokio::task::spawn_blocking(close).await;
        closed.map_err(|_| EngineError::Indeterminate("closing the store has panicked".into()))?
    }
}

/// How many jobs there are from the rows that say so.
fn counted(rows: Vec<(Tenant, String, i64, u64)>) -> Result<Vec<Count>, EngineError> {
    let count = |(tenant, name, status, jobs): (Tenant, String, i64, u64)| {
        let damaged = |what| EngineError::Corrupt(format!("counts: {what}"));
        let kind = Kind::try_from(&*name).map_err(|_| damaged("kind"))?;
        Ok(Count { tenant, kind, status: status_of(status).ok_or_else(|| damaged("status"))?, jobs })
    };
    rows.into_iter().map(count).collect()
}

/// Makes a directory so that a power cut does not take it back.
fn create_durably(directory: &Path) -> Result<(), EngineError> {
    if directory.is_dir() {
        return Ok(());
    }
    let failed = |error: std::io::Error| EngineError::Unavailable(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    directory.canonicalize().and_then(|directory| sync_name(&directory)).map_err(failed)
}

/// Makes the name of a file or directory durable.
fn sync_name(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn lock(directory: &Path) -> Result<File, EngineError> {
    let path = directory.join("LOCK");
    let failed = |error: std::io::Error| EngineError::Unavailable(format!("{}: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(EngineError::Locked(format!("another process is using the store in {}", directory.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

//! The one connection that writes, and all that is written.
//!
//! Promises: a commit returns after its sync; upkeep is done in bounded steps and never before an answer.
//! It works on the thread that calls it: handing a batch to another thread and its outcomes back would take a good part
//! of the time that the commit itself does.

use std::{
    fmt,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    Settings,
    checkpoint::Checkpoints,
    drafts::Committed,
    error::{fault, index_cannot_grow, poisons},
    feed::Ends,
    free,
    poison::Poison,
    read, recovered, schedule, schema, view,
    write::{Tables, forget},
};
use crate::{
    clock::Clock,
    engine::{EngineError, FeedPlace, Found, Outcome, QueueQuery, Stored, Usual, Write},
    job::{JobKey, Tenant},
};

/// Rows of logs and of timelines freed along with a batch, or twice as many as it has added; and, with keys and ids that are over, in a transaction of their own while nothing
/// else is to be done.
const FREED_WITH_BATCH: usize = 64;
const FREED_WHEN_IDLE: usize = 1000;

/// See the module.
#[derive(Clone)]
pub(super) struct Writer {
    /// `None` once it is closed.
    open: Arc<Mutex<Option<Open>>>,
    feed_ends: Ends,
    usual: Usual,
    drafts: Committed,
    poison: Poison,
    /// Open for longer than any connection: closing it would take from them the locks by which other processes know that they
    /// are there (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
    _file: Arc<File>,
}

impl Writer {
    pub(super) fn open(directory: &Path, settings: &Settings, clock: Clock) -> Result<Self, EngineError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = read::file(directory);
        let mut connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
        schema::prepare_writer(&connection, settings.writer_cache_bytes)?;
        recovered::secure(&connection, &path)?;
        schema::migrate(&connection)?;
        let unavailable = |error| EngineError::Unavailable(format!("{}: {error}", path.display()));
        let file = Arc::new(File::open(&path).map_err(unavailable)?);
        let poison = Poison::default();
        let pages = settings.checkpoint_pages;
        let checkpoints = Checkpoints::start(directory, file.clone(), &mut connection, pages, poison.clone())?;
        let tables = Tables::load(&connection, settings)?;
        let (feed_ends, usual, drafts) = (tables.feed_ends(), tables.usual(), tables.drafts().clone());
        let mut open = Open { checkpoints, tables, connection, clock, poison: poison.clone() };
        if open.tables.has_to_fold() {
            open.fold_all();
        }
        Ok(Self { open: Arc::new(Mutex::new(Some(open))), feed_ends, usual, drafts, poison, _file: file })
    }

    pub(super) fn health(&self) -> Result<(), EngineError> {
        self.poison.check()
    }

    /// The last entry of a tenant's feed.
    pub(super) fn feed_end(&self, tenant: Tenant) -> FeedPlace {
        self.feed_ends.of(tenant)
    }

    /// Heads that the tables do not have yet.
    pub(super) fn drafts(&self) -> &Committed {
        &self.drafts
    }

    /// How long jobs of each kind usually take.
    pub(super) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// Blocks the thread until the batch is on the disk.
    pub(super) fn commit(&self, batch: &[Write]) -> Result<Vec<Outcome>, EngineError> {
        self.lock()?.as_mut().ok_or_else(closed)?.commit(batch)
    }

    /// The jobs of these names. The writer's page cache is the one that commits leave warm, and holds what a change of the
    /// job will need.
    pub(super) fn find_many(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        let found = self.lock().and_then(|open| {
            let open = open.as_ref().ok_or_else(closed)?;
            view::in_transaction(&open.connection, self.drafts.now(), |view| {
                Ok(keys.iter().map(|key| read::find(view, key)).collect())
            })
        });
        found.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect())
    }

    /// The first jobs of some queues, as the last commit left them.
    pub(super) fn queued(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        let open = self.lock()?;
        let open = open.as_ref().ok_or_else(closed)?;
        view::in_transaction(&open.connection, self.drafts.now(), |view| schedule::queued(view, query))
    }

    /// See [`Engine::maintain`](crate::engine::Engine::maintain).
    pub(super) fn maintain(&self, is_idle: bool) -> bool {
        // What is closed, or has panicked, is past caring for.
        self.lock().is_ok_and(|mut open| open.as_mut().is_some_and(|open| open.maintain(is_idle)))
    }

    /// Waits for the commit under way and closes the connection.
    pub(super) fn close(&self) -> Result<(), EngineError> {
        self.lock()?.take().ok_or_else(closed)?.close()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Option<Open>>, EngineError> {
        self.open.lock().map_err(|_| EngineError::Indeterminate("the writer has panicked".into()))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("poison", &self.poison).finish_non_exhaustive()
    }
}

fn closed() -> EngineError {
    EngineError::Unavailable("the store is closed".into())
}

struct Open {
    checkpoints: Checkpoints,
    tables: Tables,
    connection: Connection,
    clock: Clock,
    poison: Poison,
}

impl Open {
    fn commit(&mut self, batch: &[Write]) -> Result<Vec<Outcome>, EngineError> {
        self.poison.check()?;
        let now = self.clock.now();
        self.transaction(|tables, connection| {
            let outcomes = batch.iter().map(|write| tables.write(connection, write, now)).collect::<Result<_, _>>()?;
            // Twice as many as come, so that they cannot pile up.
            let rows_max = FREED_WITH_BATCH.max(2 * std::mem::take(&mut tables.added));
            if tables.freeing {
                tables.freeing = free::free_some(connection, rows_max)?;
            }
            tables.finish(connection, now)?;
            Ok(outcomes)
        })
    }

    /// Sees to the write-ahead log, and frees some of what was deleted while nobody waits; whether there is more to free.
    fn maintain(&mut self, is_idle: bool) -> bool {
        if is_idle && self.tables.has_to_free() && self.poison.check().is_ok() {
            self.free();
        }
        self.checkpoints.go_on(&self.connection);
        self.tables.has_to_free() && self.poison.check().is_ok()
    }

    fn free(&mut self) {
        let now = self.clock.now();
        let freed = self.transaction(|tables, connection| {
            tables.forgetting = forget(connection, now, FREED_WHEN_IDLE)? > 0;
            tables.freeing = free::free_some(connection, FREED_WHEN_IDLE)?;
            Ok(())
        });
        if let Err(error) = freed {
            tracing::warn!(%error, "what is deleted or over could not be freed; it will be after the next deletion or start");
            (self.tables.freeing, self.tables.forgetting) = (false, false);
        }
    }

    /// Leaves nothing in the journal. What stays in it is found by the next start.
    fn fold_all(&mut self) {
        let folded = self.transaction(|tables, connection| tables.fold_all(connection));
        folded.unwrap_or_else(|error| tracing::warn!(%error, "the journal stays as it is"));
    }

    fn transaction<R>(
        &mut self,
        work: impl FnOnce(&mut Tables, &Connection) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let Self { connection, tables, .. } = self;
        let done = execute(connection, "BEGIN IMMEDIATE")
            .and_then(|()| work(tables, connection))
            .and_then(|result| commit(connection).map(|()| result));
        match done {
            Ok(result) => {
                self.tables.committed();
                Ok(result)
            }
            Err(error) => {
                self.roll_back(&error);
                Err(error)
            }
        }
    }

    fn roll_back(&mut self, error: &EngineError) {
        self.tables.rolled_back();
        // Some errors have rolled back already; then there is nothing to do.
        let rolled_back = self.connection.is_autocommit() || execute(&self.connection, "ROLLBACK").is_ok();
        if !rolled_back || poisons(error) {
            self.poison.set(error);
            self.checkpoints.interrupt();
        }
    }

    fn close(mut self) -> Result<(), EngineError> {
        if self.poison.check().is_ok() {
            self.fold_all();
        }
        let Self { checkpoints, tables, connection, poison, .. } = self;
        drop(checkpoints);
        drop(tables);
        // What is poisoned is let go as it is.
        poison.check()?;
        // Closing the last connection moves the rest of the write-ahead log; a failure leaves it for the next start.
        schema::checkpoint_on_close(&connection, true)?;
        connection.close().map_err(|(_, error)| fault(error))
    }
}

fn commit(connection: &Connection) -> Result<(), EngineError> {
    let Err(error) = try_execute(connection, "COMMIT") else { return Ok(()) };
    if index_cannot_grow(&error) {
        bury(connection)?;
    }
    Err(fault(error))
}

/// Makes sure that a transaction which is in the log, but not in its index, does not come back with the recovery after a
/// crash: another one, which changes nothing anybody sees, takes its place in the log.
fn bury(connection: &Connection) -> Result<(), EngineError> {
    const NOTHING: &str = "INSERT OR REPLACE INTO marks VALUES ('overwritten', 0)";
    if !connection.is_autocommit() {
        execute(connection, "ROLLBACK")?;
    }
    let committed = ["BEGIN IMMEDIATE", NOTHING, "COMMIT"].iter().try_for_each(|text| try_execute(connection, text));
    match committed {
        Err(error) if !index_cannot_grow(&error) => {
            Err(EngineError::Indeterminate(format!("a commit without its index cannot be overwritten: {error}")))
        }
        // Without the index as well, this time: it is in the log, which is all that recovery reads.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn execute(connection: &Connection, text: &str) -> Result<(), EngineError> {
    try_execute(connection, text).map_err(fault)
}

fn try_execute(connection: &Connection, text: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(text)?.execute([]).map(drop)
}

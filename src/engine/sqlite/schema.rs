//! The tables of a store, its format number, and how a connection is set up.
//!
//! Why the tables are as they are is in docs/format.md: a change of a job shall write as few bytes as it can.

use rusqlite::{Connection, config::DbConfig};

use super::{error::fault, schedule, tallies};
use crate::engine::EngineError;

/// Marks a SQLite file as a Milepost store ("MPJS"); see <https://www.sqlite.org/fileformat2.html#application_id>.
const APPLICATION_ID: i64 = 0x4D50_4A53;

/// The steps from an empty file to the format of this program; the format number is how many have been made.
const MIGRATIONS: &[Migration] = &[
    Migration::tables(
        "
    CREATE TABLE marks(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE kinds(kind INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE(tenant, name));
    CREATE TABLE ids(
        tenant INTEGER NOT NULL, id TEXT NOT NULL, job INTEGER NOT NULL, reserved_until INTEGER,
        PRIMARY KEY(tenant, id)
    ) WITHOUT ROWID;
    CREATE TABLE heads(job INTEGER PRIMARY KEY, revision INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE details(job INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE inputs(job INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE results(job INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE lists(
        kind INTEGER NOT NULL, status INTEGER NOT NULL, job INTEGER NOT NULL, PRIMARY KEY(kind, status, job)
    ) WITHOUT ROWID;
    CREATE TABLE labels(
        tenant INTEGER NOT NULL, value TEXT NOT NULL, key TEXT NOT NULL, job INTEGER NOT NULL,
        PRIMARY KEY(tenant, value, key, job)
    ) WITHOUT ROWID;
    CREATE TABLE counts(
        kind INTEGER NOT NULL, status INTEGER NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY(kind, status)
    ) WITHOUT ROWID;
    CREATE TABLE log_rows(log_row INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE freed(log_row INTEGER PRIMARY KEY);
    CREATE TABLE once(
        tenant INTEGER NOT NULL, key TEXT NOT NULL, expires_at INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY(tenant, key)
    ) WITHOUT ROWID;
",
    ),
    Migration::tables(
        "
    CREATE TABLE feed(row INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE gone(job INTEGER PRIMARY KEY, row INTEGER NOT NULL);
    CREATE INDEX gone_rows ON gone(row);
",
    ),
    Migration {
        tables: "
    CREATE TABLE queue(
        kind INTEGER NOT NULL, rank INTEGER NOT NULL, queued_at INTEGER NOT NULL, job INTEGER NOT NULL,
        PRIMARY KEY(kind, rank, queued_at, job)
    ) WITHOUT ROWID;
    CREATE TABLE deadlines(at INTEGER NOT NULL, job INTEGER NOT NULL, PRIMARY KEY(at, job)) WITHOUT ROWID;
",
        fill: schedule::fill,
    },
    Migration::tables(
        "
    CREATE INDEX once_expiry ON once(expires_at);
    CREATE INDEX ids_expiry ON ids(reserved_until) WHERE reserved_until IS NOT NULL;
",
    ),
    Migration::tables(
        "
    CREATE TABLE attempts(
        job INTEGER NOT NULL, attempt INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(job, attempt)
    ) WITHOUT ROWID;
",
    ),
    Migration::tables(
        "
    CREATE TABLE timeline_rows(row INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE freed_timeline(row INTEGER PRIMARY KEY);
",
    ),
    Migration {
        tables: "
    CREATE TABLE tallies(kind INTEGER PRIMARY KEY, body BLOB NOT NULL);
",
        fill: tallies::fill,
    },
    // Heads have zeros after them, which earlier programs do not expect.
    Migration::tables(""),
    Migration::tables(
        "
    CREATE TABLE journal(slot INTEGER PRIMARY KEY, body BLOB NOT NULL);
",
    ),
];

/// The first format that has a job's attempts.
pub(super) const WITH_ATTEMPTS: i64 = 5;
/// The first format that has timelines.
pub(super) const WITH_TIMELINES: i64 = 6;
/// The first format that has a journal.
pub(super) const WITH_JOURNAL: i64 = 9;

/// A step from one format to the next.
struct Migration {
    /// The tables it makes.
    tables: &'static str,
    /// Puts into them what the others say.
    fill: fn(&Connection) -> Result<(), EngineError>,
}

impl Migration {
    const fn tables(tables: &'static str) -> Self {
        Self { tables, fill: |_| Ok(()) }
    }
}

/// Sets up the one connection that writes; an empty file gets a write-ahead log. Its tables are for [`migrate`].
pub(super) fn prepare_writer(connection: &Connection, cache_bytes: usize) -> Result<(), EngineError> {
    // Small pages: a change dirties a head of a hundred bytes, and whole pages are what a commit writes. Only an empty
    // file takes the size.
    pragma(connection, "page_size = 1024")?;
    check_format(connection)?;
    pragma(connection, "journal_mode = WAL")?;
    common(connection, cache_bytes)
}

/// Sets up a connection that does not write; it may make checkpoints.
pub(super) fn prepare_reader(connection: &Connection, cache_bytes: usize) -> Result<(), EngineError> {
    check_format(connection)?;
    common(connection, cache_bytes)?;
    pragma(connection, "query_only = ON")
}

/// Whether a connection moves the write-ahead log into the tables, with syncs, when it is the last one to close.
pub(super) fn checkpoint_on_close(connection: &Connection, wanted: bool) -> Result<(), EngineError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !wanted).map(drop).map_err(fault)
}

fn common(connection: &Connection, cache_bytes: usize) -> Result<(), EngineError> {
    connection.set_prepared_statement_cache_capacity(64);
    // For commits and for checkpoints alike.
    pragma(connection, "synchronous = FULL")?;
    checkpoint_on_close(connection, false)?;
    pragma(connection, &format!("cache_size = -{}", cache_bytes / 1024))?;
    pragma(connection, "temp_store = MEMORY")?;
    pragma(connection, "trusted_schema = OFF")?;
    // Only another process that reads can be in the way, and only for moments.
    pragma(connection, "busy_timeout = 5000")
}

fn pragma(connection: &Connection, setting: &str) -> Result<(), EngineError> {
    connection.execute_batch(&format!("PRAGMA {setting}")).map_err(fault)
}

/// Refuses files of other programs and of newer versions of this one.
fn check_format(connection: &Connection) -> Result<(), EngineError> {
    let (application, format, tables) = connection
        .query_row(
            "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
                    (SELECT count(*) FROM sqlite_schema)",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
        )
        .map_err(fault)?;
    let known = MIGRATIONS.len() as i64;
    if tables > 0 && application != APPLICATION_ID {
        return Err(EngineError::Format("the file milepost.db is not a Milepost store".into()));
    }
    if format > known {
        return Err(EngineError::Format(format!(
            "the store has format {format}, and this program knows formats up to {known}: use the newer version that wrote it"
        )));
    }
    Ok(())
}

/// Refuses a store of an earlier format.
pub(super) fn check_current(connection: &Connection) -> Result<(), EngineError> {
    let (format, known) = (format(connection)?, MIGRATIONS.len() as i64);
    if format == known {
        return Ok(());
    }
    Err(EngineError::Format(format!(
        "the store has format {format}, and is to have {known} for this: `milepost migrate` brings it up to date"
    )))
}

/// The format of a store.
pub(super) fn format(connection: &Connection) -> Result<i64, EngineError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)
}

/// Makes the tables, or brings them up to date.
pub(super) fn migrate(connection: &Connection) -> Result<(), EngineError> {
    let format = format(connection)?;
    let done = usize::try_from(format).unwrap_or(0);
    for (index, Migration { tables, fill }) in MIGRATIONS.iter().enumerate().skip(done) {
        let number = index + 1;
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}");
        // Undone when it is dropped before its end.
        let step = connection.unchecked_transaction().map_err(fault)?;
        step.execute_batch(tables).map_err(fault)?;
        fill(&step)?;
        step.execute_batch(&marks).and_then(|()| step.commit()).map_err(fault)?;
    }
    if done < MIGRATIONS.len() {
        tracing::info!(from = done, format = MIGRATIONS.len(), "store format is up to date");
    }
    Ok(())
}

//! What the last process has left in the write-ahead log.
//!
//! Promises: it is on the disk before anything is written behind it. Recovery reads the log from the system's memory, and
//! after a sync that failed that may be the only place where its end is: the system takes those pages for written, and no
//! later sync writes them (<https://wiki.postgresql.org/wiki/Fsync_Errors>). All commits behind them would be lost with the
//! power.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use rusqlite::Connection;

use super::{checkpoint, error::fault, sync_name};
use crate::engine::EngineError;

/// The lengths of what stands before all pages of a log, and before each; see <https://www.sqlite.org/fileformat2.html#walformat>.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// Bytes that are rewritten at a time.
const PIECE: usize = 1 << 20;

/// Writes the log that was recovered over itself, and syncs it. To move it into the tables would do as well, but reads and
/// writes pages all over them, which is slow where they are not in memory: after a restart of the machine.
///
/// # Errors
/// What the disk says. Whatever it is, nothing may be written: a sync that finds no room has failed as others do.
pub(super) fn secure(connection: &Connection, tables: &Path) -> Result<(), EngineError> {
    let pages = u64::from(checkpoint::log_pages(connection)?);
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(fault)?;
    let bytes = LOG_HEADER + pages * (FRAME_HEADER + u64::from(page));
    let secured = tables.canonicalize().and_then(|tables| {
        // Where SQLite has it, wherever links have led.
        let log = tables.with_extension("db-wal");
        // SQLite does so with the first sync of a log that it has made; the process whose sync that was to be may have died.
        sync_name(&log)?;
        if pages > 0 { rewrite(&log, bytes) } else { Ok(()) }
    });
    let failed = |error| format!("{}: what is recovered cannot be secured: {error}", tables.display());
    secured.map_err(|error| EngineError::Indeterminate(failed(error)))
}

/// Writes so many bytes of a file over themselves, and syncs it.
fn rewrite(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut piece[..length], at)?;
        file.write_all_at(&piece[..length], at)?;
        at += length as u64;
    }
    file.sync_data()
}

//! Checkpoints: the write-ahead log is moved into the tables, so that it can begin anew.
//!
//! Promises: the bulk is moved beside the commits, and what they have added meanwhile, which is little, in between two
//! of them: the log begins anew only when it is moved to its end, and under load that never comes by itself. What was moved
//! beside is synced beside. No pass begins once the store is poisoned, and a pass whose sync fails poisons it.

mod beside;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::Connection;

use self::beside::Beside;
use super::{
    error::{fault, poisons},
    poison::Poison,
};
use crate::engine::EngineError;

/// The part of a long log that may be left for the writer to move, and wait for.
const REST_DIVISOR: u32 = 16;

/// Passes beside the commits before the writer moves what is left, however much it is: it may come in faster than it
/// is moved.
const PASSES_MAX: u32 = 4;

/// See the module. Belongs to the connection that writes.
pub(super) struct Checkpoints {
    beside: Beside,
    poison: Poison,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicU32>,
    /// Pages that make a log long.
    long_pages: u32,
    /// Pages at which the next pass is tried; further off when the last one was kept from its end.
    next_at: u32,
    /// Pages of the log that are in the tables.
    moved: u32,
    /// Passes since the log was last moved to its end, or as far as could be.
    passes: u32,
}

impl Checkpoints {
    /// From now on nothing but this moves the log: SQLite would do it inside COMMIT, before the answer, and its errors
    /// would look like the commit's.
    pub(super) fn start(
        directory: &Path,
        tables: Arc<File>,
        writer: &mut Connection,
        long_pages: u32,
        poison: Poison,
    ) -> Result<Self, EngineError> {
        let log_pages = Arc::new(AtomicU32::new(0));
        let seen = log_pages.clone();
        writer
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
                seen.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(fault)?;
        let beside = Beside::start(directory, tables, poison.clone())?;
        Ok(Self { beside, poison, log_pages, long_pages, next_at: long_pages, moved: 0, passes: 0 })
    }

    /// Sees to the next step when the log is long: to be called after each commit.
    pub(super) fn go_on(&mut self, writer: &Connection) {
        if self.poison.check().is_err() {
            return;
        }
        match self.step(writer) {
            Ok(()) => {}
            Err(error) if poisons(&error) => self.poison.set(&error),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log could not be moved into the tables; it grows meanwhile");
                self.put_off();
            }
        }
    }

    /// Ends the pass under way early, since the store is poisoned.
    pub(super) fn interrupt(&self) {
        self.beside.interrupt();
    }

    fn step(&mut self, writer: &Connection) -> Result<(), EngineError> {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if self.beside.is_working() {
            let Some(pass) = self.beside.ended() else { return Ok(()) };
            let pass = pass?;
            self.moved = pass.moved;
            if self.is_much(pass.in_log - pass.moved) {
                // A reader still needs what was before.
                self.put_off();
            }
        }
        if pages < self.long_pages {
            // It has begun anew, if it ever was long.
            (self.moved, self.passes, self.next_at) = (0, 0, self.long_pages);
        }
        if pages < self.next_at {
            return Ok(());
        }
        if self.is_much(pages.saturating_sub(self.moved)) && self.passes < PASSES_MAX {
            self.passes += 1;
            return self.beside.begin();
        }
        let pass = pass(writer)?;
        self.moved = pass.moved;
        self.passes = 0;
        if pass.moved < pass.in_log {
            self.put_off();
        } else {
            self.next_at = self.long_pages;
        }
        Ok(())
    }

    fn is_much(&self, pages: u32) -> bool {
        pages > self.long_pages / REST_DIVISOR
    }

    fn put_off(&mut self) {
        self.next_at = self.log_pages.load(Ordering::Relaxed) + self.long_pages / 4;
        self.passes = 0;
    }
}

/// What a pass came to.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// Pages that were in the log.
    in_log: u32,
    /// How many of them are in the tables now.
    moved: u32,
}

/// Moves the log into the tables as far as readers let it. See <https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>.
fn pass(connection: &Connection) -> Result<Pass, EngineError> {
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// Pages in the log.
pub(super) fn log_pages(connection: &Connection) -> Result<u32, EngineError> {
    checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").map(|pass| pass.in_log)
}

fn checkpoint(connection: &Connection, text: &str) -> Result<Pass, EngineError> {
    // Both are -1 when there is no log.
    let pages = |row: &rusqlite::Row<'_>, column| row.get(column).map(|pages: i64| u32::try_from(pages).unwrap_or(0));
    connection.query_row(text, [], |row| Ok(Pass { in_log: pages(row, 1)?, moved: pages(row, 2)? })).map_err(fault)
}

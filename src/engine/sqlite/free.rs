//! Chains of rows that are no longer wanted: marked at once, deleted in bounded steps.
//!
//! Promises: a row that is marked goes with all before it in its chain, some at a time, over crashes. Row numbers are never used
//! again, so a chain ends where an earlier walk has begun.

use rusqlite::{Connection, OptionalExtension};

use super::{error::fault, read::statement, timeline::TimelineRow};
use crate::engine::{
    EngineError,
    record::{self, LogRow, Table, sql},
};

/// Rows that each name the one before them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chain {
    /// Lines of a job's log.
    Log,
    /// Entries of a job's timeline.
    Timeline,
}

impl Chain {
    fn table(self) -> Table {
        match self {
            Self::Log => Table::LogRows,
            Self::Timeline => Table::TimelineRows,
        }
    }

    fn marks(self) -> &'static str {
        match self {
            Self::Log => "freed",
            Self::Timeline => "freed_timeline",
        }
    }

    /// The row before one; 0: none.
    fn prev(self, row: u64, body: &[u8]) -> Result<u64, EngineError> {
        match self {
            Self::Log => record::open::<LogRow<'_>>(self.table(), row, body).map(|row| row.prev),
            Self::Timeline => record::open::<TimelineRow<'_>>(self.table(), row, body).map(|row| row.prev),
        }
    }

    /// Marks a row and all before it to be deleted.
    pub(super) fn free_from(self, connection: &Connection, row: u64) -> Result<(), EngineError> {
        let text = format!("INSERT OR IGNORE INTO {} VALUES (?1)", self.marks());
        statement(connection, &text)?.execute([sql(row)]).map(drop).map_err(fault)
    }

    /// Deletes at most so many rows that are marked; whether there may be more.
    fn free_some(self, connection: &Connection, rows_max: usize) -> Result<bool, EngineError> {
        let (table, marks) = (self.table().name(), self.marks());
        let mut pick = statement(connection, &format!("SELECT rowid FROM {marks} LIMIT 1"))?;
        let mut unmark = statement(connection, &format!("DELETE FROM {marks} WHERE rowid = ?1"))?;
        let mut select = statement(connection, &format!("SELECT body FROM {table} WHERE rowid = ?1"))?;
        let mut delete = statement(connection, &format!("DELETE FROM {table} WHERE rowid = ?1"))?;
        let mut left = rows_max;
        while left > 0 {
            let marked = pick.query_row([], |row| row.get::<_, i64>(0)).optional().map_err(fault)?;
            let Some(marked) = marked else { break };
            unmark.execute([marked]).map_err(fault)?;
            let mut at = marked as u64;
            while at != 0 {
                if left == 0 {
                    self.free_from(connection, at)?;
                    break;
                }
                let found = select.query_row([sql(at)], |row| row.get::<_, Vec<u8>>(0)).optional().map_err(fault)?;
                let prev = match found.map(|body| self.prev(at, &body)) {
                    Some(Ok(prev)) => prev,
                    None => break,
                    Some(Err(damage)) => {
                        leak(&damage);
                        0
                    }
                };
                delete.execute([sql(at)]).map_err(fault)?;
                left -= 1;
                at = prev;
            }
        }
        Ok(left == 0)
    }
}

/// Deletes at most so many marked rows of logs and as many of timelines; false when there are none left.
pub(super) fn free_some(connection: &Connection, rows_max: usize) -> Result<bool, EngineError> {
    let has_more_lines = Chain::Log.free_some(connection, rows_max)?;
    Ok(Chain::Timeline.free_some(connection, rows_max)? || has_more_lines)
}

/// A damaged row costs its space and what lies before it, never the writes of others.
pub(super) fn leak(damage: &EngineError) {
    tracing::error!(%damage, "deleted rows behind a damaged one are not freed");
}

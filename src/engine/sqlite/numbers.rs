//! Numbers that the tables keep under a name.

use rusqlite::{Connection, OptionalExtension};

use super::{error::fault, read::statement};
use crate::engine::{EngineError, record::sql};

/// Numbers that are never given out twice, whatever happens to what they named.
pub(super) struct Numbers {
    mark: &'static str,
    next: u64,
    reserved: u64,
}

impl Numbers {
    /// How many are reserved in the store at once; the rest of them is lost with a crash, which costs nothing.
    const STEP: u64 = 4096;

    pub(super) fn load(connection: &Connection, mark: &'static str) -> Result<Self, EngineError> {
        let next = marked(connection, mark)?.unwrap_or(1);
        Ok(Self { mark, next, reserved: next })
    }

    pub(super) fn take(&mut self, connection: &Connection) -> Result<u64, EngineError> {
        if self.next == self.reserved {
            let reserved = self.reserved + Self::STEP;
            mark(connection, self.mark, reserved)?;
            self.reserved = reserved;
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }

    /// What was reserved in a transaction that is gone has to be reserved again.
    pub(super) fn rolled_back(&mut self) {
        self.reserved = self.next;
    }
}

/// What stands under a name.
pub(super) fn marked(connection: &Connection, name: &str) -> Result<Option<u64>, EngineError> {
    let mut select = statement(connection, "SELECT value FROM marks WHERE name = ?1")?;
    let found = select.query_row([name], |row| row.get::<_, i64>(0)).optional().map_err(fault)?;
    Ok(found.map(i64::cast_unsigned))
}

/// Puts it there.
pub(super) fn mark(connection: &Connection, name: &str, value: u64) -> Result<(), EngineError> {
    let mut insert = statement(connection, "INSERT OR REPLACE INTO marks VALUES (?1, ?2)")?;
    insert.execute((name, sql(value))).map(drop).map_err(fault)
}

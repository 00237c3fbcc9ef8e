//! Attempts that are over: a row each, written when the next one begins.

use rusqlite::Connection;

use super::{error::fault, read::statement};
use crate::{
    engine::{
        EngineError,
        record::{self, AttemptRow, Table, sql},
    },
    job::{Attempt, PastAttempt},
};

/// So many of a job's last attempts are kept.
const KEPT: u32 = 100;

/// Adds an attempt that is over, and takes out the one that is one too many.
pub(super) fn add(
    connection: &Connection,
    number: u64,
    past: &PastAttempt,
    buffer: &mut Vec<u8>,
) -> Result<(), EngineError> {
    record::seal(Table::Attempts, number, &AttemptRow::of(past), buffer)?;
    let columns = (sql(number), past.attempt.0, &*buffer);
    statement(connection, "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3)")?.execute(columns).map_err(fault)?;
    if let Some(old) = past.attempt.0.checked_sub(KEPT) {
        let mut delete = statement(connection, "DELETE FROM attempts WHERE job = ?1 AND attempt <= ?2")?;
        delete.execute((sql(number), old)).map_err(fault)?;
    }
    Ok(())
}

/// Takes out all attempts of a job.
pub(super) fn drop_all(connection: &Connection, number: u64) -> Result<(), EngineError> {
    let mut delete = statement(connection, "DELETE FROM attempts WHERE job = ?1")?;
    delete.execute([sql(number)]).map(drop).map_err(fault)
}

/// A job's attempts before this one, in order.
pub(super) fn read(connection: &Connection, number: u64, before: Attempt) -> Result<Vec<PastAttempt>, EngineError> {
    let text = "SELECT body FROM attempts WHERE job = ?1 AND attempt < ?2 ORDER BY attempt";
    let mut select = statement(connection, text)?;
    let mut rows = select.query((sql(number), before.0)).map_err(fault)?;
    let mut attempts = Vec::new();
    while let Some(columns) = rows.next().map_err(fault)? {
        let body = columns.get_ref(0).map_err(fault)?.as_blob().unwrap_or_default();
        attempts.push(record::open::<AttemptRow<'_>>(Table::Attempts, number, body)?.past(number)?);
    }
    Ok(attempts)
}

//! Reads: what each asks the tables for, and makes of their rows.

use std::path::{Path, PathBuf};

use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension};

use super::{error::fault, log::Rows, schema, view::View};
use crate::{
    engine::{
        EngineError, Found, LogSlice, Once, Place, Stored,
        record::{self, Detail, Head, Table, sql, tenant_of},
    },
    job::{JobId, JobKey, Json, LogLine, Seq, Tenant, Timestamp},
};

/// The file of a store within its directory.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("milepost.db")
}

/// Opens a connection that does not write, also beside the process that does.
pub(super) fn open(directory: &Path, cache_bytes: usize) -> Result<Connection, EngineError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file(directory), flags).map_err(fault)?;
    schema::prepare_reader(&connection, cache_bytes)?;
    Ok(connection)
}

/// The number of the job that has, or had, an id; and how long the id of one that was deleted is reserved.
pub(super) fn number_of(
    connection: &Connection,
    key: &JobKey,
) -> Result<Option<(u64, Option<Timestamp>)>, EngineError> {
    let mut ids = statement(connection, "SELECT job, reserved_until FROM ids WHERE tenant = ?1 AND id = ?2")?;
    let columns = (key.tenant.0, key.id.as_str());
    let found = ids.query_row(columns, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)));
    let found = found.optional().map_err(fault)?;
    Ok(found.map(|(number, until)| (number as u64, until.map(|until| Timestamp(until as u64)))))
}

/// The numbers of the next jobs, in order; none: there are no more.
pub(super) fn numbers_after(connection: &Connection, after: u64) -> Result<Vec<u64>, EngineError> {
    let mut select = statement(connection, "SELECT job FROM heads WHERE job > ?1 ORDER BY job LIMIT 1000")?;
    let numbers = select.query_map([sql(after)], |row| row.get::<_, i64>(0)).map_err(fault)?;
    numbers.map(|number| number.map(i64::cast_unsigned).map_err(fault)).collect()
}

/// What an id leads to.
pub(super) fn find(view: &View<'_>, key: &JobKey) -> Result<Found, EngineError> {
    match number_of(view, key)? {
        None => Ok(Found::Missing),
        Some((_, Some(until))) => Ok(Found::Reserved(until)),
        Some((number, None)) => existing_job(view, number, true)?.under(key).map(Found::Job),
    }
}

/// The job of a number, with its result or without.
pub(super) fn job(view: &View<'_>, number: u64, with_result: bool) -> Result<Option<Stored>, EngineError> {
    view.head(number, |revision, body| {
        let head = Head::open(number, body)?;
        let result = if with_result && head.has_result() { json(view, Table::Results, number)? } else { None };
        let mut details = statement(view, "SELECT body FROM details WHERE job = ?1")?;
        let detail = details.query_row([sql(number)], |row| row.get::<_, Vec<u8>>(0)).optional().map_err(fault)?;
        let detail = detail.ok_or_else(|| record::damaged(Table::Details, number, "missing"))?;
        let detail: Detail<'_> = record::open(Table::Details, number, &detail)?;
        head.job(number, revision, tenant_of(number), detail, result)
    })
}

/// As [`job`], of a number that something of the same moment has led to.
pub(super) fn existing_job(view: &View<'_>, number: u64, with_result: bool) -> Result<Stored, EngineError> {
    job(view, number, with_result)?.ok_or_else(|| record::damaged(Table::Heads, number, "missing"))
}

/// As [`job`]; of one that is damaged nothing: what is wrong with it is said to those who ask for it.
pub(super) fn sound_job(view: &View<'_>, number: u64, with_result: bool) -> Result<Option<Stored>, EngineError> {
    match job(view, number, with_result) {
        Err(EngineError::Corrupt(_)) => Ok(None),
        found => found,
    }
}

/// The input or result of a job.
pub(super) fn json(connection: &Connection, table: Table, number: u64) -> Result<Option<Json>, EngineError> {
    let text = format!("SELECT body FROM {} WHERE job = ?1", table.name());
    let body = statement(connection, &text)?.query_row([sql(number)], |row| row.get::<_, Vec<u8>>(0));
    let Some(body) = body.optional().map_err(fault)? else { return Ok(None) };
    let text: String = record::open(table, number, &body)?;
    Json::from_text(text).map(Some).map_err(|error| EngineError::Corrupt(format!("{table:?} {number}: {error}")))
}

/// Lines of the log of the job that has this number; `None` when it is gone.
pub(super) fn log(
    view: &View<'_>,
    number: u64,
    count: Seq,
    slice: LogSlice,
) -> Result<Option<Vec<LogLine>>, EngineError> {
    let Some((place, dropped)) = log_end(view, number)? else { return Ok(None) };
    Rows::new(view)?.slice(place, dropped, count, slice).map(Some)
}

/// What an id leads to, and lines of its log.
pub(super) fn find_with_log(
    view: &View<'_>,
    key: &JobKey,
    slice: LogSlice,
) -> Result<(Found, Vec<LogLine>), EngineError> {
    let found = find(view, key)?;
    let lines = match &found {
        Found::Job(Stored { job, place }) if !slice.is_nothing_of(&job.log) => {
            Rows::new(view)?.slice(*place, job.log.dropped, job.log.count, slice)?
        }
        Found::Job(_) | Found::Reserved(_) | Found::Missing => Vec::new(),
    };
    Ok((found, lines))
}

/// Where a job's log ends at this moment, and how many of its lines are trimmed.
fn log_end(view: &View<'_>, number: u64) -> Result<Option<(Place, Seq)>, EngineError> {
    view.head(number, |_, body| {
        let head = Head::open(number, body)?;
        Ok((head.place(number), head.log_dropped()))
    })
}

/// What was done under an idempotency key.
pub(super) fn once(
    connection: &Connection,
    tenant: Tenant,
    key: &str,
    now: Timestamp,
) -> Result<Option<Once>, EngineError> {
    let text = "SELECT expires_at, body FROM once WHERE tenant = ?1 AND key = ?2 AND expires_at > ?3";
    let found = statement(connection, text)?
        .query_row((tenant.0, key, sql(now.0)), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let Some((expires_at, body)) = found.optional().map_err(fault)? else { return Ok(None) };
    let (fingerprint, id, attempt) = record::open_once(tenant, &body)?;
    let id = JobId::try_from(id).map_err(|_| EngineError::Corrupt(format!("once {key:?}: id")))?;
    Ok(Some(Once { fingerprint, id, attempt, expires_at: Timestamp(expires_at as u64) }))
}

pub(super) fn statement<'c>(connection: &'c Connection, text: &str) -> Result<CachedStatement<'c>, EngineError> {
    connection.prepare_cached(text).map_err(fault)
}

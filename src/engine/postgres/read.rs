//! Reads: each one statement, and so from one consistent moment.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::{
    Postgres,
    connect::{Connections, column},
    gather::{Answers, Question},
};
use crate::{
    engine::{
        EngineError, Found, Once, Stored,
        record::{self, AttemptRow, Detail, Head, Table, sql, tenant_of},
    },
    job::{Attempt, JobId, JobKey, Json, PastAttempt, Tenant, Timestamp},
};

/// The job of a row: its number, revision, head, detail and result.
pub(super) fn job(row: &Row, first: usize) -> Result<Stored, EngineError> {
    let number = column::<i64>(row, first)?.cast_unsigned();
    let revision = column::<i64>(row, first + 1)?.cast_unsigned();
    let head = Head::open(number, column(row, first + 2)?)?;
    let detail: Detail<'_> = record::open(Table::Details, number, column(row, first + 3)?)?;
    let result = column::<Option<&[u8]>>(row, first + 4)?.map(|body| json(Table::Results, number, body)).transpose()?;
    head.job(number, revision, tenant_of(number), detail, result)
}

pub(super) fn json(table: Table, number: u64, body: &[u8]) -> Result<Json, EngineError> {
    let text: String = record::open(table, number, body)?;
    Json::from_text(text).map_err(|error| EngineError::Corrupt(format!("{table:?} {number}: {error}")))
}

/// What a job is known by: its number and revision.
pub(super) fn as_known(stored: &Stored) -> (u64, u64) {
    (stored.place.number, stored.job.revision)
}

/// What an id leads to; `None`: to the job that is known, by its number and revision.
#[derive(Clone)]
pub(super) struct LookUp {
    pub(super) key: JobKey,
    pub(super) known: Option<(u64, u64)>,
}

impl Question for LookUp {
    type Answer = Option<Found>;
    const MOST: usize = 500;

    async fn answers(connections: &Connections, asked: &[&Self]) -> Answers<Option<Found>> {
        let asked: Vec<_> = asked.iter().map(|look_up| (&look_up.key, look_up.known)).collect();
        look_up(connections, &asked).await
    }
}

/// What each of these ids leads to, or has come to lead to since a job was known under it, by its number and revision; `None`:
/// to just that.
pub(super) async fn look_up(
    connections: &Connections,
    asked: &[(&JobKey, Option<(u64, u64)>)],
) -> Answers<Option<Found>> {
    // A job that is as it is known is not sent again.
    const LOOK_UP: &str = "SELECT k.nth, i.reserved_until, h.job IS NOT NULL, h.job = k.job AND h.revision = k.revision,
            i.job, h.revision,
            CASE WHEN h.job = k.job AND h.revision = k.revision THEN NULL ELSE h.body END,
            CASE WHEN h.job = k.job AND h.revision = k.revision THEN NULL ELSE d.body END,
            CASE WHEN h.job = k.job AND h.revision = k.revision THEN NULL ELSE d.result END
         FROM unnest($1::int4[], $2::text[], $3::int8[], $4::int8[]) WITH ORDINALITY AS k(tenant, id, job, revision, nth)
         JOIN ids AS i ON i.tenant = k.tenant AND i.id = k.id
         LEFT JOIN heads AS h ON h.job = i.job AND i.reserved_until IS NULL
         LEFT JOIN details AS d ON d.job = h.job";
    let tenants: Vec<_> = asked.iter().map(|(key, _)| key.tenant.0.cast_signed()).collect();
    let ids: Vec<_> = asked.iter().map(|(key, _)| key.id.as_str()).collect();
    let jobs: Vec<_> = asked.iter().map(|(_, known)| known.map(|(job, _)| sql(job))).collect();
    let revisions: Vec<_> = asked.iter().map(|(_, known)| known.map(|(_, revision)| sql(revision))).collect();
    let mut found: Vec<_> = asked.iter().map(|_| Ok(Some(Found::Missing))).collect();
    for row in connections.rows(LOOK_UP, &[&tenants, &ids, &jobs, &revisions]).await? {
        let nth = usize::try_from(column::<i64>(&row, 0)? - 1).unwrap_or_default();
        if let (Some(place), Some((key, _))) = (found.get_mut(nth), asked.get(nth)) {
            *place = found_in(&row, key);
        }
    }
    Ok(found)
}

fn found_in(row: &Row, key: &JobKey) -> Result<Option<Found>, EngineError> {
    if let Some(until) = column::<Option<i64>>(row, 1)? {
        return Ok(Some(Found::Reserved(Timestamp(until.cast_unsigned()))));
    }
    if column::<Option<bool>>(row, 3)? == Some(true) {
        return Ok(None);
    }
    if !column::<bool>(row, 2)? {
        return Err(EngineError::Corrupt(format!("heads {}: missing", column::<i64>(row, 4)?)));
    }
    job(row, 4)?.under(key).map(|stored| Some(Found::Job(stored)))
}

impl Postgres {
    /// What these ids lead to, for whoever commits.
    pub(super) async fn found(&self, keys: &[JobKey]) -> Vec<Result<Found, EngineError>> {
        let asked: Vec<_> = keys.iter().map(|key| (key, None)).collect();
        match look_up(&self.committing, &asked).await {
            Ok(found) => found.into_iter().map(|found| found.map(|found| found.unwrap_or(Found::Missing))).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    pub(super) async fn read_input(&self, number: u64) -> Result<Option<Json>, EngineError> {
        let row = self.connections.row("SELECT input FROM details WHERE job = $1", &[&sql(number)]).await?;
        let Some(row) = row else { return Ok(None) };
        column::<Option<&[u8]>>(&row, 0)?.map(|body| json(Table::Inputs, number, body)).transpose()
    }

    pub(super) async fn read_attempts(&self, number: u64, before: Attempt) -> Result<Vec<PastAttempt>, EngineError> {
        const ATTEMPTS: &str = "SELECT body FROM attempts WHERE job = $1 AND attempt < $2 ORDER BY attempt";
        let rows = self.connections.rows(ATTEMPTS, &[&sql(number), &i64::from(before.0)]).await?;
        rows.iter().map(|row| attempt(number, row, 0)).collect()
    }

    pub(super) async fn read_once(
        &self,
        tenant: Tenant,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Once>, EngineError> {
        const ONCE: &str = "SELECT expires_at, body FROM once WHERE tenant = $1 AND key = $2 AND expires_at > $3";
        let row = self.connections.row(ONCE, &[&tenant.0.cast_signed(), &key, &sql(now.0)]).await?;
        let Some(row) = row else { return Ok(None) };
        let (fingerprint, id, attempt) = record::open_once(tenant, column(&row, 1)?)?;
        let id = JobId::try_from(id).map_err(|_| EngineError::Corrupt(format!("once {key:?}: id")))?;
        let expires_at = Timestamp(column::<i64>(&row, 0)?.cast_unsigned());
        Ok(Some(Once { fingerprint, id, attempt, expires_at }))
    }

    /// The jobs of these numbers, without their results, as far as they are there.
    pub(super) async fn read_numbered(&self, numbers: &[u64]) -> Result<HashMap<u64, Stored>, EngineError> {
        const JOBS: &str = "SELECT h.job, h.revision, h.body, d.body, NULL::bytea FROM unnest($1::int8[]) AS k(job)
             JOIN heads AS h ON h.job = k.job JOIN details AS d ON d.job = h.job";
        let numbers: Vec<_> = numbers.iter().map(|number| sql(*number)).collect();
        let rows = self.connections.rows(JOBS, &[&numbers]).await?;
        rows.iter().map(|row| job(row, 0).map(|stored| (stored.place.number, stored))).collect()
    }
}

/// The attempt in a row.
pub(super) fn attempt(number: u64, row: &Row, at: usize) -> Result<PastAttempt, EngineError> {
    record::open::<AttemptRow<'_>>(Table::Attempts, number, column(row, at)?)?.past(number)
}

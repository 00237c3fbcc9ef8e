//! Which jobs wait for a worker, and which may have come to a deadline.
//!
//! Promises: what one process is told that is due no other is told as well, unless the first does nothing about it.

use tokio_postgres::Row;

use super::{Postgres, connect::column, read};
use crate::{
    engine::{EngineError, QueueQuery, Stored, record::sql},
    job::{JobKey, Timestamp},
};

/// How long what is due is left to the process that was told of it: until then it has done it, or is gone.
const RESERVED_MS: u64 = 5000;

impl Postgres {
    pub(super) async fn read_queue(&self, query: &QueueQuery) -> Result<Vec<Stored>, EngineError> {
        const QUEUED: &str = "SELECT h.job, h.revision, h.body, d.body, d.result FROM (
                 SELECT q.* FROM kinds AS k CROSS JOIN LATERAL (
                     SELECT job, rank, queued_at FROM queue WHERE kind = k.kind ORDER BY rank, queued_at, job LIMIT $3) AS q
                 WHERE k.tenant = $1 AND k.name = ANY ($2) ORDER BY q.rank, q.queued_at, q.job LIMIT $3) AS q
             JOIN heads AS h ON h.job = q.job JOIN details AS d ON d.job = h.job ORDER BY q.rank, q.queued_at, q.job";
        let kinds: Vec<_> = query.kinds.iter().map(|kind| kind.as_str()).collect();
        let jobs_max = i64::try_from(query.jobs_max).unwrap_or(i64::MAX);
        let rows = self.committing.rows(QUEUED, &[&query.tenant.0.cast_signed(), &kinds, &jobs_max]).await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            match read::job(row, 0) {
                Ok(stored) => jobs.push(stored),
                // Nobody can work at it, and those behind it need not wait for that.
                Err(EngineError::Corrupt(damage)) => tracing::error!(%damage, "a queued job cannot be claimed"),
                Err(error) => return Err(error),
            }
        }
        Ok(jobs)
    }

    pub(super) async fn take_due(&self, now: Timestamp, jobs_max: usize) -> Result<Vec<JobKey>, EngineError> {
        const DUE: &str = "WITH due AS (
                 UPDATE deadlines SET at = $2 WHERE job IN (
                     SELECT job FROM deadlines WHERE at <= $1 ORDER BY at, job LIMIT $3 FOR UPDATE SKIP LOCKED)
                 RETURNING job)
             SELECT h.job, h.revision, h.body, d.body, NULL::bytea
             FROM due JOIN heads AS h ON h.job = due.job JOIN details AS d ON d.job = h.job";
        if self.standing.check_fitness().is_err() {
            // For the others to do; the look tells why.
            return Ok(Vec::new());
        }
        let jobs_max = i64::try_from(jobs_max).unwrap_or(i64::MAX);
        let reserved = sql(now.0 + RESERVED_MS);
        let rows = self.connections.rows(DUE, &[&sql(now.0), &reserved, &jobs_max]).await?;
        let key = |row: &Row| match read::job(row, 0) {
            Ok(stored) => Ok(Some(stored.job.key().clone())),
            // Said whenever somebody reads it, which is less often.
            Err(EngineError::Corrupt(damage)) => {
                tracing::debug!(%damage, number = column::<i64>(row, 0).ok(), "what is due of a job cannot be done");
                Ok(None)
            }
            Err(error) => Err(error),
        };
        rows.iter().filter_map(|row| key(row).transpose()).collect()
    }
}

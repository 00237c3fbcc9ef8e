//! What is done by itself, by one process at a time: counts are folded, and what is over is taken out in bounded steps.

use tokio::time::{Duration, sleep};

use super::{Postgres, connect::column, counts, error::fault};
use crate::{
    engine::{EngineError, record::sql},
    job::Timestamp,
};

/// Between two looks, when there was no more to do.
const PAUSE: Duration = Duration::from_secs(1);
/// Rows of each table that are taken out at once.
const ROWS_MAX: i64 = 1000;
/// How long it is known what became of a batch: longer than anybody looks for it.
const BATCHES_RETAIN_MS: u64 = 600_000;

impl Postgres {
    /// Sees to it, for as long as it is polled.
    pub(super) async fn keep_up(&self) {
        loop {
            match self.keep_up_some().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what is over could not be taken out; it is tried again"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Does some of it; whether there may be more.
    async fn keep_up_some(&self) -> Result<bool, EngineError> {
        const LOCK: &str = "SELECT pg_try_advisory_xact_lock(1297107027, 'deltas'::regclass::oid::int4)";
        const TAKE_OUT: &str = "SELECT take_out_some($1, $2, $3, $4)";
        let mut connection = self.connections.get().await?;
        let step = connection.transaction().await.map_err(|error| fault(&error))?;
        let is_mine = step.query_one(LOCK, &[]).await.map_err(|error| fault(&error))?;
        if !column::<bool>(&is_mine, 0)? {
            return Ok(false);
        }
        let has_deltas = counts::fold(&step).await?;
        let now = self.clock.now();
        let ago = |milliseconds: u64| Timestamp(now.0.saturating_sub(milliseconds));
        let feed_until = ago(u64::from(self.settings.feed_retain_seconds) * 1000).0 << 3;
        let batches_until = ago(BATCHES_RETAIN_MS).0;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&sql(now.0), &sql(feed_until), &sql(batches_until), &ROWS_MAX];
        let row = step.query_one(TAKE_OUT, &params).await.map_err(|error| fault(&error))?;
        let has_rows: bool = column(&row, 0)?;
        step.commit().await.map_err(|error| fault(&error))?;
        Ok(has_deltas || has_rows)
    }
}

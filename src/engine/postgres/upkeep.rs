//! What is done by itself, by one process at a time: counts are folded, and what is over is taken out in bounded steps.

use deadpool_postgres::{Object, Transaction};
use tokio::time::{Duration, sleep, timeout};
use tokio_postgres::types::ToSql;

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
/// How long entries of the feed are kept at least, since the replicas read them, too.
const FEED_RETAIN_MS: u64 = 60_000;
/// What a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
        if self.standing.check_fitness().is_err() {
            // For the others to do; the look tells why.
            return Ok(false);
        }
        let slow = || EngineError::Unavailable("PostgreSQL has not answered in time".into());
        // What is wrong with the one is nothing to the other.
        let kept_up = async {
            let (folded, taken_out) = (self.fold_some().await, self.take_out_some().await);
            Ok(folded? | taken_out?)
        };
        timeout(PATIENCE, kept_up).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn fold_some(&self) -> Result<bool, EngineError> {
        let mut connection = self.connections.get().await?;
        let Some(step) = begin(&mut connection).await? else { return Ok(false) };
        let has_more = counts::fold(&step).await?;
        step.commit().await.map_err(|error| fault(&error))?;
        Ok(has_more)
    }

    async fn take_out_some(&self) -> Result<bool, EngineError> {
        const TAKE_OUT: &str = "SELECT take_out_some($1, $2, $3, $4)";
        let mut connection = self.connections.get().await?;
        let Some(step) = begin(&mut connection).await? else { return Ok(false) };
        let now = self.clock.now();
        let ago = |milliseconds: u64| Timestamp(now.0.saturating_sub(milliseconds));
        let retain = (u64::from(self.settings.feed_retain_seconds) * 1000).max(FEED_RETAIN_MS);
        let (feed_until, batches_until) = (ago(retain).0 << 3, ago(BATCHES_RETAIN_MS).0);
        let params: [&(dyn ToSql + Sync); 4] = [&sql(now.0), &sql(feed_until), &sql(batches_until), &ROWS_MAX];
        let row = step.query_one(TAKE_OUT, &params).await.map_err(|error| fault(&error))?;
        let has_more: bool = column(&row, 0)?;
        step.commit().await.map_err(|error| fault(&error))?;
        Ok(has_more)
    }
}

/// A step of the upkeep; `None` while another process is at one.
async fn begin(connection: &mut Object) -> Result<Option<Transaction<'_>>, EngineError> {
    const LOCK: &str = "SELECT pg_try_advisory_xact_lock(1297107027, 'deltas'::regclass::oid::int4)";
    let step = connection.transaction().await.map_err(|error| fault(&error))?;
    let is_mine = step.query_one(LOCK, &[]).await.map_err(|error| fault(&error))?;
    Ok(column::<bool>(&is_mine, 0)?.then_some(step))
}

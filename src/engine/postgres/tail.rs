//! The tail of the feed: what other processes have committed, told to those who wait here.
//!
//! Promises: every entry is looked at once, in the order of the commits; one that nobody notified us of is told with the next
//! look, which is never far.

use tokio::{
    select,
    time::{Duration, sleep},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Postgres, connect::column};
use crate::{
    engine::{
        Elsewhere, EngineError,
        record::{self, Move, Table},
    },
    job::Tenant,
};

/// Entries looked at with one statement.
const ENTRIES_MAX: i64 = 500;

impl Postgres {
    /// Tells of what others commit, for as long as it is polled.
    pub(super) async fn tail(&self, tell: &(dyn Fn(Elsewhere) + Send + Sync)) {
        let mut at = None;
        loop {
            match self.tail_some(&mut at, tell).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what others have changed could not be read; it is tried again"),
            }
            select! {
                () = self.hearing.heard() => {}
                () = sleep(Duration::from_millis(self.settings.poll_milliseconds.into())) => {}
            }
        }
    }

    /// Tells of the next entries; whether there may be more.
    async fn tail_some(
        &self,
        at: &mut Option<i64>,
        tell: &(dyn Fn(Elsewhere) + Send + Sync),
    ) -> Result<bool, EngineError> {
        const NEXT: &str = "SELECT entry, tenant, origin, moves FROM feed WHERE entry > $1 ORDER BY entry LIMIT $2";
        let Some(after) = *at else {
            *at = Some(self.end_of_all().await?);
            return Ok(true);
        };
        let rows = self.connections.rows(NEXT, &[&after, &ENTRIES_MAX]).await?;
        for row in &rows {
            // What cannot be read of an entry is told by the next look of whoever waits.
            if let Err(damage) = self.tell(row, tell) {
                tracing::error!(%damage, "an entry of the feed cannot be read");
            }
            *at = Some(column(row, 0)?);
        }
        Ok(rows.len() as i64 >= ENTRIES_MAX)
    }

    fn tell(&self, row: &Row, tell: &(dyn Fn(Elsewhere) + Send + Sync)) -> Result<(), EngineError> {
        // What this process has committed it has told already, but for what it was in doubt about.
        if column::<Uuid>(row, 2)? == self.origin && !self.is_in_doubt() {
            return Ok(());
        }
        let tenant = Tenant(column::<i32>(row, 1)?.cast_unsigned());
        for body in column::<Vec<&[u8]>>(row, 3)? {
            tell(record::open::<Move<'_>>(Table::Feed, 0, body)?.elsewhere(tenant)?);
        }
        Ok(())
    }

    /// The last entry there is.
    async fn end_of_all(&self) -> Result<i64, EngineError> {
        let row = self.connections.row("SELECT coalesce(max(entry), 0) FROM feed", &[]).await?;
        row.map_or(Ok(0), |row| column(&row, 0))
    }
}

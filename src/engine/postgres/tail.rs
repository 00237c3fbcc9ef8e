//! The tail of the feed: what other processes have committed, told to those who wait here.
//!
//! Promises: every entry is looked at once, in the order of the commits; one that nobody notified us of is told with the next
//! look, which is never far.

use tokio::{
    select,
    time::{Duration, Instant, sleep},
};
use tokio_postgres::Row;

use super::{
    Postgres,
    connect::{Connections, column},
};
use crate::{
    engine::{
        Elsewhere, EngineError,
        record::{self, Move, Table},
    },
    job::Tenant,
};

/// What could not be read is looked for again so soon at the latest.
const AGAIN: Duration = Duration::from_millis(250);
/// Entries looked at with one statement.
const ENTRIES_MAX: i64 = 500;

impl Postgres {
    /// Tells of what others commit, for as long as it is polled.
    pub(super) async fn tail(&self, tell: &(dyn Fn(Elsewhere) + Send + Sync)) {
        let mut at = self.tail_from;
        loop {
            let begun = Instant::now();
            let told = self.tail_some(&mut at, tell).await;
            self.standing.tailed(told.as_ref().err(), begun);
            let pause = Duration::from_millis(self.settings.poll_milliseconds.into());
            let pause = match told {
                Ok(true) => continue,
                Ok(false) => pause,
                Err(_) => pause.min(AGAIN),
            };
            select! {
                () = self.hearing.heard() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Tells of the next entries; whether there may be more.
    async fn tail_some(&self, at: &mut i64, tell: &(dyn Fn(Elsewhere) + Send + Sync)) -> Result<bool, EngineError> {
        // What this process has committed it has told already.
        const NEXT: &str =
            "SELECT entry, tenant, CASE WHEN origin = $3 THEN '{}' ELSE moves END FROM feed WHERE entry >= $1
             ORDER BY entry LIMIT $2";
        let origin = self.origin();
        let rows = self.connections.rows(NEXT, &[&*at, &ENTRIES_MAX, &origin]).await?;
        let mut next = rows.iter().peekable();
        // Where this stands is an entry for as long as nothing after it is forgotten.
        if next.next_if(|row| column::<i64>(row, 0).is_ok_and(|entry| entry == *at)).is_none() {
            *at = end(&self.connections).await?;
            tracing::warn!("what others have changed was not read for too long; all who wait look for themselves");
            tell(Elsewhere::Anything);
            return Ok(true);
        }
        for row in next {
            // What cannot be read of an entry may be anything.
            if let Err(damage) = told(row, tell) {
                tracing::error!(%damage, "an entry of the feed cannot be read");
                tell(Elsewhere::Anything);
            }
            *at = column(row, 0)?;
        }
        Ok(rows.len() as i64 >= ENTRIES_MAX)
    }
}

fn told(row: &Row, tell: &(dyn Fn(Elsewhere) + Send + Sync)) -> Result<(), EngineError> {
    let tenant = Tenant(column::<i32>(row, 1)?.cast_unsigned());
    for body in column::<Vec<&[u8]>>(row, 2)? {
        tell(record::open::<Move<'_>>(Table::Feed, 0, body)?.elsewhere(tenant)?);
    }
    Ok(())
}

/// The last entry there is.
pub(super) async fn end(connections: &Connections) -> Result<i64, EngineError> {
    let row = connections.row("SELECT max(entry) FROM feed", &[]).await?;
    row.map_or(Ok(0), |row| column(&row, 0))
}

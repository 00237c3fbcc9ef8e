//! How the database stands: its clock, whether it takes writes, and whether what it reports as committed is durable.
//!
//! Promises: looks at it each second; what it finds is told in readiness, metrics and, when it changes, the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant, sleep};
use tokio_postgres::Row;

use super::{Postgres, connect::column};
use crate::{
    engine::{Caution, EngineError},
    job::Timestamp,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Why it takes no writes.
    fault: Option<EngineError>,
    cautions: Vec<Caution>,
}

impl Standing {
    /// Takes note of what a commit or a look has come to.
    pub(super) fn found(&self, fault: Option<EngineError>) {
        let mut known = self.lock();
        match (&known.fault, &fault) {
            (None, Some(error)) => tracing::error!(%error, "the store cannot be used"),
            (Some(_), None) => tracing::info!("the store can be used again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        known.fault = fault;
    }

    fn warn(&self, cautions: Vec<Caution>) {
        let mut known = self.lock();
        for caution in cautions.iter().filter(|caution| !known.cautions.contains(caution)) {
            tracing::warn!(caution = caution.as_str(), "{}", caution.meaning());
        }
        for caution in known.cautions.iter().filter(|caution| !cautions.contains(caution)) {
            tracing::info!(caution = caution.as_str(), "no longer so");
        }
        known.cautions = cautions;
    }

    pub(super) fn health(&self) -> Result<(), EngineError> {
        self.lock().fault.clone().map_or(Ok(()), Err)
    }

    pub(super) fn cautions(&self) -> Vec<Caution> {
        self.lock().cautions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Postgres {
    /// Looks now and then, for as long as it is polled.
    pub(super) async fn watch_over(&self) {
        loop {
            sleep(LOOK).await;
            let fault = self.look().await.err();
            self.standing.found(fault);
        }
    }

    /// Looks once, and sets the clock.
    pub(super) async fn look(&self) -> Result<(), EngineError> {
        const HOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8,
             pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
             current_setting('fsync')::bool, current_setting('full_page_writes')::bool,
             current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
             EXISTS (SELECT FROM pg_stat_replication)";
        let asked = Instant::now();
        let row = self.connections.row(HOW, &[]).await?;
        let row = row.ok_or_else(|| EngineError::Unavailable("PostgreSQL does not say how it stands".into()))?;
        let way = u64::try_from(asked.elapsed().as_millis() / 2).unwrap_or_default();
        self.clock.follow(Timestamp(column::<i64>(&row, 0)?.cast_unsigned() + way));
        let mut cautions = cautions(&row)?;
        if !self.hearing.hears() {
            cautions.push(Caution::Polling);
        }
        self.standing.warn(cautions);
        if column(&row, 1)? {
            return Err(EngineError::ReadOnly("PostgreSQL is a standby or set to be read only".into()));
        }
        Ok(())
    }
}

fn cautions(row: &Row) -> Result<Vec<Caution>, EngineError> {
    let mut cautions = Vec::new();
    if !column::<bool>(row, 2)? {
        cautions.push(Caution::FsyncOff);
    }
    if !column::<bool>(row, 3)? {
        cautions.push(Caution::FullPageWritesOff);
    }
    let (has_synchronous, has_standby): (bool, bool) = (column(row, 5)?, column(row, 6)?);
    match column::<&str>(row, 4)? {
        "off" => cautions.push(Caution::CommitAsynchronous),
        // Of the primary alone it is durable.
        "local" | "remote_write" if has_synchronous => cautions.push(Caution::StandbyAsynchronous),
        _ if has_standby && !has_synchronous => cautions.push(Caution::StandbyAsynchronous),
        _ => {}
    }
    Ok(cautions)
}

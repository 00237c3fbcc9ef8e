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
/// What an answer took longer than tells the time too badly.
const PROMPT: Duration = Duration::from_millis(200);
/// Its clock was set, or is another machine's, if it is so far ahead of where it would be by now.
const LEAP: Duration = Duration::from_secs(1);
/// Workers have not been able to renew their leases if the database was away for longer.
const OUTAGE: Duration = Duration::from_secs(1);
/// Others have served the jobs meanwhile if something was committed so lately.
const LATELY_MS: u64 = 5000;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Why it takes no writes, and since when.
    fault: Option<(EngineError, Instant)>,
    cautions: Vec<Caution>,
    /// Whether the clock has been set.
    has_time: bool,
    /// Since when workers have been able to reach their jobs; `None`: for long.
    since: Option<Timestamp>,
}

impl Standing {
    /// Takes note of what a commit or a look has come to.
    pub(super) fn found(&self, fault: Option<EngineError>, now: Timestamp) {
        let mut known = self.lock();
        let since = known.fault.as_ref().map(|(_, since)| *since);
        match (since, &fault) {
            (None, Some(error)) => tracing::error!(%error, "the store cannot be used"),
            (Some(since), None) => {
                tracing::info!("the store can be used again");
                if since.elapsed() > OUTAGE {
                    known.since = Some(now);
                }
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        known.fault = fault.map(|error| (error, since.unwrap_or_else(Instant::now)));
    }

    /// Since when workers have been able to reach their jobs.
    pub(super) fn since(&self, now: Timestamp) -> Timestamp {
        let known = self.lock();
        // Whoever is the first to reach them again must know it already.
        let is_away = known.fault.as_ref().is_some_and(|(_, since)| since.elapsed() > OUTAGE);
        if is_away { now } else { known.since.unwrap_or(Timestamp(0)) }
    }

    fn has_time(&self) -> bool {
        self.lock().has_time
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
        self.lock().fault.as_ref().map_or(Ok(()), |(error, _)| Err(error.clone()))
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
            self.standing.found(fault, self.clock.now());
        }
    }

    /// Takes it that workers can reach their jobs from now on, unless another process has served them until now.
    pub(super) async fn begin(&self) -> Result<(), EngineError> {
        let row = self.connections.row("SELECT max(made_at) FROM batches", &[]).await?;
        let last = row.map(|row| column::<Option<i64>>(&row, 0)).transpose()?.flatten().unwrap_or_default();
        let now = self.clock.now();
        let is_served = last.cast_unsigned() + LATELY_MS > now.0;
        self.standing.lock().since = (!is_served).then_some(now);
        Ok(())
    }

    /// Looks once, and sets the clock.
    pub(super) async fn look(&self) -> Result<(), EngineError> {
        const HOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8,
             pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
             current_setting('fsync')::bool, current_setting('full_page_writes')::bool,
             current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
             EXISTS (SELECT FROM pg_stat_replication)";
        let (row, took) = self.connections.timed(HOW).await?;
        let row = row.ok_or_else(|| EngineError::Unavailable("PostgreSQL does not say how it stands".into()))?;
        let way = u64::try_from(took.as_millis() / 2).unwrap_or_default();
        if took < PROMPT || !self.standing.has_time() {
            self.follow(Timestamp(column::<i64>(&row, 0)?.cast_unsigned() + way));
        }
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

impl Postgres {
    /// Sets the clock. Leases that were given by a clock which was behind begin anew: nobody could renew them in the time that
    /// is left out.
    fn follow(&self, there: Timestamp) {
        let before = self.clock.now();
        self.clock.follow(there);
        let now = self.clock.now();
        let leap = Duration::from_millis(now.0.saturating_sub(before.0));
        let mut known = self.standing.lock();
        if known.has_time && leap > LEAP {
            tracing::warn!(?leap, "the clock of the database is ahead of what it was; leases begin anew");
            known.since = Some(now);
        }
        known.has_time = true;
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

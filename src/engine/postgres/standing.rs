//! How the database stands: its clock, whether it takes writes, and whether what it reports as committed is durable.
//!
//! Promises: looks at it each second; what it finds is told in readiness, metrics and, when it changes, the log, and so is that the
//! tail of the feed cannot be read. What is missed meanwhile is for `engine::outages` to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant, sleep};
use tokio_postgres::Row;

use super::{Postgres, connect::column, schema};
use crate::{
    engine::{Caution, EngineError, outages::Outages},
    job::Timestamp,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// What an answer took longer than tells the time too badly.
const PROMPT: Duration = Duration::from_millis(200);
/// Its clock was set, or is another machine's, if it is so far ahead of where it would be by now.
const LEAP: Duration = Duration::from_secs(1);
/// What others commit has been looked for again and again if it could not be read for so long.
const UNREAD: Duration = Duration::from_secs(2);
/// Others have served the jobs meanwhile if something was committed so lately.
const LATELY_MS: u64 = 5000;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Standing {
    /// When it took no writes.
    pub(super) outages: Outages,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    cautions: Vec<Caution>,
    /// Whether the clock has been set.
    has_time: bool,
    /// Why this program is none for the store, if so.
    unfitness: Option<EngineError>,
    /// Since when and why what others commit cannot be read, if so.
    unread: Option<(Instant, String)>,
}

impl Standing {
    /// Nothing yet; workers have long been able to reach their jobs.
    pub(super) fn new() -> Self {
        Self { outages: Outages::new(Timestamp(0)), known: Mutex::default() }
    }

    /// Whether what this program writes is what the store has by now, as of the last look.
    ///
    /// # Errors
    /// [`EngineError::Format`] when it is not.
    pub(super) fn check_fitness(&self) -> Result<(), EngineError> {
        self.lock().unfitness.clone().map_or(Ok(()), Err)
    }

    /// Takes note of what an attempt to read what others commit has come to that was begun then.
    pub(super) fn tailed(&self, fault: Option<&EngineError>, begun: Instant) {
        let unread = &mut self.lock().unread;
        let why = fault.map(ToString::to_string);
        match (&unread, &why) {
            (Some((_, known)), Some(why)) if known == why => {}
            (_, Some(error)) => tracing::warn!(error, "what others have changed could not be read; it is tried again"),
            (Some(_), None) => tracing::info!("what others have changed is read again"),
            (None, None) => {}
        }
        let since = unread.as_ref().map_or(begun, |(since, _)| *since);
        *unread = why.map(|why| (since, why));
    }

    fn is_unread(&self) -> bool {
        self.lock().unread.as_ref().is_some_and(|(since, _)| since.elapsed() > UNREAD)
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

    pub(super) fn cautions(&self) -> Vec<Caution> {
        self.lock().cautions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Postgres {
    /// Looks now and then, for as long as it is polled.
    pub(super) async fn watch_over(&self) {
        loop {
            sleep(LOOK).await;
            let begun = Instant::now();
            let fault = self.look().await.err();
            self.standing.outages.looked(fault.as_ref(), begun, self.clock.now());
        }
    }

    /// Takes it that workers can reach their jobs from now on, unless another process has served them until now.
    pub(super) async fn begin(&self) -> Result<(), EngineError> {
        let row = self.connections.row("SELECT max(made_at) FROM batches", &[]).await?;
        let last = row.map(|row| column::<Option<i64>>(&row, 0)).transpose()?.flatten().unwrap_or_default();
        let now = self.clock.now();
        let is_served = last.cast_unsigned() + LATELY_MS > now.0;
        if !is_served {
            self.standing.outages.begin_anew(now);
        }
        Ok(())
    }

    /// Looks once, and sets the clock.
    pub(super) async fn look(&self) -> Result<(), EngineError> {
        const HOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8,
             pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
             current_setting('fsync')::bool, current_setting('full_page_writes')::bool,
             current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
             EXISTS (SELECT FROM pg_stat_replication), (SELECT format FROM store), (SELECT oldest FROM store)";
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
        if self.standing.is_unread() {
            cautions.push(Caution::FeedUnreadable);
        }
        self.standing.warn(cautions);
        // A newer program may have come meanwhile, or an older store in its place.
        let fitness = schema::check_fitness(column(&row, 7)?, column(&row, 8)?);
        self.standing.lock().unfitness = fitness.as_ref().err().cloned();
        fitness?;
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
            self.standing.outages.begin_anew(now);
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

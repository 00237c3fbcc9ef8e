//! What is counted of each kind: in memory for whoever asks, and in a row each, which a commit writes that makes or ends jobs.
//!
//! Promises: nobody sees a count that is not durable; a commit that makes and ends none writes nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use super::{
    error::fault,
    read::statement,
    record::{self, Table},
};
use crate::{
    engine::{EngineError, Tally},
    job::{Job, Kind, Seconds, Tenant},
};

/// The counts of each kind, for the writer and those who ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies(Arc<Mutex<HashMap<(Tenant, Kind), Tally>>>);

impl Tallies {
    fn load(connection: &Connection) -> Result<Self, EngineError> {
        let tallies = Self::default();
        let text = "SELECT kind, tenant, name, body FROM tallies JOIN kinds USING (kind)";
        let mut select = statement(connection, text)?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (kind, tenant, name, body): (i64, u32, String, Vec<u8>) = row.try_into().map_err(fault)?;
            let tally = record::open::<Tally>(Table::Tallies, kind.cast_unsigned(), &body);
            match (Kind::try_from(&*name), tally) {
                (Ok(name), Ok(tally)) => {
                    tallies.lock().insert((Tenant(tenant), name), tally);
                }
                // Nothing depends on it: it begins anew.
                (_, tally) => {
                    tracing::error!(kind = name, damage = ?tally.err(), "what was counted of a kind is damaged")
                }
            }
        }
        Ok(tallies)
    }

    /// The counts of a tenant's kinds.
    pub(super) fn of(&self, tenant: Tenant) -> Vec<(Kind, Tally)> {
        let tallies = self.lock();
        let own = tallies.iter().filter(|((owner, _), _)| *owner == tenant);
        own.map(|((_, kind), tally)| (kind.clone(), tally.clone())).collect()
    }

    /// How long jobs of a kind usually take, in seconds, rounded up.
    pub(super) fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        let median = self.lock().get(&(tenant, kind.clone()))?.durations.quantile(0.5)?;
        Some(Seconds(u32::try_from(median.div_ceil(1000)).unwrap_or(u32::MAX).max(1)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Tenant, Kind), Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end.
pub(super) struct Counter {
    tallies: Tallies,
    /// What the transaction under way makes of the counts, by the number of their kind.
    fresh: HashMap<i64, ((Tenant, Kind), Tally)>,
    buffer: Vec<u8>,
}

impl Counter {
    pub(super) fn load(connection: &Connection) -> Result<Self, EngineError> {
        Ok(Self { tallies: Tallies::load(connection)?, fresh: HashMap::new(), buffer: Vec::new() })
    }

    pub(super) fn tallies(&self) -> Tallies {
        self.tallies.clone()
    }

    pub(super) fn made(&mut self, kind: i64, job: &Job) {
        let tally = self.tally(kind, job);
        tally.made(job.spec.created_at);
        tally.ended(job);
    }

    pub(super) fn changed(&mut self, kind: i64, before: &Job, job: &Job) {
        if job.is_done() && (!before.is_done() || before.attempt != job.attempt) {
            self.tally(kind, job).ended(job);
        }
    }

    fn tally(&mut self, kind: i64, job: &Job) -> &mut Tally {
        let Self { tallies, fresh, .. } = self;
        let known = || {
            let key = (job.key().tenant, job.spec.kind.clone());
            let tally = tallies.lock().get(&key).cloned().unwrap_or_default();
            (key, tally)
        };
        &mut fresh.entry(kind).or_insert_with(known).1
    }

    /// Writes the counts that a transaction has changed.
    pub(super) fn finish(&mut self, connection: &Connection) -> Result<(), EngineError> {
        for (kind, (_, tally)) in &self.fresh {
            record::seal(Table::Tallies, kind.cast_unsigned(), tally, &mut self.buffer)?;
            let mut put = statement(connection, "INSERT OR REPLACE INTO tallies VALUES (?1, ?2)")?;
            put.execute((kind, &self.buffer)).map_err(fault)?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        if !self.fresh.is_empty() {
            self.tallies.lock().extend(self.fresh.drain().map(|(_, counted)| counted));
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.fresh.clear();
    }
}

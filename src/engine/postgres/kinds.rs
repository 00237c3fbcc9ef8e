//! The numbers of kinds: made once, and never taken back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::connect::{Connections, column};
use crate::{
    engine::{EngineError, Put, Write},
    job::{Kind, Tenant},
};

/// Those that this process has met.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<HashMap<(Tenant, Kind), i64>>);

impl Kinds {
    /// The kind of each write's job, which is made when it is new; `None` when there may be no more.
    pub(super) async fn of(
        &self,
        connections: &Connections,
        writes: &[Write],
        kinds_max: usize,
    ) -> Result<Vec<Option<i64>>, EngineError> {
        let names: Vec<_> = writes.iter().map(name).collect();
        let unknown: BTreeSet<_> = {
            let known = self.lock();
            names.iter().flatten().filter(|name| !known.contains_key(*name)).cloned().collect()
        };
        for (tenant, kind) in unknown {
            if let Some(number) = make(connections, tenant, &kind, kinds_max).await? {
                self.lock().insert((tenant, kind), number);
            }
        }
        let known = self.lock();
        // What has no job to be of a kind is refused anyway.
        Ok(names.iter().map(|name| name.as_ref().map_or(Some(0), |name| known.get(name).copied())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Tenant, Kind), i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of the job that a write is about, if that is known.
pub(super) fn name(write: &Write) -> Option<(Tenant, Kind)> {
    let kind = match (&write.put, &write.before) {
        (Put::New { job, .. } | Put::Changed(job), _) => &job.spec.kind,
        (Put::Deleted { .. }, Some(before)) => &before.job.spec.kind,
        (Put::Deleted { .. }, None) => return None,
    };
    Some((write.key.tenant, kind.clone()))
}

/// The number of a kind, which is made when there is none and room for one.
async fn make(
    connections: &Connections,
    tenant: Tenant,
    kind: &Kind,
    kinds_max: usize,
) -> Result<Option<i64>, EngineError> {
    const KNOWN: &str = "SELECT kind FROM kinds WHERE tenant = $1 AND name = $2";
    // Two processes may each find room for the last one.
    const MAKE: &str = "INSERT INTO kinds(tenant, name) SELECT $1, $2
         WHERE (SELECT count(*) FROM kinds WHERE tenant = $1) < $3 ON CONFLICT (tenant, name) DO NOTHING";
    let (owner, name) = (tenant.0.cast_signed(), kind.as_str());
    let kinds_max = i64::try_from(kinds_max).unwrap_or(i64::MAX);
    let known = async || {
        let row = connections.row(KNOWN, &[&owner, &name]).await?;
        row.map(|row| column(&row, 0)).transpose()
    };
    if let Some(number) = known().await? {
        return Ok(Some(number));
    }
    connections.rows(MAKE, &[&owner, &name, &kinds_max]).await?;
    known().await
}

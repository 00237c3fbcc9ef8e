//! What is counted of each kind: a row for each, and what commits have added since it was written.
//!
//! Promises: a commit adds a row and rewrites none, so that no two wait for each other; what was added is folded in some time
//! later. What is read is of one moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use deadpool_postgres::Transaction;
use tokio::time::{Duration, sleep};
use tokio_postgres::Row;

use super::{
    Postgres,
    connect::{Connections, column},
    error::fault,
};
use crate::{
    engine::{
        Count, EngineError, Tally, Usual,
        record::{self, Counted, Delta, Table},
    },
    job::{Kind, Seconds, Status, Tenant},
};

/// Between two looks at what others have counted.
const LEARN: Duration = Duration::from_secs(5);
/// Rows that are folded in at once.
const FOLD_ROWS: i64 = 1000;

/// What this process knows, for those who may not wait: as it was read last, with what its own commits have added.
#[derive(Debug, Default)]
pub(super) struct Counts {
    known: Mutex<HashMap<i64, Counted>>,
    usual: Usual,
}

/// The counts of a kind.
pub(super) struct OfKind {
    number: i64,
    tenant: Tenant,
    kind: Kind,
    counted: Counted,
}

impl Counts {
    /// How long an attempt that completes a job of this kind usually takes.
    pub(super) fn usual_seconds(&self, tenant: Tenant, kind: &Kind) -> Option<Seconds> {
        self.usual.seconds(tenant, kind)
    }

    /// Takes what a commit of this process has added.
    pub(super) fn add<'a>(&self, deltas: impl Iterator<Item = (&'a (Tenant, Kind), &'a Delta)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, delta) in deltas {
            let counted = known.entry(delta.kind).or_default();
            counted.add(delta);
            if delta.has_ends() {
                self.usual.learn(name.clone(), &counted.tally);
            }
        }
    }

    /// Takes what all processes have added.
    pub(super) fn take(&self, all: Vec<OfKind>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for OfKind { number, tenant, kind, counted } in all {
            self.usual.learn((tenant, kind), &counted.tally);
            known.insert(number, counted);
        }
    }
}

/// The counts of all kinds.
pub(super) async fn read(connections: &Connections) -> Result<Vec<OfKind>, EngineError> {
    const ALL: &str = "SELECT 0::int8 AS nth, k.kind, k.tenant, k.name, t.body, NULL::bytea[]
             FROM kinds AS k LEFT JOIN tallies AS t ON t.kind = k.kind
         UNION ALL SELECT delta, NULL, NULL, NULL, NULL, bodies FROM deltas ORDER BY nth";
    let mut all = BTreeMap::new();
    for row in connections.rows(ALL, &[]).await? {
        match column::<Option<Vec<&[u8]>>>(&row, 5)? {
            None => {
                let of = of_kind(&row)?;
                all.insert(of.number, of);
            }
            Some(bodies) => {
                for delta in bodies.into_iter().filter_map(delta) {
                    if let Some(of) = all.get_mut(&delta.kind) {
                        of.counted.add(&delta);
                    }
                }
            }
        }
    }
    Ok(all.into_values().collect())
}

fn of_kind(row: &Row) -> Result<OfKind, EngineError> {
    let number: i64 = column(row, 1)?;
    let name: &str = column(row, 3)?;
    let kind = Kind::try_from(name).map_err(|_| EngineError::Corrupt(format!("kinds {number}: name")))?;
    let tenant = Tenant(column::<i32>(row, 2)?.cast_unsigned());
    Ok(OfKind { number, tenant, kind, counted: opened(number, column(row, 4)?)? })
}

fn opened(number: i64, body: Option<&[u8]>) -> Result<Counted, EngineError> {
    body.map_or_else(|| Ok(Counted::default()), |body| record::open(Table::Tallies, number.cast_unsigned(), body))
}

/// What a commit has added; of what cannot be read nothing, since nothing else depends on it.
fn delta(body: &[u8]) -> Option<Delta> {
    let opened = record::open(Table::Tallies, 0, body);
    opened.inspect_err(|damage| tracing::error!(%damage, "what a commit has added to the counts is lost")).ok()
}

/// Folds some of what was added into the rows of the kinds; whether there may be more.
pub(super) async fn fold(transaction: &Transaction<'_>) -> Result<bool, EngineError> {
    const TAKE: &str = "DELETE FROM deltas WHERE delta IN (SELECT delta FROM deltas ORDER BY delta LIMIT $1)
         RETURNING delta, bodies";
    const KNOWN: &str = "SELECT kind, body FROM tallies WHERE kind = ANY ($1)";
    const PUT: &str = "INSERT INTO tallies SELECT * FROM unnest($1::int8[], $2::bytea[])
         ON CONFLICT (kind) DO UPDATE SET body = excluded.body";
    let mut rows = transaction.query(TAKE, &[&FOLD_ROWS]).await.map_err(|error| fault(&error))?;
    if rows.is_empty() {
        return Ok(false);
    }
    rows.sort_by_key(|row| row.get::<_, i64>(0));
    let mut deltas = Vec::new();
    for row in &rows {
        deltas.extend(column::<Vec<&[u8]>>(row, 1)?.into_iter().filter_map(delta));
    }
    let mut counted: BTreeMap<_, _> = deltas.iter().map(|delta| (delta.kind, Counted::default())).collect();
    let kinds: Vec<_> = counted.keys().copied().collect();
    for row in transaction.query(KNOWN, &[&kinds]).await.map_err(|error| fault(&error))? {
        let kind = column(&row, 0)?;
        counted.insert(kind, opened(kind, column(&row, 1)?)?);
    }
    for delta in &deltas {
        counted.entry(delta.kind).or_default().add(delta);
    }
    let mut bodies = Vec::with_capacity(counted.len());
    for (kind, counted) in &counted {
        let mut body = Vec::new();
        record::seal(Table::Tallies, kind.cast_unsigned(), counted, &mut body)?;
        bodies.push(body);
    }
    transaction.execute(PUT, &[&kinds, &bodies]).await.map_err(|error| fault(&error))?;
    Ok(rows.len() as i64 >= FOLD_ROWS)
}

impl Postgres {
    /// Learns what others count, for as long as it is polled.
    pub(super) async fn learn(&self) {
        loop {
            sleep(LEARN).await;
            match read(&self.connections).await {
                Ok(all) => self.counts.take(all),
                Err(error) => tracing::debug!(%error, "what others have counted is not known"),
            }
        }
    }

    pub(super) async fn read_counts(&self) -> Result<Vec<Count>, EngineError> {
        Ok(read(&self.connections).await?.iter().flat_map(counts).collect())
    }

    pub(super) async fn read_figures(&self, tenant: Tenant) -> Result<(Vec<Count>, Vec<(Kind, Tally)>), EngineError> {
        let mut own = read(&self.connections).await?;
        own.retain(|of| of.tenant == tenant);
        let jobs = own.iter().flat_map(counts).collect();
        Ok((jobs, own.into_iter().map(|of| (of.kind, of.counted.tally)).collect()))
    }
}

fn counts(of: &OfKind) -> impl Iterator<Item = Count> {
    Status::ALL.into_iter().zip(of.counted.jobs).filter(|(_, jobs)| *jobs > 0).map(|(status, jobs)| Count {
        tenant: of.tenant,
        kind: of.kind.clone(),
        status,
        jobs: jobs.cast_unsigned(),
    })
}

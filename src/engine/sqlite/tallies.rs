//! What is counted of each kind: with the writer, and in a row each, which a commit writes that makes or ends jobs.
//!
//! Promises: nobody sees a count that is not durable; a commit that makes and ends none writes nothing.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{
    error::fault,
    read::{self, statement},
    view::View,
};
use crate::{
    engine::{
        EngineError, Put, Tally, Usual, Write,
        record::{self, Table},
    },
    job::{Kind, Status, Tenant, Timestamp},
};

/// The writing end.
pub(super) struct Counter {
    tallies: HashMap<i64, Tally>,
    /// What the transaction under way makes of some of them.
    fresh: HashMap<i64, ((Tenant, Kind), Tally)>,
    usual: Usual,
    buffer: Vec<u8>,
}

impl Counter {
    pub(super) fn load(connection: &Connection) -> Result<Self, EngineError> {
        let (mut tallies, usual) = (HashMap::new(), Usual::default());
        let mut select = statement(connection, "SELECT kind, tenant, name, body FROM tallies JOIN kinds USING (kind)")?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (kind, tenant, name, body): (i64, u32, String, Vec<u8>) = row.try_into().map_err(fault)?;
            match open(kind, &name, &body) {
                Ok((name, tally)) => {
                    usual.learn((Tenant(tenant), name), &tally);
                    tallies.insert(kind, tally);
                }
                // Nothing depends on it: it begins anew with the next job.
                Err(damage) => tracing::error!(kind = name, %damage, "what was counted of a kind is lost"),
            }
        }
        Ok(Self { tallies, fresh: HashMap::new(), usual, buffer: Vec::new() })
    }

    pub(super) fn usual(&self) -> Usual {
        self.usual.clone()
    }

    /// Counts what a write has made and ended, which is to be something.
    pub(super) fn count(&mut self, kind: i64, name: &Kind, write: &Write, now: Timestamp) {
        let made = match &write.put {
            Put::New { job, .. } => Some(job.spec.created_at),
            Put::Changed(_) | Put::Deleted { .. } => None,
        };
        let Self { tallies, fresh, .. } = self;
        let known = || ((write.key.tenant, name.clone()), tallies.get(&kind).cloned().unwrap_or_default());
        let (_, tally) = fresh.entry(kind).or_insert_with(known);
        if let Some(at) = made {
            tally.made(at, now);
        }
        write.history.ends.iter().for_each(|end| tally.ended(end, now));
    }

    /// Writes the counts that a transaction has changed.
    pub(super) fn finish(&mut self, connection: &Connection) -> Result<(), EngineError> {
        for (kind, (_, tally)) in &self.fresh {
            put(connection, *kind, tally, &mut self.buffer)?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        for (kind, (key, tally)) in self.fresh.drain() {
            self.usual.learn(key, &tally);
            self.tallies.insert(kind, tally);
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.fresh.clear();
    }
}

/// The counts of a tenant's kinds.
pub(super) fn read(connection: &Connection, tenant: Tenant) -> Result<Vec<(Kind, Tally)>, EngineError> {
    let text = "SELECT kind, name, body FROM tallies JOIN kinds USING (kind) WHERE tenant = ?1";
    let mut select = statement(connection, text)?;
    let mut rows = select.query([tenant.0]).map_err(fault)?;
    let mut tallies = Vec::new();
    while let Some(row) = rows.next().map_err(fault)? {
        let (kind, name, body): (i64, String, Vec<u8>) = row.try_into().map_err(fault)?;
        tallies.push(open(kind, &name, &body)?);
    }
    Ok(tallies)
}

/// Counts the last completed jobs of a store that had no such counts.
pub(super) fn fill(connection: &Connection) -> Result<(), EngineError> {
    const JOBS: &str = "SELECT job FROM lists WHERE kind = ?1 AND status = ?2 ORDER BY job DESC LIMIT 1000";
    let mut kinds = statement(connection, "SELECT kind FROM kinds")?;
    let mut jobs = statement(connection, JOBS)?;
    let kinds =
        kinds.query_map([], |row| row.get(0)).map_err(fault)?.collect::<Result<Vec<i64>, _>>().map_err(fault)?;
    let (mut buffer, view) = (Vec::new(), View::of_tables(connection));
    for kind in kinds {
        let columns = (kind, Status::Completed as i64);
        let numbers = jobs.query_map(columns, |row| row.get(0)).map_err(fault)?;
        let mut numbers = numbers.collect::<Result<Vec<i64>, _>>().map_err(fault)?;
        numbers.reverse();
        let mut tally = Tally::default();
        for number in numbers {
            let stored = read::sound_job(&view, number.cast_unsigned(), false)?;
            let end = stored.and_then(|stored| stored.job.last_end());
            end.iter().for_each(|end| tally.ended(end, end.at));
        }
        put(connection, kind, &tally, &mut buffer)?;
    }
    Ok(())
}

/// Looks whether what is counted of a kind can be read.
pub(super) fn check(kind: i64, body: &[u8]) -> Result<(), EngineError> {
    record::open::<Tally>(Table::Tallies, kind.cast_unsigned(), body).map(drop)
}

fn put(connection: &Connection, kind: i64, tally: &Tally, buffer: &mut Vec<u8>) -> Result<(), EngineError> {
    record::seal(Table::Tallies, kind.cast_unsigned(), tally, buffer)?;
    let mut put = statement(connection, "INSERT OR REPLACE INTO tallies VALUES (?1, ?2)")?;
    put.execute((kind, &*buffer)).map(drop).map_err(fault)
}

fn open(kind: i64, name: &str, body: &[u8]) -> Result<(Kind, Tally), EngineError> {
    let number = kind.cast_unsigned();
    let tally = record::open(Table::Tallies, number, body)?;
    let name = Kind::try_from(name).map_err(|_| record::damaged(Table::Tallies, number, "kind"))?;
    Ok((name, tally))
}

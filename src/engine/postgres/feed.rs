//! The feed, as its readers want it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Postgres, connect::column};
use crate::{
    engine::{
        EngineError, Fed, FeedPage, FeedPlace, FeedQuery, Gone,
        record::{self, Change, Gathered, How, Table, sql, what_is_gone},
    },
    job::Tenant,
};

impl Postgres {
    pub(super) async fn read_feed_end(&self, tenant: Tenant) -> Result<FeedPlace, EngineError> {
        const END: &str =
            "SELECT entry FROM feed WHERE tenant = $1 AND cardinality(changes) > 0 ORDER BY entry DESC LIMIT 1";
        let row = self.connections.row(END, &[&tenant.0.cast_signed()]).await?;
        let entry = row.map(|row| column::<i64>(&row, 0)).transpose()?;
        Ok(FeedPlace(entry.unwrap_or_default().cast_unsigned()))
    }

    pub(super) async fn read_feed(&self, query: &FeedQuery) -> Result<Option<FeedPage>, EngineError> {
        // The first row says whether the place is one: an entry that is kept, or none as long as none was forgotten that
        // it would need.
        const PAGE: &str = "
            SELECT NULL::int8, ARRAY[]::bytea[] WHERE EXISTS (SELECT FROM feed WHERE entry = $2 AND tenant = $1)
                OR ($2 = 0 AND (EXISTS (SELECT FROM feed WHERE entry = 1)
                    OR NOT EXISTS (SELECT FROM feed WHERE tenant = $1 AND cardinality(changes) > 0)))
            UNION ALL (SELECT entry, changes FROM feed WHERE tenant = $1 AND entry > $2 AND cardinality(changes) > 0
                ORDER BY entry LIMIT $3)";
        let Ok(after) = i64::try_from(query.after.0) else { return Ok(None) };
        let entries_max = i64::try_from(query.entries_max).unwrap_or(i64::MAX);
        let rows = self.connections.rows(PAGE, &[&query.tenant.0.cast_signed(), &after, &entries_max]).await?;
        let mut entries = BTreeMap::new();
        let mut is_place = false;
        for row in &rows {
            match column::<Option<i64>>(row, 0)? {
                None => is_place = true,
                Some(entry) => drop(entries.insert(entry.cast_unsigned(), column::<Vec<&[u8]>>(row, 1)?)),
            }
        }
        if !is_place {
            return Ok(None);
        }
        let mut gathered = Gathered::default();
        let mut to = query.after;
        for (entry, changes) in entries {
            let changes = opened(entry, &changes)?;
            if to != query.after && gathered.count_with(&changes) > query.jobs_max {
                break;
            }
            changes.into_iter().try_for_each(|change| gathered.add(change, entry))?;
            to = FeedPlace(entry);
        }
        Ok(Some(FeedPage { moved: gathered.finish(), to }))
    }

    pub(super) async fn read_fed(&self, numbers: &[u64]) -> Result<Option<Vec<Fed>>, EngineError> {
        let mut jobs = self.read_numbered(numbers).await?;
        let missing: HashSet<_> = numbers.iter().copied().filter(|number| !jobs.contains_key(number)).collect();
        let mut gone = if missing.is_empty() { HashMap::new() } else { self.read_gone(&missing).await? };
        let fed = |number: &u64| match jobs.remove(number) {
            Some(stored) => Some(Fed::Job(stored.job)),
            None => gone.remove(number).map(Fed::Gone),
        };
        Ok(numbers.iter().map(fed).collect())
    }

    /// What is left of these jobs in the feed.
    async fn read_gone(&self, missing: &HashSet<u64>) -> Result<HashMap<u64, Gone>, EngineError> {
        const GONE: &str = "SELECT f.entry, f.changes FROM (SELECT DISTINCT entry FROM gone WHERE job = ANY ($1)) AS g
             JOIN feed AS f ON f.entry = g.entry";
        let numbers: Vec<_> = missing.iter().map(|number| sql(*number)).collect();
        let mut gone = HashMap::new();
        for row in self.connections.rows(GONE, &[&numbers]).await? {
            let entry = column::<i64>(&row, 0)?.cast_unsigned();
            for Change { job, how } in opened(entry, &column::<Vec<&[u8]>>(&row, 1)?)? {
                if let (How::Deleted { id, kind, .. }, true) = (how, missing.contains(&job)) {
                    gone.insert(job, what_is_gone(entry, &id, &kind)?);
                }
            }
        }
        Ok(gone)
    }
}

fn opened(entry: u64, changes: &[&[u8]]) -> Result<Vec<Change>, EngineError> {
    let open = |body: &&[u8]| {
        record::open(Table::Feed, 0, body).map_err(|error| EngineError::Corrupt(format!("feed {entry}: {error}")))
    };
    changes.iter().map(open).collect()
}

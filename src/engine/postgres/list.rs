//! Lists: pages of jobs in the order of their numbers, which is that of their creation.
//!
//! Promises: a page looks at a bounded number of jobs, whatever the filter; what it has looked at it does not look at again on
//! the next one. Jobs come in chunks, each from one moment.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::{
    Postgres,
    connect::{Params, column},
    read,
};
use crate::{
    engine::{EngineError, ListQuery, Order, Page, Stored, pager::Pager, record::sql},
    job::{Status, Tenant},
};

/// Matches of a text search that are sorted in memory; with more of them jobs are looked at one by one.
const MATCHES_MAX: usize = 1000;
/// Jobs looked at with one statement, but for the first.
const CHUNK: usize = 256;

impl Postgres {
    pub(super) async fn read_page(&self, query: &ListQuery) -> Result<Page, EngineError> {
        let source = self.source(query).await?;
        let mut pager = Pager::new(query);
        // Most pages are filled with the first jobs that are looked at.
        let mut wanted = query.jobs_max.saturating_add(1).min(CHUNK);
        loop {
            let chunk = self.chunk(&source, query, pager.at(), wanted).await?;
            let is_last = chunk.len() < wanted;
            for stored in chunk {
                if pager.is_spent() || !pager.takes(stored.place.number, stored.job) {
                    return Ok(pager.page());
                }
            }
            if is_last {
                return Ok(pager.last_page());
            }
            wanted = CHUNK;
        }
    }

    async fn source(&self, query: &ListQuery) -> Result<Source, EngineError> {
        if let Some(text) = &query.text
            && let Some(found) = self.matches(query.tenant, text).await?
        {
            return Ok(Source::Found(found));
        }
        Ok(if !query.labels.is_empty() {
            Source::Label
        } else if query.statuses.is_empty() && query.kinds.is_empty() {
            Source::All
        } else {
            Source::Lists
        })
    }

    /// The next jobs beyond a place, in the query's order.
    async fn chunk(
        &self,
        source: &Source,
        query: &ListQuery,
        place: u64,
        wanted: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        let (range, direction) = match query.order {
            Order::Oldest => ("job > $1 AND job < $2", "ASC"),
            Order::Newest => ("job < $1 AND job > $2", "DESC"),
        };
        let (place, end) = (sql(place), sql(query.end()));
        let limit = format!("ORDER BY job {direction} LIMIT {wanted}");
        let tenant = query.tenant.0.cast_signed();
        match source {
            Source::All => {
                let from = format!("SELECT job FROM heads WHERE {range} {limit}");
                self.jobs_of(&from, direction, &[&place, &end]).await
            }
            Source::Label => {
                let Some((key, value)) = query.labels.first() else { return Ok(Vec::new()) };
                let (key, value) = (key.as_str(), value.as_str());
                let from =
                    format!("SELECT job FROM labels WHERE {range} AND tenant = $3 AND value = $4 AND key = $5 {limit}");
                self.jobs_of(&from, direction, &[&place, &end, &tenant, &value, &key]).await
            }
            Source::Lists => {
                let kinds: Vec<_> = query.kinds.iter().map(|kind| kind.as_str()).collect();
                let statuses = if query.statuses.is_empty() { &Status::ALL[..] } else { &query.statuses };
                let statuses: Vec<_> = statuses.iter().map(|status| *status as i16).collect();
                // No kinds: all of the tenant's.
                let from = format!(
                    "SELECT l.job FROM kinds AS k CROSS JOIN unnest($4::int2[]) AS s(status) CROSS JOIN LATERAL (
                         SELECT job FROM lists WHERE {range} AND kind = k.kind AND status = s.status {limit}) AS l
                     WHERE k.tenant = $3 AND (k.name = ANY ($5) OR cardinality($5) = 0) {limit}"
                );
                self.jobs_of(&from, direction, &[&place, &end, &tenant, &statuses, &kinds]).await
            }
            Source::Found(found) => {
                let numbers: Vec<_> = match query.order {
                    Order::Oldest => {
                        found.range(place.cast_unsigned() + 1..).take(wanted).map(|job| sql(*job)).collect()
                    }
                    Order::Newest => {
                        found.range(..place.cast_unsigned()).rev().take(wanted).map(|job| sql(*job)).collect()
                    }
                };
                // Fewer than were wanted ends the list, so that those which are gone meanwhile are to be made up for.
                let from = format!("SELECT job FROM unnest($3::int8[]) AS found(job) WHERE {range}");
                self.jobs_of(&from, direction, &[&place, &end, &numbers]).await
            }
        }
    }

    async fn jobs_of(&self, from: &str, direction: &str, params: Params<'_>) -> Result<Vec<Stored>, EngineError> {
        let text = format!(
            "SELECT h.job, h.revision, h.body, d.body, NULL::bytea FROM ({from}) AS f
             JOIN heads AS h ON h.job = f.job JOIN details AS d ON d.job = h.job ORDER BY h.job {direction}"
        );
        let rows = self.connections.rows(&text, params).await?;
        rows.iter().map(|row| read::job(row, 0)).collect()
    }

    /// Jobs whose id begins with a text or that have it as the value of a label; `None` when they are too many.
    async fn matches(&self, tenant: Tenant, text: &str) -> Result<Option<BTreeSet<u64>>, EngineError> {
        const MATCHES: &str = "
            (SELECT job FROM ids WHERE tenant = $1 AND id >= $2 AND id < $3 AND reserved_until IS NULL LIMIT $4)
            UNION (SELECT job FROM labels WHERE tenant = $1 AND value = $2 LIMIT $4)";
        // The last character an id may have is `~`.
        let beyond = format!("{text}\u{7f}");
        let limit = MATCHES_MAX as i64 + 1;
        let rows = self.connections.rows(MATCHES, &[&tenant.0.cast_signed(), &text, &beyond, &limit]).await?;
        let number = |row: &Row| column::<i64>(row, 0).map(i64::cast_unsigned);
        let found = rows.iter().map(number).collect::<Result<BTreeSet<_>, _>>()?;
        Ok((found.len() <= MATCHES_MAX).then_some(found))
    }
}

/// Where candidates come from: the narrowest index there is.
enum Source {
    /// All jobs of the tenant.
    All,
    /// Jobs with the first label asked for.
    Label,
    /// Jobs of these kinds in these statuses.
    Lists,
    /// These, found beforehand.
    Found(BTreeSet<u64>),
}

//! Lists: pages of jobs in the order of their numbers, which is that of their creation.
//!
//! Promises: a page looks at a bounded number of jobs, whatever the filter; what it has looked at it does not look at
//! again on the next one.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Params};

use super::{error::fault, read, view::View};
use crate::{
    engine::{EngineError, ListQuery, Order, Page, pager::Pager, record::sql},
    job::{Kind, Status, Tenant},
};

/// Matches of a text search that are sorted in memory; with more of them jobs are looked at one by one.
const MATCHES_MAX: usize = 1000;
/// Jobs looked up at once.
const CHUNK: usize = 256;

/// One page.
pub(super) fn page(view: &View<'_>, query: &ListQuery) -> Result<Page, EngineError> {
    let source = Source::choose(view, query)?;
    let mut pager = Pager::new(query);
    loop {
        let chunk = source.next(view, query, pager.at())?;
        if chunk.is_empty() {
            return Ok(pager.last_page());
        }
        for number in chunk {
            if pager.is_spent() {
                return Ok(pager.page());
            }
            // Chosen from an index of the same moment, so it is there.
            if !pager.takes(number, read::existing_job(view, number, false)?.job) {
                return Ok(pager.page());
            }
        }
    }
}

/// How many jobs there are of each kind in each status.
pub(super) fn counts(connection: &Connection) -> Result<Vec<(Tenant, String, i64, u64)>, EngineError> {
    let text = "SELECT tenant, name, status, jobs FROM counts JOIN kinds USING (kind) WHERE jobs > 0";
    let mut select = read::statement(connection, text)?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok((Tenant(row.get(0)?), row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?.unsigned_abs()))
    };
    select.query_map([], row).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)
}

/// Where the numbers of candidates come from: the narrowest index there is.
enum Source {
    /// All jobs of the tenant.
    All,
    /// Jobs with the first label asked for.
    Label,
    /// Jobs of these kinds in these statuses.
    Lists(Vec<(i64, Status)>),
    /// These, found beforehand.
    Found(BTreeSet<u64>),
}

impl Source {
    fn choose(connection: &Connection, query: &ListQuery) -> Result<Self, EngineError> {
        if let Some(text) = &query.text
            && let Some(found) = matches(connection, query.tenant, text)?
        {
            return Ok(Self::Found(found));
        }
        if !query.labels.is_empty() {
            return Ok(Self::Label);
        }
        if query.statuses.is_empty() && query.kinds.is_empty() {
            return Ok(Self::All);
        }
        let kinds = kinds(connection, query)?;
        let statuses = if query.statuses.is_empty() { &Status::ALL[..] } else { &query.statuses };
        let pairs = kinds.iter().flat_map(|kind| statuses.iter().map(|status| (*kind, *status)));
        Ok(Self::Lists(pairs.collect()))
    }

    /// The next numbers beyond a place, in the query's order.
    fn next(&self, connection: &Connection, query: &ListQuery, place: u64) -> Result<Vec<u64>, EngineError> {
        let order = query.order;
        match self {
            Self::All => numbers(connection, order, "heads", "", (sql(place), sql(query.end()))),
            Self::Label => {
                let Some((key, value)) = query.labels.first() else { return Ok(Vec::new()) };
                let columns = (sql(place), sql(query.end()), query.tenant.0, value.as_str(), key.as_str());
                numbers(connection, order, "labels", "AND tenant = ?3 AND value = ?4 AND key = ?5", columns)
            }
            Self::Lists(pairs) => {
                let mut merged = Vec::new();
                for (kind, status) in pairs {
                    let columns = (sql(place), sql(query.end()), *kind, *status as i64);
                    merged.extend(numbers(connection, order, "lists", "AND kind = ?3 AND status = ?4", columns)?);
                }
                match order {
                    Order::Oldest => merged.sort_unstable(),
                    Order::Newest => merged.sort_unstable_by(|a, b| b.cmp(a)),
                }
                merged.truncate(CHUNK);
                Ok(merged)
            }
            Self::Found(found) => Ok(match order {
                Order::Oldest => found.range(place + 1..).copied().collect(),
                Order::Newest => found.range(..place).rev().copied().collect(),
            }),
        }
    }
}

fn numbers(
    connection: &Connection,
    order: Order,
    table: &str,
    filter: &str,
    columns: impl Params,
) -> Result<Vec<u64>, EngineError> {
    let (range, direction) = match order {
        Order::Oldest => ("job > ?1 AND job < ?2", "ASC"),
        Order::Newest => ("job < ?1 AND job > ?2", "DESC"),
    };
    let text = format!("SELECT job FROM {table} WHERE {range} {filter} ORDER BY job {direction} LIMIT {CHUNK}");
    let mut select = read::statement(connection, &text)?;
    let rows = select.query_map(columns, |row| Ok(row.get::<_, i64>(0)? as u64)).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// The numbers of the kinds asked for, or of all.
fn kinds(connection: &Connection, query: &ListQuery) -> Result<Vec<i64>, EngineError> {
    if query.kinds.is_empty() {
        let mut select = read::statement(connection, "SELECT kind FROM kinds WHERE tenant = ?1")?;
        let rows = select.query_map([query.tenant.0], |row| row.get(0)).map_err(fault)?;
        return rows.collect::<Result<_, _>>().map_err(fault);
    }
    let mut select = read::statement(connection, "SELECT kind FROM kinds WHERE tenant = ?1 AND name = ?2")?;
    let mut number = |kind: &Kind| select.query_row((query.tenant.0, kind.as_str()), |row| row.get(0)).optional();
    query.kinds.iter().filter_map(|kind| number(kind).map_err(fault).transpose()).collect()
}

/// Jobs whose id begins with a text or that have it as the value of a label; `None` when they are too many.
fn matches(connection: &Connection, tenant: Tenant, text: &str) -> Result<Option<BTreeSet<u64>>, EngineError> {
    // The last character an id may have is `~`.
    let beyond = format!("{text}\u{7f}");
    let limit = MATCHES_MAX + 1;
    let by_id = format!(
        "SELECT job FROM ids WHERE tenant = ?1 AND id >= ?2 AND id < ?3 AND reserved_until IS NULL LIMIT {limit}"
    );
    let by_label = format!("SELECT job FROM labels WHERE tenant = ?1 AND value = ?2 AND ?3 = ?3 LIMIT {limit}");
    let mut found = BTreeSet::new();
    for select in [by_id, by_label] {
        let mut select = read::statement(connection, &select)?;
        let rows = select.query_map((tenant.0, text, &beyond), |row| Ok(row.get::<_, i64>(0)? as u64));
        for number in rows.map_err(fault)? {
            found.insert(number.map_err(fault)?);
        }
    }
    Ok((found.len() <= MATCHES_MAX).then_some(found))
}

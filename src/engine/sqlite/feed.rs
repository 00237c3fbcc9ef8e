//! The feed in its table: one row for each commit that has news.
//!
//! Promises: an entry stands in the transaction of what it tells; entries of a tenant rise; a place in a feed is one as
//! long as its entry is kept, and the newest entry that is old enough to go is kept, too: whoever has it misses nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    error::fault,
    read::{self, statement},
    view::View,
};
use crate::{
    engine::{
        EngineError, Fed, FeedPage, FeedPlace, FeedQuery, Gone, Stored,
        record::{self, Change, Gathered, How, Table, numbered, sql, what_is_gone},
    },
    job::{Job, Tenant, Timestamp},
};
use rusqlite::{Connection, OptionalExtension};

/// Bits of an entry's number below its tenant; enough until the year 2248.
const ENTRY_BITS: u32 = 46;
/// Bits of an entry's number below the millisecond it was made in: eight commits for each are more than a disk makes.
const SEQUENCE_BITS: u32 = 3;
/// Entries between two looks for those that may go.
const TRIM_EVERY: u32 = 64;
/// Entries that go at once: twice as many as come, so that they cannot pile up.
const TRIM_MAX: u32 = 2 * TRIM_EVERY;
/// Before the first entry of a tenant, so that whoever came before it has a place, too.
const BEGINNING: u64 = 0;

/// The last entry of each feed, for the writer and those who ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Arc<Mutex<HashMap<Tenant, u64>>>);

impl Ends {
    fn load(connection: &Connection) -> Result<Self, EngineError> {
        let ends = Self::default();
        let mut next = statement(connection, "SELECT min(row) FROM feed WHERE row >= ?1")?;
        let mut last = statement(connection, "SELECT max(row) FROM feed WHERE row < ?1")?;
        let mut from = 0;
        while let Some(row) = next.query_row([from], |row| row.get::<_, Option<i64>>(0)).map_err(fault)? {
            let tenant = Tenant((row >> ENTRY_BITS) as u32);
            from = ((row >> ENTRY_BITS) + 1) << ENTRY_BITS;
            let last = last.query_row([from], |row| row.get::<_, i64>(0)).map_err(fault)?;
            ends.lock().insert(tenant, own(last));
        }
        Ok(ends)
    }

    pub(super) fn of(&self, tenant: Tenant) -> FeedPlace {
        FeedPlace(self.lock().get(&tenant).copied().unwrap_or(BEGINNING))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tenant, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end.
pub(super) struct Feed {
    ends: Ends,
    retain_milliseconds: u64,
    /// What the transaction under way tells.
    news: BTreeMap<Tenant, Vec<Change>>,
    /// The entries it has made.
    fresh: Vec<(Tenant, u64)>,
    /// Entries of each feed since some of its oldest were taken out.
    untrimmed: HashMap<Tenant, u32>,
    buffer: Vec<u8>,
}

impl Feed {
    pub(super) fn load(connection: &Connection, retain_seconds: u32) -> Result<Self, EngineError> {
        Ok(Self {
            ends: Ends::load(connection)?,
            retain_milliseconds: u64::from(retain_seconds) * 1000,
            news: BTreeMap::new(),
            fresh: Vec::new(),
            untrimmed: HashMap::new(),
            buffer: Vec::new(),
        })
    }

    pub(super) fn ends(&self) -> Ends {
        self.ends.clone()
    }

    pub(super) fn made(&mut self, number: u64, job: &Job) {
        self.add(job, Change { job: number, how: How::Made });
    }

    pub(super) fn changed(&mut self, number: u64, before: &Job, job: &Job) {
        if let Some(how) = How::changed(before, job) {
            self.add(job, Change { job: number, how });
        }
    }

    pub(super) fn deleted(&mut self, number: u64, before: &Job) {
        self.add(before, Change { job: number, how: How::deleted(before) });
    }

    fn add(&mut self, job: &Job, change: Change) {
        self.news.entry(job.key().tenant).or_default().push(change);
    }

    /// Writes the entries of a transaction, and takes out some that are too old.
    pub(super) fn finish(&mut self, connection: &Connection, now: Timestamp) -> Result<(), EngineError> {
        let mut news = mem::take(&mut self.news);
        for (tenant, changes) in news.iter_mut().filter(|(_, changes)| !changes.is_empty()) {
            let last = self.ends.of(*tenant).0;
            if last == BEGINNING {
                self.write(connection, *tenant, BEGINNING, &[])?;
            }
            let entry = (last + 1).max(now.0 << SEQUENCE_BITS);
            self.write(connection, *tenant, entry, changes)?;
            changes.clear();
            self.fresh.push((*tenant, entry));
            let untrimmed = self.untrimmed.entry(*tenant).or_default();
            // Also with the first: what a long pause has left goes soon.
            if untrimmed.is_multiple_of(TRIM_EVERY) {
                trim(connection, *tenant, now, self.retain_milliseconds)?;
            }
            *untrimmed = untrimmed.wrapping_add(1);
        }
        // Emptied, and kept for the next.
        self.news = news;
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        if !self.fresh.is_empty() {
            self.ends.lock().extend(self.fresh.drain(..));
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.fresh.clear();
        self.news.clear();
    }

    fn write(
        &mut self,
        connection: &Connection,
        tenant: Tenant,
        entry: u64,
        changes: &[Change],
    ) -> Result<(), EngineError> {
        let row = row(tenant, FeedPlace(entry))?;
        record::seal(Table::Feed, row as u64, &changes, &mut self.buffer)?;
        let mut insert = statement(connection, "INSERT INTO feed VALUES (?1, ?2)")?;
        insert.execute((row, &self.buffer)).map_err(fault)?;
        for deleted in changes.iter().filter(|change| matches!(change.how, How::Deleted { .. })) {
            let mut insert = statement(connection, "INSERT INTO gone VALUES (?1, ?2)")?;
            insert.execute((sql(deleted.job), row)).map_err(fault)?;
        }
        Ok(())
    }
}

/// Takes out some entries that are too old, and what leads to them.
fn trim(connection: &Connection, tenant: Tenant, now: Timestamp, retain_milliseconds: u64) -> Result<(), EngineError> {
    const OLDEST: &str = "DELETE FROM feed WHERE row >= ?1 AND row < (SELECT max(row) FROM (
         SELECT row FROM feed WHERE row >= ?1 AND row <= ?2 ORDER BY row LIMIT ?3))";
    let old = now.0.saturating_sub(retain_milliseconds) << SEQUENCE_BITS;
    let (first, old) = (row(tenant, FeedPlace(BEGINNING))?, row(tenant, FeedPlace(old))?);
    statement(connection, OLDEST)?.execute((first, old, TRIM_MAX + 1)).map_err(fault)?;
    const UNTOLD: &str = "DELETE FROM gone WHERE row >= ?1 AND row < (SELECT min(row) FROM feed WHERE row >= ?1)";
    statement(connection, UNTOLD)?.execute([first]).map(drop).map_err(fault)
}

/// The row of an entry.
fn row(tenant: Tenant, place: FeedPlace) -> Result<i64, EngineError> {
    numbered(tenant, place.0, ENTRY_BITS, "entries of the feed").map(sql)
}

/// The entry in a row.
fn own(row: i64) -> u64 {
    row as u64 & ((1 << ENTRY_BITS) - 1)
}

/// A part of a feed, see [`Engine::feed`](crate::engine::Engine::feed).
/// It goes no further than this end, which was taken before: of what came after it not all may be there to be read.
pub(super) fn page(
    connection: &Connection,
    query: &FeedQuery,
    end: FeedPlace,
) -> Result<Option<FeedPage>, EngineError> {
    if !is_place(connection, query.tenant, query.after)? {
        return Ok(None);
    }
    let mut gathered = Gathered::default();
    let mut to = query.after;
    entries(connection, query.tenant, query.after, query.entries_max, |entry, changes| {
        let fits = entry <= end.0 && (to == query.after || gathered.count_with(&changes) <= query.jobs_max);
        if fits {
            changes.into_iter().try_for_each(|change| gathered.add(change, entry))?;
            to = FeedPlace(entry);
        }
        Ok(fits)
    })?;
    Ok(Some(FeedPage { moved: gathered.finish(), to }))
}

/// What has become of jobs, see [`Engine::fed`](crate::engine::Engine::fed).
pub(super) fn fed(view: &View<'_>, numbers: &[u64]) -> Result<Option<Vec<Fed>>, EngineError> {
    let jobs = numbers.iter().map(|number| read::job(view, *number, false)).collect::<Result<Vec<_>, _>>()?;
    let missing = numbers.iter().zip(&jobs).filter(|(_, job)| job.is_none()).map(|(number, _)| *number);
    let mut gone = deleted(view, missing.collect())?;
    let fed = |(number, stored): (&u64, Option<Stored>)| match stored {
        Some(stored) => Some(Fed::Job(stored.job)),
        None => gone.remove(number).map(Fed::Gone),
    };
    Ok(numbers.iter().zip(jobs).map(fed).collect())
}

/// What is left of these jobs in the feed.
fn deleted(connection: &Connection, missing: HashSet<u64>) -> Result<HashMap<u64, Gone>, EngineError> {
    let mut place = statement(connection, "SELECT row FROM gone WHERE job = ?1")?;
    let mut entry = statement(connection, "SELECT body FROM feed WHERE row = ?1")?;
    let mut rows = BTreeSet::new();
    for number in &missing {
        rows.extend(place.query_row([sql(*number)], |row| row.get::<_, i64>(0)).optional().map_err(fault)?);
    }
    let mut gone = HashMap::new();
    for row in rows {
        let body: Option<Vec<u8>> = entry.query_row([row], |columns| columns.get(0)).optional().map_err(fault)?;
        let changes = body.map_or(Ok(Vec::new()), |body| record::open(Table::Feed, row as u64, &body))?;
        for Change { job, how } in changes {
            if let (How::Deleted { id, kind, .. }, true) = (how, missing.contains(&job)) {
                gone.insert(job, what_is_gone(own(row), &id, &kind)?);
            }
        }
    }
    Ok(gone)
}

/// Whether this entry is there, or none is and none was ever needed.
fn is_place(connection: &Connection, tenant: Tenant, place: FeedPlace) -> Result<bool, EngineError> {
    const KNOWN: &str = "SELECT EXISTS(SELECT 1 FROM feed WHERE row = ?1)
         OR (?1 = ?2 AND NOT EXISTS(SELECT 1 FROM feed WHERE row >= ?2 AND row < ?3))";
    // What cannot be an entry's number is none.
    let Ok(place) = row(tenant, place) else { return Ok(false) };
    let (first, end) = rows(tenant)?;
    statement(connection, KNOWN)?.query_row((place, first, end), |row| row.get(0)).map_err(fault)
}

/// The rows that a tenant can have, from the first to before the second.
fn rows(tenant: Tenant) -> Result<(i64, i64), EngineError> {
    let first = row(tenant, FeedPlace(BEGINNING))?;
    // Past the last row of the last tenant there is no number; none of its entries is near it.
    Ok((first, first.saturating_add(1 << ENTRY_BITS)))
}

/// Looks at entries after a place, in order, until there are no more or `look` wants none.
fn entries(
    connection: &Connection,
    tenant: Tenant,
    after: FeedPlace,
    entries_max: usize,
    mut look: impl FnMut(u64, Vec<Change>) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let text = "SELECT row, body FROM feed WHERE row > ?1 AND row < ?2 ORDER BY row LIMIT ?3";
    let mut select = statement(connection, text)?;
    let entries_max = i64::try_from(entries_max).unwrap_or(i64::MAX);
    let mut found = select.query((row(tenant, after)?, rows(tenant)?.1, entries_max)).map_err(fault)?;
    while let Some(columns) = found.next().map_err(fault)? {
        let row = columns.get::<_, i64>(0).map_err(fault)?;
        let body = columns.get_ref(1).map_err(fault)?.as_blob().unwrap_or_default();
        if !look(own(row), record::open(Table::Feed, row as u64, body)?)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sqlite::schema;

    #[test]
    fn a_page_goes_no_further_than_it_is_to() {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection).unwrap();
        let (tenant, mut body) = (Tenant(0), Vec::new());
        for entry in 0..4 {
            let row = row(tenant, FeedPlace(entry)).unwrap();
            let changes = [Change { job: entry, how: How::Made }];
            record::seal(Table::Feed, row.cast_unsigned(), &&changes[..], &mut body).unwrap();
            connection.execute("INSERT INTO feed VALUES (?1, ?2)", (row, &body)).unwrap();
        }
        let query = FeedQuery { tenant, after: FeedPlace(0), entries_max: 10, jobs_max: 10 };
        for (end, jobs) in [(3, 3), (2, 2), (0, 0)] {
            let page = page(&connection, &query, FeedPlace(end)).unwrap().unwrap();
            assert_eq!((page.to, page.moved.len()), (FeedPlace(end), jobs));
        }
    }
}

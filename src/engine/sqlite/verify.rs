//! Looks through a whole store for damage: that each value is what was written, and that all tables say the same.
//!
//! Promises: changes nothing; looks at one consistent moment, beside a process that writes; goes on behind what is damaged, and names
//! each row that is. What has changed keys says nothing by itself, but something is missing where it was.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{
    attempts,
    drafts::Drafts,
    error::fault,
    log::Rows,
    read::{self, statement},
    schema, tallies, timeline,
    view::{self, View},
};
use crate::{
    engine::{
        EngineError, Stored,
        record::{self, Change, Table, open_once, queue_place, sql, tenant_of},
    },
    job::{Attempt, Job, Tenant},
};

/// How many of the faults that SQLite finds in the structure of its file are named.
const STRUCTURE_FAULTS_MAX: u32 = 100;
/// The tables whose rows belong to a job.
const OF_JOBS: [&str; 8] = ["details", "inputs", "results", "lists", "labels", "queue", "deadlines", "attempts"];

/// What was looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Jobs that could be read.
    pub jobs: u64,
    /// Lines of their logs.
    pub lines: u64,
    /// What was found and told.
    pub faults: u64,
}

/// Looks through the store behind a connection, and tells each fault in words.
pub(super) fn run(connection: &Connection, tell: &mut dyn FnMut(&str)) -> Result<Verified, EngineError> {
    schema::check_current(connection)?;
    view::in_transaction(connection, Drafts::default(), |tables| {
        let (view, damage) = match View::with_journal(tables) {
            // Jobs are then what they were before.
            Err(EngineError::Corrupt(damage)) => (View::of_tables(tables), Some(damage)),
            view => (view?, None),
        };
        let (kinds, seen, verified) = (HashMap::new(), Seen::default(), Verified::default());
        let mut verifier = Verifier { view: &view, tell, kinds, seen, verified };
        damage.iter().for_each(|damage| verifier.fault(damage));
        verifier.check(Verifier::structure)?;
        verifier.check(Verifier::kinds)?;
        verifier.check(Verifier::jobs)?;
        for table in OF_JOBS {
            verifier.check(|verifier| verifier.strays(table))?;
        }
        verifier.check(Verifier::ids)?;
        verifier.check(Verifier::totals)?;
        verifier.check(Verifier::counts)?;
        verifier.check(Verifier::feed)?;
        verifier.check(Verifier::once)?;
        verifier.check(Verifier::tallies)?;
        Ok(verifier.verified)
    })
}

/// How many rows of other tables the jobs say there are.
#[derive(Default)]
struct Seen {
    queue: u64,
    deadlines: u64,
    labels: u64,
}

struct Verifier<'a> {
    view: &'a View<'a>,
    tell: &'a mut dyn FnMut(&str),
    kinds: HashMap<(Tenant, String), i64>,
    seen: Seen,
    verified: Verified,
}

impl Verifier<'_> {
    fn fault(&mut self, what: &str) {
        self.verified.faults += 1;
        (self.tell)(what);
    }

    /// Does part of it. What is damaged is told, and is no reason to end.
    fn check(&mut self, part: impl FnOnce(&mut Self) -> Result<(), EngineError>) -> Result<(), EngineError> {
        match part(self) {
            Err(EngineError::Corrupt(what)) => {
                self.fault(&what);
                Ok(())
            }
            done => done,
        }
    }

    /// What SQLite knows of its file, see <https://www.sqlite.org/pragma.html#pragma_integrity_check>.
    fn structure(&mut self) -> Result<(), EngineError> {
        let mut check = statement(self.view, &format!("PRAGMA integrity_check({STRUCTURE_FAULTS_MAX})"))?;
        let mut rows = check.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let said: String = row.get(0).map_err(fault)?;
            // Some are several lines, under a heading.
            said.lines().filter(|line| *line != "ok" && !line.starts_with("***")).for_each(|line| self.fault(line));
        }
        Ok(())
    }

    fn kinds(&mut self) -> Result<(), EngineError> {
        let mut select = statement(self.view, "SELECT tenant, name, kind FROM kinds")?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (tenant, name, kind) = row.try_into().map_err(fault)?;
            self.kinds.insert((Tenant(tenant), name), kind);
        }
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), EngineError> {
        let mut after = 0;
        loop {
            let chunk = read::numbers_after(self.view, after)?;
            let Some(last) = chunk.last() else { return Ok(()) };
            after = *last;
            for number in chunk {
                self.check(|verifier| verifier.job(number))?;
            }
        }
    }

    fn job(&mut self, number: u64) -> Result<(), EngineError> {
        let stored = read::existing_job(self.view, number, true)?;
        self.verified.jobs += 1;
        self.check(|verifier| verifier.id(&stored))?;
        self.check(|verifier| read::json(verifier.view, Table::Inputs, number).map(drop))?;
        self.check(|verifier| verifier.lines(&stored))?;
        self.check(|verifier| verifier.attempts(&stored))?;
        self.check(|verifier| timeline::read(verifier.view, &stored).map(drop))?;
        self.check(|verifier| verifier.places(&stored))
    }

    /// Its id leads to it.
    fn id(&mut self, stored: &Stored) -> Result<(), EngineError> {
        let key = stored.job.key();
        let (id, number) = (key.id.as_str(), stored.place.number);
        match read::number_of(self.view, key)? {
            Some((led, None)) if led == number => {}
            Some((led, None)) => {
                read::existing_job(self.view, led, false)?.under(key)?;
                self.fault(&format!("ids {id:?}: leads to job {led}, and not to {number}"));
            }
            Some((_, Some(_))) => self.fault(&format!("ids {id:?}: is reserved, and there is job {number}")),
            None => self.fault(&format!("ids {id:?}: missing; it is the id of job {number}")),
        }
        Ok(())
    }

    /// All lines that were not dropped are there.
    fn lines(&mut self, stored: &Stored) -> Result<(), EngineError> {
        let (log, number) = (&stored.job.log, stored.place.number);
        if log.count <= log.dropped {
            return Ok(());
        }
        let mut rows = Rows::new(self.view)?;
        let mut next = log.dropped + 1;
        for row in rows.chain(stored.place, log.dropped)? {
            for line in rows.lines(number, row, log.dropped)? {
                if line.seq != next {
                    return Err(EngineError::Corrupt(format!("log_rows {row}: job {number} has no line {next}")));
                }
                next += 1;
                self.verified.lines += 1;
            }
        }
        if next == log.count + 1 {
            return Ok(());
        }
        Err(EngineError::Corrupt(format!("log_rows: job {number} has no line {next}")))
    }

    /// Those before this one, each once.
    fn attempts(&mut self, stored: &Stored) -> Result<(), EngineError> {
        let (number, now) = (stored.place.number, stored.job.attempt);
        if now == Attempt::FIRST {
            return Ok(());
        }
        let past = attempts::read(self.view, number, now)?;
        let numbers: Vec<_> = past.iter().map(|attempt| attempt.attempt).collect();
        if numbers.is_sorted_by(|a, b| a < b) && numbers.last().is_none_or(|last| *last < now) {
            return Ok(());
        }
        Err(EngineError::Corrupt(format!("attempts {number}: in the wrong order")))
    }

    /// It is found where one looks for such jobs.
    fn places(&mut self, stored: &Stored) -> Result<(), EngineError> {
        const LISTED: &str = "SELECT EXISTS(SELECT 1 FROM lists WHERE kind = ?1 AND status = ?2 AND job = ?3)";
        const QUEUED: &str =
            "SELECT EXISTS(SELECT 1 FROM queue WHERE kind = ?1 AND rank = ?2 AND queued_at = ?3 AND job = ?4)";
        const ARMED: &str = "SELECT EXISTS(SELECT 1 FROM deadlines WHERE at = ?1 AND job = ?2)";
        const LABELLED: &str =
            "SELECT EXISTS(SELECT 1 FROM labels WHERE tenant = ?1 AND value = ?2 AND key = ?3 AND job = ?4)";
        let (job, number): (&Job, _) = (&stored.job, stored.place.number);
        let (tenant, row) = (tenant_of(number), sql(number));
        let name = job.spec.kind.as_str();
        let Some(kind) = self.kinds.get(&(tenant, name.to_owned())).copied() else {
            return Err(EngineError::Corrupt(format!("kinds {name:?}: missing; it is the kind of job {number}")));
        };
        self.is_there(LISTED, (kind, job.status() as i64, row), "lists", number)?;
        if let Some((rank, queued_at)) = queue_place(job) {
            self.seen.queue += 1;
            self.is_there(QUEUED, (kind, rank, queued_at, row), "queue", number)?;
        }
        if let Some(at) = stored.place.armed_at {
            self.seen.deadlines += 1;
            self.is_there(ARMED, (sql(at.0), row), "deadlines", number)?;
        }
        for (key, value) in job.labels.iter() {
            self.seen.labels += 1;
            self.is_there(LABELLED, (tenant.0, value.as_str(), key.as_str(), row), "labels", number)?;
        }
        Ok(())
    }

    fn is_there(
        &mut self,
        exists: &str,
        row: impl rusqlite::Params,
        table: &str,
        number: u64,
    ) -> Result<(), EngineError> {
        if !statement(self.view, exists)?.query_row(row, |row| row.get::<_, bool>(0)).map_err(fault)? {
            self.fault(&format!("{table}: job {number} is missing"));
        }
        Ok(())
    }

    /// No row of a table belongs to a job that is not there.
    fn strays(&mut self, table: &str) -> Result<(), EngineError> {
        let text = format!(
            "SELECT DISTINCT job FROM {table} WHERE NOT EXISTS (SELECT 1 FROM heads WHERE heads.job = {table}.job)"
        );
        let mut select = statement(self.view, &text)?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let number: i64 = row.get(0).map_err(fault)?;
            self.fault(&format!("{table}: there is no job {number}"));
        }
        Ok(())
    }

    /// No id leads nowhere.
    fn ids(&mut self) -> Result<(), EngineError> {
        const NOWHERE: &str = "SELECT id, job FROM ids WHERE reserved_until IS NULL
             AND NOT EXISTS (SELECT 1 FROM heads WHERE heads.job = ids.job)";
        const COUNT: &str = "SELECT count(*) FROM ids WHERE reserved_until IS NULL";
        let mut select = statement(self.view, NOWHERE)?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (id, number): (String, i64) = row.try_into().map_err(fault)?;
            self.fault(&format!("ids {id:?}: there is no job {number}"));
        }
        let heads = self.count("SELECT count(*) FROM heads")?;
        self.amounts_to("ids", COUNT, heads)
    }

    /// What is found where one looks for jobs is no more than the jobs.
    fn totals(&mut self) -> Result<(), EngineError> {
        let heads = self.count("SELECT count(*) FROM heads")?;
        if self.verified.jobs < heads {
            // Those that cannot be read are somewhere, too.
            return Ok(());
        }
        let Seen { queue, deadlines, labels } = self.seen;
        for (table, rows) in [("lists", heads), ("queue", queue), ("deadlines", deadlines), ("labels", labels)] {
            self.amounts_to(table, &format!("SELECT count(*) FROM {table}"), rows)?;
        }
        Ok(())
    }

    fn count(&self, text: &str) -> Result<u64, EngineError> {
        let count = statement(self.view, text)?.query_row([], |row| row.get::<_, i64>(0)).map_err(fault)?;
        Ok(count.cast_unsigned())
    }

    fn amounts_to(&mut self, table: &str, count: &str, rows: u64) -> Result<(), EngineError> {
        let there = self.count(count)?;
        if there != rows {
            self.fault(&format!("{table}: {there} rows, and the jobs say {rows}"));
        }
        Ok(())
    }

    /// As many of each kind and status as are listed.
    fn counts(&mut self) -> Result<(), EngineError> {
        const OTHERS: &str = "SELECT kind, status, sum(listed), sum(counted) FROM (
             SELECT kind, status, 1 AS listed, 0 AS counted FROM lists
             UNION ALL SELECT kind, status, 0, jobs FROM counts) GROUP BY kind, status HAVING sum(listed) != sum(counted)";
        let mut select = statement(self.view, OTHERS)?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (kind, status, listed, counted): (i64, i64, i64, i64) = row.try_into().map_err(fault)?;
            self.fault(&format!("counts: {counted} jobs of kind {kind} in status {status}, and {listed} are listed"));
        }
        Ok(())
    }

    fn feed(&mut self) -> Result<(), EngineError> {
        self.sealed("SELECT row, body FROM feed", |row, body| {
            record::open::<Vec<Change>>(Table::Feed, row.cast_unsigned(), body).map(drop)
        })
    }

    fn once(&mut self) -> Result<(), EngineError> {
        self.sealed("SELECT tenant, body FROM once", |tenant, body| {
            open_once(Tenant(u32::try_from(tenant).unwrap_or(u32::MAX)), body).map(drop)
        })
    }

    fn tallies(&mut self) -> Result<(), EngineError> {
        self.sealed("SELECT kind, body FROM tallies", tallies::check)
    }

    /// Each body is what was sealed under its number.
    fn sealed(&mut self, text: &str, open: impl Fn(i64, &[u8]) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut select = statement(self.view, text)?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let number = row.get(0).map_err(fault)?;
            let body = row.get_ref(1).map_err(fault)?.as_blob().unwrap_or_default();
            self.check(|_| open(number, body))?;
        }
        Ok(())
    }
}

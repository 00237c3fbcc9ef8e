//! Writes: what one change of one job does to the tables.
//!
//! Promises: runs inside the transaction of a batch; a conflict leaves the tables as they were.

use std::{collections::HashMap, sync::Arc};

use rusqlite::Connection;

use super::{
    Settings, attempts,
    drafts::{Committed, Draft},
    error::fault,
    feed::{Ends, Feed},
    free::Chain,
    journal::{Journal, in_order},
    log,
    numbers::Numbers,
    read::{self, statement},
    schedule,
    tallies::Counter,
    timeline::{self, Rest},
    view,
    view::View,
};
use crate::{
    engine::{
        EngineError, Keyed, Once, Outcome, Place, Put, Stored, TimelinePlace, Usual, Write,
        record::{self, Detail, EntryRow, Head, LogRow, OWN_BITS, ROW_ENTRIES, Table, armed, numbered, portions, sql},
    },
    job::{Attempt, Job, JobKey, Json, Kind, Labels, LogLine, Status, Tenant, TimelineEntry, Timestamp},
};

/// A row of a log that is linked and not yet there.
struct NewRow<'a> {
    row: u64,
    prev: u64,
    skips: Option<[u64; 2]>,
    lines: &'a [Arc<[LogLine]>],
}

/// A row of a timeline that is linked and not yet there.
struct NewEntries<'a> {
    row: u64,
    prev: u64,
    entries: Vec<EntryRow<'a>>,
    /// The row that is to be deleted with all before it.
    over: Option<u64>,
}

/// What a change has made of a job that is not in its head alone. Of what is in two tables readers are to see both or neither.
#[derive(Default, PartialEq, Eq)]
struct New {
    /// It stands in another list, or at another place in the queue.
    is_elsewhere: bool,
    has_result: bool,
    has_details: bool,
    is_trimmed: bool,
}

impl New {
    fn of(before: &Job, job: &Job) -> Self {
        Self {
            // Of a job that was taken and came back in one commit only the attempt is another.
            is_elsewhere: before.status() != job.status() || before.attempt != job.attempt,
            has_result: before.result != job.result,
            has_details: before.labels != job.labels || before.error != job.error,
            is_trimmed: before.log.dropped != job.log.dropped,
        }
    }
}

/// What the writer knows beside the tables.
pub(super) struct Tables {
    jobs: Numbers,
    rows: Numbers,
    timeline_rows: Numbers,
    kinds: HashMap<(Tenant, Kind), i64>,
    kinds_max: usize,
    /// Kinds made in the transaction under way.
    fresh_kinds: Vec<(Tenant, Kind)>,
    /// Changes of the number of jobs by kind and status, not yet in the tables.
    counts: HashMap<(i64, Status), i64>,
    /// Whether rows of logs or timelines may be waiting to be freed.
    pub(super) freeing: bool,
    /// Rows of these that the transaction under way has added or given up.
    pub(super) added: usize,
    /// Whether keys or ids that are over may be waiting to be forgotten.
    pub(super) forgetting: bool,
    /// Rows of this transaction that will be forgotten one day.
    transient: usize,
    feed: Feed,
    counter: Counter,
    journal: Journal,
    buffer: Vec<u8>,
}

impl Tables {
    pub(super) fn load(connection: &Connection, settings: &Settings) -> Result<Self, EngineError> {
        let mut kinds = HashMap::new();
        let mut select = statement(connection, "SELECT kind, tenant, name FROM kinds")?;
        let mut rows = select.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (kind, tenant, name): (i64, u32, String) = row.try_into().map_err(fault)?;
            let name = Kind::try_from(&*name).map_err(|_| EngineError::Corrupt(format!("kinds {kind}: name")))?;
            kinds.insert((Tenant(tenant), name), kind);
        }
        Ok(Self {
            jobs: Numbers::load(connection, "jobs")?,
            rows: Numbers::load(connection, "log_rows")?,
            timeline_rows: Numbers::load(connection, "timeline_rows")?,
            kinds,
            kinds_max: settings.kinds_max,
            fresh_kinds: Vec::new(),
            counts: HashMap::new(),
            freeing: true,
            added: 0,
            forgetting: true,
            transient: 0,
            feed: Feed::load(connection, settings.feed_retain_seconds)?,
            counter: Counter::load(connection)?,
            journal: Journal::load(connection, settings.journal_bytes_max)?,
            buffer: Vec::new(),
        })
    }

    /// Whether there may be something to take out while nothing else is to be done.
    pub(super) fn has_to_free(&self) -> bool {
        self.freeing || self.forgetting
    }

    /// The last entry of each feed.
    pub(super) fn feed_ends(&self) -> Ends {
        self.feed.ends()
    }

    /// How long jobs of each kind usually take.
    pub(super) fn usual(&self) -> Usual {
        self.counter.usual()
    }

    /// The drafts of jobs.
    pub(super) fn drafts(&self) -> &Committed {
        self.journal.committed()
    }

    /// Brings all drafts into the tables; within a transaction, after which nothing is written.
    pub(super) fn fold_all(&mut self, connection: &Connection) -> Result<(), EngineError> {
        let drafts = self.drafts().now();
        for number in in_order(drafts.iter().map(|(number, _)| number).collect()) {
            if let Some(draft) = drafts.get(number) {
                self.fold(connection, number, draft)?;
            }
        }
        self.journal.empty(connection)
    }

    /// Whether more was left in the journal than there is to be.
    pub(super) fn has_to_fold(&self) -> bool {
        self.journal.is_too_long()
    }

    pub(super) fn write(
        &mut self,
        connection: &Connection,
        write: &Write,
        now: Timestamp,
    ) -> Result<Outcome, EngineError> {
        let outcome = match (&write.put, &write.before) {
            (Put::New { job, input }, _) => self.insert(connection, job, input.as_ref(), write, now),
            (Put::Changed(job), Some(before)) => self.update(connection, before, job, write, now),
            (Put::Deleted { reserved_until }, Some(before)) => self.delete(connection, before, *reserved_until),
            (Put::Changed(_) | Put::Deleted { .. }, None) => self.conflict(connection, &write.key),
        }?;
        if let Outcome::Committed(place) = &outcome {
            self.count(connection, write, now)?;
            for past in &write.history.attempts {
                attempts::add(connection, place.number, past, &mut self.buffer)?;
            }
            // That nobody else has taken the key meanwhile is seen to before, in this one process.
            if let Some(Keyed { name, once, .. }) = &write.once {
                self.remember(connection, write.key.tenant, name, once)?;
            }
        }
        Ok(outcome)
    }

    /// Counts what a write has made and ended.
    fn count(&mut self, connection: &Connection, write: &Write, now: Timestamp) -> Result<(), EngineError> {
        let job = match (&write.put, &write.before) {
            (Put::New { job, .. } | Put::Changed(job), _) => job,
            (Put::Deleted { .. }, Some(before)) => &before.job,
            (Put::Deleted { .. }, None) => return Ok(()),
        };
        if matches!(write.put, Put::New { .. }) || !write.history.ends.is_empty() {
            let name = &job.spec.kind;
            let kind = self.kind(connection, write.key.tenant, name)?.unwrap_or_default();
            self.counter.count(kind, name, write, now);
        }
        Ok(())
    }

    /// Brings counts and the feed up to date, and forgets some of what is over; the last step of a batch.
    pub(super) fn finish(&mut self, connection: &Connection, now: Timestamp) -> Result<(), EngineError> {
        if self.transient > 0 {
            // Twice as many as come, so that they cannot pile up.
            let rows_max = 2 * self.transient;
            self.forgetting |= forget(connection, now, rows_max)? >= rows_max;
            self.transient = 0;
        }
        const ADD: &str = "INSERT INTO counts VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET jobs = jobs + ?3";
        for ((kind, status), change) in self.counts.drain().filter(|(_, change)| *change != 0) {
            execute(connection, ADD, (kind, status as i64, change))?;
        }
        self.counter.finish(connection)?;
        self.feed.finish(connection, now)?;
        for _ in 0..self.journal.to_fold() {
            let Some((number, draft)) = self.journal.next_to_fold() else { break };
            self.fold(connection, number, &draft)?;
        }
        self.journal.write(connection)
    }

    pub(super) fn committed(&mut self) {
        self.fresh_kinds.clear();
        self.counter.committed();
        // Whoever is told of a change by the feed reads the job after that.
        self.journal.is_committed();
        self.feed.committed();
    }

    pub(super) fn rolled_back(&mut self) {
        for fresh in self.fresh_kinds.drain(..) {
            self.kinds.remove(&fresh);
        }
        self.counts.clear();
        (self.transient, self.added) = (0, 0);
        self.counter.rolled_back();
        self.feed.rolled_back();
        self.journal.is_rolled_back();
        self.jobs.rolled_back();
        self.rows.rolled_back();
        self.timeline_rows.rolled_back();
        self.freeing = true;
    }

    fn insert(
        &mut self,
        connection: &Connection,
        job: &Job,
        input: Option<&Json>,
        write: &Write,
        now: Timestamp,
    ) -> Result<Outcome, EngineError> {
        let key = job.key();
        let Some(kind) = self.kind(connection, key.tenant, &job.spec.kind)? else { return Ok(Outcome::TooManyKinds) };
        let number = numbered(key.tenant, self.jobs.take(connection)?, OWN_BITS, "jobs")?;
        // An id whose reservation is over is free, though its row may not have been removed yet.
        const CLAIM: &str = "INSERT INTO ids VALUES (?1, ?2, ?3, NULL) ON CONFLICT DO
             UPDATE SET job = ?3, reserved_until = NULL WHERE reserved_until <= ?4";
        if execute(connection, CLAIM, (key.tenant.0, key.id.as_str(), sql(number), sql(now.0)))? == 0 {
            return self.conflict(connection, key);
        }
        let mut place = Place { number, ..Place::default() };
        // More than there are where earlier ones were dropped before an export.
        let dropped = job.timeline.count.saturating_sub(write.history.timeline.len() as u64);
        place.timeline.entries = dropped;
        let rows = self.link(connection, &mut place, &write.lines)?;
        self.append(connection, number, &rows)?;
        let none = Rest::default();
        let entries = self.link_entries(connection, &mut place.timeline, &none, &write.history.timeline)?;
        self.add_entries(connection, number, entries)?;
        place.armed_at = armed(None, job, now);
        schedule::arm(connection, number, None, place.armed_at)?;
        schedule::queue(connection, number, kind, None, Some(job))?;
        Head::seal(job, place, &mut self.buffer)?;
        let head = (sql(number), sql(job.revision), &self.buffer);
        execute(connection, "INSERT INTO heads VALUES (?1, ?2, ?3)", head)?;
        self.put(connection, Table::Details, number, &Detail::of(job))?;
        if let Some(input) = input {
            self.put(connection, Table::Inputs, number, &input.as_str())?;
        }
        if let Some(result) = &job.result {
            self.put(connection, Table::Results, number, &result.as_str())?;
        }
        self.list(connection, number, None, Some((kind, job.status())))?;
        label(connection, number, key.tenant, &Labels::default(), &job.labels)?;
        self.feed.made(number, job);
        Ok(Outcome::Committed(place))
    }

    fn remember(
        &mut self,
        connection: &Connection,
        tenant: Tenant,
        name: &str,
        once: &Once,
    ) -> Result<(), EngineError> {
        self.transient += 1;
        let body = (once.fingerprint, once.id.as_str(), once.attempt.0);
        record::seal(Table::Once, u64::from(tenant.0), &body, &mut self.buffer)?;
        let row = (tenant.0, name, sql(once.expires_at.0), &self.buffer);
        execute(connection, "INSERT OR REPLACE INTO once VALUES (?1, ?2, ?3, ?4)", row).map(drop)
    }

    fn update(
        &mut self,
        connection: &Connection,
        stored: &Stored,
        job: &Job,
        write: &Write,
        now: Timestamp,
    ) -> Result<Outcome, EngineError> {
        let Stored { job: before, place } = stored;
        let number = place.number;
        let draft = self.journal.draft(connection, number)?;
        let new = New::of(before, job);
        // A draft is what is changed again and again, and all that is new of it but for lines and deadlines is in its head.
        let may_be_draft =
            new == New::default() && (draft.is_some() || self.journal.knows(number)) && self.journal.has_room();
        let revision = match &draft {
            Some(draft) => Some(draft.revision),
            None if may_be_draft => view::table_revision(connection, number)?,
            // Looked at with the update.
            None => Some(before.revision),
        };
        if revision != Some(before.revision) {
            return self.conflict(connection, job.key());
        }
        let mut next = Place { timeline: self.timeline_end(connection, stored, draft.as_deref())?, ..*place };
        let (none, more) = (Rest::default(), &write.history.timeline);
        let rest = draft.as_ref().map_or(&none, |draft| &draft.rest);
        let longer = if may_be_draft { rest.with(more)? } else { None };
        // Rows are numbered before the head that names the last one is written, and inserted after it was as expected.
        let rows = self.link(connection, &mut next, &write.lines)?;
        let entries = match longer {
            Some(_) => Vec::new(),
            None => self.link_entries(connection, &mut next.timeline, rest, more)?,
        };
        // Of rows that go its readers are to know.
        let is_draft = may_be_draft && entries.iter().all(|row| row.over.is_none());
        next.armed_at = armed(place.armed_at, job, now);
        Head::seal(job, next, &mut self.buffer)?;
        if is_draft {
            let head = (job.revision, &*self.buffer, next.timeline);
            self.journal.add(number, head, longer.unwrap_or_default(), draft.as_deref())?;
        } else {
            const UPDATE: &str = "UPDATE heads SET revision = ?1, body = ?2 WHERE job = ?3 AND (revision = ?4 OR ?5)";
            let head = (sql(job.revision), &self.buffer, sql(number), sql(before.revision), draft.is_some());
            if execute(connection, UPDATE, head)? == 0 {
                return self.conflict(connection, job.key());
            }
            self.journal.settle(number);
        }
        self.append(connection, number, &rows)?;
        self.add_entries(connection, number, entries)?;
        schedule::arm(connection, number, place.armed_at, next.armed_at)?;
        self.put_new(connection, stored, job, next, &new)?;
        self.feed.changed(number, before, job);
        Ok(Outcome::Committed(next))
    }

    /// Writes what is not in the head alone.
    fn put_new(
        &mut self,
        connection: &Connection,
        stored: &Stored,
        job: &Job,
        place: Place,
        new: &New,
    ) -> Result<(), EngineError> {
        let (before, number) = (&stored.job, place.number);
        if new.is_elsewhere {
            let kind = self.kind(connection, job.key().tenant, &job.spec.kind)?.unwrap_or_default();
            schedule::queue(connection, number, kind, Some(before), Some(job))?;
            if before.status() != job.status() {
                self.list(connection, number, Some((kind, before.status())), Some((kind, job.status())))?;
            }
        }
        if new.has_result {
            match &job.result {
                Some(result) => self.put(connection, Table::Results, number, &result.as_str())?,
                None => drop_row(connection, Table::Results, number)?,
            }
        }
        if new.has_details {
            self.put(connection, Table::Details, number, &Detail::of(job))?;
            label(connection, number, job.key().tenant, &before.labels, &job.labels)?;
        }
        if new.is_trimmed {
            self.freeing |= log::free_trimmed(connection, place, before.log.dropped, job.log.dropped)?;
        }
        Ok(())
    }

    fn delete(
        &mut self,
        connection: &Connection,
        stored: &Stored,
        reserved_until: Timestamp,
    ) -> Result<Outcome, EngineError> {
        let Stored { job: before, place } = stored;
        let number = place.number;
        let key = before.key();
        let draft = self.journal.draft(connection, number)?;
        let timeline = self.timeline_end(connection, stored, draft.as_deref())?;
        const DELETE: &str = "DELETE FROM heads WHERE job = ?1 AND (revision = ?2 OR ?3)";
        let is_it = draft.as_ref().is_none_or(|draft| draft.revision == before.revision);
        if !is_it || execute(connection, DELETE, (sql(number), sql(before.revision), draft.is_some()))? == 0 {
            return self.conflict(connection, key);
        }
        self.journal.forget(number);
        self.transient += 1;
        const RESERVE: &str = "UPDATE ids SET reserved_until = ?3 WHERE tenant = ?1 AND id = ?2";
        execute(connection, RESERVE, (key.tenant.0, key.id.as_str(), sql(reserved_until.0)))?;
        for table in [Table::Details, Table::Inputs, Table::Results] {
            drop_row(connection, table, number)?;
        }
        let kind = self.kind(connection, key.tenant, &before.spec.kind)?.unwrap_or_default();
        self.list(connection, number, Some((kind, before.status())), None)?;
        schedule::queue(connection, number, kind, Some(before), None)?;
        schedule::arm(connection, number, place.armed_at, None)?;
        if before.attempt > Attempt::FIRST {
            attempts::drop_all(connection, number)?;
        }
        label(connection, number, key.tenant, &before.labels, &Labels::default())?;
        // What is long is freed in steps that no request feels.
        for (chain, tail) in [(Chain::Log, place.tail), (Chain::Timeline, timeline.tail)] {
            if tail != 0 {
                chain.free_from(connection, tail)?;
                self.freeing = true;
            }
        }
        self.feed.deleted(number, before);
        Ok(Outcome::Committed(*place))
    }

    /// The rows that lines become; the place is then as with them.
    fn link<'a>(
        &mut self,
        connection: &Connection,
        place: &mut Place,
        lines: &'a [Arc<[LogLine]>],
    ) -> Result<Vec<NewRow<'a>>, EngineError> {
        let mut rows = Vec::new();
        for lines in portions(lines) {
            let row = self.rows.take(connection)?;
            let (prev, skips, next) = log::link(*place, row);
            *place = next;
            rows.push(NewRow { row, prev, skips, lines });
        }
        Ok(rows)
    }

    fn append(&mut self, connection: &Connection, job: u64, rows: &[NewRow<'_>]) -> Result<(), EngineError> {
        for NewRow { row, prev, skips, lines } in rows {
            let lines = lines.iter().flat_map(|lines| lines.iter());
            let Some(body) = LogRow::of(job, *prev, *skips, lines) else { continue };
            record::seal(Table::LogRows, *row, &body, &mut self.buffer)?;
            execute(connection, "INSERT INTO log_rows VALUES (?1, ?2)", (sql(*row), &self.buffer))?;
        }
        self.added += rows.len();
        Ok(())
    }

    /// Where the rows of a job's timeline end: what was in none when the store was told of it may be in one by now.
    fn timeline_end(
        &self,
        connection: &Connection,
        stored: &Stored,
        draft: Option<&Draft>,
    ) -> Result<TimelinePlace, EngineError> {
        let known = stored.place.timeline;
        match draft {
            Some(draft) => Ok(draft.timeline),
            None if timeline::rest_of(&stored.job, known) == 0 => Ok(known),
            None => {
                let there = View::of_tables(connection).timeline(stored.place.number)?;
                Ok(there.map_or(known, |(place, _)| place))
            }
        }
    }

    /// The rows that entries of a timeline become; its end is then as with them.
    fn link_entries<'a>(
        &mut self,
        connection: &Connection,
        place: &mut TimelinePlace,
        rest: &'a Rest,
        more: &'a [TimelineEntry],
    ) -> Result<Vec<NewEntries<'a>>, EngineError> {
        let mut rows = Vec::new();
        let rest = if rest.count > 0 { Some(rest.rows()?) } else { None };
        let more = more.chunks(ROW_ENTRIES).map(|entries| entries.iter().map(EntryRow::of).collect());
        for entries in rest.into_iter().chain(more) {
            let entries: Vec<EntryRow<'_>> = entries;
            let row = self.timeline_rows.take(connection)?;
            let prev = place.tail;
            let (next, over) = timeline::link(*place, row, entries.len());
            *place = next;
            rows.push(NewEntries { row, prev, entries, over });
        }
        Ok(rows)
    }

    fn add_entries(&mut self, connection: &Connection, job: u64, rows: Vec<NewEntries<'_>>) -> Result<(), EngineError> {
        self.added += rows.len();
        for NewEntries { row, prev, entries, over } in rows {
            timeline::put(connection, job, (prev, row), entries, &mut self.buffer)?;
            if let Some(over) = over {
                Chain::Timeline.free_from(connection, over)?;
                self.freeing = true;
            }
        }
        Ok(())
    }

    /// Brings a draft into the tables, unless they have a newer head, or there is no such job any more.
    fn fold(&mut self, connection: &Connection, number: u64, draft: &Draft) -> Result<(), EngineError> {
        const UPDATE: &str = "UPDATE heads SET revision = ?1, body = ?2 WHERE job = ?3 AND revision < ?1";
        let mut place = draft.timeline;
        let rows = self.link_entries(connection, &mut place, &draft.rest, &[])?;
        let body = if rows.is_empty() {
            &*draft.head
        } else {
            Head::open(number, &draft.head)?.seal_at(number, place, &mut self.buffer)?;
            &*self.buffer
        };
        if execute(connection, UPDATE, (sql(draft.revision), body, sql(number)))? > 0 {
            self.add_entries(connection, number, rows)?;
        }
        self.journal.settle(number);
        Ok(())
    }

    /// What is there instead.
    fn conflict(&self, connection: &Connection, key: &JobKey) -> Result<Outcome, EngineError> {
        read::find(&View::with(connection, self.drafts().now()), key).map(Outcome::Conflict)
    }

    /// The number of a kind, which is made when it is new; `None` when there may be no more.
    fn kind(&mut self, connection: &Connection, tenant: Tenant, kind: &Kind) -> Result<Option<i64>, EngineError> {
        let entry = (tenant, kind.clone());
        if let Some(number) = self.kinds.get(&entry) {
            return Ok(Some(*number));
        }
        if self.kinds.keys().filter(|(owner, _)| *owner == tenant).count() >= self.kinds_max {
            return Ok(None);
        }
        execute(connection, "INSERT INTO kinds(tenant, name) VALUES (?1, ?2)", (tenant.0, kind.as_str()))?;
        let number = connection.last_insert_rowid();
        self.kinds.insert(entry.clone(), number);
        self.fresh_kinds.push(entry);
        Ok(Some(number))
    }

    fn list(
        &mut self,
        connection: &Connection,
        number: u64,
        from: Option<(i64, Status)>,
        to: Option<(i64, Status)>,
    ) -> Result<(), EngineError> {
        const LEAVE: &str = "DELETE FROM lists WHERE kind = ?1 AND status = ?2 AND job = ?3";
        const ENTER: &str = "INSERT INTO lists VALUES (?1, ?2, ?3)";
        for (change, text, end) in [(-1, LEAVE, from), (1, ENTER, to)] {
            if let Some((kind, status)) = end {
                execute(connection, text, (kind, status as i64, sql(number)))?;
                *self.counts.entry((kind, status)).or_default() += change;
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        connection: &Connection,
        table: Table,
        number: u64,
        value: &impl serde::Serialize,
    ) -> Result<(), EngineError> {
        record::seal(table, number, value, &mut self.buffer)?;
        let text = format!("INSERT OR REPLACE INTO {} VALUES (?1, ?2)", table.name());
        execute(connection, &text, (sql(number), &self.buffer))?;
        Ok(())
    }
}

/// Forgets some idempotency keys and reserved ids that are over, as many of each at the most; how many there were.
pub(super) fn forget(connection: &Connection, now: Timestamp, rows_max: usize) -> Result<usize, EngineError> {
    const KEYS: &str = "DELETE FROM once WHERE (tenant, key) IN
         (SELECT tenant, key FROM once WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    const IDS: &str = "DELETE FROM ids WHERE (tenant, id) IN
         (SELECT tenant, id FROM ids WHERE reserved_until <= ?1 ORDER BY reserved_until LIMIT ?2)";
    let columns = (sql(now.0), i64::try_from(rows_max).unwrap_or(i64::MAX));
    Ok(execute(connection, KEYS, columns)? + execute(connection, IDS, columns)?)
}

fn label(connection: &Connection, number: u64, tenant: Tenant, from: &Labels, to: &Labels) -> Result<(), EngineError> {
    const DROP: &str = "DELETE FROM labels WHERE tenant = ?1 AND value = ?2 AND key = ?3 AND job = ?4";
    const ADD: &str = "INSERT INTO labels VALUES (?1, ?2, ?3, ?4)";
    for (text, has, other) in [(DROP, from, to), (ADD, to, from)] {
        for (key, value) in has.iter().filter(|(key, value)| !other.has(key, value)) {
            execute(connection, text, (tenant.0, value.as_str(), key.as_str(), sql(number)))?;
        }
    }
    Ok(())
}

fn drop_row(connection: &Connection, table: Table, number: u64) -> Result<(), EngineError> {
    execute(connection, &format!("DELETE FROM {} WHERE job = ?1", table.name()), [sql(number)])?;
    Ok(())
}

fn execute<P: rusqlite::Params>(connection: &Connection, text: &str, columns: P) -> Result<usize, EngineError> {
    statement(connection, text)?.execute(columns).map_err(fault)
}

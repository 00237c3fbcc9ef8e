//! A batch as the parameters of the function that commits it: a row in some arrays for each thing that it writes.
//!
//! Promises: what belongs to a write stands under the number of its job, so that it can be left out when that is refused.
//! Knows nothing of connections.

use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::{kinds, timeline};
use crate::{
    engine::{
        EngineError, Keyed, Once, Place, Put, Stored, Write,
        record::{
            self, AttemptRow, Change, Delta, Detail, Head, How, LogRow, Move, ROW_ENTRIES, Table, armed, portions,
            queue_place, sql,
        },
    },
    job::{Job, JobKey, Json, Kind, Labels, LogLine, Tenant, TimelineEntry, Timestamp},
};

/// Lines of a log that were trimmed are taken out whenever their number has passed a multiple of this.
const TRIM_LINES: u64 = 1024;
/// Entries of a timeline before so many of the last ones are taken out whenever their number has passed a multiple of [`TRIM_ENTRIES`]: by
/// rows, each of which is as long as what made it long enough, a frame or what one commit did to one job.
const KEPT_ENTRIES: u64 = 320;
const TRIM_ENTRIES: u64 = 64;

/// Arrays of one length, and all of them as parameters.
macro_rules! rows {
    ($($name:ident { $($column:ident: $type:ty),* })*) => {
        $(
            #[derive(Default)]
            struct $name {
                $($column: Vec<$type>),*
            }

            impl $name {
                fn push(&mut self, ($($column,)*): ($($type,)*)) {
                    $(self.$column.push($column);)*
                }

                fn params<'a>(&'a self, into: &mut Vec<&'a (dyn ToSql + Sync)>) {
                    $(into.push(&self.$column);)*
                }
            }
        )*
    };
}

rows! {
    Keys { job: i64, tenant: i32, key: String, expires_at: i64, replaces: Option<i64>, body: Vec<u8> }
    Made {
        job: i64, tenant: i32, id: String, kind: i64, status: i16, revision: i64, head: Vec<u8>, recent: Vec<u8>,
        detail: Vec<u8>, input: Option<Vec<u8>>, result: Option<Vec<u8>>
    }
    Changed {
        job: i64, before: i64, revision: i64, head: Vec<u8>, last: i64, entries: Option<Vec<u8>>
    }
    Deleted { job: i64, before: i64, tenant: i32, id: String, until: i64 }
    Details { job: i64, body: Vec<u8> }
    Results { job: i64, body: Option<Vec<u8>> }
    Lists { job: i64, status: i16 }
    LabelRows { job: i64, tenant: i32, value: String, key: String, is_on: bool }
    Leaving { job: i64 }
    Queued { job: i64, kind: i64, rank: i64, at: i64 }
    Armed { job: i64, at: Option<i64> }
    Lines { job: i64, last: i64, body: Vec<u8> }
    Trimmed { job: i64, last: i64 }
    Entries { job: i64, last: i64, body: Vec<u8> }
    Outdated { job: i64, last: i64 }
    Attempts { job: i64, attempt: i64, body: Vec<u8> }
    Deltas { job: i64, body: Vec<u8> }
    Fed { job: i64, tenant: i32, change: Option<Vec<u8>>, moved: Vec<u8> }
}

/// The parameters of `commit_batch` after the first ones, in its order.
#[derive(Default)]
pub(super) struct Batch {
    keys: Keys,
    made: Made,
    changed: Changed,
    deleted: Deleted,
    details: Details,
    results: Results,
    lists: Lists,
    labels: LabelRows,
    leaving: Leaving,
    queued: Queued,
    armed: Armed,
    lines: Lines,
    trimmed: Trimmed,
    entries: Entries,
    outdated: Outdated,
    attempts: Attempts,
    deltas: Deltas,
    fed: Fed,
    /// What the writes add to the counts, with the number of the job and the name of its kind.
    counted: Vec<(u64, (Tenant, Kind), Delta)>,
}

/// How many parameters there are.
pub(super) const PARAMS: usize = 65;

impl Batch {
    /// All arrays.
    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut params = Vec::with_capacity(PARAMS);
        self.keys.params(&mut params);
        self.made.params(&mut params);
        self.changed.params(&mut params);
        self.deleted.params(&mut params);
        self.details.params(&mut params);
        self.results.params(&mut params);
        self.lists.params(&mut params);
        self.labels.params(&mut params);
        self.leaving.params(&mut params);
        self.queued.params(&mut params);
        self.armed.params(&mut params);
        self.lines.params(&mut params);
        self.trimmed.params(&mut params);
        self.entries.params(&mut params);
        self.outdated.params(&mut params);
        self.attempts.params(&mut params);
        self.deltas.params(&mut params);
        self.fed.params(&mut params);
        params
    }

    /// What its writes add to the counts, but for those of these jobs.
    pub(super) fn counted(&self, refused: &[i64]) -> impl Iterator<Item = (&(Tenant, Kind), &Delta)> {
        self.counted.iter().filter(|(job, ..)| !refused.contains(&sql(*job))).map(|(_, name, delta)| (name, delta))
    }

    /// Adds a write of the job of this number and kind; the place is what the job has once it is committed.
    pub(super) fn add(&mut self, write: &Write, number: u64, kind: i64, now: Timestamp) -> Result<Place, EngineError> {
        let place = match (&write.put, &write.before) {
            (Put::New { job, input }, _) => self.make(write, job, input.as_ref(), number, kind, now)?,
            (Put::Changed(job), Some(before)) => self.change(write, before, job, kind, now)?,
            (Put::Deleted { reserved_until }, Some(before)) => self.delete(&write.key, before, *reserved_until)?,
            // Nothing stands as nothing: refused, since no job has this number.
            (Put::Changed(_) | Put::Deleted { .. }, None) => Place::default(),
        };
        for past in &write.history.attempts {
            let body = sealed(Table::Attempts, number, &AttemptRow::of(past))?;
            self.attempts.push((sql(number), past.attempt.0.into(), body));
        }
        if let Some(Keyed { name, once, replaces }) = &write.once {
            let Once { fingerprint, id, attempt, expires_at } = once;
            let tenant = write.key.tenant.0;
            let body = sealed(Table::Once, tenant.into(), &(fingerprint, id.as_str(), attempt.0))?;
            let replaces = replaces.map(|at| sql(at.0));
            self.keys.push((sql(number), tenant.cast_signed(), name.clone(), sql(expires_at.0), replaces, body));
        }
        if let (Some(delta), Some(name)) = (Delta::of(write, kind, now), kinds::name(write)) {
            self.deltas.push((sql(number), sealed(Table::Tallies, 0, &delta)?));
            self.counted.push((number, name, delta));
        }
        Ok(place)
    }

    fn make(
        &mut self,
        write: &Write,
        job: &Job,
        input: Option<&Json>,
        number: u64,
        kind: i64,
        now: Timestamp,
    ) -> Result<Place, EngineError> {
        let mut place = Place { number, ..Place::default() };
        // More than there are where earlier ones were dropped before an export.
        place.timeline.entries = job.timeline.count.saturating_sub(write.history.timeline.len() as u64);
        place.armed_at = armed(None, job, now);
        self.append(number, &write.lines)?;
        let recent = self.remember(&mut place, &write.history.timeline)?;
        self.arm(number, None, place.armed_at);
        self.queue(number, kind, None, job);
        let key = job.key();
        let tenant = key.tenant.0.cast_signed();
        let json = |table, json: Option<&Json>| json.map(|json| sealed(table, number, &json.as_str())).transpose();
        let (detail, head) = (sealed(Table::Details, number, &Detail::of(job))?, head(job, place)?);
        let (input, result) = (json(Table::Inputs, input)?, json(Table::Results, job.result.as_ref())?);
        let (id, status) = (key.id.as_str().to_owned(), job.status() as i16);
        let revision = sql(job.revision);
        self.made.push((sql(number), tenant, id, kind, status, revision, head, recent, detail, input, result));
        self.label(number, tenant, &Labels::default(), &job.labels);
        Ok(place)
    }

    fn change(
        &mut self,
        write: &Write,
        stored: &Stored,
        job: &Job,
        kind: i64,
        now: Timestamp,
    ) -> Result<Place, EngineError> {
        let Stored { job: before, place } = stored;
        let number = place.number;
        let mut next = *place;
        next.armed_at = armed(place.armed_at, job, now);
        self.append(number, &write.lines)?;
        let entries = timeline::frames(&mut next, &write.history.timeline)?;
        let (head, last) = (head(job, next)?, next.timeline.entries);
        self.changed.push((sql(number), sql(before.revision), sql(job.revision), head, sql(last), entries));
        self.arm(number, place.armed_at, next.armed_at);
        self.queue(number, kind, Some(before), job);
        if before.status() != job.status() {
            self.lists.push((sql(number), job.status() as i16));
        }
        if before.result != job.result {
            let result = job.result.as_ref().map(|json| sealed(Table::Results, number, &json.as_str())).transpose()?;
            self.results.push((sql(number), result));
        }
        if before.labels != job.labels || before.error != job.error {
            self.details.push((sql(number), sealed(Table::Details, number, &Detail::of(job))?));
            self.label(number, job.key().tenant.0.cast_signed(), &before.labels, &job.labels);
        }
        if before.log.dropped / TRIM_LINES != job.log.dropped / TRIM_LINES {
            self.trimmed.push((sql(number), sql(job.log.dropped)));
        }
        if last > KEPT_ENTRIES && place.timeline.entries / TRIM_ENTRIES != last / TRIM_ENTRIES {
            self.outdated.push((sql(number), sql(last - KEPT_ENTRIES)));
        }
        Ok(next)
    }

    fn delete(&mut self, key: &JobKey, stored: &Stored, until: Timestamp) -> Result<Place, EngineError> {
        let Stored { job: before, place } = stored;
        let (number, tenant) = (place.number, key.tenant.0.cast_signed());
        self.deleted.push((sql(number), sql(before.revision), tenant, key.id.as_str().to_owned(), sql(until.0)));
        self.label(number, tenant, &before.labels, &Labels::default());
        Ok(*place)
    }

    /// Adds lines at the end of a log.
    fn append(&mut self, number: u64, lines: &[Arc<[LogLine]>]) -> Result<(), EngineError> {
        for lines in portions(lines) {
            if let Some(row) = LogRow::of(number, 0, None, lines.iter().flat_map(|lines| lines.iter())) {
                self.lines.push((sql(number), sql(row.last()), sealed(Table::LogRows, number, &row)?));
            }
        }
        Ok(())
    }

    /// Adds the entries that a job is made with; those that stay with its head.
    fn remember(&mut self, place: &mut Place, entries: &[TimelineEntry]) -> Result<Vec<u8>, EngineError> {
        let mut recent = Vec::new();
        for entries in entries.chunks(ROW_ENTRIES) {
            recent.extend(timeline::frames(place, entries)?.unwrap_or_default());
            if recent.len() >= timeline::RECENT_BYTES {
                let body = std::mem::take(&mut recent);
                self.entries.push((sql(place.number), sql(place.timeline.entries), body));
            }
        }
        Ok(recent)
    }

    fn arm(&mut self, number: u64, from: Option<Timestamp>, to: Option<Timestamp>) {
        if from != to {
            self.armed.push((sql(number), to.map(|at| sql(at.0))));
        }
    }

    /// Moves a job from where it stood in its kind's queue to where it stands.
    fn queue(&mut self, number: u64, kind: i64, before: Option<&Job>, job: &Job) {
        let (from, to) = (before.and_then(queue_place), queue_place(job));
        if from == to {
            return;
        }
        if from.is_some() {
            self.leaving.push((sql(number),));
        }
        if let Some((rank, at)) = to {
            self.queued.push((sql(number), kind, rank, at));
        }
    }

    fn label(&mut self, number: u64, tenant: i32, from: &Labels, to: &Labels) {
        for (is_on, has, other) in [(false, from, to), (true, to, from)] {
            for (key, value) in has.iter().filter(|(key, value)| !other.has(key, value)) {
                let (value, key) = (value.as_str().to_owned(), key.as_str().to_owned());
                self.labels.push((sql(number), tenant, value, key, is_on));
            }
        }
    }

    /// Tells of a job that has moved, if anybody can see it.
    pub(super) fn feed(&mut self, write: &Write, number: u64) -> Result<(), EngineError> {
        let before = write.before.as_ref().map(|stored| &*stored.job);
        let how = match (&write.put, before) {
            (Put::New { .. }, _) => Some(How::Made),
            (Put::Changed(job), Some(before)) => How::changed(before, job),
            (Put::Deleted { .. }, Some(before)) => Some(How::deleted(before)),
            (Put::Changed(_) | Put::Deleted { .. }, None) => None,
        };
        let Some(moved) = Move::of(write, how.is_some()) else { return Ok(()) };
        let change = how.map(|how| sealed(Table::Feed, 0, &Change { job: number, how })).transpose()?;
        let moved = sealed(Table::Feed, 0, &moved)?;
        self.fed.push((sql(number), write.key.tenant.0.cast_signed(), change, moved));
        Ok(())
    }
}

fn head(job: &Job, place: Place) -> Result<Vec<u8>, EngineError> {
    let mut head = Vec::new();
    Head::seal(job, place, &mut head)?;
    Ok(head)
}

fn sealed(table: Table, row: u64, value: &impl serde::Serialize) -> Result<Vec<u8>, EngineError> {
    let mut sealed = Vec::new();
    record::seal(table, row, value, &mut sealed)?;
    Ok(sealed)
}

//! What a reader sees: the tables of one moment, and the drafts of one.
//!
//! Promises: each job as its newest head has it that was committed before the view was asked for, or a later one; and nothing of it
//! that is not of that head. For that the drafts are taken first, and the moment of the tables comes after them: a draft that
//! was written to its table in between is no newer than what is found there; and beside a draft nothing is changed but by rows that
//! only a head leads to, and by deadlines, of which nobody reads more than whose they are.

use std::ops::Deref;

use rusqlite::{Connection, OptionalExtension};

use super::{
    drafts::{Draft, Drafts},
    error::fault,
    journal,
    read::statement,
    schema,
    timeline::Rest,
};
use crate::engine::{
    EngineError, TimelinePlace,
    record::{Head, sql},
};

/// A store at one moment: its tables, and the drafts that were there no later than they are.
pub(super) struct View<'c> {
    connection: &'c Connection,
    drafts: Drafts,
}

/// Whatever is not about heads is in the tables.
impl Deref for View<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'c> View<'c> {
    /// Of a store, or of the transaction under way, in which the tables have all there is.
    pub(super) fn of_tables(connection: &'c Connection) -> Self {
        Self { connection, drafts: Drafts::default() }
    }

    /// With drafts that were taken before the transaction under way began to read.
    pub(super) fn with(connection: &'c Connection, drafts: Drafts) -> Self {
        Self { connection, drafts }
    }

    /// With the drafts that are in the journal, for whoever reads long, or without the process that writes.
    pub(super) fn with_journal(connection: &'c Connection) -> Result<Self, EngineError> {
        let has_journal = schema::format(connection)? >= schema::WITH_JOURNAL;
        let drafts = if has_journal { journal::read(connection)?.drafts } else { Drafts::default() };
        Ok(Self { connection, drafts })
    }

    /// The revision of the job of a number, if there is one.
    pub(super) fn revision(&self, number: u64) -> Result<Option<u64>, EngineError> {
        let table = table_revision(self, number)?;
        Ok(table.map(|revision| self.draft(number, revision).map_or(revision, |draft| draft.revision)))
    }

    /// The draft of a job, if it is newer than what the tables have.
    fn draft(&self, number: u64, revision: u64) -> Option<&Draft> {
        self.drafts.get(number).map(|draft| &**draft).filter(|draft| draft.revision > revision)
    }

    /// Where the rows of a job's timeline end, and what is in none.
    pub(super) fn timeline(&self, number: u64) -> Result<Option<(TimelinePlace, Rest)>, EngineError> {
        let of_table = self.head(number, |revision, body| {
            let timeline = Head::open(number, body)?.place(number).timeline;
            Ok((revision, timeline))
        })?;
        let draft = |revision| self.drafts.get(number).filter(|draft| draft.revision == revision);
        Ok(of_table.map(|(revision, place)| {
            let rest = draft(revision).filter(|draft| draft.timeline == place).map(|draft| draft.rest.clone());
            (place, rest.unwrap_or_default())
        }))
    }

    /// What the newest head of a job is, with its revision, if there is such a job.
    pub(super) fn head<R>(
        &self,
        number: u64,
        look: impl FnOnce(u64, &[u8]) -> Result<R, EngineError>,
    ) -> Result<Option<R>, EngineError> {
        let mut heads = statement(self, "SELECT revision, body FROM heads WHERE job = ?1")?;
        let mut found = heads.query([sql(number)]).map_err(fault)?;
        let Some(columns) = found.next().map_err(fault)? else { return Ok(None) };
        let revision = columns.get::<_, i64>(0).map_err(fault)?.cast_unsigned();
        if let Some(draft) = self.draft(number, revision) {
            return look(draft.revision, &draft.head).map(Some);
        }
        look(revision, columns.get_ref(1).map_err(fault)?.as_blob().unwrap_or_default()).map(Some)
    }
}

/// Runs a read of several statements on one consistent moment, after these drafts.
pub(super) fn in_transaction<R>(
    connection: &Connection,
    drafts: Drafts,
    read: impl FnOnce(&View<'_>) -> Result<R, EngineError>,
) -> Result<R, EngineError> {
    let transaction = connection.unchecked_transaction().map_err(fault)?;
    let result = read(&View::with(&transaction, drafts))?;
    transaction.finish().map_err(fault)?;
    Ok(result)
}

/// As [`in_transaction`], with the drafts of the moment that the tables are of.
pub(super) fn with_journal<R>(
    connection: &Connection,
    read: impl FnOnce(&View<'_>) -> Result<R, EngineError>,
) -> Result<R, EngineError> {
    in_transaction(connection, Drafts::default(), |tables| read(&View::with_journal(tables)?))
}

/// The revision of the job of a number that its table has.
pub(super) fn table_revision(connection: &Connection, number: u64) -> Result<Option<u64>, EngineError> {
    let mut select = statement(connection, "SELECT revision FROM heads WHERE job = ?1")?;
    let found = select.query_row([sql(number)], |row| row.get::<_, i64>(0)).optional().map_err(fault)?;
    Ok(found.map(i64::cast_unsigned))
}

//! The log of a job as a skip chain of rows in arrival order.
//!
//! One commit's lines of one job are one row at the end of the table, so that a commit writes few pages and keeps no
//! index. A row names the job's row before it; every 64th also names the last 64th and the last 4,096th before it, so
//! that any line is found in a few hundred reads at the most, however long the log is.

use std::collections::VecDeque;

use rusqlite::{CachedStatement, Connection};

use super::{
    error::fault,
    free::{self, Chain},
};
use crate::{
    engine::{
        EngineError, LogEnd, LogSlice, Place,
        record::{self, LogRow, Table, sql},
    },
    job::{LogLine, Seq},
};

/// Ordinals of the rows that carry skips, and of those the longer skip leads to.
const STRIDES: [u64; 2] = [64, 64 * 64];

/// Where a job's next row goes: the row's own links, and the place once it is there.
pub(super) fn link(place: Place, row: u64) -> (u64, Option<[u64; 2]>, Place) {
    let ordinal = place.rows + 1;
    let skips = ordinal.is_multiple_of(STRIDES[0]).then_some(place.skips);
    let mut next = Place { rows: ordinal, tail: row, ..place };
    for (skip, stride) in next.skips.iter_mut().zip(STRIDES) {
        if ordinal.is_multiple_of(stride) {
            *skip = row;
        }
    }
    (place.tail, skips, next)
}

/// The rows of logs, as one connection sees them.
pub(super) struct Rows<'c> {
    select: CachedStatement<'c>,
}

impl<'c> Rows<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, EngineError> {
        let select = connection.prepare_cached("SELECT body FROM log_rows WHERE log_row = ?1").map_err(fault)?;
        Ok(Self { select })
    }

    /// Looks at one row; `None` when it is gone.
    fn get<R>(&mut self, row: u64, look: impl FnOnce(LogRow<'_>) -> R) -> Result<Option<R>, EngineError> {
        let mut found = self.select.query([sql(row)]).map_err(fault)?;
        let Some(columns) = found.next().map_err(fault)? else { return Ok(None) };
        let body = columns.get_ref(0).map_err(fault)?;
        let body = body.as_blob().map_err(|_| EngineError::Corrupt(format!("log_rows {row}: not a blob")))?;
        Ok(Some(look(record::open(Table::LogRows, row, body)?)))
    }

    /// As [`Rows::get`], of a row that must be there and belong to this job.
    fn of_job<R>(&mut self, row: u64, job: u64, look: impl FnOnce(LogRow<'_>) -> R) -> Result<R, EngineError> {
        let damaged = |what: &str| EngineError::Corrupt(format!("log_rows {row}: {what}"));
        let found = self.get(row, |body| (body.job == job).then(|| look(body)))?;
        found.ok_or_else(|| damaged("missing"))?.ok_or_else(|| damaged("belongs to another job"))
    }

    /// The row that has this line, which must be in the log.
    pub(super) fn seek(&mut self, place: Place, seq: Seq) -> Result<u64, EngineError> {
        let mut at = place.tail;
        loop {
            let (first, prev, skips) = self.of_job(at, place.number, |row| (row.first, row.prev, row.skips))?;
            if first <= seq {
                return Ok(at);
            }
            at = prev;
            // The longest way back that does not pass the line.
            for skip in skips.unwrap_or_default().into_iter().filter(|skip| *skip != 0) {
                // One that is gone was trimmed, and so lies before every line that can be asked for.
                if self.get(skip, |row| row.last() >= seq)?.unwrap_or(false) {
                    at = skip;
                }
            }
        }
    }

    /// Lines `dropped + 1 ..= count` of a log, as far as the slice wants them, in order.
    pub(super) fn slice(
        &mut self,
        place: Place,
        dropped: Seq,
        count: Seq,
        slice: LogSlice,
    ) -> Result<Vec<LogLine>, EngineError> {
        let lines_max = slice.lines_max as u64;
        let (after, until) = match slice.from {
            LogEnd::After(after) => {
                let after = after.max(dropped);
                (after, count.min(after.saturating_add(lines_max)))
            }
            LogEnd::Newest => (dropped.max(count.saturating_sub(lines_max)), count),
        };
        if after >= until {
            return Ok(Vec::new());
        }
        let mut window = Window { lines: VecDeque::new(), bytes: 0, bytes_max: slice.bytes_max, from: slice.from };
        let mut at = self.seek(place, until)?;
        loop {
            let (first, prev, full) = self.of_job(at, place.number, |row| {
                let mut wanted = row.newest_first().filter(|line| line.seq > after && line.seq <= until);
                let full = wanted.any(|line| window.push_older(line));
                (row.first, row.prev, full)
            })?;
            if full || first <= after + 1 {
                return Ok(window.lines.into());
            }
            at = prev;
        }
    }

    /// The rows that hold lines after `dropped`, the oldest first.
    pub(super) fn chain(&mut self, place: Place, dropped: Seq) -> Result<Vec<u64>, EngineError> {
        let mut rows = Vec::new();
        let mut at = place.tail;
        loop {
            rows.push(at);
            let (first, prev) = self.of_job(at, place.number, |row| (row.first, row.prev))?;
            if first <= dropped + 1 {
                rows.reverse();
                return Ok(rows);
            }
            at = prev;
        }
    }

    /// The lines of one row of a job that come after `dropped`, in order.
    pub(super) fn lines(&mut self, job: u64, row: u64, dropped: Seq) -> Result<Vec<LogLine>, EngineError> {
        let mut lines: Vec<_> = self.of_job(row, job, |body| body.newest_first().collect())?;
        lines.reverse();
        lines.retain(|line: &LogLine| line.seq > dropped);
        Ok(lines)
    }

    /// The newest row all of whose lines are trimmed, if there is one that may still exist.
    fn newest_trimmed(&mut self, place: Place, dropped: Seq) -> Result<Option<u64>, EngineError> {
        let at = self.seek(place, dropped)?;
        let (last, prev) = self.of_job(at, place.number, |row| (row.last(), row.prev))?;
        let row = if last <= dropped { at } else { prev };
        Ok((row != 0).then_some(row))
    }
}

/// Lines gathered from the newest to the oldest, within a number of bytes.
struct Window {
    lines: VecDeque<LogLine>,
    bytes: usize,
    bytes_max: usize,
    from: LogEnd,
}

impl Window {
    /// Adds the line before all others; true when there is no room for more.
    fn push_older(&mut self, line: LogLine) -> bool {
        self.bytes += line.text.len();
        match self.from {
            // The newest are wanted most: an older one that does not fit ends the walk.
            LogEnd::Newest if self.bytes > self.bytes_max && !self.lines.is_empty() => return true,
            LogEnd::Newest => self.lines.push_front(line),
            // The oldest are wanted most: newer ones make room.
            LogEnd::After(_) => {
                self.lines.push_front(line);
                while self.bytes > self.bytes_max && self.lines.len() > 1 {
                    self.bytes -= self.lines.pop_back().map_or(0, |line| line.text.len());
                }
            }
        }
        false
    }
}

/// Marks rows to be freed, once a good number of lines has been trimmed since the last time.
pub(super) fn free_trimmed(
    connection: &Connection,
    place: Place,
    before: Seq,
    dropped: Seq,
) -> Result<bool, EngineError> {
    const LINES: u64 = 1024;
    if before / LINES == dropped / LINES {
        return Ok(false);
    }
    match Rows::new(connection)?.newest_trimmed(place, dropped) {
        Ok(Some(row)) => Chain::Log.free_from(connection, row).map(|()| true),
        Ok(None) => Ok(false),
        Err(damage @ EngineError::Corrupt(_)) => {
            free::leak(&damage);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

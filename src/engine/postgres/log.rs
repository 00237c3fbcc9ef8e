//! Logs: a row for what each commit added, under the number of its last line.
//!
//! Promises: lines up to the count of the moment that they belong to, as far as they are not trimmed.

use std::cmp::Reverse;

use tokio_postgres::types::ToSql;

use super::{
    Postgres,
    connect::{Connections, column},
    gather::Question,
};
use crate::{
    engine::{
        EngineError, LogEnd, LogSlice, Stored,
        record::{self, LogRow, Table, sql},
    },
    job::{LogLine, Seq},
};

/// Rows of a log that are read at once.
const LOG_ROWS: i64 = 128;
/// Bytes of the last lines of a log, by those of its average line, up to which they are read with those of other logs.
const TAIL_BYTES: u64 = 32 * 1024;

/// The last lines of a log; `None`: the job is gone.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    number: u64,
    /// The lines after this one, up to that.
    after: Seq,
    count: Seq,
    slice: LogSlice,
}

impl Tail {
    /// What a slice asks for, if that is the end of a log and probably short.
    fn of(stored: &Stored, slice: LogSlice) -> Option<Self> {
        let log = &stored.job.log;
        let bytes = slice.lines_max as u64 * (log.written / log.count.max(1));
        let is_short =
            matches!(slice.from, LogEnd::Newest) && bytes <= TAIL_BYTES && slice.lines_max as i64 <= LOG_ROWS;
        let after = before_last(stored, slice);
        is_short.then_some(Self { number: stored.place.number, after, count: log.count, slice })
    }
}

/// Rows of a log: the number of the last line, and the body.
type Bodies<'r> = Vec<(i64, &'r [u8])>;

/// The line before the last ones that a slice asks for.
fn before_last(stored: &Stored, slice: LogSlice) -> Seq {
    let log = &stored.job.log;
    log.count.saturating_sub(slice.lines_max as u64).max(log.dropped)
}

impl Question for Tail {
    type Answer = Option<Vec<LogLine>>;
    const MOST: usize = 100;

    async fn answers(
        connections: &Connections,
        asked: &[&Self],
    ) -> Result<Vec<Result<Option<Vec<LogLine>>, EngineError>>, EngineError> {
        // The rows of a job that is gone are freed some time later.
        const TAILS: &str = "SELECT k.nth, r.last, r.body
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) WITH ORDINALITY AS k(job, after, count, nth)
             JOIN heads AS h ON h.job = k.job
             LEFT JOIN log_rows AS r ON r.job = k.job AND r.last > k.after AND r.last <= k.count";
        let jobs: Vec<_> = asked.iter().map(|tail| sql(tail.number)).collect();
        let afters: Vec<_> = asked.iter().map(|tail| sql(tail.after)).collect();
        let counts: Vec<_> = asked.iter().map(|tail| sql(tail.count)).collect();
        let rows = connections.rows(TAILS, &[&jobs, &afters, &counts]).await?;
        let mut found: Vec<Option<Bodies<'_>>> = vec![None; asked.len()];
        for row in &rows {
            let nth = usize::try_from(column::<i64>(row, 0)? - 1).unwrap_or_default();
            let Some(found) = found.get_mut(nth) else { continue };
            let found = found.get_or_insert_default();
            if let Some(last) = column::<Option<i64>>(row, 1)? {
                found.push((last, column(row, 2)?));
            }
        }
        let lines = |(tail, found): (&&Self, Option<Bodies<'_>>)| found.map(|rows| tail.lines(rows)).transpose();
        Ok(asked.iter().zip(found).map(lines).collect())
    }
}

impl Tail {
    /// The lines of these rows, which are in any order.
    fn lines(&self, mut rows: Bodies<'_>) -> Result<Vec<LogLine>, EngineError> {
        rows.sort_unstable_by_key(|(last, _)| Reverse(*last));
        let mut window = Window::new(self.slice);
        for (_, body) in rows {
            let body: LogRow<'_> = record::open(Table::LogRows, self.number, body)?;
            let lines = body.newest_first().filter(|line| line.seq > self.after && line.seq <= self.count);
            if !lines.into_iter().all(|line| window.takes(line)) {
                break;
            }
        }
        Ok(window.finish())
    }
}

impl Postgres {
    pub(super) async fn read_log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        match Tail::of(stored, slice) {
            Some(tail) => self.tails.ask(&self.connections, tail).await,
            None => self.read_long(stored, slice).await,
        }
    }

    async fn read_long(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        // The rows of a job that is gone are freed some time later.
        const ON: &str = "SELECT last, body FROM log_rows WHERE job = $1 AND last > $2
             AND EXISTS (SELECT FROM heads WHERE job = $1) ORDER BY last LIMIT $3";
        const BACK: &str = "SELECT last, body FROM log_rows WHERE job = $1 AND last <= $2 AND last > $4
             AND EXISTS (SELECT FROM heads WHERE job = $1) ORDER BY last DESC LIMIT $3";
        let (number, log) = (stored.place.number, &stored.job.log);
        let mut window = Window::new(slice);
        let (text, after, mut at) = match slice.from {
            LogEnd::After(after) => (ON, after.max(log.dropped), after.max(log.dropped)),
            LogEnd::Newest => (BACK, before_last(stored, slice), log.count),
        };
        loop {
            let (job, from, after_row) = (sql(number), sql(at), sql(after));
            let params: [&(dyn ToSql + Sync); 4] = [&job, &from, &LOG_ROWS, &after_row];
            let params = if matches!(slice.from, LogEnd::Newest) { &params[..] } else { &params[..3] };
            let rows = self.connections.rows(text, params).await?;
            for row in &rows {
                let last = column::<i64>(row, 0)?.cast_unsigned();
                let body: LogRow<'_> = record::open(Table::LogRows, number, column(row, 1)?)?;
                let mut lines: Vec<_> =
                    body.newest_first().filter(|line| line.seq > after && line.seq <= log.count).collect();
                let is_over = match slice.from {
                    LogEnd::After(_) => {
                        lines.reverse();
                        body.last() >= log.count
                    }
                    LogEnd::Newest => body.first <= after + 1,
                };
                if !lines.into_iter().all(|line| window.takes(line)) || is_over {
                    return Ok(Some(window.finish()));
                }
                at = if matches!(slice.from, LogEnd::Newest) { last - 1 } else { last };
            }
            if rows.len() < usize::try_from(LOG_ROWS).unwrap_or_default() {
                // Lines that are not there are trimmed, or the job is gone.
                return Ok(if self.is_there(number).await? { Some(window.finish()) } else { None });
            }
        }
    }

    async fn is_there(&self, number: u64) -> Result<bool, EngineError> {
        Ok(self.connections.row("SELECT FROM heads WHERE job = $1", &[&sql(number)]).await?.is_some())
    }
}

/// Lines taken from one end on, within bounds.
struct Window {
    lines: Vec<LogLine>,
    bytes: usize,
    slice: LogSlice,
}

impl Window {
    fn new(slice: LogSlice) -> Self {
        Self { lines: Vec::new(), bytes: 0, slice }
    }

    /// Takes the next line, unless there is no room for it.
    fn takes(&mut self, line: LogLine) -> bool {
        self.bytes += line.text.len();
        let is_over = self.bytes > self.slice.bytes_max && !self.lines.is_empty();
        if is_over || self.lines.len() >= self.slice.lines_max {
            return false;
        }
        self.lines.push(line);
        true
    }

    /// The lines in order.
    fn finish(mut self) -> Vec<LogLine> {
        if matches!(self.slice.from, LogEnd::Newest) {
            self.lines.reverse();
        }
        self.lines
    }
}

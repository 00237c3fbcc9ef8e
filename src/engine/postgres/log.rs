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
/// Lines at the end of a log that are read with those of other logs, and bytes of a row up to which it is one of theirs: a statement
/// brings no more than that of each, some 30 MiB if all are as long as that.
const TAIL_LINES: usize = 128;
const TAIL_ROW_BYTES: i32 = 4096;

/// The last lines of a log.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    number: u64,
    /// The lines after this one, up to that.
    after: Seq,
    count: Seq,
    slice: LogSlice,
}

impl Tail {
    /// What a slice asks for, if that is the end of a log.
    fn of(stored: &Stored, slice: LogSlice) -> Option<Self> {
        let is_tail = matches!(slice.from, LogEnd::Newest) && slice.lines_max <= TAIL_LINES;
        let (number, count) = (stored.place.number, stored.job.log.count);
        is_tail.then(|| Self { number, after: before_last(stored, slice), count, slice })
    }
}

/// Rows of a log: the number of the last line, and the body unless it is long.
type Bodies<'r> = Vec<(i64, Option<&'r [u8]>)>;

/// The line before the last ones that a slice asks for.
fn before_last(stored: &Stored, slice: LogSlice) -> Seq {
    let log = &stored.job.log;
    log.count.saturating_sub(slice.lines_max as u64).max(log.dropped)
}

/// What a tail is.
pub(super) enum Tailed {
    Lines(Vec<LogLine>),
    /// Too much to be read with others.
    Long,
    /// The job is gone.
    Gone,
}

impl Question for Tail {
    type Answer = Tailed;
    const MOST: usize = 60;

    async fn answers(
        connections: &Connections,
        asked: &[&Self],
    ) -> Result<Vec<Result<Tailed, EngineError>>, EngineError> {
        // The rows of a job that is gone are freed some time later.
        const TAILS: &str = "SELECT k.nth, r.last, CASE WHEN octet_length(r.body) <= $4 THEN r.body END
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) WITH ORDINALITY AS k(job, after, count, nth)
             JOIN LATERAL (SELECT FROM heads WHERE job = k.job OFFSET 0) AS h ON true
             LEFT JOIN log_rows AS r ON r.job = k.job AND r.last > k.after AND r.last <= k.count";
        let jobs: Vec<_> = asked.iter().map(|tail| sql(tail.number)).collect();
        let afters: Vec<_> = asked.iter().map(|tail| sql(tail.after)).collect();
        let counts: Vec<_> = asked.iter().map(|tail| sql(tail.count)).collect();
        let rows = connections.rows(TAILS, &[&jobs, &afters, &counts, &TAIL_ROW_BYTES]).await?;
        let mut found: Vec<Option<Bodies<'_>>> = vec![None; asked.len()];
        for row in &rows {
            let nth = usize::try_from(column::<i64>(row, 0)? - 1).unwrap_or_default();
            let Some(found) = found.get_mut(nth) else { continue };
            let found = found.get_or_insert_default();
            if let Some(last) = column::<Option<i64>>(row, 1)? {
                found.push((last, column(row, 2)?));
            }
        }
        let tailed = |(tail, found): (&&Self, Option<Bodies<'_>>)| match found {
            Some(rows) => tail.read(rows),
            None => Ok(Tailed::Gone),
        };
        Ok(asked.iter().zip(found).map(tailed).collect())
    }
}

impl Tail {
    /// The lines of these rows, which are in any order.
    fn read(&self, mut rows: Bodies<'_>) -> Result<Tailed, EngineError> {
        rows.sort_unstable_by_key(|(last, _)| Reverse(*last));
        let mut window = Window::new(self.slice);
        for (_, body) in rows {
            let Some(body) = body else { return Ok(Tailed::Long) };
            let body: LogRow<'_> = record::open(Table::LogRows, self.number, body)?;
            let lines = body.newest_first().filter(|line| line.seq > self.after && line.seq <= self.count);
            if !lines.into_iter().all(|line| window.takes(line)) {
                break;
            }
        }
        Ok(Tailed::Lines(window.finish()))
    }
}

impl Postgres {
    pub(super) async fn read_log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        if let Some(tail) = Tail::of(stored, slice) {
            match self.tails.ask(&self.connections, tail).await? {
                Tailed::Lines(lines) => return Ok(Some(lines)),
                Tailed::Gone => return Ok(None),
                Tailed::Long => {}
            }
        }
        self.read_long(stored, slice).await
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

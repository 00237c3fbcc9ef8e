//! Logs: a row for what each commit added, under the number of its last line.
//!
//! Promises: lines up to the count of the moment that they belong to, as far as they are not trimmed.

use std::cmp::Reverse;

use super::{
    Postgres,
    connect::{Connections, column},
    gather::{Answers, Question},
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

/// A part of a log: its lines after one of them up to another, from one end on.
#[derive(Clone, Copy)]
pub(super) struct Part {
    number: u64,
    after: Seq,
    until: Seq,
    slice: LogSlice,
}

impl Part {
    fn of(stored: &Stored, slice: LogSlice) -> Self {
        let log = &stored.job.log;
        let after = match slice.from {
            LogEnd::After(seq) => seq,
            LogEnd::Newest => log.count.saturating_sub(slice.lines_max as u64),
        };
        Self { number: stored.place.number, after: after.max(log.dropped), until: log.count, slice }
    }

    /// Whether it is a few lines at the end.
    fn is_tail(&self) -> bool {
        matches!(self.slice.from, LogEnd::Newest) && self.slice.lines_max <= TAIL_LINES
    }

    /// The lines of these rows, which are in any order.
    fn tailed(self, mut rows: Bodies<'_>) -> Result<Tailed, EngineError> {
        rows.sort_unstable_by_key(|(last, _)| Reverse(*last));
        let mut window = Window::new(self);
        for (_, body) in rows {
            let Some(body) = body else { return Ok(Tailed::Long) };
            if !window.takes(body)? {
                break;
            }
        }
        Ok(Tailed::Lines(window.finish()))
    }
}

/// Rows of a log: the number of the last line, and the body unless it is long.
type Bodies<'r> = Vec<(i64, Option<&'r [u8]>)>;

/// What the end of a log is.
pub(super) enum Tailed {
    Lines(Vec<LogLine>),
    /// Too much to be read with others.
    Long,
    /// The job is gone.
    Gone,
}

impl Question for Part {
    type Answer = Tailed;
    const MOST: usize = 60;

    async fn answers(connections: &Connections, asked: &[&Self]) -> Answers<Tailed> {
        // The rows of a job that is gone are freed some time later.
        const TAILS: &str = "SELECT k.nth, r.last, CASE WHEN octet_length(r.body) <= $4 THEN r.body END
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) WITH ORDINALITY AS k(job, after, until, nth)
             JOIN LATERAL (SELECT FROM heads WHERE job = k.job OFFSET 0) AS h ON true
             LEFT JOIN log_rows AS r ON r.job = k.job AND r.last > k.after AND r.last <= k.until";
        let jobs: Vec<_> = asked.iter().map(|part| sql(part.number)).collect();
        let afters: Vec<_> = asked.iter().map(|part| sql(part.after)).collect();
        let untils: Vec<_> = asked.iter().map(|part| sql(part.until)).collect();
        let rows = connections.rows(TAILS, &[&jobs, &afters, &untils, &TAIL_ROW_BYTES]).await?;
        let mut found: Vec<Option<Bodies<'_>>> = vec![None; asked.len()];
        for row in &rows {
            let nth = usize::try_from(column::<i64>(row, 0)? - 1).unwrap_or_default();
            let Some(found) = found.get_mut(nth) else { continue };
            let found = found.get_or_insert_default();
            if let Some(last) = column::<Option<i64>>(row, 1)? {
                found.push((last, column(row, 2)?));
            }
        }
        let tailed = |(part, found): (&&Self, Option<Bodies<'_>>)| match found {
            Some(rows) => part.tailed(rows),
            None => Ok(Tailed::Gone),
        };
        Ok(asked.iter().zip(found).map(tailed).collect())
    }
}

impl Postgres {
    pub(super) async fn read_log(&self, stored: &Stored, slice: LogSlice) -> Result<Option<Vec<LogLine>>, EngineError> {
        let part = Part::of(stored, slice);
        if part.is_tail() {
            match self.tails.ask(&self.connections, part).await? {
                Tailed::Lines(lines) => return Ok(Some(lines)),
                Tailed::Gone => return Ok(None),
                Tailed::Long => {}
            }
        }
        self.read_part(part).await
    }

    async fn read_part(&self, part: Part) -> Result<Option<Vec<LogLine>>, EngineError> {
        // The rows of a job that is gone are freed some time later.
        const ON: &str = "SELECT last, body FROM log_rows WHERE job = $1 AND last > $2 AND last <= $3
             AND EXISTS (SELECT FROM heads WHERE job = $1) ORDER BY last LIMIT $4";
        const BACK: &str = "SELECT last, body FROM log_rows WHERE job = $1 AND last > $2 AND last <= $3
             AND EXISTS (SELECT FROM heads WHERE job = $1) ORDER BY last DESC LIMIT $4";
        let Part { number, mut after, mut until, slice } = part;
        let text = if matches!(slice.from, LogEnd::Newest) { BACK } else { ON };
        let mut window = Window::new(part);
        loop {
            let rows = self.connections.rows(text, &[&sql(number), &sql(after), &sql(until), &LOG_ROWS]).await?;
            for row in &rows {
                if !window.takes(column(row, 1)?)? {
                    return Ok(Some(window.finish()));
                }
                let last = column::<i64>(row, 0)?.cast_unsigned();
                match slice.from {
                    LogEnd::After(_) => after = last,
                    LogEnd::Newest => until = last - 1,
                }
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

/// Lines of a part, taken from one end on, within bounds.
struct Window {
    lines: Vec<LogLine>,
    bytes: usize,
    part: Part,
}

impl Window {
    fn new(part: Part) -> Self {
        Self { lines: Vec::new(), bytes: 0, part }
    }

    /// Takes the lines of the next row; whether there is room for more, and more to come.
    fn takes(&mut self, body: &[u8]) -> Result<bool, EngineError> {
        let Part { number, after, until, slice } = self.part;
        let row: LogRow<'_> = record::open(Table::LogRows, number, body)?;
        let mut lines: Vec<_> = row.newest_first().filter(|line| line.seq > after && line.seq <= until).collect();
        let is_last = match slice.from {
            LogEnd::After(_) => {
                lines.reverse();
                row.last() >= until
            }
            LogEnd::Newest => row.first <= after + 1,
        };
        Ok(lines.into_iter().all(|line| self.takes_line(line)) && !is_last)
    }

    /// Takes the next line, unless there is no room for it.
    fn takes_line(&mut self, line: LogLine) -> bool {
        let LogSlice { lines_max, bytes_max, .. } = self.part.slice;
        self.bytes += line.text.len();
        let is_over = self.bytes > bytes_max && !self.lines.is_empty();
        if is_over || self.lines.len() >= lines_max {
            return false;
        }
        self.lines.push(line);
        true
    }

    /// The lines in order.
    fn finish(mut self) -> Vec<LogLine> {
        if matches!(self.part.slice.from, LogEnd::Newest) {
            self.lines.reverse();
        }
        self.lines
    }
}

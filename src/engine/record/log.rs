//! Lines of a log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::{Attempt, LogLine, Timestamp};

/// The lines that one commit appended to one job, linked to the row before.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct LogRow<'a> {
    pub(in crate::engine) job: u64,
    /// The job's row before this one; 0: none.
    pub(in crate::engine) prev: u64,
    /// On rows whose ordinal is a multiple of the first stride: the last rows before it at each stride.
    pub(in crate::engine) skips: Option<[u64; 2]>,
    pub(in crate::engine) first: u64,
    at: u64,
    #[serde(borrow)]
    lines: Vec<RowLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct RowLine<'a> {
    /// Milliseconds after the first line of the row.
    after: u64,
    attempt: u32,
    text: &'a str,
}

impl<'a> LogRow<'a> {
    /// A row of these lines; `None` when there are none.
    pub(in crate::engine) fn of(
        job: u64,
        prev: u64,
        skips: Option<[u64; 2]>,
        mut lines: impl Iterator<Item = &'a LogLine>,
    ) -> Option<Self> {
        let first = lines.next()?;
        let row_line = |line: &'a LogLine| RowLine {
            after: line.at.0.saturating_sub(first.at.0),
            attempt: line.attempt.0,
            text: &line.text,
        };
        let lines = std::iter::once(first).chain(lines).map(row_line).collect();
        Some(Self { job, prev, skips, first: first.seq, at: first.at.0, lines })
    }

    /// The number of its last line.
    pub(in crate::engine) fn last(&self) -> u64 {
        self.first.saturating_add((self.lines.len() as u64).saturating_sub(1))
    }

    /// Its lines, the newest first. Numbers that no store has written are told as far as numbers go.
    pub(in crate::engine) fn newest_first(&self) -> impl Iterator<Item = LogLine> {
        self.lines.iter().enumerate().rev().map(|(index, line)| LogLine {
            seq: self.first.saturating_add(index as u64),
            at: Timestamp(self.at.saturating_add(line.after)),
            attempt: Attempt(line.attempt),
            text: line.text.into(),
        })
    }
}

/// A row that has as many bytes of text takes no more lines but for those that came with its last: whoever reads a line
/// reads its row.
const ROW_BYTES: usize = 64 * 1024;

/// Lines in the portions that make a row each.
pub(in crate::engine) fn portions(mut lines: &[Arc<[LogLine]>]) -> impl Iterator<Item = &[Arc<[LogLine]>]> {
    std::iter::from_fn(move || {
        while lines.first().is_some_and(|lines| lines.is_empty()) {
            lines = &lines[1..];
        }
        let mut bytes = 0;
        let is_full = |lines: &Arc<[LogLine]>| {
            bytes += lines.iter().map(|line| line.text.len()).sum::<usize>();
            bytes >= ROW_BYTES
        };
        let end = lines.iter().position(is_full).map_or(lines.len(), |last| last + 1);
        let (portion, rest) = lines.split_at(end);
        lines = rest;
        (!portion.is_empty()).then_some(portion)
    })
}

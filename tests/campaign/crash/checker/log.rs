//! The log of a job: one line for each number for ever, no number without one, each line that was sent once and in its
//! writer's order, and all lines of a request or none.

use std::collections::{BTreeMap, HashMap};

use super::{
    Findings, Kind,
    book::{Book, Job, Op},
};
use crate::campaign::crash::{
    history::{Answer, Lines, Tick},
    words::Line,
};

/// The lines of a job as everybody together has seen them.
#[derive(Default)]
pub(super) struct Log<'h> {
    lines: BTreeMap<u64, Known<'h>>,
    numbers: HashMap<&'h Line, u64>,
    /// The last read of the whole log: since when, and how many lines it had.
    whole: Option<(Tick, u64)>,
}

struct Known<'h> {
    line: &'h Line,
    first_seen: Tick,
}

/// Checks the log of one job and returns it.
pub(super) fn check<'h>(book: &Book<'h>, job: &Job<'h>, found: &mut Findings) -> Log<'h> {
    let mut log = Log::default();
    log.gather(job, found);
    log.holes(job, found);
    log.origins(book, job, found);
    log.orders(job, found);
    for op in job.ops.iter().filter_map(|id| book.op(*id)) {
        log.wholeness(op, job, found);
        gaps(book, op, job, found);
    }
    log
}

/// Who is told that lines before its own are missing has not been told before that they are there.
fn gaps(book: &Book<'_>, op: &Op<'_>, job: &Job<'_>, found: &mut Findings) {
    for answered in &op.answers {
        let (Answer::Gap(expected), Lines::Counted { writer, .. }) = (answered.answer, op.request.what.lines()) else {
            continue;
        };
        let others = job.ops.iter().filter_map(|id| book.op(*id));
        let contradiction = others.into_iter().find(|other| {
            let Lines::Counted { writer: same, first, count } = other.request.what.lines() else { return false };
            same == writer && first + count > *expected && acknowledged_before(other, answered.sent)
        });
        if let Some(other) = contradiction {
            let what = format!("line {expected} of writer {writer} was acknowledged to request {}", other.id);
            found.add(Kind::AcknowledgementLost, &job.id, format!("{what}, and is not there for request {}", op.id));
        }
    }
}

/// Whether it was known by then that all lines of this request are in the log, brought by it or by another one.
fn acknowledged_before(op: &Op<'_>, moment: Tick) -> bool {
    let appended = |answer: &Answer| matches!(answer, Answer::Appended { .. });
    (op.applied && op.ended < moment)
        || op.answers.iter().any(|answered| appended(answered.answer) && answered.at < moment)
}

impl<'h> Log<'h> {
    /// Whether a line of this request's alone is in the log.
    pub(super) fn shows(&self, op: &Op<'_>) -> bool {
        matches!(op.request.what.lines(), Lines::Free(count) if count > 0)
            && self.numbers.contains_key(&Line::Free { op: op.id, index: 0 })
    }

    fn gather(&mut self, job: &Job<'h>, found: &mut Findings) {
        for sight in &job.sights {
            let Some(lines) = &sight.seen.lines else { continue };
            let (from, until) = (sight.seen.lines_from, sight.seen.lines_from + lines.len() as u64);
            if sight.seen.facts.log_count.is_some_and(|count| count + 1 != until) {
                let what = format!("lines {from}..{until} of {:?} at {}", sight.seen.facts.log_count, sight.until);
                found.add(Kind::LogHole, &job.id, what);
            }
            if from == 1 && self.whole.is_none_or(|(since, _)| since < sight.since) {
                self.whole = Some((sight.since, until - 1));
            }
            for (number, line) in (from..).zip(lines) {
                self.add(job, number, line, sight.until, found);
            }
        }
    }

    fn add(&mut self, job: &Job<'_>, number: u64, line: &'h Line, at: Tick, found: &mut Findings) {
        let known = self.lines.entry(number).or_insert(Known { line, first_seen: at });
        known.first_seen = known.first_seen.min(at);
        if known.line != line {
            found.add(Kind::LineChanged, &job.id, format!("{number}: `{}` and at {at} `{line}`", known.line));
            return;
        }
        let other = *self.numbers.entry(line).or_insert(number);
        if other != number {
            found.add(Kind::LineTwice, &job.id, format!("`{line}` is line {other} and {number}"));
        }
    }

    /// Below the end of a log that was read whole, each number has been seen.
    fn holes(&self, job: &Job<'_>, found: &mut Findings) {
        let Some((_, count)) = self.whole else { return };
        if let Some(hole) = (1..=count).find(|number| !self.lines.contains_key(number)) {
            found.add(Kind::LogHole, &job.id, format!("there is no line {hole} of {count}"));
        }
    }

    /// Each line was sent to this job before it was seen.
    fn origins(&self, book: &Book<'_>, job: &Job<'_>, found: &mut Findings) {
        // Of each line of a writer's count, when it was first sent.
        let mut sent: HashMap<(u32, u64), Tick> = HashMap::new();
        for op in job.ops.iter().filter_map(|id| book.op(*id)).filter(|op| op.may_apply) {
            if let Lines::Counted { writer, first, count } = op.request.what.lines() {
                for seq in first..first + count {
                    let began = sent.entry((writer, seq)).or_insert(op.began);
                    *began = op.began.min(*began);
                }
            }
        }
        for (number, known) in &self.lines {
            let began = match known.line {
                Line::Counted { writer, seq } => sent.get(&(*writer, *seq)).copied(),
                Line::Free { op, index } => {
                    let mine = |op: &&Op<'_>| op.request.job.as_ref() == Some(&job.id) || job.origin == Some(op.id);
                    let sent = |op: &&Op<'_>| op.may_apply && u64::from(*index) < op.request.what.lines().count();
                    book.op(*op).filter(mine).filter(sent).map(|op| op.began)
                }
                Line::Foreign(_) => None,
            };
            if began.is_none_or(|began| began > known.first_seen) {
                let what = format!("line {number} at {} was not sent: `{}`", known.first_seen, known.line);
                found.add(Kind::Phantom, &job.id, what);
            }
        }
    }

    /// Lines of one writer's count follow each other; those of one request do so without any between.
    fn orders(&self, job: &Job<'_>, found: &mut Findings) {
        let mut last_of: HashMap<u32, u64> = HashMap::new();
        let mut previous: Option<(u64, &Line)> = None;
        for (number, known) in &self.lines {
            match known.line {
                Line::Counted { writer, seq } => {
                    let last = last_of.insert(*writer, *seq);
                    let complete = self.whole.is_some_and(|(_, count)| *number <= count);
                    if last.is_some_and(|last| last >= *seq) {
                        found.add(Kind::LinesReordered, &job.id, format!("line {number} `{}`", known.line));
                    } else if complete && *seq != last.unwrap_or(0) + 1 {
                        found.add(Kind::LogHole, &job.id, format!("before line {number} `{}`", known.line));
                    }
                }
                Line::Free { op, index } if *index > 0 => {
                    let before = Line::Free { op: *op, index: index - 1 };
                    let follows = previous.is_some_and(|(last, line)| last + 1 == *number && *line == before);
                    let before_unseen = !self.lines.contains_key(&(number - 1));
                    if !follows && !before_unseen {
                        found.add(Kind::LinesReordered, &job.id, format!("line {number} `{}`", known.line));
                    }
                }
                Line::Free { .. } | Line::Foreign(_) => {}
            }
            previous = Some((*number, known.line));
        }
    }

    /// What is acknowledged is in the log, and what is there of a request is all of it.
    fn wholeness(&self, op: &Op<'_>, job: &Job<'_>, found: &mut Findings) {
        let Some((since, count)) = self.whole else { return };
        let lines = op.request.what.lines().of(op.id);
        let present = |line: &&Line| self.numbers.get(*line).is_some_and(|number| *number <= count);
        let there = lines.iter().filter(present).count();
        if there == lines.len() {
            return;
        }
        if acknowledged_before(op, since) {
            let what = format!("request {} brought {} lines, and {there} are there at {since}", op.id, lines.len());
            found.add(Kind::AcknowledgementLost, &job.id, what);
        } else if there > 0 && matches!(op.request.what.lines(), Lines::Free(_)) {
            found.add(Kind::Torn, &job.id, format!("of {} lines of request {}, {there} are there", lines.len(), op.id));
        }
    }
}

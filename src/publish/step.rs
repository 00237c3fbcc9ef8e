//! From what a reader has to what there is: pure, so that all readers who stand at the same place share one step.
//!
//! Promises: every line after the cursor is told once and in order, or told as dropped; a state is told after the lines
//! that came with it, and the end after the last state. What a step tells never goes beyond the moment of the job it was
//! made from.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::{
    cursor::Cursor,
    frame::{Encoder, End, Format, Frame, Gap, Reason},
};
use crate::job::{Attempt, Document, Job, LogLine, Seq};

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// It has nothing, and wants the state first and then the lines after this one.
    Start {
        /// Whether it thought that it had something.
        is_reset: bool,
        seq: Seq,
    },
    /// It has what the cursor says.
    At(Cursor),
}

/// A piece of a stream.
#[derive(Debug)]
pub struct Step {
    texts: Vec<Bytes>,
    frames: u64,
    /// Where the reader stands afterwards.
    pub(super) to: Cursor,
    /// Whether nothing follows.
    pub(super) is_end: bool,
}

impl Step {
    /// Its texts, in order: one for each message, or one at the most in the other formats.
    pub fn texts(&self) -> &[Bytes] {
        &self.texts
    }

    /// How many frames it tells.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What holding it costs in memory, about.
    pub(super) fn weight(&self) -> u64 {
        const FIXED: usize = 64;
        self.texts.iter().map(|text| text.len() + FIXED).sum::<usize>() as u64 + FIXED as u64
    }

    /// The last step of a reader whose job has gone.
    pub(super) fn deleted(at: Cursor, attempt: Attempt, format: Format) -> Self {
        let mut encoder = Encoder::new(format);
        encoder.push(at, &Frame::End(End { attempt, reason: Reason::Deleted }));
        let (texts, frames) = encoder.finish();
        Self { texts, frames, to: at, is_end: true }
    }
}

impl Place {
    /// Whether there is anything to tell.
    pub(super) fn lacks(self, job: &Job) -> bool {
        match self {
            Self::Start { .. } => true,
            Self::At(cursor) => job.is_done() || cursor != Cursor::of(job),
        }
    }

    /// The line after which the next step tells lines, if it tells any.
    pub(super) fn lines_after(self, job: &Job) -> Option<Seq> {
        match self {
            Self::Start { .. } => None,
            Self::At(cursor) => (cursor.seq < job.log.count).then_some(cursor.seq),
        }
    }

    /// The next step towards a job; `lines` are some of its lines after [`Place::lines_after`]. None: all of those have
    /// been trimmed.
    pub(super) fn step(self, job: &Job, lines: &[LogLine], format: Format) -> Step {
        let mut encoder = Encoder::new(format);
        let (to, is_end) = match self {
            Self::Start { is_reset, seq } => {
                if is_reset {
                    // Whoever is cut off here comes back with nothing.
                    encoder.push(Cursor { version: 0, seq }, &Frame::Reset);
                }
                let to = Cursor { version: job.version, seq };
                encoder.push(to, &Frame::Job(&Document::new(job)));
                (to, false)
            }
            Self::At(cursor) => advance(cursor, job, lines, &mut encoder),
        };
        let (texts, frames) = encoder.finish();
        Step { texts, frames, to, is_end }
    }
}

fn advance(from: Cursor, job: &Job, lines: &[LogLine], encoder: &mut Encoder) -> (Cursor, bool) {
    let mut at = from;
    if at.seq < job.log.count {
        let present = lines.first().map_or(job.log.count + 1, |line| line.seq);
        if present > at.seq + 1 {
            let gap = Gap { from: at.seq + 1, to: present - 1 };
            at.seq = gap.to;
            encoder.push(at, &Frame::Dropped(gap));
        }
    }
    for line in lines {
        at.seq = line.seq;
        encoder.push(at, &Frame::Log(line));
    }
    if at.seq < job.log.count {
        return (at, false);
    }
    if at.version != job.version {
        let has_result = at.version > 0 && job.result_version <= at.version;
        let document = Document::new(job);
        at.version = job.version;
        encoder.push(at, &Frame::Job(&if has_result { document.without_result() } else { document }));
    }
    if job.is_done() {
        encoder.push(at, &Frame::End(End { attempt: job.attempt, reason: Reason::Done }));
    }
    (at, job.is_done())
}

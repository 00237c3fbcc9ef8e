//! The log of a job: numbered lines, who wrote how many, and what has been trimmed.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Limits,
    id::{Attempt, Malformed},
    time::Timestamp,
};

/// Number of a line within its job, from 1, or of a line within a writer's own count.
pub type Seq = u64;

/// A line of a log, as it was appended; never changes and never gets another number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogLine {
    /// Its number within the job, from 1.
    #[schema(value_type = u64, minimum = 1)]
    pub seq: Seq,
    /// When it arrived.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The attempt that wrote it.
    #[schema(value_type = u32, minimum = 1)]
    pub attempt: Attempt,
    /// The text, without line breaks, within the limit.
    #[serde(rename = "line")]
    #[schema(value_type = String)]
    pub text: Arc<str>,
}

/// Name of one of a job's log writers: 1-64 bytes of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer(Arc<str>);

impl Writer {
    /// The name as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Writer {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if (1..=64).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed("1 to 64 bytes of text without control characters"))
        }
    }
}

/// Where lines stand in their writer's own count, so that a repeated append adds nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Who counts.
    pub writer: Writer,
    /// The number of the first line in the writer's count for this attempt, from 1.
    pub seq: Seq,
}

/// Lines on their way into a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// The lines, made fit by [`Lines::push`].
    pub texts: Vec<Arc<str>>,
    /// Where they stand in their writer's count, if it counts.
    pub origin: Option<Origin>,
}

impl Lines {
    /// Adds one line: breaks inside become `␊` and `␍`, and what is over the limit is cut and says so.
    pub fn push(&mut self, text: &str, limits: &Limits) {
        self.texts.push(fit(text, limits.line_bytes_max));
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What a queue is charged for holding them, in bytes.
    pub fn weight(&self) -> usize {
        self.texts.iter().map(|text| text.len() + size_of::<Arc<str>>()).sum()
    }
}

fn fit(text: &str, bytes_max: usize) -> Arc<str> {
    const CUT: &str = "…[cut]";
    let whole: Cow<'_, str> =
        if text.contains(['\n', '\r']) { text.replace('\n', "␊").replace('\r', "␍").into() } else { text.into() };
    if whole.len() <= bytes_max {
        return whole.into();
    }
    let kept = whole.floor_char_boundary(bytes_max.saturating_sub(CUT.len()));
    format!("{}{CUT}", &whole[..kept]).into()
}

/// A line for a terminal: control characters are shown as pictures, so that no text of a worker can command it.
pub fn printable(text: &str) -> Cow<'_, str> {
    let forges = |c: char| c != '\t' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    if !text.contains(forges) {
        return text.into();
    }
    let picture = |c: char| match c {
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '␡',
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(|c| if forges(c) { picture(c) } else { c }).collect::<String>().into()
}

/// Trimming by bytes goes in steps of this part of the limit; a full log carries at most about twice as many marks.
pub const LINES_MARKS: u64 = 16;

/// A known point of the log: before the line `seq`, `written` bytes had ever been appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the line that follows.
    pub seq: Seq,
    /// Bytes of text ever appended before it.
    pub written: u64,
}

/// The counters of a log. The lines themselves are the engine's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogWindow {
    /// Lines ever appended; never goes down.
    pub count: Seq,
    /// Lines trimmed from the front; the first one kept is the next.
    pub dropped: Seq,
    /// Bytes of text ever appended.
    pub written: u64,
    /// Where trimming by bytes can stop, oldest first; the first one is at or before the first kept line. Between two of
    /// them is a single line, or no more than a step.
    pub marks: Vec<Mark>,
    /// How many lines each writer of this attempt has appended.
    pub writers: Vec<(Writer, Seq)>,
}

impl LogWindow {
    /// The number of the first line that is kept, or would be the next if none is.
    pub fn first(&self) -> Seq {
        self.dropped + 1
    }

    /// How many lines this writer has appended in this attempt.
    pub(super) fn written_by(&self, writer: &Writer) -> Seq {
        self.writers.iter().find(|(name, _)| name == writer).map_or(0, |(_, count)| *count)
    }

    /// Numbers and stamps lines, counts them and trims what goes over the limits.
    pub(super) fn append(
        &mut self,
        texts: &[Arc<str>],
        attempt: Attempt,
        limits: &Limits,
        now: Timestamp,
    ) -> Vec<LogLine> {
        let step = (limits.job_log_bytes_max / LINES_MARKS).max(1);
        let lines = texts.iter().map(|text| {
            let open = self.written - self.marks.last().map_or(0, |mark| mark.written);
            if open > 0 && open + text.len() as u64 > step {
                self.marks.push(Mark { seq: self.count + 1, written: self.written });
            }
            self.count += 1;
            self.written += text.len() as u64;
            LogLine { seq: self.count, at: now, attempt, text: text.clone() }
        });
        let lines = lines.collect();
        self.trim(limits);
        lines
    }

    /// Lines go by their number, exactly; bytes go from mark to mark, since only there the sum is known.
    fn trim(&mut self, limits: &Limits) {
        self.dropped = self.dropped.max(self.count.saturating_sub(limits.job_lines_max));
        // Bytes before the first kept line, as far as a mark tells: never more than there really were.
        let mut base = 0;
        let mut passed = 0;
        for (index, mark) in self.marks.iter().enumerate() {
            let over = self.written - base > limits.job_log_bytes_max;
            if mark.seq <= self.first() || over {
                self.dropped = self.dropped.max(mark.seq - 1);
                base = mark.written;
                passed = index;
            } else {
                break;
            }
        }
        self.marks.drain(..passed);
    }
}

//! Where a reader of a job stands.

use std::fmt;

use crate::job::{Job, Seq, Version, digits};

/// What a reader has of a job: the state of a version, and the log up to a line. Outlives connections and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The version of the last state it was sent; 0: none yet.
    pub version: Version,
    /// The number of the last line it was sent; 0: none yet.
    pub seq: Seq,
}

impl Cursor {
    /// The newest there is of a job.
    pub(super) fn of(job: &Job) -> Self {
        Self { version: job.version, seq: job.log.count }
    }

    /// Whether somebody who has the other one may have had this one earlier.
    pub(super) fn is_within(self, other: Self) -> bool {
        self.version <= other.version && self.seq <= other.seq
    }

    /// The cursor that `<version>.<seq>` stands for; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, seq) = text.split_once('.')?;
        Some(Self { version: digits(version)?, seq: digits(seq)? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_nothing_else_is() {
        for cursor in
            [Cursor { version: 0, seq: 0 }, Cursor { version: 12, seq: 17 }, Cursor { version: 1, seq: u64::MAX }]
        {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", ".", "1", "1.", ".1", "+1.2", "1.-2", "1.2.3", "1. 2", "a.b", "1.18446744073709551616", "v1.2"]
        {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}

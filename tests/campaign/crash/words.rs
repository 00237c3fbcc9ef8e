//! The texts that requests leave in a job, so that whatever is seen there tells which request it came from.
//!
//! Promises: two requests never leave the same text; what is read back is recognised only when every byte of it is as it
//! was sent.

use std::fmt;

use serde_json::{Value, json};

use super::history::OpId;

/// What a stage, a result or a label holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// Null.
    Nothing,
    /// What this request put there.
    Of(OpId),
    /// What nobody sent, or no longer what was sent.
    Foreign(Box<str>),
}

/// What a line of a log holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// A line of a request whose writer does not count.
    Free { op: OpId, index: u32 },
    /// A line with its place in its writer's own count.
    Counted { writer: u32, seq: u64 },
    /// What nobody sent, or no longer what was sent.
    Foreign(Box<str>),
}

impl Mark {
    pub(super) fn of_stage(text: &str) -> Self {
        Self::recognise(text, "stage ", stage)
    }

    pub(super) fn of_origin(text: &str) -> Self {
        Self::recognise(text, "origin ", origin)
    }

    pub(super) fn of_result(value: &Value) -> Self {
        let op = value.get("op").and_then(Value::as_u64).and_then(|op| OpId::try_from(op).ok());
        match op {
            _ if value.is_null() => Self::Nothing,
            Some(op) if *value == result(op) => Self::Of(op),
            _ => Self::Foreign(value.to_string().into()),
        }
    }

    fn recognise(text: &str, prefix: &str, render: fn(OpId) -> String) -> Self {
        match number::<OpId>(text, prefix) {
            Some(op) if text == render(op) => Self::Of(op),
            _ => Self::Foreign(text.into()),
        }
    }
}

impl Line {
    pub(super) fn of(text: &str) -> Self {
        let free = || {
            let (op, rest) = text.strip_prefix("line ")?.split_once('.')?;
            Some(Self::Free { op: op.parse().ok()?, index: number(rest, "")? })
        };
        let counted = || {
            let (writer, rest) = text.strip_prefix("writer ")?.split_once('#')?;
            Some(Self::Counted { writer: writer.parse().ok()?, seq: number(rest, "")? })
        };
        match free().or_else(counted) {
            Some(line) if line.to_string() == text => line,
            _ => Self::Foreign(text.into()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free { op, index } => write!(f, "line {op}.{index} {}", padding(u64::from(op ^ index), 60)),
            Self::Counted { writer, seq } => write!(f, "writer {writer}#{seq} {}", padding(seq * 31, 60)),
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

pub(super) fn stage(op: OpId) -> String {
    format!("stage {op} {}", padding(u64::from(op), 40))
}

pub(super) fn origin(op: OpId) -> String {
    format!("origin {op}")
}

/// Mostly small; some fill a few pages of the store.
pub(super) fn result(op: OpId) -> Value {
    let length = if op.is_multiple_of(61) { 8_000 } else { 80 };
    json!({"op": op, "of": padding(u64::from(op), length), "half": 0.5, "deep": [{"a": null}, []]})
}

/// Some text of its own for each number, and of a length that differs.
fn padding(number: u64, length_max: u64) -> String {
    let length = 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % length_max;
    let letters = "abcdefghijklmnopqrstuvwxyzäöü␊€😀".chars().cycle().skip(number as usize % 32);
    letters.take(length as usize).collect()
}

fn number<N: std::str::FromStr>(text: &str, prefix: &str) -> Option<N> {
    text.strip_prefix(prefix)?.split(' ').next()?.parse().ok()
}

#[test]
fn what_is_sent_is_recognised_and_nothing_else_is() {
    for op in 0..200 {
        assert_eq!(Mark::of_stage(&stage(op)), Mark::Of(op));
        assert_eq!(Mark::of_origin(&origin(op)), Mark::Of(op));
        assert_eq!(Mark::of_result(&result(op)), Mark::Of(op));
        let free = Line::Free { op, index: op % 7 };
        let counted = Line::Counted { writer: op % 7, seq: u64::from(op) };
        for line in [free, counted] {
            let text = line.to_string();
            assert_eq!(Line::of(&text), line);
            assert!(matches!(Line::of(&format!("{text} ")), Line::Foreign(_)));
        }
    }
    assert_eq!(Mark::of_result(&Value::Null), Mark::Nothing);
    assert!(matches!(Mark::of_result(&json!({"op": 3})), Mark::Foreign(_)));
    assert!(matches!(Mark::of_stage("stage 3"), Mark::Foreign(_)));
}

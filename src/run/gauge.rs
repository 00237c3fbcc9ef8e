//! How far a command has come, read from what it prints.
//!
//! Promises: a percentage from 0 to 100 that never goes down but where a new stage begins, and nothing when nothing
//! is known. Pure: the same lines give the same progress.
//! Must not know where the lines come from, nor whom they are told.

mod ffmpeg;
mod shown;

use regex::Regex;

use self::{
    ffmpeg::Ffmpeg,
    shown::{percentage, tqdm},
};

/// How progress is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Instead of all that is known of ffmpeg and the like: one group is a percentage, two are what is done and of how much.
    pub(super) progress: Option<Regex>,
    /// The first group is the stage that begins.
    pub(super) stage: Option<Regex>,
    /// How long the output of an ffmpeg will be, where it does not know.
    pub(super) duration_seconds: Option<f64>,
}

/// Where the command is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Position {
    /// How far, in percent.
    pub(super) pct: Option<f64>,
    /// The step that it is in.
    pub(super) stage: Option<String>,
}

/// Reads where a command is.
#[derive(Debug)]
pub(super) struct Gauge {
    reading: Reading,
    ffmpeg: Ffmpeg,
    at: Position,
    /// How trustworthy what was read is; what is less so is not looked at any more.
    trust: u8,
}

impl Gauge {
    /// The longest stage that the service takes.
    const STAGE_BYTES_MAX: usize = 256;

    pub(super) fn new(reading: Reading) -> Self {
        let ffmpeg = Ffmpeg::new(reading.duration_seconds);
        Self { reading, ffmpeg, at: Position::default(), trust: 0 }
    }

    /// Where the command is after this line, or state of a line, if that is news.
    pub(super) fn read(&mut self, line: &str) -> Option<Position> {
        let begins = self.begin_stage(line);
        let moves = match self.percent(line) {
            Some(pct) if self.at.pct.is_none_or(|before| pct > before) => {
                self.at.pct = Some(pct);
                true
            }
            Some(_) | None => false,
        };
        (begins || moves).then(|| self.at.clone())
    }

    fn begin_stage(&mut self, line: &str) -> bool {
        let group = self.reading.stage.as_ref().and_then(|regex| regex.captures(line)).and_then(|found| found.get(1));
        let Some(name) = group else { return false };
        let name: String = name.as_str().chars().filter(|c| !c.is_control()).collect();
        let name = &name[..name.floor_char_boundary(Self::STAGE_BYTES_MAX)];
        if self.at.stage.as_deref() == Some(name) {
            return false;
        }
        self.at = Position { pct: self.at.pct.map(|_| 0.0), stage: Some(name.to_owned()) };
        true
    }

    fn percent(&mut self, line: &str) -> Option<f64> {
        if let Some(regex) = &self.reading.progress {
            let found = regex.captures(line)?;
            let number = |group| found.get(group)?.as_str().trim().replace(',', ".").parse::<f64>().ok();
            return match number(2) {
                Some(total) => part(number(1)?, total),
                None => part(number(1)?, 100.0),
            };
        }
        let read = self.ffmpeg.read(line).map(|pct| (3, pct));
        let read = read.or_else(|| tqdm(line).map(|pct| (2, pct)));
        let (trust, pct) = read.or_else(|| percentage(line).map(|pct| (1, pct)))?;
        if trust < self.trust {
            return None;
        }
        if trust > self.trust {
            // What was taken for progress before was none.
            self.at.pct = None;
        }
        self.trust = trust;
        Some(pct)
    }
}

/// What is done of a whole, in percent with two decimals; None when it is no part.
fn part(done: f64, total: f64) -> Option<f64> {
    let pct = (done / total * 10_000.0).round() / 100.0;
    (total > 0.0 && (0.0..=100.0).contains(&pct)).then_some(pct)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(reading: Reading, lines: &[&str]) -> Vec<f64> {
        let mut gauge = Gauge::new(reading);
        lines.iter().filter_map(|line| gauge.read(line)).filter_map(|at| at.pct).collect()
    }

    fn with(progress: &str) -> Reading {
        Reading { progress: Some(Regex::new(progress).unwrap()), ..Reading::default() }
    }

    #[test]
    fn progress_only_rises() {
        assert_eq!(read(Reading::default(), &["10%", "40%", "20%", "50%", "50%", "120%"]), [10.0, 40.0, 50.0]);
    }

    #[test]
    fn what_is_surer_is_believed() {
        let lines = ["saved 80%", "Duration: 00:00:10.00, start", "time=00:00:05.00 bitrate", "90% faster"];
        assert_eq!(read(Reading::default(), &lines), [80.0, 50.0]);
    }

    #[test]
    fn an_expression_of_ones_own_is_the_only_one() {
        assert_eq!(read(with(r"at (\S+) percent"), &["50%", "at 12.5 percent", "at x percent"]), [12.5]);
        assert_eq!(read(with(r"(\d+) of (\d+)"), &["1 of 8", "9 of 8", "0 of 0", "8 of 8"]), [12.5, 100.0]);
    }

    #[test]
    fn a_new_stage_begins_at_nothing() {
        let stage = Some(Regex::new("^== (.*) ==$").unwrap());
        let mut gauge = Gauge::new(Reading { stage, ..Reading::default() });
        assert_eq!(gauge.read("50%").unwrap().pct, Some(50.0));
        let at = gauge.read("== Matting ==").unwrap();
        assert_eq!(at, Position { pct: Some(0.0), stage: Some("Matting".into()) });
        assert_eq!(gauge.read("== Matting =="), None);
        assert_eq!(gauge.read("20%").unwrap().pct, Some(20.0));
    }

    proptest! {
        #[test]
        fn whatever_is_printed_progress_is_a_percentage_that_rises(
            lines in prop::collection::vec("(Duration: 00:00:0[0-9].00|time=0[0-9]:00:0[0-9].5|[0-9]{1,4}%|[0-9]{1,3}%\\|##\\| [0-9]/[0-9]|out_time_us=-?[0-9]{1,8}|.{0,12}|)", 0..20)
        ) {
            let mut gauge = Gauge::new(Reading::default());
            let (mut last, mut trust) = (0.0, 0);
            for line in lines {
                if let Some(pct) = gauge.read(&line).and_then(|at| at.pct) {
                    prop_assert!((0.0..=100.0).contains(&pct), "{pct}");
                    prop_assert!(pct >= last || gauge.trust > trust, "{pct} after {last}");
                    (last, trust) = (pct, gauge.trust);
                }
            }
        }
    }
}

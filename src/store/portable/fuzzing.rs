//! Exports, for fuzzers; see `fuzzing.rs`.
//!
//! Promises that are looked at here: a text of any kind is taken or refused with the number of its line; what is taken
//! is written so that the same is taken again, and then for ever the same text.

use std::sync::Arc;

use super::{Complete, Decoder, Encoder};
use crate::{
    engine::Exported,
    job::{History, Job, Json, LogLine, Timestamp},
};

/// Reads the records of an export, without its header; the jobs that are complete.
pub(crate) fn jobs(records: &[u8]) -> Vec<Complete> {
    let Ok(jobs) = taken(records) else { return Vec::new() };
    let text = written(&jobs);
    let (text_again, jobs_again) = match taken(&text) {
        Ok(jobs) => (written(&jobs), jobs),
        Err(why) => panic!("{why}: {}", String::from_utf8_lossy(&text)),
    };
    assert_eq!(String::from_utf8_lossy(&text_again), String::from_utf8_lossy(&text));
    assert_eq!(format!("{jobs_again:?}"), format!("{jobs:?}"));
    jobs
}

/// A job is in an export as it is, with these lines.
pub(crate) fn carried(job: &Arc<Job>, input: Option<&Json>, history: &History, lines: &[LogLine]) {
    let ends = job.last_end().into_iter().collect();
    let history = History { ends, ..history.clone() };
    let pieces = [Exported::Job(job.clone(), input.cloned(), history.clone()), Exported::Lines(lines.to_vec())];
    let text = encoded(pieces.iter());
    let jobs = match taken(&text) {
        Ok(jobs) => jobs,
        Err(why) => panic!("{why}: {}", String::from_utf8_lossy(&text)),
    };
    let [back] = &*jobs else { panic!("{} jobs instead of one", jobs.len()) };
    assert_eq!((&back.job, back.input.as_ref(), &back.history), (job, input, &history));
    assert_eq!(back.lines.concat(), lines);
}

/// The jobs, or why they are refused.
fn taken(records: &[u8]) -> Result<Vec<Complete>, String> {
    let mut decoder = Decoder::new();
    let header = decoder.line(br#"{"milepost_export":1,"exported_at":"2026-11-23T08:00:00.000Z"}"#);
    assert!(header.is_ok_and(|none| none.is_none()));
    let (mut jobs, mut number) = (Vec::new(), 1);
    for line in records.split(|byte| *byte == b'\n') {
        number += 1;
        match decoder.line(line) {
            Ok(complete) => jobs.extend(complete),
            Err(invalid) => {
                assert_eq!(invalid.line, number);
                return Err(invalid.to_string());
            }
        }
    }
    decoder.finish().map(|_| jobs).map_err(|incomplete| incomplete.to_string())
}

fn written(jobs: &[Complete]) -> Vec<u8> {
    let pieces = jobs.iter().flat_map(|complete| {
        let Complete { job, input, history, lines, .. } = complete;
        let lines = lines.iter().map(|lines| Exported::Lines(lines.to_vec()));
        std::iter::once(Exported::Job(job.clone(), input.clone(), history.clone())).chain(lines)
    });
    let pieces: Vec<_> = pieces.collect();
    encoded(pieces.iter())
}

/// The records of an export of these, without its header and without the last line break.
fn encoded<'a>(pieces: impl Iterator<Item = &'a Exported>) -> Vec<u8> {
    let mut encoder = Encoder::new(Timestamp(0));
    pieces.for_each(|piece| encoder.push(piece));
    let text = encoder.finish();
    let records = text.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
    records.trim_ascii_end().to_vec()
}

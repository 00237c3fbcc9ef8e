//! Doors for fuzzers to all that reads the bytes of strangers. They are in no program: only tests have them, and what is
//! built with `--cfg fuzzing`, as cargo-fuzz does.
//!
//! Promises: each door takes any bytes, needs nothing around it, and panics when something is wrong; not only when what it
//! calls does, but also when that breaks its word. `fuzz/` has a program for each, and the corpora from which they start.

mod lives;
#[cfg(test)]
mod tests;

use self::lives::Life;
use crate::{app, config, engine, http, job::Lines, store::portable};

/// A door.
pub type Door = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const DOORS: [(&str, Door); 7] = [
    ("bodies", bodies),
    ("words", words),
    ("lines", lines),
    ("frames", frames),
    ("records", records),
    ("exports", exports),
    ("configuration", configuration),
];

/// No text has this byte.
const BETWEEN: u8 = 0xff;

/// Bodies of requests, each after a letter for its sort; what they ask for is done to jobs, one after the other.
pub fn bodies(data: &[u8]) {
    let mut lives = Life::samples();
    for part in data.split(|byte| *byte == BETWEEN) {
        let Some((sort, body)) = part.split_first() else { continue };
        if let Some(asked) = http::fuzzing::body(*sort, body) {
            lives.iter_mut().for_each(|life| life.meet(&asked));
        }
    }
    lives.iter().for_each(Life::hold);
}

/// Cursors, tags, queries and headers, after a letter for which of them.
pub fn words(data: &[u8]) {
    if let Some((sort, word)) = data.split_first() {
        http::fuzzing::word(*sort, word);
    }
}

/// Log lines and operations of a batch on their way in.
pub fn lines(data: &[u8]) {
    http::fuzzing::appended(data);
    http::fuzzing::batched(data);
}

/// Texts of a job and of its log on their way out.
pub fn frames(data: &[u8]) {
    let texts: Vec<_> = data.split(|byte| *byte == BETWEEN).map(String::from_utf8_lossy).collect();
    let mut lines = Lines::default();
    texts.iter().for_each(|text| lines.push(text, &http::fuzzing::limits()));
    let [mut queued, .., mut done] = Life::samples();
    queued.say(&lines, &texts[0]);
    done.say(&lines, &texts[0]);
}

/// A value as a store has it, after a letter for its table.
pub fn records(data: &[u8]) {
    if let Some((sort, value)) = data.split_first() {
        for life in Life::samples() {
            engine::fuzzing::value(*sort, value, life.job());
        }
    }
}

/// Records of an export. The jobs in it can be told and go on living.
pub fn exports(data: &[u8]) {
    for complete in portable::fuzzing::jobs(data) {
        Life::imported(&complete).go_on();
    }
}

/// A configuration file; what it makes of the service can be put together.
pub fn configuration(data: &[u8]) {
    for config in config::fuzzing::configuration(&String::from_utf8_lossy(data)) {
        app::settle(&config);
    }
}

//! The short form of `make fuzz`: every input of the corpora, and what becomes of it with some mistakes, at each door.

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

use super::*;
use crate::job::Json;

/// Inputs that each door is tried with.
const CASES: u32 = 300;

/// What goes wrong with an input.
#[derive(Clone, Debug)]
enum Mistake {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, Index),
    /// A part of it comes twice.
    Repeat(Index, Index),
    /// It goes on as another one does.
    Splice(Index, Index, Index),
}

fn mistake() -> impl Strategy<Value = Mistake> {
    let word = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 1..4),
        1 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mistake::Flip(at, bit)),
        (any::<Index>(), word).prop_map(|(at, bytes)| Mistake::Insert(at, bytes)),
        any::<(Index, Index)>().prop_map(|(from, to)| Mistake::Delete(from, to)),
        any::<(Index, Index)>().prop_map(|(from, to)| Mistake::Repeat(from, to)),
        any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Mistake::Splice(at, other, from)),
    ]
}

/// What breaks lines, numbers, strings and nesting.
const WORDS: &[&str] = &[
    "\n",
    "\r\n",
    "\r",
    "\u{2028}",
    "\0",
    "\\u0000",
    "\\ud800",
    "null",
    "-0.0",
    "1e400",
    "9007199254740993",
    "18446744073709551615",
    "[[[[[[[[[",
    "{\"a\":{}}",
    "\"",
    "❤",
    "\u{ff}",
    ",",
    ":",
    "%0A",
    "+",
    ".",
    "\"v1\"",
];

impl Mistake {
    fn make(&self, input: &mut Vec<u8>, corpus: &[(String, Vec<u8>)]) {
        let place = |index: &Index| index.index(input.len() + 1);
        match self {
            Self::Flip(..) if input.is_empty() => {}
            Self::Flip(at, bit) => {
                let at = at.index(input.len());
                input[at] ^= 1 << bit;
            }
            Self::Insert(at, bytes) => {
                let at = place(at);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Delete(from, to) | Self::Repeat(from, to) => {
                let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
                let again = if matches!(self, Self::Delete(..)) { Vec::new() } else { input[from..to].repeat(2) };
                input.splice(from..to, again);
            }
            Self::Splice(at, other, from) => {
                input.truncate(place(at));
                let (_, other) = other.get(corpus);
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

fn corpus(door: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpora().join(door);
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.display().to_string(), fs::read(path).unwrap())
    };
    let mut inputs: Vec<_> = fs::read_dir(folder).unwrap().map(file).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{door} has no corpus");
    inputs
}

fn corpora() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus"].iter().collect()
}

fn door(name: &str) -> Door {
    DOORS.iter().find(|(door, _)| *door == name).unwrap().1
}

/// The corpus as it is, and with mistakes.
fn passes(name: &str) {
    let (door, corpus) = (door(name), corpus(name));
    for (path, input) in &corpus {
        println!("{path}");
        door(input);
    }
    let inputs = (any::<Index>(), prop::collection::vec(mistake(), 0..5));
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&inputs, |(start, mistakes)| {
        let mut input = start.get(&corpus).1.clone();
        mistakes.iter().for_each(|mistake| mistake.make(&mut input, &corpus));
        // To be added to the corpus when it does not pass.
        println!("\"{}\"", input.escape_ascii());
        door(&input);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn bodies_are_taken_or_refused_and_what_they_do_holds() {
    passes("bodies");
}

#[test]
fn words_mean_the_same_however_they_are_written() {
    passes("words");
}

#[test]
fn lines_begin_and_end_where_they_were_meant_to() {
    passes("lines");
}

#[test]
fn frames_are_read_as_they_were_meant_whatever_is_in_them() {
    passes("frames");
}

#[test]
fn records_are_read_or_named_as_damaged() {
    passes("records");
}

#[test]
fn exports_are_taken_or_refused_and_their_jobs_live_on() {
    passes("exports");
}

#[test]
fn configurations_are_taken_or_refused() {
    passes("configuration");
}

#[test]
fn every_door_has_a_program_and_a_corpus_and_nothing_else_has() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(folder).unwrap().map(|entry| name(entry).trim_end_matches(".rs").to_owned()).collect()
    };
    let doors: BTreeSet<_> = DOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(corpora()), doors);
    assert_eq!(names(corpora().with_file_name("fuzz_targets")), doors);
}

/// The negative control: a value with a line break in it, which none may have, is found out.
#[test]
#[should_panic(expected = "a field that nobody sent")]
fn a_value_that_ends_its_frame_is_found_out() {
    let [life, ..] = Life::samples();
    let result = Some(Json::from_text("[1,\r\"2\"]".to_owned()).unwrap());
    crate::publish::fuzzing::told(&crate::job::Job { result, ..life.job().clone() }, &[]);
}

/// The negative control: a job that leaves a store otherwise than it came is found out.
#[test]
#[should_panic(expected = "left: ")]
fn a_job_that_is_another_one_afterwards_is_found_out() {
    let [life, ..] = Life::samples();
    // An export leaves a timeline out that has no entries.
    let timeline = crate::job::TimelineEnd { stages: 3, ..Default::default() };
    let job = crate::job::Job { timeline, ..life.job().clone() };
    crate::store::portable::fuzzing::carried(&job.into(), None, &Default::default(), &[]);
}

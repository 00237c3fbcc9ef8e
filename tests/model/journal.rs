//! Log lines: their numbers, what is trimmed, and writers that count.

use milepost::job::{Applied, Job, Rejection};
use proptest::{collection::vec, prelude::*};

use super::{
    steps::{config, line, story},
    wire::{ask, plain, processing, put, said, to, wide},
    words::{Ask, Line, Refusal, Report, Rules, Sent},
};

/// A job, and every line its log ever took.
struct Journal {
    rules: Rules,
    job: Job,
    lines: Vec<Line>,
}

impl Journal {
    fn new(rules: Rules) -> Self {
        Self { job: processing(&rules), rules, lines: Vec::new() }
    }

    fn append(&mut self, sent: Sent) -> Result<Applied, Rejection> {
        let applied = put(&self.job, &ask(Ask::Append(sent, Report::default())), &self.rules)?;
        self.job = applied.next.clone();
        self.lines.extend(applied.lines.iter().map(plain));
        Ok(applied)
    }

    /// Appends lines of these lengths.
    fn append_lengths(&mut self, lengths: &[usize]) {
        let lines = lengths.iter().map(|&length| "x".repeat(length)).collect();
        self.append(Sent { lines, writer: None }).unwrap();
    }

    /// Appends a writer's lines, of which the first has this number.
    fn count(&mut self, writer: &str, seq: u64, lines: &[String]) -> Result<Applied, Rejection> {
        self.append(Sent { lines: lines.to_vec(), writer: Some((writer.to_owned(), seq)) })
    }

    /// The bytes of each kept line that has any.
    fn kept(&self) -> Vec<u64> {
        let lines = self.lines.iter().skip(self.job.log.dropped as usize);
        lines.map(|line| line.text.len() as u64).filter(|&bytes| bytes > 0).collect()
    }
}

/// Lengths of lines, in batches; most lines are short, some are as long as the limit or longer.
fn batches(limit: u64) -> impl Strategy<Value = Vec<Vec<usize>>> {
    let limit = limit as usize;
    let length = prop_oneof![8 => 0..=limit / 16, 2 => 0..=limit / 4, 1 => limit * 7 / 8..=limit * 9 / 8];
    vec(vec(length, 0..8), 1..40)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn line_numbers_have_no_hole_and_dropped_never_falls(story in story()) {
        let mut next = story.birth.lines.len() as u64 + 1;
        for scene in story.play() {
            for line in scene.outcome.iter().flat_map(|applied| applied.lines.iter()) {
                prop_assert_eq!(line.seq, next, "not the next number: {:?}", scene.request);
                next += 1;
            }
            let (before, after) = (&scene.before.log, &scene.after().log);
            prop_assert_eq!(after.count, next - 1, "log_count is not the last number: {:?}", scene.request);
            prop_assert!(after.dropped >= before.dropped, "`dropped` fell: {:?}", scene.request);
            prop_assert!(after.dropped <= after.count, "more is dropped than there was: {:?}", scene.request);
        }
    }

    #[test]
    fn lines_over_job_lines_max_go_exactly(max in 0..20_u64, batches in vec(vec(line(), 0..8), 1..20)) {
        let mut journal = Journal::new(Rules { job_lines_max: max, ..wide() });
        for lines in batches {
            journal.append(Sent { lines, writer: None }).unwrap();
            let log = &journal.job.log;
            prop_assert_eq!(log.dropped, log.count.saturating_sub(max), "not the newest {} lines are kept", max);
        }
    }

    #[test]
    fn bytes_over_job_log_bytes_max_go_unless_one_line_alone_has_them(
        (limit, batches) in (1..2000_u64).prop_flat_map(|limit| (Just(limit), batches(limit))),
    ) {
        let mut journal =
            Journal::new(Rules { job_log_bytes_max: limit, line_bytes_max: 4096, ..wide() });
        for lengths in batches {
            journal.append_lengths(&lengths);
            let kept = journal.kept();
            let bytes: u64 = kept.iter().sum();
            prop_assert!(bytes <= limit || kept.len() == 1, "{:?} are kept, over {}", kept, limit);
        }
    }

    #[test]
    fn of_small_lines_14_sixteenths_of_the_limit_are_kept_and_a_few_marks(
        (limit, batches) in (160..2000_u64).prop_flat_map(|limit| {
            (Just(limit), vec(vec(0..=limit as usize / 80, 0..40), 1..40))
        }),
    ) {
        let mut journal = Journal::new(Rules { job_log_bytes_max: limit, ..wide() });
        for lengths in batches {
            journal.append_lengths(&lengths);
            let log = &journal.job.log;
            let bytes: u64 = journal.kept().iter().sum();
            prop_assert!(log.dropped == 0 || bytes * 16 >= limit * 14, "only {} bytes are kept of {}", bytes, limit);
            prop_assert!(log.marks.len() <= 34, "{} marks for a log of {} bytes", log.marks.len(), limit);
        }
    }

    #[test]
    fn under_other_limits_than_before_numbers_and_dropped_only_rise(
        steps in vec((0..20_u64, 0..400_u64, vec(0..40_usize, 0..8)), 1..20),
    ) {
        let mut journal = Journal::new(wide());
        for (job_lines_max, job_log_bytes_max, lengths) in steps {
            let (before, version) = (journal.job.log.clone(), journal.job.version);
            journal.rules = Rules { job_lines_max, job_log_bytes_max, ..wide() };
            journal.append_lengths(&lengths);
            let after = &journal.job.log;
            let seen = (after.count, after.dropped) != (before.count, before.dropped);
            prop_assert_eq!(journal.job.version, version + u64::from(seen), "readers see what is trimmed");
            prop_assert_eq!(after.count, before.count + lengths.len() as u64);
            prop_assert!(after.dropped >= before.dropped.max(after.count.saturating_sub(job_lines_max)));
            prop_assert!(journal.lines.iter().map(|line| line.seq).eq(1..=after.count));
        }
    }

    #[test]
    fn counted_lines_sent_any_number_of_times_stand_once_and_in_order(
        texts in vec("[a-z ]{0,8}", 1..30),
        sends in vec((select_writer(), 1..30_u64, 0..10_usize), 0..40),
        job_lines_max in 1..30_u64,
    ) {
        let mut journal = Journal::new(Rules { job_lines_max, ..wide() });
        let own = |writer: &str| texts.iter().map(|text| format!("{writer}: {text}")).collect::<Vec<_>>();
        let mut counts = std::collections::BTreeMap::from([("stdout", 0), ("stderr", 0)]);
        // At last, everything that may not have come yet.
        let rest = [("stdout", 1, texts.len()), ("stderr", 1, texts.len())];
        for (writer, first, lines) in sends.into_iter().chain(rest) {
            let lines: Vec<_> = own(writer).into_iter().skip(first as usize - 1).take(lines).collect();
            let count = counts.get_mut(writer).unwrap();
            let before = journal.job.clone();
            let answer = journal.count(writer, first, &lines);
            if first > *count + 1 && !lines.is_empty() {
                let expected = *count + 1;
                prop_assert_eq!(answer, Err(Rejection::LogGap { expected }), "a hole was taken");
                continue;
            }
            let applied = answer.unwrap();
            let last = first - 1 + lines.len() as u64;
            let new = last.saturating_sub(*count).min(lines.len() as u64);
            prop_assert_eq!(applied.lines.len() as u64, new, "lines {}..={} after {}", first, last, count);
            prop_assert_eq!(applied.duplicates, lines.len() as u64 - new, "lines {}..={} after {}", first, last, count);
            prop_assert_eq!(applied.changed, new > 0, "known lines change nothing");
            prop_assert!(new > 0 || applied.next == before, "known lines change nothing");
            *count += new;
        }
        for writer in ["stdout", "stderr"] {
            let stands = journal.lines.iter().map(|line| &line.text).filter(|text| text.starts_with(writer));
            prop_assert!(stands.eq(&own(writer)), "not each line of {} once and in order", writer);
        }
    }
}

fn select_writer() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("stdout"), Just("stderr")]
}

#[test]
fn a_long_line_after_a_short_one_does_not_keep_both_over_the_limit() {
    let mut journal = Journal::new(Rules { job_log_bytes_max: 160, ..wide() });
    journal.append_lengths(&[100, 9, 155]);
    assert_eq!(journal.kept(), [155]);
    journal.append_lengths(&[5]);
    assert_eq!(journal.kept(), [155, 5]);
}

#[test]
fn a_line_over_the_limit_stands_alone_until_the_next() {
    let mut journal = Journal::new(Rules { job_log_bytes_max: 100, ..wide() });
    journal.append_lengths(&[50, 300]);
    assert_eq!(journal.kept(), [300]);
    journal.append_lengths(&[1]);
    assert_eq!(journal.kept(), [1]);
}

#[test]
fn an_attempt_has_so_many_writers_and_a_new_attempt_counts_anew() {
    let mut journal = Journal::new(Rules { writers_max: 2, ..wide() });
    let lines = ["a".to_owned(), "b".to_owned()];
    journal.count("w-1", 1, &lines).unwrap();
    journal.count("w-2", 1, &lines).unwrap();
    let refusal = journal.count("w-3", 1, &lines).unwrap_err();
    assert_eq!(Refusal::from(&refusal), Refusal::Invalid("writer"));
    assert_eq!(refusal.to_string(), "`writer` must be one of the 2 writers this attempt has already.");
    journal.count("w-3", 1, &[]).expect("nothing sent needs no count");
    journal.count("w-3", 9, &[]).expect("where nothing is sent, nothing is missing");
    journal.append(said(&["c"])).expect("who does not count is no writer");
    journal.count("w-1", 3, &lines).expect("known writers go on");

    journal.job = put(&journal.job, &to("queued"), &journal.rules).unwrap().next;
    let expected = 1;
    assert_eq!(journal.count("w-1", 5, &lines), Err(Rejection::LogGap { expected }));
    let applied = journal.count("w-3", 1, &lines).unwrap();
    assert_eq!((applied.lines.len(), applied.duplicates), (2, 0));
}

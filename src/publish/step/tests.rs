//! A reader that is cut off anywhere and comes back, against what the job and its log became.

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use serde_json::{Value, json};

use super::*;
use crate::{
    job::{
        Append, Change, Edit, Guard, JobId, JobKey, Json, Kind, Labels, Lines, NewJob, Patch, Progress, Retry, Seconds,
        Spec, Status, Tenant, Timestamp,
    },
    publish::frame::FrameFormat,
};

#[derive(Clone, Copy, Debug)]
enum Act {
    Lines(u8),
    Progress(u8),
    Result(u8),
    Finish,
    Retry,
    /// The reader takes a step towards the job as it was so many changes ago, of so many lines at the most, and its
    /// connection breaks after so many frames.
    Read {
        behind: usize,
        page: usize,
        frames: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..5_u8).prop_map(Act::Lines),
        2 => (0..100_u8).prop_map(Act::Progress),
        1 => (0..3_u8).prop_map(Act::Result),
        1 => Just(Act::Finish),
        1 => Just(Act::Retry),
        6 => (0..3_usize, 1..4_usize, 0..6_usize).prop_map(|(behind, page, frames)| Act::Read { behind, page, frames }),
    ]
}

fn limits() -> crate::job::Limits {
    crate::job::Limits {
        line_bytes_max: 100,
        job_lines_max: 6,
        job_log_bytes_max: 10_000,
        late_log_seconds: Seconds(60),
        result_bytes_max: 1000,
        error_bytes_max: 1000,
        writers_max: 4,
        cancel_grace_seconds: crate::job::Seconds(60),
        retention: crate::job::Retention::FOR_EVER,
    }
}

fn lines(count: u8) -> Lines {
    let mut lines = Lines::default();
    (0..count).for_each(|number| lines.push(&format!("a\nb\r{number}"), &limits()));
    lines
}

/// A job and everything that ever was in its log.
struct World {
    states: Vec<Job>,
    log: Vec<LogLine>,
}

impl World {
    fn new() -> Self {
        let spec =
            Spec::plain(JobKey { tenant: Tenant(0), id: JobId::try_from("j").unwrap() }, Kind::try_from("k").unwrap());
        let new =
            NewJob { spec, input: None, labels: Labels::default(), processing: true, stage: None, lines: lines(3) };
        let made = Job::create(&new, &limits(), Timestamp(0));
        Self { states: vec![made.next], log: made.lines.to_vec() }
    }

    fn now(&self) -> &Job {
        self.states.last().unwrap()
    }

    /// Makes a change, if the job takes it.
    fn change(&mut self, change: Change) {
        let guard = Guard { attempt: None, versions: None };
        if let Ok(applied) = self.now().apply(&change, &guard, &limits(), Timestamp(1)) {
            self.log.extend_from_slice(&applied.lines);
            self.states.push(applied.next);
        }
    }

    fn act(&mut self, act: Act) {
        let patch = Patch::default();
        self.change(match act {
            Act::Lines(count) => Change::Append(Append { lines: lines(count), progress: None, stage: Edit::Keep }),
            Act::Progress(percent) => {
                let progress = Progress::try_from(f64::from(percent)).unwrap();
                Change::Patch(Patch { progress: Some(progress), ..patch })
            }
            Act::Result(number) => {
                let result = Json::try_from(&json!({"n": number, "\r\n\u{2028}": "\r\n\u{2028}"})).unwrap();
                Change::Patch(Patch { result: Edit::Set(result), ..patch })
            }
            Act::Finish => Change::Patch(Patch { status: Some(Status::Completed), ..patch }),
            Act::Retry => Change::Retry(Retry { attempt: None }),
            Act::Read { .. } => return,
        });
    }

    /// A step from a place to the job as it was, with the lines that there still are.
    fn step(&self, place: Place, behind: usize, page: usize) -> Option<(Step, &Job)> {
        let job = &self.states[self.states.len().saturating_sub(behind + 1)];
        // The store never shows a reader an older state than it has seen.
        let is_older = match place {
            Place::Start { seq, .. } => seq > job.log.count,
            Place::At(at) => !at.is_within(Cursor::of(job)),
        };
        let job = if is_older { self.now() } else { job };
        if !place.lacks(job) {
            return None;
        }
        let lines = place.lines_after(job).map_or(Vec::new(), |after| {
            let present = |line: &&LogLine| line.seq > self.now().log.dropped.max(after) && line.seq <= job.log.count;
            self.log.iter().filter(present).take(page).cloned().collect()
        });
        Some((place.step(job, &lines, Format::Frames(FrameFormat::Messages)), job))
    }
}

/// What a reader makes of frames.
struct Reader {
    place: Place,
    /// Lines it was told of, and those it was told were dropped.
    seqs: Vec<u64>,
    job: Value,
    has_ended: bool,
}

impl Reader {
    /// Takes so many frames of a step.
    fn take(&mut self, step: &Step, frames: usize) {
        assert_eq!(step.texts().len() as u64, step.frames());
        let mut at = None;
        for text in step.texts().iter().take(frames) {
            let frame: Value = serde_json::from_slice(text).unwrap();
            at = Cursor::parse(frame["id"].as_str().unwrap());
            let data = &frame["data"];
            self.has_ended = false;
            match frame["event"].as_str().unwrap() {
                "reset" => assert!(self.job.is_null()),
                "job" => self.take_job(data),
                "log" => self.seqs.push(data["seq"].as_u64().unwrap()),
                "dropped" => self.seqs.extend(data["from"].as_u64().unwrap()..=data["to"].as_u64().unwrap()),
                "end" => self.has_ended = true,
                other => panic!("{other}"),
            }
        }
        if frames >= step.texts().len() {
            assert_eq!(at.unwrap_or(step.to), step.to);
            assert_eq!(self.has_ended, step.is_end);
            at = Some(step.to);
        }
        if let Some(at) = at {
            self.place = Place::At(at);
        }
    }

    fn take_job(&mut self, data: &Value) {
        let (is_first, known) = (self.job.is_null(), self.job["result"].take());
        self.job = data.clone();
        if self.job.get("result").is_none() {
            assert!(!is_first, "the first state has a result, be it null");
            self.job["result"] = known;
        }
    }
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("src/publish/step/regressions.txt");
    ProptestConfig { failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::with_cases(2000) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whoever_comes_back_has_every_line_once_and_the_last_state(
        acts in prop::collection::vec(act(), 1..50),
        begin in 0..10_u64,
        is_reset: bool,
    ) {
        let mut world = World::new();
        let mut acts = acts.into_iter();
        for act in acts.by_ref().take(10) {
            world.act(act);
        }
        let begin = world.now().log.count.saturating_sub(begin);
        let place = Place::Start { is_reset, seq: begin };
        let mut reader = Reader { place, seqs: Vec::new(), job: Value::Null, has_ended: false };
        for act in acts {
            world.act(act);
            if let Act::Read { behind, page, frames } = act
                && let Some((step, job)) = world.step(reader.place, behind, page)
            {
                prop_assert!(step.to.is_within(Cursor::of(job)));
                reader.take(&step, frames);
            }
        }
        for _ in 0..1000 {
            // Also after an end it comes back, until it is told that there is nothing more.
            if reader.has_ended && reader.place == Place::At(Cursor::of(world.now())) {
                break;
            }
            let Some((step, _)) = world.step(reader.place, 0, 2) else { break };
            reader.take(&step, usize::MAX);
        }
        let job = world.now();
        prop_assert_eq!(reader.place, Place::At(Cursor::of(job)));
        prop_assert_eq!(reader.seqs, (begin + 1..=job.log.count).collect::<Vec<_>>());
        prop_assert_eq!(reader.job, serde_json::to_value(Document::new(job)).unwrap());
        prop_assert_eq!(reader.has_ended, job.is_done());
    }
}

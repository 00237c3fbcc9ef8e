//! Random lives of jobs: what is asked, by whom and when, said relative to the job as it then stands.

use std::collections::BTreeMap;

use milepost::job::{Applied, Job, Rejection};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config, FileFailurePersistence},
};
use serde_json::Value;

use super::{
    plain::Model,
    wire::{self, Birth, DAWN},
    words::{Ask, Body, Report, Request, Rules, Sent},
};

/// 256 cases unless PROPTEST_CASES says otherwise.
pub(super) fn config() -> Config {
    let seeds = FileFailurePersistence::Direct("tests/model/regressions.txt");
    Config { failure_persistence: Some(Box::new(seeds)), ..Config::default() }
}

/// A job's whole life.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) rules: Rules,
    pub(super) birth: Birth,
    pub(super) steps: Vec<Step>,
}

/// One request of a story.
#[derive(Clone, Debug)]
pub(super) struct Step {
    act: Act,
    attempt: Who,
    if_match: Seen,
    /// Milliseconds since the step before; the clock may be set back.
    wait: i64,
}

#[derive(Clone, Debug)]
enum Act {
    Patch(Box<Body>, Count),
    /// The last PATCH once more; with its own attempt and If-Match, or with those of this step.
    PatchAgain {
        as_it_was: bool,
    },
    Append(Vec<String>, Count, Report),
    Heartbeat(Report),
    Cancel(Option<String>),
    Retry(Who),
    Claim(&'static str, u32),
    /// The service was opened so many seconds before; `None`: before the story.
    Sweep(Option<u32>),
}

/// Whose attempt a request names.
#[derive(Clone, Copy, Debug)]
enum Who {
    Nobodys,
    Current,
    Older,
    Newer,
}

/// Which versions a request names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    Any,
    Current,
    CurrentAmongOthers,
    Older,
    Newer,
    None,
}

/// Where lines stand in their writer's count.
#[derive(Clone, Debug)]
enum Count {
    Nobodys,
    Next(&'static str),
    Overlap(&'static str, u64),
    Gap(&'static str, u64),
}

/// How a job stands, as far as a request is said relative to it.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    attempt: u32,
    version: u64,
    /// How many lines each writer of the attempt has counted.
    counted: BTreeMap<String, u64>,
}

/// What came of one request of a story.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) before: Job,
    pub(super) request: Request,
    pub(super) outcome: Result<Applied, Rejection>,
}

impl Scene {
    /// The job after the request.
    pub(super) fn after(&self) -> &Job {
        self.outcome.as_ref().map_or(&self.before, |applied| &applied.next)
    }
}

impl Story {
    /// What the domain makes of it.
    pub(super) fn play(&self) -> Vec<Scene> {
        let mut job = self.birth.make(&self.rules).next;
        let mut now = DAWN;
        let mut last_patch = None;
        let mut scenes = Vec::new();
        for step in &self.steps {
            now = now.saturating_add_signed(step.wait);
            let request = step.request(&Standing::from(&job), now, last_patch.as_ref());
            if matches!(request.ask, Ask::Patch(_)) {
                last_patch = Some(request.clone());
            }
            let outcome = wire::put(&job, &request, &self.rules);
            let scene = Scene { before: job, request, outcome };
            job = scene.after().clone();
            scenes.push(scene);
        }
        scenes
    }

    /// The job at the end of it, brought to a status by whoever may.
    pub(super) fn end_as(&self, status: &'static str) -> Job {
        let mut job = self.birth.make(&self.rules).next;
        if let Some(last) = self.play().last() {
            job = last.after().clone();
        }
        if job.is_done() {
            job = wire::put(&job, &wire::ask(Ask::Retry { attempt: None }), &self.rules).unwrap().next;
        }
        let request = Request { attempt: Some(job.attempt.0), ..wire::to(status) };
        wire::put(&job, &request, &self.rules).unwrap().next
    }
}

impl Step {
    /// What is asked of a job that stands so; the last PATCH of it may be sent again.
    pub(super) fn request(&self, job: &Standing, now: u64, last_patch: Option<&Request>) -> Request {
        let ask = match &self.act {
            Act::Patch(body, count) => {
                let sent = Sent { writer: count.of(job), ..body.sent.clone() };
                Ask::Patch(Body { sent, ..(**body).clone() })
            }
            Act::PatchAgain { as_it_was } => match last_patch {
                Some(last) if *as_it_was => return Request { now, ..last.clone() },
                Some(last) => last.ask.clone(),
                None => Ask::Patch(Body::default()),
            },
            Act::Append(lines, count, report) => {
                Ask::Append(Sent { lines: lines.clone(), writer: count.of(job) }, report.clone())
            }
            Act::Heartbeat(report) => Ask::Heartbeat(report.clone()),
            Act::Cancel(reason) => Ask::Cancel { reason: reason.clone() },
            Act::Retry(who) => Ask::Retry { attempt: who.of(job) },
            // Asked by the store, which names neither an attempt nor a version.
            Act::Claim(worker, lease_seconds) => {
                let ask = Ask::Claim { worker, lease_seconds: *lease_seconds };
                return Request { ask, attempt: None, if_match: None, now };
            }
            Act::Sweep(open) => {
                let open_since = open.map_or(0, |seconds| now.saturating_sub(u64::from(seconds) * 1000));
                return Request { ask: Ask::Sweep { open_since }, attempt: None, if_match: None, now };
            }
        };
        Request { ask, attempt: self.attempt.of(job), if_match: self.if_match.of(job), now }
    }
}

impl From<&Job> for Standing {
    fn from(job: &Job) -> Self {
        let counted = job.log.writers.iter().map(|(writer, lines)| (writer.as_str().to_owned(), *lines)).collect();
        Self { attempt: job.attempt.0, version: job.version, counted }
    }
}

impl From<&Model> for Standing {
    fn from(model: &Model) -> Self {
        let counted = model.heard.iter().map(|(writer, lines)| (writer.clone(), lines.len() as u64)).collect();
        Self { attempt: model.attempt, version: model.version, counted }
    }
}

impl Who {
    fn of(self, job: &Standing) -> Option<u32> {
        let current = job.attempt;
        match self {
            Self::Nobodys => None,
            Self::Current => Some(current),
            Self::Older => Some(current - 1),
            Self::Newer => Some(current + 1),
        }
    }
}

impl Seen {
    pub(super) fn of(self, job: &Standing) -> Option<Vec<u64>> {
        let current = job.version;
        match self {
            Self::Any => None,
            Self::Current => Some(vec![current]),
            Self::CurrentAmongOthers => Some(vec![current + 7, current]),
            Self::Older => Some(vec![current - 1]),
            Self::Newer => Some(vec![current + 1]),
            Self::None => Some(Vec::new()),
        }
    }
}

impl Count {
    fn of(&self, job: &Standing) -> Option<(String, u64)> {
        let next = |name: &str| job.counted.get(name).copied().unwrap_or_default() + 1;
        match self {
            Self::Nobodys => None,
            Self::Next(name) => Some(((*name).to_owned(), next(name))),
            Self::Overlap(name, lines) => Some(((*name).to_owned(), next(name).saturating_sub(*lines).max(1))),
            Self::Gap(name, lines) => Some(((*name).to_owned(), next(name) + lines)),
        }
    }
}

prop_compose! {
    /// A life of up to 60 requests, under narrow bounds.
    pub(super) fn story()(
        rules in rules(),
        birth in birth(),
        steps in vec(step(), 0..=60),
    ) -> Story {
        Story { rules, birth, steps }
    }
}

prop_compose! {
    /// Narrow bounds.
    pub(super) fn rules()(
        max_attempts in 1..4_u32,
        lease_seconds in option::of(1..60_u32),
        timeout_seconds in option::weighted(0.3, 1..100_u32),
        queue_ttl_seconds in option::weighted(0.3, 1..100_u32),
        cancel_grace_seconds in option::weighted(0.3, 1..60_u32),
        usual_cancel_grace_seconds in 1..60_u32,
        retain_seconds in option::of(1..100_u32),
        kind_retain_seconds in option::of(option::of(1..100_u32)),
        failed_retain_seconds in option::of(1..100_u32),
        line_bytes_max in 12..40_usize,
        job_lines_max in prop_oneof![1..12_u64, Just(1000)],
        job_log_bytes_max in prop_oneof![1..400_u64, Just(100_000)],
        late_log_seconds in 0..60_u32,
        result_bytes_max in 20..200_usize,
        error_bytes_max in 20..200_usize,
        writers_max in 1..3_usize,
    ) -> Rules {
        Rules {
            max_attempts, lease_seconds, timeout_seconds, queue_ttl_seconds, cancel_grace_seconds,
            usual_cancel_grace_seconds, retain_seconds, kind_retain_seconds, failed_retain_seconds, line_bytes_max,
            job_lines_max, job_log_bytes_max, late_log_seconds, result_bytes_max, error_bytes_max, writers_max,
        }
    }
}

prop_compose! {
    pub(super) fn birth()(
        processing: bool,
        worker in option::weighted(0.2, Just("w-1".to_owned())),
        stage in option::of(stage_text()),
        labels in vec(label(), 0..3),
        lines in vec(line(), 0..3),
    ) -> Birth {
        Birth { processing, worker, stage, labels, lines }
    }
}

prop_compose! {
    fn step()(act in act(), attempt in who(), if_match in seen(), wait in wait()) -> Step {
        Step { act, attempt, if_match, wait }
    }
}

prop_compose! {
    /// A request that a client may send of a job.
    pub(super) fn request()(act in asked(), attempt in who(), if_match in seen()) -> Step {
        Step { act, attempt, if_match, wait: 0 }
    }
}

fn act() -> BoxedStrategy<Act> {
    prop_oneof![
        20 => asked(),
        2 => (select(vec!["w-1", "w-2"]), 1..60_u32).prop_map(|(worker, lease)| Act::Claim(worker, lease)),
        3 => option::weighted(0.3, 0..10_u32).prop_map(Act::Sweep),
    ]
    .boxed()
}

/// What clients ask.
fn asked() -> BoxedStrategy<Act> {
    prop_oneof![
        8 => (body(), count()).prop_map(|(body, count)| Act::Patch(Box::new(body), count)),
        3 => any::<bool>().prop_map(|as_it_was| Act::PatchAgain { as_it_was }),
        4 => (vec(line(), 0..6), count(), report()).prop_map(|(lines, count, said)| Act::Append(lines, count, said)),
        2 => report().prop_map(Act::Heartbeat),
        1 => option::of(stage_text()).prop_map(Act::Cancel),
        2 => prop_oneof![3 => Just(Who::Nobodys), 3 => Just(Who::Current), 2 => Just(Who::Older), 1 => Just(Who::Newer)]
            .prop_map(Act::Retry),
    ]
    .boxed()
}

fn who() -> BoxedStrategy<Who> {
    prop_oneof![
        4 => Just(Who::Nobodys),
        12 => Just(Who::Current),
        1 => Just(Who::Older),
        1 => Just(Who::Newer),
    ]
    .boxed()
}

pub(super) fn seen() -> BoxedStrategy<Seen> {
    prop_oneof![
        12 => Just(Seen::Any),
        2 => Just(Seen::Current),
        1 => Just(Seen::CurrentAmongOthers),
        1 => Just(Seen::Older),
        1 => Just(Seen::Newer),
        1 => Just(Seen::None),
    ]
    .boxed()
}

fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 8 => 1..5_000_i64, 2 => 1..70_000_i64, 2 => -20_000..0_i64]
}

fn count() -> BoxedStrategy<Count> {
    let writer = || select(vec!["stdout", "stderr", "ffmpeg"]);
    prop_oneof![
        4 => Just(Count::Nobodys),
        4 => writer().prop_map(Count::Next),
        3 => (writer(), 1..8_u64).prop_map(|(name, lines)| Count::Overlap(name, lines)),
        1 => (writer(), 1..4_u64).prop_map(|(name, lines)| Count::Gap(name, lines)),
    ]
    .boxed()
}

/// A body with every member there or not, without a writer; often it is a small one.
pub(super) fn body() -> BoxedStrategy<Body> {
    let status = prop_oneof![
        1 => Just("queued"),
        3 => Just("processing"),
        2 => Just("completed"),
        1 => Just("failed"),
        1 => Just("cancelled"),
    ];
    let labels = prop_oneof![
        6 => Just(Vec::new()),
        3 => vec((label_key(), option::of(stage_text())), 1..4),
        1 => vec((label_key(), option::weighted(0.95, stage_text())), 12..30),
    ];
    let members =
        (option::weighted(0.4, status), report(), option::weighted(0.3, value()), option::weighted(0.3, error()));
    (members, any::<bool>(), prop::bool::weighted(0.05), labels, vec(line(), 0..3))
        .prop_map(|((status, report, result, error), merge, clear_labels, labels, lines)| Body {
            status,
            report,
            merge,
            result,
            error: error.filter(|error| merge || error.is_object() || error.is_null()),
            clear_labels,
            labels,
            sent: Sent { lines, writer: None },
        })
        .boxed()
}

prop_compose! {
    fn report()(percent in option::weighted(0.3, percent()), stage in option::weighted(0.3, stage())) -> Report {
        Report { percent, stage }
    }
}

fn percent() -> impl Strategy<Value = f64> {
    prop_oneof![(0..=100_u32).prop_map(f64::from), 0.0..=100.0]
}

fn stage() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.8, stage_text())
}

fn stage_text() -> impl Strategy<Value = String> {
    select(vec!["", "Matting subject", "Encoding", "42", "ü", "\"quoted\""]).prop_map(str::to_owned)
}

fn label() -> impl Strategy<Value = (String, String)> {
    (label_key(), stage_text())
}

fn label_key() -> impl Strategy<Value = String> {
    (0..20_u32).prop_map(|number| format!("label-{number}"))
}

/// A line, sometimes with breaks, none or many bytes, or too long.
pub(super) fn line() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[a-z ]{0,12}",
        1 => "[a-zäß€😀\r\n\u{1b}]{0,20}",
        1 => "[x€]{10,60}",
    ]
    .boxed()
}

/// Any JSON, small enough to collide and to fit now and then.
pub(super) fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4_i32).prop_map(Value::from),
        select(vec![0.5, -1.25e-7, 1e300]).prop_map(Value::from),
        select(vec!["", "a", "a \"b\"\n", "ä…"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((select(vec!["a", "b", "c"]), inner), 0..4).prop_map(object),
        ]
    })
    .boxed()
}

/// An object most of the time.
fn error() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => vec((select(vec!["reason", "message"]), value()), 0..3).prop_map(object),
        1 => value(),
    ]
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

//! Whole lives of jobs, told to the domain and to the model.

use std::{collections::BTreeSet, fmt};

use milepost::job::{Job, Seconds, Supervision, Timestamp};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::{
    plain::Model,
    steps::{Scene, Story, config, story},
    wire::{self, DAWN, document, plain},
    words::{Ask, Refusal, Request},
};

impl Story {
    /// The model of the job at its beginning.
    fn model(&self) -> Model {
        let mut model = Model::born(&self.birth, &self.rules, DAWN);
        model.worker = self.birth.worker.clone();
        model
    }
}

/// What is told of a step that goes another way than the model.
struct Told<'a>(&'a Request, &'a Job);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}\nof {:?}", self.0, self.1)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_step_is_what_the_model_says(story in story()) {
        let made = story.birth.make(&story.rules);
        let mut model = story.model();
        let lines: Vec<_> = made.lines.iter().map(plain).collect();
        prop_assert_eq!(&lines, &model.log, "the lines it was made with");
        prop_assert_eq!(model.trim(made.next.log.dropped, true), Ok(()), "the lines it was made with");
        prop_assert_eq!(document(&made.next), model.document(), "the job as it was made");

        for Scene { before, request, outcome } in story.play() {
            let expected = model.apply(&request);
            let told = Told(&request, &before);
            match (outcome, expected) {
                (Err(rejection), Err(refusal)) => {
                    prop_assert_eq!(Refusal::from(&rejection), refusal, "the refusal of {}", told);
                }
                (Ok(applied), Ok(answer)) => {
                    let job = &applied.next;
                    let lines: Vec<_> = applied.lines.iter().map(plain).collect();
                    prop_assert_eq!(&lines, &answer.lines, "the lines appended by {}", told);
                    prop_assert_eq!(applied.duplicates, answer.duplicates, "the duplicates in {}", told);
                    prop_assert_eq!(applied.changed, answer.changed, "whether anything changed by {}", told);
                    prop_assert_eq!(applied.result_changed, answer.result_changed, "a new result by {}", told);
                    let trimmed = model.trim(job.log.dropped, !lines.is_empty());
                    prop_assert_eq!(trimmed, Ok(()), "the trimming after {}", told);
                    prop_assert_eq!(document(job), model.document(), "the document after {}", told);
                    prop_assert_eq!(job.log.first(), model.dropped + 1, "the first line after {}", told);
                    prop_assert_eq!(job.revision, model.revision, "the revision after {}", told);
                    prop_assert_eq!(job.queued_at.0, model.queued_at, "the start of the wait after {}", told);
                    let supervision = Supervision {
                        lease_seconds: model.claimed_seconds.map(Seconds),
                        cancel_by: model.cancel_by.map(Timestamp),
                        is_silent: model.silent,
                        losses: model.lost,
                        silent_losses: model.lost_silent,
                    };
                    prop_assert_eq!(job.supervision, supervision, "the supervision after {}", told);
                    prop_assert_eq!(job.fenced, model.ever_leased, "whether it was ever leased, after {}", told);
                    let counts = job.log.writers.iter().map(|(writer, lines)| (writer.as_str().to_owned(), *lines));
                    let heard = model.heard.iter().map(|(writer, lines)| (writer.clone(), lines.len() as u64));
                    prop_assert_eq!(counts.collect::<BTreeSet<_>>(), heard.collect(), "the writers after {}", told);
                }
                (outcome, expected) => {
                    prop_assert!(false, "the job says {:?},\nthe model says {:?},\nto {}", outcome, expected, told);
                }
            }
        }
    }

    #[test]
    fn deciding_twice_gives_the_same_and_leaves_the_job_alone(story in story()) {
        for Scene { before, request, outcome } in story.play() {
            let untouched = format!("{before:?}");
            let again = wire::put(&before, &request, &story.rules);
            prop_assert_eq!(format!("{again:?}"), format!("{outcome:?}"), "another answer to {:?}", request);
            prop_assert_eq!(again, outcome, "another answer to {:?}", request);
            prop_assert_eq!(format!("{before:?}"), untouched, "the job given was changed by {:?}", request);
        }
    }
}

/// What never happens in the stories, they prove nothing about.
#[test]
fn stories_meet_every_kind_of_answer() {
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeSet::new();
    for _ in 0..4000 {
        let scenes = story().new_tree(&mut runner).unwrap().current().play();
        met.extend(scenes.iter().map(answered));
        met.extend(scenes.iter().filter_map(swept));
    }
    let expected = [
        ("patch queued", "seen nothing duplicates log_gap attempt_required result error labels writer"),
        ("patch processing", "seen unseen nothing duplicates log_gap attempt_required result error labels writer"),
        ("patch done", "seen nothing duplicates log_gap attempt_required result error labels writer already_finished"),
        ("append queued", "seen nothing duplicates log_gap attempt_required writer"),
        ("append processing", "seen unseen nothing duplicates log_gap attempt_required writer"),
        ("append done", "seen nothing duplicates log_gap attempt_required writer already_finished"),
        ("heartbeat queued", "attempt_required invalid_transition"),
        ("heartbeat processing", "seen unseen nothing attempt_required"),
        ("heartbeat done", "attempt_required already_finished"),
        ("cancel queued", "seen"),
        ("cancel processing", "seen unseen nothing"),
        ("cancel done", "nothing already_finished"),
        ("retry queued", "nothing not_finished"),
        ("retry processing", "nothing not_finished"),
        ("retry done", "seen nothing"),
    ];
    let unguarded = [
        ("claim queued", "seen"),
        ("claim processing", "invalid_transition"),
        ("claim done", "already_finished"),
        ("sweep queued", "seen nothing"),
        ("sweep processing", "seen unseen nothing"),
        ("sweep done", "nothing"),
        ("swept", "requeued lost timed_out expired cancelled"),
    ];
    for (ask, answers) in unguarded {
        for answer in answers.split(' ') {
            assert!(met.contains(&format!("{ask} {answer}")), "{ask} {answer} is not among {met:#?}");
        }
    }
    for (ask, answers) in expected {
        for answer in answers.split(' ').chain(["stale_attempt", "version_mismatch"]) {
            assert!(met.contains(&format!("{ask} {answer}")), "{ask} {answer} is not among {met:#?}");
        }
    }
}

/// What came of a sweep.
fn swept(scene: &Scene) -> Option<String> {
    let after = scene.outcome.as_ref().ok().filter(|applied| applied.next.version > scene.before.version)?;
    let outcome = document(&after.next)["outcome"].as_str().unwrap_or("requeued").to_owned();
    matches!(scene.request.ask, Ask::Sweep { .. }).then(|| format!("swept {outcome}"))
}

/// What a scene is an example of.
fn answered(scene: &Scene) -> String {
    let ask = match &scene.request.ask {
        Ask::Patch(_) => "patch",
        Ask::Append(..) => "append",
        Ask::Heartbeat(_) => "heartbeat",
        Ask::Cancel { .. } => "cancel",
        Ask::Retry { .. } => "retry",
        Ask::Claim { .. } => "claim",
        Ask::Sweep { .. } => "sweep",
    };
    let answer = match &scene.outcome {
        Err(rejection) => match Refusal::from(rejection) {
            Refusal::AlreadyFinished(_) => "already_finished",
            Refusal::NotFinished(_) => "not_finished",
            Refusal::InvalidTransition(_) => "invalid_transition",
            Refusal::StaleAttempt(_) => "stale_attempt",
            Refusal::AttemptRequired(_) => "attempt_required",
            Refusal::LogGap(_) => "log_gap",
            Refusal::VersionMismatch(_) => "version_mismatch",
            Refusal::Invalid(field) => field,
        },
        Ok(applied) if !applied.changed => "nothing",
        Ok(applied) if applied.next.version == scene.before.version => "unseen",
        Ok(applied) if applied.duplicates > 0 => "duplicates",
        Ok(_) => "seen",
    };
    format!("{ask} {} {answer}", if scene.before.is_done() { "done" } else { scene.before.status().as_str() })
}

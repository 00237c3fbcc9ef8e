//! Back to the queue: given back by its worker, or sent back by a retry.

use milepost::job::{Attempt, Job, LogWindow, Progress, State, Supervision, TimelineEnd, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    steps::{Story, body, config, story},
    wire::{ask, document, processing, put, said, to, wide},
    words::{Ask, Body, Refusal, Report, Request, Sent},
};

/// The job once it waits again. Every member is named: what is cleared, and what is kept.
fn requeued(before: &Job, now: Timestamp) -> Job {
    Job {
        state: State::Queued,
        progress: Progress::ZERO,
        expected_seconds: None,
        stage: None,
        result: None,
        error: None,
        worker: None,
        lease_expires_at: None,
        cancel_requested: false,
        supervision: Supervision {
            losses: before.supervision.losses,
            silent_losses: before.supervision.silent_losses,
            ..Supervision::default()
        },
        started_at: None,

        spec: before.spec.clone(),
        labels: before.labels.clone(),
        log: LogWindow { writers: Vec::new(), ..before.log.clone() },
        timeline: TimelineEnd { count: before.timeline.count + 1, ..TimelineEnd::default() },
        fenced: before.fenced,

        attempt: Attempt(before.attempt.0 + 1),
        version: before.version + 1,
        result_version: if before.result.is_some() { before.version + 1 } else { before.result_version },
        revision: before.revision + 1,
        queued_at: now,
        updated_at: now,
    }
}

/// The job of a story, filled by a PATCH, claimed and asked to cancel: nothing of it is empty that could be cleared.
fn filled(story: &Story, body: Body) -> Job {
    let mut job = story.end_as("processing");
    let report = Report { percent: Some(12.5), stage: Some(Some("Encoding".to_owned())) };
    let body =
        Body { status: None, report, result: Some(json!([1])), error: Some(json!({"a": 1})), merge: false, ..body };
    let fill = Request { attempt: Some(job.attempt.0), ..ask(Ask::Patch(body)) };
    if let Ok(applied) = put(&job, &fill, &story.rules) {
        job = applied.next;
    }
    job.worker = Some("w-1".into());
    put(&job, &ask(Ask::Cancel { reason: None }), &story.rules).unwrap().next
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn given_back_clears_what_it_must_and_keeps_the_rest(story in story(), body in body(), later in 0..9_000_u64) {
        let job = filled(&story, body);
        let now = Timestamp(job.updated_at.0 + later);
        let give_back = Request { attempt: Some(job.attempt.0), now: now.0, ..to("queued") };
        prop_assert_eq!(put(&job, &give_back, &story.rules).unwrap().next, requeued(&job, now));
    }

    #[test]
    fn a_retry_clears_what_it_must_and_keeps_the_rest(
        story in story(),
        body in body(),
        end in prop::sample::select(vec!["completed", "failed", "cancelled"]),
        named: bool,
        later in 0..9_000_u64,
    ) {
        let mut job = filled(&story, body);
        let finish = Request { attempt: Some(job.attempt.0), ..to(end) };
        job = put(&job, &finish, &story.rules).unwrap().next;
        let now = Timestamp(job.updated_at.0 + later);
        let attempt = named.then_some(job.attempt.0);
        let retry = Request { now: now.0, ..ask(Ask::Retry { attempt }) };
        let applied = put(&job, &retry, &story.rules).unwrap();
        prop_assert_eq!(&applied.next, &requeued(&job, now));

        let again = put(&applied.next, &retry, &story.rules);
        if named {
            prop_assert_eq!(again.unwrap().next, applied.next, "a retry of a named attempt happens once");
        } else {
            let expected = Err(Refusal::NotFinished("queued"));
            prop_assert_eq!(again.map_err(|why| Refusal::from(&why)), expected, "a queued job cannot be retried");
        }
    }
}

#[test]
fn a_worker_gives_back_with_its_last_words() {
    let rules = wide();
    let job = processing(&rules);
    let mut sent: Sent = said(&["out of memory"]);
    sent.writer = Some(("stderr".to_owned(), 1));
    let report = Report { percent: None, stage: Some(Some("Waiting for a larger machine".to_owned())) };
    let body = Body { status: Some("queued"), report, sent, ..Body::default() };
    let applied = put(&job, &ask(Ask::Patch(body)), &rules).unwrap();
    assert_eq!(applied.lines[0].attempt, Attempt::FIRST, "the line is of the attempt that wrote it");
    assert_eq!(applied.next.attempt, Attempt(2));
    assert!(applied.next.log.writers.is_empty(), "the next attempt counts anew");
    let stage = document(&applied.next)["stage"].take();
    assert_eq!(
        stage,
        Value::from("Waiting for a larger machine"),
        "what the same PATCH names comes after the clearing"
    );
}

#[test]
fn only_a_done_job_is_retried_and_only_an_attempt_that_was() {
    let rules = wide();
    let job = processing(&rules);
    let retry = |job: &Job, attempt| put(job, &ask(Ask::Retry { attempt }), &rules);
    let not_yet = retry(&job, Some(1)).unwrap_err();
    assert_eq!(not_yet.to_string(), "The job is processing; only a done job can be retried.");
    let done = put(&job, &to("failed"), &rules).unwrap().next;
    assert_eq!(Refusal::from(&retry(&done, Some(2)).unwrap_err()), Refusal::StaleAttempt(1));
    let second = put(&retry(&done, Some(1)).unwrap().next, &to("failed"), &rules).unwrap().next;
    assert_eq!(retry(&second, Some(1)).unwrap().next, second, "the first attempt has been retried");
}

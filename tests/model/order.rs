//! The order of checks: attempt, repeat, If-Match, state.

use proptest::prelude::*;

use super::{
    steps::{Scene, config, story},
    wire::{ask, leased, processing, put, said, to, wide},
    words::{Ask, Body, Refusal, Report, Request, Rules, Sent},
};

/// An If-Match that holds for no job.
const NEVER: Option<Vec<u64>> = Some(Vec::new());

fn refusal(scene: &Scene) -> Option<Refusal> {
    scene.outcome.as_ref().err().map(Refusal::from)
}

/// Whether a request asks for what is already so, log lines aside.
fn is_repeat(scene: &Scene, rules: &Rules) -> bool {
    let done = scene.before.is_done();
    if let Ask::Patch(body) = &scene.request.ask
        && done
        && body.names_more_than_lines()
    {
        let ask = Ask::Patch(Body { sent: Sent::default(), ..body.clone() });
        return put(&scene.before, &Request { ask, if_match: None, ..scene.request.clone() }, rules).is_ok();
    }
    let repeatable = done || matches!(scene.request.ask, Ask::Cancel { .. } | Ask::Retry { .. });
    repeatable && scene.outcome.as_ref().is_ok_and(|applied| applied.next.version == scene.before.version)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_attempt_comes_first(story in story()) {
        for scene in story.play() {
            let current = scene.before.attempt.0;
            let fenced = Request { attempt: Some(current + 9), if_match: NEVER, ..scene.request.clone() };
            if fenced.ask.is_of_a_client() && !matches!(fenced.ask, Ask::Retry { .. }) {
                let answer = put(&scene.before, &fenced, &story.rules);
                let expected = Err(Refusal::StaleAttempt(current));
                prop_assert_eq!(answer.map_err(|why| Refusal::from(&why)), expected, "{:?}", fenced);
            }
        }
    }

    #[test]
    fn a_repeat_comes_before_if_match_and_if_match_before_the_state(story in story()) {
        for scene in story.play().into_iter().filter(|scene| scene.request.ask.is_of_a_client()) {
            let request = Request { if_match: NEVER, ..scene.request.clone() };
            let answer = put(&scene.before, &request, &story.rules);
            let refused = refusal(&scene);
            let by_attempt = matches!(refused, Some(Refusal::StaleAttempt(_) | Refusal::AttemptRequired(_)));
            // Whether a body is a repeat is only known of one that is fit for the job.
            let unfit = matches!(refused, Some(Refusal::Invalid(field)) if field != "writer");
            if by_attempt || (unfit && scene.before.is_done()) || is_repeat(&scene, &story.rules) {
                prop_assert_eq!(answer, scene.outcome, "If-Match came before attempt or repeat: {:?}", request);
            } else {
                let expected = Err(Refusal::VersionMismatch(scene.before.version));
                let refused = answer.map_err(|why| Refusal::from(&why));
                prop_assert_eq!(refused, expected, "If-Match came late: {:?}", request);
            }
        }
    }

    #[test]
    fn an_if_match_that_holds_changes_no_answer(story in story()) {
        for scene in story.play() {
            let version = scene.before.version;
            let with = Request { if_match: Some(vec![version + 1, version]), ..scene.request.clone() };
            let without = Request { if_match: None, ..scene.request };
            prop_assert_eq!(put(&scene.before, &with, &story.rules), put(&scene.before, &without, &story.rules));
        }
    }
}

#[test]
fn a_done_job_checks_attempt_repeat_if_match_state() {
    let rules = leased();
    let job = processing(&rules);
    let finish = Request { attempt: Some(1), if_match: Some(vec![1]), ..to("completed") };
    let done = put(&job, &finish, &rules).unwrap().next;
    let refused = |request: Request| put(&done, &request, &rules).map_err(|why| Refusal::from(&why)).unwrap_err();

    assert_eq!(refused(Request { attempt: Some(2), ..finish.clone() }), Refusal::StaleAttempt(1));
    assert_eq!(refused(Request { attempt: None, ..finish.clone() }), Refusal::AttemptRequired(1));
    assert_eq!(put(&done, &finish, &rules).unwrap().next, done, "a repeat, though the version has moved");
    let other = Request { attempt: Some(1), if_match: Some(vec![1]), ..to("failed") };
    assert_eq!(refused(other.clone()), Refusal::VersionMismatch(2));
    assert_eq!(refused(Request { if_match: Some(vec![2]), ..other }), Refusal::AlreadyFinished("completed"));

    let mut gap = said(&["tenth"]);
    gap.writer = Some(("stdout".to_owned(), 10));
    let gap = Request { attempt: Some(1), if_match: Some(vec![1]), ..ask(Ask::Append(gap, Report::default())) };
    let late = done.updated_at.0 + 60_001;
    assert_eq!(refused(gap.clone()), Refusal::VersionMismatch(2), "a hole is no repeat");
    assert_eq!(refused(Request { if_match: None, ..gap.clone() }), Refusal::LogGap(1));
    let too_late = Request { if_match: None, now: late, ..gap };
    assert_eq!(refused(too_late), Refusal::AlreadyFinished("completed"), "no use in sending what is missing");
}

#[test]
fn a_live_job_checks_attempt_if_match_state() {
    let rules = wide();
    let queued = super::wire::Birth::default().make(&rules).next;
    let beat = ask(Ask::Heartbeat(Report::default()));
    let refused = |attempt, version| {
        let request = Request { attempt: Some(attempt), if_match: Some(vec![version]), ..beat.clone() };
        put(&queued, &request, &rules).unwrap_err()
    };
    assert_eq!(Refusal::from(&refused(7, 7)), Refusal::StaleAttempt(1));
    assert_eq!(Refusal::from(&refused(1, 7)), Refusal::VersionMismatch(1));
    assert_eq!(Refusal::from(&refused(1, 1)), Refusal::InvalidTransition("queued"));
    for (refusal, says) in [
        (refused(7, 7), "The attempt given is not the current one, which is 1; stop working on this job."),
        (refused(1, 7), "The job is at version 1 now; read it again and decide anew."),
        (refused(1, 1), "A job that is queued cannot take a heartbeat; set its status to processing first."),
    ] {
        assert_eq!(refusal.to_string(), says);
    }
    // On a live job nothing is a repeat: the same body again, at a version that has moved, is refused.
    let patch =
        Request { if_match: Some(vec![1]), ..ask(Ask::Patch(Body { status: Some("processing"), ..Body::default() })) };
    let started = put(&queued, &patch, &rules).unwrap().next;
    assert_eq!(Refusal::from(&put(&started, &patch, &rules).unwrap_err()), Refusal::VersionMismatch(2));
}

//! Leases and the attempts that hold them.

use milepost::job::{Job, Seconds, Status, Timestamp};
use proptest::prelude::*;

use super::{
    steps::{Scene, config, story},
    wire::{Birth, DAWN, ask, leased, processing, put, said, to},
    words::{Ask, Body, Refusal, Report, Request},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn once_leased_a_job_wants_the_attempt_of_its_workers_and_of_nobody_else(story in story()) {
        for Scene { before, request, .. } in story.play() {
            let request = Request { attempt: None, ..request };
            let answer = put(&before, &request, &story.rules).map_err(|why| Refusal::from(&why));
            if before.fenced && request.ask.is_of_a_worker() {
                prop_assert_eq!(answer, Err(Refusal::AttemptRequired(before.attempt.0)), "{:?}", request);
            } else {
                let wanted = matches!(answer, Err(Refusal::AttemptRequired(_)));
                prop_assert!(!wanted, "an attempt is wanted of {:?}", request);
            }
        }
    }

    #[test]
    fn a_lease_is_renewed_by_every_accepted_write_of_its_attempt_and_by_no_other(story in story()) {
        for scene in story.play() {
            let (before, after) = (&scene.before, scene.after());
            let claimed = matches!(scene.request.ask, Ask::Claim { .. });
            let seconds = after.supervision.lease_seconds.map(|span| span.0).or(story.rules.lease_seconds);
            let leasable = seconds.filter(|_| after.status() == Status::Processing);
            let now = Timestamp(scene.request.now.max(before.updated_at.0));
            let holds = scene.request.attempt == Some(before.attempt.0);
            let renewed = scene.outcome.is_ok() && (holds || claimed || !before.fenced);
            // What could not be renewed for its whole length is granted the rest of it.
            let granted = match (&scene.request.ask, seconds) {
                (Ask::Sweep { open_since }, Some(seconds)) => Some(Timestamp(*open_since).after(Seconds(seconds))),
                _ => None,
            };
            let granted = granted.filter(|until| *until > now && before.lease_expires_at.is_some_and(|at| at <= now));
            let expected = match leasable {
                Some(_) if granted.is_some() => granted,
                Some(seconds) if renewed => Some(now.after(Seconds(seconds))),
                Some(_) => before.lease_expires_at,
                None => None,
            };
            prop_assert_eq!(after.lease_expires_at, expected, "the lease after {:?}", scene.request);
            prop_assert_eq!(after.fenced, before.fenced || expected.is_some(), "once leased, always fenced");
        }
    }
}

#[test]
fn a_lease_begins_with_the_first_processing_write_and_ends_with_the_attempt() {
    let rules = leased();
    let at = |job: &Job, request: Request| put(job, &Request { now: DAWN + 5_000, ..request }, &rules).unwrap().next;
    let queued = Birth::default().make(&rules).next;
    let logged = at(&queued, ask(Ask::Append(said(&["waiting"]), Report::default())));
    assert_eq!((logged.lease_expires_at, logged.fenced), (None, false), "a queued job has no lease");
    let started = at(&logged, to("processing"));
    assert_eq!((started.lease_expires_at, started.fenced), (Some(Timestamp(DAWN + 35_000)), true));
    for end in ["completed", "failed", "cancelled", "queued"] {
        let over = at(&started, Request { attempt: Some(1), ..to(end) });
        assert_eq!((over.lease_expires_at, over.fenced), (None, true), "after {end}");
    }
    let skipped = at(&queued, to("completed"));
    assert_eq!((skipped.lease_expires_at, skipped.fenced), (None, false), "never processing, never leased");
}

#[test]
fn nobody_but_its_worker_keeps_a_lease_alive() {
    let rules = leased();
    let job = processing(&rules);
    let later = |request: Request| put(&job, &Request { now: DAWN + 5_000, ..request }, &rules);
    let renewed = |request| later(request).unwrap().next.lease_expires_at != job.lease_expires_at;
    let label = ask(Ask::Patch(Body { labels: vec![("user".to_owned(), Some("42".to_owned()))], ..Body::default() }));
    let beat = ask(Ask::Heartbeat(Report::default()));
    assert!(renewed(Request { attempt: Some(1), ..beat.clone() }));
    assert!(!renewed(label));
    assert!(!renewed(ask(Ask::Cancel { reason: None })));
    let by_another = Request { attempt: Some(2), ..ask(Ask::Cancel { reason: None }) };
    assert_eq!(Refusal::from(&later(by_another).unwrap_err()), Refusal::StaleAttempt(1));
    let refusal = later(beat).unwrap_err();
    assert_eq!(Refusal::from(&refusal), Refusal::AttemptRequired(1));
    assert_eq!(refusal.to_string(), "This job is leased: give `attempt` with every write.");
}

//! The end of a job: final but for a retry, patient with repeats and, for a while, with late lines.

use milepost::job::{Job, Rejection, Seconds};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    steps::{body, config, line, story},
    wire::{ask, plain, processing, put, said, to, wide},
    words::{Ask, Body, Refusal, Report, Request, Rules, Sent},
};

const DONE: [&str; 3] = ["completed", "failed", "cancelled"];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn done_is_final_but_for_a_retry(story in story()) {
        for scene in story.play().into_iter().filter(|scene| scene.before.is_done()) {
            let (before, after) = (&scene.before, scene.after());
            if after.attempt != before.attempt {
                prop_assert!(matches!(scene.request.ask, Ask::Retry { .. }), "opened by {:?}", scene.request);
                continue;
            }
            let lines = scene.outcome.as_ref().is_ok_and(|applied| !applied.lines.is_empty());
            let logged = Job {
                log: after.log.clone(),
                version: after.version,
                revision: after.revision,
                updated_at: after.updated_at,
                ..before.clone()
            };
            let expected = if lines { &logged } else { before };
            prop_assert_eq!(after, expected, "more than late lines came with {:?}", scene.request);
        }
    }

    #[test]
    fn a_repeated_last_patch_changes_nothing_even_with_its_if_match(
        story in story(),
        body in body(),
        status in select(DONE.to_vec()),
        later in 0..200_000_u64,
    ) {
        let job = story.end_as("processing");
        let last = Request {
            attempt: Some(job.attempt.0),
            if_match: Some(vec![job.version]),
            ..ask(Ask::Patch(Body { status: Some(status), ..body }))
        };
        // Unfit bodies are another property's matter.
        let Ok(first) = put(&job, &last, &story.rules) else { return Ok(()) };
        let done = first.next;
        prop_assert!(done.is_done());
        let repeat = Request { now: done.updated_at.0 + later, ..last };
        match put(&done, &repeat, &story.rules) {
            Ok(again) => {
                prop_assert_eq!(&again.next, &done, "the repeat changed the job");
                prop_assert!(!again.changed && !again.result_changed, "the repeat changed something");
                prop_assert!(again.lines.is_empty(), "the repeat logged its lines again");
                prop_assert_eq!(again.duplicates, 0, "lines without a count cannot be known as duplicates");
            }
            Err(rejection) => prop_assert!(false, "the repeat was refused: {}", rejection),
        }
    }

    #[test]
    fn a_repeated_last_patch_with_a_count_appends_just_what_is_new(
        story in story(),
        body in body(),
        status in select(DONE.to_vec()),
        more in vec(line(), 0..4),
    ) {
        let job = story.end_as("processing");
        let seq = 1 + job.log.writers.first().map_or(0, |(_, lines)| *lines);
        let name = job.log.writers.first().map_or("w", |(writer, _)| writer.as_str()).to_owned();
        let patch = |lines: Vec<String>| Request {
            attempt: Some(job.attempt.0),
            ..ask(Ask::Patch(Body {
                status: Some(status),
                sent: Sent { lines, writer: Some((name.clone(), seq)) },
                ..body.clone()
            }))
        };
        let known = body.sent.lines.clone();
        let Ok(first) = put(&job, &patch(known.clone()), &story.rules) else { return Ok(()) };
        let done = first.next;

        let repeat = Request { if_match: Some(vec![job.version]), ..patch(known.clone()) };
        let again = put(&done, &repeat, &story.rules).unwrap();
        prop_assert_eq!(&again.next, &done, "known lines changed the job");
        prop_assert_eq!(again.duplicates, known.len() as u64, "known lines are duplicates");

        let longer = Request { if_match: Some(vec![job.version]), ..patch([known.clone(), more.clone()].concat()) };
        let applied = put(&done, &longer, &story.rules).unwrap();
        prop_assert_eq!(applied.duplicates, known.len() as u64, "known lines are duplicates");
        prop_assert_eq!(applied.lines.len(), more.len(), "new lines are appended");
        prop_assert_eq!(applied.next.version, done.version + u64::from(!more.is_empty()), "one version for new lines");

        let end = done.state.end().unwrap().at;
        let late = end.after(Seconds(story.rules.late_log_seconds)).0.max(done.updated_at.0) + 1;
        let answer = put(&done, &Request { now: late, ..longer }, &story.rules);
        if more.is_empty() {
            prop_assert_eq!(answer.unwrap().next, done, "a repeat comes never too late");
        } else {
            prop_assert_eq!(answer, Err(Rejection::AlreadyFinished(done.status())), "new lines came too late");
        }
    }
}

/// A job of the second attempt that a worker completed, with a line of its own.
fn completed(rules: &Rules) -> Job {
    let failed = put(&processing(rules), &to("failed"), rules).unwrap().next;
    let again = put(&failed, &ask(Ask::Retry { attempt: None }), rules).unwrap().next;
    let patch = Body { status: Some("completed"), sent: said(&["bye"]), ..Body::default() };
    put(&again, &ask(Ask::Patch(patch)), rules).unwrap().next
}

#[test]
fn late_lines_of_the_last_attempt_are_taken_for_late_log_seconds() {
    let rules = wide();
    let done = completed(&rules);
    let end = done.state.end().unwrap().at.0;
    let flush = |ask_for: &Ask, attempt, now| {
        let request = Request { attempt, now, ..ask(ask_for.clone()) };
        put(&done, &request, &rules)
            .map(|applied| applied.lines.iter().map(plain).map(|line| line.text).collect::<Vec<_>>())
    };
    let appended = Ask::Append(said(&["flushed"]), Report::default());
    let patched = Ask::Patch(Body { sent: said(&["flushed"]), ..Body::default() });
    for lines in [&appended, &patched] {
        assert_eq!(flush(lines, Some(2), end + 60_000), Ok(vec!["flushed".to_owned()]));
        assert_eq!(flush(lines, None, end), Ok(vec!["flushed".to_owned()]));
        let refusals =
            [(Some(2), end + 60_001, Refusal::AlreadyFinished("completed")), (Some(1), end, Refusal::StaleAttempt(2))];
        for (attempt, now, refusal) in refusals {
            assert_eq!(Refusal::from(&flush(lines, attempt, now).unwrap_err()), refusal);
        }
    }
    // With anything else in it, a PATCH of a done job is a repeat, and its lines have been logged.
    let repeats = [
        Body { status: Some("completed"), ..Body::default() },
        Body { report: Report { percent: Some(30.0), stage: None }, ..Body::default() },
        Body { labels: vec![("user".to_owned(), None)], ..Body::default() },
    ];
    for body in repeats {
        assert_eq!(flush(&Ask::Patch(Body { sent: said(&["bye"]), ..body }), Some(2), end), Ok(vec![]));
    }
}

#[test]
fn what_would_change_a_done_job_is_refused() {
    let rules = wide();
    let done = completed(&rules);
    let stage = || Report { percent: None, stage: Some(Some("Encoding".to_owned())) };
    let bodies = [
        Body { status: Some("failed"), ..Body::default() },
        Body { status: Some("processing"), ..Body::default() },
        Body { status: Some("queued"), ..Body::default() },
        Body { report: stage(), ..Body::default() },
        Body { result: Some(1.into()), ..Body::default() },
        Body { error: Some(serde_json::json!({"reason": "late"})), ..Body::default() },
        Body { labels: vec![("user".to_owned(), Some("42".to_owned()))], ..Body::default() },
    ];
    let others = [Ask::Append(said(&[]), stage()), Ask::Heartbeat(Report::default()), Ask::Cancel { reason: None }];
    for change in bodies.into_iter().map(Ask::Patch).chain(others) {
        let refusal = put(&done, &ask(change.clone()), &rules).expect_err("the job is done");
        assert_eq!(Refusal::from(&refusal), Refusal::AlreadyFinished("completed"), "{change:?}");
        let says = "The job is already completed; only POST /jobs/{id}/retry opens it again.";
        assert_eq!(refusal.to_string(), says);
    }
}

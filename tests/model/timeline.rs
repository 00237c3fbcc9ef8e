//! Timelines: what readers can see change of status, stage, attempt and cancel is remembered, once, with who did it.

use milepost::job::{Actor, AttemptEnd, Job, Outcome, TimelineEntry, TimelineEvent, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::{
    steps::{Scene, config, story},
    wire::{ask, document, processing, put, to, wide},
    words::{Ask, Report, Request},
};

/// So many changes of an attempt's stage are taken as fast as they come.
const UNHURRIED: usize = 32;

/// Whether a change of the stage comes too soon after those that an attempt has been remembered with.
fn is_hurried(job: &Job, entries: &[TimelineEntry]) -> bool {
    let is_of_stage =
        |entry: &&TimelineEntry| entry.attempt == job.attempt && entry.event == TimelineEvent::StageChanged;
    let now = job.updated_at.0;
    let last = entries.iter().rfind(is_of_stage).map_or(0, |entry| entry.at.0);
    let elapsed = job.started_at.map_or(0, |at| now - at.0);
    entries.iter().filter(is_of_stage).count() >= UNHURRIED && now - last < 1000.max(elapsed / 16)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_readers_see_of_status_stage_and_attempt_is_remembered_once(story in story()) {
        let made = story.birth.make(&story.rules);
        prop_assert_eq!(made.history.timeline.len(), 1, "a job begins with its creation");
        prop_assert_eq!(made.history.timeline[0].event, TimelineEvent::Created);
        let mut entries = made.history.timeline;
        for Scene { before, request, outcome } in story.play() {
            let Ok(applied) = outcome else { continue };
            let (was, is) = (document(&before), document(&applied.next));
            let differs = |members: &[&str]| members.iter().any(|member| was[*member] != is[*member]);
            let is_great = differs(&["status", "attempt", "cancel_requested"]);
            let is_late = before.timeline.is_behind && was["version"] != is["version"];
            let is_told = (differs(&["stage"]) || is_late) && !is_hurried(&applied.next, &entries);
            let remembered = &applied.history.timeline;
            prop_assert_eq!(remembered.len(), usize::from(is_great || is_told), "after {:?}\nof {:?}", request, before);
            let is_behind = applied.next.timeline.is_behind;
            prop_assert_eq!(is_behind, remembered.is_empty() && (before.timeline.is_behind || differs(&["stage"])));
            let over = applied.history.attempts.len();
            prop_assert_eq!(over, usize::from(was["attempt"] != is["attempt"]), "attempts that are over");
            let ends = applied.history.ends.len();
            prop_assert_eq!(ends, usize::from(was["done"] == false && is["done"] == true), "ends");
            for entry in remembered {
                let stage = entry.stage.as_ref().map(|stage| stage.as_str());
                let at = entry.at.to_string();
                let told = json!({"status": entry.status, "stage": stage, "updated_at": at});
                let seen = json!({"status": is["status"], "stage": is["stage"], "updated_at": is["updated_at"]});
                prop_assert_eq!(told, seen, "after {:?}", request);
                let is_retry = matches!(request.ask, Ask::Retry { .. });
                prop_assert_eq!(&json!(entry.attempt), &(if is_retry { &is } else { &was })["attempt"]);
                let is_by_worker = matches!(
                    request.ask, Ask::Patch(..) | Ask::Append(..) | Ask::Heartbeat(_) | Ask::Claim { .. }
                );
                let is_late = !is_great && !differs(&["stage"]);
                prop_assert!(is_late || matches!(entry.actor, Actor::Worker(_)) == is_by_worker, "{:?}", request.ask);
            }
            entries.extend(remembered.iter().cloned());
            prop_assert_eq!(applied.next.timeline.count, entries.len() as u64);
        }
        let rise = entries.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].attempt <= pair[1].attempt);
        prop_assert!(rise, "out of order: {:?}", entries);
    }
}

/// The entries of a worker that says another stage each so many milliseconds, for so long; a cancel comes after a minute.
fn framed(pause: u64, span: u64) -> Vec<TimelineEntry> {
    let rules = wide();
    let mut job = processing(&rules);
    let mut remembered = Vec::new();
    let begin = job.updated_at.0;
    for later in (pause..=span).step_by(pause as usize) {
        let report = Report { percent: None, stage: Some(Some(format!("frame {later}"))) };
        let mut requests = vec![Request { now: begin + later, ..ask(Ask::Heartbeat(report)) }];
        if later == 60_000 {
            requests.push(Request { now: begin + later, ..ask(Ask::Cancel { reason: Some("enough".into()) }) });
        }
        for request in requests {
            let applied = put(&job, &request, &rules).unwrap();
            remembered.extend(applied.history.timeline);
            job = applied.next;
        }
    }
    let end = Request { now: begin + span, ..to("failed") };
    remembered.extend(put(&job, &end, &rules).unwrap().history.timeline);
    remembered
}

#[test]
fn a_worker_with_a_stage_for_each_frame_does_not_drive_out_the_rest() {
    // In a day, with a stage each second; and in an hour, with ten.
    for (pause, span) in [(1000, 86_400_000), (100, 3_600_000)] {
        let entries = framed(pause, span);
        assert!((100..200).contains(&entries.len()), "{} entries", entries.len());
        let cancel = entries.iter().find(|entry| entry.event == TimelineEvent::CancelRequested).unwrap();
        assert_eq!(cancel.reason.as_ref().map(|text| text.as_str()), Some("enough"));
        assert_eq!(
            entries.last().map(|entry| entry.event),
            Some(TimelineEvent::Ended(AttemptEnd::Done(Outcome::Failed)))
        );
        let stages: Vec<_> = entries.iter().filter(|entry| entry.event == TimelineEvent::StageChanged).collect();
        let last = stages.last().unwrap().at.0 - entries[0].at.0;
        assert!(last > span - span / 10, "it goes on being told to the end");
    }
    assert_eq!(framed(10_000, 310_000).len(), 33, "nothing of what is seldom is left out");
}

#[test]
fn a_stage_that_came_too_soon_is_remembered_with_what_comes_next() {
    let rules = wide();
    let mut job = processing(&rules);
    let begin = job.updated_at.0;
    let mut say = |later: u64, percent: Option<f64>, stage: Option<&str>| {
        let report = Report { percent, stage: stage.map(|stage| Some(stage.to_owned())) };
        let applied = put(&job, &Request { now: begin + later, ..ask(Ask::Heartbeat(report)) }, &rules).unwrap();
        job = applied.next;
        applied.history.timeline
    };
    for step in 1..=UNHURRIED as u64 {
        assert_eq!(say(step * 10, None, Some(&format!("stage {step}"))).len(), 1);
    }
    assert_eq!(say(400, None, Some("the last one")).len(), 0, "too soon");
    assert_eq!(say(500, Some(1.0), None).len(), 0, "still");
    assert_eq!(say(2000, None, None).len(), 0, "nothing that anybody could see");
    let told = say(2100, Some(2.0), None);
    assert_eq!((told[0].event, told[0].at), (TimelineEvent::StageChanged, Timestamp(begin + 2100)));
    assert_eq!(told[0].stage.as_ref().map(|stage| stage.as_str()), Some("the last one"));
    assert_eq!(say(9000, Some(3.0), None).len(), 0, "once");
}

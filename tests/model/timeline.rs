//! Timelines: what readers can see change of status, stage, attempt and cancel is remembered, once, with who did it.

use milepost::job::{Actor, AttemptEnd, Outcome, TimelineEnd, TimelineEvent, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::{
    steps::{Scene, config, story},
    wire::{ask, document, processing, put, to, wide},
    words::{Ask, Report, Request},
};

/// So many entries are taken as fast as they come, and then changes of the stage with a second between them.
const UNHURRIED: u64 = 32;

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
            let is_hurried = before.timeline.count >= UNHURRIED
                && entries.last().is_some_and(|last| applied.next.updated_at.0 < last.at.0 + 1000);
            let expected = is_great || differs(&["stage"]) && !is_hurried;
            let remembered = &applied.history.timeline;
            prop_assert_eq!(remembered.len(), usize::from(expected), "after {:?}\nof {:?}", request, before);
            let over = applied.history.attempts.len();
            prop_assert_eq!(over, usize::from(was["attempt"] != is["attempt"]), "attempts that are over");
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
                prop_assert_eq!(matches!(entry.actor, Actor::Worker(_)), is_by_worker, "by {:?}", request.ask);
            }
            entries.extend(remembered.iter().cloned());
            let last_at = entries.last().map(|entry| entry.at);
            prop_assert_eq!(applied.next.timeline, TimelineEnd { count: entries.len() as u64, last_at });
        }
        let rise = entries.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].attempt <= pair[1].attempt);
        prop_assert!(rise, "out of order: {:?}", entries);
    }
}

#[test]
fn a_worker_with_a_stage_for_each_frame_does_not_drive_out_the_rest() {
    let rules = wide();
    let mut job = processing(&rules);
    let mut remembered = Vec::new();
    let begin = job.updated_at.0;
    // Ten changes a second for ten seconds, and a cancel in the middle of one.
    for step in 1..=100 {
        let report = Report { percent: None, stage: Some(Some(format!("frame {step}"))) };
        let request = Request { now: begin + step * 100, ..ask(Ask::Heartbeat(report)) };
        let applied = put(&job, &request, &rules).unwrap();
        remembered.extend(applied.history.timeline);
        job = applied.next;
        if step == 55 {
            let request = Request { now: begin + 5501, ..ask(Ask::Cancel { reason: Some("enough".into()) }) };
            let applied = put(&job, &request, &rules).unwrap();
            assert_eq!(applied.history.timeline[0].event, TimelineEvent::CancelRequested);
            assert_eq!(applied.history.timeline[0].reason.as_ref().map(|text| text.as_str()), Some("enough"));
            remembered.extend(applied.history.timeline);
            job = applied.next;
        }
    }
    let hurried = remembered.iter().skip(UNHURRIED as usize - 1);
    let stages: Vec<_> = hurried.filter(|entry| entry.event == TimelineEvent::StageChanged).collect();
    assert!(stages.windows(2).all(|pair| pair[1].at.0 - pair[0].at.0 >= 1000), "{stages:?}");
    assert!(stages.len() >= 6, "they go on: {stages:?}");
    let request = Request { now: begin + 10_001, ..to("failed") };
    let last = put(&job, &request, &rules).unwrap().history.timeline.remove(0);
    assert_eq!(last.event, TimelineEvent::Ended(AttemptEnd::Done(Outcome::Failed)), "an end is never left out");
    assert_eq!(last.at, Timestamp(begin + 10_001));
}

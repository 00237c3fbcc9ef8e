//! Version, revision and clock.

use milepost::job::Job;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    plain::counted,
    steps::{config, story},
    wire::document,
};

/// What a reader of the document and the log can tell.
fn seen(job: &Job) -> (Value, u64) {
    (counted(document(job)), job.log.first())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_version_rises_by_one_for_each_visible_change_and_stays_otherwise(story in story()) {
        for scene in story.play() {
            let (before, after) = (&scene.before, scene.after());
            if seen(after) == seen(before) {
                prop_assert_eq!(after.version, before.version, "a version for nothing: {:?}", scene.request);
                prop_assert_eq!(after.updated_at, before.updated_at, "updated_at for nothing: {:?}", scene.request);
            } else {
                prop_assert_eq!(after.version, before.version + 1, "not one version: {:?}", scene.request);
                let now = scene.request.now.max(before.updated_at.0);
                prop_assert_eq!(after.updated_at.0, now, "updated_at is not now: {:?}", scene.request);
            }
        }
    }

    #[test]
    fn the_version_of_the_result_is_that_of_its_last_change(story in story()) {
        for scene in story.play() {
            let (before, after) = (&scene.before, scene.after());
            let same = document(after)["result"] == document(before)["result"];
            let expected = if same { before.result_version } else { after.version };
            prop_assert_eq!(after.result_version, expected, "{:?}", scene.request);
        }
    }

    #[test]
    fn a_revision_rises_by_one_just_when_there_is_something_to_commit(story in story()) {
        for scene in story.play() {
            let (before, after) = (&scene.before, scene.after());
            let as_before = Job { revision: before.revision, ..after.clone() } == *before;
            let changed = scene.outcome.as_ref().is_ok_and(|applied| applied.changed);
            prop_assert_eq!(changed, !as_before, "`changed` is not true: {:?}", scene.request);
            let expected = before.revision + u64::from(changed);
            prop_assert_eq!(after.revision, expected, "the revision does not count changes: {:?}", scene.request);
        }
    }

    #[test]
    fn a_jobs_clock_never_runs_backwards(story in story()) {
        for scene in story.play() {
            let (before, after) = (&scene.before, scene.after());
            let last = before.updated_at;
            prop_assert!(after.updated_at >= last, "updated_at went back: {:?}", scene.request);
            for line in scene.outcome.iter().flat_map(|applied| applied.lines.iter()) {
                prop_assert!(line.at >= last, "a line is older than the one before: {:?}", scene.request);
            }
            let moments = |job: &Job| [Some(job.queued_at), job.started_at, job.state.end().map(|end| end.at)];
            for (then, now) in moments(before).into_iter().zip(moments(after)) {
                let stands = now.is_none_or(|now| Some(now) == then || now >= last);
                prop_assert!(stands, "{:?} became {:?}, before {:?}: {:?}", then, now, last, scene.request);
            }
        }
    }
}

//! `milepost claim`: queued jobs are given to a command.

use std::process::Stdio;

use serde_json::json;

use super::{Place, Running};

/// Says what it was told of its job.
const SCRIPT: &str = "echo \"$MILEPOST_JOB_ID $MILEPOST_KIND $MILEPOST_ATTEMPT $MILEPOST_INPUT_CLIP\"; cat; echo; exit $MILEPOST_INPUT_CODE";

#[test]
fn queued_jobs_are_given_to_a_command_again_and_again() {
    let place = Place::new();
    for (id, code) in [("one", 0), ("two", 3)] {
        let job = json!({"kind": "restyle", "input": {"clip": format!("/v/{id}.mp4"), "code": code}});
        assert_eq!(place.call("PUT", &format!("/jobs/{id}"), &job).0, 201);
    }
    let mut command =
        place.milepost(&["claim", "--kind", "other", "--kind", "restyle", "--worker", "w", "--", "sh", "-c", SCRIPT]);
    let running = Running::start(command.stdout(Stdio::null()));
    let job = place.until("one", |job| job["done"] == true);
    assert_eq!(job["logs"], json!(["one restyle 1 /v/one.mp4", "{\"clip\":\"/v/one.mp4\",\"code\":0}"]));
    assert_eq!((&job["status"], &job["worker"]), (&json!("completed"), &json!("w")));
    let job = place.until("two", |job| job["done"] == true);
    assert_eq!((&job["status"], &job["error"]["exit_code"]), (&json!("failed"), &json!(3)));
    // One that comes later finds it waiting.
    place.call("PUT", "/jobs/late", &json!({"kind": "other"}));
    place.until("late", |job| job["done"] == true);
    running.signal("TERM");
    assert_eq!(running.end(), Some(0));
}

#[test]
fn one_job_and_no_more_has_the_exit_code_of_its_command() {
    let place = Place::new();
    for id in ["one", "two"] {
        place.call("PUT", &format!("/jobs/{id}"), &json!({"kind": "k", "input": {"code": 5}}));
    }
    let output = place.milepost(&["claim", "--once", "--kind", "k", "--", "sh", "-c", SCRIPT]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!((&place.job("one")["status"], &place.job("two")["status"]), (&json!("failed"), &json!("queued")));
}

#[test]
fn a_signal_stops_the_command_and_gives_its_job_back() {
    let place = Place::new();
    place.call("PUT", "/jobs/j", &json!({"kind": "k"}));
    let mut command = place.milepost(&["claim", "--kind", "k", "--", "sh", "-c", "echo begun; exec sleep 100"]);
    let running = Running::start(command.stdout(Stdio::null()));
    place.until("j", |job| job["log_count"] == 1);
    running.signal("TERM");
    assert_eq!(running.end(), Some(0));
    let job = place.job("j");
    assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(2)));
}

#[test]
fn a_job_that_is_taken_away_stops_its_command_and_the_next_one_is_claimed() {
    let place = Place::new();
    place.call("PUT", "/jobs/one", &json!({"kind": "k"}));
    let mut command = place.milepost(&["claim", "--kind", "k", "--", "sh", "-c", "echo begun; exec sleep 100"]);
    let running = Running::start(command.stdout(Stdio::null()));
    place.until("one", |job| job["log_count"] == 1);
    assert_eq!(place.call("POST", "/jobs/one/cancel", &json!({})).0, 202);
    assert_eq!(place.until("one", |job| job["done"] == true)["status"], "cancelled");
    place.call("PUT", "/jobs/two", &json!({"kind": "k"}));
    place.until("two", |job| job["log_count"] == 1);
    running.signal("TERM");
    assert_eq!(running.end(), Some(0));
}

#[test]
fn a_command_that_cannot_be_started_gives_its_job_back() {
    let place = Place::new();
    place.call("PUT", "/jobs/j", &json!({"kind": "k"}));
    let output = place.milepost(&["claim", "--kind", "k", "--", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(place.job("j")["status"], "queued");
}

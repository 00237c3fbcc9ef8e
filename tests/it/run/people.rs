//! `milepost watch`, `logs`, `ls`, `cancel` and `retry`, and the examples of docs/commands.md.

use std::{
    fs,
    io::{BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{Place, Running, line};
use crate::readme::steps;

/// What a command says, and its exit code.
fn said(place: &Place, arguments: &[&str]) -> (String, Option<i32>) {
    let output = place.milepost(arguments).output().unwrap();
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (String::from_utf8(text).unwrap(), output.status.code())
}

#[test]
fn jobs_are_watched_through_a_restart_until_they_are_done() {
    let mut place = Place::new();
    let watch = |place: &Place, ids: &[&str]| {
        let mut command = place.milepost(&["watch"]);
        Running::start(command.args(ids).stdout(Stdio::piped()).stderr(Stdio::null()))
    };
    place.call("PUT", "/jobs/one", &json!({"kind": "k", "status": "processing"}));
    place.call("PUT", "/jobs/two", &json!({"kind": "k"}));
    let mut running = watch(&place, &["one", "two", "one"]);
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    assert_eq!(line(&mut stdout), "one processing 0%");
    assert_eq!(line(&mut stdout), "two queued 0%");
    place.call("PATCH", "/jobs/one", &json!({"progress_pct": 45.6, "stage": "Matting"}));
    assert!(line(&mut stdout).starts_with("one processing 45% Matting"));
    place.kill();
    place.revive();
    place.call("PATCH", "/jobs/two", &json!({"status": "completed"}));
    assert_eq!(line(&mut stdout), "two completed 100%");
    place.call("PATCH", "/jobs/one", &json!({"status": "cancelled"}));
    assert_eq!(line(&mut stdout), "one cancelled 45% Matting");
    assert_eq!(running.end(), Some(2));

    place.call("PUT", "/jobs/bad", &json!({"kind": "k"}));
    place.call("PATCH", "/jobs/bad", &json!({"status": "failed"}));
    for (ids, code) in [(&["two"] as &[&str], 0), (&["two", "one"], 2), (&["one", "bad"], 1), (&["bad", "none"], 3)] {
        assert_eq!(watch(&place, ids).end(), Some(code), "{ids:?}");
    }
}

#[test]
fn a_log_is_followed_through_a_restart_and_commands_no_terminal() {
    let mut place = Place::new();
    place.call("PUT", "/jobs/j", &json!({"kind": "k", "log": ["one", "\u{1b}[2Jtwo"]}));
    let mut command = place.milepost(&["logs", "-f", "j"]);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    assert_eq!((line(&mut stdout), line(&mut stdout)), ("one".to_owned(), "␛[2Jtwo".to_owned()));
    place.kill();
    place.revive();
    place.call("PATCH", "/jobs/j", &json!({"status": "completed", "log": "three"}));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), running.end()), ("three\n", Some(0)));
    assert_eq!(said(&place, &["logs", "j"]), ("one\n␛[2Jtwo\nthree\n".to_owned(), Some(0)));
    let (missing, code) = said(&place, &["logs", "none"]);
    assert!(missing.contains("There is no job `none`") && code == Some(1), "{missing}");
}

#[test]
fn jobs_are_listed_cancelled_and_retried() {
    let place = Place::new();
    for (id, kind) in [("one", "a"), ("two", "b"), ("three", "a")] {
        place.call("PUT", &format!("/jobs/{id}"), &json!({"kind": kind, "labels": {"of": id}}));
    }
    let ids = |arguments: &[&str]| -> Vec<String> {
        let (text, code) = said(&place, arguments);
        assert_eq!(code, Some(0), "{text}");
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    assert_eq!(ids(&["ls"]), ["three", "two", "one"]);
    assert_eq!(ids(&["ls", "--kind", "a", "--limit", "1"]), ["three"]);
    assert_eq!(ids(&["ls", "--label", "of:two"]), ["two"]);
    let (text, _) = said(&place, &["ls", "--json", "--label", "of:two"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], "two");

    assert_eq!(said(&place, &["cancel", "one", "--reason", "wrong clip"]), ("one is cancelled\n".to_owned(), Some(0)));
    assert_eq!(place.job("one")["error"]["message"], "wrong clip");
    assert_eq!(ids(&["ls", "--status", "cancelled,failed"]), ["one"]);
    assert_eq!(said(&place, &["retry", "one"]), ("one is queued, attempt 2\n".to_owned(), Some(0)));
    let (refused, code) = said(&place, &["retry", "one"]);
    assert!(refused.contains("not_finished") && code == Some(1), "{refused}");
    place.call("PATCH", "/jobs/one", &json!({"status": "processing"}));
    assert_eq!(said(&place, &["cancel", "one"]), ("one is asked to stop\n".to_owned(), Some(0)));
    assert_eq!(said(&place, &["ls", "--server", "x"]).1, Some(64));
}

#[test]
fn the_examples_of_the_chapter_print_what_it_says() {
    let place = Place::new();
    let chapter = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_milepost")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let steps = steps(&chapter);
    assert!(steps.len() >= 6, "the examples were not found");
    for (command, expected) in steps {
        let mut shell = Command::new("bash");
        shell.args(["-c", &command]).env("PATH", &path).env("MILEPOST_URL", place.url());
        let output = shell.env("XDG_STATE_HOME", place.directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "$ {command}");
    }
}

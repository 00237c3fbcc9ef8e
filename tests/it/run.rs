//! `milepost run`: commands as jobs, through the program itself, with a service that may be killed meanwhile.

mod claim;
mod outages;
mod people;
mod progress;
mod secure;
mod terminal;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::PATIENCE,
    process::{Service, milepost},
};

/// A service with a place of its own, and commands that are run beside it.
struct Place {
    service: Option<Service>,
    address: String,
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let service = Service::start_at("127.0.0.1:0", directory.path().join("store"), &[]);
        let address = service.address.to_string();
        Self { service: Some(service), address, directory }
    }

    /// The service dies.
    fn kill(&mut self) {
        self.service = None;
    }

    /// It is back, at the same address.
    fn revive(&mut self) {
        self.service = Some(Service::start_at(&self.address, self.path("store"), &[]));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A command of the program that speaks to this service.
    fn milepost(&self, arguments: &[&str]) -> Command {
        let mut command = milepost(arguments);
        command.env("MILEPOST_URL", self.url()).env("XDG_STATE_HOME", self.directory.path());
        command.stdin(Stdio::null()).current_dir(self.directory.path());
        command
    }

    /// `milepost run` of a shell's command, as the job of this name.
    fn run(&self, id: &str, options: &[&str], script: &str) -> Command {
        let mut arguments = vec!["run", "--kind", "k", "--id", id];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        self.milepost(&arguments)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = self.service.as_ref().unwrap().call(method, path, body);
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn job(&self, id: &str) -> Value {
        self.call("GET", &format!("/jobs/{id}?logs=all"), &json!(null)).1
    }

    /// The job, once it is so.
    fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.job(id);
            if is_so(&job) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "never so: {job}");
        }
    }

    /// What waits on the disk.
    fn spooled(&self) -> usize {
        fs::read_dir(self.path("milepost/spool")).map_or(0, Iterator::count)
    }
}

/// A program that runs; killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        signal(&self.0.id().to_string(), name);
    }

    /// Its exit code.
    fn end(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn signal(id: &str, name: &str) {
    assert!(Command::new("kill").args(["-s", name, id]).status().unwrap().success());
}

/// Whether a process is there, and no zombie.
fn is_alive(id: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(id).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

/// The next line of a program's output.
fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn output_and_exit_code_are_those_of_the_command() {
    let place = Place::new();
    let script = r"printf 'out\377\000\r\n\033[1mx'; printf 'err\rerr 2\n\n' >&2; printf end; exit 3";
    let plain = Command::new("sh").args(["-c", script]).output().unwrap();
    let output = place.run("j", &[], script).output().unwrap();
    assert_eq!((output.stdout, output.stderr), (plain.stdout, plain.stderr));
    assert_eq!(output.status.code(), Some(3));
    let job = place.job("j");
    assert_eq!((&job["status"], &job["outcome"]), (&json!("failed"), &json!("failed")));
    let error = json!({"reason": "exit_code", "message": "the command exited with 3", "exit_code": 3});
    assert_eq!(job["error"], error);
    assert_eq!(place.spooled(), 0);
}

#[test]
fn lines_become_the_log_and_the_end_the_result() {
    let place = Place::new();
    let script = r"printf 'one\r\n\033[31mred\033[0m\n10%%\r50%%\r99%%\ntwo'; echo err >&2";
    let options = ["--label", "user:42", "--stage", "Matting"];
    // Where both go to the same pipe, their order is kept.
    let joined = format!("exec 2>&1; {script}");
    let output = place.run("j", &options, &joined).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let job = place.job("j");
    assert_eq!(job["logs"], json!(["one", "red", "99%", "twoerr"]));
    assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &json!({"exit_code": 0})));
    assert_eq!((&job["labels"], &job["stage"]), (&json!({"user": "42"}), &json!("Matting")));
    let input = place.call("GET", "/jobs/j?input=1", &json!(null)).1["input"].clone();
    assert_eq!(input["command"], json!(["sh", "-c", joined]));
}

#[test]
fn bytes_that_are_no_text_are_handed_on_and_not_logged() {
    let place = Place::new();
    let output = place.run("j", &[], "head -c 3000000 /dev/zero; echo text >&2").output().unwrap();
    assert!(output.stdout == vec![0; 3_000_000], "the bytes are others");
    let mut logs: Vec<_> = place.job("j")["logs"].as_array().unwrap().clone();
    logs.sort_by_key(Value::to_string);
    assert_eq!(logs, [json!("text"), json!("… stdout is no text, and not logged …")]);
}

#[test]
fn what_the_command_leaves_behind_is_not_waited_for() {
    let place = Place::new();
    let begun = Instant::now();
    let mut output = Running::start(place.run("j", &[], "sleep 60 & echo $!").stdout(Stdio::piped()));
    let sleeper = line(&mut BufReader::new(output.0.stdout.take().unwrap()));
    assert_eq!(output.end(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(30));
    signal(&sleeper, "KILL");
    assert_eq!(place.job("j")["status"], "completed");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_as_it_would_without_us() {
    let place = Place::new();
    let mut running = Running::start(place.run("j", &[], "exec yes").stdout(Stdio::piped()));
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    // SIGPIPE.
    assert_eq!(running.end(), Some(128 + 13));
    assert_eq!(place.job("j")["error"]["signal"], 13);
}

#[test]
fn a_command_that_cannot_be_started_is_told_as_shells_do() {
    let place = Place::new();
    let output = place.milepost(&["run", "--kind", "k", "--id", "j", "--", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("milepost: /nowhere: "), "{output:?}");
    assert_eq!(place.job("j")["error"]["reason"], "not_started");
    let output = place.milepost(&["run", "--kind", "k", "--", "/etc/passwd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    for wrong in
        [&["--progress-regex", "("] as &[&str], &["--progress-regex", "x"], &["--label", "x"], &["--server", "x"]]
    {
        let mut arguments = vec!["run", "--kind", "k"];
        arguments.extend(wrong);
        arguments.extend(["--", "true"]);
        assert_eq!(place.milepost(&arguments).output().unwrap().status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn signals_are_passed_on_and_told() {
    let place = Place::new();
    let ready = |running: &mut Running| {
        let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
        assert_eq!(line(&mut stdout), "ready");
        stdout
    };
    for (id, name, number) in [("int", "INT", 2), ("term", "TERM", 15), ("hup", "HUP", 1)] {
        let mut command = place.run(id, &[], "echo ready; exec sleep 100");
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let _stdout = ready(&mut running);
        running.signal(name);
        assert_eq!(running.end(), Some(128 + number));
        let error = place.job(id)["error"].clone();
        assert_eq!((&error["reason"], &error["signal"]), (&json!("signal"), &json!(number)));
    }
    let script = "trap 'echo one; exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    let mut running = Running::start(place.run("usr", &[], script).stdout(Stdio::piped()));
    let mut stdout = ready(&mut running);
    running.signal("USR1");
    assert_eq!(line(&mut stdout), "one");
    assert_eq!(running.end(), Some(7));
    // As with nohup.
    let script = "trap '' HUP; exec \"$0\" run --kind k --id nohup -- sh -c 'kill -HUP $$; echo still'";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_milepost")]).env("MILEPOST_URL", place.url());
    assert_eq!(command.output().unwrap().stdout, b"still\n");
}

#[test]
fn a_cancel_stops_all_of_the_command_within_two_seconds() {
    let place = Place::new();
    let mut command = place.run("j", &[], "sleep 100 & echo $!; wait");
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let sleeper = line(&mut BufReader::new(running.0.stdout.take().unwrap()));
    place.until("j", |job| job["log_count"] == 1);
    let begun = Instant::now();
    assert_eq!(place.call("POST", "/jobs/j/cancel", &json!({})).0, 202);
    assert_eq!(running.end(), Some(128 + 15));
    let took = begun.elapsed();
    assert!(!is_alive(&sleeper));
    let job = place.job("j");
    assert_eq!(
        (&job["status"], &job["outcome"], &job["error"]),
        (&json!("cancelled"), &json!("cancelled"), &json!(null))
    );
    eprintln!("cancelled within {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_command_that_does_not_obey_a_cancel_is_killed_after_its_grace() {
    let place = Place::new();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = place.run("j", &["--grace-seconds", "1"], script);
    let running = Running::start(command.stdout(Stdio::null()));
    place.until("j", |job| job["log_count"] == 1);
    let begun = Instant::now();
    assert_eq!(place.call("POST", "/jobs/j/cancel", &json!({})).0, 202);
    assert_eq!(running.end(), Some(128 + 9));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(place.job("j")["status"], "cancelled");
}

#[test]
fn a_job_that_is_somebody_elses_is_left_alone_and_the_command_runs_on() {
    let place = Place::new();
    place.call("PUT", "/jobs/done", &json!({"kind": "k", "status": "processing"}));
    let output = place.run("done", &[], "echo out").output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"out\n".as_slice()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the job done is there already, and processing"), "{said}");
    assert_eq!(place.job("done")["log_count"], 0);
    // One that waits is taken.
    place.call("PUT", "/jobs/queued", &json!({"kind": "k"}));
    assert_eq!(place.run("queued", &[], "echo out").output().unwrap().status.code(), Some(0));
    assert_eq!(place.job("queued")["status"], "completed");
    // One that is ended by somebody else meanwhile is over, and its command is stopped where that is wanted.
    let mut command = place.run("lost", &["--stop-when-lost"], "echo ready; exec sleep 100");
    let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    place.until("lost", |job| job["log_count"] == 1);
    let ended = json!({"status": "failed", "attempt": 1});
    assert_eq!(place.call("PATCH", "/jobs/lost", &ended).0, 200);
    assert_eq!(running.end(), Some(128 + 15));
    assert_eq!(place.job("lost")["status"], "failed");
}

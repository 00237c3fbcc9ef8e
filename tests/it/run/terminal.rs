//! The same in a real terminal: tmux.

use std::{fs::OpenOptions, io::Write, process::Command, time::Instant};

use serde_json::json;
use tempfile::TempDir;

use super::Place;
use crate::harness::PATIENCE;

/// A terminal with a shell in it, and nobody's configuration.
struct Terminal {
    directory: TempDir,
}

impl Terminal {
    fn new(place: &Place) -> Self {
        let terminal = Self { directory: tempfile::tempdir().unwrap() };
        let url = format!("MILEPOST_URL={}", place.url());
        let state = format!("XDG_STATE_HOME={}", place.directory.path().display());
        let program = format!("PROGRAM={}", env!("CARGO_BIN_EXE_milepost"));
        let shell = "exec bash --norc --noprofile";
        let size = ["-x", "100", "-y", "30", "-c", place.directory.path().to_str().unwrap()];
        let mut arguments = vec!["-f", "/dev/null", "new-session", "-d"];
        arguments.extend(size);
        for variable in [&url, &state, &program] {
            arguments.extend(["-e", variable]);
        }
        arguments.push(shell);
        terminal.tmux(&arguments);
        terminal.until("bash-");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.directory.path().join("socket");
        let output = Command::new("tmux").arg("-S").arg(socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a line.
    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.key("Enter");
    }

    fn key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// What is shown, once this is among it.
    fn until(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.tmux(&["capture-pane", "-p"]);
            if shown.contains(text) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "never shown: {text}\n{shown}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone already.
        let socket = self.directory.path().join("socket");
        let _gone = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

#[test]
fn a_command_finds_the_terminal_that_it_would_find_without_us() {
    let place = Place::new();
    let terminal = Terminal::new(&place);
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo all; stty size <&1; stty -a <&0 | grep -o ' icanon'; exit 5";
    terminal.line(&format!("$PROGRAM run --kind k --id j -- sh -c \"{script}\"; echo code=$?"));
    let shown = terminal.until("code=5");
    assert!(shown.contains("\nall\n30 100\n icanon\ncode=5"), "{shown}");
    assert_eq!(place.job("j")["logs"], json!(["all", "30 100", " icanon"]));
    // A pipeline's other end has the terminal, too.
    terminal
        .line("$PROGRAM run --kind k --id p -- sh -c 'seq 200; echo end >&2' | tail -n 1; echo code=${PIPESTATUS[0]}");
    terminal.until("200\ncode=0");
    // The size follows the terminal's.
    terminal.line("$PROGRAM run --kind k --id size -- sh -c 'trap \"stty size <&1\" WINCH; echo ready-; while :; do sleep 0.05; done'");
    terminal.until("\nready-");
    terminal.tmux(&["resize-window", "-x", "90", "-y", "25"]);
    terminal.until("25 90");
    terminal.key("C-c");
}

#[test]
fn progress_bars_and_keys_work_as_without_us() {
    let place = Place::new();
    let terminal = Terminal::new(&place);
    std::fs::write(
        place.path("bar.py"),
        "import tqdm\ngo = open('go')\nfor i in tqdm.tqdm(range(4), mininterval=0): go.readline()\n",
    )
    .unwrap();
    assert!(Command::new("mkfifo").arg(place.path("go")).status().unwrap().success());
    terminal.line("$PROGRAM run --kind k --id bar -- /usr/bin/python3 bar.py; echo code=$?");
    let mut go = OpenOptions::new().write(true).open(place.path("go")).unwrap();
    terminal.until("0/4");
    writeln!(go).unwrap();
    let shown = terminal.until("1/4");
    assert!(!shown.contains("0/4"), "it is rewritten: {shown}");
    place.until("bar", |job| job["progress_pct"] == 25);
    // Stopped with its command, and on again.
    terminal.key("C-z");
    terminal.until("Stopped");
    terminal.line("fg; echo code=$?");
    for done in ["2/4", "3/4", "4/4"] {
        writeln!(go).unwrap();
        terminal.until(done);
    }
    terminal.until("code=0");
    assert_eq!(place.job("bar")["status"], "completed");

    terminal.line("$PROGRAM run --kind k --id int -- sh -c 'echo ready-; exec sleep 100'; echo code=$?");
    terminal.until("\nready-");
    terminal.key("C-c");
    terminal.until("code=130");
    assert_eq!(place.job("int")["error"]["signal"], 2);
    // The shell has its terminal back.
    terminal.line("echo still here");
    terminal.until("\nstill here");
}

#[test]
fn jobs_are_watched_as_bars_that_are_drawn_over() {
    let mut place = Place::new();
    let terminal = Terminal::new(&place);
    for id in ["one", "two"] {
        place.call("PUT", &format!("/jobs/{id}"), &json!({"kind": "k", "status": "processing"}));
    }
    terminal.line("clear; $PROGRAM watch one two; echo code=$?");
    terminal.until("two  ░");
    place.call("PATCH", "/jobs/one", &json!({"progress_pct": 50, "stage": "試験\u{200b}".repeat(20)}));
    let shown = terminal.until("one  ████████████░░░░░░░░░░░░  50%  processing");
    assert!(shown.contains("left  試験"), "{shown}");
    // What is said in between takes their place.
    place.kill();
    terminal.until("waiting for the service");
    place.revive();
    terminal.until("one  ████████████░░░░░░░░░░░░  50%  processing");
    place.call("PATCH", "/jobs/one", &json!({"status": "completed"}));
    place.call("PATCH", "/jobs/two", &json!({"status": "completed"}));
    let shown = terminal.until("code=0");
    assert_eq!(shown.matches("one  ").count(), 1, "{shown}");
    assert_eq!(shown.matches("two  ").count(), 1, "{shown}");
}

#[test]
fn ctrl_c_stops_who_claims_and_gives_its_job_back() {
    let place = Place::new();
    let terminal = Terminal::new(&place);
    for (id, script) in [("one", "exec sleep 100"), ("two", "trap 'exit 130' INT; sleep 100 & wait")] {
        place.call("PUT", &format!("/jobs/{id}"), &json!({"kind": id}));
        let command = format!("$PROGRAM claim --kind {id} -- sh -c \"echo ready-{id}; {script}\"; echo code-{id}=$?");
        terminal.line(&command);
        terminal.until(&format!("\nready-{id}"));
        terminal.key("C-c");
        terminal.until(&format!("code-{id}=0"));
        let job = place.job(id);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(2)));
    }
}

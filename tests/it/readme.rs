//! The README's tour does what the README prints.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A service of its own, killed with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn the_tour_with_curl_prints_what_it_says() {
    let store = TempDir::new().unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_milepost"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store"])
        .arg(store.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Service)
        .unwrap();
    let mut line = String::new();
    BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").expect("the first line says where it listens");

    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 8, "the tour was not found");
    for (command, expected) in steps {
        let command = command.replace("http://127.0.0.1:8080", address);
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim_end(), expected, "$ {command}");
    }
}

/// The commands of the README and what it says they print.
pub(crate) fn steps(readme: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
    let mut open = false;
    for line in readme.lines() {
        match (line.strip_prefix("    $ "), line.strip_prefix("    ")) {
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some(printed)) if open => steps.last_mut().unwrap().1.push(printed),
            _ => {}
        }
        open = line.starts_with("    $ ") || (open && line.starts_with("    "));
    }
    steps.into_iter().map(|(command, printed)| (command, printed.join("\n"))).collect()
}

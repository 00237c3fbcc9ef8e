//! The service is away for a while, or all the time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use super::{Place, Running};

/// Says what it reads, line by line.
const ECHO: &str = "while read -r line; do echo \"line $line\"; done; exit 4";

fn numbered(from: usize, to: usize) -> Vec<Value> {
    (from..=to).map(|number| json!(format!("line {number}"))).collect()
}

fn feed(running: &mut Running, from: usize, to: usize) {
    let lines: String = (from..=to).map(|number| format!("{number}\n")).collect();
    running.0.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
}

/// What a run prints, to its end.
fn printed(running: &mut Running) -> String {
    let mut text = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn with_pipes(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped())
}

#[test]
fn each_line_arrives_once_although_the_service_is_killed_again_and_again() {
    let mut place = Place::new();
    let printed = File::create(place.path("printed")).unwrap();
    let mut command = place.run("j", &[], ECHO);
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(printed));
    for round in 0..3 {
        let begin = round * 3000;
        feed(&mut running, begin + 1, begin + 1000);
        place.until("j", |job| job["log_count"].as_u64() >= Some(begin as u64 + 1));
        // Whatever is under way is cut.
        feed(&mut running, begin + 1001, begin + 1500);
        place.kill();
        feed(&mut running, begin + 1501, begin + 2000);
        place.revive();
        feed(&mut running, begin + 2001, begin + 3000);
    }
    drop(running.0.stdin.take());
    assert_eq!(running.end(), Some(4));
    assert_eq!(std::fs::read_to_string(place.path("printed")).unwrap().lines().count(), 9000);
    let job = place.job("j");
    assert_eq!(job["logs"].as_array().unwrap(), &numbered(1, 9000));
    assert_eq!((&job["status"], &job["error"]["exit_code"]), (&json!("failed"), &json!(4)));
    assert_eq!(place.spooled(), 0);
}

#[test]
fn a_command_runs_without_the_service_and_is_told_of_later() {
    let mut place = Place::new();
    place.kill();
    let mut running =
        Running::start(with_pipes(&mut place.run("j", &["--flush-seconds", "0"], ECHO)).stderr(Stdio::piped()));
    feed(&mut running, 1, 3000);
    drop(running.0.stdin.take());
    assert_eq!(printed(&mut running).lines().count(), 3000);
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(running.end(), Some(4));
    assert!(said.starts_with("milepost: the service is away: ") && said.lines().count() == 1, "{said}");
    assert_eq!(place.spooled(), 1);
    let still = place.milepost(&["flush", "--flush-seconds", "0"]).output().unwrap();
    assert_eq!(still.status.code(), Some(1));

    place.revive();
    let output = place.milepost(&["flush"]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
    let job = place.job("j");
    assert_eq!(job["logs"].as_array().unwrap(), &numbered(1, 3000));
    assert_eq!((&job["status"], &job["error"]["exit_code"]), (&json!("failed"), &json!(4)));
    assert_eq!(place.spooled(), 0);
}

#[test]
fn the_next_run_tells_what_an_earlier_one_could_not() {
    let mut place = Place::new();
    place.kill();
    for id in ["one", "two"] {
        let mut command = place.run(id, &["--flush-seconds", "0"], "echo out; echo 40%");
        assert_eq!(command.stderr(Stdio::null()).status().unwrap().code(), Some(0));
    }
    assert_eq!(place.spooled(), 2);
    place.revive();
    let mut running = Running::start(place.run("three", &[], "read -r line").stdin(Stdio::piped()));
    for id in ["one", "two"] {
        let job = place.until(id, |job| job["done"] == true);
        assert_eq!((&job["status"], &job["logs"]), (&json!("completed"), &json!(["out", "40%"])));
    }
    writeln!(running.0.stdin.as_mut().unwrap()).unwrap();
    assert_eq!(running.end(), Some(0));
    assert_eq!(place.job("three")["status"], "completed");
    assert_eq!(place.spooled(), 0);
}

/// Passes requests on, one for each connection, and loses the answer to the first of this method; where it listens.
fn losing_an_answer(service: &str, method: &'static str) -> SocketAddr {
    fn message(stream: &TcpStream) -> String {
        let (mut reader, mut text, mut length) = (BufReader::new(stream), String::new(), 0);
        while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).unwrap() > 0 {
            let line = text.lines().last().unwrap().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        reader.take(length).read_to_string(&mut text).unwrap();
        text
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, service) = (listener.local_addr().unwrap(), service.to_owned());
    thread::spawn(move || {
        let mut is_lost = false;
        while let Ok((mut client, _)) = listener.accept() {
            let request = message(&client);
            let mut server = TcpStream::connect(&service).unwrap();
            server.write_all(request.as_bytes()).unwrap();
            let answer = message(&server);
            if is_lost || !request.starts_with(method) {
                // Whoever asked may have gone.
                let _gone = client.write_all(answer.as_bytes());
            } else {
                is_lost = true;
            }
        }
    });
    address
}

#[test]
fn whoever_makes_or_takes_a_job_knows_it_when_the_answer_is_lost() {
    let place = Place::new();
    place.call("PUT", "/jobs/waiting", &json!({"kind": "k"}));
    for (method, id) in [("PUT", "new"), ("PATCH", "waiting")] {
        let address = losing_an_answer(&place.address, method);
        let mut command = place.run(id, &[], "echo out");
        let output = command.env("MILEPOST_URL", format!("http://{address}")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{method}");
        let job = place.job(id);
        assert_eq!((&job["status"], &job["logs"]), (&json!("completed"), &json!(["out"])), "{method}");
    }
}

#[test]
fn the_end_is_told_when_the_service_comes_back_in_time() {
    let mut place = Place::new();
    place.kill();
    let mut running = Running::start(with_pipes(&mut place.run("j", &["--flush-seconds", "60"], ECHO)));
    feed(&mut running, 1, 10);
    drop(running.0.stdin.take());
    assert_eq!(printed(&mut running).lines().count(), 10);
    place.revive();
    assert_eq!(running.end(), Some(4));
    assert_eq!(place.job("j")["logs"], json!(numbered(1, 10)));
}

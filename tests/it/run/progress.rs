//! Progress of real programs: ffmpeg, tqdm, and what has an expression of its own.

use std::{
    io::{BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{Place, Running, line, signal};

/// How far the service may be from what the command last said, in percent.
const TOLERANCE: f64 = 2.0;

/// The progress of a job; below zero when it is not there yet.
fn pct(job: &Value) -> f64 {
    job["progress_pct"].as_f64().unwrap_or(-1.0)
}

/// A clip of eight seconds.
fn clip(path: &Path) {
    let source = "testsrc=duration=8:size=320x240:rate=25";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// What stands between the last of these marks and what follows it, among the bytes read so far.
fn last<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (head, _) = text.rsplit_once(after)?;
    head.rsplit_once(before).map(|(_, found)| found)
}

/// Reads stderr for as long as it takes until it says what is looked for.
fn read_until(child: &mut Child, text: &mut String, is_said: impl Fn(&str) -> bool) {
    let stderr = child.stderr.as_mut().unwrap();
    let mut buffer = [0; 4096];
    while !is_said(text) {
        let count = stderr.read(&mut buffer).unwrap();
        assert!(count > 0, "it has ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

/// The seconds of ffmpeg's last `time=00:00:03.20`.
fn seconds(text: &str) -> Option<f64> {
    last(text, "time=00:00:", " bitrate")?.parse().ok()
}

#[test]
fn ffmpeg_is_followed() {
    let place = Place::new();
    clip(&place.path("in.mp4"));
    let script = "echo $$; exec ffmpeg -nostdin -stats_period 0.1 -readrate 4 -i in.mp4 -c:v mpeg4 -y out.mp4";
    let mut command = place.run("j", &[], script);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let ffmpeg = line(&mut BufReader::new(running.0.stdout.take().unwrap()));
    let mut text = String::new();
    for wanted in [2.0, 4.0, 6.0] {
        read_until(&mut running.0, &mut text, |text| seconds(text) >= Some(wanted));
        // It stands still while it is looked at.
        signal(&ffmpeg, "STOP");
        let truth = |text: &str| seconds(text).unwrap() / 8.0 * 100.0;
        let job = place.until("j", |job| (pct(job) - truth(&text)).abs() <= TOLERANCE || pct(job) > truth(&text));
        // It may have said more than was read here yet: no more than a few steps.
        assert!(pct(&job) - truth(&text) < 20.0, "{job} {text}");
        assert!(job["eta_seconds"].as_f64().is_some_and(|eta| (0.0..60.0).contains(&eta)), "{job}");
        let told = pct(&job);
        signal(&ffmpeg, "CONT");
        read_until(&mut running.0, &mut text, |text| truth(text) >= told - TOLERANCE);
    }
    running.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(running.end(), Some(0));
    let job = place.job("j");
    assert_eq!((&job["status"], pct(&job)), (&json!("completed"), 100.0));
    // Its statistics are one line of the log, however often they were written.
    let logs = job["logs"].as_array().unwrap();
    let statistics = logs.iter().filter(|line| line.as_str().unwrap().starts_with("frame=")).count();
    assert!((1..=2).contains(&statistics), "{job}");
    assert!(text.matches("frame=").count() > 3, "{text}");
    assert!(place.path("out.mp4").metadata().unwrap().len() > 1000);
}

#[test]
fn of_its_blocks_for_programs_the_last_is_logged() {
    let place = Place::new();
    clip(&place.path("in.mp4"));
    let script =
        "exec ffmpeg -nostdin -v error -progress - -stats_period 0.1 -readrate 8 -i in.mp4 -c:v mpeg4 -y out.mp4";
    let output = place.run("j", &["--duration-seconds", "8"], script).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.matches("progress=continue").count() > 3, "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    let last = lines.iter().rposition(|line| line.starts_with("frame=")).unwrap();
    assert_eq!(place.job("j")["logs"], json!(lines[last..]));
    // Each of them told how far it was.
    let timeline = place.call("GET", "/jobs/j", &json!(null)).1;
    assert!(timeline["version"].as_u64() > Some(4), "{timeline}");
}

#[test]
fn a_cancel_stops_ffmpeg() {
    let place = Place::new();
    clip(&place.path("in.mp4"));
    let script = "exec ffmpeg -nostdin -re -i in.mp4 -c:v mpeg4 -y out.mp4";
    let running = Running::start(place.run("j", &[], script).stderr(Stdio::null()));
    place.until("j", |job| pct(job) > 0.0);
    let begun = std::time::Instant::now();
    assert_eq!(place.call("POST", "/jobs/j/cancel", &json!({})).0, 202);
    // ffmpeg catches the signal, ends its file and exits with this.
    assert_eq!(running.end(), Some(255));
    let took = begun.elapsed();
    eprintln!("ffmpeg was cancelled within {took:?}");
    assert!(took.as_secs_f64() < 2.0, "{took:?}");
    assert_eq!(place.job("j")["status"], "cancelled");
}

#[test]
fn tqdm_is_followed() {
    let place = Place::new();
    let script = "import sys, tqdm\nfor i in tqdm.tqdm(range(200), mininterval=0): sys.stdin.readline()";
    let mut command = place.milepost(&["run", "--kind", "k", "--id", "j", "--", "/usr/bin/python3", "-c", script]);
    let mut running = Running::start(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
    let mut text = String::new();
    for done in [10, 50, 99, 150] {
        let before = text.matches('\r').count();
        let lines = "\n".repeat(done - last(&text, "| ", "/200").map_or(0, |count| count.trim().parse().unwrap()));
        running.0.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
        read_until(&mut running.0, &mut text, |text| text.contains(&format!("{done}/200")));
        assert!(text.matches('\r').count() > before);
        let truth = done as f64 / 2.0;
        let job = place.until("j", |job| (pct(job) - truth).abs() <= TOLERANCE);
        assert!(job["eta_seconds"].is_number(), "{job}");
    }
    drop(running.0.stdin.take());
    running.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(running.end(), Some(0));
    let job = place.job("j");
    assert_eq!(pct(&job), 100.0);
    assert_eq!(job["log_count"], 1, "{job}");
    assert!(job["logs"][0].as_str().unwrap().contains("200/200"), "{job}");
}

#[test]
fn an_expression_reads_progress_and_another_one_stages() {
    let place = Place::new();
    let script =
        "echo '== Cutting =='; echo 'scene 3 of 4'; read -r x; echo '== Joining =='; echo 'scene 1 of 4'; read -r x";
    let options = ["--progress-regex", r"scene (\d+) of (\d+)", "--stage-regex", "^== (.*) ==$"];
    let mut command = place.run("j", &options, script);
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
    for (stage, progress) in [("Cutting", 75.0), ("Joining", 25.0)] {
        place.until("j", |job| job["stage"] == stage && pct(job) == progress);
        writeln!(running.0.stdin.as_mut().unwrap()).unwrap();
    }
    assert_eq!(running.end(), Some(0));
}

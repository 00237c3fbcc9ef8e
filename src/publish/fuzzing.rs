//! What readers are told, for fuzzers; see `fuzzing.rs`.
//!
//! Promises that are looked at here: whatever a worker writes, a reader of any format finds the same frames and the same
//! lines that were meant, and no text can end one of them or begin another.

use serde_json::{Value, json};

use super::{
    cursor::Cursor,
    frame::{Format, FrameFormat, LogFormat},
    step::{Place, Step},
};
use crate::job::{Document, Job, LogLine};

/// One event as a client takes it from a stream.
#[derive(Debug, PartialEq)]
struct Event {
    event: String,
    id: String,
    data: Value,
}

/// Tells all of a job in every format, and reads it as a client does.
pub(crate) fn told(job: &Job, lines: &[LogLine]) {
    let start = Place::Start { is_reset: true, seq: 0 };
    let rest = Place::At(Cursor { version: 0, seq: 0 });
    for place in [start, rest] {
        let step = |format| place.step(job, lines, format);
        let events = events(&text(&step(Format::Frames(FrameFormat::EventStream))));
        let messages = step(Format::Frames(FrameFormat::Messages));
        assert_eq!(messages.texts().iter().map(|text| message(text)).collect::<Vec<_>>(), events);
        assert_eq!(messages.frames(), events.len() as u64);
        assert_eq!(events, meant(place, job, lines));
    }
    let logged: Vec<_> = lines.iter().map(as_json).collect();
    let ndjson = text(&rest.step(job, lines, Format::Log(LogFormat::Ndjson)));
    assert_eq!(ndjson.split_terminator('\n').map(parsed).collect::<Vec<_>>(), logged);
    bare(&text(&rest.step(job, lines, Format::Log(LogFormat::Text))), job, lines);
}

/// What a step shall tell, put together anew.
fn meant(place: Place, job: &Job, lines: &[LogLine]) -> Vec<Event> {
    let event = |event: &str, id: String, data| Event { event: event.to_owned(), id, data };
    let document = parsed(&String::from_utf8_lossy(&Document::new(job).encode()));
    if place != Place::At(Cursor { version: 0, seq: 0 }) {
        return vec![event("reset", "0.0".into(), json!({})), event("job", format!("{}.0", job.version), document)];
    }
    let mut events = Vec::new();
    let (count, dropped) = (job.log.count, lines.first().map_or(job.log.count, |line| line.seq - 1));
    if dropped > 0 {
        events.push(event("dropped", format!("0.{dropped}"), json!({"from": 1, "to": dropped})));
    }
    events.extend(lines.iter().map(|line| event("log", format!("0.{}", line.seq), as_json(line))));
    let id = format!("{}.{count}", job.version);
    events.push(event("job", id.clone(), document));
    if job.is_done() {
        events.push(event("end", id, json!({"attempt": job.attempt, "reason": "done"})));
    }
    events
}

fn as_json(line: &LogLine) -> Value {
    json!({"seq": line.seq, "at": line.at.to_string(), "attempt": line.attempt, "line": *line.text})
}

/// Bare lines cannot command a terminal, and there are as many as there should be.
fn bare(text: &str, job: &Job, lines: &[LogLine]) {
    let dropped = usize::from(lines.first().map_or(job.log.count, |line| line.seq - 1) > 0);
    assert_eq!(text.matches('\n').count(), lines.len() + dropped, "{text:?}");
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}');
    assert!(!text.contains(commands), "{text:?}");
    for (shown, line) in text.split_terminator('\n').skip(dropped).zip(lines) {
        assert_eq!(shown.chars().count(), line.text.chars().count());
        let is_same = |(shown, meant): (char, char)| shown == meant || commands(meant) || meant == '\n';
        assert!(shown.chars().zip(line.text.chars()).all(is_same), "{shown:?} for {line:?}");
    }
}

fn text(step: &Step) -> String {
    assert!(step.texts().len() <= 1);
    step.texts().iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn message(text: &[u8]) -> Event {
    let message = parsed(&String::from_utf8_lossy(text));
    let word = |name: &str| message[name].as_str().map(str::to_owned).unwrap_or_default();
    Event { event: word("event"), id: word("id"), data: message["data"].clone() }
}

fn parsed(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {text:?}"),
    }
}

/// The events of a stream, read as the standard says: CR, LF and both end a line, an empty line an event.
fn events(stream: &str) -> Vec<Event> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut name, mut id, mut data) = (Vec::new(), "", String::new(), Vec::new());
    for line in stream.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if !data.is_empty() => {
                events.push(Event { event: name.to_owned(), id: id.clone(), data: parsed(&data.join("\n")) });
                (name, data) = ("", Vec::new());
            }
            "" => {}
            "event" => name = value,
            "id" => id = value.to_owned(),
            "data" => data.push(value),
            _ => panic!("a field that nobody sent: {line:?}"),
        }
    }
    assert!(data.is_empty(), "the last event has no end");
    events
}

//! A client of event streams, as strict as the standard: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use serde_json::Value;

use crate::harness::{Call, PATIENCE, Server};

/// An answer that goes on.
pub(crate) struct Lines {
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl Lines {
    pub(crate) async fn open(call: Call) -> Self {
        let response = call.begin().await;
        assert_eq!(response.status(), 200, "{response:?}");
        Self { response, bytes: Vec::new() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers()[name].to_str().unwrap()
    }

    /// The next line; `None` at the end of the answer, or an error where it broke off.
    pub(crate) async fn next(&mut self) -> reqwest::Result<Option<String>> {
        loop {
            // Any of the three ends a line; the service only ever writes one of them.
            if let Some(end) = self.bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
                let line = self.bytes.drain(..=end).collect::<Vec<_>>();
                return Ok(Some(String::from_utf8(line[..end].to_vec()).unwrap()));
            }
            let piece = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing comes");
            match piece? {
                Some(piece) => self.bytes.extend_from_slice(&piece),
                None => {
                    assert!(self.bytes.is_empty(), "half a line: {:?}", self.bytes);
                    return Ok(None);
                }
            }
        }
    }

    /// Everything up to the end.
    pub(crate) async fn rest(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }
}

/// What an event stream says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Event(Event),
    Retry(u64),
    Comment,
    /// A comment, and the id of what is not told.
    Place(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Event {
    /// Name and id.
    pub(crate) fn what(&self) -> (&str, &str) {
        (&self.name, &self.id)
    }
}

/// An event stream.
pub(crate) struct Events(Lines);

impl Events {
    pub(crate) async fn open(call: Call) -> Self {
        let lines = Lines::open(call).await;
        assert_eq!(lines.header("content-type"), "text/event-stream");
        assert_eq!(lines.header("cache-control"), "no-cache");
        assert_eq!(lines.header("x-accel-buffering"), "no");
        let mut events = Self(lines);
        let retry = events.said().await.unwrap();
        assert!(matches!(retry, Some(Said::Retry(1..=2000))), "{retry:?}");
        events
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn said(&mut self) -> reqwest::Result<Option<Said>> {
        let (mut name, mut id, mut data): (Option<String>, Option<String>, Option<String>) = (None, None, None);
        let (mut retry, mut comment): (Option<u64>, bool) = (None, false);
        while let Some(line) = self.0.next().await? {
            if line.is_empty() {
                let said = match (name, id, data, retry, comment) {
                    (Some(name), Some(id), Some(data), None, false) => {
                        Said::Event(Event { name, id, data: serde_json::from_str::<Value>(&data).unwrap() })
                    }
                    (None, None, None, Some(retry), false) => Said::Retry(retry),
                    (None, None, None, None, true) => Said::Comment,
                    (None, Some(id), None, None, true) => Said::Place(id),
                    other => panic!("{other:?}"),
                };
                return Ok(Some(said));
            }
            let (field, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            let known = match field {
                "event" => name.replace(value).is_none(),
                "id" => id.replace(value).is_none(),
                "data" => data.replace(value).is_none(),
                "retry" => retry.replace(value.parse().unwrap()).is_none(),
                "" => {
                    comment = true;
                    true
                }
                _ => false,
            };
            assert!(known, "{line:?}");
        }
        Ok(None)
    }

    /// The next event; what is said beside events does not matter.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.said().await.unwrap()? {
                Said::Event(event) => return Some(event),
                Said::Retry(_) | Said::Comment | Said::Place(_) => {}
            }
        }
    }

    /// So many events.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("more events"));
        }
        events
    }

    /// Everything up to the end.
    pub(crate) async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Names and ids of events.
pub(crate) fn outline(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(Event::what).collect()
}

/// The lines among events.
pub(crate) fn texts(events: &[Event]) -> Vec<&str> {
    let lines = events.iter().filter(|event| event.name == "log");
    lines.map(|event| event.data["line"].as_str().unwrap()).collect()
}

/// Stops the service, which must bring its streams to their end in no time, and tell their readers when to come back.
pub(crate) async fn are_sent_away(server: &Server, streams: Vec<Events>) {
    let begun = std::time::Instant::now();
    // Fails if anything has to be cut.
    server.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    for mut events in streams {
        assert!(matches!(events.said().await.unwrap(), Some(Said::Retry(_))));
        assert_eq!(events.said().await.unwrap(), None);
    }
}

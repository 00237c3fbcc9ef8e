//! Answers that come bit by bit: lines of a log that is followed, and server-sent events.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use tokio::time::timeout;

use super::{ClientError, wire::Wire};

/// A stream that says nothing for so long is dead: the service comments on its silence every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);
/// An event that is longer is none of the service's: results have at most 256 KiB, and lines 16.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An answer whose body is still coming.
pub struct Stream {
    wire: Wire,
    status: u16,
    body: Incoming,
}

impl Stream {
    pub(super) fn new(wire: Wire, response: Response<Incoming>) -> Self {
        Self { wire, status: response.status().as_u16(), body: response.into_body() }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The next bytes; None at the end.
    ///
    /// # Errors
    /// When it breaks off, or is silent for too long.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = self.wire.drive(timeout(SILENCE, self.body.frame())).await;
            match frame.map_err(|_elapsed| ClientError::Silent(SILENCE))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data; lines are joined.
    pub data: String,
    /// Where the stream is with it.
    pub id: Option<String>,
}

/// Reads events out of the bytes of a stream, however they are cut.
#[derive(Debug, Default)]
pub struct EventReader {
    rest: Vec<u8>,
    next: Event,
}

impl EventReader {
    /// The events that are complete with these bytes.
    ///
    /// # Errors
    /// When an event is longer than any of the service's.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ClientError> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.len() + self.next.data.len() > EVENT_BYTES_MAX {
                return Err(ClientError::Cut("an event is too long".to_owned()));
            }
            if self.rest.last() == Some(&b'\n') {
                let line = String::from_utf8_lossy(&self.rest).trim_end_matches(['\n', '\r']).to_owned();
                self.rest.clear();
                self.line(&line, &mut events);
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str, events: &mut Vec<Event>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.next);
            if !event.name.is_empty() || !event.data.is_empty() {
                events.push(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.next.name),
            "id" => self.next.id = Some(value.to_owned()),
            "data" => {
                if !self.next.data.is_empty() {
                    self.next.data.push('\n');
                }
                self.next.data.push_str(value);
            }
            // Comments have no field; `retry` is for browsers.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str =
        "retry: 100\n\n: still here\n\nid: 3.3\nevent: log\ndata: {\"line\": \"é\"}\n\nevent: end\ndata: {}\n\n";

    #[test]
    fn events_have_a_name_data_and_an_id() {
        let events = EventReader::default().feed(TEXT.as_bytes()).unwrap();
        let log = Event { name: "log".into(), data: "{\"line\": \"é\"}".into(), id: Some("3.3".into()) };
        assert_eq!(events, [log, Event { name: "end".into(), data: "{}".into(), id: None }]);
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_their_bytes_are_cut(cuts in prop::collection::vec(0..TEXT.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut reader = EventReader::default();
            let (mut events, mut from) = (Vec::new(), 0);
            for to in cuts.into_iter().chain([TEXT.len()]) {
                events.extend(reader.feed(&TEXT.as_bytes()[from..to]).unwrap());
                from = to;
            }
            prop_assert_eq!(events, EventReader::default().feed(TEXT.as_bytes()).unwrap());
        }
    }
}

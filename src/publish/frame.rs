//! What a reader is told, and the texts that say it.

use std::{fmt, io::Write};

use bytes::Bytes;
use serde::Serialize;

use crate::job::{Attempt, Document, JobId, LogLine, Seq, printable};

/// What is told of a job, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Everything.
    Frames(FrameFormat),
    /// Its log alone.
    Log(LogFormat),
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameFormat {
    /// Events of `text/event-stream` (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
    EventStream,
    /// One JSON text `{"event", "id", "data"}` for each frame.
    Messages,
}

/// How lines are written that come without the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Bare lines for a terminal. A line that begins with an ellipsis says which lines are missing.
    Text,
    /// Lines of JSON. Missing ones show in the numbers.
    Ndjson,
}

/// One thing that a reader is told.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    /// What it has is not of this job, and everything follows; or not of this feed, and it has to read the list anew.
    Reset,
    /// The state of the job.
    Job(&'a Document<'a>),
    /// A line of the log.
    Log(&'a LogLine),
    /// Lines that were trimmed before they could be sent.
    Dropped(Gap),
    /// Nothing follows.
    End(End),
    /// The reader of a feed has everything up to this.
    Ready,
    /// A job that fitted the filter of a feed does not fit any more.
    Left(Named<'a>),
    /// A job that a feed told of is gone.
    Deleted(Named<'a>),
}

/// Where the reader of a feed stands.
#[derive(Serialize)]
struct Ready {
    cursor: String,
}

/// A job that is only named.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Named<'a> {
    pub(super) id: &'a JobId,
}

/// Lines that are missing, the first and the last of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Gap {
    pub(super) from: Seq,
    pub(super) to: Seq,
}

/// How a stream ends by itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct End {
    pub(super) attempt: Attempt,
    pub(super) reason: Reason,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// The job is done.
    Done,
    /// The job is gone.
    Deleted,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Message<'a, T> {
    event: &'static str,
    id: String,
    data: &'a T,
}

/// Frames as one text.
#[derive(Clone, Debug)]
pub struct Said {
    /// The text.
    pub text: Bytes,
    /// How many frames it tells.
    pub frames: u64,
}

impl Said {
    /// What was written; of a format that makes one piece of it.
    pub(super) fn of(encoder: Encoder) -> Self {
        let (pieces, frames) = encoder.finish();
        Self { text: pieces.into_iter().next().unwrap_or_default(), frames }
    }
}

/// Frames on their way into text.
#[derive(Debug)]
pub(super) struct Encoder {
    format: Format,
    /// Whole pieces, and the one that is being written.
    pieces: Vec<Bytes>,
    text: Vec<u8>,
    frames: u64,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        Self { format, pieces: Vec::new(), text: Vec::new(), frames: 0 }
    }

    /// Adds a frame after which the reader stands at `id`.
    pub(super) fn push(&mut self, id: impl fmt::Display, frame: &Frame<'_>) {
        match frame {
            Frame::Reset => self.data("reset", id, &Nothing {}),
            Frame::Job(document) => self.data("job", id, *document),
            Frame::Log(line) => match self.format {
                Format::Frames(_) => self.data("log", id, line),
                Format::Log(LogFormat::Text) => self.line(format_args!("{}", printable(&line.text))),
                Format::Log(LogFormat::Ndjson) => self.json(line, b"\n"),
            },
            Frame::Dropped(gap) => match self.format {
                Format::Log(LogFormat::Text) => {
                    self.line(format_args!("… lines {} to {} are trimmed …", gap.from, gap.to));
                }
                Format::Frames(_) | Format::Log(LogFormat::Ndjson) => self.data("dropped", id, gap),
            },
            Frame::End(end) => self.data("end", id, end),
            Frame::Ready => self.data("ready", &id, &Ready { cursor: id.to_string() }),
            Frame::Left(job) => self.data("left", id, job),
            Frame::Deleted(job) => self.data("deleted", id, job),
        }
    }

    /// Bytes of the piece that is being written.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The texts, and how many frames they tell.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, u64) {
        if !self.text.is_empty() {
            self.pieces.push(self.text.into());
        }
        (self.pieces, self.frames)
    }

    /// A frame that formats of the log alone leave out.
    fn data(&mut self, event: &'static str, id: impl fmt::Display, data: &impl Serialize) {
        match self.format {
            Format::Frames(FrameFormat::EventStream) => {
                // A value in JSON is one line, whatever it says: breaks within are escaped or were white space.
                put(&mut self.text, format_args!("id: {id}\nevent: {event}\ndata: "));
                self.json(data, b"\n\n");
            }
            Format::Frames(FrameFormat::Messages) => {
                self.json(&Message { event, id: id.to_string(), data }, b"");
                self.pieces.push(std::mem::take(&mut self.text).into());
            }
            Format::Log(_) => {}
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        put(&mut self.text, format_args!("{line}\n"));
        self.frames += 1;
    }

    fn json(&mut self, value: &impl Serialize, end: &[u8]) {
        // Made of strings, numbers and JSON: nothing that could fail to be written to memory.
        let written = serde_json::to_writer(&mut self.text, value);
        debug_assert!(written.is_ok(), "{written:?}");
        self.text.extend_from_slice(end);
        self.frames += 1;
    }
}

fn put(text: &mut Vec<u8>, what: fmt::Arguments<'_>) {
    // To memory.
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok(), "{written:?}");
}

//! From what an engine exports to text.

use std::mem;

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, Stream},
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{FORMAT, record::JobRecord};
use crate::{
    engine::{EngineError, Exported},
    job::{LogLine, Timestamp},
};

/// Text is handed on in pieces of about this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// A record of log lines is closed when its text is this long, or has so many lines. Counted from the job's first line,
/// so that the records do not depend on how the engine keeps the lines.
const RECORD_BYTES: usize = 64 * 1024;
const RECORD_LINES: u64 = 1000;

#[derive(Serialize)]
struct Header {
    milepost_export: u32,
    exported_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Record<'a> {
    Job(Box<JobRecord<'a>>),
    End { jobs: u64, lines: u64 },
}

/// Writes the lines of an export.
#[derive(Debug)]
pub struct Encoder {
    text: Vec<u8>,
    jobs: u64,
    lines: u64,
    /// Bytes of text and lines of the record of log lines that is being written.
    open: Option<(usize, u64)>,
}

impl Encoder {
    /// An export that begins with its header.
    pub fn new(exported_at: Timestamp) -> Self {
        let mut encoder = Self { text: Vec::with_capacity(CHUNK_BYTES), jobs: 0, lines: 0, open: None };
        encoder.record(&Header { milepost_export: FORMAT, exported_at });
        encoder
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: &Exported) {
        match piece {
            Exported::Job(job, input, history) => {
                self.close();
                self.record(&Record::Job(JobRecord::new(job, input.as_ref(), history).into()));
                self.jobs += 1;
            }
            Exported::Lines(lines) => lines.iter().for_each(|line| self.line(line)),
            // Whoever takes the pieces finishes the text.
            Exported::End => {}
        }
    }

    /// The text so far, when there is enough of it to be handed on.
    pub fn take(&mut self) -> Option<Bytes> {
        let enough = self.text.len() >= CHUNK_BYTES;
        enough.then(|| mem::replace(&mut self.text, Vec::with_capacity(CHUNK_BYTES)).into())
    }

    /// The rest of the text, with the line that says that it is complete.
    pub fn finish(mut self) -> Bytes {
        self.close();
        self.record(&Record::End { jobs: self.jobs, lines: self.lines });
        self.text.into()
    }

    fn line(&mut self, line: &LogLine) {
        let (bytes, lines) = self.open.unwrap_or_default();
        self.text.extend_from_slice(if lines == 0 { b"{\"lines\":[" } else { b"," });
        self.json(&(line.seq, line.at.0, line.attempt, &*line.text));
        self.open = Some((bytes + line.text.len(), lines + 1));
        self.lines += 1;
        if bytes + line.text.len() >= RECORD_BYTES || lines + 1 >= RECORD_LINES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.text.extend_from_slice(b"]}\n");
        }
    }

    fn record(&mut self, record: &impl Serialize) {
        self.json(record);
        self.text.push(b'\n');
    }

    fn json(&mut self, value: &impl Serialize) {
        // Strings, numbers and JSON that is text already: nothing that could fail to be written to memory.
        let written = serde_json::to_writer(&mut self.text, value);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

/// The text of an export as it comes from an engine. After an error it ends without its last line.
pub fn stream(
    pieces: mpsc::Receiver<Result<Exported, EngineError>>,
    exported_at: Timestamp,
) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + 'static {
    let begun = Some((Encoder::new(exported_at), pieces));
    let text = stream::unfold(begun, |state| async move {
        let (mut encoder, mut pieces) = state?;
        loop {
            match pieces.recv().await {
                Some(Ok(Exported::End)) => return Some((Ok(encoder.finish()), None)),
                Some(Ok(piece)) => encoder.push(&piece),
                Some(Err(error)) => return Some((Err(error), None)),
                // Whoever read it has died.
                None => return Some((Err(EngineError::Unavailable("the export broke off".into())), None)),
            }
            if let Some(text) = encoder.take() {
                return Some((Ok(text), Some((encoder, pieces))));
            }
        }
    });
    // What compresses it asks once more after the end.
    text.fuse()
}

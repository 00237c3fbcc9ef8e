//! The lines of a body that is read as it comes.
//!
//! Promises: no line takes more memory than it may; one that is too long is told so and the next ones are read. A call
//! of [`Lines::next`] can be given up at any time and nothing is lost.

use std::time::Duration;

use axum::body::Body as RawBody;
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use crate::http::{body, error::ApiError, settings::Settings};

/// See the module.
#[derive(Debug)]
pub(in crate::http) struct Lines {
    body: RawBody,
    /// What has come and was not given out.
    buffer: BytesMut,
    /// How much of it is known to have no line break.
    searched: usize,
    /// Whether the line under way was too long already.
    is_skipping: bool,
    is_over: bool,
    /// When the line that has begun must have ended.
    deadline: Option<Instant>,
    line_bytes_max: usize,
    seconds: u32,
}

impl Lines {
    pub(in crate::http) fn new(body: RawBody, settings: &Settings) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            is_skipping: false,
            is_over: false,
            deadline: None,
            line_bytes_max: settings.batch.line_bytes_max,
            seconds: settings.body_read_seconds,
        }
    }

    /// The next line that is not blank, or what is wrong with it; `None` at the end.
    pub(in crate::http) async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        loop {
            if let Some(line) = self.line() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            let piece = match self.deadline {
                // A client may be silent between lines for as long as it likes, but not within one.
                None => body::next(&mut self.body).await,
                Some(deadline) => match timeout_at(deadline, body::next(&mut self.body)).await {
                    Ok(piece) => piece,
                    Err(_) => {
                        self.stop();
                        return Some(Err(ApiError::Slow { seconds: self.seconds }));
                    }
                },
            };
            match piece {
                Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                Ok(None) => self.is_over = true,
                // The client has gone, so its last line may not be what it meant.
                Err(_) => self.stop(),
            }
        }
    }

    /// Reads no more, and forgets the line under way.
    fn stop(&mut self) {
        self.is_over = true;
        self.is_skipping = false;
        self.searched = 0;
        self.buffer.clear();
    }

    /// The next line among what has come.
    fn line(&mut self) -> Option<Result<Bytes, ApiError>> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let line = match found {
                Some(place) => {
                    let line = self.buffer.split_to(self.searched + place + 1);
                    self.searched = 0;
                    self.deadline = None;
                    line
                }
                None if self.is_over => {
                    self.searched = 0;
                    self.buffer.split()
                }
                None => {
                    self.unfinished();
                    return None;
                }
            };
            if std::mem::take(&mut self.is_skipping) || line.len() > self.line_bytes_max + 1 {
                return Some(Err(ApiError::TooLarge { bytes_max: self.line_bytes_max }));
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok(line.freeze()));
            }
            if self.is_over && self.buffer.is_empty() {
                return None;
            }
        }
    }

    /// Remembers that a line has begun, and forgets its text when that is too long.
    fn unfinished(&mut self) {
        if self.buffer.len() > self.line_bytes_max {
            self.buffer.clear();
            self.is_skipping = true;
        }
        self.searched = self.buffer.len();
        if self.deadline.is_none() && (self.is_skipping || !self.buffer.is_empty()) {
            self.deadline = Some(Instant::now() + Duration::from_secs(self.seconds.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn read(pieces: &[&'static str]) -> Vec<Result<String, u16>> {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))).collect();
        let mut lines = Lines {
            body: RawBody::from_stream(stream::iter(pieces)),
            buffer: BytesMut::new(),
            searched: 0,
            is_skipping: false,
            is_over: false,
            deadline: None,
            line_bytes_max: 8,
            seconds: 1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut read = Vec::new();
            while let Some(line) = lines.next().await {
                read.push(match line {
                    Ok(line) => Ok(String::from_utf8(line.trim_ascii().to_vec()).unwrap()),
                    Err(error) => Err(error.problem().code.status().as_u16()),
                });
            }
            read
        })
    }

    fn ok(line: &str) -> Result<String, u16> {
        Ok(line.to_owned())
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(read(&["a\nb", "c\r\n\n", "\n", "d"]), [ok("a"), ok("bc"), ok("d")]);
        assert_eq!(read(&["a\n", "b\n"]), [ok("a"), ok("b")]);
        assert!(read(&[]).is_empty());
        assert!(read(&["\n \n"]).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_told_so_once_and_the_next_ones_are_read() {
        assert_eq!(read(&["12345678\nb\n"]), [ok("12345678"), ok("b")]);
        assert_eq!(read(&["123456789\nb\n"]), [Err(413), ok("b")]);
        assert_eq!(read(&["12345", "6789", "0123456789", "0\nb"]), [Err(413), ok("b")]);
        assert_eq!(read(&["12345", "67890"]), [Err(413)]);
        assert_eq!(read(&["1234567890", "\n", "b\n"]), [Err(413), ok("b")]);
    }
}

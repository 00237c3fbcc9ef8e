//! Bodies that go on while a job does, or for ever.
//!
//! Promises: a body ends by itself only where its format can say so; one that breaks off is broken off, so that a client
//! can tell it from the end. Nothing is read ahead of the client. When the service goes down, no body holds it up.

use std::{pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header::CACHE_CONTROL},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    select,
    time::{Instant, Sleep, sleep},
};

use super::{context::Context, jitter, reply, serve::GoesOn};
use crate::{
    metrics::{Held, StreamKind},
    publish::{ChosenReader, FeedReader, Interrupted, Reader, Said},
};

/// Tells nginx, and those who do as it does, to pass on at once what comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What `text/event-stream` can say beside events.
struct Asides {
    /// Said first, and when the service goes down: when to come back.
    retry: Bytes,
    comment_after: Duration,
    /// Over when a comment is due, if nothing was said meanwhile.
    silence: Pin<Box<Sleep>>,
    spoken_at: Instant,
}

/// What a body is read from. Those that are larger are on the heap, so that the many need not make room for them.
enum Source {
    Job(Reader),
    Feed(Box<FeedReader>),
    Chosen(Box<ChosenReader>),
}

impl Source {
    /// What comes next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Said>, Interrupted> {
        let step = match self {
            Self::Job(reader) => reader.next().await?,
            Self::Feed(reader) => return Box::pin(reader.next()).await.map(Some),
            Self::Chosen(reader) => return Box::pin(reader.next()).await.map(Some),
        };
        // A step that is told in these formats has one text.
        Ok(step.and_then(|step| step.texts().first().map(|text| Said { text: text.clone(), frames: step.frames() })))
    }

    /// What is said after a silence: that the stream is there, and where the reader stands if it does not know.
    fn silence(&mut self) -> Bytes {
        match self {
            Self::Feed(reader) => match reader.unsaid_place() {
                Some(place) => format!(":\nid: {place}\n\n").into(),
                None => SILENCE,
            },
            Self::Job(_) | Self::Chosen(_) => SILENCE,
        }
    }
}

const SILENCE: Bytes = Bytes::from_static(b":\n\n");

struct Live {
    source: Source,
    asides: Option<Asides>,
    frames: Counter,
    is_begun: bool,
    is_over: bool,
    _open: Held,
}

/// An event stream of a job.
pub(super) fn events(context: &Context, reader: Reader) -> Response {
    event_stream(context, Source::Job(reader), StreamKind::Events)
}

/// An event stream of all jobs that fit.
pub(super) fn feed(context: &Context, reader: FeedReader) -> Response {
    event_stream(context, Source::Feed(Box::new(reader)), StreamKind::Feed)
}

/// An event stream of chosen jobs.
pub(super) fn chosen(context: &Context, reader: ChosenReader) -> Response {
    event_stream(context, Source::Chosen(Box::new(reader)), StreamKind::Feed)
}

fn event_stream(context: &Context, source: Source, kind: StreamKind) -> Response {
    let settings = context.settings();
    let retry = jitter::shortened(Duration::from_millis(settings.stream.retry_milliseconds.into()), 2);
    let comment_after = Duration::from_secs(settings.stream.comment_seconds.into());
    let asides = Asides {
        retry: format!("retry: {}\n\n", retry.as_millis()).into(),
        comment_after,
        silence: Box::pin(sleep(comment_after)),
        spoken_at: Instant::now(),
    };
    answer("text/event-stream", body(context, source, kind, Some(asides)))
}

/// A log that is followed.
pub(super) fn lines(context: &Context, media_type: &'static str, reader: Reader) -> Response {
    answer(media_type, body(context, Source::Job(reader), StreamKind::Log, None))
}

fn answer(media_type: &'static str, body: Body) -> Response {
    let mut response = reply::typed(media_type, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response.extensions_mut().insert(GoesOn);
    response
}

fn body(context: &Context, source: Source, kind: StreamKind, asides: Option<Asides>) -> Body {
    let metrics = context.push_metrics();
    // On the heap, since it is moved with each piece.
    let live = Box::new(Live {
        source,
        frames: metrics.frames(kind),
        is_begun: asides.is_none(),
        is_over: false,
        asides,
        _open: Held::new(metrics.open(kind)),
    });
    Body::from_stream(stream::unfold(live, async |mut live| live.next().await.map(|piece| (piece, live))))
}

impl Live {
    async fn next(&mut self) -> Option<Result<Bytes, Interrupted>> {
        if self.is_over {
            return None;
        }
        let Self { source, asides, is_begun, .. } = self;
        if let (false, Some(asides)) = (*is_begun, &*asides) {
            *is_begun = true;
            return Some(Ok(asides.retry.clone()));
        }
        let told = match asides {
            None => source.next().await,
            Some(asides) => select! {
                biased;
                told = source.next() => {
                    asides.spoken_at = Instant::now();
                    told
                }
                () = asides.silent() => return Some(Ok(source.silence())),
            },
        };
        match told {
            Ok(said) => {
                let said = said?;
                self.frames.inc_by(said.frames);
                Some(Ok(said.text))
            }
            Err(interrupted) => {
                self.is_over = true;
                Some(self.last_words(interrupted))
            }
        }
    }

    /// When to come back, where that can be said.
    fn last_words(&self, interrupted: Interrupted) -> Result<Bytes, Interrupted> {
        match (&interrupted, &self.asides) {
            (Interrupted::Closing, Some(asides)) => Ok(asides.retry.clone()),
            (Interrupted::Closing, None) => Err(interrupted),
            (Interrupted::Store(cause), _) => {
                tracing::warn!(%cause, "a stream broke off");
                Err(interrupted)
            }
        }
    }
}

impl Asides {
    /// Returns when nothing was said for so long. The timer is set anew when it is over and not with each event.
    async fn silent(&mut self) {
        loop {
            self.silence.as_mut().await;
            let due = self.spoken_at + self.comment_after;
            let is_silent = due <= Instant::now();
            if is_silent {
                self.spoken_at = Instant::now();
            }
            self.silence.as_mut().reset(self.spoken_at + self.comment_after);
            if is_silent {
                return;
            }
        }
    }
}

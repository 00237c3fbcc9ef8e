//! Bodies that go on while a job does.
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
use thiserror::Error;
use tokio::{
    select,
    time::{Instant, Sleep, sleep},
};

use super::{context::Context, jitter, readiness::Readiness, reply};
use crate::{
    metrics::{Held, StreamKind},
    publish::Reader,
    store::StoreError,
};

/// Tells nginx, and those who do as it does, to pass on at once what comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Why a body broke off.
#[derive(Debug, Error)]
enum BrokenOff {
    #[error("the service is going down")]
    Draining,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What `text/event-stream` can say beside events.
struct Asides {
    /// Said first, and when the service goes down: when to come back.
    retry: Bytes,
    comment_after: Duration,
    /// Until the next comment is due.
    silence: Pin<Box<Sleep>>,
}

struct Live {
    reader: Reader,
    readiness: Readiness,
    asides: Option<Asides>,
    frames: Counter,
    is_begun: bool,
    is_over: bool,
    _open: Held,
}

/// Marks an answer that goes on: whoever passes it on must not hold anything back.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoesOn;

/// An event stream.
pub(super) fn events(context: &Context, reader: Reader) -> Response {
    let settings = context.settings();
    let retry = jitter::shortened(Duration::from_millis(settings.stream.retry_milliseconds.into()), 2);
    let comment_after = Duration::from_secs(settings.stream.comment_seconds.into());
    let asides = Asides {
        retry: format!("retry: {}\n\n", retry.as_millis()).into(),
        comment_after,
        silence: Box::pin(sleep(comment_after)),
    };
    answer("text/event-stream", body(context, reader, StreamKind::Events, Some(asides)))
}

/// A log that is followed.
pub(super) fn lines(context: &Context, media_type: &'static str, reader: Reader) -> Response {
    answer(media_type, body(context, reader, StreamKind::Log, None))
}

fn answer(media_type: &'static str, body: Body) -> Response {
    let mut response = reply::typed(media_type, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response.extensions_mut().insert(GoesOn);
    response
}

fn body(context: &Context, reader: Reader, kind: StreamKind, asides: Option<Asides>) -> Body {
    let metrics = context.push_metrics();
    let live = Live {
        reader,
        readiness: context.readiness().clone(),
        frames: metrics.frames(kind),
        is_begun: asides.is_none(),
        is_over: false,
        asides,
        _open: Held::new(metrics.open(kind)),
    };
    Body::from_stream(stream::unfold(live, async |mut live| live.next().await.map(|piece| (piece, live))))
}

impl Live {
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        if self.is_over {
            return None;
        }
        let Self { reader, readiness, asides, is_begun, .. } = self;
        if let (false, Some(asides)) = (*is_begun, &*asides) {
            *is_begun = true;
            return Some(Ok(asides.retry.clone()));
        }
        let speaks = asides.is_some();
        let silence = async {
            if let Some(asides) = asides {
                asides.silence.as_mut().await;
            }
        };
        select! {
            biased;
            () = readiness.draining() => self.drained(),
            step = reader.next() => match step {
                Err(error) => self.broken(error),
                Ok(None) => None,
                Ok(Some(step)) => {
                    self.frames.inc_by(step.frames());
                    self.spoken();
                    step.texts().first().cloned().map(Ok)
                }
            },
            () = silence, if speaks => {
                self.spoken();
                Some(Ok(Bytes::from_static(b":\n\n")))
            }
        }
    }

    fn spoken(&mut self) {
        if let Some(asides) = &mut self.asides {
            asides.silence.as_mut().reset(Instant::now() + asides.comment_after);
        }
    }

    fn drained(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        self.is_over = true;
        Some(self.asides.as_ref().map(|asides| asides.retry.clone()).ok_or(BrokenOff::Draining))
    }

    fn broken(&mut self, error: StoreError) -> Option<Result<Bytes, BrokenOff>> {
        tracing::warn!(cause = %error, "a stream broke off");
        self.is_over = true;
        Some(Err(error.into()))
    }
}

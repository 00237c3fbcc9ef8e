//! How the task of a connection takes an answer that goes on out of hyper's hands.
//!
//! Promises: it takes over when hyper has written the head to the socket, and no earlier; only an answer to a GET of
//! HTTP/1.1 without a body, which is sent in chunks. Every other answer stays what it is.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{Method, Version},
    response::Response,
    routing::future::RouteFuture,
};
use bytes::Bytes;
use http_body::Frame;
use hyper::Request;

use super::presence::Presence;

/// The rest of an answer that goes on.
#[derive(Debug)]
pub(super) struct Rest {
    /// What comes after the head.
    pub(super) body: Body,
    /// The client wants the connection closed after it.
    pub(super) is_last: bool,
}

/// Marks an answer that goes on, perhaps for hours: whoever passes it on must not hold anything back.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct GoesOn;

/// What an answer, hyper and the task of one connection tell each other. All of them are polled by that task, so what
/// follows upon what needs no more than the order in the code.
#[derive(Clone, Debug, Default)]
pub(super) struct Handover(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    rest: Mutex<Option<Rest>>,
}

/// No answer that goes on, or hyper has not come to what is after the head.
const NOTHING: u8 = 0;
/// hyper has encoded the head, for it asked for what comes after.
const ENCODED: u8 = 1;
/// Everything that hyper had is written.
const WRITTEN: u8 = 2;

impl Handover {
    /// Whether the answer to such a request may be taken over.
    pub(super) fn suits<B: http_body::Body>(request: &Request<B>) -> bool {
        request.method() == Method::GET && request.version() == Version::HTTP_11 && request.body().is_end_stream()
    }

    /// Keeps what comes after the head.
    fn take_over(&self, response: Response, is_last: bool) -> Response {
        let (head, body) = response.into_parts();
        *self.rest() = Some(Rest { body, is_last });
        Response::from_parts(head, Body::new(StandIn(self.clone())))
    }

    /// Everything that was given to the connection is written.
    pub(super) fn flushed(&self) {
        if self.0.phase.load(Relaxed) == ENCODED {
            self.0.phase.store(WRITTEN, Relaxed);
        }
    }

    /// What comes after the head, once that is written.
    pub(super) fn take(&self) -> Option<Rest> {
        if self.0.phase.load(Relaxed) != WRITTEN {
            return None;
        }
        self.0.phase.store(NOTHING, Relaxed);
        self.rest().take()
    }

    fn rest(&self) -> MutexGuard<'_, Option<Rest>> {
        self.0.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands in hyper's hands for what comes after the head: without a length, so that hyper announces chunks.
struct StandIn(Handover);

impl http_body::Body for StandIn {
    type Data = Bytes;
    type Error = Infallible;

    /// Never comes to anything; hyper itself is given up before that.
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // hyper asks again after it has written.
        let phase = &self.0.0.phase;
        if phase.load(Relaxed) == NOTHING {
            phase.store(ENCODED, Relaxed);
        }
        Poll::Pending
    }
}

/// The answer of a route, taken over if it goes on.
pub(super) struct Answering {
    route: RouteFuture<Infallible>,
    presence: Presence,
    /// Where the rest of it may go, and whether the client wants the connection closed after it.
    handover: Option<(Handover, bool)>,
}

impl Answering {
    /// The answer that the route will give; hyper's whatever it is where there is no handover.
    pub(super) fn new(route: RouteFuture<Infallible>, presence: Presence, handover: Option<(Handover, bool)>) -> Self {
        Self { route, presence, handover }
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.route).poll(context));
        if response.extensions().get::<GoesOn>().is_none() {
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(match &self.handover {
            Some((handover, is_last)) => handover.take_over(response, *is_last),
            None => self.presence.matters_to(response),
        }))
    }
}

//! Clients that close their side of the connection.
//!
//! Promises: who has asked and then says no more gets its answer, for it may still read; but nobody is waited for who may
//! have gone, and the two cannot be told apart.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Whether it matters that the client of a connection is there. In the extensions of each request.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Presence(Arc<AtomicBool>);

/// As long as it lives, a client that has closed its side is given up, and with it the request.
#[derive(Debug)]
pub(in crate::http) struct Matters(Presence);

impl Presence {
    /// For a request that is about to wait.
    pub(in crate::http) fn matters(&self) -> Matters {
        self.0.store(true, Relaxed);
        Matters(self.clone())
    }

    pub(super) fn does_matter(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// The answer, of which as much is sent as there is somebody for.
    pub(super) fn matters_to(&self, answer: Response) -> Response {
        let matters = self.matters();
        answer.map(|body| Body::new(Attended { body, _matters: matters }))
    }
}

impl Drop for Matters {
    fn drop(&mut self) {
        self.0.0.store(false, Relaxed);
    }
}

struct Attended {
    body: Body,
    _matters: Matters,
}

impl http_body::Body for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

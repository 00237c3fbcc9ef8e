//! What becomes of a connection once it no longer speaks HTTP.
//!
//! Promises: it stays a connection of the server, which counts it, waits for it and cuts it as any other.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

/// Where a handler that upgrades its connection (RFC 9110, section 7.8) leaves what shall go on with it. In the
/// extensions of each request that asks for an upgrade.
#[derive(Clone, Default)]
pub(in crate::http) struct Afterlife(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Afterlife {
    /// Goes on with this once the answer is sent. A connection is upgraded only once.
    pub(in crate::http) fn will_be(&self, next: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(next));
    }

    pub(super) fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

//! Whether a store still takes writes: the one thing that all who write to it must agree on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::EngineError;

/// Why no more writes are taken, once that is so. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Poison(Arc<Mutex<Option<String>>>);

impl Poison {
    /// # Errors
    /// [`EngineError::Poisoned`]
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.as_ref().map_or(Ok(()), |reason| Err(EngineError::Poisoned(reason.clone())))
    }

    /// The first reason stays.
    pub(super) fn set(&self, reason: &EngineError) {
        tracing::error!(%reason, "the store takes no more writes until it is restarted");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_string());
    }
}

//! Idempotency keys whose first request is under way.
//!
//! Promises: a key is held until what was asked under it is settled, also when whoever asked has gone away.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::StoreError;
use crate::job::Tenant;

type Key = (Tenant, String);

/// The keys that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(Arc<Mutex<HashSet<Key>>>);

/// A key that is held for as long as this lives.
#[derive(Debug)]
pub(super) struct Hold {
    reserved: Reserved,
    key: Key,
}

impl Reserved {
    /// Holds a key.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyInProgress`] while somebody else does.
    pub(super) fn hold(&self, tenant: Tenant, key: &str) -> Result<Arc<Hold>, StoreError> {
        let key = (tenant, key.to_owned());
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return Err(StoreError::IdempotencyInProgress);
        }
        Ok(Arc::new(Hold { reserved: self.clone(), key }))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.reserved.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

//! Idempotency keys whose first request is under way.
//!
//! Promises: a key is held until what was asked under it is settled, also when whoever asked has gone away.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use super::{Caller, JobStore, StoreError};
use crate::{
    engine::{Keyed, Once},
    job::{Attempt, JobId, Tenant, Timestamp},
    sync::Mutex,
};

/// A key under which a creation happens only once.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The key the client chose.
    pub key: String,
    /// Digest of the parsed request: the same key with another digest is refused.
    pub fingerprint: [u8; 32],
}

type Key = (Tenant, String);

/// The keys that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(Arc<Mutex<HashSet<Key>>>);

/// A key that a request comes under. It is held for as long as one of these lives.
#[derive(Clone, Debug)]
pub(super) struct Held {
    name: String,
    fingerprint: [u8; 32],
    expires_at: Timestamp,
    /// When what the key stood for was to be forgotten.
    replaces: Option<Timestamp>,
    _hold: Arc<Hold>,
}

impl Held {
    /// What is remembered under it, once it has led to this attempt of this job.
    pub(super) fn once(&self, id: &JobId, attempt: Attempt) -> Keyed {
        let (fingerprint, expires_at) = (self.fingerprint, self.expires_at);
        let once = Once { fingerprint, id: id.clone(), attempt, expires_at };
        Keyed { name: self.name.clone(), once, replaces: self.replaces }
    }
}

#[derive(Debug)]
struct Hold {
    reserved: Reserved,
    key: Key,
}

impl Reserved {
    /// Holds a key.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyInProgress`] while somebody else does.
    fn hold(&self, tenant: Tenant, key: &str) -> Result<Arc<Hold>, StoreError> {
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

impl JobStore {
    /// Holds a key, and says what an earlier request has come to under it.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyInProgress`], [`StoreError::IdempotencyMismatch`], or the store's own.
    pub(super) async fn held(&self, caller: Caller, key: IdempotencyKey) -> Result<(Held, Option<Once>), StoreError> {
        let IdempotencyKey { key: name, fingerprint } = key;
        let hold = self.inner.reserved.hold(caller.tenant, &name)?;
        let now = self.inner.clock.now();
        let earlier = self.inner.engine.once(caller.tenant, &name, now).await?;
        if earlier.as_ref().is_some_and(|once| once.fingerprint != fingerprint) {
            return Err(StoreError::IdempotencyMismatch);
        }
        let expires_at = now.after(self.inner.settings.idempotency_retain_seconds);
        let replaces = earlier.as_ref().map(|once| once.expires_at);
        Ok((Held { name, fingerprint, expires_at, replaces, _hold: hold }, earlier))
    }
}

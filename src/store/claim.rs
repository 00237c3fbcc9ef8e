//! Claiming: a worker asks for a job, and waits for one.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Caller, IdempotencyKey, JobStore, StoreError,
    committer::Verdict,
    queue::{Ask, ClaimRequest},
    reserved::Held,
    verdict,
};
use crate::job::{Claim, Job, Json, Kind};

/// What a worker wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// A job of one of these.
    pub kinds: Vec<Kind>,
    /// Who it is for, and for how long at a time.
    pub claim: Claim,
    /// How long there may be none.
    pub wait: Duration,
}

/// A job in its worker's hands.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The job.
    pub job: Arc<Job>,
    /// What its worker needs.
    pub input: Option<Json>,
    /// Whether an earlier request with the same idempotency key claimed it.
    pub is_replayed: bool,
}

impl JobStore {
    /// The queued job of the highest priority, and of those the one that waits longest, leased to a worker; `None` when none
    /// came in time. With a key, the same job again while the lease of that attempt lasts.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyMismatch`], [`StoreError::IdempotencyInProgress`], or the store's own.
    pub async fn claim(
        &self,
        caller: Caller,
        wish: Wish,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<Claimed>, StoreError> {
        let Some(key) = key else {
            return self.next_job(caller, &wish, None).await;
        };
        let (held, earlier) = self.held(caller, key).await?;
        if let Some(earlier) = earlier {
            match self.read(caller, &earlier.id).await {
                Ok(snapshot) => {
                    let job = snapshot.job();
                    let is_leased = job.lease_expires_at.is_some_and(|at| at > self.inner.clock.now());
                    if job.attempt == earlier.attempt && is_leased {
                        let input = self.input(&snapshot).await?;
                        return Ok(Some(Claimed { job: job.clone(), input, is_replayed: true }));
                    }
                }
                // What the key stood for is over.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.next_job(caller, &wish, Some(held)).await
    }

    async fn next_job(&self, caller: Caller, wish: &Wish, held: Option<Held>) -> Result<Option<Claimed>, StoreError> {
        let until = Instant::now() + wish.wait;
        let mut claimant = self.inner.claims.register(caller.tenant, &wish.kinds);
        loop {
            let request = ClaimRequest {
                tenant: caller.tenant,
                kinds: wish.kinds.clone(),
                claim: wish.claim.clone(),
                held: held.clone(),
            };
            let found = match verdict(self.ask(Ask::ForJob(Box::new(request)))?).await? {
                Verdict::Applied(changed) => Some(changed.job),
                Verdict::Stood | Verdict::Deleted | Verdict::Nothing | Verdict::Swept(_) => None,
            };
            claimant.looked(found.as_ref().map(|job| &job.spec.kind));
            if let Some(job) = found {
                match self.read(caller, &job.key().id).await {
                    Ok(snapshot) => {
                        let input = self.input(&snapshot).await?;
                        return Ok(Some(Claimed { job, input, is_replayed: false }));
                    }
                    // Deleted in the same moment: there is nothing to do for it.
                    Err(StoreError::NotFound(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            if claimant.is_closed() || timeout_at(until, claimant.called()).await.is_err() {
                return Ok(None);
            }
        }
    }
}

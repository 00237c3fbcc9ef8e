//! Times when a store takes no writes: why, and what leases are owed for them.
//!
//! Promises: a worker that could not renew its lease because of the store does not lose its job for that.
//! Knows nothing of stores: it is told what writes, and looks, have come to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::EngineError;
use crate::job::Timestamp;

/// Workers have not been able to renew their leases if no write was taken for longer.
const OUTAGE: Duration = Duration::from_secs(1);
/// What is full looks well to whoever only reads: it is full until no write was refused for so long.
const FULL: Duration = Duration::from_secs(5);

/// What is known of one store. All of it is of this process: another one asks for itself.
#[derive(Debug)]
pub(super) struct Outages(Mutex<Known>);

#[derive(Debug)]
struct Known {
    outage: Option<Outage>,
    since: Timestamp,
}

/// One that lasts.
#[derive(Debug)]
struct Outage {
    why: EngineError,
    begun: Instant,
    /// When that was last found.
    seen: Instant,
}

impl Outages {
    /// Of a store to which workers have been able to write since then.
    pub(super) fn new(since: Timestamp) -> Self {
        Self(Mutex::new(Known { outage: None, since }))
    }

    /// Takes note of what a write has come to.
    pub(super) fn written(&self, fault: Option<&EngineError>, now: Timestamp) {
        match fault {
            Some(why) => self.lock().begin(why),
            None => self.lock().end(now),
        }
    }

    /// Takes note of what a look has come to that writes nothing.
    pub(super) fn looked(&self, fault: Option<&EngineError>, now: Timestamp) {
        let mut known = self.lock();
        match (fault, &known.outage) {
            (Some(why), _) => known.begin(why),
            (None, Some(Outage { why: EngineError::Full(_), seen, .. })) if seen.elapsed() < FULL => {}
            (None, _) => known.end(now),
        }
    }

    /// Why it takes no writes.
    pub(super) fn health(&self) -> Result<(), EngineError> {
        self.lock().outage.as_ref().map_or(Ok(()), |outage| Err(outage.why.clone()))
    }

    /// Since when workers have been able to write.
    pub(super) fn since(&self, now: Timestamp) -> Timestamp {
        let known = self.lock();
        // Whoever is the first to write again must know it already.
        let is_owed = known.outage.as_ref().is_some_and(Outage::is_long);
        if is_owed { now } else { known.since }
    }

    /// Has workers able to write since then, whatever there was before.
    pub(super) fn begin_anew(&self, since: Timestamp) {
        self.lock().since = since;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn begin(&mut self, why: &EngineError) {
        let seen = Instant::now();
        let begun = self.outage.as_ref().map(|outage| outage.begun);
        if begun.is_none() {
            tracing::error!(error = %why, "the store takes no writes");
        }
        self.outage = Some(Outage { why: why.clone(), begun: begun.unwrap_or(seen), seen });
    }

    fn end(&mut self, now: Timestamp) {
        let Some(outage) = self.outage.take() else { return };
        tracing::info!("the store takes writes again");
        if outage.is_long() {
            self.since = now;
        }
    }
}

impl Outage {
    fn is_long(&self) -> bool {
        self.begun.elapsed() > OUTAGE
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const OPENED: Timestamp = Timestamp(1_000);
    const LATER: Timestamp = Timestamp(100_000);

    fn full() -> EngineError {
        EngineError::Full("no space left".into())
    }

    #[tokio::test(start_paused = true)]
    async fn leases_begin_anew_after_what_was_long_and_while_it_lasts() {
        let outages = Outages::new(OPENED);
        outages.written(Some(&full()), LATER);
        advance(OUTAGE).await;
        assert_eq!(outages.since(LATER), OPENED, "nobody has missed a renewal for so little");
        advance(Duration::from_millis(1)).await;
        assert_eq!(outages.since(LATER), LATER);
        outages.written(Some(&full()), LATER);
        outages.written(None, Timestamp(LATER.0 + 7));
        assert_eq!(outages.since(Timestamp(LATER.0 + 9)), Timestamp(LATER.0 + 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_owes_nothing() {
        let outages = Outages::new(OPENED);
        outages.written(Some(&full()), LATER);
        advance(OUTAGE).await;
        outages.written(None, LATER);
        advance(OUTAGE).await;
        assert_eq!(outages.since(LATER), OPENED);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_full_is_so_until_a_write_is_taken_or_none_was_refused_for_a_while() {
        let outages = Outages::new(OPENED);
        outages.written(Some(&full()), LATER);
        advance(FULL / 2).await;
        outages.written(Some(&full()), LATER);
        advance(FULL - Duration::from_millis(1)).await;
        outages.looked(None, LATER);
        assert!(matches!(outages.health(), Err(EngineError::Full(_))));
        advance(Duration::from_millis(1)).await;
        outages.looked(None, LATER);
        assert!(outages.health().is_ok());
        outages.written(Some(&full()), LATER);
        outages.written(None, LATER);
        assert!(outages.health().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_look_has_found_a_look_ends() {
        let outages = Outages::new(OPENED);
        outages.looked(Some(&EngineError::ReadOnly("a standby".into())), LATER);
        assert!(matches!(outages.health(), Err(EngineError::ReadOnly(_))));
        outages.looked(None, LATER);
        assert!(outages.health().is_ok());
    }
}

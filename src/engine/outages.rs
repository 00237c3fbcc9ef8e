//! Times when a store takes no writes: why, and what leases are owed for them.
//!
//! Promises: a worker whose renewals this process had to refuse does not lose its job for that; a fault that only writes meet is
//! not taken back by a look.
//! Knows nothing of stores: it is told what writes, and looks, have come to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::EngineError;
use crate::job::Timestamp;

/// Workers have not been able to renew their leases if writes were refused for longer.
const OUTAGE: Duration = Duration::from_secs(1);
/// What a write has met is taken to be so still until none was refused for so long: who is sent no writes refuses none.
const QUIET: Duration = Duration::from_secs(5);

/// What this process knows of its store. Other processes on the same one have been told of their own writes.
#[derive(Debug)]
pub(super) struct Outages(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// What looks find that write nothing.
    looked: Option<Outage>,
    /// What writes have met, until one is taken.
    refused: Option<Outage>,
    since: Timestamp,
}

#[derive(Debug)]
struct Outage {
    why: EngineError,
    begun: Instant,
    /// When that was last met.
    seen: Instant,
}

/// Who has found something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Look,
    Write,
}

impl Outages {
    /// Of a store to which workers have been able to write since then.
    pub(super) fn new(since: Timestamp) -> Self {
        Self(Mutex::new(Known { looked: None, refused: None, since }))
    }

    /// Takes note of what a write has come to that was begun then.
    pub(super) fn written(&self, fault: Option<&EngineError>, begun: Instant, now: Timestamp) {
        self.found(By::Write, fault, begun, now);
    }

    /// Takes note of what a look has come to that was begun then, and writes nothing.
    pub(super) fn looked(&self, fault: Option<&EngineError>, begun: Instant, now: Timestamp) {
        self.found(By::Look, fault, begun, now);
    }

    fn found(&self, by: By, fault: Option<&EngineError>, begun: Instant, now: Timestamp) {
        let mut known = self.lock();
        match fault {
            Some(why) => known.begin(by, why, begun),
            None => known.end(by, now),
        }
    }

    /// Why it takes no writes, as far as is known.
    pub(super) fn health(&self) -> Result<(), EngineError> {
        let known = self.lock();
        let refused = known.refused.as_ref().filter(|refused| refused.seen.elapsed() < QUIET);
        known.looked.as_ref().or(refused).map_or(Ok(()), |outage| Err(outage.why.clone()))
    }

    /// Since when workers have been able to write.
    pub(super) fn since(&self, now: Timestamp) -> Timestamp {
        let known = self.lock();
        // Whoever is the first to write again must know it already.
        if known.is_owed() { now } else { known.since }
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
    fn begin(&mut self, by: By, why: &EngineError, begun: Instant) {
        if self.outages().next().is_none() {
            tracing::error!(error = %why, "the store takes no writes");
        }
        let outage = match by {
            By::Write => &mut self.refused,
            By::Look => &mut self.looked,
        };
        let begun = outage.as_ref().map_or(begun, |outage| outage.begun);
        *outage = Some(Outage { why: why.clone(), begun, seen: Instant::now() });
    }

    fn end(&mut self, by: By, now: Timestamp) {
        if self.outages().next().is_none() {
            return;
        }
        let is_owed = self.is_owed();
        self.looked = None;
        if by == By::Write {
            self.refused = None;
        }
        // What writes were refused for lasts until one is taken.
        if self.outages().next().is_none() {
            tracing::info!("the store takes writes again");
            if is_owed {
                self.since = now;
            }
        }
    }

    /// Whether workers have missed renewals.
    fn is_owed(&self) -> bool {
        self.outages().any(|outage| outage.begun.elapsed() > OUTAGE)
    }

    fn outages(&self) -> impl Iterator<Item = &Outage> {
        self.looked.iter().chain(&self.refused)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const OPENED: Timestamp = Timestamp(1_000);
    const LATER: Timestamp = Timestamp(100_000);
    const MOMENT: Duration = Duration::from_millis(1);

    fn full() -> EngineError {
        EngineError::Full("no space left".into())
    }

    fn refused(outages: &Outages) {
        outages.written(Some(&full()), Instant::now(), LATER);
    }

    fn taken(outages: &Outages, now: Timestamp) {
        outages.written(None, Instant::now(), now);
    }

    fn looks_well(outages: &Outages) {
        outages.looked(None, Instant::now(), LATER);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_begin_anew_after_what_was_long_and_while_it_lasts() {
        let outages = Outages::new(OPENED);
        refused(&outages);
        advance(OUTAGE).await;
        assert_eq!(outages.since(LATER), OPENED, "nobody has missed a renewal for so little");
        advance(MOMENT).await;
        assert_eq!(outages.since(LATER), LATER);
        refused(&outages);
        taken(&outages, Timestamp(LATER.0 + 7));
        assert_eq!(outages.since(Timestamp(LATER.0 + 9)), Timestamp(LATER.0 + 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_owes_nothing() {
        let outages = Outages::new(OPENED);
        refused(&outages);
        advance(OUTAGE).await;
        taken(&outages, LATER);
        advance(OUTAGE).await;
        assert_eq!(outages.since(LATER), OPENED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_was_waited_for_is_refused_since_it_was_begun() {
        let outages = Outages::new(OPENED);
        let begun = Instant::now();
        advance(OUTAGE + MOMENT).await;
        outages.written(Some(&EngineError::Indeterminate("no answer".into())), begun, LATER);
        taken(&outages, LATER);
        assert_eq!(outages.since(LATER), LATER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_takes_back_nothing_that_a_write_has_met() {
        let outages = Outages::new(OPENED);
        refused(&outages);
        outages.looked(Some(&EngineError::Unavailable("away".into())), Instant::now(), LATER);
        assert!(matches!(outages.health(), Err(EngineError::Unavailable(_))));
        looks_well(&outages);
        assert!(matches!(outages.health(), Err(EngineError::Full(_))));
        advance(QUIET - MOMENT).await;
        refused(&outages);
        advance(QUIET - MOMENT).await;
        looks_well(&outages);
        assert!(outages.health().is_err());
        advance(MOMENT).await;
        assert!(outages.health().is_ok(), "it may be well, and is tried");
        assert_eq!(outages.since(LATER), LATER, "and leases are owed until it is");
        refused(&outages);
        assert!(outages.health().is_err());
        taken(&outages, LATER);
        assert!(outages.health().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_look_has_found_a_look_ends() {
        let outages = Outages::new(OPENED);
        outages.looked(Some(&EngineError::ReadOnly("a standby".into())), Instant::now(), LATER);
        assert!(matches!(outages.health(), Err(EngineError::ReadOnly(_))));
        advance(OUTAGE + MOMENT).await;
        looks_well(&outages);
        assert!(outages.health().is_ok());
        assert_eq!(outages.since(Timestamp(LATER.0 + 1)), LATER);
    }
}

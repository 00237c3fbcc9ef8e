//! Workers, and what happens by itself: claims, waits, sweeps and restarts.

use std::time::Duration;

use futures_util::future::join_all;
use milepost::{
    job::{Claim, Kind, Seconds},
    store::{Claimed, IdempotencyKey, StoreError},
};
use proptest::{prop_assert, prop_assert_eq};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    PATIENCE,
    answers::{Told, both},
    ledger::Why,
    saga::Wish,
    teller::Teller,
    world::Seat,
};

/// A worker that waits for a job. Its task ends with the store that it waits at, if not before.
pub(super) struct Waiter {
    wish: Wish,
    answer: JoinHandle<Result<Option<Claimed>, StoreError>>,
}

/// Longer than any saga takes.
const LONG: Duration = Duration::from_secs(3600);

/// A key, and what tells a request under it from another one.
pub(super) fn once((key, fingerprint): (u8, u8)) -> IdempotencyKey {
    IdempotencyKey { key: format!("key-{key}"), fingerprint: [fingerprint; 32] }
}

fn wish(of: &Wish, wait: Duration) -> milepost::store::Wish {
    let kinds = of.kinds.iter().map(|kind| Kind::try_from(*kind).unwrap()).collect();
    milepost::store::Wish {
        kinds,
        claim: Claim { worker: of.worker.into(), lease_seconds: Seconds(of.lease_seconds) },
        wait,
    }
}

impl Teller<'_> {
    /// All claim at once, in this order.
    pub(super) async fn claim(&mut self, at: usize, wishes: &[Wish]) -> Told {
        let (caller, now) = (self.caller, self.now());
        let claims = wishes.iter().map(|of| self.seats[at].store.claim(caller, wish(of, Duration::ZERO), None));
        let answers = join_all(claims).await;
        for (answer, wish) in answers.into_iter().zip(wishes) {
            let expected = self.ledger.claim(wish, None, now);
            self.is_given(answer, expected)?;
        }
        Ok(())
    }

    pub(super) async fn claim_once(&mut self, at: usize, of: &Wish, key: (u8, u8)) -> Told {
        let expected = self.ledger.claim(of, Some(key), self.now());
        let answer = self.seats[at].store.claim(self.caller, wish(of, Duration::ZERO), Some(once(key))).await;
        self.is_given(answer, expected)
    }

    /// A worker comes and waits, if there is no job for it; it takes the place of the one before.
    pub(super) async fn wait(&mut self, at: usize, of: &Wish) -> Told {
        self.send_away().await?;
        if self.ledger.next(of).is_none() {
            let (store, caller, wish) = (self.seats[at].store.clone(), self.caller, wish(of, LONG));
            let answer = tokio::spawn(async move { store.claim(caller, wish, None).await });
            // It waits from now on.
            tokio::task::yield_now().await;
            self.waiter = Some(Waiter { wish: of.clone(), answer });
        }
        Ok(())
    }

    /// Whoever waits gets the job that has come.
    pub(super) async fn serve(&mut self) -> Told {
        let has_come = |waiter: &mut Waiter| self.ledger.next(&waiter.wish).is_some();
        let Some(Waiter { wish, answer }) = self.waiter.take_if(has_come) else { return Ok(()) };
        let Ok(answer) = timeout(PATIENCE, answer).await else {
            prop_assert!(false, "a worker waits for {:?}, though a job is there", wish.kinds);
            return Ok(());
        };
        let expected = self.ledger.claim(&wish, None, self.now());
        self.is_given(answer.unwrap(), expected)
    }

    /// Whoever waits goes away without anything.
    pub(super) async fn send_away(&mut self) -> Told {
        let Some(Waiter { answer, .. }) = self.waiter.take() else { return Ok(()) };
        answer.abort();
        // It may have had its answer.
        if let Ok(answer) = answer.await {
            self.is_given(answer, Ok(None))?;
        }
        Ok(())
    }

    pub(super) async fn sweep(&mut self, at: usize) -> Told {
        let expected = self.ledger.sweep(self.seats[at].engine.open_since().0, self.now());
        let answer = self.seats[at].store.sweep(1000).await;
        let Some((sweep, expected)) = both(answer, Ok::<_, Why>(expected))? else { return Ok(()) };
        prop_assert!(sweep.failed.is_none(), "{:?}", sweep.failed);
        let mut swept: Vec<_> = sweep.swept.iter().map(|swept| swept.as_str()).collect();
        swept.sort_unstable();
        prop_assert_eq!(swept, expected, "what was due");
        Ok(())
    }

    /// The service stops and starts again.
    pub(super) async fn restart(&mut self, engine: bool) -> Told {
        self.stand_up().await?;
        if engine {
            self.world.close().await;
        }
        self.seats = self.world.sit_down(self.saga).await;
        Ok(())
    }

    /// The service stops: whoever waits is told that there is nothing, and what was asked is done.
    pub(super) async fn stand_up(&mut self) -> Told {
        for store in self.stores() {
            store.end_waiting();
        }
        if let Some(Waiter { answer, .. }) = self.waiter.take() {
            let answer = timeout(PATIENCE, answer).await.expect("whoever waits is sent away").unwrap();
            self.is_given(answer, Ok(None))?;
        }
        for seat in self.seats.drain(..) {
            seat.leave().await;
        }
        Ok(())
    }

    /// Of all that has moved its readers have heard.
    pub(super) fn has_been_heard(&mut self) -> Told {
        let heard: Vec<_> = self.seats.iter().map(Seat::heard).collect();
        for id in std::mem::take(&mut self.ledger.moved) {
            let told: Vec<_> = heard.iter().filter_map(|heard| heard.get(&self.key(&id))).collect();
            prop_assert!(!told.is_empty(), "{id} has moved, and nobody was told");
            let is_over = self.ledger.jobs.get(&id).is_none_or(|entry| entry.model.is_done());
            prop_assert!(!is_over || told.iter().any(|moved| moved.is_end), "{id} has ended, and nobody was told");
        }
        Ok(())
    }
}

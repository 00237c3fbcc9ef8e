//! Tells a saga to a store and to the ledger, and compares what both say.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use milepost::{
    engine::FeedPlace,
    job::{Guard, JobId, JobKey, NewJob},
    store::{Caller, Created, Creation, JobStore, StoreError, Updated},
};

use super::{
    answers::{Told, both},
    entry::Entry,
    ledger::{Ledger, Why},
    look::look,
    saga::{Deed, Offer, Part, Saga, Scene},
    turns::{Waiter, once},
    world::{Seat, World},
};
use crate::model::{
    steps::Standing,
    wire::{self, change, guard, json},
    words::{Answer, Request},
};

/// A saga that is being told.
pub(super) struct Teller<'a> {
    pub(super) saga: &'a Saga,
    pub(super) world: &'a mut World,
    pub(super) caller: Caller,
    pub(super) ledger: Ledger,
    pub(super) seats: Vec<Seat>,
    ids: Vec<String>,
    /// How each log was last seen, by the number of its job.
    pub(super) seen: BTreeMap<usize, Seen>,
    /// Where the feed ended when it was last read.
    pub(super) mark: FeedPlace,
    /// When it began.
    pub(super) begun: u64,
    pub(super) waiter: Option<Waiter>,
}

/// A log: where it begins is for the job to say, within bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) dropped: u64,
    pub(super) lines: usize,
}

/// Jobs in a page of what is read when all is over.
const PAGE: usize = 3;

/// Tells a saga to a world, and takes all of it out again.
pub(super) async fn tell(world: &mut World, saga: &Saga) -> Told {
    let caller = Caller { tenant: world.tenant() };
    let seats = world.sit_down(saga).await;
    let mark = seats[0].store.feed_end(caller).await.unwrap();
    let (ledger, ids, seen) = (Ledger::new(&saga.rules), vec!["a-0".to_owned()], BTreeMap::new());
    let begun = world.clock().now().0;
    let mut teller = Teller { saga, world, caller, ledger, seats, ids, seen, mark, begun, waiter: None };
    for scene in &saga.scenes {
        teller.play(scene).await?;
    }
    look(&mut teller, PAGE).await?;
    let all: Vec<_> = teller.ledger.jobs.keys().map(|id| (id.clone(), Asked::Delete(None))).collect();
    teller.ask(0, all).await?;
    teller.has_been_heard()?;
    look(&mut teller, PAGE).await?;
    teller.stand_up().await
}

/// What is asked of one job.
enum Asked {
    Make(Box<Offer>),
    Change(Box<Request>),
    Delete(Option<Vec<u64>>),
}

/// What the store and the ledger say to that.
enum Said {
    Made(Result<Created, StoreError>, Result<(Entry, Creation), Why>),
    Changed(Result<Updated, StoreError>, Result<(Entry, Answer), Why>),
    Deleted(Result<(), StoreError>, Result<(), Why>),
}

impl Teller<'_> {
    async fn play(&mut self, scene: &Scene) -> Told {
        self.world.clock().advance_ms(scene.wait);
        let at = scene.replica % self.seats.len();
        match &scene.deed {
            Deed::Ensure(number, offer) => self.ensure(at, format!("a-{number}"), offer).await?,
            Deed::Create(offer, key) => self.create(at, offer, *key).await?,
            Deed::Ask(parts) => {
                let asked = self.asked(parts);
                self.ask(at, asked).await?;
            }
            Deed::Claim(wishes) => self.claim(at, wishes).await?,
            Deed::ClaimOnce(wish, key) => self.claim_once(at, wish, *key).await?,
            Deed::Wait(wish) => self.wait(at, wish).await?,
            Deed::Sweep => self.sweep(at).await?,
            Deed::Restart { engine } => self.restart(*engine).await?,
            Deed::Look(page) => look(self, *page).await?,
        }
        self.serve().await?;
        self.has_been_heard()
    }

    /// The stores that run.
    pub(super) fn stores(&self) -> Vec<JobStore> {
        self.seats.iter().map(|seat| seat.store.clone()).collect()
    }

    /// Every id that was ever asked for.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.ids.iter().cloned().collect()
    }

    pub(super) fn now(&self) -> u64 {
        self.world.clock().now().0
    }

    pub(super) fn key(&self, id: &str) -> JobKey {
        JobKey { tenant: self.caller.tenant, id: JobId::try_from(id).unwrap() }
    }

    fn new_job(&self, id: &str, offer: &Offer) -> NewJob {
        let mut new = offer.birth.new_job(id, offer.kind, &offer.rules(&self.saga.rules));
        new.spec.key = self.key(id);
        new.spec.priority = offer.priority;
        new.input = offer.input.as_ref().map(json);
        new
    }

    fn fresh_id(&mut self) -> String {
        let id = format!("b-{}", self.ids.len());
        self.ids.push(id.clone());
        id
    }

    async fn ensure(&mut self, at: usize, id: String, offer: &Offer) -> Told {
        let expected = self.ledger.ensure(&id, offer, self.now());
        let answer = self.seats[at].store.ensure(self.caller, self.new_job(&id, offer), None).await;
        self.ids.push(id);
        let how = |is_new| if is_new { Creation::Made } else { Creation::Stood };
        self.is_made(answer, expected.map(|(entry, is_new)| (entry, how(is_new))))
    }

    async fn create(&mut self, at: usize, offer: &Offer, key: (u8, u8)) -> Told {
        let id = self.fresh_id();
        let expected = self.ledger.create(&id, offer, key, self.now());
        let answer = self.seats[at].store.create(self.caller, self.new_job(&id, offer), Some(once(key))).await;
        let how = |is_new| if is_new { Creation::Made } else { Creation::Replayed };
        self.is_made(answer, expected.map(|(entry, is_new)| (entry, how(is_new))))
    }

    /// What these parts ask of whom, each as if those before it were done.
    fn asked(&self, parts: &[Part]) -> Vec<(String, Asked)> {
        let mut ledger = self.ledger.clone();
        let mut ids = self.ids.clone();
        let now = self.now();
        let ask = |part: &Part| match part {
            Part::Make(offer) => {
                let id = format!("b-{}", ids.len());
                ids.push(id.clone());
                let _made = ledger.make(&id, offer, now);
                (id, Asked::Make(offer.clone()))
            }
            Part::Delete(number, seen) => {
                let id = ids[number % ids.len()].clone();
                let if_match = ledger.jobs.get(&id).and_then(|entry| seen.of(&Standing::from(&entry.model)));
                let _deleted = ledger.delete(&id, if_match.as_deref(), now);
                (id, Asked::Delete(if_match))
            }
            Part::Change(number, step) => {
                let id = ids[number % ids.len()].clone();
                let request = match ledger.jobs.get(&id) {
                    Some(Entry { model, last_patch, .. }) => {
                        step.request(&Standing::from(model), now, last_patch.as_ref())
                    }
                    None => Request { now, ..wire::to("completed") },
                };
                let _changed = ledger.change(&id, &request);
                (id, Asked::Change(Box::new(request)))
            }
        };
        parts.iter().map(ask).collect()
    }

    /// Asks all of it at once, in this order: what is there is what one after the other would have left.
    async fn ask(&mut self, at: usize, asked: Vec<(String, Asked)>) -> Told {
        // What comes between the commits of a batch is nobody's turn in particular.
        if asked.len() > 1 {
            self.send_away().await?;
        }
        // Each pushes what it asks when it is first polled.
        let said = asked.into_iter().map(|(id, asked)| self.said(at, id, asked)).collect::<Vec<_>>();
        for said in join_all(said).await {
            match said {
                Said::Made(answer, expected) => self.is_made(answer, expected)?,
                Said::Changed(answer, expected) => self.is_changed(answer, expected)?,
                Said::Deleted(answer, expected) => both(answer, expected).map(drop)?,
            }
        }
        Ok(())
    }

    fn said(&mut self, at: usize, id: String, asked: Asked) -> BoxFuture<'static, Said> {
        let (caller, key, now) = (self.caller, self.key(&id).id, self.now());
        let store = self.seats[at].store.clone();
        match asked {
            Asked::Make(offer) => {
                self.ids.push(id.clone());
                let expected = self.ledger.make(&id, &offer, now).map(|entry| (entry, Creation::Made));
                let new = self.new_job(&id, &offer);
                async move { Said::Made(store.create(caller, new, None).await, expected) }.boxed()
            }
            Asked::Change(request) => {
                let expected = self.ledger.change(&id, &request);
                let (change, guard) = (change(&request.ask, &self.saga.rules), guard(&request));
                async move { Said::Changed(store.update(caller, &key, change, guard).await, expected) }.boxed()
            }
            Asked::Delete(if_match) => {
                let expected = self.ledger.delete(&id, if_match.as_deref(), now);
                let guard = Guard { attempt: None, versions: if_match };
                async move { Said::Deleted(store.delete(caller, &key, guard).await, expected) }.boxed()
            }
        }
    }
}

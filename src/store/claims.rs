//! Who waits for a job to claim.
//!
//! Promises: a job that comes into a queue wakes one of those who wait for its kind, the one that came first; nobody waits
//! while a job of its kinds is queued that nobody looks for. Whoever was woken and goes away without it wakes the next, and
//! whoever looked in vain keeps its place.
//! Knows nothing of jobs but their kind. Whoever registers first and looks after has missed nothing.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use crate::{
    job::{Kind, Tenant},
    sync::{AtomicBool, Mutex, MutexGuard, Notify},
};

type Queue = (Tenant, Kind);

/// The registry of those who wait.
#[derive(Debug, Default)]
pub(super) struct Claims {
    state: Mutex<State>,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Those who may be woken, by queue and in the order in which they came.
    waiting: HashMap<Queue, BTreeSet<u64>>,
    members: HashMap<u64, Member>,
    next: u64,
}

/// What the registry knows of somebody who waits.
#[derive(Debug)]
struct Member {
    queues: Arc<[Queue]>,
    /// The queue that it was woken for; until it looks again it is not woken for another one.
    called_to: Option<Queue>,
    call: Arc<Notify>,
}

/// Somebody who waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Claimant {
    claims: Arc<Claims>,
    place: u64,
    /// The queue that it looks at because it was called to it.
    sees_to: Option<Queue>,
    call: Arc<Notify>,
}

impl Claims {
    /// Sends away everybody who waits, and whoever comes later.
    pub(super) fn close(&self) {
        let state = self.lock();
        self.is_closed.store(true, Ordering::SeqCst);
        for member in state.members.values() {
            member.call.notify_one();
        }
    }

    /// Says that a job has come into a queue.
    pub(super) fn has_come(&self, tenant: Tenant, kind: &Kind) {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            state.call((tenant, kind.clone()));
        }
    }

    /// Says that jobs may have come into any queue.
    pub(super) fn may_have_come(&self) {
        let mut state = self.lock();
        let queues: Vec<_> = state.waiting.keys().cloned().collect();
        for queue in queues {
            while state.waiting.contains_key(&queue) {
                state.call(queue.clone());
            }
        }
    }

    /// Waits for jobs of these kinds, from now on.
    pub(super) fn register(self: &Arc<Self>, tenant: Tenant, kinds: &[Kind]) -> Claimant {
        let queues: Arc<[Queue]> = kinds.iter().map(|kind| (tenant, kind.clone())).collect();
        let call = Arc::new(Notify::new());
        let mut state = self.lock();
        let place = state.next;
        state.next += 1;
        state.members.insert(place, Member { queues, called_to: None, call: call.clone() });
        state.enter(place);
        drop(state);
        Claimant { claims: self.clone(), place, sees_to: None, call }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, place: u64) {
        let Some(member) = self.members.get(&place) else { return };
        for queue in &*member.queues {
            self.waiting.entry(queue.clone()).or_default().insert(place);
        }
    }

    fn leave(&mut self, place: u64, queues: &[Queue]) {
        for queue in queues {
            if let Entry::Occupied(mut waiting) = self.waiting.entry(queue.clone()) {
                waiting.get_mut().remove(&place);
                if waiting.get().is_empty() {
                    waiting.remove();
                }
            }
        }
    }

    /// Calls whoever waits longest in a queue.
    fn call(&mut self, queue: Queue) {
        let Some(place) = self.waiting.get(&queue).and_then(|waiting| waiting.first().copied()) else { return };
        let Some(member) = self.members.get_mut(&place) else { return };
        member.called_to = Some(queue);
        member.call.notify_one();
        let queues = member.queues.clone();
        self.leave(place, &queues);
    }
}

impl Claimant {
    /// Whether there is no more waiting; whoever waits returns then.
    pub(super) fn is_closed(&self) -> bool {
        self.claims.is_closed.load(Ordering::SeqCst)
    }

    /// Returns once a job may be there that nobody else looks for, or there is no more waiting. It is to look after this.
    pub(super) async fn called(&mut self) {
        self.call.notified().await;
        let mut state = self.claims.lock();
        self.sees_to = state.members.get_mut(&self.place).and_then(|member| member.called_to.take());
        // In its old place, and before it looks.
        state.enter(self.place);
    }

    /// Says what a look that began after the last call came to: a job of this kind, or none.
    pub(super) fn looked(&mut self, found: Option<&Kind>) {
        let has_seen = match (&self.sees_to, found) {
            (Some((_, kind)), Some(found)) => kind == found,
            (Some(_), None) | (None, _) => true,
        };
        if has_seen {
            self.sees_to = None;
        }
    }
}

impl Drop for Claimant {
    fn drop(&mut self) {
        let mut state = self.claims.lock();
        let Some(member) = state.members.remove(&self.place) else { return };
        state.leave(self.place, &member.queues);
        for queue in [self.sees_to.take(), member.called_to].into_iter().flatten() {
            state.call(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const KINDS: usize = 3;

    fn kind(number: usize) -> Kind {
        Kind::try_from(&*format!("k{number}")).unwrap()
    }

    fn kinds(mask: usize) -> Vec<Kind> {
        (0..KINDS).filter(|number| mask >> number & 1 == 1).map(kind).collect()
    }

    /// What happens next; numbers choose among those who can.
    #[derive(Clone, Debug)]
    enum Event {
        Comes {
            kind: usize,
            rank: usize,
        },
        Registers {
            mask: usize,
        },
        /// Its look is decided, which began when it registered or was called.
        IsAnswered(usize),
        /// It notices the call and looks again.
        Hears(usize),
        GoesAway(usize),
    }

    struct Worker {
        claimant: Claimant,
        kinds: Vec<Kind>,
        is_looking: bool,
    }

    #[derive(Default)]
    struct World {
        claims: Arc<Claims>,
        /// Queued jobs by rank and arrival.
        jobs: BTreeMap<(usize, usize), Kind>,
        workers: Vec<Worker>,
        taken: usize,
        arrivals: usize,
    }

    impl World {
        fn happen(&mut self, event: &Event) {
            let count = self.workers.len();
            match *event {
                Event::Comes { kind: number, rank } => {
                    self.arrivals += 1;
                    self.jobs.insert((rank, self.arrivals), kind(number));
                    self.claims.has_come(Tenant::default(), &kind(number));
                }
                Event::Registers { mask } => {
                    let kinds = kinds(mask);
                    let claimant = self.claims.register(Tenant::default(), &kinds);
                    self.workers.push(Worker { claimant, kinds, is_looking: true });
                }
                Event::IsAnswered(number) if count > 0 => self.answer(number % count),
                Event::Hears(number) if count > 0 => {
                    self.hear(number % count);
                }
                Event::GoesAway(number) if count > 0 => {
                    self.workers.swap_remove(number % count);
                }
                Event::IsAnswered(_) | Event::Hears(_) | Event::GoesAway(_) => {}
            }
        }

        fn answer(&mut self, number: usize) {
            let worker = &mut self.workers[number];
            if !std::mem::take(&mut worker.is_looking) {
                return;
            }
            let found = self.jobs.iter().find(|(_, kind)| worker.kinds.contains(kind)).map(|(place, _)| *place);
            let found = found.and_then(|place| self.jobs.remove(&place));
            worker.claimant.looked(found.as_ref());
            if found.is_some() {
                self.taken += 1;
                self.workers.swap_remove(number);
            }
        }

        fn hear(&mut self, number: usize) -> bool {
            let worker = &mut self.workers[number];
            let heard = !worker.is_looking && worker.claimant.called().now_or_never().is_some();
            worker.is_looking |= heard;
            heard
        }

        /// Everybody does what it can; then nobody may wait for what is there.
        fn settle(&mut self) {
            loop {
                for number in (0..self.workers.len()).rev() {
                    self.answer(number);
                }
                if !(0..self.workers.len()).any(|number| self.hear(number)) {
                    break;
                }
            }
            for worker in &self.workers {
                let missed = self.jobs.values().find(|kind| worker.kinds.contains(kind));
                assert_eq!(missed, None, "somebody waits for {:?}", worker.kinds);
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..KINDS, 0..3_usize).prop_map(|(kind, rank)| Event::Comes { kind, rank }),
            3 => (1..1_usize << KINDS).prop_map(|mask| Event::Registers { mask }),
            4 => any::<usize>().prop_map(Event::IsAnswered),
            4 => any::<usize>().prop_map(Event::Hears),
            1 => any::<usize>().prop_map(Event::GoesAway),
        ]
    }

    proptest! {
        #[test]
        fn nobody_waits_for_a_job_that_is_there(events in prop::collection::vec(event(), 0..60)) {
            let mut world = World::default();
            events.iter().for_each(|event| world.happen(event));
            world.settle();
            assert_eq!(world.taken + world.jobs.len(), world.arrivals, "no job is lost or taken twice");
            world.workers.clear();
            let state = world.claims.lock();
            assert!(state.waiting.is_empty() && state.members.is_empty(), "{state:?}");
        }
    }

    #[test]
    fn when_jobs_may_have_come_everybody_looks() {
        let claims = Arc::new(Claims::default());
        let (both, one) = ([kind(0), kind(1)], [kind(1)]);
        let wishes: [&[Kind]; 3] = [&both, &one, &both];
        let mut workers: Vec<_> = wishes.map(|kinds| claims.register(Tenant::default(), kinds)).into_iter().collect();
        claims.may_have_come();
        assert!(workers.iter_mut().all(|worker| worker.called().now_or_never().is_some()));
        workers.iter_mut().for_each(|worker| worker.looked(None));
        assert!(workers.iter_mut().all(|worker| worker.called().now_or_never().is_none()), "once");
    }

    #[test]
    fn one_job_calls_one_and_the_first() {
        let claims = Arc::new(Claims::default());
        let mut workers: Vec<_> = (0..3).map(|_| claims.register(Tenant::default(), &[kind(0)])).collect();
        claims.has_come(Tenant::default(), &kind(0));
        claims.has_come(Tenant::default(), &kind(1));
        let called: Vec<_> = workers.iter_mut().map(|worker| worker.called().now_or_never().is_some()).collect();
        assert_eq!(called, [true, false, false]);
        // It looked in vain, and is the first again.
        workers[0].looked(None);
        claims.has_come(Tenant::default(), &kind(0));
        assert!(workers[0].called().now_or_never().is_some());
    }
}

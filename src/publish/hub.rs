//! Who waits for which job, or for any job of a tenant.
//!
//! Promises: whoever registers hears of every commit that moves the job from then on; many moves may be heard as one. The
//! committer only leaves a note, however many wait. A job that nobody waits for costs a look-up and no memory.
//! Knows nothing of what a job is, but for its name and how it has moved.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    mem,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep_until},
};

use crate::{
    job::{JobKey, Tenant},
    store::{Moved, Publish},
    sync::{AtomicBool, Mutex, MutexGuard, Notify, watch},
    tasks::Stop,
};

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Anything of this job.
    Job(JobKey),
    /// News of any job of this tenant.
    Feed(Tenant),
}

/// How often a reader wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// With each move, as fast as it reads.
    Each,
    /// At most once in each `calm` span, and at once when a job has come to its end.
    Calm,
}

/// The registry of readers.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
    arrival: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Subject, Registered>,
    /// Subjects with readers that have moved since these were last woken, and whether one has come to its end.
    moved: HashMap<Subject, bool>,
}

#[derive(Debug)]
struct Registered {
    topic: Arc<Topic>,
    members: usize,
}

/// A subject that somebody waits for.
#[derive(Debug)]
struct Topic {
    subject: Subject,
    each: watch::Sender<()>,
    calm: watch::Sender<()>,
    rest: Mutex<Rest>,
}

/// Whether the calm readers of a subject may be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Yes.
    Over,
    /// They were woken a moment ago.
    Quiet,
    /// They were woken a moment ago, and it has moved since.
    Moved,
}

impl Hub {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends away everybody who waits, and whoever comes later.
    pub fn close(&self) {
        let state = self.lock();
        self.is_closed.store(true, Ordering::SeqCst);
        for registered in state.topics.values() {
            registered.topic.each.send_replace(());
            registered.topic.calm.send_replace(());
        }
    }

    /// Registers a reader. What it reads from now on shows every move that it does not hear of.
    pub(super) fn watch(self: &Arc<Self>, subject: Subject, pace: Pace) -> Watch {
        let member = self.join(&mut self.lock(), subject);
        let sender = match pace {
            Pace::Each => &member.topic.each,
            Pace::Calm => &member.topic.calm,
        };
        Watch { moves: sender.subscribe(), is_caught_up: false, member }
    }

    /// What has moved, with whether it has come to its end; waits until there is something.
    async fn moved(self: &Arc<Self>) -> Vec<(Member, bool)> {
        loop {
            let moved = self.take_moved();
            if !moved.is_empty() {
                return moved;
            }
            self.arrival.notified().await;
        }
    }

    pub(super) fn take_moved(self: &Arc<Self>) -> Vec<(Member, bool)> {
        let mut state = self.lock();
        let moved = mem::take(&mut state.moved);
        moved.into_iter().map(|(subject, is_end)| (self.join(&mut state, subject), is_end)).collect()
    }

    fn join(self: &Arc<Self>, state: &mut State, subject: Subject) -> Member {
        let registered = state.topics.entry(subject.clone()).or_insert_with(|| Registered::new(subject));
        registered.members += 1;
        Member { hub: self.clone(), topic: registered.topic.clone() }
    }

    #[cfg(test)]
    pub(super) fn has_moved(&self) -> bool {
        !self.lock().moved.is_empty()
    }

    /// Subjects that somebody waits for.
    #[cfg(test)]
    pub(crate) fn topics(&self) -> usize {
        self.lock().topics.len()
    }

    /// Says that something is noted, if nothing was.
    fn noted(&self, state: MutexGuard<'_, State>, was_empty: bool) {
        let is_first = was_empty && !state.moved.is_empty();
        drop(state);
        if is_first {
            self.arrival.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Hub {
    fn publish(&self, key: &JobKey, moved: Moved) {
        let mut state = self.lock();
        if state.topics.is_empty() {
            return;
        }
        let is_first = state.moved.is_empty();
        state.note(Subject::Job(key.clone()), moved.is_end);
        if moved.has_news {
            // Of many jobs one is always at its end: that is nothing to hurry for.
            state.note(Subject::Feed(key.tenant), false);
        }
        self.noted(state, is_first);
    }

    fn publish_all(&self) {
        let mut state = self.lock();
        let is_first = state.moved.is_empty();
        state.note_all();
        self.noted(state, is_first);
    }
}

impl State {
    /// Notes that every subject has moved, perhaps to its end.
    fn note_all(&mut self) {
        let subjects: Vec<_> = self.topics.keys().cloned().collect();
        for subject in subjects {
            let is_end = matches!(subject, Subject::Job(_));
            self.note(subject, is_end);
        }
    }

    /// Notes that a subject has moved, if somebody waits for it.
    fn note(&mut self, subject: Subject, is_end: bool) {
        if self.topics.contains_key(&subject) {
            *self.moved.entry(subject).or_default() |= is_end;
        }
    }
}

impl Registered {
    fn new(subject: Subject) -> Self {
        let (each, calm) = (watch::Sender::new(()), watch::Sender::new(()));
        Self { topic: Arc::new(Topic { subject, each, calm, rest: Mutex::new(Rest::Over) }), members: 0 }
    }
}

impl Topic {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those on whose account a subject is registered.
#[derive(Debug)]
pub(super) struct Member {
    hub: Arc<Hub>,
    topic: Arc<Topic>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Entry::Occupied(mut registered) = state.topics.entry(self.topic.subject.clone()) {
            registered.get_mut().members -= 1;
            if registered.get().members == 0 {
                registered.remove();
                state.moved.remove(&self.topic.subject);
            }
        }
    }
}

/// A registered reader; it is registered until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    moves: watch::Receiver<()>,
    /// A read that began after the last move that was heard of holds nothing more to tell.
    is_caught_up: bool,
    member: Member,
}

impl Watch {
    /// Whether there is no more waiting; whoever waits returns then.
    pub(super) fn is_closed(&self) -> bool {
        self.member.hub.is_closed.load(Ordering::SeqCst)
    }

    /// Whether there is nothing to read until its subject moves.
    pub(super) fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }

    /// Takes it that what was read last, after this was made or last returned, holds nothing more to tell.
    pub(super) fn caught_up(&mut self) {
        self.is_caught_up = true;
    }

    /// Forgets that its subject has moved; it is to be read after this.
    pub(super) fn settle(&mut self) {
        self.moves.mark_unchanged();
        self.is_caught_up = false;
    }

    /// Returns once its subject has moved since this was made or last returned.
    pub(super) async fn moved(&mut self) {
        // Fails only without a sender, and the member has one.
        let _lives = self.moves.changed().await;
        self.is_caught_up = false;
    }
}

/// Wakes readers, away from the committer: waking ten thousand takes longer than a commit.
#[derive(Debug)]
pub struct Publisher {
    hub: Arc<Hub>,
    calm: Duration,
    /// Subjects whose calm readers were woken within the last `calm`, and until when they rest.
    resting: VecDeque<(Instant, Member)>,
}

impl Publisher {
    /// What wakes the readers of this hub.
    pub fn new(hub: Arc<Hub>, calm: Duration) -> Self {
        Self { hub, calm, resting: VecDeque::new() }
    }

    /// Wakes until it is told to stop.
    pub async fn run(mut self, mut stop: Stop) {
        loop {
            let hub = self.hub.clone();
            let rested = self.resting.front().map(|(until, _)| *until);
            select! {
                () = stop.requested() => return,
                moved = hub.moved() => {
                    for (member, is_end) in moved {
                        self.wake(member, is_end, Instant::now());
                    }
                }
                () = sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {
                    self.wake_rested(Instant::now());
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Wakes the readers of a subject that has moved.
    pub(super) fn wake(&mut self, member: Member, is_end: bool, now: Instant) {
        let topic = member.topic.clone();
        topic.each.send_replace(());
        let mut rest = topic.rest();
        match *rest {
            Rest::Over => {
                topic.calm.send_replace(());
                *rest = Rest::Quiet;
                self.resting.push_back((now + self.calm, member));
            }
            Rest::Quiet | Rest::Moved if is_end => {
                topic.calm.send_replace(());
                *rest = Rest::Quiet;
            }
            Rest::Quiet | Rest::Moved => *rest = Rest::Moved,
        }
    }

    /// Ends the rests that are over.
    pub(super) fn wake_rested(&mut self, now: Instant) {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, member)) = self.resting.pop_front() else { return };
            let topic = member.topic.clone();
            let mut rest = topic.rest();
            if *rest == Rest::Moved {
                topic.calm.send_replace(());
                *rest = Rest::Quiet;
                self.resting.push_back((now + self.calm, member));
            } else {
                *rest = Rest::Over;
            }
        }
    }
}

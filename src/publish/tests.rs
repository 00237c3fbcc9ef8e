//! The hub, step by step: every order in which a committer, the publisher and a reader can take their steps.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    follow::until,
    hub::{Hub, Pace, Publisher, Subject, Watch},
};
use crate::{
    job::{JobId, JobKey, Tenant},
    store::{Moved, Publish},
};

const CALM: Duration = Duration::from_millis(100);

fn key() -> JobKey {
    JobKey { tenant: Tenant(0), id: JobId::try_from("a").unwrap() }
}

fn job() -> Subject {
    Subject::Job(key())
}

fn moved(is_end: bool) -> Moved {
    Moved { is_end, has_news: true }
}

/// Notes that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A point where others may take steps.
async fn step() {
    let mut has_passed = false;
    std::future::poll_fn(|context| {
        if has_passed {
            return Poll::Ready(());
        }
        has_passed = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What a reader does.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Registers, and reads until it finds the last version.
    Wait,
    /// Registers, and reads each version it finds, until the last.
    Follow,
    /// Reads, and registers after that.
    ReadFirst,
    /// Registers, and forgets what moved while it read.
    Forget,
}

/// Versions of a job that end with the last.
const LAST: u32 = 2;

/// A run of the three, in an order that is told from outside.
struct Run {
    hub: Arc<Hub>,
    version: Rc<Cell<u32>>,
    publisher: Publisher,
    /// Steps the committer has made: each version is stored, and then told.
    committed: u32,
    reader: Pin<Box<dyn Future<Output = u32>>>,
    woken: Arc<Flag>,
    read: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Committer,
    Publisher,
    Rest,
    Reader,
}

impl Run {
    fn new(way: Way, pace: Pace) -> Self {
        let (hub, version) = (Arc::new(Hub::new()), Rc::new(Cell::new(0)));
        let reader = Box::pin(reader(way, pace, hub.clone(), version.clone()));
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let publisher = Publisher::new(hub.clone(), CALM);
        Self { hub, version, publisher, committed: 0, reader, woken, read: None }
    }

    /// Who can take a step.
    fn able(&self) -> Vec<Actor> {
        let reader = self.read.is_none() && self.woken.0.load(Ordering::SeqCst);
        let able = [
            (Actor::Committer, self.committed < 2 * LAST),
            (Actor::Publisher, self.hub.has_moved()),
            (Actor::Rest, self.publisher.has_resting()),
            (Actor::Reader, reader),
        ];
        able.into_iter().filter_map(|(actor, able)| able.then_some(actor)).collect()
    }

    fn take_step(&mut self, actor: Actor) {
        // Far apart, so that each rest is over when its step comes.
        let now = Instant::now();
        match actor {
            Actor::Committer => {
                if self.committed.is_multiple_of(2) {
                    self.version.set(self.version.get() + 1);
                } else {
                    self.hub.publish(&key(), moved(self.version.get() == LAST));
                }
                self.committed += 1;
            }
            Actor::Publisher => {
                for (member, is_end) in self.hub.take_moved() {
                    self.publisher.wake(member, is_end, now);
                }
            }
            Actor::Rest => self.publisher.wake_rested(now + CALM),
            Actor::Reader => {
                self.woken.0.store(false, Ordering::SeqCst);
                let waker = Waker::from(self.woken.clone());
                if let Poll::Ready(version) = self.reader.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.read = Some(version);
                }
            }
        }
    }
}

async fn reader(way: Way, pace: Pace, hub: Arc<Hub>, version: Rc<Cell<u32>>) -> u32 {
    let version = &version;
    let read = || async move {
        step().await;
        let found = version.get();
        step().await;
        Ok::<_, Infallible>(found)
    };
    let is_last = |version: &u32| *version == LAST;
    match way {
        Way::Wait => until(&mut hub.watch(job(), pace), read, is_last).await.unwrap().unwrap(),
        Way::Follow => {
            let (mut watch, mut last) = (hub.watch(job(), pace), 0);
            while last != LAST {
                last = until(&mut watch, read, |found| *found > last).await.unwrap().unwrap();
                watch.caught_up();
            }
            last
        }
        Way::ReadFirst => {
            let found = read().await.unwrap();
            if is_last(&found) {
                return found;
            }
            step().await;
            let mut watch = hub.watch(job(), pace);
            watch.moved().await;
            until(&mut watch, read, is_last).await.unwrap().unwrap()
        }
        Way::Forget => {
            let (mut watch, mut last) = (hub.watch(job(), pace), 0);
            while last != LAST {
                last = read().await.unwrap();
                watch.settle();
                if last != LAST {
                    watch.moved().await;
                }
            }
            last
        }
    }
}

/// Every order of steps; how many there are, and in how many of them the reader waits for ever.
fn every_order(way: Way, pace: Pace) -> (u32, u32) {
    let (mut orders, mut lost) = (0, 0);
    // The choices of this order, each with how many there were.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut run = Run::new(way, pace);
        let mut depth = 0;
        loop {
            let able = run.able();
            if able.is_empty() {
                break;
            }
            if depth == choices.len() {
                choices.push((0, able.len()));
            }
            run.take_step(able[choices[depth].0]);
            depth += 1;
        }
        orders += 1;
        lost += u32::from(run.read != Some(LAST));
        // The next order: the last choice that has another one left.
        while choices.last().is_some_and(|(chosen, all)| chosen + 1 == *all) {
            choices.pop();
        }
        let Some((chosen, _)) = choices.last_mut() else { return (orders, lost) };
        *chosen += 1;
    }
}

const PACES: [Pace; 2] = [Pace::Each, Pace::Calm];

#[test]
fn whoever_registers_first_misses_nothing_in_any_order() {
    for (way, pace) in [Way::Wait, Way::Follow].into_iter().flat_map(|way| PACES.map(|pace| (way, pace))) {
        let (orders, lost) = every_order(way, pace);
        assert!(orders > 1_000, "{orders} orders");
        assert_eq!(lost, 0, "of {orders} orders, {way:?}, {pace:?}");
    }
}

/// That the search can find what it looks for.
#[test]
fn whoever_reads_first_waits_for_ever_in_some_orders() {
    for (way, pace) in [Way::ReadFirst, Way::Forget].into_iter().flat_map(|way| PACES.map(|pace| (way, pace))) {
        let (orders, lost) = every_order(way, pace);
        assert!(lost > 0, "of {orders} orders, {way:?}, {pace:?}");
    }
}

/// Whether the reader has been woken since it was last asked.
fn has_moved(watch: &mut Watch) -> bool {
    pin!(watch.moved()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

struct Told {
    hub: Arc<Hub>,
    publisher: RefCell<Publisher>,
    begun: Instant,
}

impl Told {
    fn new() -> Self {
        let hub = Arc::new(Hub::new());
        let publisher = RefCell::new(Publisher::new(hub.clone(), CALM));
        Self { hub, publisher, begun: Instant::now() }
    }

    /// The job moves so many milliseconds after the begin.
    fn moves(&self, ms: u64, is_end: bool) {
        self.hub.publish(&key(), moved(is_end));
        let now = self.begun + Duration::from_millis(ms);
        for (member, is_end) in self.hub.take_moved() {
            self.publisher.borrow_mut().wake(member, is_end, now);
        }
    }

    fn passes(&self, ms: u64) {
        self.publisher.borrow_mut().wake_rested(self.begun + Duration::from_millis(ms));
    }
}

#[test]
fn a_busy_job_wakes_calm_readers_once_in_a_while_and_with_its_end() {
    let told = Told::new();
    let (mut each, mut calm) = (told.hub.watch(job(), Pace::Each), told.hub.watch(job(), Pace::Calm));
    told.moves(0, false);
    assert!(has_moved(&mut each) && has_moved(&mut calm));
    for ms in 1..99 {
        told.moves(ms, false);
        told.passes(ms);
        assert!(has_moved(&mut each) && !has_moved(&mut calm), "{ms}");
    }
    told.passes(100);
    assert!(!has_moved(&mut each) && has_moved(&mut calm), "what moved meanwhile is told once");
    told.moves(101, true);
    assert!(has_moved(&mut calm), "the end is told at once");
    told.passes(200);
    told.passes(300);
    assert!(!has_moved(&mut calm), "and once");
}

#[test]
fn a_reader_that_comes_back_finds_the_job_still_resting() {
    let told = Told::new();
    let mut calm = told.hub.watch(job(), Pace::Calm);
    told.moves(0, false);
    assert!(has_moved(&mut calm));
    drop(calm);
    let mut calm = told.hub.watch(job(), Pace::Calm);
    told.moves(1, false);
    assert!(!has_moved(&mut calm));
    told.passes(100);
    assert!(has_moved(&mut calm));
}

#[test]
fn whoever_waits_is_sent_away_when_the_hub_closes() {
    let told = Told::new();
    let mut watches = [told.hub.watch(job(), Pace::Each), told.hub.watch(job(), Pace::Calm)];
    assert!(watches.iter_mut().all(|watch| !watch.is_closed() && !has_moved(watch)));
    told.hub.close();
    assert!(watches.iter_mut().all(|watch| watch.is_closed() && has_moved(watch)));
    assert!(told.hub.watch(job(), Pace::Each).is_closed());
}

#[test]
fn entries_vanish_with_their_last_reader() {
    let told = Told::new();
    told.moves(0, false);
    assert_eq!(told.hub.topics(), 0, "nobody waits for it");
    let watches = [told.hub.watch(job(), Pace::Each), told.hub.watch(job(), Pace::Calm)];
    assert_eq!(told.hub.topics(), 1);
    told.hub.publish(&key(), moved(false));
    drop(watches);
    assert_eq!(told.hub.topics(), 0);
    assert!(!told.hub.has_moved(), "nor is anything told that nobody waits for");

    let watch = told.hub.watch(job(), Pace::Calm);
    told.moves(1, false);
    drop(watch);
    assert_eq!(told.hub.topics(), 1, "it rests");
    told.passes(101);
    assert_eq!(told.hub.topics(), 0);
}

#[test]
fn whoever_waits_for_any_job_hears_of_news_and_not_of_log_lines() {
    let told = Told::new();
    let mut feed = told.hub.watch(Subject::Feed(key().tenant), Pace::Calm);
    let mut other = told.hub.watch(Subject::Feed(Tenant(1)), Pace::Calm);
    let publish = |has_news, ms| {
        told.hub.publish(&key(), Moved { is_end: true, has_news });
        let now = told.begun + Duration::from_millis(ms);
        for (member, is_end) in told.hub.take_moved() {
            told.publisher.borrow_mut().wake(member, is_end, now);
        }
    };
    publish(false, 0);
    assert!(!has_moved(&mut feed));
    publish(true, 1);
    assert!(has_moved(&mut feed));
    publish(true, 2);
    assert!(!has_moved(&mut feed), "an end is nothing to hurry for");
    told.passes(101);
    assert!(has_moved(&mut feed) && !has_moved(&mut other));
}

#[test]
fn when_anything_may_have_moved_all_who_wait_look() {
    let hub = Arc::new(Hub::new());
    let mut watches = [
        hub.watch(job(), Pace::Each),
        hub.watch(job(), Pace::Calm),
        hub.watch(Subject::Feed(Tenant(0)), Pace::Calm),
        hub.watch(Subject::Feed(Tenant(1)), Pace::Calm),
    ];
    let mut publisher = Publisher::new(hub.clone(), CALM);
    hub.publish_all();
    for (member, is_end) in hub.take_moved() {
        publisher.wake(member, is_end, Instant::now());
    }
    for watch in &mut watches {
        assert!(has_moved(watch));
    }
    // Nobody is there: nothing is kept.
    drop((watches, publisher));
    hub.publish_all();
    assert!(!hub.has_moved() && hub.topics() == 0);
}

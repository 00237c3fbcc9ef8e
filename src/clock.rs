//! Time for decisions: wall time that never runs backwards within a process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::job::Timestamp;

/// A source of [`Timestamp`]s. Clones share their time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Wall time when the process started, or of another machine, carried on by the monotonic clock: setting the wall clock
    /// moves no deadline.
    System(Arc<System>),
    /// Time that a test sets.
    Manual(Arc<AtomicU64>),
}

#[derive(Debug)]
struct System {
    /// The time when it started.
    epoch_ms: AtomicU64,
    started: Instant,
    /// The latest time that was told.
    last: AtomicU64,
}

impl System {
    fn now(&self) -> u64 {
        let now = self.epoch_ms.load(Ordering::SeqCst).saturating_add(self.elapsed_ms());
        now.max(self.last.fetch_max(now, Ordering::SeqCst))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock {
    /// The time of this machine.
    pub fn system() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_ms = AtomicU64::new(u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX));
        Self(Source::System(Arc::new(System { epoch_ms, started: Instant::now(), last: AtomicU64::new(0) })))
    }

    /// A clock that stands still until it is advanced.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(system) => Timestamp(system.now()),
            Source::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Makes this the time now, unless it is a manual clock. It never runs backwards: a clock that is ahead stands still until
    /// it no longer is.
    pub fn follow(&self, now: Timestamp) {
        if let Source::System(system) = &self.0 {
            system.epoch_ms.store(now.0.saturating_sub(system.elapsed_ms()), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock on; the machine's time moves by itself.
    pub fn advance_ms(&self, milliseconds: u64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }
}

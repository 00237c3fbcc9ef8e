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
    /// Wall time when the process started, carried on by the monotonic clock: setting the wall clock moves no deadline.
    System { epoch_ms: u64, started: Instant },
    /// Time that a test sets.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The time of this machine.
    pub fn system() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::System { epoch_ms: u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX), started: Instant::now() })
    }

    /// A clock that stands still until it is advanced.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { epoch_ms, started } => {
                Timestamp(epoch_ms.saturating_add(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)))
            }
            Source::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock on; the machine's time moves by itself.
    pub fn advance_ms(&self, milliseconds: u64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(milliseconds, Ordering::SeqCst);
        }
    }
}

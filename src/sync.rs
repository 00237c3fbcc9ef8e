//! Where threads and tasks meet: locks, flags and bells of the parts whose interleavings are tested.
//!
//! Promises: in the service these are those of std and tokio, and nothing else. In the package's own tests each use of one is a
//! point where another task may go first, if the test is one that tries schedules.

#[cfg(test)]
mod checked;
#[cfg(test)]
pub(crate) mod schedules;

#[cfg(test)]
pub(crate) use self::checked::{AtomicBool, AtomicU64, Mutex, MutexGuard, Notify, oneshot, point, watch};
#[cfg(not(test))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
#[cfg(not(test))]
pub(crate) use tokio::sync::{Notify, oneshot, watch};

//! The same as those of std and tokio, and before each use of one, and after each that wakes, Shuttle may let another task go
//! first.
//!
//! Outside of Shuttle they are just those. Within it a lock is Shuttle's own, which blocks a task and not the thread that all of
//! them share; the others never block, and are the real ones: what tokio does within one call is tested by tokio.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{LockResult, PoisonError, atomic::Ordering},
    time::Duration,
};

/// Whether this runs under Shuttle.
fn is_checked() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

/// A point where another task may go first.
pub(crate) fn point() {
    if is_checked() {
        // Shuttle knows no time: this is a choice of who goes on, and no hint.
        shuttle::thread::sleep(Duration::ZERO);
    }
}

/// See [`std::sync::Mutex`].
pub(crate) enum Mutex<T> {
    Free(std::sync::Mutex<T>),
    Checked(shuttle::sync::Mutex<T>),
}

/// See [`std::sync::MutexGuard`].
#[derive(Debug)]
pub(crate) enum MutexGuard<'a, T> {
    Free(std::sync::MutexGuard<'a, T>),
    Checked(shuttle::sync::MutexGuard<'a, T>),
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        if is_checked() {
            Self::Checked(shuttle::sync::Mutex::new(value))
        } else {
            Self::Free(std::sync::Mutex::new(value))
        }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        fn either<G, H>(locked: LockResult<G>, guard: impl Fn(G) -> H) -> LockResult<H> {
            match locked {
                Ok(locked) => Ok(guard(locked)),
                Err(poisoned) => Err(PoisonError::new(guard(poisoned.into_inner()))),
            }
        }
        match self {
            Self::Free(lock) => either(lock.lock(), MutexGuard::Free),
            Self::Checked(lock) => either(lock.lock(), MutexGuard::Checked),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(lock) => lock.fmt(f),
            Self::Checked(lock) => lock.fmt(f),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Free(guard) => guard,
            Self::Checked(guard) => guard,
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Self::Free(guard) => guard,
            Self::Checked(guard) => guard,
        }
    }
}

/// See [`std::sync::atomic::AtomicBool`].
#[derive(Debug, Default)]
pub(crate) struct AtomicBool(std::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn load(&self, order: Ordering) -> bool {
        point();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        point();
        self.0.store(value, order);
    }
}

/// See [`std::sync::atomic::AtomicU64`].
#[derive(Debug, Default)]
pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        point();
        self.0.load(order)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        point();
        self.0.fetch_add(value, order)
    }
}

/// See [`tokio::sync::Notify`].
#[derive(Debug, Default)]
pub(crate) struct Notify(tokio::sync::Notify);

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        point();
        self.0.notify_one();
        point();
    }

    pub(crate) fn notify_waiters(&self) {
        point();
        self.0.notify_waiters();
        point();
    }

    /// From this call on nothing is missed.
    pub(crate) fn notified(&self) -> impl Future<Output = ()> {
        point();
        self.0.notified()
    }
}

/// See [`tokio::sync::oneshot`].
pub(crate) mod oneshot {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::sync::oneshot::{self, error::RecvError};

    use super::point;

    #[derive(Debug)]
    pub(crate) struct Sender<T>(oneshot::Sender<T>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(oneshot::Receiver<T>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            point();
            let sent = self.0.send(value);
            point();
            sent
        }

        pub(crate) fn is_closed(&self) -> bool {
            point();
            self.0.is_closed()
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            Pin::new(&mut self.0).poll(context)
        }
    }
}

/// See [`tokio::sync::watch`].
pub(crate) mod watch {
    use tokio::sync::watch::{self, Ref, error::RecvError};

    use super::point;

    #[derive(Debug)]
    pub(crate) struct Sender<T>(watch::Sender<T>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(watch::Receiver<T>);

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(watch::Sender::new(value))
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            point();
            let before = self.0.send_replace(value);
            point();
            before
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            point();
            Receiver(self.0.subscribe())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn mark_unchanged(&mut self) {
            point();
            self.0.mark_unchanged();
        }

        pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
            point();
            self.0.changed().await
        }

        pub(crate) async fn wait_for(&mut self, is_it: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
            point();
            self.0.wait_for(is_it).await
        }
    }
}

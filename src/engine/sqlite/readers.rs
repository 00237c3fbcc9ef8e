//! Connections that only read, each with a thread of its own.
//!
//! Promises: a read is of one moment, which is not before it was asked for; as many at once as there are connections, and the
//! others in the order in which they were asked for. A thread goes from one to the next without sleep: to wake one for each
//! costs more than most of them do. What nobody waits for any more is not read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    drafts::Committed,
    read::open,
    view::{View, in_transaction},
};
use crate::engine::EngineError;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// See the module. Dropping this waits for the reads that have been asked for.
#[derive(Debug)]
pub(super) struct Readers {
    /// `None` once it is closed. Each that waits here is a request that waits, and bounded as those are.
    asked: Mutex<Option<Sender<Read>>>,
    drafts: Committed,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn open(
        directory: &Path,
        connections: usize,
        cache_bytes: usize,
        drafts: Committed,
    ) -> Result<Self, EngineError> {
        let (asked, asks) = unbounded();
        let readers = Self { asked: Mutex::new(Some(asked)), drafts, threads: Mutex::default() };
        for _ in 0..connections {
            let (connection, asks) = (open(directory, cache_bytes)?, asks.clone());
            let thread = thread::Builder::new().name("reader".into()).spawn(move || serve(&connection, &asks));
            let thread = thread.map_err(|error| EngineError::Unavailable(format!("no thread for reads: {error}")))?;
            lock(&readers.threads).push(thread);
        }
        Ok(readers)
    }

    /// Runs a read where it may wait for the disk, within one transaction.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, EngineError> {
        let (answer, answered) = oneshot::channel();
        let drafts = self.drafts.clone();
        let work = move |connection: &Connection| {
            if !answer.is_closed() {
                // Whoever asked may have gone away meanwhile.
                let _gone = answer.send(in_transaction(connection, drafts.now(), read));
            }
        };
        let sent = lock(&self.asked).as_ref().is_some_and(|asked| asked.send(Box::new(work)).is_ok());
        if !sent {
            return Err(EngineError::Unavailable("the store is closed".into()));
        }
        answered.await.unwrap_or_else(|_| Err(EngineError::Unavailable("a read has panicked".into())))
    }

    /// Refuses further reads, and waits until those are done that have been asked for and the connections are closed.
    pub(super) fn close(&self) {
        *lock(&self.asked) = None;
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread for reads has panicked");
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(connection: &Connection, asks: &Receiver<Read>) {
    for read in asks {
        // Its transaction ends with it, and so does the wait of who asked; the next ones are not to wait for ever.
        if catch_unwind(AssertUnwindSafe(|| read(connection))).is_err() {
            tracing::error!("a read has panicked");
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

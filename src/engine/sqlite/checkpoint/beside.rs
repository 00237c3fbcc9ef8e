//! The thread that makes passes beside the commits, with a connection of its own.
//!
//! Promises: one pass at a time, each because it was asked for. Dropping this waits for the pass under way.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, InterruptHandle};

use super::{Pass, pass};
use crate::engine::{
    EngineError,
    sqlite::{error::poisons, poison::Poison, read},
};

type Ended = Result<Pass, EngineError>;

/// See the module.
pub(super) struct Beside {
    /// `None` while it is dropped.
    asked: Option<SyncSender<()>>,
    ended: Receiver<Ended>,
    is_working: bool,
    interrupt: InterruptHandle,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    pub(super) fn start(directory: &Path, tables: Arc<File>, poison: Poison) -> Result<Self, EngineError> {
        // It needs no pages of its own.
        let connection = read::open(directory, 0)?;
        let interrupt = connection.get_interrupt_handle();
        let (asked, asks) = sync_channel(1);
        let (ends, ended) = sync_channel(1);
        let work = move || make_passes(&connection, &tables, &poison, &asks, &ends);
        let thread = thread::Builder::new().name("checkpointer".into()).spawn(work);
        let thread = thread.map_err(|error| EngineError::Unavailable(format!("no thread for checkpoints: {error}")))?;
        Ok(Self { asked: Some(asked), ended, is_working: false, interrupt, thread: Some(thread) })
    }

    /// Whether a pass was asked for whose end nobody has heard of yet.
    pub(super) fn is_working(&self) -> bool {
        self.is_working
    }

    /// Asks for a pass. To be asked for while none is under way.
    pub(super) fn begin(&mut self) -> Result<(), EngineError> {
        let asked = self.asked.as_ref().map(|asked| asked.try_send(()));
        asked.and_then(Result::ok).ok_or_else(died)?;
        self.is_working = true;
        Ok(())
    }

    /// What the pass came to, if it has ended.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let ended = match self.ended.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(died()),
        };
        self.is_working = false;
        Some(ended)
    }

    /// Ends the pass under way before it has moved everything.
    pub(super) fn interrupt(&self) {
        self.interrupt.interrupt();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.asked = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for checkpoints has panicked");
        }
    }
}

fn make_passes(connection: &Connection, tables: &File, poison: &Poison, asks: &Receiver<()>, ends: &SyncSender<Ended>) {
    for () in asks {
        let ended = poison.check().and_then(|()| pass(connection)).and_then(|pass| {
            poison.check()?;
            sync(tables).map(|()| pass)
        });
        if let Err(error) = &ended
            && poisons(error)
        {
            // Now, and not when the writer hears of it: that is with the next commit.
            poison.set(error);
        }
        if ends.send(ended).is_err() {
            return;
        }
    }
}

/// Syncs what a pass has moved. SQLite does so only in the pass that reaches the end of the log, which is the writer's: it
/// and everybody would wait for all pages of all passes before it.
fn sync(tables: &File) -> Result<(), EngineError> {
    tables.sync_data().map_err(|error| EngineError::Indeterminate(format!("the tables could not be synced: {error}")))
}

fn died() -> EngineError {
    EngineError::Indeterminate("the thread for checkpoints has died".into())
}

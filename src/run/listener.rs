//! Makes log lines and progress of what a command writes.
//!
//! Must not know how they are told.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    blocks::Blocks,
    fold::{Fold, Said},
    gauge::Gauge,
    outbox::Outbox,
    pump::Reader,
};

/// Listens to one output of a command. The outputs of a command share its gauge.
#[derive(Debug)]
pub(super) struct Listener {
    name: &'static str,
    fold: Fold,
    blocks: Blocks,
    gauge: Arc<Mutex<Gauge>>,
    outbox: Arc<Outbox>,
}

impl Listener {
    pub(super) fn new(name: &'static str, gauge: &Arc<Mutex<Gauge>>, outbox: &Arc<Outbox>) -> Self {
        let (fold, blocks) = (Fold::default(), Blocks::default());
        Self { name, fold, blocks, gauge: gauge.clone(), outbox: outbox.clone() }
    }
}

impl Reader for Listener {
    fn read(&mut self, bytes: &[u8]) {
        let Self { name, fold, blocks, gauge, outbox } = self;
        let measure = |line: &str| {
            let at = gauge.lock().unwrap_or_else(PoisonError::into_inner).read(line);
            if let Some(at) = at {
                outbox.at(at);
            }
        };
        fold.feed(bytes, |said| match said {
            Said::Line(line) => {
                measure(&line);
                blocks.fold(line, |line| outbox.line(line));
            }
            Said::State(line) => measure(&line),
            Said::Binary => outbox.line(format!("… {name} is no text, and not logged …")),
        });
        // A bar stands without an end until it moves.
        if let Some(line) = fold.unfinished() {
            measure(&line);
        }
    }

    fn end(mut self) {
        if let Some(line) = self.fold.finish() {
            self.blocks.fold(line, |line| self.outbox.line(line));
        }
        self.blocks.finish(|line| self.outbox.line(line));
    }
}

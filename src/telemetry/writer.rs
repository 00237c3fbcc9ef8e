//! Lines on their way to stderr: a bounded queue and a thread that empties it.
//!
//! Promises: writing a line never waits. When the reader of stderr is too slow the newest lines are dropped, and the log
//! says how many.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for the reader of stderr.
const LINES_MAX: usize = 8192;

/// Takes lines from everywhere. Clones write to the same place.
#[derive(Clone, Debug)]
pub(super) struct LineWriter {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Dropping this waits, for a second at the most, until what was logged before is written.
#[derive(Debug)]
pub struct Flush {
    lines: SyncSender<Vec<u8>>,
    ended: Receiver<()>,
}

impl LineWriter {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        let (end, ended) = sync_channel(1);
        thread::Builder::new().name("log".into()).spawn(move || {
            write_all(out, &waiting, &lost);
            // Nobody may be waiting for it any more.
            let _late = end.send(());
        })?;
        Ok((Self { lines: lines.clone(), dropped }, Flush { lines, ended }))
    }
}

/// Writes until the empty line that ends it.
fn write_all(mut out: impl Write, waiting: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    for line in waiting {
        if line.is_empty() {
            return;
        }
        // There is nowhere to tell that stderr is closed.
        let _closed = out.write_all(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "log lines were dropped: whoever reads them is too slow");
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const STEP: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + PATIENCE;
        // Behind all earlier lines, and so only when there is room.
        while self.lines.try_send(Vec::new()).is_err() && Instant::now() < deadline {
            thread::sleep(STEP);
        }
        // A reader that does not read must not keep the process from ending.
        let _unread = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// One event's text; handed on when it is complete.
#[derive(Debug)]
pub(super) struct Line<'a> {
    text: Vec<u8>,
    writer: &'a LineWriter,
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() && self.writer.lines.try_send(mem::take(&mut self.text)).is_err() {
            self.writer.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { text: Vec::new(), writer: self }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Writes only when it is let.
    struct Gate(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _opened = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up() {
        let (open, gate) = mpsc::channel();
        let written = Arc::default();
        let (writer, flush) = LineWriter::start(Gate(gate, Arc::clone(&written))).unwrap();
        let lines = 3 * LINES_MAX;
        for _ in 0..lines {
            writer.make_writer().write_all(b"line\n").unwrap();
        }
        let lost = writer.dropped.load(Ordering::Relaxed) as usize;
        assert!(lost >= lines - LINES_MAX - 1, "{lost}");
        drop(open);
        drop(flush);
        assert_eq!(written.lock().unwrap().len(), (lines - lost) * b"line\n".len());
    }
}

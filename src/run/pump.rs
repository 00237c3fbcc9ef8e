//! Hands on what a command writes, as it is and at once, and lets somebody look at it.
//!
//! Promises: the bytes are unchanged and wait for nothing but whoever reads them. Where nobody reads ours any more the
//! command finds nobody, either. Each output has a thread, which ends with the output, or when it is told to.
//! Must not know what the bytes mean.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread::{self, JoinHandle},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::PipeFlags,
};
use tokio::sync::oneshot;

use super::outputs::Output;

/// How much is read at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;
/// How much is still read after the command's end of what somebody else goes on to write: what a pipe holds at the most.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// Whoever looks at what a command writes.
pub(super) trait Reader: Send + 'static {
    /// Looks at the next bytes.
    fn read(&mut self, bytes: &[u8]);
    /// Nothing more comes.
    fn end(self);
}

/// The thread of an output.
#[derive(Debug)]
pub(super) struct Pump {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    /// Closed to tell the thread that the command has ended.
    alive: Option<OwnedFd>,
}

impl Pump {
    pub(super) fn start(output: Output, reader: impl Reader) -> io::Result<Self> {
        let (quit, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            hand_on(&output, &quit, reader);
            // Nobody may wait any more.
            let _unheard = end.send(());
        };
        let thread = thread::Builder::new().name("output".to_owned()).spawn(work)?;
        Ok(Self { thread, ended, alive: Some(alive) })
    }

    /// Returns when everything is handed on.
    pub(super) async fn ended(&mut self) {
        // A thread that has panicked has ended as well.
        let _ended = (&mut self.ended).await;
    }

    /// The command has ended: what it has written is all there is.
    pub(super) fn no_more(&mut self) {
        self.alive = None;
    }

    /// Waits for the thread, which has ended.
    pub(super) fn join(self) {
        // It has said on stderr what became of it.
        let _panicked = self.thread.join();
    }
}

fn hand_on(output: &Output, quit: &OwnedFd, mut reader: impl Reader) {
    let mut buffer = vec![0; READ_BYTES];
    let mut rest = REST_BYTES_MAX;
    let mut is_over = false;
    loop {
        match readable(output.from.as_fd(), quit.as_fd(), is_over) {
            Ready::Output => {}
            Ready::Quit if is_over => break,
            Ready::Quit => {
                is_over = true;
                continue;
            }
            Ready::Never => break,
        }
        let count = match rustix::io::read(&output.from, &mut buffer) {
            // A terminal that nobody has open any more says EIO.
            Ok(0) | Err(Errno::IO) => break,
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => break,
        };
        let bytes = &buffer[..count];
        let is_read = write_all(output.to.as_fd(), bytes);
        reader.read(bytes);
        if !is_read {
            break;
        }
        if is_over {
            rest = rest.saturating_sub(count);
            if rest == 0 {
                break;
            }
        }
    }
    reader.end();
}

enum Ready {
    Output,
    Quit,
    Never,
}

/// Waits for output, or, while the command lives, for its end.
fn readable(from: BorrowedFd<'_>, quit: BorrowedFd<'_>, is_over: bool) -> Ready {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(from, PollFlags::IN), PollFd::from_borrowed_fd(quit, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(if is_over { &mut fds[..1] } else { &mut fds[..] }, is_over.then_some(&at_once)) {
            Ok(0) => return Ready::Quit,
            Ok(_) if !fds[0].revents().is_empty() => return Ready::Output,
            Ok(_) => return Ready::Quit,
            Err(Errno::INTR) => {}
            Err(_) => return Ready::Never,
        }
    }
}

/// Writes all of it; false when nobody reads it any more.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Somebody else has made ours one that does not block.
            Err(Errno::AGAIN) => {
                let _ready = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    true
}

//! The terminal that a command is started from: who is in its foreground, and terminals that stand in for it.
//!
//! Promises: what a command writes to a stand-in comes out as it was written, and the command finds the same size and
//! the same settings there. The terminal is given back.
//! Must not know what is written.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::sys::signal::{SigSet, Signal};
use rustix::{
    fs::OFlags,
    process::{Pid, getpgrp},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{
        LocalModes, OptionalActions, OutputModes, Winsize, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetpgrp,
        tcsetwinsize,
    },
};

/// Lets this process, and all threads that it starts from now on, write to its terminal and take it back while another
/// group is in the foreground: they would be stopped for it. A command that is started does not inherit this.
pub(super) fn never_stop_for_writing() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    // At the worst Ctrl-Z is needed once more.
    let _blocked = set.thread_block();
}

/// The terminal that this process belongs to, where it has one.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    pub(super) fn of_this_process() -> Option<Self> {
        let flags = (OFlags::NOCTTY | OFlags::CLOEXEC).bits().try_into().ok()?;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok().map(Self)
    }

    /// Whether this process is in the foreground, where Ctrl-C goes and keys are read.
    pub(super) fn is_ours(&self) -> bool {
        self.is_of(getpgrp())
    }

    /// Whether that group is.
    pub(super) fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|front| front == group)
    }

    /// Brings that group to the foreground.
    pub(super) fn give(&self, group: Pid) {
        // A group that has just ended needs it no more.
        let _given = tcsetpgrp(&self.0, group);
    }

    /// Brings this process back to the foreground.
    pub(super) fn take_back(&self) {
        self.give(getpgrp());
    }
}

/// A terminal that stands in for a real one.
#[derive(Debug)]
pub(super) struct StandIn {
    /// Where what is written to it is read, until nobody has `slave` any more.
    pub(super) master: OwnedFd,
    /// What the command gets.
    pub(super) slave: OwnedFd,
}

impl StandIn {
    pub(super) fn of(real: BorrowedFd<'_>) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        let mut settings = tcgetattr(real)?;
        // The real one does that to what comes out of this one.
        settings.output_modes.remove(OutputModes::OPOST);
        settings.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        tcsetwinsize(&slave, tcgetwinsize(real)?)?;
        Ok(Self { master, slave })
    }
}

/// Keeps a stand-in as large as the real terminal.
#[derive(Debug)]
pub(super) struct Size {
    real: OwnedFd,
    master: OwnedFd,
    last: Option<Winsize>,
}

impl Size {
    pub(super) fn new(real: BorrowedFd<'_>, master: BorrowedFd<'_>) -> io::Result<Self> {
        let (real, master) = (real.try_clone_to_owned()?, master.try_clone_to_owned()?);
        let last = tcgetwinsize(real.as_fd()).ok();
        Ok(Self { real, master, last })
    }

    /// Whether the size has changed; then the stand-in has it, too.
    pub(super) fn follow(&mut self) -> bool {
        let Ok(now) = tcgetwinsize(&self.real) else { return false };
        let is_same = |last: &Winsize| (last.ws_row, last.ws_col) == (now.ws_row, now.ws_col);
        if self.last.as_ref().is_some_and(is_same) {
            return false;
        }
        self.last = Some(now);
        tcsetwinsize(&self.master, now).is_ok()
    }
}

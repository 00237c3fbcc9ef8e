//! Where a command writes to: terminals where we write to one, pipes elsewhere, and one of them for both of stdout and
//! stderr where these are the same thing, so that what is written to them keeps its order.
//!
//! Must not know what is written.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Stdio,
};

use rustix::{fs::fstat, pipe::PipeFlags, termios::isatty};

use super::terminal::{Size, StandIn};

/// Something that the command writes to.
#[derive(Debug)]
pub(super) struct Output {
    /// What it is called.
    pub(super) name: &'static str,
    /// Where what it writes is read.
    pub(super) from: OwnedFd,
    /// Where that is to go.
    pub(super) to: OwnedFd,
}

/// All that the command writes to.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) all: Vec<Output>,
    /// The sizes of terminals among them.
    pub(super) sizes: Vec<Size>,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
}

impl Outputs {
    pub(super) fn like_ours() -> io::Result<Self> {
        let (out, err) = (io::stdout(), io::stderr());
        let (out, err) = (out.as_fd(), err.as_fd());
        let mut sizes = Vec::new();
        let (first, stdout) = output("stdout", out, &mut sizes)?;
        if is_same(out, err)? {
            let stderr = stdout.try_clone()?;
            return Ok(Self { all: vec![first], sizes, stdout: stdout.into(), stderr: stderr.into() });
        }
        let (second, stderr) = output("stderr", err, &mut sizes)?;
        Ok(Self { all: vec![first, second], sizes, stdout: stdout.into(), stderr: stderr.into() })
    }
}

fn output(name: &'static str, ours: BorrowedFd<'_>, sizes: &mut Vec<Size>) -> io::Result<(Output, OwnedFd)> {
    let to = ours.try_clone_to_owned()?;
    // Without a stand-in the command writes to a pipe, which it can do as well.
    if isatty(ours)
        && let Ok(StandIn { master, slave }) = StandIn::of(ours)
    {
        sizes.push(Size::new(ours, master.as_fd())?);
        return Ok((Output { name, from: master, to }, slave));
    }
    let (from, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Output { name, from, to }, write))
}

/// Whether both lead to the same file, pipe or terminal.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

//! The command as a process: started, signalled, stopped and continued with us, waited for.
//!
//! Promises: it is in a group of its own, which all of its own processes belong to and which has the terminal while it is
//! in the foreground; so it is stopped and continued as if the shell had started it. Only in a pipeline at a terminal is
//! it in ours, since the others may need the terminal, too.
//! Must not know whom it is told of.

use std::{
    cell::Cell,
    ffi::OsString,
    fs::{self, File},
    io::{self, Seek, Write},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{FileType, MemfdFlags, fstat, memfd_create},
    process::{
        Pid, Signal, WaitOptions, kill_current_process_group, kill_process, kill_process_group,
        test_kill_process_group, waitpid,
    },
    termios::isatty,
};
use tokio::{
    signal::unix::{self, SignalKind, signal},
    time::sleep,
};

use super::terminal::Terminal;

/// How often it is looked whether what the command has started has ended, too.
const LOOK: Duration = Duration::from_millis(20);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// As shells tell it.
    pub(super) fn code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

/// What is to be started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    /// The program and its arguments.
    pub(super) command: &'a [OsString],
    /// What is added to its environment.
    pub(super) environment: &'a [(String, String)],
    /// What it reads; None: what we would.
    pub(super) stdin: Option<&'a [u8]>,
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    has_group: bool,
    terminal: Option<Terminal>,
    exit: Cell<Option<Exit>>,
}

/// Tells that something may have become of a command.
#[derive(Debug)]
pub(super) struct Changes(unix::Signal);

impl Child {
    pub(super) fn start(start: &Start<'_>, outputs: (Stdio, Stdio)) -> io::Result<(Self, Changes)> {
        let Some((program, arguments)) = start.command.split_first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Before it can end.
        let changes = Changes(signal(SignalKind::child())?);
        let terminal = Terminal::of_this_process();
        let is_in_pipeline = isatty(io::stdin()) && is_pipe(io::stdout());
        let has_group = terminal.is_none() || !is_in_pipeline;
        let mut command = Command::new(program);
        command.args(arguments).envs(start.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(outputs.0).stderr(outputs.1);
        if let Some(text) = start.stdin {
            command.stdin(file_of(text)?);
        }
        if has_group {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        let id = command.spawn()?.id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let child = Self { pid, has_group, terminal, exit: Cell::new(None) };
        child.bring_to_front();
        Ok((child, changes))
    }

    /// How it ended. Stops and goes on with it meanwhile, as Ctrl-Z and `fg` want.
    pub(super) async fn wait(&self, changes: &mut Changes) -> Exit {
        loop {
            // Looked at before each wait: many changes may be one signal.
            while let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                let ended = status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal));
                if let Some(exit) = ended {
                    self.exit.set(Some(exit));
                    if let Some(terminal) = &self.terminal
                        && terminal.is_of(self.pid)
                    {
                        terminal.take_back();
                    }
                    return exit;
                }
                if let Some(stop) = status.stopping_signal() {
                    self.stop_as_well(stop);
                }
            }
            if changes.0.recv().await.is_none() {
                // Cannot be: the streams of tokio have no end.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends it a signal. One from the keyboard it has had itself, where it is in our group.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit.get().is_some() {
            return;
        }
        if signal == Signal::CONT {
            self.bring_to_front();
        }
        let from_keyboard = [Signal::INT, Signal::QUIT, Signal::WINCH, Signal::CONT].contains(&signal);
        if self.has_group || !from_keyboard {
            self.send(signal);
        }
    }

    /// Whether it has ended as by Ctrl-C, which at a terminal goes to it alone.
    pub(super) fn was_interrupted(&self, exit: Exit) -> bool {
        let interrupt = Signal::INT.as_raw();
        self.has_group
            && self.terminal.is_some()
            && (exit == Exit::Signal(interrupt) || exit == Exit::Code(128 + interrupt))
    }

    /// Tells it to end.
    pub(super) fn terminate(&self) {
        self.send(Signal::TERM);
        // One that is stopped learns of it when it goes on.
        self.send(Signal::CONT);
    }

    /// Ends it, and all that it has started.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
    }

    /// Returns when nothing of its group is left.
    pub(super) async fn group_ended(&self) {
        while self.has_group && lives(self.pid) {
            sleep(LOOK).await;
        }
    }

    fn send(&self, signal: Signal) {
        // It may have ended just now. A group lives on with those whom the command has started; a lone process does not.
        let _gone = match (self.has_group, self.exit.get()) {
            (true, _) => kill_process_group(self.pid, signal),
            (false, None) => kill_process(self.pid, signal),
            (false, Some(_)) => Ok(()),
        };
    }

    fn bring_to_front(&self) {
        if let Some(terminal) = &self.terminal
            && self.has_group
            && terminal.is_ours()
        {
            terminal.give(self.pid);
            // It may have wanted the terminal before it had it, and have been stopped for that.
            self.send(Signal::CONT);
        }
    }

    fn stop_as_well(&self, stop: i32) {
        let job_control = [Signal::TSTP, Signal::TTIN, Signal::TTOU].map(Signal::as_raw);
        let Some(terminal) = self.terminal.as_ref().filter(|_| self.has_group && job_control.contains(&stop)) else {
            return;
        };
        let is_front = terminal.is_of(self.pid);
        if is_front && stop != Signal::TSTP.as_raw() {
            self.send(Signal::CONT);
            return;
        }
        if is_front {
            terminal.take_back();
        }
        // Here we stand still until the shell lets us go on; where there is none, nobody stops.
        let _stopped = kill_current_process_group(Signal::TSTP);
        self.bring_to_front();
        self.send(Signal::CONT);
    }
}

/// Whether anything of a group still does something. What has ended and waits for its parent to notice does not: in a
/// container that may take its first process seconds.
fn lives(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().to_string();
    processes.filter_map(Result::ok).any(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // `1 (name) S 0 1 ...`: the state, the parent, the group; a name may have anything in it.
        let mut words = stat.rsplit_once(") ").map_or("", |(_, words)| words).split(' ');
        let (state, its_group) = (words.next(), words.nth(1));
        its_group == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
    })
}

/// Bytes as a file without a name.
fn file_of(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

fn is_pipe(output: impl std::os::fd::AsFd) -> bool {
    fstat(output).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

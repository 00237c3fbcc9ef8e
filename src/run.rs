//! `milepost run` and `milepost claim`: a command is tracked as a job, whatever it is.
//!
//! Promises: the command runs as it would without us: it starts at once, writes the same bytes to the same places, gets
//! the same signals and ends with the same code, also while the service is away. What could not be told by the end is on
//! the disk, and told by the next run.
//! Must not know anything of the server's side; it speaks through `client`.

mod blocks;
mod child;
mod claim;
mod flush;
mod fold;
mod gauge;
mod listener;
mod options;
mod outbox;
mod outputs;
mod pump;
mod report;
mod signals;
mod spool;
mod terminal;
mod track;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::runtime;
use uuid::Uuid;

use self::{
    child::{Exit, Start},
    outbox::{Left, Outbox},
    signals::Signals,
    spool::Book,
    track::{Policy, Track, Tracked},
};
pub use self::{
    claim::claim,
    flush::flush,
    options::{ClaimOptions, FlushOptions, RunOptions},
};
use crate::client::{BadServer, Client, ClientError};

/// Why nothing was run, or nothing could be asked.
#[derive(Debug, Error)]
pub enum RunError {
    /// The address is none.
    #[error(transparent)]
    Server(#[from] BadServer),
    /// The system did not give what every program needs.
    #[error("{what}: {cause}")]
    System {
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The command could not be started.
    #[error("{command}: {cause}")]
    Start {
        /// Which.
        command: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The service refused what everything depends on.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An option is wrong.
    #[error("{option}: {fault}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// Runs are left whose service is away.
    #[error("left on the disk, as the service is away: {0} (runs)")]
    StillLeft(usize),
}

impl RunError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::System { what, cause }
    }

    /// The exit code that tells of it: of a command that cannot be started, that of shells.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Server(_) | Self::Option { .. } => 64,
            Self::Start { cause, .. } if cause.kind() == io::ErrorKind::NotFound => 127,
            Self::Start { .. } => 126,
            Self::System { .. } | Self::Client(_) | Self::StillLeft(_) => 1,
        }
    }
}

/// Does what needs a runtime, on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RunError::system("no runtime"))?;
    let done = runtime.block_on(work);
    // What is left is a look-up of a name that does not end.
    runtime.shutdown_background();
    done
}

/// `milepost run`: runs the command, and has its exit code.
///
/// # Errors
/// Why the command did not run.
pub fn run(options: &RunOptions) -> Result<ExitCode, RunError> {
    terminal::never_stop_for_writing();
    block_on(run_one(options))
}

async fn run_one(options: &RunOptions) -> Result<ExitCode, RunError> {
    let mut signals = Signals::listen().map_err(RunError::system("signals"))?;
    let mut client = Client::new(options.track.server.base()?);
    let (id, writer) = (options.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()), report::writer());
    let spool = options.track.spool();
    let book = Book::new(client.base().url(), &id, &writer, Some(creation(options)));
    let outbox = Outbox::new(book, &spool).into();
    let url = client.base().url().to_owned();
    let environment = [("MILEPOST_JOB_ID", id.clone()), ("MILEPOST_KIND", options.kind.clone()), ("MILEPOST_URL", url)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let start = Start { command: &options.command, environment: &environment, stdin: None };
    let policy = Policy { stops_when_lost: options.stop_when_lost, gives_back: false };
    let track = Track { options: &options.track, policy, start, outbox };
    let earlier = flush::earlier(&spool, options.track.lease());
    let tracked = track.run(&mut client, &mut signals, earlier).await?;
    tell(&id, &tracked);
    match tracked.ended {
        Ok(exit) => Ok(exit.code().into()),
        Err(cause) => Err(RunError::Start { command: options.command[0].to_string_lossy().into_owned(), cause }),
    }
}

/// What the job is made of.
fn creation(options: &RunOptions) -> Value {
    /// How much of a command line goes into the input of its job, which takes 256 KiB.
    const COMMAND_BYTES_MAX: usize = 64 * 1024;
    /// How much longer than its grace the end of a command may take to be told.
    const TELLING_SECONDS: u64 = 30;
    let words = options.command.iter().map(|word| word.to_string_lossy().into_owned());
    let mut room = COMMAND_BYTES_MAX;
    let words: Vec<_> = words
        .take_while(|word| {
            let fits = word.len() < room;
            room = room.saturating_sub(word.len() + 1);
            fits
        })
        .collect();
    let mut creation = json!({
        "kind": options.kind,
        "status": "processing",
        "lease_seconds": options.track.lease_seconds,
        "cancel_grace_seconds": options.track.grace_seconds + TELLING_SECONDS,
        "labels": options.labels(),
        "input": {"command": words},
    });
    if let Some(stage) = &options.stage {
        creation["stage"] = stage.as_str().into();
    }
    creation
}

/// Says on stderr what somebody should know of how a job was told of; nothing when all went well.
fn tell(id: &str, tracked: &Tracked) {
    if let Some(why) = &tracked.lost {
        complain(format_args!("not all that was to be reported of the job {id} has arrived: {why}"));
    }
    match &tracked.left {
        Left::Nothing => {}
        Left::Spooled(path) => complain(format_args!(
            "the service is away: what the job {id} was not told is in {}; the next run sends it, or `milepost flush`",
            path.display()
        )),
        Left::Lost(cause) => {
            complain(format_args!("the service is away, and what the job {id} was not told is lost: {cause}"))
        }
    }
    if tracked.dropped > 0 {
        complain(format_args!("{} lines were dropped: no more of them could wait for the service", tracked.dropped));
    }
}

/// Writes a line to stderr.
fn complain(line: impl fmt::Display) {
    let line = line.to_string();
    // There is nowhere to tell that stderr is closed.
    let _closed = writeln!(io::stderr(), "milepost: {}", crate::job::printable(&line));
}

/// What becomes of the job of a command that ended like this.
fn end_of(ended: &Result<Exit, io::Error>) -> Value {
    let failed = |error: Value| json!({"status": "failed", "error": error});
    match ended {
        Ok(Exit::Code(0)) => json!({"status": "completed", "result": {"exit_code": 0}}),
        Ok(Exit::Code(code)) => {
            let message = format!("the command exited with {code}");
            failed(json!({"reason": "exit_code", "message": message, "exit_code": code}))
        }
        Ok(Exit::Signal(signal)) => {
            let message = format!("the command was ended by {}", name_of(*signal));
            failed(json!({"reason": "signal", "message": message, "signal": signal}))
        }
        Err(cause) => {
            let message = format!("the command could not be started: {cause}");
            failed(json!({"reason": "not_started", "message": message}))
        }
    }
}

/// What people call a signal.
fn name_of(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |known| known.to_string())
}

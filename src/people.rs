//! `milepost watch`, `logs`, `ls`, `cancel` and `retry`: jobs for people at a terminal.
//!
//! Promises: what workers wrote is shown, and commands no terminal. A service that restarts is waited for by those that
//! follow something, which then go on where they were.
//! Must not know anything of the server's side; it speaks through `client`.

mod ask;
mod bars;
mod follow;
mod list;
mod watch;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use thiserror::Error;
use tokio::{runtime, time::sleep};

use crate::{
    client::{BadServer, Client, ClientError, Pauses, ServerOptions},
    job::printable,
};

/// Why something could not be shown or done.
#[derive(Debug, Error)]
pub enum PeopleError {
    /// The address is none.
    #[error(transparent)]
    Server(#[from] BadServer),
    /// The service did not do it.
    #[error("{}", printable(&.0.to_string()))]
    Client(#[from] ClientError),
    /// The system did not give what every program needs.
    #[error("{what}: {cause}")]
    System {
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl PeopleError {
    /// The exit code that tells of it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Server(_) => 64,
            Self::Client(_) | Self::System { .. } => 1,
        }
    }
}

/// `milepost watch`.
#[derive(Debug, Args)]
pub struct WatchOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// The jobs
    #[arg(required = true, value_name = "ID", num_args = 1..=100)]
    ids: Vec<String>,
}

/// `milepost logs`.
#[derive(Debug, Args)]
pub struct LogsOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// Go on with the lines that come, until the job is done
    #[arg(short, long)]
    follow: bool,
    /// The job
    #[arg(value_name = "ID")]
    id: String,
}

/// `milepost ls`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// Only those with one of these statuses; separated by commas
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Only those of one of these kinds; separated by commas
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only those with this label; repeated: with all of them
    #[arg(long, value_name = "KEY:VALUE")]
    label: Vec<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Whole documents, one on each line
    #[arg(long)]
    json: bool,
}

/// `milepost cancel`.
#[derive(Debug, Args)]
pub struct CancelOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// The job
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// `milepost retry`.
#[derive(Debug, Args)]
pub struct RetryOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// The job
    #[arg(value_name = "ID")]
    id: String,
}

/// Shows how jobs go on, until all are done; the exit code tells how they ended.
///
/// # Errors
/// Why not.
pub fn watch(options: &WatchOptions) -> Result<ExitCode, PeopleError> {
    block_on(watch::watch(Client::new(options.server.base()?), &options.ids))
}

/// Prints the log of a job.
///
/// # Errors
/// Why not.
pub fn logs(options: &LogsOptions) -> Result<ExitCode, PeopleError> {
    block_on(follow::logs(Client::new(options.server.base()?), options))
}

/// Prints which jobs there are.
///
/// # Errors
/// Why not.
pub fn list(options: &ListOptions) -> Result<ExitCode, PeopleError> {
    block_on(list::list(Client::new(options.server.base()?), options))
}

/// Asks a job to end.
///
/// # Errors
/// Why it was not asked.
pub fn cancel(options: &CancelOptions) -> Result<ExitCode, PeopleError> {
    block_on(ask::cancel(Client::new(options.server.base()?), options))
}

/// Sends a done job back to the queue.
///
/// # Errors
/// Why it stays where it is.
pub fn retry(options: &RetryOptions) -> Result<ExitCode, PeopleError> {
    block_on(ask::retry(Client::new(options.server.base()?), &options.id))
}

fn block_on(work: impl Future<Output = Result<ExitCode, PeopleError>>) -> Result<ExitCode, PeopleError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| PeopleError::System { what: "no runtime", cause })?;
    let done = runtime.block_on(work);
    // What is left is a look-up of a name that does not end.
    runtime.shutdown_background();
    done
}

/// Writes a line to stdout; what workers wrote is to be [`printable`] before.
fn say(line: impl fmt::Display) -> Result<(), PeopleError> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|cause| PeopleError::System { what: "stdout", cause })
}

/// Waits for a service that is away, and says so once.
#[derive(Debug, Default)]
struct Patience {
    pauses: Pauses,
    has_said: bool,
}

impl Patience {
    /// Whoever follows something waits for a service that is away; a refusal is final, and so is a certificate that somebody
    /// has to see to.
    async fn wait(&mut self, error: ClientError) -> Result<(), PeopleError> {
        if !error.is_passing() || matches!(error, ClientError::Untrusted { .. }) {
            return Err(error.into());
        }
        if !self.has_said {
            // There is nowhere to tell that stderr is closed.
            let _closed =
                writeln!(io::stderr(), "milepost: waiting for the service: {}", printable(&error.to_string()));
        }
        self.has_said = true;
        sleep(self.pauses.next(&error)).await;
        Ok(())
    }

    /// It is there.
    fn reset(&mut self) {
        *self = Self::default();
    }
}

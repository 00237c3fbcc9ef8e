//! The command line: what may be asked of the program, and everything it does but serving.
//!
//! Promises: exit code 0 when what was asked is done, 64 for a bad command line or configuration, 1 otherwise, and that
//! of the command for `run`; stdout carries only what was asked for.

mod healthcheck;
mod transfer;

use std::{
    env, fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

pub use self::{healthcheck::Unwell, transfer::TransferError};
use crate::{
    app::{StartError, StopError},
    config::{self, Config, Flags, Problems},
    http,
    people::{self, CancelOptions, ListOptions, LogsOptions, PeopleError, RetryOptions, WatchOptions},
    run,
    run::{ClaimOptions, FlushOptions, RunError, RunOptions},
    tasks::Death,
    telemetry::TelemetryError,
};

/// The job store every backend with `jobs = {}` in its web process should have had.
#[derive(Debug, Parser)]
#[command(name = "milepost", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command line says of the configuration.
#[derive(Debug, Args)]
pub struct ConfigOptions {
    /// A file that changes single keys of the configuration [or MILEPOST_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port, such as 127.0.0.1:8080; port 0 takes a free one [or MILEPOST_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Directory where jobs are kept, or postgres:// URL [or MILEPOST_STORE]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve jobs over HTTP until SIGTERM or SIGINT
    Serve(ConfigOptions),
    /// Run a command and track it as a job: its lines, its progress, its end
    Run(Box<RunOptions>),
    /// Claim queued jobs, and run a command for each
    Claim(Box<ClaimOptions>),
    /// Send what earlier runs could not tell a service that was away
    Flush(FlushOptions),
    /// Show how jobs go on until they are done; exits with 0: completed, 1: failed, 2: cancelled, 3: not there
    Watch(WatchOptions),
    /// Print the log of a job
    Logs(LogsOptions),
    /// List jobs, the last created first
    Ls(ListOptions),
    /// Ask a job to end
    Cancel(CancelOptions),
    /// Send a done job back to the queue
    Retry(RetryOptions),
    /// Look whether the configuration is fine, and say all that is not
    CheckConfig(ConfigOptions),
    /// Print every key of the configuration with its default
    DefaultConfig,
    /// Print the OpenAPI document of the service
    Openapi,
    /// Ask the service at the configured address whether it is ready
    Healthcheck(ConfigOptions),
    /// Write all jobs as NDJSON; also while the service runs
    Export {
        /// Where to [default: stdout]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Which store.
        #[command(flatten)]
        config: ConfigOptions,
    },
    /// Read an export into the store; not while the service runs
    Import {
        /// The export; `-` is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Which store.
        #[command(flatten)]
        config: ConfigOptions,
    },
    /// Bring the store up to date with this program, or make it; `serve` does so by itself
    Migrate(ConfigOptions),
    /// Look through the store and say what in it is damaged; also while the service runs
    Verify(ConfigOptions),
    /// Copy the store as it is now, to be used as a store; also while the service runs
    Backup {
        /// The copy, which must not exist yet
        file: PathBuf,
        /// Which store.
        #[command(flatten)]
        config: ConfigOptions,
    },
}

/// Why the program ends without having done what was asked.
#[derive(Debug, Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// There is no log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The system did not give what every program needs.
    #[error("{what}: {cause}")]
    System {
        /// What failed.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The service could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The service could not go on.
    #[error(transparent)]
    Death(#[from] Death),
    /// The service could not stop in order.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A second signal came while the service was stopping.
    #[error("stopped at once by a second signal")]
    Impatience,
    /// The program met a bug of its own.
    #[error("stopped by a bug; please report what was logged before this")]
    Panic,
    /// The service is not ready.
    #[error(transparent)]
    Unwell(#[from] Unwell),
    /// A command could not be run, or a service not be asked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A service could not be asked.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// Jobs could not be brought out of the store or into it.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl CliError {
    /// Of a call of the system.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::System { what, cause }
    }

    /// The exit code that tells of it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => Cli::USAGE.into(),
            Self::Run(error) => error.exit_code().into(),
            Self::People(error) => error.exit_code().into(),
            Self::Telemetry(_)
            | Self::System { .. }
            | Self::Start(_)
            | Self::Death(_)
            | Self::Stop(_)
            | Self::Impatience
            | Self::Panic
            | Self::Unwell(_)
            | Self::Transfer(_) => ExitCode::FAILURE,
        }
    }
}

impl ConfigOptions {
    /// The configuration of this command line and the environment of this process.
    ///
    /// # Errors
    /// All that is wrong with it.
    fn load(&self) -> Result<Config, Problems> {
        let flags = Flags { config: self.config.clone(), listen: self.listen.clone(), store: self.store.clone() };
        Config::load(&flags, env::vars_os())
    }
}

impl Cli {
    /// The exit code for a bad command line or configuration: EX_USAGE of sysexits.h.
    const USAGE: u8 = 64;

    /// What this process was asked to do; or, after the help or a complaint is printed, the code to exit with.
    ///
    /// # Errors
    /// The exit code.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|said| {
            // There is nowhere to tell that stdout or stderr is closed.
            let _closed = said.print();
            if said.use_stderr() { Self::USAGE.into() } else { ExitCode::SUCCESS }
        })
    }

    /// Does what was asked, but for serving, which `main` does; the code to exit with.
    ///
    /// # Errors
    /// Why it could not.
    pub fn run(&self, serve: impl FnOnce(Config) -> Result<(), CliError>) -> Result<ExitCode, CliError> {
        let done: Result<(), CliError> = match &self.command {
            Command::Run(options) => return Ok(run::run(options)?),
            Command::Claim(options) => return Ok(run::claim(options)?),
            Command::Flush(options) => return Ok(run::flush(options)?),
            Command::Watch(options) => return Ok(people::watch(options)?),
            Command::Logs(options) => return Ok(people::logs(options)?),
            Command::Ls(options) => return Ok(people::list(options)?),
            Command::Cancel(options) => return Ok(people::cancel(options)?),
            Command::Retry(options) => return Ok(people::retry(options)?),
            Command::Serve(config) => serve(config.load()?),
            Command::CheckConfig(config) => {
                config.load().map_err(CliError::from).and_then(|_| say("configuration is fine"))
            }
            Command::DefaultConfig => say(config::DEFAULTS.trim_end()),
            Command::Openapi => say(http::openapi()),
            Command::Healthcheck(config) => Ok(healthcheck::run(&config.load()?)?),
            Command::Export { output, config } => Ok(transfer::export(&config.load()?, output.as_deref())?),
            Command::Migrate(config) => {
                transfer::migrate(&config.load()?)?;
                say("the store is up to date")
            }
            Command::Verify(config) => {
                // There is nowhere to tell that stdout is closed but in the exit code, which tells of damage.
                let whole = transfer::verify(&config.load()?, &mut |fault| drop(say(fault)))?;
                say(whole)
            }
            Command::Import { file, config } => say(transfer::import(&config.load()?, file)?),
            Command::Backup { file, config } => {
                transfer::backup(&config.load()?, file)?;
                say(format_args!("backed up to {}", file.display()))
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Tells on stderr why the program ends.
pub fn complain(error: &CliError) {
    // There is nowhere to tell that stderr is closed.
    let _closed = writeln!(io::stderr(), "milepost: {error}");
}

/// Writes one line to stdout.
///
/// # Errors
/// When stdout is closed.
pub fn say(line: impl fmt::Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(CliError::system("stdout"))
}

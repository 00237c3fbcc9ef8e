//! The service's own log: structured events on stderr, pretty for people and JSON for machines.
//!
//! Promises: no request waits for whoever reads stderr; what could not be written is counted and said; a panic anywhere
//! is an event like others.
//! Knows nothing of jobs. Events never carry payloads, tokens or raw paths: that is for those who write them.

mod writer;

use std::{
    backtrace::Backtrace,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use thiserror::Error;
use tracing::error;
use tracing_subscriber::{
    EnvFilter,
    util::{SubscriberInitExt, TryInitError},
};

pub use self::writer::Flush;
use self::writer::LineWriter;
use crate::config::{Log, LogFormat};

/// Why no log could be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The thread that writes could not be started.
    #[error("the thread of the log cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The filter of the configuration does not parse.
    #[error("log.filter does not parse: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a log already.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Sends the events of this process to stderr as configured, and panics with them, until what is returned is dropped.
///
/// # Errors
/// [`TelemetryError`]
pub fn start(log: &Log) -> Result<Flush, TelemetryError> {
    let filter = EnvFilter::try_new(log.filter.as_str())?;
    let terminal = io::stderr().is_terminal();
    let (writer, flush) = LineWriter::start(io::stderr()).map_err(TelemetryError::Thread)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    let pretty = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    if pretty {
        subscriber.with_ansi(terminal).with_writer(writer).finish().try_init()?;
    } else {
        subscriber.json().flatten_event(true).with_span_list(false).with_writer(writer).finish().try_init()?;
    }
    panic::set_hook(Box::new(log_panic));
    Ok(flush)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a text");
    let place = panic.location().map(ToString::to_string);
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    error!(panic = true, place, %backtrace, "{message}");
}

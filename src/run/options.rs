//! What may be said on the command line of `run`, `claim` and `flush`.

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;
use regex::Regex;
use serde_json::{Map, Value};

use super::gauge::Reading;
use crate::client::ServerOptions;

/// How a command is tracked.
#[derive(Debug, Args)]
pub(super) struct TrackOptions {
    #[command(flatten)]
    pub(super) server: ServerOptions,
    /// The service counts the job as lost when it has heard nothing for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) lease_seconds: u32,
    /// How long the command may take to end after SIGTERM, when its job is cancelled, before it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) grace_seconds: u64,
    /// How long to wait for a service that is away once the command has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) flush_seconds: u64,
    /// Where to keep what a service that is away was not told [default: milepost/spool in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Read progress by this expression: one group is a percentage, two are what is done and of how much
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    progress_regex: Option<Regex>,
    /// A line that fits begins a stage, which its group names
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    stage_regex: Option<Regex>,
    /// How long the output of ffmpeg will be, where its input does not say
    #[arg(long, value_name = "SECONDS")]
    duration_seconds: Option<f64>,
}

impl TrackOptions {
    pub(super) fn spool(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(default_spool)
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.into())
    }

    pub(super) fn reading(&self) -> Reading {
        Reading {
            progress: self.progress_regex.clone(),
            stage: self.stage_regex.clone(),
            duration_seconds: self.duration_seconds,
        }
    }
}

/// Where state of programs is kept, by the XDG base directory specification.
fn default_spool() -> PathBuf {
    let from = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")));
    state.unwrap_or_else(env::temp_dir).join("milepost/spool")
}

/// An expression with a group at least.
fn expression(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(text).map_err(|error| error.to_string())?;
    if regex.captures_len() > 1 { Ok(regex) } else { Err("needs a group, such as `(\\d+)%`".to_owned()) }
}

/// `milepost run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// What sort of work it is: a-z 0-9 . _ -
    #[arg(long, value_name = "KIND")]
    pub(super) kind: String,
    /// The job's id; a queued job of this id is taken [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// The step that the job is in
    #[arg(long, value_name = "TEXT")]
    pub(super) stage: Option<String>,
    /// A label of the job, by which it is found; may be repeated
    #[arg(long, value_name = "KEY:VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// End the command when its job is given to somebody else, or was ended; otherwise it runs on, untold
    #[arg(long)]
    pub(super) stop_when_lost: bool,
    #[command(flatten)]
    pub(super) track: TrackOptions,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl RunOptions {
    pub(super) fn labels(&self) -> Value {
        let labels = self.label.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        Value::Object(labels.collect::<Map<_, _>>())
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once(':').ok_or("must be key:value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `milepost claim`.
#[derive(Debug, Args)]
pub struct ClaimOptions {
    /// The kinds of jobs that are taken; may be repeated
    #[arg(long, value_name = "KIND", required = true)]
    pub(super) kind: Vec<String>,
    /// Who takes them [default: the name of this machine]
    #[arg(long, value_name = "NAME")]
    pub(super) worker: Option<String>,
    /// End after one job, with the exit code of its command
    #[arg(long)]
    pub(super) once: bool,
    #[command(flatten)]
    pub(super) track: TrackOptions,
    /// The command, after `--`; it reads the job's input from stdin
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// `milepost flush`.
#[derive(Debug, Args)]
pub struct FlushOptions {
    /// Where it is kept [default: milepost/spool in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// How long to wait for a service that is away
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) flush_seconds: u64,
}

impl FlushOptions {
    pub(super) fn spool(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(default_spool)
    }
}

//! Configuration: the built-in defaults, changed by a file, then by the environment, then by flags.
//!
//! Promises: the default of a key stands in `config/default.toml` and nowhere else; all problems are reported at once,
//! each with where it comes from; what may hold a secret is shown neither by a problem nor by `Debug`.
//! Knows nothing of what the values do: `app` makes the settings of each part from them.

mod database;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod layers;
mod problem;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::{ffi::OsString, path::PathBuf};

use self::layers::Layers;
pub use self::{
    database::{DatabaseUrl, Verify},
    problem::{Fault, Origin, Problem, Problems},
    sections::{Auth, Batch, Config, Http, Jobs, Lists, Log, Logs, Sqlite, Store},
    values::{AuthMode, CorsOrigin, Filter, KindRetention, LogFormat, LoggedRequests, StoreUrl},
};

/// Every key with its default, unit and reason: what `milepost default-config` prints.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: a file that changes single keys.
    pub config: Option<PathBuf>,
    /// `--listen`: overrides `http.listen`.
    pub listen: Option<String>,
    /// `--store`: overrides `store.url`.
    pub store: Option<String>,
}

impl Config {
    /// The defaults, changed by the file that the flags or `MILEPOST_CONFIG` name, then by the variables, then by the
    /// flags.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, also with a value that another one overrides.
    pub fn load(flags: &Flags, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Problems> {
        let mut layers = Layers::new()?;
        let variables = layers::milepost(variables);
        if let Some(path) = flags.config.clone().or_else(|| layers::config_file(&variables)) {
            layers.file(&path);
        }
        layers.environment(variables);
        layers.flag("--listen", "http", "listen", flags.listen.as_deref());
        layers.flag("--store", "store", "url", flags.store.as_deref());
        layers.finish()
    }
}

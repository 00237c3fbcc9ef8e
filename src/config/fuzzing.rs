//! Configuration, for fuzzers; see `fuzzing.rs`.
//!
//! Promises that are looked at here: a text of any kind is taken or refused in words; and a password is in none of them.

use std::path::Path;

use super::{Config, Flags, Problems, layers::Layers};

/// Reads a file of this text, variables of its lines, and the URL of a database with a password that ends so.
pub(crate) fn configuration(text: &str) -> Vec<Config> {
    const PASSWORD: &str = "s3cr3t";
    let Ok(mut layers) = Layers::new() else { panic!("the defaults are wrong") };
    layers.text(Path::new("fuzzed.toml"), text);
    // The one that names a file would have it read.
    let lines = text.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.contains("CONFIG"));
    let variables = lines.map(|(name, value)| (name.trim().into(), value.trim().into()));
    let store = Some(format!("postgres://milepost:{PASSWORD}{text}@127.0.0.1/milepost"));
    let with_password = Config::load(&Flags { store, ..Flags::default() }, []);
    assert!(!shown(&with_password).contains(PASSWORD), "{with_password:?}");
    [layers.finish(), Config::load(&Flags::default(), variables), with_password].into_iter().flatten().collect()
}

fn shown(loaded: &Result<Config, Problems>) -> String {
    match loaded {
        Ok(config) => format!("{config:?}"),
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

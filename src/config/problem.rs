//! What is wrong with a configuration, and where.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{plural}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One thing that is wrong.
#[derive(Debug, Error)]
#[error("{origin}: {fault}")]
pub struct Problem {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is.
    pub fault: Fault,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults.
    BuiltIn(String),
    /// A file as a whole.
    File(PathBuf),
    /// A key or a section of a file.
    Key(PathBuf, String),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(key) => write!(f, "built-in default, {key}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Key(path, key) => write!(f, "{}, {key}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What can be wrong.
#[derive(Debug, Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file is no TOML. The text of the line stays out, since it may hold a secret.
    #[error("line {line} is not TOML: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// The file has a section that there is not.
    #[error("there is no such section; `milepost default-config` shows all of them")]
    UnknownSection,
    /// The file has a key that there is not.
    #[error("there is no such key; `milepost default-config` shows all of them")]
    UnknownKey,
    /// A key stands outside any section, or a section is no table.
    #[error("must be a section, such as [http], with keys below it")]
    NoSection,
    /// No key has this variable.
    #[error("there is no such variable; they are MILEPOST_CONFIG, _LISTEN, _STORE and MILEPOST_<SECTION>_<KEY>")]
    UnknownVariable,
    /// The variable is not text.
    #[error("must be UTF-8 text")]
    NotText,
    /// Two variables set the same key.
    #[error("sets the same key as {0}; keep one of them")]
    Twice(String),
    /// The value is of the wrong type, out of its bounds or otherwise not what the key takes.
    #[error("{0}")]
    Value(String),
    /// A value that must not be larger than another one is.
    #[error("{key} is {value}, which is more than {limit_key}, {limit}")]
    Over {
        /// The smaller one's name.
        key: &'static str,
        /// Its value.
        value: usize,
        /// The larger one's name.
        limit_key: &'static str,
        /// Its value.
        limit: usize,
    },
    /// The service would be open to strangers.
    #[error(
        "{0} can be reached from other machines, and auth.mode is \"loopback_only\": listen on 127.0.0.1 or [::1], or \
         set auth.mode to \"none\" (MILEPOST_AUTH_MODE=none) to let whoever reaches that address do everything"
    )]
    Exposed(SocketAddr),
}

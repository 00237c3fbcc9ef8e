//! The types of single values, each with its rule.

use std::{fmt, marker::PhantomData, net::SocketAddr, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};
use tracing_subscriber::EnvFilter;

use super::database::DatabaseUrl;

/// Takes a whole number from `MIN` to `MAX`.
pub(super) fn within<'de, const MIN: u64, const MAX: u64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Within::<MIN, MAX, T>(PhantomData))
}

struct Within<const MIN: u64, const MAX: u64, T>(PhantomData<T>);

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Visitor<'_> for Within<MIN, MAX, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number)
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

/// Takes an IP address and a port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let rule = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
        D::Error::invalid_value(Unexpected::Str(&text), &rule)
    })
}

/// Where the store is. A URL may hold a password, so neither `Debug` nor an error shows one.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory of the embedded engine.
    Directory(PathBuf),
    /// A database of PostgreSQL.
    Postgres(Box<DatabaseUrl>),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                DatabaseUrl::parse(&text).map(|url| Self::Postgres(Box::new(url))).map_err(D::Error::custom)
            }
            Some(_) => Err(D::Error::custom("must be a directory or a postgres:// URL")),
            None if text.is_empty() || text.contains('\0') => {
                Err(D::Error::custom("must be a directory or a postgres:// URL"))
            }
            None => Ok(Self::Directory(text.into())),
        }
    }
}

/// Who may use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Whoever reaches a loopback address; no other address is listened on.
    LoopbackOnly,
    /// Whoever reaches the address, whichever it is.
    None,
}

/// An origin whose pages may call the service: `*`, or scheme, host and perhaps port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin(String);

impl CorsOrigin {
    /// The origin as a browser sends it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for CorsOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Browsers send it in lower case and without a slash at the end; anything else would silently never match.
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
        if text == "*" || host.is_some_and(|host| !host.is_empty() && host.chars().all(legal)) {
            return Ok(Self(text));
        }
        let rule = "\"*\" or an origin in lower case without a path, such as \"https://app.example.com\"";
        Err(D::Error::invalid_value(Unexpected::Str(&text), &rule))
    }
}

/// How long done jobs of a kind are kept, such as `restyle=86400`; 0: for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRetention {
    /// The kind.
    pub kind: String,
    /// How long.
    pub seconds: u32,
}

impl<'de> Deserialize<'de> for KindRetention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let parts = text.split_once('=').and_then(|(kind, seconds)| Some((kind, seconds.parse().ok()?)));
        match parts {
            Some((kind, seconds)) if (1..=64).contains(&kind.len()) && kind.chars().all(legal) => {
                Ok(Self { kind: kind.to_owned(), seconds })
            }
            Some(_) | None => {
                let rule = "a kind and seconds, such as \"restyle=86400\"";
                Err(D::Error::invalid_value(Unexpected::Str(&text), &rule))
            }
        }
    }
}

/// Directives of tracing's `EnvFilter` that are known to parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match EnvFilter::try_new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(D::Error::custom(format!(
                "must be levels for targets, such as \"info\" or \"info,milepost::store=debug\": {error}"
            ))),
        }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object in each line.
    Json,
}

/// Which finished requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggedRequests {
    /// Every one.
    All,
    /// Those answered with 4xx or 5xx.
    Failed,
    /// None.
    None,
}

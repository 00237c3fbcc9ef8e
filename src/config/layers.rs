//! One source laid over the other, key by key.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::{
    AuthMode, Config, DEFAULTS,
    problem::{Fault, Origin, Problem, Problems},
};

/// The variables that begin with this are ours.
const PREFIX: &str = "MILEPOST_";
/// The one that names the file.
const CONFIG: &str = "MILEPOST_CONFIG";
/// Variables with a name shorter than their key's.
const SHORT: [(&str, &str, &str); 2] = [("MILEPOST_LISTEN", "http", "listen"), ("MILEPOST_STORE", "store", "url")];

/// Variables of those who talk to the service.
const CLIENTS: [&str; 5] = ["MILEPOST_URL", "MILEPOST_JOB_ID", "MILEPOST_ATTEMPT", "MILEPOST_KIND", "MILEPOST_INPUT"];

/// Our variables by name; `None`: the value is not text.
pub(super) type Variables = BTreeMap<String, Option<String>>;

/// The variables that are meant for us.
pub(super) fn milepost(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    let ours = variables.into_iter().filter_map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with(PREFIX) && !is_service_link(&name) && !is_for_clients(&name);
        ours.then(|| (name, value.into_string().ok()))
    });
    ours.collect()
}

/// Kubernetes tells every container of a namespace where a service called `milepost` is, in variables such as
/// MILEPOST_SERVICE_HOST and MILEPOST_PORT_8080_TCP. No key of ours has a name like that.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_PORT") || ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].iter().any(|mark| name.contains(mark))
}

/// Where clients find the service, and what `milepost claim` tells its command of the job: a service that has these in its
/// environment, too, is not misconfigured. No key of ours has a name like that.
fn is_for_clients(name: &str) -> bool {
    CLIENTS.contains(&name) || name.starts_with("MILEPOST_INPUT_")
}

/// The file that a variable names.
pub(super) fn config_file(variables: &Variables) -> Option<PathBuf> {
    variables.get(CONFIG)?.as_ref().map(Into::into)
}

/// The configuration as far as it is put together. At any time it is valid: what is not is left out and reported.
pub(super) struct Layers {
    table: Table,
    config: Config,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Layers {
    /// The defaults.
    pub(super) fn new() -> Result<Self, Problems> {
        let parse = || -> Result<_, toml::de::Error> { Ok((toml::from_str(DEFAULTS)?, toml::from_str(DEFAULTS)?)) };
        match parse() {
            Ok((table, config)) => Ok(Self { table, config, origins: BTreeMap::new(), problems: Vec::new() }),
            Err(error) => {
                let origin = Origin::BuiltIn("config/default.toml".into());
                Err(Problems(vec![Problem { origin, fault: syntax(DEFAULTS, &error) }]))
            }
        }
    }

    /// Lays the keys of a file over what there is.
    pub(super) fn file(&mut self, path: &Path) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.report(Origin::File(path.into()), Fault::Unreadable(error)),
        };
        self.text(path, &text);
    }

    /// Lays the keys of a file's text over what there is.
    pub(super) fn text(&mut self, path: &Path, text: &str) {
        let sections = match toml::from_str::<Table>(text) {
            Ok(sections) => sections,
            Err(error) => return self.report(Origin::File(path.into()), syntax(text, &error)),
        };
        for (section, keys) in sections {
            let origin = Origin::Key(path.into(), section.clone());
            match (self.table.get(&section), keys) {
                (Some(_), Value::Table(keys)) => {
                    for (key, value) in keys {
                        let origin = Origin::Key(path.into(), format!("{section}.{key}"));
                        self.put(origin, &section, &key, value);
                    }
                }
                (None, Value::Table(_)) => self.report(origin, Fault::UnknownSection),
                (_, _) => self.report(origin, Fault::NoSection),
            }
        }
    }

    /// Lays the keys that variables name over what there is.
    pub(super) fn environment(&mut self, variables: Variables) {
        let names = self.variable_names();
        let mut taken = BTreeMap::new();
        for (name, value) in variables {
            let origin = Origin::Variable(name.clone());
            let (key, text) = match (names.get(&name), value) {
                (_, None) => {
                    self.report(origin, Fault::NotText);
                    continue;
                }
                (None, Some(_)) if name == CONFIG => continue,
                (None, Some(_)) => {
                    self.report(origin, Fault::UnknownVariable);
                    continue;
                }
                (Some(key), Some(text)) => (key, text),
            };
            match taken.insert(key, name) {
                None => self.put_text(origin, &key.0, &key.1, &text),
                Some(other) => self.report(origin, Fault::Twice(other)),
            }
        }
    }

    /// Lays the key that a flag names over what there is, if the flag was given.
    pub(super) fn flag(&mut self, flag: &'static str, section: &str, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put_text(Origin::Flag(flag), section, key, text);
        }
    }

    /// The configuration, if nothing is wrong with it.
    pub(super) fn finish(mut self) -> Result<Config, Problems> {
        self.check_order(
            "lists.page_jobs",
            self.config.lists.page_jobs,
            "lists.page_jobs_max",
            self.config.lists.page_jobs_max,
        );
        self.check_order(
            "logs.page_lines",
            self.config.logs.page_lines,
            "logs.page_lines_max",
            self.config.logs.page_lines_max,
        );
        let listen = self.config.http.listen;
        if self.config.auth.mode == AuthMode::LoopbackOnly && !listen.ip().to_canonical().is_loopback() {
            self.report(self.origin(&["http.listen", "auth.mode"]), Fault::Exposed(listen));
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(Problems(self.problems)) }
    }

    fn check_order(&mut self, key: &'static str, value: usize, limit_key: &'static str, limit: usize) {
        if value > limit {
            self.report(self.origin(&[key, limit_key]), Fault::Over { key, value, limit_key, limit });
        }
    }

    /// Where the first of these keys was set that is not a default.
    fn origin(&self, keys: &[&str]) -> Origin {
        let set = keys.iter().find_map(|key| self.origins.get(*key).cloned());
        set.unwrap_or_else(|| Origin::BuiltIn(keys.join(", ")))
    }

    /// The key of each variable.
    fn variable_names(&self) -> BTreeMap<String, (String, String)> {
        let keys = self.table.iter().flat_map(|(section, keys)| {
            let keys = keys.as_table().into_iter().flat_map(Table::keys);
            keys.map(move |key| (section.clone(), key.clone()))
        });
        let long = keys.map(|(section, key)| (format!("{PREFIX}{section}_{key}").to_uppercase(), (section, key)));
        let short = SHORT.iter().map(|&(name, section, key)| (name.into(), (section.into(), key.into())));
        long.chain(short).collect()
    }

    /// Takes a value that was given as text, in the type that the default has.
    fn put_text(&mut self, origin: Origin, section: &str, key: &str, text: &str) {
        let whole = || Value::String(text.to_owned());
        let value = match self.table.get(section).and_then(|keys| keys.get(key)) {
            Some(Value::Integer(_)) => text.parse().map_or_else(|_| whole(), Value::Integer),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            _ => whole(),
        };
        self.put(origin, section, key, value);
    }

    /// Takes a value if the configuration is valid with it.
    fn put(&mut self, origin: Origin, section: &str, key: &str, value: Value) {
        let mut table = self.table.clone();
        let Some(place) = table.get_mut(section).and_then(|keys| keys.get_mut(key)) else {
            return self.report(origin, Fault::UnknownKey);
        };
        *place = value;
        match Config::deserialize(Value::Table(table.clone())) {
            Ok(config) => {
                self.table = table;
                self.config = config;
                self.origins.insert(format!("{section}.{key}"), origin);
            }
            Err(error) => self.report(origin, Fault::Value(error.message().to_owned())),
        }
    }

    fn report(&mut self, origin: Origin, fault: Fault) {
        self.problems.push(Problem { origin, fault });
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Fault {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    Fault::Syntax { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
}

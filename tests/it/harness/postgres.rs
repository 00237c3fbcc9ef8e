//! PostgreSQL for tests: one server for all of this process, each of which has a store of its own in it, or one of its own.

use std::{
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::script::Script;

/// A server that is gone when this is, or this process.
pub(crate) struct Database {
    url: String,
    script: Script,
}

impl Database {
    /// A server with these settings beside the script's own, and variables in its environment.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-postgres");
        let (script, url) = Script::start(Command::new(program).args(settings));
        assert!(url.starts_with("postgres://"), "no PostgreSQL: `make test` installs it; what it says is above");
        Self { url, script }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL of a schema with nothing in it.
    pub(crate) async fn empty_store(&self) -> String {
        empty_store_at(&self.url).await
    }

    /// What a statement gives that gives one value.
    pub(crate) async fn value(&self, statement: &str) -> String {
        value(&self.url.parse().unwrap(), statement).await
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.script.say("kill");
    }

    /// Fills its own disk, which it was started with as `disk=SIZE`.
    pub(crate) fn fill(&mut self) {
        self.script.say("fill");
    }

    /// Makes room on it again.
    pub(crate) fn free(&mut self) {
        self.script.say("free");
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self) {
        self.script.say("start");
    }
}

/// The URL of a schema with nothing in it, on a server for all tests of this process. What is lost with the machine is not for
/// them.
pub(crate) async fn empty_store() -> String {
    static DATABASE: OnceLock<Database> = OnceLock::new();
    let start = || DATABASE.get_or_init(|| Database::start(&["fsync=off"])).url.clone();
    empty_store_at(&tokio::task::spawn_blocking(start).await.unwrap()).await
}

async fn empty_store_at(url: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("store_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    run(&url.parse().unwrap(), &format!("CREATE SCHEMA {name}")).await;
    format!("{url}?options=-csearch_path%3D{name}")
}

/// What a statement gives that gives one value.
pub(crate) async fn value(url: &Config, statement: &str) -> String {
    let said = run(url, statement).await;
    let row = said.iter().find_map(|said| if let SimpleQueryMessage::Row(row) = said { row.get(0) } else { None });
    row.unwrap_or_default().to_owned()
}

async fn run(url: &Config, statement: &str) -> Vec<SimpleQueryMessage> {
    let (client, connection) = url.connect(NoTls).await.unwrap();
    let asked = async move { client.simple_query(statement).await };
    // A statement may end its own connection.
    let (said, _ended) = tokio::join!(asked, connection);
    said.unwrap()
}

//! A PostgreSQL for all tests of this process, each of which has a store of its own in it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// A server that is gone when this process is: its script waits for the end of its input.
struct Server {
    url: String,
    _script: Child,
}

impl Server {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-postgres");
        // What is lost with the machine is not for these tests.
        let mut command = Command::new(script);
        command.args(["fsync=off", "full_page_writes=off"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("postgres://"), "no PostgreSQL: `make test` installs it; what it says is above");
        Self { url: url.trim().to_owned(), _script: script }
    }
}

/// The URL of a schema with nothing in it.
pub(crate) async fn empty_store() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let url = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start).url.clone()).await.unwrap();
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
    let (said, ended) = tokio::join!(asked, connection);
    ended.unwrap();
    said.unwrap()
}

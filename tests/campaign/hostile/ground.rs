//! Where clients are let loose: a server in a process of its own, and a client that behaves beside them.

use std::{fs, net::SocketAddr};

use milepost::descriptors;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{
    memory::{MIB, Memory},
    polite::Polite,
    talker::Talker,
};
use crate::campaign::process::{Launch, PATIENCE, Server};

/// What the server keeps for itself is small here, so that what clients make it take stands out.
const SMALL: [(&str, u64); 6] = [
    ("STORE_CACHE_BYTES_MAX", MIB),
    ("PUSH_CACHE_BYTES_MAX", MIB),
    ("PUSH_FEED_CACHE_BYTES_MAX", MIB),
    ("SQLITE_WRITER_CACHE_BYTES", MIB),
    ("SQLITE_READER_CACHE_BYTES", MIB / 4),
    ("SQLITE_CHECKPOINT_PAGES", 1_000),
];

/// Clients of all tests that run at once.
const CLIENTS_MAX: usize = 18_000;

pub(super) struct Ground {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    pub(super) polite: Polite,
    /// Before anybody else came.
    before: Memory,
    store: TempDir,
}

impl Ground {
    /// A server with these settings: `("HTTP_BODY_READ_SECONDS", 1)` and the like.
    pub(super) async fn with(settings: &[(&str, u64)]) -> Self {
        Self::under(&[], settings).await
    }

    /// The same under another program.
    pub(super) async fn under(program: &[&str], settings: &[(&str, u64)]) -> Self {
        // Each client takes a file of ours, or of a tool that inherits the limit.
        descriptors::raise(CLIENTS_MAX);
        let store = TempDir::new().expect("a directory");
        let mut launch = Launch::under(program, &store.path().join("store"), &store.path().join("log"));
        for (name, value) in SMALL.iter().chain(settings) {
            launch = launch.env(&format!("MILEPOST_{name}"), value);
        }
        let server = launch.listening().await;
        let address = server.url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address");
        let polite = Polite::arrives(address).await;
        let before = Memory::of(&server);
        Self { server, address, polite, before, store }
    }

    pub(super) async fn talker(&self) -> Talker {
        Talker::connect(self.address).await
    }

    /// A job to be hostile to.
    pub(super) async fn job(&self, id: &str) {
        self.talker().await.ask("PUT", &format!("/jobs/{id}"), &json!({"kind": "k"})).await.is(201);
    }

    /// What a counter or gauge says.
    pub(super) async fn metric(&self, talker: &mut Talker, sample: &str) -> u64 {
        let text = talker.get("/metrics").await.is(200).body;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{sample} {value}")))
    }

    /// What the server has logged.
    pub(super) fn logged(&self) -> String {
        fs::read_to_string(self.store.path().join("log")).expect("a log")
    }

    /// Returns when a counter or gauge says what it should.
    pub(super) async fn until(&self, talker: &mut Talker, sample: &str, is_so: impl Fn(u64) -> bool) {
        let becomes = async { while !is_so(self.metric(talker, sample).await) {} };
        if timeout(PATIENCE, becomes).await.is_err() {
            panic!("{sample} stays {}", self.metric(talker, sample).await);
        }
    }

    /// Nobody was harmed: the client that behaves goes on, somebody new is served, the process never took more than so much
    /// memory for all of it, and it stops as it should. Returns how much it took at its most.
    pub(super) async fn ends_unharmed(mut self, grown_bytes_max: u64) -> u64 {
        self.polite.goes_on().await;
        self.talker().await.get("/readyz").await.is(200);
        let log = self.logged();
        let rounds = self.polite.leaves().await;
        let grown = Memory::of(&self.server).peak.saturating_sub(self.before.resident);
        assert!(grown <= grown_bytes_max, "it took {grown} bytes more, and {grown_bytes_max} are allowed");
        // What is refused with 503 may be told so.
        let mut errors = log.lines().filter(|line| line.contains("\"level\":\"ERROR\""));
        assert!(errors.all(|line| line.contains("\"status\":503,")), "{log}");
        let status = self.server.stop().await;
        assert!(status.success(), "{status}: {log}");
        println!("nobody was harmed in {rounds} rounds; the server took {} KiB more at most", grown >> 10);
        grown
    }
}

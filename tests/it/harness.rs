//! The real service on a free port with a store of its own, and a client that looks at every answer.
//!
//! A story runs on every engine, and on one whose memory is so small that every read goes to the disk. Whatever a
//! story is about, each answer must have a request id, each refusal must be a problem that fits its status, and
//! nothing may be a fault of the service.

pub(crate) mod cluster;
pub(crate) mod network;
pub(crate) mod postgres;
pub(crate) mod script;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use milepost::{
    app::{App, Running},
    clock::Clock,
    config::{Config, Flags, StoreUrl},
    job::Timestamp,
};
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpSocket, sync::Mutex, time::MissedTickBehavior};

/// A test for each engine: `each_engine!(name, |server| async move { ... })`, or with a configuration of its own,
/// `each_engine!(name, |config| { ... }, |server| async move { ... })`.
macro_rules! each_engine {
    ($name:ident, |$server:ident| async move $story:block) => {
        each_engine!($name, |_config| {}, |$server| async move $story);
    };
    ($name:ident, |$config:ident| $change:block, |$server:ident| async move $story:block) => {
        async fn $name($server: &$crate::harness::Server) $story

        mod $name {
            fn configure($config: &mut milepost::config::Config) $change

            async fn run(on: $crate::harness::On) {
                let server = $crate::harness::Server::start(on, configure).await;
                super::$name(&server).await;
                server.stop().await;
            }

            #[tokio::test]
            async fn sqlite() {
                run($crate::harness::On::Sqlite).await;
            }

            #[tokio::test]
            async fn sqlite_without_memory() {
                run($crate::harness::On::SqliteWithoutMemory).await;
            }

            #[tokio::test]
            async fn postgres() {
                run($crate::harness::On::Postgres).await;
            }
        }
    };
}

/// What a service stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The embedded engine.
    Sqlite,
    /// The same, and nothing is kept in memory: every read goes to the disk.
    SqliteWithoutMemory,
    /// PostgreSQL.
    Postgres,
}

/// A service with a store of its own.
pub(crate) struct Server {
    running: Mutex<Option<Running>>,
    client: Client,
    address: SocketAddr,
    clock: Clock,
    config: Config,
    on: On,
    /// The directory of an embedded store, which goes with the last service on it.
    store: Option<Arc<TempDir>>,
}

/// How long anything may take on a very busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked again and again until it gives something; `None` when it does not in all that time. There is a pause between:
/// on a machine with two processors whoever asks without one leaves others no time for seconds, a database among them.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let turns = async {
        loop {
            pause.tick().await;
            if let Some(found) = ask().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, turns).await.ok()
}

/// When a story begins: 2026-11-23T08:00:00Z.
const BEGIN: Timestamp = Timestamp(1_795_420_800_000);

impl Server {
    /// A service with an empty store.
    pub(crate) async fn start(on: On, configure: impl FnOnce(&mut Config)) -> Self {
        match on {
            On::Sqlite | On::SqliteWithoutMemory => {
                let store = tempfile::tempdir().unwrap();
                let url = store.path().to_str().unwrap().to_owned();
                Self::open(Self::config(url, on, configure), Clock::manual(BEGIN), on, Some(Arc::new(store))).await
            }
            On::Postgres => Self::start_at(postgres::empty_store().await, configure).await,
        }
    }

    /// A service on a store of PostgreSQL, or in a directory that is the caller's.
    pub(crate) async fn start_at(url: String, configure: impl FnOnce(&mut Config)) -> Self {
        let on = if url.starts_with("postgres://") { On::Postgres } else { On::Sqlite };
        Self::open(Self::config(url, on, configure), Clock::manual(BEGIN), on, None).await
    }

    fn config(store: String, on: On, configure: impl FnOnce(&mut Config)) -> Config {
        let flags = Flags { config: None, listen: Some("127.0.0.1:0".into()), store: Some(store) };
        let mut config = Config::load(&flags, []).unwrap();
        // The time of a story is its own.
        config.sweep.interval_milliseconds = 10;
        config.sweep.start_grace_seconds = 0;
        if on == On::SqliteWithoutMemory {
            config.store.cache_bytes_max = 2;
            config.sqlite.journal_bytes_max = 4096;
            config.push.cache_bytes_max = 0;
            config.push.feed_cache_bytes_max = 0;
        }
        configure(&mut config);
        config
    }

    async fn open(config: Config, clock: Clock, on: On, store: Option<Arc<TempDir>>) -> Self {
        let running = App::open(config.clone(), clock.clone()).await.unwrap().serve().await.unwrap();
        let address = running.address();
        Self { running: Mutex::new(Some(running)), client: Client::new(), address, clock, config, on, store }
    }

    /// A service in a process of its own, which nobody here stops.
    pub(crate) fn elsewhere(address: SocketAddr) -> Self {
        let (running, client) = (Mutex::new(None), Client::new());
        let config = Self::config("unknown".into(), On::Postgres, |_| {});
        Self { running, client, address, clock: Clock::system(), config, on: On::Postgres, store: None }
    }

    /// The service as it is after a stop and a start, which the story stops itself.
    pub(crate) async fn restarted(&self) -> Self {
        self.stop().await;
        Self::open(self.config.clone(), self.clock.clone(), self.on, self.store.clone()).await
    }

    /// Whether it is this that it stands on.
    pub(crate) fn stands_on(&self, on: On) -> bool {
        self.on == on
    }

    /// Another service on the same store, which runs beside this one.
    pub(crate) async fn replica(&self) -> Self {
        Self::open(self.config.clone(), self.clock.clone(), self.on, self.store.clone()).await
    }

    /// What a statement gives that gives one value, of the database that the service stands on.
    pub(crate) async fn value(&self, statement: &str) -> String {
        let StoreUrl::Postgres(url) = &self.config.store.url else { panic!("no database") };
        postgres::value(&url.connect, statement).await
    }

    /// Stops the service, which must bring everything to its end.
    pub(crate) async fn stop(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.shutdown().await.unwrap();
        }
    }

    /// Lets time pass, all at once.
    pub(crate) fn pass(&self, span: Duration) {
        self.clock.advance_ms(span.as_millis().try_into().unwrap());
    }

    /// A request of this method.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Call(self.client.request(method, format!("http://{}{path}", self.address)))
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Call {
        self.call("POST", path).json(body)
    }

    pub(crate) fn put(&self, path: &str, body: Value) -> Call {
        self.call("PUT", path).json(body)
    }

    /// Changes a job.
    pub(crate) fn patch(&self, id: &str, body: Value) -> Call {
        self.call("PATCH", &format!("/jobs/{id}")).json(body)
    }

    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// The document of a job.
    pub(crate) async fn read(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.is(200).json()
    }

    /// The document of a job, once it is as it is to become by itself.
    pub(crate) async fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        match eventually(async || Some(self.read(id).await).filter(&is_so)).await {
            Some(job) => job,
            None => panic!("never so: {}", self.read(id).await),
        }
    }

    /// Returns when a job is gone.
    pub(crate) async fn until_gone(&self, id: &str) {
        let goes = async || (self.get(&format!("/jobs/{id}")).await.status == 404).then_some(());
        eventually(goes).await.unwrap_or_else(|| panic!("{id} stays"));
    }

    /// A new job of this kind, as its document.
    pub(crate) async fn job(&self, id: &str, kind: &str) -> Value {
        self.put(&format!("/jobs/{id}"), serde_json::json!({"kind": kind})).await.is(201).json()
    }

    /// Sends bytes as they are and reads until the service closes the connection.
    pub(crate) async fn raw(&self, request: impl Into<Vec<u8>>) -> String {
        let (address, request) = (self.address, request.into());
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // The service may close before it has read all, and has then said why.
            let _closed = stream.write_all(&request);
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            let _closed = stream.shutdown(Shutdown::Both);
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    /// A request whose path goes out as it is written.
    pub(crate) async fn raw_call(&self, method: &str, path: &str, body: &str) -> Answer {
        let head = "host: x\r\nconnection: close\r\ncontent-type: application/json";
        let length = body.len();
        let text =
            self.raw(format!("{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        Answer::parse(&text, path)
    }

    /// How many requests and streams of this kind wait for changes.
    pub(crate) async fn count_open(&self, kind: &str) -> u64 {
        let sample = format!("milepost_push_open{{kind=\"{kind}\"}} ");
        let text = self.get("/metrics").await.is(200).text;
        text.lines().find_map(|line| line.strip_prefix(&sample)).map_or(0, |count| count.parse().unwrap())
    }

    /// Returns when so many are.
    pub(crate) async fn until_open(&self, kind: &str, count: u64) {
        let reached = async || (self.count_open(kind).await == count).then_some(());
        eventually(reached).await.unwrap_or_else(|| panic!("never {count} {kind}"));
    }

    /// Returns when the streams have sent nothing for a while.
    pub(crate) async fn until_still(&self) {
        let (mut last, mut still) = (String::new(), 0);
        while still < 50 {
            let metrics = self.get("/metrics").await.is(200).text;
            let frames: String =
                metrics.lines().filter(|line| line.starts_with("milepost_push_frames_total")).collect();
            still = if frames == last { still + 1 } else { 0 };
            last = frames;
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection of one's own.
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A connection of one's own of which the kernel takes next to nothing before it is read.
    pub(crate) async fn connect_narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(self.address).await.unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }
}

/// A request; awaiting it sends it.
pub(crate) struct Call(RequestBuilder);

impl From<RequestBuilder> for Call {
    fn from(request: RequestBuilder) -> Self {
        Self(request)
    }
}

impl Call {
    pub(crate) fn json(self, body: Value) -> Self {
        Self(self.0.json(&body))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// A body of this type.
    pub(crate) fn body(self, media_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header("content-type", media_type).body(body))
    }

    /// A body without a type.
    pub(crate) fn bare(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it where there may be nobody any more.
    pub(crate) async fn outcome(self) -> reqwest::Result<Answer> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let path = response.url().path().to_owned();
        Ok(Answer { status, headers, path, text: response.text().await? }.checked())
    }

    /// Sends it and hands on the answer before its body has come.
    pub(crate) async fn begin(self) -> reqwest::Response {
        self.0.send().await.unwrap()
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = tokio::time::timeout(PATIENCE, self.outcome()).await;
            answer.expect("the answer comes to its end").unwrap()
        })
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    path: String,
    pub(crate) text: String,
}

impl Answer {
    fn parse(text: &str, path: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let path = path.split('?').next().unwrap().to_owned();
        Self { status, headers, path, text: body.to_owned() }.checked()
    }

    /// What must be so whatever was asked.
    fn checked(self) -> Self {
        assert!(self.header("x-request-id").is_some(), "no request id: {self:?}");
        assert_ne!(self.status, 500, "{self:?}");
        let is_origins = self.path.starts_with("/api/");
        if self.status >= 400 && !self.text.is_empty() && !(is_origins && self.status == 404) {
            let problem = self.json();
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
            assert_eq!(problem["status"], self.status, "{self:?}");
            assert_eq!(problem["instance"], self.path.as_str(), "{self:?}");
            let code = problem["code"].as_str().unwrap();
            assert_eq!(problem["type"], format!("/problems/{}", code.replace('_', "-")));
            assert!(problem["title"].is_string() && problem["detail"].as_str().unwrap().ends_with('.'), "{self:?}");
        }
        self
    }

    /// Expects a status.
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Expects a refusal, and gives its problem.
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let problem = self.is(status).json();
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }

    /// Expects that a member or parameter is refused by this name.
    pub(crate) fn names(self, field: &str) -> Value {
        let problem = self.refused(422, "invalid_field");
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The members of a problem or document that a story is about.
pub(crate) fn only(value: &Value, members: &[&str]) -> Value {
    members.iter().map(|name| ((*name).to_owned(), value[*name].clone())).collect()
}

//! Watchers of one job, cut off at random, while its server is killed again and again: each must have every line once
//! and in order, and the last state.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client as Http;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::campaign::process::{Launch, PATIENCE, Server};
use crate::random::Random;

const LINES: u64 = 20_000;
const CHANGES: u64 = 2_000;
const KILLS: u64 = 3;
const WATCHERS: usize = 200;

/// The life of the server and where it listens in it; `None` while it is dead.
type Address = Option<(u64, String)>;

/// Where the server listens, in this life or a later one.
async fn alive(address: &mut watch::Receiver<Address>, life: u64) -> (u64, String) {
    let is_alive = |address: &Address| address.as_ref().is_some_and(|(at, _)| *at >= life);
    let address = timeout(PATIENCE, address.wait_for(is_alive)).await.expect("the server comes back");
    Address::clone(&address.expect("the stage stands")).expect("it is alive")
}

/// How a watcher watches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Events,
    WebSocket,
    Polls,
    /// Among all jobs: its states alone.
    Feed,
}

/// Somebody who wants the whole story of the job.
struct Watcher {
    way: Way,
    random: Random,
    address: watch::Receiver<Address>,
    http: Http,
    /// The cursor, as it was sent.
    id: Option<String>,
    /// The last line.
    seq: u64,
    version: u64,
    progress: f64,
    job: Value,
    /// How many more events it hears before it breaks its connection.
    patience: u64,
    resumed: u32,
}

/// How a connection ended.
enum Cut {
    /// By the watcher itself.
    OnPurpose,
    ByDeath,
    /// There is nothing more.
    End,
}

impl Watcher {
    async fn run(mut self) -> Self {
        let mut life = 0;
        loop {
            let (at, url) = alive(&mut self.address, life).await;
            // A feed leaves out most states.
            let events = if self.way == Way::Feed { 20 } else { LINES / 4 };
            self.patience = 1 + self.random.below(events);
            let cut = match self.way {
                Way::Events => self.events(&format!("{url}/jobs/j/events?logs=all")).await,
                Way::Feed => self.events(&format!("{url}/events")).await,
                Way::WebSocket => self.websocket(&url).await,
                Way::Polls => self.polls(&url).await,
            };
            life = match cut {
                Cut::OnPurpose => at,
                Cut::ByDeath => at + 1,
                Cut::End => return self,
            };
            self.resumed += 1;
        }
    }

    async fn events(&mut self, url: &str) -> Cut {
        let mut request = self.http.get(url);
        if let Some(id) = &self.id {
            request = request.header("last-event-id", id);
        }
        let Ok(mut response) = request.send().await else { return Cut::ByDeath };
        if response.status() == 204 {
            assert_eq!((self.seq, &self.job["done"]), (LINES, &json!(true)), "nothing is missing");
            return Cut::End;
        }
        assert_eq!(response.status(), 200);
        let mut text = Vec::new();
        loop {
            let piece = timeout(PATIENCE, response.chunk()).await.expect("nothing comes");
            match piece {
                Ok(Some(piece)) => text.extend_from_slice(&piece),
                Ok(None) | Err(_) => return Cut::ByDeath,
            }
            let mut read = 0;
            while let Some(length) = text[read..].windows(2).position(|end| end == b"\n\n") {
                let block = std::str::from_utf8(&text[read..read + length]).expect("text");
                read += length + 2;
                let Some((id, rest)) = block.strip_prefix("id: ").and_then(|rest| rest.split_once("\nevent: ")) else {
                    assert!(block.starts_with("retry: ") || block == ":", "{block}");
                    continue;
                };
                let (event, data) = rest.split_once("\ndata: ").expect("data");
                if let Some(cut) = self.told(event, id, data) {
                    return cut;
                }
            }
            text.drain(..read);
        }
    }

    async fn websocket(&mut self, url: &str) -> Cut {
        let address = url.strip_prefix("http://").expect("a URL");
        let since = self.id.as_ref().map_or(String::new(), |id| format!("&since={id}"));
        let Ok(stream) = tokio::net::TcpStream::connect(address).await else { return Cut::ByDeath };
        let Ok((mut socket, _)) = client_async(format!("ws://{address}/jobs/j/ws?logs=all{since}"), stream).await
        else {
            return Cut::ByDeath;
        };
        loop {
            let text = match timeout(PATIENCE, socket.next()).await.expect("nothing comes") {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_))) => continue,
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Cut::ByDeath,
            };
            let (event, rest) =
                text.strip_prefix("{\"event\":\"").and_then(|rest| rest.split_once('"')).expect("event");
            let (id, rest) = rest.strip_prefix(",\"id\":\"").and_then(|rest| rest.split_once('"')).expect("id");
            let data = rest.strip_prefix(",\"data\":").and_then(|rest| rest.strip_suffix('}')).expect("data");
            if let Some(cut) = self.told(event, id, data) {
                return cut;
            }
        }
    }

    async fn polls(&mut self, url: &str) -> Cut {
        loop {
            let query = format!("logs_after={}&since={}&wait=20", self.seq, self.version);
            let Ok(response) = self.http.get(format!("{url}/jobs/j?{query}")).send().await else { return Cut::ByDeath };
            assert_eq!(response.status(), 200);
            let Ok(mut job) = response.json::<Value>().await else { return Cut::ByDeath };
            let lines = job["logs"].take();
            assert!(job["logs_from"] == self.seq + 1, "{job}");
            for line in lines.as_array().expect("lines") {
                self.seq += 1;
                assert_eq!(*line, format!("line {}", self.seq));
            }
            self.saw(job);
            if self.job["done"] == true && self.seq == LINES {
                return Cut::End;
            }
        }
    }

    /// Takes an event; `Some` when it hears no more on this connection.
    fn told(&mut self, event: &str, id: &str, data: &str) -> Option<Cut> {
        self.id = Some(id.to_owned());
        match event {
            "log" => {
                self.seq += 1;
                // Parsing four million lines would take the time from the server.
                let (seq, text) = (format!("{{\"seq\":{},", self.seq), format!(",\"line\":\"line {}\"}}", self.seq));
                assert!(data.starts_with(&seq) && data.ends_with(&text), "{data} is not line {}", self.seq);
                assert!(id.ends_with(&format!(".{}", self.seq)), "{id}");
            }
            "ready" => assert_eq!(self.way, Way::Feed),
            "job" => {
                self.saw(serde_json::from_str(data).expect("JSON"));
                if self.way == Way::Feed && self.job["done"] == true {
                    return Some(Cut::End);
                }
            }
            "end" => {
                assert_eq!((self.seq, &self.job["done"]), (LINES, &json!(true)), "the end comes last");
                return Some(Cut::End);
            }
            other => panic!("{other} {id} {data}"),
        }
        self.patience -= 1;
        (self.patience == 0).then_some(Cut::OnPurpose)
    }

    fn saw(&mut self, mut job: Value) {
        let version = job["version"].as_u64().expect("a version");
        let progress = job["progress_pct"].as_f64().expect("progress");
        assert!(version >= self.version && progress >= self.progress, "back in time: {job}");
        (self.version, self.progress) = (version, progress);
        if job.get("result").is_none() {
            job["result"] = self.job["result"].take();
        }
        self.job = job;
    }
}

/// A worker who sends everything until it is acknowledged.
struct Worker {
    address: watch::Receiver<Address>,
    http: Http,
}

impl Worker {
    /// Sends until there is an answer, which must be a good one.
    async fn send(&mut self, method: reqwest::Method, path: &str, body: Value) {
        let mut life = 0;
        loop {
            let (at, url) = alive(&mut self.address, life).await;
            match self.http.request(method.clone(), format!("{url}{path}")).json(&body).send().await {
                Ok(response) => return assert!(response.status().is_success(), "{response:?}"),
                Err(_) => life = at + 1,
            }
        }
    }

    async fn append_lines(mut self, mut random: Random, appended: watch::Sender<u64>) {
        let mut next = 1;
        while next <= LINES {
            let last = LINES.min(next + random.below(25));
            let lines: Vec<_> = (next..=last).map(|number| format!("line {number}")).collect();
            let body = json!({"lines": lines, "writer": "w", "seq": next});
            self.send(reqwest::Method::POST, "/jobs/j/logs", body).await;
            next = last + 1;
            appended.send_replace(last);
        }
    }

    async fn make_progress(mut self) {
        for change in 1..=CHANGES {
            let progress = change as f64 * 90.0 / CHANGES as f64;
            let body = json!({"progress_pct": (progress * 100.0).floor() / 100.0, "stage": format!("{change}")});
            self.send(reqwest::Method::PATCH, "/jobs/j", body).await;
        }
    }
}

struct Stage {
    address: watch::Sender<Address>,
    directory: tempfile::TempDir,
    life: u64,
}

impl Stage {
    async fn begin_life(&mut self) -> Server {
        let server =
            Launch::serve(&self.directory.path().join("store"), &self.directory.path().join("log")).listening().await;
        self.life += 1;
        self.address.send_replace(Some((self.life, server.url.clone())));
        server
    }
}

pub(super) async fn everybody_has_the_whole_story(seed: u64) {
    println!("seed {seed}");
    let begun = Instant::now();
    let (mut random, (address, at)) = (Random::new(seed), watch::channel(None));
    let http = Http::builder().no_proxy().timeout(PATIENCE + Duration::from_secs(60)).build().expect("a client");
    let worker = || Worker { address: at.clone(), http: http.clone() };
    let mut stage = Stage { address, directory: tempfile::tempdir().expect("a directory"), life: 0 };
    let mut server = stage.begin_life().await;
    worker().send(reqwest::Method::PUT, "/jobs/j", json!({"kind": "k", "status": "processing"})).await;

    let mut watchers = JoinSet::new();
    for number in 0..WATCHERS {
        let ways =
            [Way::Events, Way::WebSocket, Way::Feed, Way::Polls, Way::Events, Way::WebSocket, Way::Events, Way::Polls];
        let way = ways[number % ways.len()];
        let (id, job) = (None, Value::Null);
        let (address, http, random) = (at.clone(), http.clone(), random.fork());
        let (patience, resumed) = (0, 0);
        let watcher =
            Watcher { way, random, address, http, id, seq: 0, version: 0, progress: 0.0, job, patience, resumed };
        watchers.spawn(watcher.run());
    }
    let (appended, mut lines) = watch::channel(0);
    let mut work = JoinSet::new();
    work.spawn(worker().append_lines(random.fork(), appended));
    work.spawn(worker().make_progress());
    for kill in 1..=KILLS {
        let enough = kill * LINES / (KILLS + 1);
        timeout(PATIENCE, lines.wait_for(|last| *last >= enough)).await.expect("lines come").expect("its sender works");
        stage.address.send_replace(None);
        server.kill().dead();
        server = stage.begin_life().await;
    }
    while let Some(done) = work.join_next().await {
        done.expect("the worker works");
    }
    let worked = begun.elapsed();
    let end = json!({"status": "completed", "result": {"url": "/v/1"}});
    worker().send(reqwest::Method::PATCH, "/jobs/j", end).await;
    let mut resumed = 0;
    while let Some(watcher) = watchers.join_next().await {
        let watcher = watcher.expect("a watcher has what it should have");
        assert_eq!((&watcher.job["status"], &watcher.job["log_count"]), (&json!("completed"), &json!(LINES)));
        if watcher.way != Way::Feed {
            assert_eq!((watcher.seq, &watcher.job["result"]), (LINES, &json!({"url": "/v/1"})));
        }
        // Lines come in many sizes, but each change of the progress is one version, and so is the end.
        assert!(watcher.version > CHANGES + 1, "{}", watcher.version);
        resumed += watcher.resumed;
    }
    println!("{WATCHERS} watchers came back {resumed} times; worked {worked:?}, took {:?}", begun.elapsed());
    assert!(resumed as usize > WATCHERS * KILLS as usize / 2, "they were hardly ever cut off: {resumed}");
    assert!(server.stop().await.success(), "a clean stop");
}

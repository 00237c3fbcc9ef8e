//! The way to the server, whichever life it is in, with everything recorded.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use reqwest::{Client as Http, Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    history::{Answer, Event, History, Id, OpId, Request, Run, Sight, Tick, What},
    wire::{self, Body, Reply},
};
use crate::campaign::process::PATIENCE;

/// Where the server is in its present life, or each of its replicas; `None` while it is dead.
pub(super) type Address = Option<(Run, Vec<String>)>;

/// A client; clones share everything.
#[derive(Clone)]
pub(super) struct Client {
    http: Http,
    address: watch::Receiver<Address>,
    shared: Arc<Shared>,
}

struct Shared {
    history: Mutex<History>,
    acknowledgements: watch::Sender<u64>,
    stopped: AtomicBool,
    /// How often a replica was chosen.
    turns: AtomicUsize,
}

/// What a request came to, as far as its sender needs to know.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Done {
        job: Id,
        version: u64,
    },
    Deleted,
    Gone,
    Finished,
    Moved(u64),
    Refused,
    /// There was no answer.
    Lost,
}

impl Client {
    pub(super) fn new(address: watch::Receiver<Address>) -> Self {
        let http = Http::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let shared = Shared {
            history: Mutex::default(),
            acknowledgements: watch::Sender::new(0),
            stopped: AtomicBool::new(false),
            turns: AtomicUsize::new(0),
        };
        Self { http, address, shared: Arc::new(shared) }
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().expect("nobody panics with the record")
    }

    /// How many requests have been acknowledged.
    pub(super) fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.shared.acknowledgements.subscribe()
    }

    /// Tells everybody to finish what they are at.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }

    /// Sends a new request once.
    pub(super) async fn ask(&mut self, job: Option<Id>, what: What) -> (OpId, Outcome) {
        let op = self.history().ask(job, what);
        (op, self.send(op).await)
    }

    /// Sends a request that is recorded already, when the server is there.
    pub(super) async fn send(&mut self, op: OpId) -> Outcome {
        let (run, url) = self.server().await;
        let request = {
            let mut history = self.history();
            history.push(Event::Sent { op, run });
            history.requests[op as usize].clone()
        };
        let exchange = wire::exchange(op, &request);
        let mut http = self.http.request(exchange.method, format!("{url}{}", exchange.path));
        if let Some((name, value)) = exchange.header {
            http = http.header(name, value);
        }
        http = match exchange.body {
            None => http,
            Some(Body::Json(body)) => http.json(&body),
            Some(Body::Text(body)) => http.header("Content-Type", "text/plain").body(body),
        };
        match receive(http).await {
            Ok(reply) => self.heard(op, &request, &reply),
            Err(Silence::Unsent) => {
                self.history().push(Event::Unsent { op });
                Outcome::Lost
            }
            Err(Silence::Lost) => Outcome::Lost,
        }
    }

    /// Sends new requests as one batch.
    pub(super) async fn batch(&mut self, requests: Vec<Request>) -> Vec<(Request, Outcome)> {
        let (run, url) = self.server().await;
        let mut ops = Vec::new();
        let mut operations = Vec::new();
        {
            let mut history = self.history();
            for request in requests {
                let op = history.ask(request.job.clone(), request.what);
                let Some(operation) = wire::operation(op, &request) else { continue };
                history.push(Event::Sent { op, run });
                operations.push(operation);
                ops.push((op, request));
            }
        }
        let http = self.http.post(format!("{url}/batch")).json(&operations);
        let results = match receive(http).await {
            Ok(reply) if reply.status == 200 => reply.body["results"].as_array().cloned().unwrap_or_default(),
            Ok(reply) => vec![serde_json::json!({"strange": format!("{reply:?}")}); ops.len()],
            Err(silence) => {
                if matches!(silence, Silence::Unsent) {
                    ops.iter().for_each(|(op, _)| self.history().push(Event::Unsent { op: *op }));
                }
                return ops.into_iter().map(|(_, request)| (request, Outcome::Lost)).collect();
            }
        };
        let mut answers = results.iter();
        let heard = ops.into_iter().map(|(op, request)| {
            let outcome = self.heard(op, &request, &wire::of_batch(answers.next().unwrap_or(&Value::Null)));
            (request, outcome)
        });
        heard.collect()
    }

    /// Asks without changing anything, when the server is there; `None` when there was no answer.
    pub(super) async fn get(&mut self, path: &str, tag: Option<u64>) -> Option<(Tick, Reply)> {
        let (_, url) = self.server().await;
        self.get_from(&url, path, tag).await
    }

    /// The same, but `None` as well when the server is not there.
    pub(super) async fn get_now(&self, path: &str) -> Option<(Tick, Reply)> {
        let url = self.address.borrow().as_ref().map(|(_, urls)| self.one_of(urls));
        self.get_from(&url?, path, None).await
    }

    async fn get_from(&self, url: &str, path: &str, tag: Option<u64>) -> Option<(Tick, Reply)> {
        let mut http = self.http.request(Method::GET, format!("{url}{path}"));
        if let Some(version) = tag {
            http = http.header("If-None-Match", format!("\"v{version}\""));
        }
        let since = self.history().now();
        receive(http).await.ok().map(|reply| (since, reply))
    }

    /// Something that must not be, and is no answer to a change.
    pub(super) fn found_strange(&self, what: String) {
        self.history().strange.push(what);
    }

    pub(super) fn saw(&self, since: Tick, sight: Sight) {
        self.history().push(Event::Saw { since, sight });
    }

    /// Waits for the server to live.
    async fn server(&mut self) -> (Run, String) {
        let alive = self.address.wait_for(Option::is_some).await;
        let address = Address::clone(&alive.expect("the test outlives its clients"));
        let (run, urls) = address.expect("it was there");
        (run, self.one_of(&urls))
    }

    /// Whoever does two things does them at two replicas.
    fn one_of(&self, urls: &[String]) -> String {
        urls[self.shared.turns.fetch_add(1, Ordering::SeqCst) % urls.len()].clone()
    }

    fn heard(&self, op: OpId, request: &Request, reply: &Reply) -> Outcome {
        if wire::is_unknown(reply) {
            return Outcome::Lost;
        }
        let answer = wire::answer(request, reply);
        let outcome = match &answer {
            Answer::Made(seen) | Answer::Stood(seen) | Answer::Changed(seen) | Answer::Appended { seen, .. } => {
                Outcome::Done { job: seen.job.clone(), version: seen.version }
            }
            Answer::Deleted => Outcome::Deleted,
            Answer::Gone => Outcome::Gone,
            Answer::Finished => Outcome::Finished,
            Answer::Moved(version) => Outcome::Moved(*version),
            Answer::Gap(_) | Answer::Busy | Answer::Strange(_) => Outcome::Refused,
        };
        self.history().push(Event::Answered { op, answer });
        if matches!(outcome, Outcome::Done { .. } | Outcome::Deleted) {
            self.shared.acknowledgements.send_modify(|count| *count += 1);
        }
        outcome
    }
}

/// Why there is no answer.
enum Silence {
    /// It was never sent.
    Unsent,
    /// It may have been done or not.
    Lost,
}

async fn receive(http: RequestBuilder) -> Result<Reply, Silence> {
    let silence = |error: reqwest::Error| if error.is_connect() { Silence::Unsent } else { Silence::Lost };
    let response = http.send().await.map_err(silence)?;
    let status = response.status().as_u16();
    let replayed = response.headers().contains_key("idempotency-replayed");
    let bytes = response.bytes().await.map_err(|_| Silence::Lost)?;
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) };
    Ok(Reply { status, replayed, body })
}

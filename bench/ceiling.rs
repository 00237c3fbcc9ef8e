//! The ceiling: the service's own sockets, layers and routes with nothing behind them.
//!
//! Reads each request whole and gives one answer to all of them, which `bench/run` has had from the service before: what
//! the service does less than this in a second is what parsing, deciding, keeping and encoding cost. Not part of the
//! service; `ceiling ANSWER.json` takes a free port and says which.

use std::{env, error::Error, fs, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::Response,
    routing::{get, post},
};
use milepost::{
    config::{Config, Flags},
    descriptors,
    http::{
        self, RequestLog,
        serve::{Server, ServerSettings},
    },
    metrics::Metrics,
    tasks::{self, About, Tasks},
    telemetry,
};
use serde::Deserialize;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// An answer as the file describes it.
#[derive(Deserialize)]
struct Planned {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// An answer that is ready to be sent again and again.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn read(path: &str) -> Result<Self, Box<dyn Error>> {
        let planned: Planned = serde_json::from_slice(&fs::read(path)?)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &planned.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(Self { status: StatusCode::from_u16(planned.status)?, headers, body: planned.body.into() })
    }

    fn response(&self) -> Response {
        // One that says nothing is made like the service's: it has no length.
        let body = if self.body.is_empty() { Body::empty() } else { Body::from(self.body.clone()) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// To a request without a body.
async fn answer(State(answer): State<Arc<Answer>>) -> Response {
    answer.response()
}

/// To a request with a body, which is read to its end.
async fn answer_read(State(answer): State<Arc<Answer>>, _: Bytes) -> Response {
    answer.response()
}

async fn ready() -> StatusCode {
    StatusCode::OK
}

/// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: ceiling ANSWER.json")?;
    let answer = Arc::new(Answer::read(&path)?);
    let config = Config::load(&Flags { listen: Some("127.0.0.1:0".into()), ..Flags::default() }, [])?;
    let _log = telemetry::start(&config.log)?;
    descriptors::raise(config.http.connections_max);
    // As the service makes its own.
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(live(&config, answer))
}

async fn live(config: &Config, answer: Arc<Answer>) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let metrics = Metrics::new();
    let routes = [
        ("/jobs/{id}", get(self::answer).patch(answer_read)),
        ("/jobs/{id}/logs", post(answer_read)),
        ("/batch", post(answer_read)),
        ("/readyz", get(ready)),
    ];
    let router = http::layered(routes, &[], RequestLog::Failed, metrics.http.clone()).with_state(answer);
    let settings = ServerSettings {
        connections_max: config.http.connections_max,
        header_bytes_max: config.http.header_bytes_max,
        header_read_seconds: config.http.header_read_seconds,
        write_stall_seconds: config.http.write_stall_seconds,
        unsent_bytes_max: config.http.unsent_bytes_max,
        drain_seconds: config.http.drain_seconds,
    };
    let server = Server::bind(config.http.listen, router, settings, &metrics.http)?;
    announce(&server)?;
    let mut tasks = Tasks::new();
    let (stopper, stop) = tasks::stop();
    let about = About { name: "server", grace: Duration::from_secs(config.http.drain_seconds.into()) };
    tasks.vital(about, move || stopper.stop(), server.run(stop));
    terminate.recv().await;
    Ok(tasks.shutdown().await?)
}

#[expect(clippy::print_stdout, reason = "the address is what stdout is for")]
fn announce(server: &Server) -> Result<(), Box<dyn Error>> {
    println!("listening on http://{}", server.address()?);
    Ok(())
}

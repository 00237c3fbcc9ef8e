//! The ceiling: the service's own sockets, layers and routes with nothing behind them.
//!
//! Reads each request whole and gives one answer to all of them, which `bench/run` has had from the service before: what
//! the service does less than this in a second is what parsing, deciding, keeping and encoding cost. Not part of the
//! service; `ceiling ANSWER.json` takes a free port and says which.
//!
//! `ceiling ANSWER.json limit FILE` is the least that a durable answer costs on this stack; see [`limit`].
//! `ceiling ANSWER.json database postgres://...` is what one would write without Milepost; see [`database`].

mod database;
mod limit;

use std::{env, error::Error, fs, path::Path as FilePath, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::Response,
    routing::{MethodRouter, get, post},
};
use milepost::{
    app::server_settings,
    config::{Config, Flags},
    descriptors,
    http::{self, RequestLog, serve::Server},
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

const USAGE: &str = "usage: ceiling ANSWER.json [limit FILE | database URL]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (path, behind) = arguments.split_first().ok_or(USAGE)?;
    let answer = Arc::new(Answer::read(path)?);
    let config = Config::load(&Flags { listen: Some("127.0.0.1:0".into()), ..Flags::default() }, [])?;
    let _log = telemetry::start(&config.log)?;
    descriptors::raise(config.http.connections_max);
    let metrics = Metrics::new();
    let router = match behind {
        [] => layered(nothing_behind(), answer, &metrics),
        [name, file] if name == "limit" => {
            let log = limit::Log::create(FilePath::new(file))?;
            layered(limit::routes(), limit::Limit { answer, log }, &metrics)
        }
        [name, url] if name == "database" => {
            layered(database::routes(), database::Peer::connect(answer, url)?, &metrics)
        }
        _ => return Err(USAGE.into()),
    };
    // As the service makes its own.
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(live(&config, router, &metrics))
}

async fn live(config: &Config, router: Router, metrics: &Metrics) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::bind(config.http.listen, router, server_settings(config), &metrics.http)?;
    announce(&server)?;
    let mut tasks = Tasks::new();
    let (stopper, stop) = tasks::stop();
    let about = About { name: "server", grace: Duration::from_secs(config.http.drain_seconds.into()) };
    tasks.vital(about, move || stopper.stop(), server.run(stop));
    terminate.recv().await;
    Ok(tasks.shutdown().await?)
}

/// What a server answers on its paths.
type Routes<S, const N: usize> = [(&'static str, MethodRouter<S>); N];

/// Routes behind the service's own layers.
fn layered<S: Clone + Send + Sync + 'static, const N: usize>(
    routes: Routes<S, N>,
    state: S,
    metrics: &Metrics,
) -> Router {
    http::layered(routes, &[], RequestLog::Failed, metrics.http.clone()).with_state(state)
}

/// The routes of the ceiling.
fn nothing_behind() -> Routes<Arc<Answer>, 4> {
    [
        ("/jobs/{id}", get(answer).patch(answer_read)),
        ("/jobs/{id}/logs", post(answer_read)),
        ("/batch", post(answer_read)),
        ("/readyz", get(ready)),
    ]
}

#[expect(clippy::print_stdout, reason = "the address is what stdout is for")]
fn announce(server: &Server) -> Result<(), Box<dyn Error>> {
    println!("listening on http://{}", server.address()?);
    Ok(())
}

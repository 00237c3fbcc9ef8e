//! The ceiling: the service's own sockets, layers and routes with nothing behind them.
//!
//! Reads each request whole and gives one answer to all of them, which `bench/run` has had from the service before: what
//! the service does less than this in a second is what parsing, deciding, keeping and encoding cost. Not part of the
//! service; `ceiling ANSWER.json` takes a free port and says which.
//!
//! `ceiling ANSWER.json postgres://...` is what one would write without Milepost: each PATCH is a transaction of its own on that
//! database, in a table that bench/harness/replicas.py makes.

use std::{env, error::Error, fs, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, patch, post},
};
use deadpool_postgres::{Manager, Pool};
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
use tokio_postgres::NoTls;

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

/// To a request that is a transaction of its own: the job is what it was and what the body says.
async fn answer_committed(State(peer): State<Peer>, Path(id): Path<String>, body: String) -> Response {
    match peer.commit(&id, &body).await {
        Ok(1) => peer.answer.response(),
        Ok(_) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// What answers once the database has committed.
#[derive(Clone)]
struct Peer {
    answer: Arc<Answer>,
    connections: Pool,
}

impl Peer {
    fn connect(answer: Arc<Answer>, url: &str) -> Result<Self, Box<dyn Error>> {
        /// As many as make it fastest here: more wait for each other in the database.
        const CONNECTIONS: usize = 32;
        let connections = Pool::builder(Manager::new(url.parse()?, NoTls)).max_size(CONNECTIONS).build()?;
        Ok(Self { answer, connections })
    }

    async fn commit(&self, id: &str, patch: &str) -> Result<u64, Box<dyn Error + Send + Sync>> {
        const UPDATE: &str =
            "UPDATE peer SET version = version + 1, document = document || $2::text::jsonb WHERE id = $1";
        let connection = self.connections.get().await?;
        let statement = connection.prepare_cached(UPDATE).await?;
        Ok(connection.execute(&statement, &[&id, &patch]).await?)
    }
}

async fn ready() -> StatusCode {
    StatusCode::OK
}

/// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: ceiling ANSWER.json [DATABASE]")?;
    let database = env::args().nth(2);
    let answer = Arc::new(Answer::read(&path)?);
    let config = Config::load(&Flags { listen: Some("127.0.0.1:0".into()), ..Flags::default() }, [])?;
    let _log = telemetry::start(&config.log)?;
    descriptors::raise(config.http.connections_max);
    // As the service makes its own.
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(live(&config, answer, database.as_deref()))
}

async fn live(config: &Config, answer: Arc<Answer>, database: Option<&str>) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let metrics = Metrics::new();
    let requests = RequestLog::Failed;
    let router = if let Some(database) = database {
        let routes = [("/jobs/{id}", patch(answer_committed)), ("/readyz", get(ready))];
        http::layered(routes, &[], requests, metrics.http.clone()).with_state(Peer::connect(answer, database)?)
    } else {
        let routes = nothing_behind();
        http::layered(routes, &[], requests, metrics.http.clone()).with_state(answer)
    };
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

/// The routes of the ceiling.
fn nothing_behind() -> [(&'static str, MethodRouter<Arc<Answer>>); 4] {
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

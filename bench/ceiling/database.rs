//! What one would write on PostgreSQL without Milepost: a transaction for each request.
//!
//! It does the least that can be called durable, in tables that bench/harness/postgres.py makes: no guards, history, feed or
//! limits.

use std::{error::Error, sync::Arc};

use axum::{
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use deadpool_postgres::{Manager, Pool};
use tokio_postgres::{NoTls, Row, types::ToSql};

use super::{Answer, Routes, ready};

/// As many as make it fastest here: more wait for each other in the database.
const CONNECTIONS: usize = 32;

/// What answers once the database has committed.
#[derive(Clone)]
pub(super) struct Peer {
    answer: Arc<Answer>,
    connections: Pool,
}

type Failure = Box<dyn Error + Send + Sync>;

pub(super) fn routes() -> Routes<Peer, 3> {
    let job = get(poll).patch(change);
    [("/jobs/{id}", job), ("/jobs/{id}/logs", post(append)), ("/readyz", get(ready))]
}

/// The job is what it was and what the body says; the answer is the service's.
async fn change(State(peer): State<Peer>, Path(id): Path<String>, body: String) -> Response {
    const UPDATE: &str = "UPDATE peer SET version = version + 1, document = document || $2::text::jsonb WHERE id = $1
         RETURNING version";
    found(peer.ask(UPDATE, &[&id, &body]).await, |_| peer.answer.response())
}

/// Its log is longer by a line.
async fn append(State(peer): State<Peer>, Path(id): Path<String>, body: String) -> Response {
    const APPEND: &str = "WITH job AS (UPDATE peer SET version = version + 1, lines = lines + 1 WHERE id = $1
              RETURNING lines)
         INSERT INTO peer_lines SELECT $1, lines, $2::text::jsonb ->> 'line' FROM job RETURNING seq";
    found(peer.ask(APPEND, &[&id, &body]).await, |row| json(format!("{{\"seq\":{}}}", row.get::<_, i64>(0))))
}

/// The job with its last lines.
async fn poll(State(peer): State<Peer>, Path(id): Path<String>) -> Response {
    const READ: &str = "SELECT (document || jsonb_build_object('version', version, 'logs',
              (SELECT jsonb_agg(line) FROM (SELECT line FROM peer_lines WHERE id = $1 ORDER BY seq DESC LIMIT 20) AS last)))::text
         FROM peer WHERE id = $1";
    found(peer.ask(READ, &[&id]).await, |row| json(row.get(0)))
}

fn found(asked: Result<Option<Row>, Failure>, shape: impl FnOnce(&Row) -> Response) -> Response {
    match asked {
        Ok(Some(row)) => shape(&row),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

fn json(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

impl Peer {
    pub(super) fn connect(answer: Arc<Answer>, url: &str) -> Result<Self, Box<dyn Error>> {
        let connections = Pool::builder(Manager::new(url.parse()?, NoTls)).max_size(CONNECTIONS).build()?;
        Ok(Self { answer, connections })
    }

    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Failure> {
        let connection = self.connections.get().await?;
        let statement = connection.prepare_cached(statement).await?;
        Ok(connection.query_opt(&statement, values).await?)
    }
}

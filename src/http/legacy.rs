//! The read shapes of the origin, for frontends that were written for it.
//!
//! Promises: `logs` is complete and its indices never move, with trimmed lines as empty strings. However long the
//! log, no more than one page of it is in memory.

use std::collections::VecDeque;

use axum::{
    body::Body,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    context::Context,
    error::ApiError,
    extract::JobPath,
    openapi::{NoStore, OfJob},
    reply,
};
use crate::{
    engine::LogEnd,
    job::{Json, Seq, Status},
    store::{Caller, JobStore, Snapshot, StoreError},
};

/// Lines that were trimmed are written in pieces of so many.
const TRIMMED_LINES: Seq = 16 * 1024;

/// The state of a restyle job.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer to clients; its text is put together piece by piece")]
struct RestyleState {
    /// queued, processing, completed or failed.
    status: String,
    /// Every line ever logged.
    logs: Vec<String>,
    /// How far the job has come, in whole percent.
    #[schema(minimum = 0, maximum = 100)]
    progress_pct: u16,
    /// What it has produced.
    #[schema(required)]
    result: Option<serde_json::Value>,
}

/// The state of a short-form job.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer to clients; its text is put together piece by piece")]
struct ShortformState {
    /// queued, processing, completed or failed.
    status: String,
    /// Every line ever logged.
    logs: Vec<String>,
    /// What it has produced.
    #[schema(required)]
    result: Option<serde_json::Value>,
}

/// Says that there is no such job, as the origin says it.
#[derive(Serialize, ToSchema)]
struct Detail {
    /// `Job not found`
    detail: &'static str,
}

/// A job of the origin's routes, where even an id that can be no job's is answered in the origin's shape.
pub(super) struct OriginPath(Option<JobPath>);

impl FromRequestParts<Context> for OriginPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        Ok(Self(JobPath::from_request_parts(parts, context).await.ok()))
    }
}

/// The state of a restyle job, as the origin's frontend reads it.
#[utoipa::path(
    get,
    path = "/api/restyle/{id}",
    tag = "origin",
    params(OfJob),
    responses(
        (status = 200, description = "The state of the job.", body = RestyleState),
        (status = 404, description = "There is no such job.", body = Detail),
        NoStore
    )
)]
pub(super) async fn restyle(
    State(store): State<JobStore>,
    caller: Caller,
    path: OriginPath,
) -> Result<Response, ApiError> {
    state(store, caller, path, true).await
}

/// The state of a short-form job, as the origin's frontend reads it.
#[utoipa::path(
    get,
    path = "/api/status/{id}",
    tag = "origin",
    params(OfJob),
    responses(
        (status = 200, description = "The state of the job.", body = ShortformState),
        (status = 404, description = "There is no such job.", body = Detail),
        NoStore
    )
)]
pub(super) async fn status(
    State(store): State<JobStore>,
    caller: Caller,
    path: OriginPath,
) -> Result<Response, ApiError> {
    state(store, caller, path, false).await
}

/// The state of a short-form job of the shorts service, as the origin's frontend reads it.
#[utoipa::path(
    get,
    path = "/api/saasshorts/status/{id}",
    tag = "origin",
    params(OfJob),
    responses(
        (status = 200, description = "The state of the job.", body = ShortformState),
        (status = 404, description = "There is no such job.", body = Detail),
        NoStore
    )
)]
pub(super) async fn saasshorts_status(
    State(store): State<JobStore>,
    caller: Caller,
    path: OriginPath,
) -> Result<Response, ApiError> {
    state(store, caller, path, false).await
}

async fn state(
    store: JobStore,
    caller: Caller,
    OriginPath(path): OriginPath,
    with_progress: bool,
) -> Result<Response, ApiError> {
    let Some(JobPath(id)) = path else { return Ok(not_found()) };
    let snapshot = match store.read(caller, &id).await {
        Ok(snapshot) => snapshot,
        Err(StoreError::NotFound(_)) => return Ok(not_found()),
        Err(error) => return Err(error.into()),
    };
    let mut text = Text::new(store, snapshot, with_progress);
    // Most logs are one page: their answer has a length, and an error its status.
    let mut first = Vec::new();
    while first.len() < PAGE_BYTES {
        match text.piece().await {
            Ok(Some(piece)) => first.extend_from_slice(&piece),
            Ok(None) => return Ok(reply::json(first)),
            Err(StoreError::NotFound(_)) => return Ok(not_found()),
            Err(error) => return Err(error.into()),
        }
    }
    text.ready.push_front(first.into());
    let pieces = stream::try_unfold(text, |mut text| async move {
        Ok::<_, StoreError>(text.piece().await?.map(|piece| (piece, text)))
    });
    Ok(reply::typed("application/json", Body::from_stream(pieces)))
}

/// An answer that is longer goes out in pieces.
const PAGE_BYTES: usize = 256 * 1024;

fn not_found() -> Response {
    let body = reply::encode(&Detail { detail: "Job not found" }, 32);
    (StatusCode::NOT_FOUND, reply::json(body)).into_response()
}

/// The answer, piece by piece.
struct Text {
    store: JobStore,
    snapshot: Snapshot,
    ready: VecDeque<Bytes>,
    /// The number of the last line that was written; `None` when all is.
    at: Option<Seq>,
    tail: Vec<u8>,
}

impl Text {
    fn new(store: JobStore, snapshot: Snapshot, with_progress: bool) -> Self {
        let job = snapshot.job();
        let status = match job.status() {
            // The origin knows no cancelled jobs.
            Status::Cancelled => Status::Failed,
            status @ (Status::Queued | Status::Processing | Status::Completed | Status::Failed) => status,
        };
        let head = format!("{{\"status\":\"{status}\",\"logs\":[");
        let mut tail = b"]".to_vec();
        if with_progress {
            tail.extend_from_slice(format!(",\"progress_pct\":{}", job.progress.whole_percent()).as_bytes());
        }
        tail.extend_from_slice(b",\"result\":");
        tail.extend_from_slice(job.result.as_ref().map_or("null", Json::as_str).as_bytes());
        tail.push(b'}');
        Self { store, ready: VecDeque::from([head.into()]), at: Some(0), tail, snapshot }
    }

    /// The next piece; `None` after the last.
    async fn piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(piece) = self.ready.pop_front() {
            return Ok(Some(piece));
        }
        let Some(at) = self.at else { return Ok(None) };
        let log = &self.snapshot.job().log;
        if at == log.count {
            self.at = None;
            return Ok(Some(std::mem::take(&mut self.tail).into()));
        }
        let mut piece = Vec::new();
        let dropped = log.dropped.min(log.count);
        let last = if at < dropped {
            let last = dropped.min(at + TRIMMED_LINES);
            trimmed(&mut piece, at + 1, last);
            last
        } else {
            self.kept(&mut piece, at).await?
        };
        self.at = Some(last);
        Ok(Some(piece.into()))
    }

    /// Writes a page of the lines that are kept; those that were trimmed since the job was read are empty, too.
    async fn kept(&self, piece: &mut Vec<u8>, at: Seq) -> Result<Seq, StoreError> {
        const PAGE_LINES: usize = 10_000;
        let lines = self.store.lines(&self.snapshot, LogEnd::After(at), PAGE_LINES).await?;
        let mut last = at;
        for line in &lines {
            trimmed(piece, last + 1, line.seq - 1);
            separate(piece, line.seq);
            piece.extend_from_slice(&reply::encode(&*line.text, line.text.len() + 2));
            last = line.seq;
        }
        if lines.is_empty() {
            last = self.snapshot.job().log.count;
            trimmed(piece, at + 1, last);
        }
        Ok(last)
    }
}

fn trimmed(piece: &mut Vec<u8>, first: Seq, last: Seq) {
    for seq in first..=last {
        separate(piece, seq);
        piece.extend_from_slice(b"\"\"");
    }
}

fn separate(piece: &mut Vec<u8>, seq: Seq) {
    if seq > 1 {
        piece.push(b',');
    }
}

//! Many operations in one request: an array, answered as a whole, or a stream that is answered line by line.
//!
//! Promises: results come in the order of the operations, each when its change is durable; operations of one job are
//! done one after the other. What is under way at once is bounded by number and by bytes, so that a client that sends
//! and does not read waits on its own connection.

mod lines;
mod operation;
mod window;

use std::convert::Infallible;

use axum::{
    body::Body as RawBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL},
    response::Response,
};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use serde_json::value::RawValue;

use self::window::{BatchAnswer, BatchResult, Window};
pub(super) use self::{lines::Lines, operation::BatchOperation};
use super::{
    accept,
    body::{self, Media, json_text},
    context::Context,
    error::ApiError,
    extract::Prefer,
    members::misfit,
    openapi::{BadBody, BatchWishes, NoStore},
    query::{Nothing, Query},
    readiness::Readiness,
    reply,
};
use crate::store::{Caller, StoreError};

const NDJSON: &str = Media::Ndjson.as_str();
/// Answers that are ready are sent together, in pieces of about this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for the answer that makes a piece full.
const CHUNK_SPARE_BYTES: usize = 4 * 1024;

/// Do many operations.
///
/// Send a JSON array, or newline-delimited JSON. With `Accept: application/x-ndjson` each result is sent as a line of
/// its own when its operation is durable, and newline-delimited operations are read as they come, over as long a
/// connection as the client likes; otherwise the answer comes as a whole. Each operation is on its own: one that is
/// refused does not stop the others. They are done in their order. With `Prefer: return=minimal` a patch, log or heartbeat
/// has no job in its result, which then has the status 204 and the job's version.
#[utoipa::path(
    post,
    path = "/batch",
    tag = "batch",
    params(BatchWishes),
    request_body(content((Vec<BatchOperation> = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "The results, in the order of the operations.",
            content((BatchAnswer = "application/json"), (BatchResult = "application/x-ndjson")),
            headers(("preference-applied" = Option<String>, description = "`return=minimal`, when that was preferred."))),
        BadBody, NoStore
    )
)]
pub(super) async fn run_batch(
    State(context): State<Context>,
    State(readiness): State<Readiness>,
    caller: Caller,
    Query(Nothing): Query<Nothing>,
    prefer: Prefer,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let window = Window::new(context.clone(), caller, &parts.headers, prefer);
    let is_streamed = accept::names(&parts.headers, NDJSON);
    let mut response = if is_streamed && body::media(&parts.headers, MEDIA, false)? == Media::Ndjson {
        let operations = Operations::Coming(Lines::new(body, context.settings()));
        streamed(Batch { operations, window, readiness })
    } else {
        let operations = whole(&parts.headers, body, &context).await?;
        if is_streamed {
            let operations = Operations::There(operations.into_iter());
            streamed(Batch { operations, window, readiness })
        } else {
            reply::json(collected(operations, window).await)
        }
    };
    if prefer.minimal {
        reply::granted_minimal(&mut response);
    }
    Ok(response)
}

const MEDIA: &[Media] = &[Media::Json, Media::Ndjson];

/// The texts of a batch that is read before anything of it is done.
async fn whole(headers: &HeaderMap, body: RawBody, context: &Context) -> Result<Vec<Bytes>, ApiError> {
    let settings = context.settings();
    let bytes = body::read(headers, body, context).await?;
    let operations: Vec<Bytes> = match body::media(headers, MEDIA, bytes.is_empty())? {
        Media::Ndjson => {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            lines.map(|line| bytes.slice_ref(line)).collect()
        }
        Media::Json | Media::MergePatch | Media::Text => {
            let text = json_text(&bytes, settings.json_depth_max)?;
            let operations: Result<Vec<&RawValue>, _> = serde_json::from_str(text);
            let operations = operations.map_err(|error| misfit(text, error, "Send a JSON array of operations."))?;
            operations.into_iter().map(|operation| bytes.slice_ref(operation.get().as_bytes())).collect()
        }
    };
    let most = settings.batch.operations_max;
    if operations.len() <= most {
        return Ok(operations);
    }
    let detail = format!("Send at most {most} operations at once, or any number with `Accept: {NDJSON}`, as a stream.");
    Err(ApiError::Field { field: "operations".into(), detail })
}

/// All results as one JSON text.
async fn collected(operations: Vec<Bytes>, mut window: Window) -> Vec<u8> {
    let mut text = b"{\"results\":[".to_vec();
    let mut add = |result: Vec<u8>| {
        text.extend_from_slice(&result);
        text.push(b',');
    };
    let store = window.store();
    for operation in operations {
        loop {
            tokio::select! {
                // In this order: what has begun has its place among the changes before more is.
                biased;
                Some(result) = window.next(), if !window.is_empty() => add(result),
                () = store.room(), if window.has_room() => break,
            }
        }
        window.begin(Ok(operation));
    }
    while let Some(result) = window.next().await {
        add(result);
    }
    if text.ends_with(b",") {
        text.pop();
    }
    text.extend_from_slice(b"]}");
    text
}

fn streamed(batch: Batch) -> Response {
    let mut response = reply::typed(NDJSON, RawBody::from_stream(results(batch)));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies hold answers back to make larger pieces of them, unless they are told.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn results(batch: Batch) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(batch, |mut batch| async move {
        let chunk = batch.chunk().await?;
        Some((Ok(chunk), batch))
    })
}

/// A batch whose results are sent as they come.
struct Batch {
    operations: Operations,
    window: Window,
    readiness: Readiness,
}

/// Where operations come from.
enum Operations {
    /// The request, line by line.
    Coming(Lines),
    /// Memory: the request was read whole.
    There(std::vec::IntoIter<Bytes>),
    /// Nowhere: there are no more.
    Over,
}

impl Operations {
    /// The next one; what is no operation has its complaint instead.
    async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        match self {
            Self::Coming(lines) => lines.next().await,
            Self::There(operations) => operations.next().map(Ok),
            Self::Over => None,
        }
    }
}

impl Batch {
    /// The results that are ready next, each on its line; `None` when there will be no more.
    async fn chunk(&mut self) -> Option<Bytes> {
        let Self { operations, window, readiness } = self;
        let store = window.store();
        loop {
            let is_over = matches!(operations, Operations::Over);
            let operation = async {
                store.room().await;
                operations.next().await
            };
            tokio::select! {
                // In this order: what has begun has its place among the changes before more is.
                biased;
                Some(result) = window.next(), if !window.is_empty() => return Some(self.lines(result)),
                () = readiness.draining(), if !is_over => {
                    // The client learns where the service stopped: what has no result was not done.
                    window.begin(Err(StoreError::Draining.into()));
                    *operations = Operations::Over;
                }
                operation = operation, if !is_over && window.has_room() => match operation {
                    Some(operation) => window.begin(operation),
                    None => *operations = Operations::Over,
                },
                else => return None,
            }
        }
    }

    /// This result and those that are ready behind it.
    fn lines(&mut self, first: Vec<u8>) -> Bytes {
        let mut text = first;
        text.push(b'\n');
        while text.len() < CHUNK_BYTES
            && let Some(Some(result)) = self.window.next().now_or_never()
        {
            if text.capacity() < CHUNK_BYTES {
                // Once, and not by and by.
                text.reserve(CHUNK_BYTES + CHUNK_SPARE_BYTES);
            }
            text.extend_from_slice(&result);
            text.push(b'\n');
        }
        text.into()
    }
}

//! The operations of one batch that are under way.
//!
//! Promises: results in the order of the operations; those on one job are done in their order, and share a commit where
//! they can; a bounded number of operations, and of bytes that they came as.

use std::{collections::HashMap, io::Write};

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::operation::{BatchOperation, Content, Done};
use crate::{
    http::{
        context::Context, error::ApiError, extract::Prefer, problem::Problem, reply::encode, request_id::X_REQUEST_ID,
    },
    job::{JobId, Version},
    store::{Caller, JobStore},
};

/// All results of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer to clients; its text is put together from the results")]
pub(super) struct BatchAnswer<'a> {
    /// One for each operation, in their order.
    results: Vec<BatchResult<'a>>,
}

/// The result of one operation: a job, a problem, or with `Prefer: return=minimal` little more than that it is done.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResult<'a> {
    /// The status that the operation's own route would answer with.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// What the route would answer with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<Content<'a>>,
    /// Instead of a job whose client wants no more: its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = false, minimum = 1)]
    version: Option<Version>,
    /// Instead of a job whose client wants no more: its worker shall stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cancel_requested: Option<bool>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem>,
}

impl<'a> BatchResult<'a> {
    /// Of an operation that was done, for a client that wants as little as can be or all of it.
    fn of(done: &'a Done, is_minimal: bool) -> Self {
        if is_minimal && let Some(job) = done.changed() {
            let cancel_requested = job.cancel_requested.then_some(true);
            return Self { version: Some(job.version), cancel_requested, ..Self::bare(204) };
        }
        let (status, content) = done.view();
        Self { job: Some(content), ..Self::bare(status) }
    }

    fn bare(status: u16) -> Self {
        Self { status, job: None, version: None, cancel_requested: None, problem: None }
    }

    /// As JSON text: what serde makes of it, with a document written as it writes itself.
    fn encode(&self) -> Vec<u8> {
        /// A document and what is around it; a receipt or a problem has less.
        const EXPECTED_BYTES: usize = 800;
        const MINIMAL_BYTES: usize = 64;
        let expected = if self.version.is_some() { MINIMAL_BYTES } else { EXPECTED_BYTES / 2 };
        let Some(Content::Job(document)) = &self.job else { return encode(self, expected) };
        let mut text = Vec::with_capacity(EXPECTED_BYTES);
        // Memory takes all there is.
        let _written = write!(text, "{{\"status\":{},\"job\":", self.status);
        document.encode_to(&mut text);
        text.push(b'}');
        text
    }
}

/// See the module.
pub(super) struct Window {
    context: Context,
    caller: Caller,
    request_id: Option<HeaderValue>,
    /// No documents are wanted.
    is_minimal: bool,
    under_way: FuturesOrdered<BoxFuture<'static, Finished>>,
    /// For each job its last operation under way.
    last: HashMap<JobId, Last>,
    /// The number of the next operation, from 0.
    number: u64,
    /// Bytes that those under way came as.
    bytes: usize,
}

/// The last operation under way on a job, as the next one sees it. The other ends are only dropped.
struct Last {
    number: u64,
    has_place: oneshot::Receiver<()>,
    has_ended: oneshot::Receiver<()>,
}

/// An operation that has its result.
struct Finished {
    number: u64,
    id: Option<JobId>,
    bytes: usize,
    result: Result<Done, ApiError>,
}

impl Window {
    pub(super) fn new(context: Context, caller: Caller, headers: &HeaderMap, prefer: Prefer) -> Self {
        Self {
            context,
            caller,
            request_id: headers.get(X_REQUEST_ID).cloned(),
            is_minimal: prefer.minimal,
            under_way: FuturesOrdered::new(),
            last: HashMap::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// What its operations are done to.
    pub(super) fn store(&self) -> JobStore {
        self.context.store().clone()
    }

    /// Whether another operation may begin, as far as this is concerned.
    pub(super) fn has_room(&self) -> bool {
        let batch = &self.context.settings().batch;
        self.under_way.len() < batch.window && self.bytes < batch.line_bytes_max
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Begins an operation; what is none has its result at once.
    pub(super) fn begin(&mut self, operation: Result<Bytes, ApiError>) {
        let (number, caller) = (self.number, self.caller);
        self.number += 1;
        let bytes = operation.as_ref().map_or(0, Bytes::len);
        self.bytes += bytes;
        let operation = operation.and_then(|text| BatchOperation::parse(&text, caller, self.context.bounds()));
        let operation = match operation {
            Ok(operation) => operation,
            Err(error) => {
                let finished = Finished { number, id: None, bytes, result: Err(error) };
                return self.under_way.push_back(std::future::ready(finished).boxed());
            }
        };
        let (place, has_place) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let id = operation.id().cloned();
        let before = id.clone().and_then(|id| self.last.insert(id, Last { number, has_place, has_ended }));
        let store = self.context.store().clone();
        self.under_way.push_back(
            async move {
                if let Some(before) = before {
                    let ready = if operation.looks_first() { before.has_ended } else { before.has_place };
                    let _dropped = ready.await;
                }
                let result = operation.run(&store, caller, place).await;
                drop(ended);
                Finished { number, id, bytes, result }
            }
            .boxed(),
        );
    }

    /// The next result as JSON text; `None` when nothing is under way. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let Finished { number, id, bytes, result } = self.under_way.next().await?;
        self.bytes -= bytes;
        if let Some(id) = id
            && self.last.get(&id).is_some_and(|last| last.number == number)
        {
            self.last.remove(&id);
        }
        Some(match &result {
            Ok(done) => BatchResult::of(done, self.is_minimal).encode(),
            Err(error) => self.refused(number, error),
        })
    }

    fn refused(&self, number: u64, error: &ApiError) -> Vec<u8> {
        let problem = error.problem().at(format!("/batch#{number}"));
        if let Some(cause) = error.cause() {
            let request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
            let code = problem.code.as_str();
            tracing::error!(operation = number, request_id, code, cause, "operation of a batch failed");
        }
        let status = problem.code.status().as_u16();
        BatchResult { problem: Some(problem), ..BatchResult::bare(status) }.encode()
    }
}

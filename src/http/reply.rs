//! The shapes of good answers: documents with their tags, short acknowledgements, and no body at all.

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION},
    },
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{extract::Prefer, tags};
use crate::{
    job::{Attempt, Document, Job, JobId, Seq, Status, Timestamp, Version},
    store::{Created, Creation, Updated},
};

/// Tells a worker on an answer without a body that its job shall end.
pub(super) const MILEPOST_CANCEL: HeaderName = HeaderName::from_static("milepost-cancel");
/// Says that an earlier request made the job.
pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Says which wish was granted (RFC 7240).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What a worker needs to know after an append or a heartbeat.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(super) struct Receipt<'a> {
    /// The name of the job.
    #[schema(value_type = String)]
    id: &'a JobId,
    /// Where it stands.
    status: Status,
    /// The number of the current attempt.
    #[schema(value_type = u32, minimum = 1)]
    attempt: Attempt,
    /// Rises by one with each request that changes anything a reader can see.
    #[schema(value_type = u64, minimum = 1)]
    version: Version,
    /// Lines ever appended to its log.
    #[schema(value_type = u64)]
    log_count: Seq,
    /// Lines of this request that the log had already.
    duplicates: u64,
    /// Whether the worker shall stop.
    cancel_requested: bool,
    /// When the lease runs out.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    lease_expires_at: Option<Timestamp>,
}

impl<'a> Receipt<'a> {
    /// The receipt of a change.
    pub(super) fn new(updated: &'a Updated) -> Self {
        let job = &*updated.job;
        Self {
            id: &job.spec.key.id,
            status: job.status(),
            attempt: job.attempt,
            version: job.version,
            log_count: job.log.count,
            duplicates: updated.duplicates,
            cancel_requested: job.cancel_requested,
            lease_expires_at: job.lease_expires_at,
        }
    }
}

/// JSON text of what is made of strings, numbers and JSON.
pub(super) fn encode(value: &(impl Serialize + ?Sized), bytes_expected: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes_expected);
    // There is nothing in it that could fail to be written to memory.
    let written = serde_json::to_writer(&mut text, value);
    debug_assert!(written.is_ok(), "{written:?}");
    text
}

/// An answer of this type that may be kept but must be asked for anew.
pub(super) fn typed(media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// An answer of JSON text.
pub(super) fn json(text: impl Into<Bytes>) -> Response {
    typed("application/json", text.into())
}

/// A document of a job, with its tag.
pub(super) fn document(version: Version, text: impl Into<Bytes>) -> Response {
    let mut response = json(text);
    response.headers_mut().insert(ETAG, tags::tag(version));
    response
}

/// Says that the client has what it asked for.
pub(super) fn not_modified(version: Version) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(ETAG, tags::tag(version));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// The document that answers a creation, and its status.
pub(super) fn created_view(created: &Created) -> (StatusCode, Document<'_>) {
    let status = match created.how {
        Creation::Made | Creation::Replayed => StatusCode::CREATED,
        Creation::Stood => StatusCode::OK,
    };
    (status, Document::new(&created.job).with_logs(&created.lines).with_input(created.input.as_ref()))
}

/// The answer to a creation.
pub(super) fn created(created: &Created) -> Response {
    let (status, view) = created_view(created);
    let mut response = document(created.job.version, view.encode());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::CREATED {
        let location = format!("/jobs/{}", created.job.key().id);
        // An id is made of characters that stand in any header.
        headers.extend(HeaderValue::try_from(location).map(|location| (LOCATION, location)));
    }
    if created.how == Creation::Replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The document that answers a change: with the lines of this request, and with the result only if it is another one.
pub(super) fn changed_view(updated: &Updated) -> Document<'_> {
    let document = Document::new(&updated.job).with_logs(&updated.lines);
    if updated.result_changed { document } else { document.without_result() }
}

/// The answer to a change.
pub(super) fn changed(updated: &Updated, prefer: Prefer) -> Response {
    if prefer.minimal { minimal(&updated.job) } else { document(updated.job.version, changed_view(updated).encode()) }
}

/// The answer to an append or a heartbeat.
pub(super) fn receipt(updated: &Updated, prefer: Prefer) -> Response {
    if prefer.minimal { minimal(&updated.job) } else { json(encode(&Receipt::new(updated), 256)) }
}

/// Says that the client's wish to wait so long was granted.
pub(super) fn granted(response: &mut Response, wait_seconds: u32) {
    let wish = HeaderValue::try_from(format!("wait={wait_seconds}"));
    response.headers_mut().extend(wish.map(|wish| (PREFERENCE_APPLIED, wish)));
}

/// Says that the client's wish for little was granted.
pub(super) fn granted_minimal(response: &mut Response) {
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=minimal"));
}

/// Says that all is done, with the tag, and with nothing else but a cancel.
fn minimal(job: &Job) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ETAG, tags::tag(job.version));
    if job.cancel_requested {
        headers.insert(MILEPOST_CANCEL, HeaderValue::from_static("requested"));
    }
    granted_minimal(&mut response);
    response
}

/// An answer that is of this moment: nobody may keep it.
pub(super) fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

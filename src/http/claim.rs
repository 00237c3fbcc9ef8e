//! Workers asking for jobs.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    bodies::ClaimBody,
    body::Body,
    context::Context,
    error::ApiError,
    extract::OnceKey,
    idempotency,
    openapi::{BadBody, BadHeader, Conflict, JobAnswer, NoStore},
    query::{Nothing, Query},
    reply::{self, IDEMPOTENCY_REPLAYED},
    serve::Presence,
};
use crate::{
    job::Document,
    metrics::{Held, StreamKind},
    store::Caller,
};

/// Claim a job.
///
/// The queued job of the highest priority, and of those the one that waits longest, is from now on the worker's, who names
/// `attempt` with each write and writes at least once in `lease_seconds`. The answer has its `input`. Each job goes to one
/// worker. With an `Idempotency-Key` a repeated request is answered with the same job for as long as that attempt lasts.
#[utoipa::path(
    post,
    path = "/jobs/claim",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "Claims one job only, however often the request is sent.")),
    request_body(content = ClaimBody, content_type = "application/json"),
    responses(
        (status = 200, response = JobAnswer),
        (status = 204, description = "No job came in time."),
        BadBody, BadHeader, Conflict, NoStore
    )
)]
pub(super) async fn claim_job(
    State(context): State<Context>,
    caller: Caller,
    Query(Nothing): Query<Nothing>,
    OnceKey(key): OnceKey,
    presence: Presence,
    Body { value, bytes }: Body<ClaimBody>,
) -> Result<Response, ApiError> {
    let key = key.map(|key| idempotency::key("claim", &key, &bytes)).transpose()?;
    let _waits = Held::new(context.push_metrics().open(StreamKind::Claim));
    let _matters = presence.matters();
    let Some(claimed) = context.store().claim(caller, value.into_wish(context.bounds()), key).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let document = Document::new(&claimed.job).with_logs(&[]).with_input(claimed.input.as_ref());
    let mut response = reply::document(claimed.job.version, document.encode());
    if claimed.is_replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

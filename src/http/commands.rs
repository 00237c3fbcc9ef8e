//! What may be asked of a job beside a change of its members: that it end, that it be tried again, that its worker lives.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    bodies::{CancelBody, HeartbeatBody, RetryBody},
    body::Body,
    error::ApiError,
    extract::{IfMatch, JobPath, Prefer},
    jobs::{AttemptParam, one_attempt},
    openapi::{BadBody, BadHeader, Conflict, JobAnswer, Minimal, Moved, NoJob, NoStore, OfJob, Preconditions, Wishes},
    query::{Nothing, Query},
    reply::{self, Receipt},
};
use crate::{
    job::Guard,
    store::{Caller, JobStore},
};

/// Cancel a job.
///
/// A queued job is cancelled at once. The worker of a processing one is told to stop, with the answer to its next write;
/// until it does, `completed` and `failed` still win. Of a job that is cancelled, or whose worker was told: the same
/// again.
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    tag = "jobs",
    params(OfJob, Preconditions),
    request_body(content = Option<CancelBody>, content_type = "application/json"),
    responses(
        (status = 200, response = JobAnswer),
        (status = 202, response = JobAnswer),
        BadBody, BadHeader, NoJob, Conflict, Moved, NoStore
    )
)]
pub(super) async fn cancel_job(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(Nothing): Query<Nothing>,
    IfMatch(versions): IfMatch,
    Body { value, .. }: Body<CancelBody>,
) -> Result<Response, ApiError> {
    let guard = Guard { attempt: None, versions };
    let cancelled = store.update(caller, &id, value.into_change(), guard).await?;
    let mut response = reply::document(cancelled.job.version, reply::changed_view(&cancelled).encode());
    if !cancelled.job.is_done() {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// Try a done job again.
///
/// It goes back to the queue, with the number of its attempt raised and what the last attempt left taken away, but for
/// its log lines. With `attempt` only if that is the last one: a request that is repeated changes nothing then.
#[utoipa::path(
    post,
    path = "/jobs/{id}/retry",
    tag = "jobs",
    params(OfJob, Preconditions, Wishes),
    request_body(content = Option<RetryBody>, content_type = "application/json"),
    responses(
        (status = 200, response = JobAnswer),
        Minimal, BadBody, BadHeader, NoJob, Conflict, Moved, NoStore
    )
)]
pub(super) async fn retry_job(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(Nothing): Query<Nothing>,
    IfMatch(versions): IfMatch,
    prefer: Prefer,
    Body { value, .. }: Body<RetryBody>,
) -> Result<Response, ApiError> {
    let guard = Guard { attempt: None, versions };
    let retried = store.update(caller, &id, value.into_change(), guard).await?;
    Ok(reply::changed(&retried, prefer))
}

/// Tell that the worker of a job lives.
///
/// Renews the lease of the attempt. The answer says whether the worker shall stop.
#[utoipa::path(
    post,
    path = "/jobs/{id}/heartbeat",
    tag = "jobs",
    params(OfJob, AttemptParam, Preconditions, Wishes),
    request_body(content = HeartbeatBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What the worker needs to know.", body = Receipt),
        Minimal, BadBody, BadHeader, NoJob, Conflict, Moved, NoStore
    )
)]
pub(super) async fn heartbeat(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(query): Query<AttemptParam>,
    IfMatch(versions): IfMatch,
    prefer: Prefer,
    Body { value, .. }: Body<HeartbeatBody>,
) -> Result<Response, ApiError> {
    let guard = Guard { attempt: one_attempt(query.attempt, value.attempt)?, versions };
    let updated = store.update(caller, &id, value.into_change(), guard).await?;
    Ok(reply::receipt(&updated, prefer))
}

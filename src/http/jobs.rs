//! Jobs one by one: create, make sure, read, change, remove.

use axum::{extract::State, http::StatusCode, response::Response};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    bodies::{MergePatchBody, NewJobBody, PatchBody, SEQ_MAX},
    body::Body,
    bounds::Bounds,
    context::Context,
    error::ApiError,
    extract::{ChosenId, IfMatch, IfNoneMatch, JobPath, OnceKey, Prefer},
    idempotency,
    openapi::{
        BadBody, BadHeader, BadParameters, Conflict, JobAnswer, Known, Minimal, Moved, NoJob, NoStore, NotModified,
        OfJob,
    },
    query::{FromParams, Nothing, Params, Query},
    reply,
    serve::Presence,
    wait::{Wait, WaitParams},
};
use crate::{
    engine::LogEnd,
    job::{Attempt, Document, Guard, JobId, Seq},
    store::{Caller, JobStore, Snapshot},
};

/// Create a job.
///
/// The service chooses the id. With an `Idempotency-Key` a repeated request makes nothing new.
#[utoipa::path(
    post,
    path = "/jobs",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "Makes the job only once, however often the request is sent within a day.")),
    request_body(content = NewJobBody, content_type = "application/json"),
    responses(
        (status = 201, response = crate::http::openapi::CreatedAnswer),
        BadBody, BadHeader, NoJob, Conflict, NoStore
    )
)]
pub(super) async fn create_job(
    State(store): State<JobStore>,
    caller: Caller,
    Query(Nothing): Query<Nothing>,
    OnceKey(key): OnceKey,
    Body { value, bytes }: Body<NewJobBody>,
) -> Result<Response, ApiError> {
    let key = key.map(|key| idempotency::key("jobs", &key, &bytes)).transpose()?;
    let created = store.create(caller, value.into_new_job(fresh_id()?, caller), key).await?;
    Ok(reply::created(&created))
}

/// A new id: a UUIDv7, so that ids sort by creation.
pub(super) fn fresh_id() -> Result<JobId, ApiError> {
    let mut text = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    JobId::try_from(&*id).map_err(|error| ApiError::Internal(error.to_string()))
}

/// Make sure that a job exists.
///
/// Creates it under the id of the path, or leaves the job that stands there untouched, whatever else the body says. With an
/// `Idempotency-Key` a repeated request is told as the first one that it has made the job.
#[utoipa::path(
    put,
    path = "/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, pattern = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$",
        description = "1 to 128 characters of A-Z a-z 0-9 . _ ~ -, not beginning with a dot, and not `claim`."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "Tells whoever has made the job that it has, however often the request is sent within a day.")),
    request_body(content = NewJobBody, content_type = "application/json"),
    responses(
        (status = 200, response = JobAnswer),
        (status = 201, response = crate::http::openapi::CreatedAnswer),
        BadBody, BadHeader, NoJob, Conflict, NoStore
    )
)]
pub(super) async fn ensure_job(
    State(store): State<JobStore>,
    caller: Caller,
    ChosenId(id): ChosenId,
    Query(Nothing): Query<Nothing>,
    OnceKey(key): OnceKey,
    Body { value, bytes }: Body<NewJobBody>,
) -> Result<Response, ApiError> {
    let once = key.map(|key| idempotency::key(&format!("jobs/{id}"), &key, &bytes)).transpose()?;
    Ok(reply::created(&store.ensure(caller, value.into_new_job(id, caller), once).await?))
}

/// What a reader wants of a job, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadParams {
    view: ViewParams,
    wait: WaitParams,
}

impl FromParams for ReadParams {
    fn from_params(params: &mut Params<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        let wait = WaitParams::from_params(params, bounds)?;
        Ok(Self { view: ViewParams::from_params(params, bounds)?, wait })
    }
}

/// What a reader wants of a job.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ViewParams {
    /// How many log lines: the last ones, or with `logs_after` those that follow. `all` gives as many as fit into one
    /// answer; 100 if not given.
    #[param(value_type = Option<String>, pattern = "^([0-9]+|all)$")]
    logs: Option<usize>,
    /// Only log lines after this number.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 9007199254740991_u64)]
    logs_after: Option<Seq>,
    /// `1` adds what the job was created with as `input`.
    #[param(value_type = Option<String>, pattern = "^[01]$")]
    input: bool,
}

impl ViewParams {
    /// Whether it is the document that most readers want and that is kept encoded.
    fn is_usual(self) -> bool {
        self.logs.is_none() && self.logs_after.is_none() && !self.input
    }
}

impl FromParams for ViewParams {
    fn from_params(params: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self {
            logs: params.take("logs")?.map(|text| line_count(&text)).transpose()?,
            logs_after: params.number("logs_after", 0, SEQ_MAX)?,
            input: flag(params, "input")?,
        })
    }
}

/// How many lines a reader wants.
pub(super) fn line_count(text: &str) -> Result<usize, ApiError> {
    if text == "all" {
        return Ok(usize::MAX);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::field("logs", "a whole number, or `all`"));
    }
    // More than can be counted is more than there can be.
    Ok(text.parse().unwrap_or(usize::MAX))
}

/// Whether a reader wants something more.
pub(super) fn flag(params: &mut Params<'_>, name: &str) -> Result<bool, ApiError> {
    match params.take(name)?.as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(ApiError::field(name, "0 or 1")),
    }
}

/// Read a job.
///
/// With the last lines of its log, all of one moment. A client that sends the tag it has with `If-None-Match` gets the
/// document only when there is a newer one. With `Prefer: wait=25`, or `wait` and `since` or `until`, the answer comes
/// when there is something new, or when the time is over.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    tag = "jobs",
    params(OfJob, ViewParams, WaitParams,
        Known,
        ("Prefer" = Option<String>, Header,
            description = "`wait=25`: with `If-None-Match`, answer when there is something new, or after 25 s.")),
    responses((status = 200, response = JobAnswer), NotModified, BadParameters, BadHeader, NoJob, NoStore)
)]
pub(super) async fn read_job(
    State(context): State<Context>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(ReadParams { view, wait }): Query<ReadParams>,
    known: IfNoneMatch,
    prefer: Prefer,
    presence: Presence,
) -> Result<Response, ApiError> {
    let wait = Wait::new(wait, &known, prefer, &context)?;
    let snapshot = wait.read(&context, caller, id, &presence, view.is_usual()).await?;
    let version = snapshot.version();
    let mut response = if known.has(version) {
        reply::not_modified(version)
    } else {
        reply::document(version, document(context.store(), &snapshot, view).await?)
    };
    if let Some(seconds) = wait.granted_seconds {
        reply::granted(&mut response, seconds);
    }
    Ok(response)
}

/// A document with just the lines, and the input, that were asked for.
async fn document(store: &JobStore, snapshot: &Snapshot, params: ViewParams) -> Result<bytes::Bytes, ApiError> {
    if params.is_usual() {
        return Ok(store.document(snapshot).await?);
    }
    let settings = store.settings();
    let from = params.logs_after.map_or(LogEnd::Newest, LogEnd::After);
    // Never more than a log can have.
    let all = usize::try_from(settings.limits.job_lines_max).unwrap_or(usize::MAX);
    let usual = if params.logs_after.is_some() { all } else { settings.document_lines };
    let lines = match params.logs.unwrap_or(usual).min(all) {
        0 => Vec::new(),
        most => store.lines(snapshot, from, most).await?,
    };
    let document = Document::new(snapshot.job()).with_logs(&lines);
    if !params.input {
        return Ok(document.encode().into());
    }
    let input = store.input(snapshot).await?;
    Ok(document.with_input(input.as_ref()).encode().into())
}

/// Who writes, where the body does not say.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AttemptParam {
    /// The writer's attempt: must be the current one. May be in the body instead.
    #[param(value_type = Option<u32>, minimum = 1)]
    pub(super) attempt: Option<Attempt>,
}

impl FromParams for AttemptParam {
    fn from_params(params: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self { attempt: params.attempt()? })
    }
}

/// The attempt of a request, which says it once: in the query or in the body.
pub(super) fn one_attempt(query: Option<Attempt>, body: Option<Attempt>) -> Result<Option<Attempt>, ApiError> {
    match (query, body) {
        (Some(_), Some(_)) => Err(ApiError::field("attempt", "either in the query or in the body")),
        (attempt, None) | (None, attempt) => Ok(attempt),
    }
}

/// Change a job.
///
/// Status, progress, result and log lines of one request become visible together. The answer has in `logs` the lines
/// that this request appended, and `result` only if it changed. A merge patch changes `result`, `error` and `labels`
/// member by member (RFC 7396).
#[utoipa::path(
    patch,
    path = "/jobs/{id}",
    tag = "jobs",
    params(OfJob, AttemptParam, crate::http::openapi::Preconditions, crate::http::openapi::Wishes),
    request_body(content((PatchBody = "application/json"), (MergePatchBody = "application/merge-patch+json"))),
    responses(
        (status = 200, response = JobAnswer),
        Minimal, BadBody, BadHeader, NoJob, Conflict, Moved, NoStore
    )
)]
pub(super) async fn patch_job(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(query): Query<AttemptParam>,
    IfMatch(versions): IfMatch,
    prefer: Prefer,
    Body { value, .. }: Body<PatchBody>,
) -> Result<Response, ApiError> {
    let guard = Guard { attempt: one_attempt(query.attempt, value.attempt)?, versions };
    let updated = store.update(caller, &id, value.into_change()?, guard).await?;
    Ok(reply::changed(&updated, prefer))
}

/// Remove a job, with its log.
///
/// Its id stays reserved for a time. Of a job that was removed already: 204, too.
#[utoipa::path(
    delete,
    path = "/jobs/{id}",
    tag = "jobs",
    params(OfJob, crate::http::openapi::Preconditions),
    responses(
        (status = 204, description = "The job is gone."),
        BadParameters, BadHeader, NoJob, Moved, NoStore
    )
)]
pub(super) async fn delete_job(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(Nothing): Query<Nothing>,
    IfMatch(versions): IfMatch,
) -> Result<StatusCode, ApiError> {
    store.delete(caller, &id, Guard { attempt: None, versions }).await?;
    Ok(StatusCode::NO_CONTENT)
}

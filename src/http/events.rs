//! A job's changes as server-sent events.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use utoipa::IntoParams;

use super::{
    bounds::Bounds,
    context::Context,
    error::ApiError,
    extract::{JobPath, LastEventId},
    jobs::line_count,
    live,
    openapi::{BadParameters, JobEvents, NoJob, NoStore, OfJob},
    query::{FromParams, Params, Query},
};
use crate::{
    metrics::StreamKind,
    publish::{Cursor, FrameFormat, Since},
    store::Caller,
};

/// Where a stream begins.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// The id of the last event the client has, for clients that cannot send it as `Last-Event-ID`. Empty: none.
    #[param(value_type = Option<String>)]
    since: Option<String>,
    /// How many of the last log lines a client gets that has nothing; `all` of them, or 100 if not given.
    #[param(value_type = Option<String>, pattern = "^([0-9]+|all)$")]
    logs: Option<usize>,
}

impl FromParams for StreamParams {
    fn from_params(params: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        let logs = params.take("logs")?.map(|text| line_count(&text)).transpose()?;
        Ok(Self { since: params.take("since")?.map(Into::into), logs })
    }
}

impl StreamParams {
    /// What the client has.
    pub(super) fn since(&self, last: Option<&str>, context: &Context) -> Since {
        let lines = self.logs.unwrap_or(context.store().settings().document_lines) as u64;
        match last.or(self.since.as_deref()).filter(|id| !id.is_empty()) {
            None => Since::Nothing { lines },
            Some(text) => Since::Cursor { cursor: Cursor::parse(text), lines },
        }
    }
}

/// Be told of a job's changes.
///
/// As server-sent events: `job` is the job without log and input, and without a result that the client has; `log` is a
/// line of its log; `dropped` says which lines were trimmed before they could be sent; `end` is the last. A client that
/// comes back with the id of the last event it has gets every line after it, and the newest state. `reset` tells one
/// whose id was never given out for this job that it gets everything anew.
#[utoipa::path(
    get,
    path = "/jobs/{id}/events",
    tag = "push",
    params(OfJob, StreamParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event the client has.")),
    responses(
        JobEvents,
        (status = 204, description = "The job is done and the client has everything: it need not come back."),
        BadParameters, NoJob, NoStore
    )
)]
pub(super) async fn job_events(
    State(context): State<Context>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(params): Query<StreamParams>,
    last: LastEventId,
) -> Result<Response, ApiError> {
    let since = params.since(last.0.as_deref(), &context);
    let reader = context.streams().open(caller, id, since, FrameFormat::EventStream).await?;
    if reader.has_everything() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if matches!(since, Since::Cursor { .. }) {
        context.push_metrics().resumed(StreamKind::Events).inc();
    }
    Ok(live::events(&context, reader))
}

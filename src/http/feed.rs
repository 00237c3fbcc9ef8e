//! The changes of many jobs as server-sent events.

use axum::{extract::State, response::Response};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    bounds::Bounds,
    context::Context,
    error::ApiError,
    extract::LastEventId,
    filter::{self, Filter},
    live,
    openapi::{BadParameters, FeedEvents, NoStore, ids, parameter},
    query::{FromParams, Params, Query},
};
use crate::{
    engine::FeedPlace,
    job::{JobId, digits},
    metrics::StreamKind,
    publish::{FeedFilter, FeedSince},
    store::Caller,
};

/// Which jobs a feed tells of, and from where on.
#[derive(Clone, Debug)]
pub(super) struct FeedParams {
    filter: Filter,
    id: Vec<JobId>,
    since: Option<String>,
}

impl IntoParams for FeedParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = "Just this job; repeated or separated by commas: these, 100 at the most. Not together with the other filters.";
        let since =
            "The id of the last event the client has, for clients that cannot send it as `Last-Event-ID`. Empty: none.";
        vec![ids("id", id), parameter("since", ParameterIn::Query, since, "")]
    }
}

impl FromParams for FeedParams {
    fn from_params(params: &mut Params<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        let filter = Filter::take(params)?;
        let id = chosen(params, bounds.settings().stream.feed_ids_max)?;
        if !filter.is_empty() && !id.is_empty() {
            return Err(ApiError::field("id", "given without `status`, `kind` and `label`"));
        }
        Ok(Self { filter, id, since: params.take("since")?.map(Into::into) })
    }
}

/// Takes the chosen ids, each once.
fn chosen(params: &mut Params<'_>, ids_max: usize) -> Result<Vec<JobId>, ApiError> {
    let mut ids = Vec::new();
    for id in filter::words::<JobId>(params, "id")? {
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > ids_max {
            return Err(ApiError::field("id", format_args!("at most {ids_max} ids")));
        }
    }
    Ok(ids)
}

/// Be told of the changes of many jobs.
///
/// As server-sent events: `job` is a job that was made or has changed, without log, input and result; `left` names one
/// that does not fit the filters any more, `deleted` one that is gone. Changes of the log alone are not told, and of many
/// changes of a job the latest. `ready` says that the client has everything up to then. The id of an event is a cursor: a
/// client that comes back with it is told what every job that changed meanwhile has become, and then `ready`. One whose
/// cursor is not known any more is told `reset`: it has to read the list anew.
///
/// With `id`, how each of these jobs stands comes first, and then `ready`; one that is not there is told as `deleted`.
#[utoipa::path(
    get,
    path = "/events",
    tag = "push",
    params(Filter, FeedParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event the client has.")),
    responses(
        FeedEvents,
        BadParameters, NoStore
    )
)]
pub(super) async fn all_events(
    State(context): State<Context>,
    caller: Caller,
    Query(params): Query<FeedParams>,
    last: LastEventId,
) -> Result<Response, ApiError> {
    let FeedParams { filter: Filter { status: statuses, kind: kinds, label: labels }, id, since } = params;
    let since = match last.0.or(since).filter(|id| !id.is_empty()) {
        None => FeedSince::Now,
        Some(text) => FeedSince::Place(digits(&text).map(FeedPlace)),
    };
    if since != FeedSince::Now {
        context.push_metrics().resumed(StreamKind::Feed).inc();
    }
    if !id.is_empty() {
        // They are told how everything stands, whatever they had.
        return Ok(live::chosen(&context, context.streams().chosen(caller, id)));
    }
    let reader = context.streams().feed(caller, FeedFilter { kinds, statuses, labels }, since).await?;
    Ok(live::feed(&context, reader))
}

//! Everything, as text that can be imported again.

use axum::{body::Body, extract::State, response::Response};
use futures_util::TryStreamExt;

use super::{
    error::ApiError,
    openapi::{BadParameters, NoStore},
    query::{Nothing, Query},
    reply,
};
use crate::store::JobStore;

/// Export everything.
///
/// As newline-delimited JSON from one consistent moment, while the service goes on. The last line counts the jobs and
/// the log lines: without it the export is not complete.
#[utoipa::path(
    get,
    path = "/export",
    tag = "operations",
    responses(
        (status = 200, description = "All jobs, each followed by its log. The schema is that of a line.", body = Object,
            content_type = "application/x-ndjson"),
        BadParameters, NoStore
    )
)]
pub(super) async fn export(
    State(store): State<JobStore>,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, ApiError> {
    let text = store.export().await?;
    // The answer has begun, so all that is left is to break it off and to say why in the log.
    let text = text.inspect_err(|cause| tracing::error!(%cause, "an export broke off"));
    Ok(reply::typed("application/x-ndjson", Body::from_stream(text)))
}

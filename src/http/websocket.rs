//! A job's changes over a WebSocket (RFC 6455), in the frames of its event stream.

mod session;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use self::session::Session;
use super::{
    context::Context,
    cors,
    error::ApiError,
    events::StreamParams,
    extract::JobPath,
    openapi::{BadHeader, BadParameters, Forbidden, NoJob, NoStore, OfJob},
    query::Query,
    serve::Afterlife,
};
use crate::{
    metrics::StreamKind,
    publish::{FrameFormat, Since},
    store::Caller,
};

/// Be told of a job's changes over a WebSocket.
///
/// The events of `/jobs/{id}/events`, each as a text message `{"event", "id", "data"}`. After `end` the service closes
/// with 1000; when it goes down, with 1001, and when it cannot read the job for now, with 1011: come back with `since`.
/// A page needs to be of an origin that may call the service.
#[utoipa::path(
    get,
    path = "/jobs/{id}/ws",
    tag = "push",
    params(OfJob, StreamParams),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on."),
        BadHeader, BadParameters, Forbidden, NoJob, NoStore
    )
)]
pub(super) async fn job_websocket(
    State(context): State<Context>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(params): Query<StreamParams>,
    mut request: Request,
) -> Result<Response, ApiError> {
    if !cors::lets_in(&context.settings().cors_origins, request.headers()) {
        return Err(ApiError::Origin);
    }
    let refused = ApiError::Header { name: "Upgrade", rule: "`websocket`, with what else a WebSocket client sends" };
    let response = create_response_with_body(&request, Body::empty).map_err(|_| refused.clone())?;
    // Missing only where no server stands before the router.
    let afterlife = request.extensions_mut().remove::<Afterlife>().ok_or(refused)?;
    let since = params.since(None, &context);
    let reader = context.streams().open(caller, id, since, FrameFormat::Messages).await?;
    if matches!(since, Since::Cursor { .. }) {
        context.push_metrics().resumed(StreamKind::WebSocket).inc();
    }
    let session = Session::new(&context, reader);
    let upgrade = hyper::upgrade::on(request);
    afterlife.will_be(async move {
        // Fails when the client went away before it was answered.
        if let Ok(upgraded) = upgrade.await {
            session.run(upgraded).await;
        }
    });
    Ok(response)
}

//! The HTTP side: parses requests, calls the store once and shapes the answers.
//!
//! Promises: nothing of a request is silently ignored; every error is a problem (RFC 9457) that is made in one place
//! (`error`); memory for a request is bounded before it is read.
//! Knows nothing of how jobs are kept or decided, and nothing of sockets: those are [`serve`]'s.

mod accept;
mod attempts;
mod batch;
mod bodies;
mod body;
mod bounds;
mod claim;
mod code;
mod commands;
mod context;
mod cors;
mod cursor;
mod docs;
mod error;
mod events;
mod export;
mod extract;
mod feed;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod given;
mod idempotency;
mod jitter;
mod jobs;
mod legacy;
mod list;
mod live;
mod logs;
mod members;
mod observe;
mod openapi;
mod ops;
mod problem;
mod query;
mod readiness;
mod reply;
mod request_id;
pub mod serve;
mod settings;
mod stats;
mod tags;
mod timeline;
mod wait;
mod websocket;

use std::sync::Arc;

use axum::{
    Router,
    extract::MatchedPath,
    handler::Handler,
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header::ALLOW},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, Predicate},
    },
};

pub use self::{
    code::Code,
    context::Api,
    openapi::openapi,
    problem::Problem,
    readiness::Readiness,
    settings::{BatchSettings, ClaimSettings, RequestLog, Settings, StreamSettings},
};
use self::{context::Context, error::ApiError, observe::Observer};
use crate::metrics::HttpMetrics;

/// Every route of the service.
pub fn router(api: Api) -> Router {
    let (settings, metrics) = (api.settings.clone(), api.metrics.http.clone());
    layered(routes(), &settings.cors_origins, settings.requests, metrics).with_state(Context::new(api))
}

/// Routes with what stands around each route of the service; the bench puts it around routes that do nothing.
pub fn layered<S: Clone + Send + Sync + 'static>(
    routes: impl IntoIterator<Item = (&'static str, MethodRouter<S>)>,
    cors_origins: &[HeaderValue],
    requests: RequestLog,
    metrics: Arc<HttpMetrics>,
) -> Router<S> {
    let observer = Observer::new(metrics, requests);
    let mut router = Router::new();
    for (path, methods) in routes {
        router = router.route(path, methods.fallback(no_such_method).layer(observer.of(path)));
    }
    let router = router.fallback_service(any(no_such_route).layer(observer.of("unmatched")));
    match cors::layer(cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

const CLAIM: &str = "/jobs/claim";

/// The route table. What can be long and is no document is compressed for those who want it.
fn routes() -> [(&'static str, MethodRouter<Context>); 26] {
    let gzip =
        CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(DefaultPredicate::new().and(is_whole));
    let job = || get(jobs::read_job).put(jobs::ensure_job).patch(jobs::patch_job).delete(jobs::delete_job);
    [
        ("/jobs", get(list::list_jobs.layer(gzip.clone())).post(jobs::create_job)),
        // No job has this id, and whoever takes it for one is told so as with any other that can be none.
        (CLAIM, job().post(claim::claim_job)),
        ("/jobs/{id}", job()),
        ("/jobs/{id}/logs", get(logs::read_log.layer(gzip.clone())).post(logs::append_log)),
        ("/jobs/{id}/cancel", post(commands::cancel_job)),
        ("/jobs/{id}/retry", post(commands::retry_job)),
        ("/jobs/{id}/heartbeat", post(commands::heartbeat)),
        ("/jobs/{id}/attempts", get(attempts::job_attempts)),
        ("/jobs/{id}/timeline", get(timeline::job_timeline)),
        ("/jobs/{id}/events", get(events::job_events)),
        ("/jobs/{id}/ws", get(websocket::job_websocket)),
        ("/events", get(feed::all_events)),
        ("/batch", post(batch::run_batch)),
        ("/stats", get(stats::stats.layer(gzip.clone()))),
        ("/export", get(export::export.layer(gzip.clone()))),
        ("/api/restyle/{id}", get(legacy::restyle)),
        ("/api/status/{id}", get(legacy::status)),
        ("/api/saasshorts/status/{id}", get(legacy::saasshorts_status)),
        ("/livez", get(ops::livez)),
        ("/readyz", get(ops::readyz)),
        ("/health", get(ops::health)),
        ("/metrics", get(ops::metrics)),
        ("/openapi.json", get(ops::openapi_json.layer(gzip.clone()))),
        ("/docs", get(ops::docs.layer(gzip.clone()))),
        ("/problems/{code}", get(ops::problem_page)),
        ("/", get(ops::index)),
    ]
}

/// Compression would hold back what an answer that goes on has to say.
fn is_whole(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    extensions.get::<serve::GoesOn>().is_none()
}

async fn no_such_route() -> ApiError {
    ApiError::NoSuchRoute
}

async fn no_such_method(path: Option<MatchedPath>) -> Response {
    let mut response = ApiError::Method.into_response();
    if path.is_some_and(|path| path.as_str() == CLAIM) {
        // Whoever takes it for a job's path is answered, and has not found a method that it takes.
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let description: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        let described: BTreeSet<_> = description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(routes().iter().map(|(path, _)| *path).collect::<BTreeSet<_>>(), described);
    }
}

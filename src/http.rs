//! The HTTP side: parses requests, calls the store once and shapes the answers.
//!
//! Promises: nothing of a request is silently ignored; every error is a problem (RFC 9457) that is made in one place
//! ([`error`]); memory for a request is bounded before it is read.
//! Knows nothing of how jobs are kept or decided, and nothing of sockets: those are [`serve`]'s.

mod accept;
mod batch;
mod bodies;
mod body;
mod context;
mod cors;
mod cursor;
mod docs;
mod error;
mod export;
mod extract;
mod idempotency;
mod jobs;
mod legacy;
mod list;
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
mod tags;

use axum::{
    Router,
    handler::Handler,
    routing::{MethodRouter, any, get, post},
};
use tower_http::{CompressionLevel, compression::CompressionLayer};

pub use self::{
    context::Api,
    openapi::openapi,
    problem::{Code, Problem},
    readiness::Readiness,
    settings::{BatchSettings, RequestLog, Settings},
};
use self::{context::Context, error::ApiError, observe::Observer};

/// Every route of the service.
pub fn router(api: Api) -> Router {
    let observer = Observer::new(api.metrics.http.clone(), api.settings.requests);
    let cors = cors::layer(&api.settings.cors_origins);
    let unmatched = any(no_such_route).layer(observer.of("unmatched"));
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods.fallback(no_such_method).layer(observer.of(path)));
    }
    let router = router.fallback_service(unmatched).with_state(Context::new(api));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The route table. What can be long and is no document is compressed for those who want it.
fn routes() -> [(&'static str, MethodRouter<Context>); 16] {
    let gzip = CompressionLayer::new().quality(CompressionLevel::Fastest);
    [
        ("/jobs", get(list::list_jobs.layer(gzip.clone())).post(jobs::create_job)),
        ("/jobs/{id}", get(jobs::read_job).put(jobs::ensure_job).patch(jobs::patch_job).delete(jobs::delete_job)),
        ("/jobs/{id}/logs", get(logs::read_log.layer(gzip.clone())).post(logs::append_log)),
        ("/batch", post(batch::run_batch)),
        ("/export", get(export::export.layer(gzip.clone()))),
        ("/api/restyle/{id}", get(legacy::restyle)),
        ("/api/status/{id}", get(legacy::status)),
        ("/api/saasshorts/status/{id}", get(legacy::saasshorts_status)),
        ("/livez", get(ops::livez)),
        ("/readyz", get(ops::readyz)),
        ("/health", get(ops::health)),
        ("/metrics", get(ops::metrics.layer(gzip.clone()))),
        ("/openapi.json", get(ops::openapi_json.layer(gzip.clone()))),
        ("/docs", get(ops::docs.layer(gzip.clone()))),
        ("/problems/{code}", get(ops::problem_page)),
        ("/", get(ops::index)),
    ]
}

async fn no_such_route() -> ApiError {
    ApiError::NoSuchRoute
}

async fn no_such_method() -> ApiError {
    ApiError::Method
}

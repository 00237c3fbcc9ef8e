//! For those who run the service: is it up, does it take work, how is it doing, what can it do.

use std::sync::Arc;

use axum::{
    extract::{RawPathParams, State},
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{code::Code, context::Context, docs, error::ApiError, openapi::NoStore, readiness::Readiness, reply};
use crate::{
    engine::Caution,
    metrics::{JobLabels, Metrics},
    store::{JobStore, StoreError},
};

/// Whether the service is up, or ready.
#[derive(Serialize, ToSchema)]
struct Probe {
    /// `live` or `ready`.
    status: &'static str,
    /// What the operator should know of how the store is set up, such as `standby_asynchronous`; absent when there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cautions: Vec<&'static str>,
}

/// How the service is doing.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ready`, `draining` or `unavailable`.
    status: &'static str,
    /// The version of the service.
    version: &'static str,
    /// How the store is doing.
    store: StoreHealth,
}

/// How the store is doing.
#[derive(Serialize, ToSchema)]
struct StoreHealth {
    /// `ready`, or `unavailable` when it takes no changes.
    status: &'static str,
    /// Why it takes none; the service's log says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What the operator should know of how it is set up, such as `standby_asynchronous`; absent when there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cautions: Vec<&'static str>,
}

fn probe(status: &'static str, cautions: Vec<&'static str>) -> Response {
    reply::uncached(reply::json(reply::encode(&Probe { status, cautions }, 32)))
}

fn cautions(store: &JobStore) -> Vec<&'static str> {
    store.cautions().into_iter().map(Caution::as_str).collect()
}

/// Whether the process is up.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    responses((status = 200, description = "It is up.", body = Probe))
)]
pub(super) async fn livez() -> Response {
    probe("live", Vec::new())
}

/// Whether the service takes work.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, description = "It takes work.", body = Probe), NoStore)
)]
pub(super) async fn readyz(
    State(store): State<JobStore>,
    State(readiness): State<Readiness>,
) -> Result<Response, ApiError> {
    if readiness.is_draining() {
        return Err(StoreError::Draining.into());
    }
    store.health()?;
    Ok(probe("ready", cautions(&store)))
}

/// How the service is doing.
///
/// Always 200, for people and monitors; what must decide by a status code asks `/readyz`.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses((status = 200, description = "How it is doing.", body = Health))
)]
pub(super) async fn health(State(store): State<JobStore>, State(readiness): State<Readiness>) -> Response {
    let detail = match store.health() {
        Ok(()) => None,
        Err(error) => ApiError::from(error).problem().detail.into(),
    };
    let of_store = if detail.is_none() { "ready" } else { "unavailable" };
    let status = if readiness.is_draining() { "draining" } else { of_store };
    let store = StoreHealth { status: of_store, detail, cautions: cautions(&store) };
    let health = Health { status, version: env!("CARGO_PKG_VERSION"), store };
    reply::uncached(reply::json(reply::encode(&health, 96)))
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the service counts and measures, in the OpenMetrics text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, description = "All metrics.", body = String,
            content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        NoStore
    )
)]
pub(super) async fn metrics(
    State(store): State<JobStore>,
    State(metrics): State<Arc<Metrics>>,
) -> Result<Response, ApiError> {
    let counts = store.counts().await?;
    let jobs = counts
        .into_iter()
        .map(|count| (JobLabels { kind: count.kind.as_str().to_owned(), status: count.status.as_str() }, count.jobs));
    let text = metrics.encode(jobs, cautions(&store)).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(reply::uncached(reply::typed(OPENMETRICS, text)))
}

/// The description of the service, for programs.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    responses((status = 200, description = "This document.", body = Object))
)]
pub(super) async fn openapi_json(State(context): State<Context>) -> Response {
    reply::json(context.pages().openapi.clone())
}

/// The description of the service, for people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "operations",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html; charset=utf-8"))
)]
pub(super) async fn docs(State(context): State<Context>) -> Response {
    html(&context, context.pages().docs.clone())
}

/// Where to begin.
#[utoipa::path(
    get,
    path = "/",
    tag = "operations",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html; charset=utf-8"))
)]
pub(super) async fn index(State(context): State<Context>) -> Response {
    html(&context, context.pages().index.clone())
}

/// What a kind of problem means, and what to do about it.
#[utoipa::path(
    get,
    path = "/problems/{code}",
    tag = "operations",
    params(("code" = String, Path, pattern = "^[a-z-]+$", description = "The code, with dashes.")),
    responses(
        (status = 200, description = "A page.", body = String, content_type = "text/html; charset=utf-8"),
        (status = 404, description = "There is no such problem: `not_found`.", body = super::problem::Problem,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn problem_page(
    State(context): State<Context>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
) -> Result<Response, ApiError> {
    let params = params.map_err(|_| ApiError::NoSuchRoute)?;
    let named = |code: &Code| params.iter().any(|(_, name)| name == code.slug());
    let code = Code::ALL.into_iter().find(named).ok_or(ApiError::NoSuchRoute)?;
    Ok(html(&context, docs::problem(code)))
}

fn html(context: &Context, page: impl Into<axum::body::Body>) -> Response {
    let mut response = reply::typed("text/html; charset=utf-8", page);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, context.pages().policy.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

//! Which pages of other origins may call the service from a browser.

use std::time::Duration;

use axum::http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER},
};
use tower_http::cors::{Any, CorsLayer};

use super::{
    extract::{IDEMPOTENCY_KEY, PREFER},
    reply::{IDEMPOTENCY_REPLAYED, MILEPOST_CANCEL, PREFERENCE_APPLIED},
    request_id::X_REQUEST_ID,
};

/// How long a browser may remember what it was allowed.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The layer for these origins; `None` when there are none, and then no origin is told anything.
pub(super) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(requested())
        .expose_headers(exposed())
        .max_age(MAX_AGE);
    match origins {
        [] => None,
        _ if origins.iter().any(|origin| origin == "*") => Some(layer.allow_origin(Any)),
        _ => Some(layer.allow_origin(origins.to_vec())),
    }
}

fn requested() -> [HeaderName; 7] {
    [ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY, PREFER, X_REQUEST_ID]
}

fn exposed() -> [HeaderName; 9] {
    [ETAG, LOCATION, LINK, RETRY_AFTER, ALLOW, IDEMPOTENCY_REPLAYED, PREFERENCE_APPLIED, MILEPOST_CANCEL, X_REQUEST_ID]
}

//! Which pages of other origins may call the service from a browser.

use std::time::Duration;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, ETAG, HOST, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, ORIGIN, RETRY_AFTER},
};
use tower_http::cors::{Any, CorsLayer};

use super::{
    extract::{IDEMPOTENCY_KEY, LAST_EVENT_ID, PREFER},
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

/// Whether a page may open a WebSocket, which browsers let pages of all origins do: one of the service itself, or of these
/// origins. What says of no origin is no page.
pub(super) fn lets_in(origins: &[HeaderValue], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let is_own = authority.is_some_and(|authority| headers.get(HOST).is_some_and(|host| host == authority));
    is_own || origins.iter().any(|allowed| allowed == "*" || allowed == origin)
}

fn requested() -> [HeaderName; 8] {
    [ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY, LAST_EVENT_ID, PREFER, X_REQUEST_ID]
}

fn exposed() -> [HeaderName; 9] {
    [ETAG, LOCATION, LINK, RETRY_AFTER, ALLOW, IDEMPOTENCY_REPLAYED, PREFERENCE_APPLIED, MILEPOST_CANCEL, X_REQUEST_ID]
}

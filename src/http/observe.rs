//! What every request gets, whatever its route: a name, a count, a duration, a line in the log, and an answer even when
//! its handler panics.
//!
//! Promises: a failure becomes its problem body here and nowhere else; neither the raw path nor a payload is ever a
//! label or part of the log; a request under way is counted until it is answered or its client has gone.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use tower::{Layer, Service};

use super::{
    error::{ApiError, Failure},
    request_id::{RequestIds, X_REQUEST_ID},
    settings::RequestLog,
};
use crate::metrics::{Held, HttpMetrics, RequestLabels, RouteLabels};

/// Makes the layer of each route.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    metrics: Arc<HttpMetrics>,
    ids: Arc<RequestIds>,
    log: RequestLog,
}

impl Observer {
    pub(super) fn new(metrics: Arc<HttpMetrics>, log: RequestLog) -> Self {
        Self { metrics, ids: Arc::new(RequestIds::new()), log }
    }

    /// The layer of a route.
    pub(super) fn of(&self, route: &'static str) -> Observe {
        Observe(Arc::new(Route { route, observer: self.clone(), meters: Default::default() }))
    }
}

/// The layer of one route.
#[derive(Clone, Debug)]
pub(super) struct Observe(Arc<Route>);

#[derive(Debug)]
struct Route {
    route: &'static str,
    observer: Observer,
    /// Looked up once for each method and status, since a look-up costs more than the count itself.
    meters: [Meters; METHODS.len() + 1],
}

#[derive(Debug, Default)]
struct Meters {
    seconds: OnceLock<Histogram>,
    requests: [OnceLock<Counter>; STATUSES.len()],
}

const METHODS: [&str; 7] = ["GET", "PATCH", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"];

/// The statuses the service answers with.
const STATUSES: [u16; 24] = [
    200, 204, 201, 304, 202, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 429, 500, 501, 503, 507, 101, 206,
    301,
];

impl Route {
    fn finished(&self, method: &Method, status: StatusCode, started: Instant) {
        let elapsed = started.elapsed().as_secs_f64();
        let index = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len());
        let method = METHODS.get(index).copied().unwrap_or("other");
        let meters = &self.meters[index];
        let metrics = &self.observer.metrics;
        let status = status.as_u16();
        let labels = RequestLabels { route: self.route, method, status };
        match STATUSES.iter().position(|known| *known == status) {
            Some(known) => {
                meters.requests[known].get_or_init(|| metrics.requests.get_or_create_owned(&labels)).inc();
            }
            None => {
                metrics.requests.get_or_create(&labels).inc();
            }
        }
        let seconds = || metrics.seconds.get_or_create_owned(&RouteLabels { route: self.route, method });
        meters.seconds.get_or_init(seconds).observe(elapsed);
    }

    fn log(&self, method: &Method, id: &HeaderValue, status: StatusCode, failure: Option<&Failure>, started: Instant) {
        let failed = status.is_client_error() || status.is_server_error();
        match self.observer.log {
            RequestLog::All => {}
            RequestLog::Failed if failed => {}
            // The log must say what an answer hides, whatever else it leaves out.
            RequestLog::Failed | RequestLog::None if failure.is_some_and(|failure| failure.cause.is_some()) => {}
            RequestLog::Failed | RequestLog::None => return,
        }
        let id = id.to_str().unwrap_or_default();
        let code = failure.map(|failure| failure.problem.code.as_str());
        let cause = failure.and_then(|failure| failure.cause.as_deref());
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let (method, route, status) = (method.as_str(), self.route, status.as_u16());
        match cause {
            Some(cause) => {
                tracing::error!(method, route, status, milliseconds, request_id = id, code, cause, "request failed");
            }
            None => tracing::info!(method, route, status, milliseconds, request_id = id, code, "request"),
        }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, route: self.0.clone() }
    }
}

/// A route under observation.
#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let route = self.route.clone();
        let in_flight = Held::new(route.observer.metrics.in_flight.clone());
        let id = route.observer.ids.name(request.headers());
        request.headers_mut().insert(X_REQUEST_ID, id.clone());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let _in_flight = in_flight;
            let mut response = match answer.await {
                Ok(Ok(response)) => response,
                Err(panic) => ApiError::Internal(format!("panicked: {}", message(&*panic))).into_response(),
            };
            let failure = response.extensions_mut().remove::<Failure>();
            let failure =
                failure.map(|Failure { problem, cause }| Failure { problem: problem.at(uri.path().into()), cause });
            if let Some(failure) = &failure {
                failure.problem.fill(&mut response);
            }
            route.finished(&method, response.status(), started);
            route.log(&method, &id, response.status(), failure.as_ref(), started);
            response.headers_mut().insert(X_REQUEST_ID, id);
            Ok(response)
        })
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn panics(_: Request) -> Result<Response, Infallible> {
        panic!("the secret")
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_the_service_without_details() {
        let metrics = crate::metrics::Metrics::new().http;
        let observer = Observer::new(metrics.clone(), RequestLog::None);
        let route = observer.of("/secret/{id}").layer(service_fn(panics));
        let request = Request::builder().uri("/secret/7?token=x").body(Body::empty()).unwrap();
        let answer: Response = route.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.headers().contains_key(X_REQUEST_ID));
        let problem: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!((&problem["code"], &problem["instance"]), (&"internal".into(), &"/secret/7".into()));
        assert!(!problem.to_string().contains("the secret"));
        assert_eq!(metrics.in_flight.get(), 0);
        let labels = RequestLabels { route: "/secret/{id}", method: "GET", status: 500 };
        assert_eq!(metrics.requests.get_or_create(&labels).get(), 1);
    }
}

//! The one place that turns errors into status codes.
//!
//! Promises: every error of every layer below is named here; what clients must not see goes to the log and nowhere
//! else.

use std::borrow::Cow;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};

use super::{code::Code, problem::Problem};
use crate::{engine::EngineError, job::Rejection, store::StoreError};

/// Why a request is not done.
#[derive(Clone, Debug)]
pub(super) enum ApiError {
    /// The store refuses or fails.
    Store(StoreError),
    /// The body is no JSON; the sentence says why.
    Json(Cow<'static, str>),
    /// A header is malformed; the rule completes "must be ...".
    Header { name: &'static str, rule: &'static str },
    /// A member or parameter is unfit; the sentence says why.
    Field { field: String, detail: String },
    /// The body is JSON of another shape; the sentence says which it must have.
    Shape(&'static str),
    /// The body is of a type that the route does not take; the sentence says which it takes.
    MediaType(String),
    /// The request comes from a page that may not make it.
    Origin,
    /// The id in the path can be no job's.
    NoSuchJob,
    /// The path is no route's.
    NoSuchRoute,
    /// The route does not take the method.
    Method,
    /// The body did not come in time.
    Slow { seconds: u32 },
    /// The body is over its limit.
    TooLarge { bytes_max: usize },
    /// The handler panicked, or met what cannot be.
    Internal(String),
}

impl ApiError {
    /// A member or parameter that breaks the rule that completes "must be ...".
    pub(super) fn field(field: impl Into<String>, rule: impl std::fmt::Display) -> Self {
        let field = field.into();
        let detail = format!("`{field}` must be {rule}.");
        Self::Field { field, detail }
    }

    /// What clients read.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Store(error) => store_problem(error),
            Self::Json(detail) => Problem::new(Code::InvalidJson, detail.as_ref()),
            Self::Header { name, rule } => Problem {
                field: Some((*name).to_owned()),
                ..Problem::new(Code::InvalidHeader, format!("`{name}` must be {rule}."))
            },
            Self::Field { field, detail } => {
                Problem { field: Some(field.clone()), ..Problem::new(Code::InvalidField, detail.as_str()) }
            }
            Self::Shape(detail) => Problem::new(Code::InvalidField, *detail),
            Self::MediaType(detail) => Problem::new(Code::UnsupportedMediaType, detail.as_str()),
            Self::Origin => Problem {
                field: Some("Origin".to_owned()),
                ..Problem::new(
                    Code::Forbidden,
                    "Pages of this origin may not open WebSockets here; http.cors_origins lists those that may.",
                )
            },
            Self::NoSuchJob => Problem::new(Code::JobNotFound, "There is no job of this id, and there can be none."),
            Self::NoSuchRoute => Problem::new(Code::NotFound, "There is no such route; /docs lists those there are."),
            Self::Method => {
                Problem::new(Code::MethodNotAllowed, "The route does not take this method; Allow lists those it takes.")
            }
            Self::Slow { seconds } => Problem::new(
                Code::RequestTimeout,
                format!("The body did not come within {seconds} s; send the request again."),
            ),
            Self::TooLarge { bytes_max } => {
                Problem::new(Code::BodyTooLarge, format!("Send at most {bytes_max} bytes at once."))
            }
            Self::Internal(_) => Problem::new(
                Code::Internal,
                "The service failed; its log says how, under the X-Request-Id of this answer.",
            ),
        }
    }

    /// What only the log may know.
    pub(super) fn cause(&self) -> Option<String> {
        match self {
            Self::Store(StoreError::Engine(cause)) => Some(cause.to_string()),
            Self::Internal(cause) => Some(cause.clone()),
            Self::Store(_)
            | Self::Json(_)
            | Self::Header { .. }
            | Self::Field { .. }
            | Self::Shape(_)
            | Self::MediaType(_)
            | Self::Origin
            | Self::NoSuchJob
            | Self::NoSuchRoute
            | Self::Method
            | Self::Slow { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn store_problem(error: &StoreError) -> Problem {
    let code = match error {
        StoreError::NotFound(_) => Code::JobNotFound,
        StoreError::JobExists { .. } => Code::JobExists,
        StoreError::JobDeleted { .. } => Code::JobDeleted,
        StoreError::Rejected(why) => return rejection_problem(why),
        StoreError::TooManyKinds => {
            return Problem { field: Some("kind".into()), ..Problem::new(Code::InvalidField, error.to_string()) };
        }
        StoreError::IdempotencyMismatch => Code::IdempotencyMismatch,
        StoreError::IdempotencyInProgress => Code::IdempotencyInProgress,
        StoreError::Contended => Code::Contended,
        StoreError::Overloaded | StoreError::TooManyExports => Code::TooManyRequests,
        StoreError::Draining => Code::Draining,
        StoreError::Engine(cause) => return engine_problem(cause),
    };
    Problem::new(code, error.to_string())
}

fn rejection_problem(why: &Rejection) -> Problem {
    let problem = |code| Problem::new(code, why.to_string());
    match why {
        Rejection::AlreadyFinished(_) => problem(Code::AlreadyFinished),
        Rejection::NotFinished(_) => problem(Code::NotFinished),
        Rejection::InvalidTransition { .. } => problem(Code::InvalidTransition),
        Rejection::StaleAttempt { current } => {
            Problem { current_attempt: Some(*current), ..problem(Code::StaleAttempt) }
        }
        Rejection::AttemptRequired { current } => {
            Problem { current_attempt: Some(*current), ..problem(Code::AttemptRequired) }
        }
        Rejection::LogGap { expected } => Problem { expected: Some(*expected), ..problem(Code::LogGap) },
        Rejection::VersionMismatch { current } => {
            Problem { current_version: Some(*current), ..problem(Code::VersionMismatch) }
        }
        Rejection::Invalid { field, .. } => Problem { field: Some((*field).to_owned()), ..problem(Code::InvalidField) },
    }
}

/// Says what a client can do, and nothing of what happened.
fn engine_problem(cause: &EngineError) -> Problem {
    match cause {
        EngineError::Unavailable(_) | EngineError::Poisoned(_) | EngineError::Format(_) | EngineError::Locked(_) => {
            Problem::new(Code::StorageUnavailable, "The store cannot be used for now; send the request again later.")
        }
        EngineError::ReadOnly(_) => Problem::new(
            Code::StorageUnavailable,
            "The store's database takes no writes for now; send the request again later.",
        ),
        EngineError::Indeterminate(_) => Problem::new(
            Code::StorageUnavailable,
            "Whether the change was made is not known; read the job before you send it again.",
        ),
        EngineError::Full(_) => {
            Problem::new(Code::StorageFull, "Nothing was changed: the store is full; send the request again later.")
        }
        EngineError::Corrupt(_) => Problem::new(
            Code::StorageUnavailable,
            "What the store has of it is damaged; the service's log says more, under the X-Request-Id of this answer.",
        ),
    }
}

/// What went wrong, on its way to where the path of the request is known and the answer gets its body.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What the client reads.
    pub(super) problem: Problem,
    /// What only the log may know.
    pub(super) cause: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let failure = Failure { problem: self.problem(), cause: self.cause() };
        let status = failure.problem.code.status();
        let mut response = Response::default();
        *response.status_mut() = status;
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // What fails so passes within a moment, or else with the next try.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::Slow { .. }) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(failure);
        response
    }
}

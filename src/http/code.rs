//! The codes of problems, each with its status, its title and its page. The list is part of the API.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of problem it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is no JSON.
    InvalidJson,
    /// A header is malformed.
    InvalidHeader,
    /// A member or parameter is not what it must be.
    InvalidField,
    /// The body is of a type the route does not take.
    UnsupportedMediaType,
    /// The client may not do this.
    Forbidden,
    /// There is no such job.
    JobNotFound,
    /// There is no such route.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// The job exists with another kind.
    JobExists,
    /// The job was deleted and its id is still reserved.
    JobDeleted,
    /// The job is done.
    AlreadyFinished,
    /// The job is not done.
    NotFinished,
    /// The job cannot go there from where it stands.
    InvalidTransition,
    /// The attempt is over.
    StaleAttempt,
    /// The writer must say which attempt it is.
    AttemptRequired,
    /// Lines before the ones sent are missing.
    LogGap,
    /// The first request with this key is under way.
    IdempotencyInProgress,
    /// The job has moved since the version named.
    VersionMismatch,
    /// The body is too large.
    BodyTooLarge,
    /// The key was used for another request.
    IdempotencyMismatch,
    /// More changes wait than may.
    TooManyRequests,
    /// There is no room.
    StorageFull,
    /// The store cannot be used for now.
    StorageUnavailable,
    /// Other writers were faster too often.
    Contended,
    /// The service is going down.
    Draining,
    /// A fault of the service.
    Internal,
}

impl Code {
    /// Every code, in the order of the status codes.
    pub const ALL: [Self; 27] = [
        Self::InvalidJson,
        Self::InvalidHeader,
        Self::Forbidden,
        Self::JobNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::JobExists,
        Self::JobDeleted,
        Self::AlreadyFinished,
        Self::NotFinished,
        Self::InvalidTransition,
        Self::StaleAttempt,
        Self::AttemptRequired,
        Self::LogGap,
        Self::IdempotencyInProgress,
        Self::VersionMismatch,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidField,
        Self::IdempotencyMismatch,
        Self::TooManyRequests,
        Self::Internal,
        Self::StorageUnavailable,
        Self::Contended,
        Self::Draining,
        Self::StorageFull,
    ];

    /// The code as clients read it.
    pub fn as_str(self) -> &'static str {
        self.describe().0
    }

    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        self.describe().1
    }

    /// What it means, in a few words.
    pub fn title(self) -> &'static str {
        self.describe().2
    }

    /// What to do about it, for its page.
    pub fn advice(self) -> &'static str {
        self.describe().3
    }

    /// The last segment of its page's path: the code with dashes.
    pub fn slug(self) -> String {
        self.as_str().replace('_', "-")
    }

    const fn describe(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidJson => (
                "invalid_json",
                StatusCode::BAD_REQUEST,
                "The body is no valid JSON",
                "Send JSON text (RFC 8259) in UTF-8, without NaN or numbers beyond the range of a double, and nested \
                 no deeper than the service allows. The detail says where reading stopped.",
            ),
            Self::InvalidHeader => (
                "invalid_header",
                StatusCode::BAD_REQUEST,
                "A header is malformed",
                "If-Match and If-None-Match take quoted tags such as \"v12\", or *. An Idempotency-Key is 1 to 255 \
                 visible ASCII characters. The routes for WebSockets take a WebSocket's handshake (RFC 6455) alone.",
            ),
            Self::InvalidField => (
                "invalid_field",
                StatusCode::UNPROCESSABLE_ENTITY,
                "A member or parameter is not acceptable",
                "`field` names it and the detail says what it must be. Unknown members and parameters are refused too, \
                 so that a misspelt one is never silently ignored.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is of a type this route does not take",
                "Send the Content-Type that the detail names, in UTF-8 and uncompressed. With curl, --json does it.",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "The client may not do this",
                "A page can open a WebSocket when its origin is the service's own, or one of `http.cors_origins`.",
            ),
            Self::JobNotFound => (
                "job_not_found",
                StatusCode::NOT_FOUND,
                "There is no such job",
                "The id was never used, or its job has been deleted. PUT /jobs/{id} makes a job of a chosen id.",
            ),
            Self::NotFound => (
                "not_found",
                StatusCode::NOT_FOUND,
                "There is no such route",
                "The routes are listed at /docs and in /openapi.json.",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The route does not take this method",
                "The Allow header lists the methods it takes.",
            ),
            Self::RequestTimeout => (
                "request_timeout",
                StatusCode::REQUEST_TIMEOUT,
                "The body did not come in time",
                "The connection is closed. Send the request again, the body without pauses.",
            ),
            Self::JobExists => (
                "job_exists",
                StatusCode::CONFLICT,
                "The job exists with another kind",
                "PUT leaves a job that stands untouched, but only if its kind is the one named. Choose another id.",
            ),
            Self::JobDeleted => (
                "job_deleted",
                StatusCode::CONFLICT,
                "The id is that of a deleted job",
                "It stays reserved for a time, so that a late worker cannot bring the job back. Choose another id.",
            ),
            Self::AlreadyFinished => (
                "already_finished",
                StatusCode::CONFLICT,
                "The job is done",
                "A done job takes no change but a repeat of the one that ended it, and for a while late log lines. \
                 Only a retry opens it again.",
            ),
            Self::NotFinished => (
                "not_finished",
                StatusCode::CONFLICT,
                "The job is not done",
                "Only a done job can be retried. Cancel it first, or wait for its end.",
            ),
            Self::InvalidTransition => (
                "invalid_transition",
                StatusCode::CONFLICT,
                "The job cannot go there from where it stands",
                "Read the job: its status says what can follow.",
            ),
            Self::StaleAttempt => (
                "stale_attempt",
                StatusCode::CONFLICT,
                "The attempt is not the current one",
                "The job was given to another attempt, `current_attempt`, or never had the one named. Nothing was \
                 written. A worker that meets this stops working on the job.",
            ),
            Self::AttemptRequired => (
                "attempt_required",
                StatusCode::CONFLICT,
                "The writer must say which attempt it is",
                "The job has held a lease, so an old worker could still be writing. Give `attempt` with the request.",
            ),
            Self::LogGap => (
                "log_gap",
                StatusCode::CONFLICT,
                "Lines before the ones sent are missing",
                "The writer's next line must have the number `expected`. Send the lines again from there on.",
            ),
            Self::IdempotencyInProgress => (
                "idempotency_in_progress",
                StatusCode::CONFLICT,
                "The first request with this Idempotency-Key is under way",
                "Send the request again in a moment; it will get the answer of the first one.",
            ),
            Self::VersionMismatch => (
                "version_mismatch",
                StatusCode::PRECONDITION_FAILED,
                "The job has moved since the version of If-Match",
                "It is at `current_version` now. Read it again and decide anew. A weak tag never matches.",
            ),
            Self::BodyTooLarge => (
                "body_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "Send less at once. Larger things belong behind a URL, and many operations in a streamed batch.",
            ),
            Self::IdempotencyMismatch => (
                "idempotency_mismatch",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was used for another request",
                "A key belongs to one body. Take a new key for a new job.",
            ),
            Self::TooManyRequests => (
                "too_many_requests",
                StatusCode::TOO_MANY_REQUESTS,
                "More is waiting or under way than the service allows",
                "Nothing was changed. Send the request again after the time that Retry-After says.",
            ),
            Self::StorageFull => (
                "storage_full",
                StatusCode::INSUFFICIENT_STORAGE,
                "The disk of the store is full",
                "Nothing was changed. Reading goes on, and writing will when there is room again.",
            ),
            Self::StorageUnavailable => (
                "storage_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The store cannot be used for now",
                "Send the request again after the time that Retry-After says. The service's log says why.",
            ),
            Self::Contended => (
                "contended",
                StatusCode::SERVICE_UNAVAILABLE,
                "Other writers kept changing the job",
                "Nothing was changed. Send the request again after the time that Retry-After says.",
            ),
            Self::Draining => (
                "draining",
                StatusCode::SERVICE_UNAVAILABLE,
                "The service is shutting down",
                "Nothing was changed. Send the request again after the time that Retry-After says.",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "A fault of the service",
                "The service's log says what happened, under the X-Request-Id of the answer.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_and_named_as_it_is_serialised() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(Code::ALL.iter().filter(|other| other.as_str() == code.as_str()).count(), 1);
        }
    }
}

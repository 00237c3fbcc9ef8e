//! What reads requests, for fuzzers; see `fuzzing.rs`.
//!
//! Promises of the parsers that are looked at here: whatever comes, it is taken or refused with a problem that a client
//! may be blamed for; and what is taken means the same however it is written.

mod bodies;
mod lines;
mod words;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::{
    bodies::{Asked, body},
    lines::{appended, batched},
    words::word,
};
use super::{
    bounds::Bounds,
    error::ApiError,
    settings::{BatchSettings, ClaimSettings, RequestLog, Settings, StreamSettings},
};
use crate::job::{Limits, Retention, Seconds};

/// Limits that are small enough to be met.
pub(crate) fn limits() -> Limits {
    Limits {
        line_bytes_max: 24,
        job_lines_max: 12,
        job_log_bytes_max: 160,
        late_log_seconds: Seconds(60),
        result_bytes_max: 200,
        error_bytes_max: 100,
        writers_max: 2,
        cancel_grace_seconds: Seconds(60),
        retention: Retention::FOR_EVER,
    }
}

fn bounds() -> Bounds {
    let settings = Settings {
        body_bytes_max: 1 << 20,
        body_read_seconds: 60,
        json_depth_max: 8,
        cors_origins: Vec::new(),
        input_bytes_max: 200,
        append_lines_max: 6,
        page_lines: 10,
        page_lines_max: 20,
        page_jobs: 10,
        page_jobs_max: 20,
        scan_jobs_max: 100,
        batch: BatchSettings { operations_max: 4, window: 4, line_bytes_max: 40 },
        claim: ClaimSettings { kinds_max: 3, wait_seconds_max: 60 },
        wait_seconds_max: 60,
        stream: StreamSettings { comment_seconds: 15, retry_milliseconds: 2000, feed_ids_max: 3 },
        requests: RequestLog::None,
    };
    Bounds::new(Arc::new(settings), limits())
}

/// What was taken; a refusal must be one that a client can understand.
fn taken<T>(result: Result<T, ApiError>) -> Option<T> {
    let error = match result {
        Ok(taken) => return Some(taken),
        Err(error) => error,
    };
    let problem = error.problem();
    assert!([400, 404, 413, 415, 422].contains(&problem.status), "{error:?} is answered with {}", problem.status);
    assert!(problem.detail.ends_with('.'), "no sentence: {:?}", problem.detail);
    let told: Result<Value, _> = serde_json::from_slice(&problem.encode());
    assert!(told.is_ok_and(|told| told["detail"] == *problem.detail), "{problem:?} is no JSON");
    None
}

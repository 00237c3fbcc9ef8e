//! The attempts of a job, one after the other.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::ApiError,
    extract::JobPath,
    openapi::{BadParameters, NoJob, NoStore, OfJob},
    query::{Nothing, Query},
    reply,
};
use crate::{
    job::{Attempt, Job, Json, PastAttempt, Progress, Timestamp},
    store::{Caller, JobStore},
};

/// The attempts of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempts)]
pub(super) struct Attempts<'a> {
    /// The last ones, in order, up to the current one.
    attempts: Vec<OneAttempt<'a>>,
}

/// An attempt of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct OneAttempt<'a> {
    /// Its number.
    #[schema(value_type = u32, minimum = 1)]
    attempt: Attempt,
    /// Who claimed it.
    #[schema(required)]
    worker: Option<&'a str>,
    /// When a worker began with it.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    ended_at: Option<Timestamp>,
    /// How it ended: as the job's own `outcome`, or `given_back` by its worker.
    #[schema(required)]
    outcome: Option<&'static str>,
    /// Why, if that was said.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>, required)]
    error: Option<&'a Json>,
    /// How far it came, in percent.
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    progress_pct: Progress,
}

impl<'a> OneAttempt<'a> {
    fn past(past: &'a PastAttempt) -> Self {
        Self {
            attempt: past.attempt,
            worker: past.worker.as_deref(),
            started_at: past.started_at,
            ended_at: Some(past.ended_at),
            outcome: Some(past.end.as_str()),
            error: past.error.as_ref(),
            progress_pct: past.progress,
        }
    }

    fn current(job: &'a Job) -> Self {
        let end = job.state.end();
        Self {
            attempt: job.attempt,
            worker: job.worker.as_deref(),
            started_at: job.started_at,
            ended_at: end.map(|end| end.at),
            outcome: end.map(|end| end.outcome.as_str()),
            error: job.error.as_ref(),
            progress_pct: job.progress,
        }
    }
}

/// Read a job's attempts.
///
/// The last hundred, each with its worker, its times, and how it ended; the current one is the last.
#[utoipa::path(
    get,
    path = "/jobs/{id}/attempts",
    tag = "jobs",
    params(OfJob),
    responses((status = 200, description = "The attempts.", body = Attempts), BadParameters, NoJob, NoStore)
)]
pub(super) async fn job_attempts(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, ApiError> {
    let snapshot = store.read(caller, &id).await?;
    let past = store.attempts(&snapshot).await?;
    let current = OneAttempt::current(snapshot.job());
    let attempts = Attempts { attempts: past.iter().map(OneAttempt::past).chain([current]).collect() };
    Ok(reply::json(reply::encode(&attempts, 256 * (past.len() + 1))))
}

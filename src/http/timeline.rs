//! What happened to a job.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::{ToSchema, openapi::schema::Object};

use super::{
    error::ApiError,
    extract::JobPath,
    openapi::{BadParameters, NoJob, NoStore, OfJob, one_of},
    query::{Nothing, Query},
    reply,
};
use crate::{
    job::{Actor, Attempt, Stage, Status, TimelineEntry, TimelineEvent, Timestamp},
    store::{Caller, JobStore},
};

/// What happened to a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Timeline)]
pub(super) struct Timeline<'a> {
    /// In order.
    timeline: Vec<Entry<'a>>,
    /// How many came before and are no longer kept.
    dropped: u64,
}

/// One thing that happened to a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimelineEntry)]
struct Entry<'a> {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What; also how an attempt ended, in the words of `outcome` in `/attempts`.
    #[schema(schema_with = events)]
    event: &'static str,
    /// The attempt that it is about.
    #[schema(value_type = u32, minimum = 1)]
    attempt: Attempt,
    /// Where the job stood then.
    status: Status,
    /// The step it was in then.
    #[schema(value_type = Option<String>, required)]
    stage: Option<&'a Stage>,
    /// Who did it; `service` where something was due.
    #[schema(schema_with = actors)]
    by: &'static str,
    /// The name of the worker, if the job was claimed and the write named its attempt.
    #[schema(required)]
    worker: Option<&'a str>,
    /// Why, if a cancel said so.
    #[schema(value_type = Option<String>, required)]
    reason: Option<&'a Stage>,
}

impl<'a> Entry<'a> {
    fn new(entry: &'a TimelineEntry) -> Self {
        Self {
            at: entry.at,
            event: entry.event.as_str(),
            attempt: entry.attempt,
            status: entry.status,
            stage: entry.stage.as_ref(),
            by: entry.actor.as_str(),
            worker: entry.actor.worker(),
            reason: entry.reason.as_ref(),
        }
    }
}

fn events() -> Object {
    one_of(&TimelineEvent::ALL.map(TimelineEvent::as_str), false)
}

fn actors() -> Object {
    one_of(&[Actor::Client, Actor::Worker(None), Actor::Service].map(|actor| actor.as_str()), false)
}

/// Read a job's timeline.
///
/// Each change of its status, stage or attempt, with its time and who made it: the last 256 at least. Of an attempt that has
/// changed its stage 32 times, fewer and fewer further changes of it are told.
#[utoipa::path(
    get,
    path = "/jobs/{id}/timeline",
    tag = "jobs",
    params(OfJob),
    responses((status = 200, description = "The timeline.", body = Timeline), BadParameters, NoJob, NoStore)
)]
pub(super) async fn job_timeline(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, ApiError> {
    let snapshot = store.read(caller, &id).await?;
    let entries = store.timeline(&snapshot).await?;
    let dropped = snapshot.job().timeline.count.saturating_sub(entries.len() as u64);
    let timeline = Timeline { timeline: entries.iter().map(Entry::new).collect(), dropped };
    Ok(reply::json(reply::encode(&timeline, 192 * (entries.len() + 1))))
}

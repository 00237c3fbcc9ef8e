//! What the jobs are like as a whole.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::ApiError,
    openapi::{BadParameters, NoStore},
    query::{Nothing, Query},
    reply,
};
use crate::{
    engine::{Flow, Spans},
    job::{Kind, Status, Timestamp},
    store::{Caller, JobStore, KindStats},
};

/// What the jobs are like as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats<'a> {
    /// The moment this is of.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// How many jobs there are in each status.
    jobs: Jobs,
    /// How many came and went lately.
    throughput: Throughput,
    /// The same of each kind that has had a job, by name, and how long its jobs take.
    kinds: Vec<OfKind<'a>>,
}

/// What the jobs of a kind are like.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KindStats)]
struct OfKind<'a> {
    /// The kind.
    #[schema(value_type = String, min_length = 1, max_length = 64)]
    kind: &'a Kind,
    /// How many there are in each status.
    jobs: Jobs,
    /// How many came and went lately.
    throughput: Throughput,
    /// How long the attempts took that completed a job; null before the first one.
    #[schema(required)]
    duration_seconds: Option<Quantiles>,
    /// How long jobs waited in the queue before the attempt that ended them; null before the first one.
    #[schema(required)]
    wait_seconds: Option<Quantiles>,
}

/// Jobs by status.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
#[schema(as = JobsByStatus)]
struct Jobs {
    queued: u64,
    processing: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
}

/// Jobs that came and went.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct Throughput {
    last_5_minutes: Window,
    last_hour: Window,
}

/// Jobs that came and went in a span of time.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ThroughputWindow)]
struct Window {
    /// How long the span is: it begins with a whole minute.
    seconds: f64,
    /// Jobs that were made.
    created: u64,
    /// Jobs that were completed.
    completed: u64,
    /// Jobs that failed.
    failed: u64,
    /// Jobs that were cancelled.
    cancelled: u64,
}

/// How long something takes, with an error of three percent.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct Quantiles {
    /// Half of it takes no longer.
    p50: f64,
    /// 95 of 100 take no longer.
    p95: f64,
    /// This is of the last so many jobs.
    jobs: u32,
}

impl<'a> OfKind<'a> {
    fn new(kind: &'a Kind, stats: &KindStats, now: Timestamp) -> Self {
        let KindStats { jobs, tally } = stats;
        Self {
            kind,
            jobs: Jobs::new(jobs),
            throughput: Throughput::new(now, |minutes| tally.flow(now, minutes)),
            duration_seconds: Quantiles::new(&tally.durations),
            wait_seconds: Quantiles::new(&tally.waits),
        }
    }
}

impl Jobs {
    fn new(jobs: &[u64; Status::ALL.len()]) -> Self {
        let [queued, processing, completed, failed, cancelled] = *jobs;
        Self { queued, processing, completed, failed, cancelled }
    }
}

impl Throughput {
    fn new(now: Timestamp, flow: impl Fn(u64) -> Flow) -> Self {
        let window = |minutes| {
            let Flow { created, completed, failed, cancelled } = flow(minutes);
            let milliseconds = (minutes - 1) * 60_000 + now.0 % 60_000;
            Window { seconds: seconds(milliseconds), created, completed, failed, cancelled }
        };
        Self { last_5_minutes: window(5), last_hour: window(60) }
    }
}

impl Quantiles {
    fn new(spans: &Spans) -> Option<Self> {
        let quantile = |share| spans.quantile(share).map(seconds);
        Some(Self { p50: quantile(0.5)?, p95: quantile(0.95)?, jobs: spans.count() })
    }
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Read how many jobs there are and how long they take.
///
/// Jobs by kind and status, what came and went in the last minutes, and how long the last one to two thousand jobs of each
/// kind took.
#[utoipa::path(
    get,
    path = "/stats",
    tag = "operations",
    responses((status = 200, description = "The figures.", body = Stats), BadParameters, NoStore)
)]
pub(super) async fn stats(
    State(store): State<JobStore>,
    caller: Caller,
    Query(Nothing): Query<Nothing>,
) -> Result<Response, ApiError> {
    // No later than what is read.
    let as_of = store.clock().now();
    let kinds = store.stats(caller).await?;
    let total = |status: usize| kinds.values().map(|stats| stats.jobs[status]).sum();
    let flow = |minutes| kinds.values().map(|stats| stats.tally.flow(as_of, minutes)).fold(Flow::default(), Flow::plus);
    let stats = Stats {
        as_of,
        jobs: Jobs::new(&std::array::from_fn(total)),
        throughput: Throughput::new(as_of, flow),
        kinds: kinds.iter().map(|(kind, stats)| OfKind::new(kind, stats, as_of)).collect(),
    };
    Ok(reply::uncached(reply::json(reply::encode(&stats, 512 * (kinds.len() + 1)))))
}

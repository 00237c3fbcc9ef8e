//! What the service counts and measures, in the OpenMetrics text format.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>; ids of jobs are never labels.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// All metrics of a process and the registry they are read from.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of the store.
    pub store: Arc<StoreMetrics>,
    /// Of the HTTP server.
    pub http: Arc<HttpMetrics>,
    /// Of those who wait for changes.
    pub push: PushMetrics,
    /// Of what is due.
    pub sweep: SweepMetrics,
}

/// What the store measures.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Changes decided in one round of the committer.
    pub batch_changes: Histogram,
    /// Seconds from handing a batch to the engine until it was durable.
    pub commit_seconds: Histogram,
    /// Changes that wait for the next round.
    pub queue_changes: Gauge,
    /// Changes that met another writer and were decided anew.
    pub conflicts: Counter,
    /// Writes of attempts that were over.
    pub stale_attempts: Counter,
}

/// What the HTTP server measures.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Finished requests.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from a request's headers to its answer's headers.
    pub seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections cut because their client read nothing.
    pub stalled: Counter,
}

/// What is measured of those who wait for changes.
#[derive(Debug, Default)]
pub struct PushMetrics {
    open: Family<StreamLabels, Gauge>,
    frames: Family<StreamLabels, Counter>,
    resumed: Family<StreamLabels, Counter>,
}

impl PushMetrics {
    /// Requests and streams of this kind that are open.
    pub fn open(&self, kind: StreamKind) -> Gauge {
        self.open.get_or_create_owned(&StreamLabels::of(kind))
    }

    /// Frames that streams of this kind were given to send.
    pub fn frames(&self, kind: StreamKind) -> Counter {
        self.frames.get_or_create_owned(&StreamLabels::of(kind))
    }

    /// Streams of this kind that went on where an earlier one had ended.
    pub fn resumed(&self, kind: StreamKind) -> Counter {
        self.resumed.get_or_create_owned(&StreamLabels::of(kind))
    }
}

/// What is counted of what is due.
#[derive(Clone, Debug, Default)]
pub struct SweepMetrics {
    swept: Family<SweptLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SweptLabels {
    effect: &'static str,
}

impl SweepMetrics {
    /// Counts a job of which something was due.
    pub fn count(&self, effect: &'static str) {
        self.swept.get_or_create(&SweptLabels { effect }).inc();
    }
}

/// How somebody waits for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A GET that waits.
    Wait,
    /// Server-sent events of a job.
    Events,
    /// A WebSocket of a job.
    WebSocket,
    /// A log that is followed.
    Log,
    /// Server-sent events of many jobs.
    Feed,
    /// A worker that waits for a job to claim.
    Claim,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    kind: &'static str,
}

impl StreamLabels {
    fn of(kind: StreamKind) -> Self {
        let kind = match kind {
            StreamKind::Wait => "wait",
            StreamKind::Events => "events",
            StreamKind::WebSocket => "websocket",
            StreamKind::Log => "log",
            StreamKind::Feed => "feed",
            StreamKind::Claim => "claim",
        };
        Self { kind }
    }
}

/// Counts something for as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// One more.
    pub fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Which requests a duration is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The matched route, such as `/jobs/{id}`; never the raw path.
    pub route: &'static str,
    /// The method.
    pub method: &'static str,
}

/// Which requests a count is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The matched route, such as `/jobs/{id}`; never the raw path.
    pub route: &'static str,
    /// The method.
    pub method: &'static str,
    /// The status code.
    pub status: u16,
}

/// Which jobs a count is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JobLabels {
    /// Their kind.
    pub kind: String,
    /// Their status.
    pub status: &'static str,
}

/// Which caution a gauge is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CautionLabels {
    caution: &'static str,
}

impl Metrics {
    /// Fresh metrics, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("milepost");
        let store = Arc::new(StoreMetrics {
            batch_changes: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            commit_seconds: seconds(),
            queue_changes: Gauge::default(),
            conflicts: Counter::default(),
            stale_attempts: Counter::default(),
        });
        let http = Arc::new(HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            stalled: Counter::default(),
        });
        let push = PushMetrics::default();
        registry.register("push_open", "Requests and streams that wait for changes", push.open.clone());
        registry.register("push_frames", "Frames that streams were given to send", push.frames.clone());
        registry.register("push_resumed", "Streams that went on where another had ended", push.resumed.clone());
        let changes = "Changes decided in one round of the committer";
        registry.register("commit_batch_changes", changes, store.batch_changes.clone());
        let commit = "Time from handing a batch to the engine until it was durable";
        registry.register_with_unit("commit", commit, Unit::Seconds, store.commit_seconds.clone());
        registry.register("commit_queue_changes", "Changes waiting for their commit", store.queue_changes.clone());
        registry.register("commit_conflicts", "Changes decided anew after a conflict", store.conflicts.clone());
        let stale = "Writes of attempts that were over, which changed nothing";
        registry.register("stale_attempts", stale, store.stale_attempts.clone());
        let sweep = SweepMetrics::default();
        registry.register(
            "swept_jobs",
            "Jobs whose lease or time had run out, by what came of them",
            sweep.swept.clone(),
        );
        registry.register("http_requests", "Finished requests", http.requests.clone());
        let duration = "Time from a request's headers to its answer's headers";
        registry.register_with_unit("http_request", duration, Unit::Seconds, http.seconds.clone());
        registry.register("http_requests_in_flight", "Requests under way", http.in_flight.clone());
        registry.register("http_connections", "Open connections", http.connections.clone());
        let stalled = "Connections cut because their client read nothing";
        registry.register("http_connections_stalled", stalled, http.stalled.clone());
        Self { registry, store, http, push, sweep }
    }

    /// Everything in the text format, with the number of jobs of each kind and status, and the cautions of the store, as they are now.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn encode(
        &self,
        jobs: impl IntoIterator<Item = (JobLabels, u64)>,
        cautions: impl IntoIterator<Item = &'static str>,
    ) -> Result<String, std::fmt::Error> {
        let gauges = Family::<JobLabels, Gauge<u64, AtomicU64>>::default();
        for (labels, count) in jobs {
            gauges.get_or_create(&labels).set(count);
        }
        let mut counts = Registry::with_prefix("milepost");
        counts.register("jobs", "Jobs of a kind in a status", gauges);
        let warned = Family::<CautionLabels, Gauge<u64, AtomicU64>>::default();
        for caution in cautions {
            warned.get_or_create(&CautionLabels { caution }).set(1);
        }
        counts.register("store_cautions", "What the operator should know of how the store is set up", warned);
        let mut text = String::new();
        // The end-of-file mark may stand only once.
        encode(&mut text, &counts)?;
        text.truncate(text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len));
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From a tenth of a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

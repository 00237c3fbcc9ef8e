//! The sections and keys of the configuration, with their types and bounds. What each is for says `config/default.toml`.

use std::net::SocketAddr;

use serde::Deserialize;

use super::values::{
    AuthMode, CorsOrigin, Filter, KindRetention, LogFormat, LoggedRequests, StoreUrl, address, within,
};

/// A complete configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP server.
    pub http: Http,
    /// Who may use it.
    pub auth: Auth,
    /// Where jobs are kept, and what the store holds in memory.
    pub store: Store,
    /// The embedded engine.
    pub sqlite: Sqlite,
    /// The engine on PostgreSQL.
    pub postgres: Postgres,
    /// Bounds of jobs.
    pub jobs: Jobs,
    /// How long done jobs are kept.
    pub retention: Retention,
    /// Bounds of jobs' logs.
    pub logs: Logs,
    /// Bounds of claims.
    pub claims: Claims,
    /// Doing what is due.
    pub sweep: Sweep,
    /// Bounds of lists.
    pub lists: Lists,
    /// Bounds of batches.
    pub batch: Batch,
    /// Being told instead of asking.
    pub push: Push,
    /// The service's own log.
    pub log: Log,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Connections open at once.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub connections_max: usize,
    /// Bytes of a request's line and headers.
    #[serde(deserialize_with = "within::<1_024, 1_048_576, _, _>")]
    pub header_bytes_max: usize,
    /// Time for a request's headers, and for an idle connection.
    #[serde(deserialize_with = "within::<1, 86_400, _, _>")]
    pub header_read_seconds: u32,
    /// Time for a request's body.
    #[serde(deserialize_with = "within::<1, 86_400, _, _>")]
    pub body_read_seconds: u32,
    /// Time for a client that reads nothing of its answer.
    #[serde(deserialize_with = "within::<1, 86_400, _, _>")]
    pub write_stall_seconds: u32,
    /// Bytes of an answer that the kernel holds and cannot send yet.
    #[serde(deserialize_with = "within::<4_096, 1_073_741_824, _, _>")]
    pub unsent_bytes_max: u32,
    /// Bytes of a request's body.
    #[serde(deserialize_with = "within::<1_024, 1_073_741_824, _, _>")]
    pub body_bytes_max: usize,
    /// Nesting of a JSON body. The parser itself goes no deeper than 127.
    #[serde(deserialize_with = "within::<1, 120, _, _>")]
    pub json_depth_max: usize,
    /// Origins whose pages may call the service.
    pub cors_origins: Vec<CorsOrigin>,
    /// Time for open requests to end after a signal.
    #[serde(deserialize_with = "within::<0, 86_400, _, _>")]
    pub drain_seconds: u32,
}

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Who may use the service.
    pub mode: AuthMode,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Where jobs are kept.
    pub url: StoreUrl,
    /// Bytes of jobs and documents in memory.
    #[serde(deserialize_with = "within::<65_536, 1_099_511_627_776, _, _>")]
    pub cache_bytes_max: u64,
    /// Changes waiting for their commit.
    #[serde(deserialize_with = "within::<1, 10_000_000, _, _>")]
    pub queue_changes_max: usize,
    /// Bytes of changes waiting for their commit.
    #[serde(deserialize_with = "within::<1, 1_099_511_627_776, _, _>")]
    pub queue_bytes_max: usize,
    /// Changes in one commit.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub commit_changes_max: usize,
    /// How often a change is decided anew.
    #[serde(deserialize_with = "within::<0, 1_000, _, _>")]
    pub conflict_retries_max: u32,
    /// Exports under way at once.
    #[serde(deserialize_with = "within::<0, 1_000, _, _>")]
    pub exports_max: usize,
}

/// `[sqlite]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// Connections that read.
    #[serde(deserialize_with = "within::<1, 256, _, _>")]
    pub read_connections: usize,
    /// Page cache of the writer.
    #[serde(deserialize_with = "within::<65_536, 1_099_511_627_776, _, _>")]
    pub writer_cache_bytes: usize,
    /// Page cache of each reader.
    #[serde(deserialize_with = "within::<65_536, 1_099_511_627_776, _, _>")]
    pub reader_cache_bytes: usize,
    /// Pages in the write-ahead log that start a checkpoint.
    #[serde(deserialize_with = "within::<100, 100_000_000, _, _>")]
    pub checkpoint_pages: u32,
    /// The journal.
    #[serde(deserialize_with = "within::<4_096, 268_435_456, _, _>")]
    pub journal_bytes_max: usize,
}

/// `[postgres]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Connections at the most.
    #[serde(deserialize_with = "within::<2, 1_000, _, _>")]
    pub connections_max: usize,
    /// Time for a connection.
    #[serde(deserialize_with = "within::<1, 3_600, _, _>")]
    pub connect_seconds: u32,
    /// Time for a statement that reads.
    #[serde(deserialize_with = "within::<1, 3_600, _, _>")]
    pub statement_seconds: u32,
    /// Time for a commit. What became of a batch is known for ten minutes.
    #[serde(deserialize_with = "within::<1, 300, _, _>")]
    pub commit_seconds: u32,
    /// Between two looks for what others have changed.
    #[serde(deserialize_with = "within::<10, 60_000, _, _>")]
    pub poll_milliseconds: u32,
}

/// `[jobs]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Kinds of jobs a store knows.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub kinds_max: usize,
    /// Bytes of a job's input.
    #[serde(deserialize_with = "within::<1, 67_108_864, _, _>")]
    pub input_bytes_max: usize,
    /// Bytes of a job's result.
    #[serde(deserialize_with = "within::<1, 67_108_864, _, _>")]
    pub result_bytes_max: usize,
    /// Bytes of a job's error.
    #[serde(deserialize_with = "within::<1, 67_108_864, _, _>")]
    pub error_bytes_max: usize,
    /// How long a deleted id stays reserved.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub deleted_retain_seconds: u32,
    /// How long an idempotency key is remembered.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub idempotency_retain_seconds: u32,
    /// How long a worker that was asked to stop is waited for.
    #[serde(deserialize_with = "within::<1, 86_400, _, _>")]
    pub cancel_grace_seconds: u32,
}

/// `[retention]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Jobs of these kinds.
    pub kinds: Vec<KindRetention>,
    /// Completed ones; 0: for ever.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub completed_seconds: u32,
    /// Failed ones; 0: for ever.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub failed_seconds: u32,
    /// Cancelled ones; 0: for ever.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub cancelled_seconds: u32,
}

/// `[logs]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Bytes of one line.
    #[serde(deserialize_with = "within::<64, 1_048_576, _, _>")]
    pub line_bytes_max: usize,
    /// Lines kept for one job.
    #[serde(deserialize_with = "within::<1, 1_000_000_000, _, _>")]
    pub job_lines_max: u64,
    /// Bytes of text kept for one job.
    #[serde(deserialize_with = "within::<1, 1_099_511_627_776, _, _>")]
    pub job_log_bytes_max: u64,
    /// Lines in one request.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub append_lines_max: usize,
    /// How long a done job still takes lines.
    #[serde(deserialize_with = "within::<0, 4_294_967_295, _, _>")]
    pub late_log_seconds: u32,
    /// Writers with a count of their own in one attempt.
    #[serde(deserialize_with = "within::<1, 10_000, _, _>")]
    pub writers_max: usize,
    /// Lines in a document when the reader does not say.
    #[serde(deserialize_with = "within::<0, 1_000_000, _, _>")]
    pub document_lines: usize,
    /// Lines in a page when the reader does not say.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub page_lines: usize,
    /// Lines in a page at the most.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub page_lines_max: usize,
    /// Bytes of text in a page or a document.
    #[serde(deserialize_with = "within::<1, 1_073_741_824, _, _>")]
    pub log_page_bytes: usize,
}

/// `[claims]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Kinds that one claim may name.
    #[serde(deserialize_with = "within::<1, 100, _, _>")]
    pub kinds_max: usize,
    /// The longest that a claim waits for a job.
    #[serde(deserialize_with = "within::<0, 3_600, _, _>")]
    pub wait_seconds_max: u32,
}

/// `[sweep]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Between two looks for what is due.
    #[serde(deserialize_with = "within::<1, 60_000, _, _>")]
    pub interval_milliseconds: u32,
    /// Jobs of one look.
    #[serde(deserialize_with = "within::<1, 100_000, _, _>")]
    pub jobs_max: usize,
    /// How long after a start nothing is done.
    #[serde(deserialize_with = "within::<0, 86_400, _, _>")]
    pub start_grace_seconds: u32,
}

/// `[lists]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lists {
    /// Jobs in a page when the reader does not say.
    #[serde(deserialize_with = "within::<1, 100_000, _, _>")]
    pub page_jobs: usize,
    /// Jobs in a page at the most.
    #[serde(deserialize_with = "within::<1, 100_000, _, _>")]
    pub page_jobs_max: usize,
    /// Jobs looked at for a page.
    #[serde(deserialize_with = "within::<1, 100_000_000, _, _>")]
    pub scan_jobs_max: usize,
}

/// `[batch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Operations in one array.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub operations_max: usize,
    /// Operations of one stream under way at once.
    #[serde(deserialize_with = "within::<1, 100_000, _, _>")]
    pub window: usize,
    /// Bytes of one line of a stream.
    #[serde(deserialize_with = "within::<1_024, 1_073_741_824, _, _>")]
    pub line_bytes_max: usize,
}

/// `[push]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Time that a GET waits.
    #[serde(deserialize_with = "within::<0, 3_600, _, _>")]
    pub wait_seconds_max: u32,
    /// Time between two wakes of those who wait for a job.
    #[serde(deserialize_with = "within::<0, 60_000, _, _>")]
    pub calm_milliseconds: u32,
    /// Time that an event stream is silent before it says that it is still there.
    #[serde(deserialize_with = "within::<1, 3_600, _, _>")]
    pub comment_seconds: u32,
    /// Time after which a client whose event stream broke off shall come back.
    #[serde(deserialize_with = "within::<0, 3_600_000, _, _>")]
    pub retry_milliseconds: u32,
    /// Bytes of log text in one step of a stream.
    #[serde(deserialize_with = "within::<1, 1_073_741_824, _, _>")]
    pub step_bytes: usize,
    /// Bytes of steps kept for other readers.
    #[serde(deserialize_with = "within::<0, 1_099_511_627_776, _, _>")]
    pub cache_bytes_max: u64,
    /// Time that an entry of a feed is kept.
    #[serde(deserialize_with = "within::<1, 604_800, _, _>")]
    pub feed_retain_seconds: u32,
    /// Jobs that one feed follows by their ids.
    #[serde(deserialize_with = "within::<1, 1_000, _, _>")]
    pub feed_ids_max: usize,
    /// Jobs in one page of a feed.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub feed_jobs_max: usize,
    /// Commits that are looked at for one page of a feed.
    #[serde(deserialize_with = "within::<1, 10_000_000, _, _>")]
    pub feed_entries_max: usize,
    /// Bytes of pages and texts of feeds kept for other readers.
    #[serde(deserialize_with = "within::<0, 1_099_511_627_776, _, _>")]
    pub feed_cache_bytes_max: u64,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Which events are written.
    pub filter: Filter,
    /// How they are written.
    pub format: LogFormat,
    /// Which finished requests get a line.
    pub requests: LoggedRequests,
}

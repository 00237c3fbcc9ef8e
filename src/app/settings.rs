//! From the configuration to the settings of each part.

use std::time::Duration;

use axum::http::HeaderValue;

use crate::{
    config::{Config, CorsOrigin, DatabaseUrl, KindRetention, LoggedRequests, Verify},
    engine::{
        postgres::{self, Authorities, Trust},
        sqlite,
    },
    http::{self, BatchSettings, ClaimSettings, RequestLog, StreamSettings, serve::ServerSettings},
    job::{Kind, Limits, Retention, Seconds},
    publish::{self, FeedSettings},
    store, sweep,
};

/// Settings of the embedded engine.
pub(super) fn sqlite(config: &Config) -> sqlite::Settings {
    sqlite::Settings {
        read_connections: config.sqlite.read_connections,
        writer_cache_bytes: config.sqlite.writer_cache_bytes,
        reader_cache_bytes: config.sqlite.reader_cache_bytes,
        checkpoint_pages: config.sqlite.checkpoint_pages,
        journal_bytes_max: config.sqlite.journal_bytes_max,
        kinds_max: config.jobs.kinds_max,
        feed_retain_seconds: config.push.feed_retain_seconds,
    }
}

/// Settings of the engine on PostgreSQL.
pub(super) fn postgres(config: &Config, url: &DatabaseUrl) -> postgres::Settings {
    let authorities = url.root_certificates.clone().map_or(Authorities::System, Authorities::File);
    postgres::Settings {
        url: url.connect.clone(),
        trust: match url.verify {
            Verify::Nothing => Trust::Anyone,
            Verify::Authority => Trust::Authorities(authorities),
            Verify::Host => Trust::Host(authorities),
        },
        connections_max: config.postgres.connections_max,
        connect_seconds: config.postgres.connect_seconds,
        statement_seconds: config.postgres.statement_seconds,
        commit_seconds: config.postgres.commit_seconds,
        poll_milliseconds: config.postgres.poll_milliseconds,
        kinds_max: config.jobs.kinds_max,
        feed_retain_seconds: config.push.feed_retain_seconds,
    }
}

/// Settings of the store.
pub(super) fn store(config: &Config) -> store::Settings {
    store::Settings {
        limits: Limits {
            line_bytes_max: config.logs.line_bytes_max,
            job_lines_max: config.logs.job_lines_max,
            job_log_bytes_max: config.logs.job_log_bytes_max,
            late_log_seconds: Seconds(config.logs.late_log_seconds),
            result_bytes_max: config.jobs.result_bytes_max,
            error_bytes_max: config.jobs.error_bytes_max,
            writers_max: config.logs.writers_max,
            cancel_grace_seconds: Seconds(config.jobs.cancel_grace_seconds),
            retention: retention(config),
        },
        cache_bytes_max: config.store.cache_bytes_max,
        queue_changes_max: config.store.queue_changes_max,
        queue_bytes_max: config.store.queue_bytes_max,
        commit_changes_max: config.store.commit_changes_max,
        conflict_retries_max: config.store.conflict_retries_max,
        exports_max: config.store.exports_max,
        deleted_retain_seconds: Seconds(config.jobs.deleted_retain_seconds),
        idempotency_retain_seconds: Seconds(config.jobs.idempotency_retain_seconds),
        document_lines: config.logs.document_lines,
        log_page_bytes: config.logs.log_page_bytes,
    }
}

fn retention(config: &Config) -> Retention {
    let span = |seconds: u32| Some(Seconds(seconds)).filter(|span| span.0 > 0);
    // The configuration takes no text that would not be a kind.
    let of_kind = |of: &KindRetention| Some((Kind::try_from(&*of.kind).ok()?, span(of.seconds)));
    Retention {
        kinds: config.retention.kinds.iter().filter_map(of_kind).collect(),
        completed_seconds: span(config.retention.completed_seconds),
        failed_seconds: span(config.retention.failed_seconds),
        cancelled_seconds: span(config.retention.cancelled_seconds),
    }
}

/// Settings of the routes.
pub(super) fn http(config: &Config) -> http::Settings {
    // The configuration takes no origin that would not be a header.
    let origin = |origin: &CorsOrigin| HeaderValue::from_str(origin.as_str()).ok();
    http::Settings {
        body_bytes_max: config.http.body_bytes_max,
        body_read_seconds: config.http.body_read_seconds,
        json_depth_max: config.http.json_depth_max,
        cors_origins: config.http.cors_origins.iter().filter_map(origin).collect(),
        input_bytes_max: config.jobs.input_bytes_max,
        append_lines_max: config.logs.append_lines_max,
        page_lines: config.logs.page_lines,
        page_lines_max: config.logs.page_lines_max,
        page_jobs: config.lists.page_jobs,
        page_jobs_max: config.lists.page_jobs_max,
        scan_jobs_max: config.lists.scan_jobs_max,
        batch: BatchSettings {
            operations_max: config.batch.operations_max,
            window: config.batch.window,
            line_bytes_max: config.batch.line_bytes_max,
        },
        claim: ClaimSettings { kinds_max: config.claims.kinds_max, wait_seconds_max: config.claims.wait_seconds_max },
        wait_seconds_max: config.push.wait_seconds_max,
        stream: StreamSettings {
            comment_seconds: config.push.comment_seconds,
            retry_milliseconds: config.push.retry_milliseconds,
            feed_ids_max: config.push.feed_ids_max,
        },
        requests: match config.log.requests {
            LoggedRequests::All => RequestLog::All,
            LoggedRequests::Failed => RequestLog::Failed,
            LoggedRequests::None => RequestLog::None,
        },
    }
}

/// Habits of the sweeper.
pub(super) fn sweep(config: &Config) -> sweep::Settings {
    sweep::Settings {
        interval: Duration::from_millis(config.sweep.interval_milliseconds.into()),
        jobs_max: config.sweep.jobs_max,
        grace_seconds: Seconds(config.sweep.start_grace_seconds),
    }
}

/// Bounds of streams.
pub(super) fn streams(config: &Config) -> publish::Settings {
    publish::Settings {
        step_bytes: config.push.step_bytes,
        cache_bytes_max: config.push.cache_bytes_max,
        calm: Duration::from_millis(config.push.calm_milliseconds.into()),
        feed: FeedSettings {
            jobs_max: config.push.feed_jobs_max,
            entries_max: config.push.feed_entries_max,
            cache_bytes_max: config.push.feed_cache_bytes_max,
        },
    }
}

/// Settings of the connections.
pub fn server(config: &Config) -> ServerSettings {
    ServerSettings {
        connections_max: config.http.connections_max,
        header_bytes_max: config.http.header_bytes_max,
        header_read_seconds: config.http.header_read_seconds,
        write_stall_seconds: config.http.write_stall_seconds,
        unsent_bytes_max: config.http.unsent_bytes_max,
        drain_seconds: config.http.drain_seconds,
    }
}

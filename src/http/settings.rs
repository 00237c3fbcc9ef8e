//! Bounds and habits of the HTTP side. All of them are configuration; the names are those of its keys.

use axum::http::HeaderValue;

/// What the routes keep to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a request body, but for streamed ones. Over it: 413.
    pub body_bytes_max: usize,
    /// How long a client may take to send a body. Over it: 408.
    pub body_read_seconds: u32,
    /// Nesting of a JSON body, at most 120. Over it: 400.
    pub json_depth_max: usize,
    /// Origins whose pages may call the service from a browser; `*` alone allows all, and none sends no CORS headers.
    pub cors_origins: Vec<HeaderValue>,
    /// Bytes of a job's input as compact JSON. Over it: 422.
    pub input_bytes_max: usize,
    /// Lines in one request. Over it: 422.
    pub append_lines_max: usize,
    /// Lines in one page of a log when the reader does not say how many.
    pub page_lines: usize,
    /// Lines in one page of a log at the most. Over it: 422.
    pub page_lines_max: usize,
    /// Jobs in one page of a list when the reader does not say how many.
    pub page_jobs: usize,
    /// Jobs in one page of a list at the most. Over it: 422.
    pub page_jobs_max: usize,
    /// Jobs looked at for one page of a list. Over it: the page is shorter and `next` goes on.
    pub scan_jobs_max: usize,
    /// Bounds of batches.
    pub batch: BatchSettings,
    /// Bounds of claims.
    pub claim: ClaimSettings,
    /// The longest that a GET waits for news.
    pub wait_seconds_max: u32,
    /// Habits of streams.
    pub stream: StreamSettings,
    /// Which finished requests get a line in the service's log.
    pub requests: RequestLog,
}

/// Bounds of claims.
#[derive(Clone, Copy, Debug)]
pub struct ClaimSettings {
    /// Kinds that one claim may name. Over it: 422.
    pub kinds_max: usize,
    /// The longest that a claim waits for a job.
    pub wait_seconds_max: u32,
}

/// Bounds of batches.
#[derive(Clone, Debug)]
pub struct BatchSettings {
    /// Operations in a batch that is answered as a whole. Over it: 422.
    pub operations_max: usize,
    /// Operations of one batch under way at once. More wait on the connection.
    pub window: usize,
    /// Bytes of one line of a streamed batch. Over it: that line gets a 413.
    pub line_bytes_max: usize,
}

/// Habits of streams.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// How long an event stream is silent before it says that it is still there.
    pub comment_seconds: u32,
    /// When a client whose event stream broke off shall come back.
    pub retry_milliseconds: u32,
    /// Jobs that one feed follows by their ids. Over it: 422.
    pub feed_ids_max: usize,
}

/// Which finished requests get a line in the service's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// Every one.
    All,
    /// Those that were answered with 4xx or 5xx.
    Failed,
    /// None.
    None,
}

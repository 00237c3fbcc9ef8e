//! A job's log: append lines, read pages of them.

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue,
        header::{LINK, VARY, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    accept,
    bodies::{AppendBody, SEQ_MAX},
    body::{Body, Media},
    bounds::Bounds,
    context::Context,
    error::ApiError,
    extract::{IfMatch, JobPath, Prefer},
    jobs::{flag, one_attempt},
    live,
    openapi::{
        BadBody, BadHeader, BadParameters, Conflict, Minimal, Moved, NoJob, NoStore, OfJob, Preconditions, Wishes,
    },
    query::{FromParams, Params, Query},
    reply,
};
use crate::{
    engine::LogEnd,
    job::{Attempt, Guard, Job, JobId, LogLine, Progress, Seq, Stage, Writer, printable},
    publish::LogFormat,
    store::{Caller, JobStore},
};

const PLAIN: &str = Media::Text.as_str();
const PLAIN_UTF8: &str = "text/plain; charset=utf-8";
const NDJSON: &str = Media::Ndjson.as_str();

/// What goes with lines that are sent as text or as lines of JSON. A JSON body says it itself, but for `attempt`, which
/// may be in either.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AppendParams {
    /// How far the job has come, in percent.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 100)]
    pct: Option<Progress>,
    /// The step the worker is in: at most 256 bytes without control characters.
    #[param(value_type = Option<String>, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    stage: Option<Stage>,
    /// The writer's attempt: must be the current one.
    #[param(value_type = Option<u32>, minimum = 1)]
    attempt: Option<Attempt>,
    /// Who counts the lines; with `seq` it makes a repeated append harmless.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    writer: Option<Writer>,
    /// The number of the first line in the writer's own count for this attempt, from 1.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 9007199254740991_u64)]
    seq: Option<Seq>,
}

impl FromParams for AppendParams {
    fn from_params(params: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self {
            pct: params.take("pct")?.map(|text| percent(&text)).transpose()?,
            stage: params.parse_one("stage")?,
            attempt: params.attempt()?,
            writer: params.parse_one("writer")?,
            seq: params.number("seq", 1, SEQ_MAX)?,
        })
    }
}

fn percent(text: &str) -> Result<Progress, ApiError> {
    let progress = text.parse::<f64>().ok().and_then(|percent| Progress::try_from(percent).ok());
    progress.ok_or_else(|| ApiError::field("pct", "a number from 0 to 100"))
}

impl AppendParams {
    /// Adds to the body what it does not say itself.
    fn complete(self, body: &mut AppendBody) -> Result<(), ApiError> {
        let twice = |name| ApiError::field(name, "either in the query or in the body");
        match (&body.pct, self.pct) {
            (Some(_), Some(_)) => return Err(twice("pct")),
            (None, Some(pct)) => body.pct = Some(pct),
            (_, None) => {}
        }
        match (body.stage.is_keep(), self.stage) {
            (false, Some(_)) => return Err(twice("stage")),
            (true, Some(stage)) => body.stage = crate::job::Edit::Set(stage),
            (_, None) => {}
        }
        match (&body.writer, self.writer) {
            (Some(_), Some(_)) => return Err(twice("writer")),
            (None, Some(writer)) => body.writer = Some(writer),
            (_, None) => {}
        }
        match (body.seq, self.seq) {
            (Some(_), Some(_)) => return Err(twice("seq")),
            (None, Some(seq)) => body.seq = Some(seq),
            (_, None) => {}
        }
        body.attempt = one_attempt(self.attempt, body.attempt)?;
        Ok(())
    }
}

/// Append lines to a job's log.
///
/// As JSON; as plain text, each line one line of the log; or as lines of JSON, each a string or an object with `line`
/// or `lines`. With `writer` and `seq` lines that the log has already are dropped and counted in `duplicates`.
#[utoipa::path(
    post,
    path = "/jobs/{id}/logs",
    tag = "logs",
    params(OfJob, AppendParams, Preconditions, Wishes),
    request_body(content(
        (AppendBody = "application/json"), (String = "text/plain"), (String = "application/x-ndjson")
    )),
    responses(
        (status = 200, description = "The lines are in the log.", body = reply::Receipt),
        Minimal, BadBody, BadHeader, NoJob, Conflict, Moved, NoStore
    )
)]
pub(super) async fn append_log(
    State(store): State<JobStore>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(params): Query<AppendParams>,
    IfMatch(versions): IfMatch,
    prefer: Prefer,
    Body { value: mut append, .. }: Body<AppendBody>,
) -> Result<Response, ApiError> {
    params.complete(&mut append)?;
    let guard = Guard { attempt: append.attempt, versions };
    let updated = store.update(caller, &id, append.into_change()?, guard).await?;
    Ok(reply::receipt(&updated, prefer))
}

/// Which page of a log.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Only lines after this number: `next` of the page before.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 9007199254740991_u64)]
    after: Seq,
    /// Lines at the most; 1,000 if not given. A log that is followed has no limit.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 10000)]
    limit: usize,
    /// `1`: lines are sent as they come, until the job is done.
    #[param(value_type = Option<String>, pattern = "^[01]$")]
    follow: bool,
}

impl FromParams for PageParams {
    fn from_params(params: &mut Params<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        let settings = bounds.settings();
        let limit = params.number("limit", 1, settings.page_lines_max as u64)?;
        let follow = flag(params, "follow")?;
        if follow && limit.is_some() {
            return Err(ApiError::field("limit", "left out with `follow`"));
        }
        Ok(Self {
            after: params.number("after", 0, SEQ_MAX)?.unwrap_or(0),
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(settings.page_lines),
            follow,
        })
    }
}

/// One page of a log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogPage)]
pub(super) struct LogPage<'a> {
    /// The lines, in order.
    lines: &'a [LogLine],
    /// What `after` must be for the next page.
    #[schema(value_type = u64)]
    next: Seq,
    /// Lines ever appended.
    #[schema(value_type = u64)]
    log_count: Seq,
    /// The number of the first line that is still kept, or would be the next if none is.
    #[schema(value_type = u64, minimum = 1)]
    first: Seq,
    /// Lines that were trimmed from the front.
    #[schema(value_type = u64)]
    dropped: Seq,
}

impl<'a> LogPage<'a> {
    fn new(job: &Job, lines: &'a [LogLine]) -> Self {
        Self {
            next: next(job, lines),
            lines,
            log_count: job.log.count,
            first: job.log.first(),
            dropped: job.log.dropped,
        }
    }
}

/// After the last line given, or where new ones will come: also for a cursor that is ahead of the log.
fn next(job: &Job, lines: &[LogLine]) -> Seq {
    lines.last().map_or(job.log.count, |line| line.seq)
}

/// Read a job's log.
///
/// Page by page; a page has at most as many lines as `limit`, and less when they are long. `Accept: text/plain` gives
/// the bare lines. When there are more, a Link header says where. With `follow=1` the answer goes on with each new line
/// until the job is done: as bare lines, or with `Accept: application/x-ndjson` as lines of JSON, each of the schema below.
/// An answer that breaks off before was not all.
#[utoipa::path(
    get,
    path = "/jobs/{id}/logs",
    tag = "logs",
    params(OfJob, PageParams),
    responses(
        (status = 200, description = "A page of the log.",
            content((LogPage = "application/json"), (String = "text/plain; charset=utf-8"),
                (LogLine = "application/x-ndjson")),
            headers(("link" = Option<String>, description = "The next page, as `rel=\"next\"`, when there is one."))),
        BadParameters, NoJob, NoStore
    )
)]
pub(super) async fn read_log(
    State(context): State<Context>,
    caller: Caller,
    JobPath(id): JobPath,
    Query(page): Query<PageParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if page.follow {
        return follow(&context, caller, id, page.after, &headers).await;
    }
    let store = context.store();
    let snapshot = store.read(caller, &id).await?;
    let lines = store.lines(&snapshot, LogEnd::After(page.after), page.limit).await?;
    let mut response = if accept::prefers(&headers, PLAIN, "application/json") {
        unsniffed(reply::typed(PLAIN_UTF8, bare(&lines)))
    } else {
        reply::json(reply::encode(&LogPage::new(snapshot.job(), &lines), 128 + lines.len() * 128))
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    let next = next(snapshot.job(), &lines);
    if next < snapshot.job().log.count {
        let link = format!("</jobs/{id}/logs?after={next}&limit={}>; rel=\"next\"", page.limit);
        // An id and numbers stand in any header.
        response.headers_mut().extend(HeaderValue::try_from(link).map(|link| (LINK, link)));
    }
    Ok(response)
}

async fn follow(
    context: &Context,
    caller: Caller,
    id: JobId,
    after: Seq,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let (media_type, format) = if accept::prefers(headers, NDJSON, PLAIN) {
        (NDJSON, LogFormat::Ndjson)
    } else {
        (PLAIN_UTF8, LogFormat::Text)
    };
    let reader = context.streams().open_log(caller, id, after, format).await?;
    let mut response = unsniffed(live::lines(context, media_type, reader));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Lines of workers are no page, whatever a browser takes them for.
fn unsniffed(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn bare(lines: &[LogLine]) -> String {
    let mut text = String::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
    for line in lines {
        text.push_str(&printable(&line.text));
        text.push('\n');
    }
    text
}

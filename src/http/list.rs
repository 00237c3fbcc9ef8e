//! Lists of jobs, page by page.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderValue, header::LINK},
    response::Response,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    bounds::Bounds,
    cursor,
    error::ApiError,
    filter::Filter,
    openapi::{BadParameters, NoStore},
    query::{FromParams, Params, Query, decode},
    reply,
};
use crate::{
    engine::{Cursor, ListQuery, Order},
    job::Document,
    store::{Caller, JobStore},
};

/// The longest text that can be looked for: that of a label's value.
const TEXT_BYTES_MAX: usize = 256;

/// Which jobs a list has.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    #[param(ignore)]
    filter: Filter,
    /// Only jobs whose id begins so, or that have exactly this as the value of a label.
    #[param(value_type = Option<String>, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    q: Option<String>,
    /// Jobs at the most; 50 if not given.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 500)]
    limit: usize,
    /// Where the page begins: `next` of the page before, with the same other parameters.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Which come first: `newest` (or `desc`), the default, or `oldest` (or `asc`).
    #[param(value_type = Option<String>, pattern = "^(newest|oldest|desc|asc)$")]
    order: Order,
    /// What the cursors of this list are good for.
    #[param(ignore)]
    filters: String,
}

impl FromParams for ListParams {
    fn from_params(params: &mut Params<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        let settings = bounds.settings();
        let filter = Filter::take(params)?;
        let q = params.take("q")?.filter(|text| !text.is_empty());
        let q = q.map(|text| searched(&text)).transpose()?;
        let order = params.take("order")?.map_or(Ok(Order::Newest), |word| order(&word))?;
        let limit = params.number("limit", 1, settings.page_jobs_max as u64)?;
        let Filter { status, kind, label } = &filter;
        let filters = format!("{status:?}{kind:?}{label:?}{q:?}");
        let cursor = params.take("cursor")?.map(|text| place(&text, order, &filters)).transpose()?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(settings.page_jobs);
        Ok(Self { filter, q, limit, cursor, order, filters })
    }
}

fn searched(text: &str) -> Result<String, ApiError> {
    let fits = text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| ApiError::field("q", "at most 256 bytes without control characters"))
}

fn order(word: &str) -> Result<Order, ApiError> {
    match word {
        "newest" | "desc" => Ok(Order::Newest),
        "oldest" | "asc" => Ok(Order::Oldest),
        _ => Err(ApiError::field("order", "newest or oldest")),
    }
}

fn place(text: &str, order: Order, filters: &str) -> Result<Cursor, ApiError> {
    let rule = "the `next` of a page of this very list; leave it out to begin anew";
    cursor::decode(text, order, filters).ok_or_else(|| ApiError::field("cursor", rule))
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = JobPage)]
pub(super) struct JobPage<'a> {
    /// The jobs, without input, result and logs.
    jobs: Vec<Document<'a>>,
    /// The cursor of the next page, if there may be one. A page may be short and still have it.
    #[schema(required)]
    next: Option<&'a str>,
}

/// List jobs.
#[utoipa::path(
    get,
    path = "/jobs",
    tag = "jobs",
    params(Filter, ListParams),
    responses(
        (status = 200, description = "A page of the list.", body = JobPage,
            headers(("link" = Option<String>, description = "The next page, `rel=\"next\"`, when there may be one."))),
        BadParameters, NoStore
    )
)]
pub(super) async fn list_jobs(
    State(store): State<JobStore>,
    State(settings): State<std::sync::Arc<super::Settings>>,
    caller: Caller,
    RawQuery(query): RawQuery,
    Query(params): Query<ListParams>,
) -> Result<Response, ApiError> {
    let ListParams { filter, q, limit, cursor: after, order, filters } = params;
    let Filter { status: statuses, kind: kinds, label: labels } = filter;
    let (jobs_max, scan_max) = (limit, settings.scan_jobs_max);
    let wanted =
        ListQuery { tenant: caller.tenant, statuses, kinds, labels, text: q, order, after, jobs_max, scan_max };
    let page = store.list(wanted).await?;
    let next = page.next.map(|place| cursor::encode(place, order, &filters));
    let rows = page.jobs.iter().map(|job| Document::new(job).without_result()).collect();
    let text = reply::encode(&JobPage { jobs: rows, next: next.as_deref() }, 64 + page.jobs.len() * 600);
    let mut response = reply::json(text);
    if let Some(next) = next {
        let link =
            format!("</jobs?{}cursor={next}>; rel=\"next\"", without_cursor(query.as_deref().unwrap_or_default()));
        // What came as a URL stands in any header.
        response.headers_mut().extend(HeaderValue::try_from(link).map(|link| (LINK, link)));
    }
    Ok(response)
}

/// The query of this page, as far as it is also that of the next.
fn without_cursor(query: &str) -> String {
    let name = |pair: &str| decode(pair.split('=').next().unwrap_or_default()).is_none_or(|name| name != "cursor");
    query.split('&').filter(|pair| !pair.is_empty() && name(pair)).map(|pair| format!("{pair}&")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        assert_eq!(without_cursor(""), "");
        assert_eq!(without_cursor("limit=2&cursor=0a&label=a%3Ab"), "limit=2&label=a%3Ab&");
        assert_eq!(without_cursor("c%75rsor=0a"), "");
    }
}

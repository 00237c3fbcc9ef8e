//! Bodies of requests.

use serde_json::Value;

use super::{bounds, taken};
use crate::{
    http::{
        batch::BatchOperation,
        bodies::{AppendBody, CancelBody, ClaimBody, HeartbeatBody, NewJobBody, PatchBody, RetryBody},
        body::{FromBody, Media},
        bounds::Bounds,
        error::ApiError,
        idempotency,
        jobs::fresh_id,
    },
    job::{Change, JobId, NewJob},
    store::{Caller, Wish},
};

/// What a body asks for.
pub(crate) enum Asked {
    /// A job.
    New(Box<NewJob>),
    /// A change of one.
    Change(Box<Change>),
    /// Any queued one.
    Claim(Wish),
}

/// Reads a body of the sort that a letter stands for; `None`: it is refused, or there is no such sort.
pub(crate) fn body(sort: u8, bytes: &[u8]) -> Option<Asked> {
    let bounds = bounds();
    let asked = match sort {
        b'n' => new_job(bytes, &bounds),
        b'p' => change(Media::Json, bytes, &bounds, PatchBody::into_change),
        b'm' => change(Media::MergePatch, bytes, &bounds, PatchBody::into_change),
        b'a' => change(Media::Json, bytes, &bounds, AppendBody::into_change),
        b't' => change(Media::Text, bytes, &bounds, AppendBody::into_change),
        b'l' => change(Media::Ndjson, bytes, &bounds, AppendBody::into_change),
        b'h' => change(Media::Json, bytes, &bounds, |body: HeartbeatBody| Ok(body.into_change())),
        b'c' => change(Media::Json, bytes, &bounds, |body: CancelBody| Ok(body.into_change())),
        b'r' => change(Media::Json, bytes, &bounds, |body: RetryBody| Ok(body.into_change())),
        b'k' => ClaimBody::from_body(Media::Json, bytes, &bounds).map(|body| claim(body, &bounds)),
        b'o' => operation(bytes, &bounds),
        _ => return None,
    };
    let asked = taken(asked)?;
    if !bytes.is_empty() && !matches!(sort, b't' | b'l') {
        means_the_same_in_other_words(bytes);
    }
    Some(asked)
}

fn new_job(bytes: &[u8], bounds: &Bounds) -> Result<Asked, ApiError> {
    let body = NewJobBody::from_body(Media::Json, bytes, bounds)?;
    let id = JobId::try_from("fuzzed").or_else(|_| fresh_id())?;
    Ok(Asked::New(Box::new(body.into_new_job(id, Caller::default()))))
}

fn change<T: FromBody>(
    media: Media,
    bytes: &[u8],
    bounds: &Bounds,
    asked: impl FnOnce(T) -> Result<Change, ApiError>,
) -> Result<Asked, ApiError> {
    T::from_body(media, bytes, bounds).and_then(asked).map(|change| Asked::Change(Box::new(change)))
}

fn claim(body: ClaimBody, bounds: &Bounds) -> Asked {
    let wish = body.into_wish(bounds);
    assert!((1..=bounds.settings().claim.kinds_max).contains(&wish.kinds.len()));
    assert!(wish.wait.as_secs() <= bounds.settings().claim.wait_seconds_max.into());
    Asked::Claim(wish)
}

fn operation(bytes: &[u8], bounds: &Bounds) -> Result<Asked, ApiError> {
    Ok(match BatchOperation::parse(bytes, Caller::default(), bounds)? {
        BatchOperation::Create(new) | BatchOperation::Ensure(new) => Asked::New(new),
        BatchOperation::Patch(_, change, _) | BatchOperation::Report(_, change, _) => Asked::Change(Box::new(change)),
    })
}

/// What our own parser takes is JSON for others, too, and has one meaning, whatever its spaces and its order.
fn means_the_same_in_other_words(bytes: &[u8]) {
    let value: Result<Value, _> = serde_json::from_slice(bytes);
    let Ok(value) = value else { panic!("taken, and no JSON: {value:?}") };
    let fingerprint = |text: &[u8]| idempotency::key("jobs", "key", text).map(|key| key.fingerprint).ok();
    let pretty = serde_json::to_vec_pretty(&value).unwrap_or_default();
    assert_eq!(fingerprint(bytes), fingerprint(&pretty), "{value}");
}

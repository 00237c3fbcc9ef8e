//! The bodies that routes take: what their members mean, and by which names they go.
//!
//! Each body is one struct that both the parser fills and `openapi.json` describes, so that neither can know more than
//! the other. Operations of a batch are read by the same code.

mod append;
mod cancel;
mod claim;
mod heartbeat;
mod new_job;
mod patch;
mod retry;
mod schema;

use std::borrow::Cow;

use self::schema::one_or_more_lines;
pub(super) use self::{
    append::AppendBody,
    cancel::CancelBody,
    claim::ClaimBody,
    heartbeat::HeartbeatBody,
    new_job::NewJobBody,
    patch::{MergePatchBody, PatchBody, Style},
    retry::RetryBody,
    schema::{SCHEMAS, describe},
};
use super::{body::json_text, bounds::Bounds, error::ApiError, given::Given, members::Members};
use crate::job::{Attempt, Edit, LabelKey, LabelValue, Limits, Lines, Malformed, Origin, Progress, Seq, Stage, Writer};

/// What can be made of the members of an object.
pub(super) trait FromMembers: Sized {
    /// Takes what it knows and leaves the rest.
    fn from_members(members: &mut Members<'_>, bounds: &Bounds) -> Result<Self, ApiError>;
}

/// A body that is an object with these members and no others.
fn object<T: FromMembers>(body: &[u8], bounds: &Bounds) -> Result<T, ApiError> {
    let mut members = Members::parse(json_text(body, bounds.settings().json_depth_max)?)?;
    let object = T::from_members(&mut members, bounds)?;
    members.finish()?;
    Ok(object)
}

/// Progress, as workers call it.
pub(super) const PROGRESS: &[&str] = &["progress_pct", "progress"];
/// Progress in an append, where the origin's workers say `pct`.
pub(super) const PCT: &[&str] = &["pct", "progress_pct", "progress"];
/// The step a worker is in, as workers call it.
pub(super) const STAGE: &[&str] = &["stage", "message", "step", "current_step"];

/// The largest number that every client can tell from its neighbours.
pub(super) const SEQ_MAX: Seq = 9_007_199_254_740_991;

fn progress(given: Given<'_>) -> Result<Progress, ApiError> {
    Progress::try_from(given.number()?).map_err(|Malformed(rule)| given.refused(rule))
}

/// A stage that a report mentions; workers that know none send null.
fn reported_stage(members: &mut Members<'_>) -> Result<Edit<Stage>, ApiError> {
    Ok(members.take_some(STAGE)?.map(Given::parse).transpose()?.map_or(Edit::Keep, Edit::Set))
}

fn attempt(members: &mut Members<'_>) -> Result<Option<Attempt>, ApiError> {
    let number = members.take_some(&["attempt"])?.map(|given| given.integer(1..=u32::MAX)).transpose()?;
    Ok(number.map(Attempt))
}

fn writer(members: &mut Members<'_>) -> Result<Option<Writer>, ApiError> {
    members.take_some(&["writer"])?.map(Given::parse).transpose()
}

fn seq(members: &mut Members<'_>) -> Result<Option<Seq>, ApiError> {
    members.take_some(&["seq"])?.map(|given| given.integer(1..=SEQ_MAX)).transpose()
}

/// Where lines stand in their writer's count: both are given or none.
pub(super) fn origin(writer: Option<Writer>, seq: Option<Seq>) -> Result<Option<Origin>, ApiError> {
    match (writer, seq) {
        (Some(writer), Some(seq)) => Ok(Some(Origin { writer, seq })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ApiError::field("seq", "given together with `writer`")),
        (None, Some(_)) => Err(ApiError::field("writer", "given together with `seq`")),
    }
}

/// Lines made fit for a log, as many as one request may have.
pub(super) fn lines<'t>(
    field: &'static str,
    texts: impl IntoIterator<Item = Cow<'t, str>>,
    lines_max: usize,
    limits: &Limits,
) -> Result<Lines, ApiError> {
    let mut lines = Lines::default();
    for text in texts {
        if lines.texts.len() == lines_max {
            return Err(ApiError::field(field, format_args!("at most {lines_max} lines")));
        }
        lines.push(&text, limits);
    }
    Ok(lines)
}

/// The lines of a `log` member: a string or an array of strings.
fn log(members: &mut Members<'_>, bounds: &Bounds) -> Result<Lines, ApiError> {
    match members.take_some(&["log"])? {
        None => Ok(Lines::default()),
        Some(log) => lines(log.name, log.strings()?, bounds.settings().append_lines_max, bounds.limits()),
    }
}

/// Labels to set, and with null to remove.
fn labels(given: Given<'_>) -> Result<Vec<(LabelKey, Option<LabelValue>)>, ApiError> {
    let labels = given.object()?.into_rest().map(|(key, value)| {
        let value = Given::new("labels", value);
        let detailed = |rule: &str| ApiError::Field {
            field: given.name.to_owned(),
            detail: format!("`labels.{key}` must be {rule}."),
        };
        let name = LabelKey::try_from(&*key).map_err(|Malformed(rule)| given.refused(rule))?;
        if value.is_null() {
            return Ok((name, None));
        }
        if !value.text().starts_with('"') {
            return Err(detailed("a string"));
        }
        let text = value.string()?;
        let value = LabelValue::try_from(&*text).map_err(|Malformed(rule)| detailed(rule))?;
        Ok((name, Some(value)))
    });
    labels.collect()
}

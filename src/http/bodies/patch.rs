//! A change of members and log lines that becomes visible as one.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{Object, SchemaType, Type},
    },
};

use super::{PROGRESS, STAGE, attempt, labels, log, origin, progress, seq, writer};
use crate::{
    http::{
        body::{FromBody, Media, json_text},
        bounds::Bounds,
        error::ApiError,
        given::Given,
        members::Members,
        openapi::one_of,
    },
    job::{Attempt, Change, Edit, Json, LabelEdit, Lines, Patch, Progress, Seq, Stage, Status, Writer},
};

/// What to change of a job. A member that is not given stays as it is.
#[derive(Debug, ToSchema)]
#[schema(as = Patch)]
pub(in crate::http) struct PatchBody {
    /// Where the job shall stand.
    #[schema(schema_with = status_words, required = false)]
    status: Option<Status>,
    /// How far it has come, in percent; may go down.
    #[schema(value_type = Option<f64>, nullable = false, minimum = 0, maximum = 100)]
    progress_pct: Option<Progress>,
    /// The step the worker is in: at most 256 bytes without control characters. Null clears it.
    #[schema(value_type = Option<String>, max_length = 256)]
    stage: Edit<Stage>,
    /// What it has produced: any JSON. Null clears it.
    #[schema(value_type = Option<Value>)]
    result: Edit<Json>,
    /// Why it failed: an object, whose `reason` and `message` are strings. Null clears it.
    #[schema(value_type = Option<Map<String, Value>>)]
    error: Edit<Json>,
    /// Labels to set; null as a value removes one.
    #[schema(value_type = Option<HashMap<String, Option<String>>>, nullable = false)]
    labels: LabelEdit,
    /// Lines for its log: a string, or an array of strings.
    #[schema(schema_with = super::one_or_more_lines, required = false)]
    log: Lines,
    /// The writer's attempt: must be the current one.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(in crate::http) attempt: Option<Attempt>,
    /// Who counts the lines; with `seq` it makes a repeated append harmless.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    writer: Option<Writer>,
    /// The number of the first line in the writer's own count for this attempt, from 1.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740991_u64)]
    seq: Option<Seq>,
}

/// The same by RFC 7396, where null takes all labels away.
pub(in crate::http) struct MergePatchBody;

impl PartialSchema for MergePatchBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = PatchBody::schema();
        if let RefOr::T(Schema::Object(body)) = &mut schema
            && let Some(RefOr::T(Schema::Object(labels))) = body.properties.get_mut("labels")
        {
            labels.schema_type = SchemaType::from_iter([Type::Object, Type::Null]);
        }
        schema
    }
}

impl ToSchema for MergePatchBody {
    fn name() -> Cow<'static, str> {
        "MergePatch".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        PatchBody::schemas(schemas);
    }
}

/// How a body means its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Style {
    /// Each replaces what was, but labels are merged.
    Replace,
    /// RFC 7396 throughout.
    Merge,
}

/// What a change cannot set, and what does.
const ELSEWHERE: [(&str, &str); 27] = [
    ("logs", "is read-only; append lines with `log` here, or with POST /jobs/{id}/logs."),
    ("logs_from", "is read-only; append lines with `log` here, or with POST /jobs/{id}/logs."),
    ("log_count", "is read-only; append lines with `log` here, or with POST /jobs/{id}/logs."),
    ("line", "is for POST /jobs/{id}/logs; here it is `log`."),
    ("lines", "is for POST /jobs/{id}/logs; here it is `log`."),
    ("version", "is read-only; make a change depend on it with the header If-Match."),
    ("id", "never changes."),
    ("kind", "never changes; create another job with POST /jobs."),
    ("input", "never changes; create another job with POST /jobs."),
    ("priority", "never changes; create another job with POST /jobs."),
    ("max_attempts", "never changes; create another job with POST /jobs."),
    ("lease_seconds", "never changes; create another job with POST /jobs."),
    ("timeout_seconds", "never changes; create another job with POST /jobs."),
    ("queue_ttl_seconds", "never changes; create another job with POST /jobs."),
    ("cancel_grace_seconds", "never changes; create another job with POST /jobs."),
    ("retain_seconds", "never changes; create another job with POST /jobs."),
    ("done", "follows from `status`; change that."),
    ("outcome", "follows from `status`; change that."),
    ("worker", "is set by a claim."),
    ("lease_expires_at", "is renewed by every accepted write of the attempt."),
    ("cancel_requested", "is set by POST /jobs/{id}/cancel."),
    ("eta_seconds", "is computed by the service."),
    ("created_at", "is set by the service."),
    ("started_at", "is set by the service when `status` becomes processing."),
    ("updated_at", "is set by the service."),
    ("finished_at", "is set by the service when the job is done."),
    ("expires_at", "follows from `retain_seconds`, which is set when the job is created."),
];

impl PatchBody {
    /// The change it asks for.
    pub(in crate::http) fn into_change(self) -> Result<Change, ApiError> {
        Ok(Change::Patch(Patch {
            status: self.status,
            progress: self.progress_pct,
            stage: self.stage,
            result: self.result,
            error: self.error,
            labels: self.labels,
            lines: Lines { origin: origin(self.writer, self.seq)?, ..self.log },
        }))
    }

    /// Takes what it knows and leaves the rest.
    pub(in crate::http) fn from_members(
        members: &mut Members<'_>,
        style: Style,
        bounds: &Bounds,
    ) -> Result<Self, ApiError> {
        members.refuse(&ELSEWHERE)?;
        Ok(Self {
            status: members.take(&["status"])?.map(Given::parse).transpose()?,
            progress_pct: members.take(PROGRESS)?.map(progress).transpose()?,
            stage: members.take(STAGE)?.map_or(Ok(Edit::Keep), edited_stage)?,
            result: members.take(&["result"])?.map_or(Ok(Edit::Keep), |given| edited_json(given, style))?,
            error: members.take(&["error"])?.map_or(Ok(Edit::Keep), |given| edited_error(given, style))?,
            labels: members.take(&["labels"])?.map_or(Ok(LabelEdit::default()), |given| edited_labels(given, style))?,
            log: log(members, bounds)?,
            attempt: attempt(members)?,
            writer: writer(members)?,
            seq: seq(members)?,
        })
    }
}

impl FromBody for PatchBody {
    const MEDIA: &'static [Media] = &[Media::Json, Media::MergePatch];

    fn from_body(media: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        let style = if media == Media::MergePatch { Style::Merge } else { Style::Replace };
        let mut members = Members::parse(json_text(body, bounds.settings().json_depth_max)?)?;
        let patch = Self::from_members(&mut members, style, bounds)?;
        members.finish()?;
        Ok(patch)
    }
}

/// The words of the service, and those that real workers send.
fn status_words() -> Object {
    let words = ["queued", "processing", "completed", "failed", "cancelled"];
    let aliases = ["pending", "running", "started", "done", "complete", "succeeded", "error", "canceled"];
    one_of(&[&words[..], &aliases[..]].concat(), false)
}

fn edited_stage(given: Given<'_>) -> Result<Edit<Stage>, ApiError> {
    if given.is_null() { Ok(Edit::Clear) } else { given.parse().map(Edit::Set) }
}

fn edited_json(given: Given<'_>, style: Style) -> Result<Edit<Json>, ApiError> {
    if given.is_null() { Ok(Edit::Clear) } else { edit_to(given, given.value()?, style) }
}

fn edited_error(given: Given<'_>, style: Style) -> Result<Edit<Json>, ApiError> {
    if given.is_null() {
        return Ok(Edit::Clear);
    }
    let value = given.value()?;
    let Some(error) = value.as_object() else {
        return Err(given.refused(r#"an object, such as {"message": "..."}"#));
    };
    let is_text = |name| error.get(name).is_none_or(|member| member.is_string() || member.is_null());
    if !is_text("reason") || !is_text("message") {
        return Err(given.refused("an object whose `reason` and `message` are strings"));
    }
    edit_to(given, value, style)
}

fn edit_to(given: Given<'_>, value: Value, style: Style) -> Result<Edit<Json>, ApiError> {
    match style {
        Style::Replace => Json::try_from(&value).map(Edit::Set).map_err(|error| given.no_json(&error)),
        Style::Merge => Ok(Edit::Merge(value)),
    }
}

fn edited_labels(given: Given<'_>, style: Style) -> Result<LabelEdit, ApiError> {
    match style {
        Style::Merge if given.is_null() => Ok(LabelEdit { clear: true, set: Vec::new() }),
        Style::Replace if given.is_null() => Err(given.refused(r#"an object; {"name": null} removes one label"#)),
        Style::Replace | Style::Merge => Ok(LabelEdit { clear: false, set: labels(given)? }),
    }
}

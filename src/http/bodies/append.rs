//! Log lines on their way in, as JSON, as lines of JSON, or as plain text.

use std::borrow::Cow;

use utoipa::ToSchema;

use super::{FromMembers, PCT, attempt, lines, origin, progress, reported_stage, seq, writer};
use crate::{
    http::{
        body::{FromBody, Media, json_text},
        bounds::Bounds,
        code::Code,
        error::ApiError,
        members::{Members, no_json},
        problem::Problem,
    },
    job::{Append, Attempt, Change, Edit, Lines, Progress, Seq, Stage, Writer},
};

/// Log lines. One element is one line; line breaks inside are shown as ␊ and ␍. Null says the same as nothing.
#[derive(Debug, Default, ToSchema)]
#[schema(as = Append)]
pub(in crate::http) struct AppendBody {
    /// The lines; a single one may be sent as `line` instead.
    #[schema(value_type = Option<Vec<String>>)]
    lines: Lines,
    /// How far the job has come, in percent.
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100)]
    pub(in crate::http) pct: Option<Progress>,
    /// The step the worker is in: at most 256 bytes without control characters.
    #[schema(value_type = Option<String>, max_length = 256)]
    pub(in crate::http) stage: Edit<Stage>,
    /// The writer's attempt: must be the current one.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(in crate::http) attempt: Option<Attempt>,
    /// Who counts the lines; with `seq` it makes a repeated append harmless.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    pub(in crate::http) writer: Option<Writer>,
    /// The number of the first line in the writer's own count for this attempt, from 1.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9007199254740991_u64)]
    pub(in crate::http) seq: Option<Seq>,
}

impl AppendBody {
    /// The change it asks for, which the guard's attempt was taken out of.
    pub(in crate::http) fn into_change(self) -> Result<Change, ApiError> {
        let lines = Lines { origin: origin(self.writer, self.seq)?, ..self.lines };
        Ok(Change::Append(Append { lines, progress: self.pct, stage: self.stage }))
    }

    fn of_lines<'t>(texts: impl IntoIterator<Item = Cow<'t, str>>, bounds: &Bounds) -> Result<Self, ApiError> {
        let lines = lines("lines", texts, bounds.settings().append_lines_max, bounds.limits())?;
        Ok(Self { lines, ..Self::default() })
    }
}

impl FromMembers for AppendBody {
    fn from_members(members: &mut Members<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        let texts = texts(members)?;
        Ok(Self {
            pct: members.take_some(PCT)?.map(progress).transpose()?,
            stage: reported_stage(members)?,
            attempt: attempt(members)?,
            writer: writer(members)?,
            seq: seq(members)?,
            ..Self::of_lines(texts, bounds)?
        })
    }
}

impl FromBody for AppendBody {
    const MEDIA: &'static [Media] = &[Media::Json, Media::Text, Media::Ndjson];

    fn from_body(media: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        match media {
            Media::Json | Media::MergePatch => {
                let mut members = Members::parse(json_text(body, bounds.settings().json_depth_max)?)?;
                let append = Self::from_members(&mut members, bounds)?;
                members.finish()?;
                Ok(append)
            }
            Media::Text => Self::of_lines(String::from_utf8_lossy(body).lines().map(Cow::Borrowed), bounds),
            Media::Ndjson => {
                let mut texts = Vec::new();
                for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
                    if !line.trim_ascii().is_empty() {
                        texts.extend(ndjson_line(line, bounds).map_err(|error| at_line(index + 1, &error))?);
                    }
                }
                Self::of_lines(texts, bounds)
            }
        }
    }
}

/// The lines of `line` or `lines`, one of which must be there.
fn texts<'a>(members: &mut Members<'a>) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let line = members.take_some(&["line"])?;
    let lines = members.take_some(&["lines"])?;
    match (line, lines) {
        (Some(line), None) => Ok(vec![line.string()?]),
        (None, Some(lines)) if lines.text().starts_with('[') => lines.strings(),
        (None, Some(lines)) => Err(lines.refused("an array of strings")),
        (Some(_), Some(_)) => Err(ApiError::Field {
            field: "lines".into(),
            detail: "`line` and `lines` are the same thing; send one of them.".into(),
        }),
        (None, None) => Err(ApiError::Field {
            field: "line".into(),
            detail: "`line` is missing; send a string, or an array of strings as `lines`.".into(),
        }),
    }
}

fn ndjson_line<'a>(line: &'a [u8], bounds: &Bounds) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let text = json_text(line, bounds.settings().json_depth_max)?;
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(text).map(|line| vec![line.into()]).map_err(no_json),
        Some(_) | None => {
            let mut members = Members::parse(text)?;
            let texts = texts(&mut members)?;
            members.finish()?;
            Ok(texts)
        }
    }
}

/// Says in which line of the body the mistake is.
fn at_line(number: usize, error: &ApiError) -> ApiError {
    let Problem { code, field, detail, .. } = error.problem();
    let detail = format!("Line {number}: {detail}");
    if code == Code::InvalidJson {
        return ApiError::Json(detail.into());
    }
    ApiError::Field { field: field.unwrap_or_else(|| "line".into()), detail }
}

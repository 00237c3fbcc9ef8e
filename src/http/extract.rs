//! What the path and the headers of a request say, each as a type of its own.

use std::fmt;

use axum::{
    extract::{FromRequestParts, Path},
    http::{
        HeaderMap, HeaderName,
        header::{IF_MATCH, IF_NONE_MATCH},
        request::Parts,
    },
};
use serde::{Deserialize, Deserializer, de};

use super::{context::Context, error::ApiError, serve::Presence, tags::Tags};
use crate::{
    job::{JobId, Version, digits},
    store::Caller,
};

/// The header under which a creation happens only once.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of the last event that a client has.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Wishes of a client (RFC 7240).
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The job that a path is about. An id that can be no job's is answered as one that is not there.
#[derive(Debug)]
pub(super) struct JobPath(pub(super) JobId);

/// The id that a path gives a job. One that can be no job's is a mistake of its chooser.
#[derive(Debug)]
pub(super) struct ChosenId(pub(super) JobId);

/// The versions of If-Match: `None` without the header and with `*`.
#[derive(Debug)]
pub(super) struct IfMatch(pub(super) Option<Vec<Version>>);

/// The versions of If-None-Match that the client has.
#[derive(Debug)]
pub(super) struct IfNoneMatch(Option<Tags>);

/// The key under which a creation happens only once, if there is one.
#[derive(Debug)]
pub(super) struct OnceKey(pub(super) Option<String>);

/// What the client says it was sent last, in its own words.
#[derive(Debug)]
pub(super) struct LastEventId(pub(super) Option<String>);

/// What the client would rather have; what it asks for and the service does not know is ignored, as RFC 7240 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefer {
    /// `return=minimal`: no body where a status and a tag say all.
    pub(super) minimal: bool,
    /// `wait=25`: how long the client can wait for something new.
    pub(super) wait_seconds: Option<u32>,
}

impl FromRequestParts<Context> for JobPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        path_id(parts, context).await.map(Self).ok_or(ApiError::NoSuchJob)
    }
}

impl FromRequestParts<Context> for ChosenId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let rule = "1 to 128 characters of A-Z a-z 0-9 . _ ~ -, not beginning with a dot, and not `claim`";
        path_id(parts, context).await.map(Self).ok_or_else(|| ApiError::field("id", rule))
    }
}

/// The one parameter of the path, percent-decoded, if it can be a job's id.
async fn path_id(parts: &mut Parts, context: &Context) -> Option<JobId> {
    let Path(PathId(id)) = Path::from_request_parts(parts, context).await.ok()?;
    id
}

/// What a path's parameter says, without a copy of it.
struct PathId(Option<JobId>);

impl<'de> Deserialize<'de> for PathId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PathId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }

            fn visit_str<E>(self, text: &str) -> Result<PathId, E> {
                Ok(PathId(JobId::try_from(text).ok()))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl FromRequestParts<Context> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        Ok(Self::default())
    }
}

impl FromRequestParts<Context> for Presence {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        Ok(parts.extensions.remove().unwrap_or_default())
    }
}

impl FromRequestParts<Context> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        Ok(Self(tags(&parts.headers, &IF_MATCH)?.and_then(Tags::strong_versions)))
    }
}

impl FromRequestParts<Context> for IfNoneMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        Ok(Self(tags(&parts.headers, &IF_NONE_MATCH)?))
    }
}

impl IfNoneMatch {
    /// Whether the client has this version.
    pub(super) fn has(&self, version: Version) -> bool {
        self.0.as_ref().is_some_and(|tags| tags.name(version))
    }

    /// Whether the client says what it has.
    pub(super) fn is_given(&self) -> bool {
        self.0.is_some()
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else { return Ok(None) };
    let tags = match lines.next() {
        None => first.to_str().ok().and_then(Tags::parse),
        Some(_) => {
            // Several lines of a header mean the same as one with commas between them (RFC 9110, 5.3).
            let texts: Option<Vec<&str>> = headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
            texts.and_then(|texts| Tags::parse(&texts.join(",")))
        }
    };
    let field = if *name == IF_MATCH { "If-Match" } else { "If-None-Match" };
    let refused = || ApiError::Header { name: field, rule: "* or quoted tags, such as \"v12\"" };
    tags.map(Some).ok_or_else(refused)
}

impl FromRequestParts<Context> for OnceKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        let text = key.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        match text.filter(|text| (1..=255).contains(&text.len())) {
            Some(key) if keys.next().is_none() => Ok(Self(Some(key.to_owned()))),
            Some(_) | None => {
                Err(ApiError::Header { name: "Idempotency-Key", rule: "one key of 1 to 255 visible ASCII characters" })
            }
        }
    }
}

impl FromRequestParts<Context> for LastEventId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        let header = parts.headers.get(&LAST_EVENT_ID);
        Ok(Self(header.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned())))
    }
}

impl FromRequestParts<Context> for Prefer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        let lines = parts.headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
        let mut prefer = Self { minimal: false, wait_seconds: None };
        for (name, value) in lines.flat_map(|line| line.split(',')).filter_map(wish) {
            if name.eq_ignore_ascii_case("return") {
                prefer.minimal |= value.eq_ignore_ascii_case("minimal");
            } else if name.eq_ignore_ascii_case("wait") {
                // Of several the first counts.
                let seconds = digits(value).map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
                prefer.wait_seconds = prefer.wait_seconds.or(seconds);
            }
        }
        Ok(prefer)
    }
}

/// The name and the value of a wish, without its parameters.
pub(super) fn wish(text: &str) -> Option<(&str, &str)> {
    let text = text.split_once(';').map_or(text, |(wish, _)| wish);
    text.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_understood_in_any_spelling_of_the_standard() {
        assert_eq!(wish("return=minimal"), Some(("return", "minimal")));
        assert_eq!(wish(" Return = \"minimal\" ; foo"), Some(("Return", "minimal")));
        assert_eq!(wish("wait=25"), Some(("wait", "25")));
        assert_eq!(wish("respond-async"), None);
    }
}

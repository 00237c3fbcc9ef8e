//! Problem details (RFC 9457): the one shape in which the service says no.
//!
//! Knows nothing of what went wrong inside.

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::code::Code;
use crate::job::{Attempt, Seq, Version};

/// A problem as clients read it (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The path of a page about problems of this kind.
    #[serde(rename = "type", serialize_with = "page")]
    #[schema(value_type = String, format = "uri-reference")]
    pub(super) kind: Code,
    /// What it means, in a few words.
    pub(super) title: &'static str,
    /// The status code of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub(super) status: u16,
    /// One sentence that says what to do.
    pub(super) detail: String,
    /// The path of the request; in a batch with the number of the operation, from 0.
    #[schema(format = "uri-reference")]
    pub(super) instance: String,
    /// What kind of problem it is, for programs.
    pub(super) code: Code,
    /// The member, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) field: Option<String>,
    /// The version the job has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = false)]
    pub(super) current_version: Option<Version>,
    /// The attempt that may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    pub(super) current_attempt: Option<Attempt>,
    /// The number the writer's next line must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = false)]
    pub(super) expected: Option<Seq>,
}

impl Problem {
    /// The media type of a problem.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem that needs no more than a sentence.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: code,
            title: code.title(),
            status: code.status().as_u16(),
            detail: detail.into(),
            instance: String::new(),
            code,
            field: None,
            current_version: None,
            current_attempt: None,
            expected: None,
        }
    }

    /// The problem of this very request.
    pub(super) fn at(self, instance: String) -> Self {
        Self { instance, ..self }
    }

    /// The problem as JSON text.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(320);
        // Strings and numbers: there is nothing that could fail to be written to memory.
        let written = serde_json::to_writer(&mut text, self);
        debug_assert!(written.is_ok(), "{written:?}");
        text
    }

    /// Makes it the body of its answer.
    pub(super) fn fill(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Self::MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        *response.body_mut() = Body::from(self.encode());
    }
}

fn page<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("/problems/{}", code.slug()))
}

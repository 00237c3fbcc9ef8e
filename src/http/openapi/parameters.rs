//! Parameters that routes have in common, and how parameters are described.

use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ArrayBuilder, ArrayItems, ObjectBuilder, Type},
    },
};

/// Text without control characters, as those of stages, of labels' values and of writers.
pub(in crate::http) const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// The id of a job.
const ID: &str = "^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$";

/// A tag, or what only other services have.
const TAG: &str = "(W/)?\"[!#-~]*\"";

/// What If-Match and If-None-Match may be.
fn tags_pattern() -> String {
    format!("^[ \\t]*(\\*|([ \\t,]*{TAG}[ \\t]*)(,[ \\t,]*{TAG}[ \\t]*)*(,[ \\t,]*)?)$")
}

/// A parameter that may be left out but in the path; without a pattern it is any text.
pub(in crate::http) fn parameter(name: &str, place: ParameterIn, description: &str, pattern: &str) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(if pattern.is_empty() { text } else { text.pattern(Some(pattern)) }))
        .build()
}

/// The job that a path is about.
pub(in crate::http) struct OfJob;

impl IntoParams for OfJob {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("id", ParameterIn::Path, "The id of the job.", ID)]
    }
}

/// What a change is made conditional on.
pub(in crate::http) struct Preconditions;

impl IntoParams for Preconditions {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The versions the job may have, as quoted tags such as `\"v12\"`; else nothing is done.";
        vec![parameter("If-Match", ParameterIn::Header, description, &tags_pattern())]
    }
}

/// What a client has already.
pub(in crate::http) struct Known;

impl IntoParams for Known {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("If-None-Match", ParameterIn::Header, "The tags the client has.", &tags_pattern())]
    }
}

/// What a client would rather have.
pub(in crate::http) struct Wishes;

impl IntoParams for Wishes {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "`return=minimal` for an answer without a body (RFC 7240).";
        vec![parameter("Prefer", ParameterIn::Header, description, "")]
    }
}

/// What a client would rather have of each operation of a batch.
pub(in crate::http) struct BatchWishes;

impl IntoParams for BatchWishes {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "`return=minimal` for results that say that it is done, and no more (RFC 7240).";
        vec![parameter("Prefer", ParameterIn::Header, description, "")]
    }
}

/// A parameter that is repeated, once or more.
pub(in crate::http) fn several(name: &str, description: &str, item: impl Into<ArrayItems>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ArrayBuilder::new().items(item).min_items(Some(1))))
        .explode(Some(true))
        .build()
}

/// Ids of jobs, repeated.
pub(in crate::http) fn ids(name: &str, description: &str) -> Parameter {
    several(name, description, string(ID))
}

/// A string of this form.
pub(in crate::http) fn string(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

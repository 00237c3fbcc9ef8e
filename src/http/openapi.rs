//! `openapi.json`, from the handlers, their parameters and the bodies that are really parsed.
//!
//! Promises: each route and each member is described where it is written, and what only the parser knows (other names,
//! what excludes what, that nothing unknown is taken) is put in by [`bodies::describe`](super::bodies::describe).

mod amend;
mod parameters;
mod streams;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::{
    IntoResponses, Modify, OpenApi, ToResponse,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
        extensions::Extensions, schema::Object,
    },
};

pub(super) use self::{
    parameters::{BatchWishes, Known, NO_CONTROLS, OfJob, Preconditions, Wishes, ids, parameter, several, string},
    streams::{FeedEvents, JobEvents},
};
use super::{
    attempts, batch, bodies, claim, commands, events, export, feed, jobs, legacy, list, logs, ops, problem::Problem,
    reply::Receipt, stats, timeline, websocket,
};
use crate::job::Document;

/// The description of the service.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Milepost",
        description = "The job store every backend with `jobs = {}` in its web process should have had. Workers create \
            jobs and report status, progress, results and log lines; readers poll. A change is durable before it is \
            answered. Every error is a problem (RFC 9457), and unknown members and parameters are refused by name.",
        license(name = "See the repository")
    ),
    tags(
        (name = "jobs", description = "Jobs, one by one and as lists."),
        (name = "logs", description = "A job's log."),
        (name = "push", description = "Being told instead of asking."),
        (name = "batch", description = "Many operations in one request."),
        (name = "origin", description = "The read shapes of the origin, for frontends that were written for it."),
        (name = "operations", description = "Health, metrics, export, documentation.")
    ),
    paths(
        jobs::create_job, jobs::ensure_job, jobs::read_job, jobs::patch_job, jobs::delete_job, list::list_jobs,
        attempts::job_attempts, timeline::job_timeline, claim::claim_job, commands::cancel_job, commands::retry_job, commands::heartbeat,
        logs::append_log, logs::read_log, events::job_events, websocket::job_websocket, feed::all_events, batch::run_batch,
        legacy::restyle, legacy::status, legacy::saasshorts_status,
        stats::stats, export::export, ops::livez, ops::readyz, ops::health, ops::metrics, ops::openapi_json, ops::docs,
        ops::problem_page, ops::index
    ),
    components(schemas(Document, Receipt, Problem), responses(JobAnswer, CreatedAnswer)),
    modifiers(&Bodies)
)]
struct Description;

/// The OpenAPI 3.1 document of the service, as JSON.
pub fn openapi() -> String {
    // Made of strings, numbers and maps with strings as keys: nothing that JSON could not say.
    let mut description = serde_json::to_value(Description::openapi()).unwrap_or_default();
    amend::amend(&mut description);
    description.to_string()
}

/// Completes what is said of bodies.
struct Bodies;

impl Modify for Bodies {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let Some(components) = &mut openapi.components else { return };
        for name in bodies::SCHEMAS {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
                bodies::describe(object);
            }
        }
    }
}

/// Words of JSON Schema that the builders do not know.
pub(super) fn keywords<const N: usize>(object: &mut Object, words: [(&str, Value); N]) {
    object.extensions.get_or_insert_with(Extensions::default).merge(Extensions::from_iter(words));
}

/// One of these strings.
pub(super) fn one_of(words: &[&str], is_nullable: bool) -> Object {
    let mut values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    let mut builder = ObjectBuilder::new().schema_type(Type::String);
    if is_nullable {
        values.push(Value::Null);
        builder = builder.schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]));
    }
    builder.enum_values(Some(values)).build()
}

/// The answer with a job.
pub(super) struct JobAnswer;

/// The answer with a job that was created.
pub(super) struct CreatedAnswer;

fn job_answer(description: &str) -> ResponseBuilder {
    let schema = Ref::from_schema_name("Job");
    ResponseBuilder::new()
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .header("etag", header("The version as a tag, such as `\"v12\"`."))
}

fn header(description: &str) -> utoipa::openapi::Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

impl<'r> ToResponse<'r> for JobAnswer {
    fn response() -> (&'r str, RefOr<Response>) {
        ("Job", job_answer("The job.").build().into())
    }
}

impl<'r> ToResponse<'r> for CreatedAnswer {
    fn response() -> (&'r str, RefOr<Response>) {
        let answer = job_answer("The job, with its input.")
            .header("location", header("The path of the job."))
            .header("idempotency-replayed", header("`true` when an earlier request with this key made the job."));
        ("CreatedJob", answer.build().into())
    }
}

type Responses = BTreeMap<String, RefOr<Response>>;

/// Problems, by status.
fn problems<const N: usize>(problems: [(u16, &str); N]) -> Responses {
    let answer = |description: &str| {
        let schema = Ref::from_schema_name("Problem");
        ResponseBuilder::new()
            .description(description)
            .content(Problem::MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build())
            .build()
    };
    problems.into_iter().map(|(status, description)| (status.to_string(), answer(description).into())).collect()
}

/// What is said to a body that cannot be taken.
pub(super) struct BadBody;

impl IntoResponses for BadBody {
    fn responses() -> Responses {
        problems([
            (400, "The body is no JSON, or a header is malformed: `invalid_json`, `invalid_header`."),
            (408, "The body did not come in time: `request_timeout`."),
            (413, "The body is too large: `body_too_large`."),
            (415, "The body is of another type: `unsupported_media_type`."),
            (422, "A member or parameter is not acceptable: `invalid_field`, `idempotency_mismatch`."),
        ])
    }
}

/// What is said to parameters that cannot be taken.
pub(super) struct BadParameters;

impl IntoResponses for BadParameters {
    fn responses() -> Responses {
        problems([(422, "A parameter is not acceptable: `invalid_field`.")])
    }
}

/// What is said to headers that cannot be taken.
pub(super) struct BadHeader;

impl IntoResponses for BadHeader {
    fn responses() -> Responses {
        problems([(400, "The body is no JSON, or a header is malformed: `invalid_json`, `invalid_header`.")])
    }
}

/// What is said to pages that may not ask.
pub(super) struct Forbidden;

impl IntoResponses for Forbidden {
    fn responses() -> Responses {
        problems([(403, "The page is of an origin that may not call the service: `forbidden`.")])
    }
}

/// What is said when there is no such job.
pub(super) struct NoJob;

impl IntoResponses for NoJob {
    fn responses() -> Responses {
        problems([(404, "There is no such job: `job_not_found`.")])
    }
}

/// What is said when a change does not fit the job.
pub(super) struct Conflict;

impl IntoResponses for Conflict {
    fn responses() -> Responses {
        problems([(409, "The request does not fit the job as it stands; `code` says why.")])
    }
}

/// What is said when the job has moved.
pub(super) struct Moved;

impl IntoResponses for Moved {
    fn responses() -> Responses {
        problems([(412, "The job has moved since the version of If-Match: `version_mismatch`.")])
    }
}

/// What is said when the service cannot.
pub(super) struct NoStore;

impl IntoResponses for NoStore {
    fn responses() -> Responses {
        problems([
            (429, "More changes wait, or more exports are under way, than may: `too_many_requests`."),
            (500, "A fault of the service: `internal`."),
            (503, "The store cannot be used for now, or the service is going down; see Retry-After."),
            (507, "The store is full: `storage_full`."),
        ])
    }
}

/// What is said to a client that has the newest version.
pub(super) struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> Responses {
        let answer = ResponseBuilder::new().description("The client has the newest version.");
        let answer = answer.header("etag", header("The version as a tag, such as `\"v12\"`."));
        [("304".to_owned(), answer.build().into())].into()
    }
}

/// What is said to a client that wants little.
pub(super) struct Minimal;

impl IntoResponses for Minimal {
    fn responses() -> Responses {
        let answer = ResponseBuilder::new()
            .description("Done; the client wanted no more than that, with `Prefer: return=minimal`.")
            .header("etag", header("The version as a tag, such as `\"v12\"`."))
            .header("preference-applied", header("`return=minimal`"))
            .header("milepost-cancel", header("`requested` when the worker shall stop."));
        [("204".to_owned(), answer.build().into())].into()
    }
}

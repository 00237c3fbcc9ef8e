//! One operation of a batch: the body of its route, and what a route takes from its path and headers.

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{Object, ObjectBuilder, OneOfBuilder, SchemaType, Type},
    },
};

use crate::{
    http::{
        bodies::{AppendBody, FromMembers, HeartbeatBody, NewJobBody, PatchBody, Style, describe},
        body::json_text,
        bounds::Bounds,
        error::ApiError,
        given::Given,
        jobs::fresh_id,
        members::Members,
        reply::{Receipt, changed_view, created_view},
        tags::Tags,
    },
    job::{Change, Document, Guard, Job, JobId, NewJob, Version},
    store::{Caller, Created, JobStore, Updated},
};

/// One operation of a batch.
#[derive(Debug)]
pub(in crate::http) enum BatchOperation {
    /// Create a job of a fresh id.
    Create(Box<NewJob>),
    /// Make sure that a job of this id exists.
    Ensure(Box<NewJob>),
    /// Change a job, and answer with its document.
    Patch(JobId, Change, Guard),
    /// Append to its log or renew its lease, and answer with a receipt.
    Report(JobId, Change, Guard),
}

/// What an operation came to.
#[derive(Debug)]
pub(super) enum Done {
    Created(Created),
    Changed(Updated),
    Reported(Updated),
}

/// What an operation is answered with.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    /// The job, after `create` and `patch`.
    Job(Document<'a>),
    /// A receipt, after `log` and `heartbeat`.
    Receipt(Receipt<'a>),
}

impl Done {
    /// The job of a change that had it already.
    pub(super) fn changed(&self) -> Option<&Job> {
        match self {
            Self::Created(_) => None,
            Self::Changed(updated) | Self::Reported(updated) => Some(&updated.job),
        }
    }

    /// The status and the content of the answer.
    pub(super) fn view(&self) -> (u16, Content<'_>) {
        match self {
            Self::Created(created) => {
                let (status, document) = created_view(created);
                (status.as_u16(), Content::Job(document))
            }
            Self::Changed(updated) => (200, Content::Job(changed_view(updated))),
            Self::Reported(updated) => (200, Content::Receipt(Receipt::new(updated))),
        }
    }
}

impl BatchOperation {
    /// Reads an operation.
    pub(in crate::http) fn parse(text: &[u8], caller: Caller, bounds: &Bounds) -> Result<Self, ApiError> {
        let mut members = Members::parse(json_text(text, bounds.settings().json_depth_max)?)?;
        let op = members.require("op")?;
        let operation = match &*op.string()? {
            "create" => Self::create(&mut members, caller, bounds)?,
            "patch" => {
                let (id, versions) = target(&mut members)?;
                let patch = PatchBody::from_members(&mut members, Style::Replace, bounds)?;
                let guard = Guard { attempt: patch.attempt, versions };
                Self::Patch(id, patch.into_change()?, guard)
            }
            "log" => {
                let (id, versions) = target(&mut members)?;
                let append = AppendBody::from_members(&mut members, bounds)?;
                let guard = Guard { attempt: append.attempt, versions };
                Self::Report(id, append.into_change()?, guard)
            }
            "heartbeat" => {
                let (id, versions) = target(&mut members)?;
                let heartbeat = HeartbeatBody::from_members(&mut members, bounds)?;
                let guard = Guard { attempt: heartbeat.attempt, versions };
                Self::Report(id, heartbeat.into_change(), guard)
            }
            _ => return Err(op.refused("one of create, patch, log, heartbeat")),
        };
        members.finish()?;
        Ok(operation)
    }

    fn create(members: &mut Members<'_>, caller: Caller, bounds: &Bounds) -> Result<Self, ApiError> {
        let id = members.take_some(&["id"])?.map(Given::parse).transpose()?;
        let new = NewJobBody::from_members(members, bounds)?;
        Ok(match id {
            Some(id) => Self::Ensure(Box::new(new.into_new_job(id, caller))),
            None => Self::Create(Box::new(new.into_new_job(fresh_id()?, caller))),
        })
    }

    /// The job it is about, if others can be about the same one.
    pub(super) fn id(&self) -> Option<&JobId> {
        match self {
            Self::Create(_) => None,
            Self::Ensure(new) => Some(&new.spec.key.id),
            Self::Patch(id, ..) | Self::Report(id, ..) => Some(id),
        }
    }

    /// Whether it looks at the job before its change has a place in the order of changes.
    pub(super) fn looks_first(&self) -> bool {
        matches!(self, Self::Ensure(_))
    }

    /// Does it. Drops `place` when it has its place before all changes that are submitted later.
    pub(super) async fn run<T>(self, store: &JobStore, caller: Caller, place: T) -> Result<Done, ApiError> {
        let (id, change, guard, done): (_, _, _, fn(Updated) -> Done) = match self {
            Self::Create(new) => return Ok(Done::Created(store.create(caller, *new, None).await?)),
            Self::Ensure(new) => return Ok(Done::Created(store.ensure(caller, *new, None).await?)),
            Self::Patch(id, change, guard) => (id, change, guard, Done::Changed),
            Self::Report(id, change, guard) => (id, change, guard, Done::Reported),
        };
        let submitted = store.submit_update(caller, &id, change, guard)?;
        // From here on the changes of one job can share a commit.
        drop(place);
        Ok(done(submitted.committed().await?))
    }
}

/// The job of an operation, and the versions it may have.
fn target(members: &mut Members<'_>) -> Result<(JobId, Option<Vec<Version>>), ApiError> {
    let id = JobId::try_from(&*members.require("id")?.string()?).map_err(|_| ApiError::NoSuchJob)?;
    let versions = members.take_some(&["if_match"])?.map(versions).transpose()?;
    Ok((id, versions.flatten()))
}

/// What If-Match says, or a bare tag, since in JSON it has quotes already.
fn versions(given: Given<'_>) -> Result<Option<Vec<Version>>, ApiError> {
    let text = given.string()?;
    let tags = Tags::parse(&text).or_else(|| Tags::parse(&format!("\"{text}\"")));
    tags.map(Tags::strong_versions).ok_or_else(|| given.refused("* or tags, such as \"v12\""))
}

impl PartialSchema for BatchOperation {
    fn schema() -> RefOr<Schema> {
        let text = |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
        // Null says the same as nothing.
        let or_null = |text: ObjectBuilder| text.schema_type(SchemaType::from_iter([Type::String, Type::Null]));
        let required = |op, body| {
            with(body, op, text("The job."), true).property("if_match", or_null(text("As the header If-Match.")))
        };
        let id = or_null(text("The id, as with PUT; without it the service chooses one."));
        let create = with(NewJobBody::schema(), "create", id, false);
        OneOfBuilder::new()
            .item(create)
            .item(required("patch", PatchBody::schema()))
            .item(required("log", AppendBody::schema()))
            .item(required("heartbeat", HeartbeatBody::schema()))
            .description(Some(
                "One operation of a batch: the members of its route's body, and what the route takes elsewhere.",
            ))
            .into()
    }
}

impl ToSchema for BatchOperation {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        NewJobBody::schemas(schemas);
        PatchBody::schemas(schemas);
        AppendBody::schemas(schemas);
        HeartbeatBody::schemas(schemas);
    }
}

/// A body's schema with the members that only an operation has.
fn with(body: RefOr<Schema>, op: &str, id: ObjectBuilder, is_required: bool) -> ObjectBuilder {
    let mut body = match body {
        RefOr::T(Schema::Object(body)) => body,
        RefOr::T(_) | RefOr::Ref(_) => Object::new(),
    };
    describe(&mut body);
    let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([op]));
    let operation = ObjectBuilder::from(body).property("op", name).required("op").property("id", id);
    if is_required { operation.required("id") } else { operation }
}

//! What a job is created from.

use std::collections::BTreeMap;

use utoipa::{ToSchema, openapi::schema::Object};

use super::{FromMembers, labels, log, object};
use crate::{
    http::{
        body::{FromBody, Media},
        bounds::Bounds,
        error::ApiError,
        given::Given,
        members::Members,
        openapi::one_of,
    },
    job::{JobId, JobKey, Json, Kind, Labels, Lines, Malformed, NewJob, Seconds, Spec, Stage, Status, Timestamp},
    store::Caller,
};

/// What a job is created from. Null says the same as nothing, but for `kind`.
#[derive(Debug, ToSchema)]
#[schema(as = NewJob)]
pub(in crate::http) struct NewJobBody {
    /// What sort of work it is.
    #[schema(value_type = String, pattern = "^[a-z0-9._-]{1,64}$", example = "restyle")]
    kind: Kind,
    /// What the worker needs: any JSON.
    #[schema(value_type = Option<Value>)]
    input: Option<Json>,
    /// What lists and feeds filter by: at most 16, keys of 1-64 characters of a-z 0-9 . _ -, values of at most 256
    /// bytes without control characters.
    #[schema(value_type = Option<HashMap<String, Option<String>>>, example = json!({"user": "42"}))]
    labels: Labels,
    /// Higher is claimed first; 0 if not given.
    #[schema(value_type = Option<i32>, minimum = -2147483648, maximum = 2147483647)]
    priority: i32,
    /// How many attempts may be lost before the job fails; 1 if not given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_attempts: u32,
    /// `processing` when a worker is already at it; else the job is queued.
    #[schema(rename = "status", schema_with = first_status, required = false)]
    processing: bool,
    /// The step it begins in: at most 256 bytes without control characters.
    #[schema(value_type = Option<String>, max_length = 256)]
    stage: Option<Stage>,
    /// The worker must renew its lease within this time, beginning with the first processing write.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 86400)]
    lease_seconds: Option<Seconds>,
    /// How long one attempt may take: up to 30 days.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2592000)]
    timeout_seconds: Option<Seconds>,
    /// How long the job may wait in the queue: up to 30 days.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2592000)]
    queue_ttl_seconds: Option<Seconds>,
    /// How long a worker may take to obey a cancel: up to a day.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 86400)]
    cancel_grace_seconds: Option<Seconds>,
    /// How long the job is kept once done: up to ten years.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 315360000)]
    retain_seconds: Option<Seconds>,
    /// First lines of its log: a string, or an array of strings.
    #[schema(schema_with = super::one_or_more_lines, required = false)]
    log: Lines,
}

/// What a creation cannot set, and what does.
const ELSEWHERE: [(&str, &str); 10] = [
    ("id", "stands in the path: PUT /jobs/{id} makes a job of a chosen id."),
    ("progress_pct", "begins at 0; change it with PATCH /jobs/{id}."),
    ("progress", "begins at 0; change it with PATCH /jobs/{id}."),
    ("result", "begins empty; change it with PATCH /jobs/{id}."),
    ("error", "begins empty; change it with PATCH /jobs/{id}."),
    ("logs", "is read-only; send first lines as `log`."),
    ("attempt", "begins at 1."),
    ("worker", "is set by a claim."),
    ("version", "begins at 1."),
    ("created_at", "is set by the service."),
];

impl NewJobBody {
    /// The job of this id, to be created by this caller.
    pub(in crate::http) fn into_new_job(self, id: JobId, caller: Caller) -> NewJob {
        let spec = Spec {
            key: JobKey { tenant: caller.tenant, id },
            kind: self.kind,
            priority: self.priority,
            max_attempts: self.max_attempts,
            lease_seconds: self.lease_seconds,
            timeout_seconds: self.timeout_seconds,
            queue_ttl_seconds: self.queue_ttl_seconds,
            cancel_grace_seconds: self.cancel_grace_seconds,
            retain_seconds: self.retain_seconds,
            // The store stamps it.
            created_at: Timestamp(0),
        };
        NewJob {
            spec,
            input: self.input,
            labels: self.labels,
            processing: self.processing,
            stage: self.stage,
            lines: self.log,
        }
    }
}

impl FromMembers for NewJobBody {
    fn from_members(members: &mut Members<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        members.refuse(&ELSEWHERE)?;
        let day = 86_400;
        Ok(Self {
            kind: members.require("kind")?.parse()?,
            input: members.take_some(&["input"])?.map(|given| input(given, bounds)).transpose()?,
            labels: members.take_some(&["labels"])?.map(first_labels).transpose()?.unwrap_or_default(),
            priority: members.take_some(&["priority"])?.map_or(Ok(0), |given| given.integer(i32::MIN..=i32::MAX))?,
            max_attempts: members.take_some(&["max_attempts"])?.map_or(Ok(1), |given| given.integer(1..=1000))?,
            processing: members.take_some(&["status"])?.map_or(Ok(false), is_processing)?,
            stage: members.take_some(&["stage"])?.map(Given::parse).transpose()?,
            lease_seconds: seconds(members, "lease_seconds", day)?,
            timeout_seconds: seconds(members, "timeout_seconds", 30 * day)?,
            queue_ttl_seconds: seconds(members, "queue_ttl_seconds", 30 * day)?,
            cancel_grace_seconds: seconds(members, "cancel_grace_seconds", day)?,
            retain_seconds: seconds(members, "retain_seconds", 3650 * day)?,
            log: log(members, bounds)?,
        })
    }
}

impl FromBody for NewJobBody {
    const MEDIA: &'static [Media] = &[Media::Json];

    fn from_body(_: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        object(body, bounds)
    }
}

fn first_status() -> Object {
    one_of(&["queued", "pending", "processing", "running", "started"], true)
}

fn input(given: Given<'_>, bounds: &Bounds) -> Result<Json, ApiError> {
    let bytes_max = bounds.settings().input_bytes_max;
    let input = given.json()?;
    if input.as_str().len() <= bytes_max {
        Ok(input)
    } else {
        Err(given.refused(format_args!("at most {bytes_max} bytes of JSON; larger things belong behind a URL")))
    }
}

fn first_labels(given: Given<'_>) -> Result<Labels, ApiError> {
    // There is nothing yet that null could remove.
    let set = labels(given)?.into_iter().filter_map(|(key, value)| Some((key, value?)));
    Labels::try_from(set.collect::<BTreeMap<_, _>>()).map_err(|Malformed(rule)| given.refused(rule))
}

fn is_processing(given: Given<'_>) -> Result<bool, ApiError> {
    match given.parse()? {
        Status::Queued => Ok(false),
        Status::Processing => Ok(true),
        Status::Completed | Status::Failed | Status::Cancelled => Err(given.refused("queued or processing")),
    }
}

fn seconds(members: &mut Members<'_>, name: &'static str, most: u32) -> Result<Option<Seconds>, ApiError> {
    let number = members.take_some(&[name])?.map(|given| given.integer(1..=most)).transpose()?;
    Ok(number.map(Seconds))
}

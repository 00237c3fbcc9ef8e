//! A sign of life.

use utoipa::ToSchema;

use super::{FromMembers, PROGRESS, attempt, object, progress, reported_stage};
use crate::{
    http::{
        body::{FromBody, Media},
        bounds::Bounds,
        error::ApiError,
        members::Members,
    },
    job::{Attempt, Change, Edit, Heartbeat, Progress, Stage},
};

/// A sign of life, which renews the lease. Null says the same as nothing.
#[derive(Debug, ToSchema)]
#[schema(as = Heartbeat)]
pub(in crate::http) struct HeartbeatBody {
    /// The writer's attempt: must be the current one.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub(in crate::http) attempt: Option<Attempt>,
    /// How far the job has come, in percent.
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100)]
    progress_pct: Option<Progress>,
    /// The step the worker is in: at most 256 bytes without control characters.
    #[schema(value_type = Option<String>, max_length = 256)]
    stage: Edit<Stage>,
}

impl HeartbeatBody {
    /// The change it asks for.
    pub(in crate::http) fn into_change(self) -> Change {
        Change::Heartbeat(Heartbeat { progress: self.progress_pct, stage: self.stage })
    }
}

impl FromMembers for HeartbeatBody {
    fn from_members(members: &mut Members<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self {
            attempt: attempt(members)?,
            progress_pct: members.take_some(PROGRESS)?.map(progress).transpose()?,
            stage: reported_stage(members)?,
        })
    }
}

impl FromBody for HeartbeatBody {
    const MEDIA: &'static [Media] = &[Media::Json];

    fn from_body(_: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        object(body, bounds)
    }
}

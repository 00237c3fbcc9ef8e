//! What goes with the wish that a job be tried again.

use utoipa::ToSchema;

use super::{FromMembers, attempt, object};
use crate::{
    http::{
        body::{FromBody, Media},
        bounds::Bounds,
        error::ApiError,
        members::Members,
    },
    job::{Attempt, Change, Retry},
};

/// The wish that a done job be tried again. May be left out.
#[derive(Debug, Default, ToSchema)]
#[schema(as = Retry)]
pub(in crate::http) struct RetryBody {
    /// The attempt that shall be tried again: a request that is repeated changes nothing then.
    #[schema(value_type = Option<u32>, minimum = 1)]
    attempt: Option<Attempt>,
}

impl RetryBody {
    /// The change it asks for.
    pub(in crate::http) fn into_change(self) -> Change {
        Change::Retry(Retry { attempt: self.attempt })
    }
}

impl FromMembers for RetryBody {
    fn from_members(members: &mut Members<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self { attempt: attempt(members)? })
    }
}

impl FromBody for RetryBody {
    const MEDIA: &'static [Media] = &[Media::Json];

    fn from_body(_: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        if body.is_empty() { Ok(Self::default()) } else { object(body, bounds) }
    }
}

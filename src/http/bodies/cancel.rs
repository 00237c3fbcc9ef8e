//! What goes with the wish that a job end.

use utoipa::ToSchema;

use super::{FromMembers, object};
use crate::{
    http::{
        body::{FromBody, Media},
        bounds::Bounds,
        error::ApiError,
        given::Given,
        members::Members,
    },
    job::{Cancel, Change, Stage},
};

/// The wish that a job end. May be left out.
#[derive(Debug, Default, ToSchema)]
#[schema(as = Cancel)]
pub(in crate::http) struct CancelBody {
    /// Why, for whoever reads the job later, if it ends with this request: at most 256 bytes without control characters.
    #[schema(value_type = Option<String>, max_length = 256)]
    reason: Option<Stage>,
}

impl CancelBody {
    /// The change it asks for.
    pub(in crate::http) fn into_change(self) -> Change {
        Change::Cancel(Cancel { reason: self.reason })
    }
}

impl FromMembers for CancelBody {
    fn from_members(members: &mut Members<'_>, _: &Bounds) -> Result<Self, ApiError> {
        Ok(Self { reason: members.take_some(&["reason"])?.map(Given::parse).transpose()? })
    }
}

impl FromBody for CancelBody {
    const MEDIA: &'static [Media] = &[Media::Json];

    fn from_body(_: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        if body.is_empty() { Ok(Self::default()) } else { object(body, bounds) }
    }
}

//! A worker's wish for a job.

use std::{sync::Arc, time::Duration};

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
    job::{Claim, Kind, Malformed, Seconds, Writer},
    store::Wish,
};

/// A worker's wish for a job.
#[derive(Debug, ToSchema)]
#[schema(as = Claim)]
pub(in crate::http) struct ClaimBody {
    /// A job of one of these kinds, as many as 100.
    #[schema(value_type = Vec<String>, min_items = 1)]
    kinds: Vec<Kind>,
    /// Who works at it, for whoever looks: 1 to 64 bytes without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 64)]
    worker: Writer,
    /// How long the worker may be silent before the job is given to another one.
    #[schema(value_type = u32, minimum = 1, maximum = 86400)]
    lease_seconds: Seconds,
    /// How long the request may wait for a job; more than 60 means 60.
    #[schema(value_type = Option<u32>, minimum = 0)]
    wait_seconds: u32,
}

impl ClaimBody {
    /// The wish.
    pub(in crate::http) fn into_wish(self, bounds: &Bounds) -> Wish {
        let wait = self.wait_seconds.min(bounds.settings().claim.wait_seconds_max);
        Wish {
            kinds: self.kinds,
            claim: Claim { worker: Arc::from(self.worker.as_str()), lease_seconds: self.lease_seconds },
            wait: Duration::from_secs(wait.into()),
        }
    }
}

impl FromMembers for ClaimBody {
    fn from_members(members: &mut Members<'_>, bounds: &Bounds) -> Result<Self, ApiError> {
        Ok(Self {
            kinds: kinds(members.require("kinds")?, bounds.settings().claim.kinds_max)?,
            worker: members.require("worker")?.parse()?,
            lease_seconds: Seconds(members.require("lease_seconds")?.integer(1..=86_400)?),
            wait_seconds: members.take_some(&["wait_seconds"])?.map_or(Ok(0), |given| given.integer(0..=u32::MAX))?,
        })
    }
}

fn kinds(given: Given<'_>, kinds_max: usize) -> Result<Vec<Kind>, ApiError> {
    let kind = |text: &str| Kind::try_from(text).map_err(|Malformed(rule)| given.refused(rule));
    if !given.text().starts_with('[') {
        return Err(given.refused("an array of strings"));
    }
    let mut kinds = given.strings()?.iter().map(|text| kind(text)).collect::<Result<Vec<_>, _>>()?;
    kinds.sort_unstable();
    kinds.dedup();
    if (1..=kinds_max).contains(&kinds.len()) {
        Ok(kinds)
    } else {
        Err(given.refused(format_args!("an array of 1 to {kinds_max} kinds")))
    }
}

impl FromBody for ClaimBody {
    const MEDIA: &'static [Media] = &[Media::Json];

    fn from_body(_: Media, body: &[u8], bounds: &Bounds) -> Result<Self, ApiError> {
        object(body, bounds)
    }
}

//! Reads that wait for news.
//!
//! Promises: nothing is missed between the read that has no news and the wait; a wait ends with the news, with its time,
//! or when the service goes down, and is given up when the client has gone.

use std::time::Duration;

use tokio::time::timeout;
use utoipa::IntoParams;

use super::{
    bodies::SEQ_MAX,
    bounds::Bounds,
    context::Context,
    error::ApiError,
    extract::{IfNoneMatch, Prefer},
    jitter,
    query::{FromParams, Params},
    serve::Presence,
};
use crate::{
    job::{JobId, Version},
    metrics::{Held, StreamKind},
    publish::{Interrupted, Pace},
    store::{Caller, Snapshot},
};

/// The longest wait that can be asked for; more than any service grants.
const SECONDS_MAX: u64 = 86_400;

/// What a reader waits for, where it says so in the query.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitParams {
    /// The version the client has. With `wait`, the answer comes as soon as the job has another one.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 9007199254740991_u64)]
    since: Option<Version>,
    /// Seconds to wait at the most for what `since`, `until` or `If-None-Match` say; the service grants 60 at the most.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 86400)]
    wait: Option<u32>,
    /// `done`: with `wait`, the answer comes as soon as the job is done.
    #[param(value_type = Option<String>, pattern = "^done$")]
    until: Option<Done>,
}

/// The one word for `until`.
#[derive(Clone, Copy, Debug)]
struct Done;

impl FromParams for WaitParams {
    fn from_params(params: &mut Params<'_>, _: &Bounds) -> Result<Self, ApiError> {
        let until = match params.take("until")?.as_deref() {
            None => None,
            Some("done") => Some(Done),
            Some(_) => return Err(ApiError::field("until", "`done`")),
        };
        let wait = params.number("wait", 0, SECONDS_MAX)?;
        let wait = wait.and_then(|seconds| u32::try_from(seconds).ok());
        Ok(Self { since: params.number("since", 0, SEQ_MAX)?, wait, until })
    }
}

/// A read that may wait.
pub(super) struct Wait<'a> {
    params: WaitParams,
    known: &'a IfNoneMatch,
    seconds: u32,
    /// The seconds that are granted because of a preference (RFC 7240).
    pub(super) granted_seconds: Option<u32>,
}

impl<'a> Wait<'a> {
    /// What parameters and headers say together; the query decides how long when both do.
    pub(super) fn new(
        params: WaitParams,
        known: &'a IfNoneMatch,
        prefer: Prefer,
        context: &Context,
    ) -> Result<Self, ApiError> {
        let waits_for_something = params.since.is_some() || params.until.is_some() || known.is_given();
        if params.wait.is_some() && !waits_for_something {
            return Err(ApiError::field("wait", "together with `since`, `until` or If-None-Match"));
        }
        let preferred = prefer.wait_seconds.filter(|_| waits_for_something && params.wait.is_none());
        let seconds = params.wait.or(preferred).unwrap_or(0).min(context.settings().wait_seconds_max);
        Ok(Self { params, known, seconds, granted_seconds: preferred.map(|_| seconds) })
    }

    /// The job, once there is something new about it or the wait is over.
    pub(super) async fn read(
        &self,
        context: &Context,
        caller: Caller,
        id: JobId,
        presence: &Presence,
        wants_document: bool,
    ) -> Result<Snapshot, ApiError> {
        let store = context.store();
        // Who says what it has most probably has it, and who waits for news.
        let snapshot = if wants_document && self.seconds == 0 && !self.known.is_given() {
            store.read_for_document(caller, &id).await?
        } else {
            store.read(caller, &id).await?
        };
        if self.seconds == 0 || self.is_news(&snapshot) {
            return Ok(snapshot);
        }
        drop(snapshot);
        // On the heap, so that the polls that do not wait need not make room for it.
        let _matters = presence.matters();
        Box::pin(self.wait(context, caller, id)).await
    }

    async fn wait(&self, context: &Context, caller: Caller, id: JobId) -> Result<Snapshot, ApiError> {
        let _open = Held::new(context.push_metrics().open(StreamKind::Wait));
        let mut follower = context.streams().follow(caller, id, Pace::Calm);
        // Clients that came together shall not come back together.
        let span = jitter::shortened(Duration::from_secs(self.seconds.into()), 10);
        match timeout(span, follower.until(|snapshot| self.is_news(snapshot))).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(Interrupted::Store(error))) => Err(error.into()),
            Ok(Err(Interrupted::Closing)) | Err(_) => Ok(follower.read().await?),
        }
    }

    fn is_news(&self, snapshot: &Snapshot) -> bool {
        match self.params.until {
            Some(Done) => snapshot.job().is_done(),
            None => !self.known.has(snapshot.version()) && self.params.since != Some(snapshot.version()),
        }
    }
}

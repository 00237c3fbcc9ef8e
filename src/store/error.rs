//! Why the store refuses.

use thiserror::Error;

use crate::{
    engine::EngineError,
    job::{JobId, Kind, Rejection, Timestamp},
};

/// Why a call of [`super::JobStore`] did nothing.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// There is no such job.
    #[error("There is no job `{0}`.")]
    NotFound(JobId),
    /// The job exists with another kind.
    #[error("The job exists already, and its kind is `{kind}`; choose another id.")]
    JobExists {
        /// The kind it has.
        kind: Kind,
    },
    /// The job was deleted, and its id is still reserved.
    #[error("A job of this id was deleted, and the id is reserved until {until}; choose another id.")]
    JobDeleted {
        /// When the id is free again.
        until: Timestamp,
    },
    /// The domain refuses the change.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store knows as many kinds as it may.
    #[error("`kind` must be one of the kinds that exist: there are as many as the store may have.")]
    TooManyKinds,
    /// The idempotency key came with another request before.
    #[error("This Idempotency-Key was used for another request; take a new key for a new job.")]
    IdempotencyMismatch,
    /// The first request with this idempotency key is not answered yet.
    #[error("The first request with this Idempotency-Key is still under way; send it again in a moment.")]
    IdempotencyInProgress,
    /// Other writers were faster too often.
    #[error("Other writers kept changing the job; send the request again in a moment.")]
    Contended,
    /// More changes wait than may.
    #[error("More changes are waiting than the service holds; send the request again in a moment.")]
    Overloaded,
    /// As many exports are under way as may be.
    #[error("As many exports are under way as the service allows; send the request again when one has ended.")]
    TooManyExports,
    /// The service is going down.
    #[error("The service is shutting down; send the request again in a moment.")]
    Draining,
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

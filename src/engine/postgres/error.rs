//! What PostgreSQL's errors mean for those above.

use deadpool_postgres::PoolError;
use tokio_postgres::{Error, error::SqlState};

use super::pooler::FORGETFUL;
use crate::engine::EngineError;

/// The meaning of an error of a statement that changes nothing, or that is known to have changed nothing.
pub(super) fn fault(error: &Error) -> EngineError {
    let text = text(error);
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => EngineError::Full(text),
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => EngineError::ReadOnly(text),
        Some(code) if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) => {
            EngineError::Corrupt(text)
        }
        Some(code) if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) => {
            EngineError::Unavailable(format!("{text}: {FORGETFUL}"))
        }
        Some(_) | None => EngineError::Unavailable(text),
    }
}

/// Why there is no connection.
pub(super) fn no_connection(error: &PoolError) -> EngineError {
    match error {
        PoolError::Backend(cause) => fault(cause),
        PoolError::Timeout(_) | PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            EngineError::Unavailable(format!("no connection to PostgreSQL: {error}"))
        }
    }
}

/// What came of a batch whose call ended with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It was committed before, by a call whose answer was lost.
    Before,
    /// It was not committed, and may be when it is tried again at once.
    Again,
    /// It was not committed.
    For,
    /// Nobody knows.
    Unknown,
}

impl Failed {
    /// Of the error of a call that commits.
    pub(super) fn of(error: &Error) -> Self {
        let Some(code) = error.code() else { return Self::Unknown };
        if *code == SqlState::UNIQUE_VIOLATION {
            return Self::Before;
        }
        let again =
            [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::LOCK_NOT_AVAILABLE];
        if again.contains(code) {
            return Self::Again;
        }
        // A server that goes down may have committed, and then waited in vain for its standby.
        let ended = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::QUERY_CANCELED,
            SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        ];
        if ended.contains(code) || code.code().starts_with("08") { Self::Unknown } else { Self::For }
    }
}

/// An error in words; the crate's own say less.
pub(super) fn text(error: &Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("PostgreSQL says {}: {} ({})", said.severity(), said.message(), said.code().code()),
        (None, Some(cause)) => format!("PostgreSQL: {error}: {cause}"),
        (None, None) => format!("PostgreSQL: {error}"),
    }
}

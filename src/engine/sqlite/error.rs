//! What SQLite's errors mean for those above.

use rusqlite::{Error, ErrorCode, ffi};

use crate::engine::EngineError;

/// The meaning of an error. A failed read, write or sync of the file is [`EngineError::Indeterminate`]: what the disk
/// has afterwards is not known, see <https://wiki.postgresql.org/wiki/Fsync_Errors>.
pub(super) fn fault(error: Error) -> EngineError {
    let text = error.to_string();
    if index_cannot_grow(&error) {
        return EngineError::Full(text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => EngineError::Full(text),
        Some(ErrorCode::SystemIoFailure) => EngineError::Indeterminate(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => EngineError::Corrupt(text),
        Some(_) | None => EngineError::Unavailable(text),
    }
}

/// Whether there was no room for the index of the write-ahead log, which is a file of its own (`-shm`) and grows last in a
/// commit: when its pages are in the log already, and synced.
pub(super) fn index_cannot_grow(error: &Error) -> bool {
    error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE)
}

/// Whether nothing more may be written after this error of a writing transaction.
pub(super) fn poisons(error: &EngineError) -> bool {
    matches!(error, EngineError::Indeterminate(_))
}

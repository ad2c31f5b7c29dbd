//! The table of the database's errors.

use ports::{ErrorKind, PortError};
use redb::{DatabaseError, Error, StorageError};

/// What a failure of the database is for a caller.
pub(super) fn port_error(operation: &'static str, error: impl Into<Error>) -> PortError {
    let error = error.into();
    let kind = match &error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => ErrorKind::Conflict,
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. } => ErrorKind::Corrupt,
        Error::ValueTooLarge(_) => ErrorKind::TooLarge,
        Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed => ErrorKind::Unavailable,
        _ => ErrorKind::Unexpected,
    };
    PortError::new(kind, operation, format!("state database: {error}")).with_source(error)
}

/// Whether the database must be opened anew before it works again.
pub(super) fn needs_reopening(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed | Error::LockPoisoned(_))
}

/// A file that is no database of ours is told by the database as an I/O error of invalid data.
pub(super) fn open_error(error: DatabaseError) -> PortError {
    const OPERATION: &str = "tables.open";
    match error {
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() == std::io::ErrorKind::InvalidData => {
            PortError::new(ErrorKind::Corrupt, OPERATION, format!("state database: {io}")).with_source(io)
        }
        error => port_error(OPERATION, error),
    }
}

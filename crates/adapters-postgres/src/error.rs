//! The one table from the client's errors to the ports' errors.

use ports::{ErrorKind, PortError};
use std::io;

/// The error for what the client gave.
///
/// A statement that the server refuses is rolled back, so that it had no effect; what was sent and not
/// answered may have had its.
pub(crate) fn of(error: sqlx::Error, operation: &'static str) -> PortError {
    let (kind, unknown, what) = classify(&error);
    let text = match &error {
        sqlx::Error::Configuration(_) => format!("PostgreSQL: {what}"),
        _ => format!("PostgreSQL: {what}: {error}"),
    };
    let mapped = PortError::new(kind, operation, text).with_source(error);
    if unknown { mapped.effect_unknown() } else { mapped }
}

/// The deadline passed.
pub(crate) fn late(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Timeout, operation, "PostgreSQL did not answer in time").effect_unknown()
}

/// A row that is not as this program wrote it.
pub(crate) fn corrupt(operation: &'static str, what: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, format!("PostgreSQL: {what}")).effect_unknown()
}

/// Whether the connection is good for further statements after this error.
pub(crate) fn leaves_connection_good(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // A server that is going down, and one that became a standby: the next connection may lead to
            // its successor.
            !(code.starts_with("57P") || code.starts_with("08") || code == "25006")
        }
        _ => false,
    }
}

/// Whether a key of a table, or a division by nothing where something had to be there, refused the statement.
pub(crate) fn is_refused_by_a_key(error: &PortError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sqlx::Error>());
    let code = source.and_then(sqlx::Error::as_database_error).and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "23505" || code == "22012")
}

/// The kind, whether there may have been an effect, and what it means.
fn classify(error: &sqlx::Error) -> (ErrorKind, bool, &'static str) {
    match error {
        sqlx::Error::Database(error) => of_state(&error.code().unwrap_or_default()),
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                (ErrorKind::Unavailable, false, "not reached")
            }
            _ => (ErrorKind::Unavailable, true, "the connection broke"),
        },
        sqlx::Error::PoolTimedOut => (
            ErrorKind::Unavailable,
            false,
            "the server is not reached, or takes too long with what all connections wait for",
        ),
        sqlx::Error::PoolClosed => (ErrorKind::Unavailable, false, "the service is stopping"),
        sqlx::Error::Tls(_) => (ErrorKind::Unavailable, false, "no secure connection"),
        sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => {
            (ErrorKind::Invalid, false, "the settings of the connection are refused")
        }
        sqlx::Error::Protocol(_) => {
            (ErrorKind::Corrupt, true, "what answers does not speak its protocol as expected")
        }
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, true, "the connection broke"),
        _ => (ErrorKind::Corrupt, true, "an answer of another shape"),
    }
}

fn of_state(state: &str) -> (ErrorKind, bool, &'static str) {
    match state {
        "57014" => (ErrorKind::Timeout, false, "the statement took too long"),
        "55P03" => (ErrorKind::Timeout, false, "another transaction holds a row for too long"),
        "40001" | "40P01" => (ErrorKind::Unavailable, false, "another transaction was in the way"),
        "57P03" => (ErrorKind::Unavailable, false, "the server is starting"),
        "25006" => (ErrorKind::Unavailable, false, "the server is a standby and takes no writes"),
        "53300" => (ErrorKind::Unavailable, false, "the server takes no more connections"),
        "53100" | "53200" | "53400" => (ErrorKind::Throttled, false, "the server has no room"),
        "21000" => (ErrorKind::Invalid, false, "a key is named twice in one batch"),
        "42501" => (ErrorKind::Denied, false, "the user may not do that"),
        "3D000" => (ErrorKind::Invalid, false, "there is no such database"),
        "3F000" | "42P01" | "42703" => {
            (ErrorKind::Unexpected, false, "the schema is not as this program made it")
        }
        _ if state.starts_with("28") => (ErrorKind::Denied, false, "the user or the password is refused"),
        _ if state.starts_with("57P") || state.starts_with("08") || state.starts_with("58") => {
            (ErrorKind::Unavailable, true, "the server ended the connection")
        }
        _ => (ErrorKind::Unexpected, false, "the statement failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::{Effect, Retry};

    #[test]
    fn what_the_server_refuses_had_no_effect_and_says_whether_to_come_again() {
        for (state, kind, transient) in [
            ("57014", ErrorKind::Timeout, true),
            ("55P03", ErrorKind::Timeout, true),
            ("40001", ErrorKind::Unavailable, true),
            ("40P01", ErrorKind::Unavailable, true),
            ("57P03", ErrorKind::Unavailable, true),
            ("25006", ErrorKind::Unavailable, true),
            ("53300", ErrorKind::Unavailable, true),
            ("53100", ErrorKind::Throttled, true),
            ("28P01", ErrorKind::Denied, false),
            ("42501", ErrorKind::Denied, false),
            ("21000", ErrorKind::Invalid, false),
            ("3D000", ErrorKind::Invalid, false),
            ("42P01", ErrorKind::Unexpected, false),
            ("22003", ErrorKind::Unexpected, false),
        ] {
            let (found, unknown, what) = of_state(state);
            assert_eq!((found, unknown), (kind, false), "{state}");
            let error = PortError::new(found, "x", what);
            assert_eq!(matches!(error.retry(), Retry::Transient { .. }), transient, "{state}");
        }
        assert_eq!(of_state("57P01"), (ErrorKind::Unavailable, true, "the server ended the connection"));
    }

    #[test]
    fn what_was_sent_and_not_answered_may_have_been_applied() {
        let broken = of(io::Error::from(io::ErrorKind::ConnectionReset).into(), "x");
        assert_eq!((broken.kind(), broken.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        let refused = of(io::Error::from(io::ErrorKind::ConnectionRefused).into(), "x");
        assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
        let busy = of(sqlx::Error::PoolTimedOut, "x");
        assert!(busy.kind() == ErrorKind::Unavailable && busy.is_safe_to_retry());
        assert!(!leaves_connection_good(&sqlx::Error::WorkerCrashed));
    }
}

//! The one table from the client's errors to the ports' errors.

use ports::{ErrorKind, PortError};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind, Value};

/// The error for what the client gave.
///
/// An answer of the server's means that this call had no effect: the scripts check before they write,
/// and what a server refuses of a script it refuses at its first write. Who sent several calls says for
/// himself that others of them may have had theirs.
pub(crate) fn of(error: RedisError, operation: &'static str) -> PortError {
    let (kind, what) = classify(&error);
    let reached = error.is_io_error() && !error.is_connection_refusal();
    let text = if what.is_empty() { format!("Redis: {error}") } else { format!("Redis: {what}: {error}") };
    let mapped = PortError::new(kind, operation, text).with_source(error);
    // The connection went, or no answer came in time: the script may have run.
    if reached || kind == ErrorKind::Corrupt { mapped.effect_unknown() } else { mapped }
}

/// The deadline passed.
pub(crate) fn late(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Timeout, operation, "Redis did not answer in time").effect_unknown()
}

/// What a server of this protocol never answers.
pub(crate) fn corrupt(operation: &'static str, what: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, format!("Redis: {what}")).effect_unknown()
}

/// Whether the server does not know a script by its hash (any more), so that it must be sent whole.
pub(crate) fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// Whether another connection may do where this one did not: another server may be behind the name by
/// now, or the credentials may be good by now.
pub(crate) fn wants_another_connection(error: &PortError) -> bool {
    error.detail().contains(DEMOTED)
        || matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Denied | ErrorKind::Corrupt)
}

const DEMOTED: &str = "the server is a replica and takes no writes";

fn classify(error: &RedisError) -> (ErrorKind, &'static str) {
    match error.kind() {
        Kind::Io if error.is_timeout() => (ErrorKind::Timeout, "no answer in time"),
        Kind::Io | Kind::ClusterConnectionNotFound => (ErrorKind::Unavailable, "not reached"),
        Kind::AuthenticationFailed => (ErrorKind::Denied, "the user or the password is refused"),
        Kind::InvalidClientConfig => (ErrorKind::Invalid, "the settings of the connection are refused"),
        Kind::Parse => (ErrorKind::Corrupt, "what answers does not speak its protocol"),
        Kind::UnexpectedReturnType => (ErrorKind::Corrupt, "an answer of another shape"),
        Kind::Server(kind) => of_server(kind, error),
        // A certificate that is not trusted is one of these.
        Kind::Client => (ErrorKind::Unavailable, "the connection cannot be made"),
        _ => of_code(error),
    }
}

fn of_server(kind: ServerErrorKind, error: &RedisError) -> (ErrorKind, &'static str) {
    match kind {
        ServerErrorKind::BusyLoading => (ErrorKind::Unavailable, "the server still loads its data"),
        ServerErrorKind::ReadOnly => (ErrorKind::Unavailable, DEMOTED),
        ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain => {
            (ErrorKind::Unavailable, "the server does not serve for now")
        }
        ServerErrorKind::Moved | ServerErrorKind::Ask => (
            ErrorKind::Unsupported,
            "this is one node of a cluster, which has the key elsewhere; name a proxy that routes by slot, or \
             a single server",
        ),
        ServerErrorKind::CrossSlot => {
            (ErrorKind::Unsupported, "the server does not keep keys of one hash tag in one slot")
        }
        ServerErrorKind::NoPerm => (
            ErrorKind::Denied,
            "the user may not do that; it needs evalsha, eval, get, set, del, exists, time, hget, hmget, hset, hdel, \
             hexists, hincrby, hscan, zadd, zrem, zrangebylex and its keys",
        ),
        _ => of_code(error),
    }
}

/// Codes that the client has no name for, and errors within a script, which servers before 7 put into the
/// text of another.
fn of_code(error: &RedisError) -> (ErrorKind, &'static str) {
    let (code, detail) = (error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    let is = |name: &str| code == name || detail.contains(&format!("-{name} "));
    if is("OOM") || detail.contains("OOM command not allowed") {
        (ErrorKind::Throttled, "the server's memory is full (maxmemory)")
    } else if is("NOAUTH") || is("WRONGPASS") || detail.contains("Authentication required") {
        (ErrorKind::Denied, "the user or the password is refused")
    } else if is("NOPERM") {
        (ErrorKind::Denied, "the user may not do that")
    } else if is("READONLY") {
        (ErrorKind::Unavailable, DEMOTED)
    } else if is("LOADING") {
        (ErrorKind::Unavailable, "the server still loads its data")
    } else if is("MISCONF") {
        (ErrorKind::Unavailable, "the server cannot write to its disk and takes no writes")
    } else if is("NOREPLICAS") {
        (ErrorKind::Unavailable, "the server has too few replicas and takes no writes")
    } else if is("BUSY") {
        (ErrorKind::Unavailable, "another script keeps the server busy")
    } else if detail.contains("max number of clients") {
        (ErrorKind::Unavailable, "the server takes no more connections")
    } else if detail.contains("DB index is out of range")
        || detail.contains("SELECT is not allowed in cluster")
    {
        (ErrorKind::Invalid, "the server has no database of that number")
    } else if detail.contains("unknown command") {
        (ErrorKind::Unsupported, "the server does not run scripts")
    } else {
        (ErrorKind::Unexpected, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::{Effect, Retry};
    use redis::make_extension_error;
    use std::io;

    fn answered(code: &str, detail: &str) -> PortError {
        of(make_extension_error(code.to_owned(), Some(detail.to_owned())), "x")
    }

    #[test]
    fn what_the_server_refuses_had_no_effect_and_says_whether_to_come_again() {
        for (code, kind, transient) in [
            ("OOM", ErrorKind::Throttled, true),
            ("MISCONF", ErrorKind::Unavailable, true),
            ("NOREPLICAS", ErrorKind::Unavailable, true),
            ("BUSY", ErrorKind::Unavailable, true),
            ("WRONGPASS", ErrorKind::Denied, false),
            ("NOAUTH", ErrorKind::Denied, false),
            ("STRANGE", ErrorKind::Unexpected, false),
        ] {
            let error = answered(code, "words");
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{code}");
            assert_eq!(matches!(error.retry(), Retry::Transient { .. }), transient, "{code}");
        }
        for (kind, expected) in [
            (ServerErrorKind::BusyLoading, ErrorKind::Unavailable),
            (ServerErrorKind::ReadOnly, ErrorKind::Unavailable),
            (ServerErrorKind::Moved, ErrorKind::Unsupported),
            (ServerErrorKind::NoPerm, ErrorKind::Denied),
        ] {
            let error = of(RedisError::from((kind.into(), "words")), "x");
            assert_eq!((error.kind(), error.effect()), (expected, Effect::None), "{kind:?}");
        }
    }

    #[test]
    fn an_error_within_a_script_is_found_in_the_text_of_an_older_server() {
        let text = "Error running script (call to f_1): @user_script:9: -READONLY You can't write against a read only replica. ";
        let error = answered("ERR", text);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(wants_another_connection(&error));
        let text =
            "Error running script: @user_script: 9: -OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(answered("ERR", text).kind(), ErrorKind::Throttled);
    }

    #[test]
    fn what_was_sent_and_not_answered_may_have_been_applied() {
        let broken = of(RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe)), "x");
        assert_eq!((broken.kind(), broken.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        let silent = of(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)), "x");
        assert_eq!((silent.kind(), silent.effect()), (ErrorKind::Timeout, Effect::Unknown));
        let refused = of(RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)), "x");
        assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
        assert!(refused.is_safe_to_retry());
    }
}

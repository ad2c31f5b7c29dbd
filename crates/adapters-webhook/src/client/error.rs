//! The one table from the client's errors to the port's.
//!
//! | what failed | kind | effect |
//! | --- | --- | --- |
//! | the address is not allowed | `Denied` | none |
//! | no connection: name, TCP, TLS, or not in time | `Unavailable` | none |
//! | no place among the requests at once, in time | `Throttled` | none |
//! | the request as it stands | `Invalid` | none |
//! | the answer is no HTTP | `Invalid` | unknown |
//! | the answer is too large | `TooLarge` | unknown |
//! | no answer, or not all of it, in time | `Timeout` | unknown |
//! | the connection, on the way | `Unavailable` | unknown |
//!
//! No text here holds more of an address than its host: paths and queries may be secrets.

use super::connector::ConnectError;
use http_body_util::LengthLimitError;
use hyper_util::client::legacy;
use ports::{BoxError, ErrorKind, PortError};
use std::{error::Error, time::Duration};

pub(super) const POST: &str = "webhooks.post";

/// No answer came.
pub(super) fn of_request(error: legacy::Error, host: &str) -> PortError {
    if let Some(ConnectError::Denied(why)) = find(&error) {
        return denied(POST, host, why);
    }
    if error.is_connect() {
        let detail = format!("no connection to `{host}` could be made: {}", innermost(&error));
        return PortError::new(ErrorKind::Unavailable, POST, detail).with_source(error);
    }
    let kind = of_hyper(find(&error));
    let detail = format!("{} `{host}`: {}", wording(kind), innermost(&error));
    PortError::new(kind, POST, detail).effect_unknown().with_source(error)
}

/// An answer came, and its body did not, or not all of it.
pub(super) fn of_body(error: BoxError, host: &str, bytes_max: usize) -> PortError {
    if find::<LengthLimitError>(&*error).is_some() {
        return too_large(host, bytes_max);
    }
    let kind = of_hyper(find(&*error));
    let detail = format!("{} `{host}`: {}", wording(kind), innermost(&*error));
    PortError::new(kind, POST, detail).effect_unknown().with_source(error)
}

pub(super) fn too_large(host: &str, bytes_max: usize) -> PortError {
    let detail = format!("the answer of `{host}` has more than the {bytes_max} bytes that are read");
    PortError::new(ErrorKind::TooLarge, POST, detail).effect_unknown()
}

/// The time was up; `connected` is whether there was a connection.
pub(super) fn late(host: &str, timeout: Duration, connected: bool) -> PortError {
    if connected {
        let detail = format!("`{host}` did not answer within {timeout:?}");
        PortError::new(ErrorKind::Timeout, POST, detail).effect_unknown()
    } else {
        let detail = format!("no connection to `{host}` could be made within {timeout:?}");
        PortError::new(ErrorKind::Unavailable, POST, detail)
    }
}

/// The time was up before there was a place among the requests at once.
pub(super) fn throttled(requests_max: usize) -> PortError {
    let detail = format!("{requests_max} requests to webhooks are under way already");
    PortError::new(ErrorKind::Throttled, POST, detail)
}

pub(super) fn denied(operation: &'static str, host: &str, why: &str) -> PortError {
    let detail = format!(
        "leads to `{host}`, whose address is {why}; only public addresses may be reached, and those that \
         `webhooks.allow` lists"
    );
    PortError::new(ErrorKind::Denied, operation, detail)
}

pub(super) fn invalid(operation: &'static str, detail: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Invalid, operation, detail)
}

fn of_hyper(error: Option<&hyper::Error>) -> ErrorKind {
    match error {
        Some(error) if error.is_parse_too_large() => ErrorKind::TooLarge,
        Some(error) if error.is_parse() => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

fn wording(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TooLarge => "too large is the head of the answer of",
        ErrorKind::Invalid => "no HTTP is the answer of",
        _ => "the connection failed on the way, to",
    }
}

/// The error of this type among the causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What is at the bottom of it.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

//! The one table from what went wrong to the port's errors.
//!
//! | what happened | becomes | tried again |
//! | --- | --- | --- |
//! | no connection: name, TCP, TLS | `Unavailable` | yes |
//! | the connection, on the way | `Unavailable` | yes |
//! | no answer, or not all of it, in time | `Timeout` | at other addresses |
//! | no place among the requests at once, in time | `Throttled` | at other addresses |
//! | 429 | `Throttled`, with its `Retry-After` | yes |
//! | 408, 425, 5xx | `Unavailable`, with its `Retry-After` | yes |
//! | 401 | `Denied` | no |
//! | 403, and 404 or another 4xx in the registry's shape | `Refused` | no |
//! | a redirect, another 4xx, an answer that is too large or none to the question | `Unavailable` | no |
//!
//! No text here holds more of an address than its host: what is before it may be secret.

use http::StatusCode;
use http_body_util::LengthLimitError;
use hyper_util::client::legacy;
use ports::{BoxError, ErrorKind, PortError, RegistryError, RegistryRefusal, Retry};
use serde::Deserialize;
use std::{error::Error, time::Duration};

/// The most characters of a registry's own sentence.
const MESSAGE_MAX: usize = 2_000;

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) error: RegistryError,
    /// Whether the next attempt may give something.
    pub(super) again: bool,
    /// Whether it took all the time that a request has: the same address is not waited for twice.
    pub(super) late: bool,
    /// When the registry wants it.
    pub(super) after: Option<Duration>,
}

impl Problem {
    fn transient(error: PortError, after: Option<Duration>) -> Self {
        let error = error.with_retry(Retry::Transient { after });
        Self { error: RegistryError::Failed(error), again: true, late: false, after }
    }

    /// What the next attempt would bring too; others may have more luck later, when somebody has mended it.
    fn lasting(error: PortError) -> Self {
        Self { error: RegistryError::Failed(error), again: false, late: false, after: None }
    }
}

/// A request that is being made: what errors are said of.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) operation: &'static str,
    pub(super) host: &'a str,
    /// Whether it may have had an effect once it was sent.
    pub(super) changes: bool,
}

impl About<'_> {
    fn error(self, kind: ErrorKind, what: impl std::fmt::Display) -> PortError {
        let error = PortError::new(kind, self.operation, format!("`{}` {what}", self.host));
        if self.changes { error.effect_unknown() } else { error }
    }

    /// No answer came.
    pub(super) fn of_request(self, error: legacy::Error) -> Problem {
        let why = innermost(&error).to_string();
        if error.is_connect() {
            let detail = format!("no connection to `{}` could be made: {why}", self.host);
            let mapped = PortError::new(ErrorKind::Unavailable, self.operation, detail).with_source(error);
            return Problem::transient(mapped, None);
        }
        let what = format!("did not answer: the connection failed on the way: {why}");
        Problem::transient(self.error(ErrorKind::Unavailable, what).with_source(error), None)
    }

    /// An answer came, and its body did not, or not all of it.
    pub(super) fn of_body(self, error: BoxError, bytes_max: usize) -> Problem {
        if find::<LengthLimitError>(&*error).is_some() {
            return self.too_large(bytes_max);
        }
        let what = format!("did not end its answer: {}", innermost(&*error));
        Problem::transient(self.error(ErrorKind::Unavailable, what).with_source(error), None)
    }

    pub(super) fn too_large(self, bytes_max: usize) -> Problem {
        let what = format!("answers with more than the {bytes_max} bytes that are read");
        Problem::lasting(self.error(ErrorKind::Unavailable, what))
    }

    /// The time was up.
    pub(super) fn late(self, timeout: Duration) -> Problem {
        let what = format!("did not answer within {timeout:?}");
        Problem { late: true, ..Problem::transient(self.error(ErrorKind::Timeout, what), None) }
    }

    /// The time was up before there was a place among the requests at once.
    pub(super) fn crowded(self, requests_max: usize) -> Problem {
        let detail = format!("{requests_max} requests to the schema registry are under way already");
        let error = PortError::new(ErrorKind::Throttled, self.operation, detail);
        Problem { late: true, ..Problem::transient(error, None) }
    }

    /// An answer that is none to the question.
    pub(super) fn nonsense(self, what: impl std::fmt::Display) -> RegistryError {
        let what = format!("does not answer as a schema registry does: {what}");
        RegistryError::Failed(self.error(ErrorKind::Unavailable, what))
    }

    /// An answer that is not of the 200s.
    pub(super) fn of_status(self, status: StatusCode, body: &[u8], after: Option<Duration>) -> Problem {
        let said: Option<Said> = serde_json::from_slice(body).ok();
        let sentence = said.as_ref().and_then(|said| said.message.as_deref()).unwrap_or_default();
        let sentence: String = sentence.chars().take(MESSAGE_MAX).collect();
        let quoted = if sentence.is_empty() { String::new() } else { format!(": {sentence}") };
        let number = status.as_u16();
        let answered = format!("answered {number}{quoted}");
        match number {
            401 => {
                let what = format!("{answered}; it wants another username or password");
                Problem::lasting(PortError::new(
                    ErrorKind::Denied,
                    self.operation,
                    format!("`{}` {what}", self.host),
                ))
            }
            429 => Problem::transient(
                PortError::new(ErrorKind::Throttled, self.operation, format!("`{}` {answered}", self.host)),
                after,
            ),
            408 | 425 | 500..=599 => Problem::transient(self.error(ErrorKind::Unavailable, answered), after),
            300..=399 => {
                let what = format!(
                    "answered {number}, a redirect, which is not followed; name the address that it leads to"
                );
                Problem::lasting(self.error(ErrorKind::Unavailable, what))
            }
            400..=499 => match verdict(number, said.and_then(|said| said.error_code)) {
                Some(code) => {
                    let message = if sentence.is_empty() {
                        format!("the schema registry {answered}")
                    } else {
                        sentence
                    };
                    let refusal = RegistryRefusal { code, message };
                    Problem { error: RegistryError::Refused(refusal), again: false, late: false, after: None }
                }
                None => {
                    let what = format!(
                        "does not answer as a schema registry does: it {answered}; its address must be what stands \
                         before `/subjects`"
                    );
                    Problem::lasting(self.error(ErrorKind::Unavailable, what))
                }
            },
            _ => Problem::lasting(self.error(ErrorKind::Unavailable, answered)),
        }
    }
}

/// What a registry says when it refuses.
#[derive(Deserialize)]
struct Said {
    error_code: Option<u32>,
    message: Option<String>,
}

/// The code of a refusal, if it is one.
fn verdict(status: u16, code: Option<u32>) -> Option<u32> {
    let status = u32::from(status);
    let of_status = code.filter(|code| *code == status || code / 100 == status);
    match status {
        // Who may not is told so by what stands before a registry too.
        403 => Some(of_status.unwrap_or(status)),
        // Without the two digits it is the path that is not known.
        404 => of_status.filter(|code| *code != status),
        _ => code.map(|_| of_status.unwrap_or(status)),
    }
}

pub(super) fn invalid(detail: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Invalid, "schema_registry.open", detail)
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_verdict_is_told_apart_from_what_stands_before_a_registry() {
        for (status, code, verdict) in [
            (404, Some(40403), Some(40403)),
            (404, Some(404), None),
            (404, None, None),
            (404, Some(42201), None),
            (409, Some(409), Some(409)),
            (409, Some(40901), Some(40901)),
            (422, Some(40401), Some(422)),
            (422, None, None),
            (403, None, Some(403)),
            (403, Some(40301), Some(40301)),
        ] {
            assert_eq!(super::verdict(status, code), verdict, "{status} {code:?}");
        }
    }
}

//! What a handler says of an event that it could not handle.

use ports::{BoxError, Failure, Outcome};
use std::time::Duration;

/// The most causes that are kept of an error.
const CAUSES_MAX: usize = 32;

/// What is to become of an event that was not handled, and why.
///
/// Every error converts, so that `?` works: it is [`Self::Retry`] then, named after the error's type, with
/// its causes. This is no [`std::error::Error`] itself, as otherwise it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerError {
    /// The event is to come again; once its attempts are used up it is a dead letter.
    Retry {
        /// Not before; `None` leaves it to the subscription's backoff.
        after: Option<Duration>,
        /// Why.
        failure: Failure,
    },
    /// The handler as a whole cannot do its work, as when a database is down, and the event is not at fault.
    /// It is to come again; when nearly all say so the circuit opens, and no attempt is counted until it has
    /// closed.
    Outage {
        /// Not before; `None` leaves it to the subscription's backoff.
        after: Option<Duration>,
        /// Why.
        failure: Failure,
    },
    /// The event can never be handled: it becomes a dead letter at once.
    Reject {
        /// Why.
        failure: Failure,
    },
    /// Nothing more is to be delivered at all: the subscription pauses, says why, and is resumed by an
    /// operator. The event itself comes again then, with no attempt counted.
    Stop {
        /// Why.
        failure: Failure,
    },
}

impl HandlerError {
    /// The event is to come again, when the subscription's backoff says.
    pub fn retry<E: Into<BoxError>>(error: E) -> Self {
        Self::Retry { after: None, failure: failure("failed", error) }
    }

    /// The event is to come again, but not before `after` has passed.
    pub fn retry_after<E: Into<BoxError>>(after: Duration, error: E) -> Self {
        Self::Retry { after: Some(after), failure: failure("failed", error) }
    }

    /// The handler cannot do its work for now, whatever the event.
    pub fn outage<E: Into<BoxError>>(error: E) -> Self {
        Self::Outage { after: None, failure: failure("outage", error) }
    }

    /// The event can never be handled.
    pub fn reject<E: Into<BoxError>>(error: E) -> Self {
        Self::Reject { failure: failure("rejected", error) }
    }

    /// Nothing more is to be delivered.
    pub fn stop<E: Into<BoxError>>(error: E) -> Self {
        Self::Stop { failure: failure("stopped", error) }
    }

    /// The same under another kind: a short, stable word that dead letters are grouped by.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        let (Self::Retry { failure, .. }
        | Self::Outage { failure, .. }
        | Self::Reject { failure }
        | Self::Stop { failure }) = &mut self;
        failure.kind = kind.into();
        self
    }

    /// What went wrong.
    pub fn failure(&self) -> &Failure {
        let (Self::Retry { failure, .. }
        | Self::Outage { failure, .. }
        | Self::Reject { failure }
        | Self::Stop { failure }) = self;
        failure
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl From<HandlerError> for Outcome {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Retry { after, failure } => Self::Retry { after, outage: false, failure },
            HandlerError::Outage { after, failure } => Self::Retry { after, outage: true, failure },
            HandlerError::Reject { failure } => Self::Reject { failure },
            HandlerError::Stop { failure } => Self::Gone { failure },
        }
    }
}

/// An error as it is kept; `otherwise` is its kind where its type says nothing.
pub(super) fn failure<E: Into<BoxError>>(otherwise: &str, error: E) -> Failure {
    let kind = kind_of(std::any::type_name::<E>()).unwrap_or(otherwise).to_owned();
    let error: BoxError = error.into();
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let chain = causes.take(CAUSES_MAX).map(ToString::to_string).collect();
    Failure { kind, message: error.to_string(), chain }
}

/// The name of an error's type without its path and parameters; with the path where it is just `Error`. None
/// of strings and boxes.
fn kind_of(type_name: &str) -> Option<&str> {
    let path = type_name.split('<').next().unwrap_or(type_name);
    let is_path = path.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
    if !is_path || path.starts_with("alloc::") || path == "str" {
        return None;
    }
    Some(match path.rsplit("::").next() {
        Some("Error") | None => path,
        Some(name) => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order cannot be booked")]
    struct NotBooked(#[source] std::num::ParseIntError);

    fn booked(text: &str) -> Result<u32, HandlerError> {
        Ok(text.parse().map_err(NotBooked)?)
    }

    #[test]
    fn any_error_is_a_retry_with_its_type_and_its_causes() {
        let HandlerError::Retry { after, failure } = booked("x").unwrap_err() else {
            panic!("an error is to come again")
        };
        assert_eq!(after, None);
        assert_eq!(failure.kind, "NotBooked");
        assert_eq!(failure.message, "the order cannot be booked");
        assert_eq!(failure.chain, ["invalid digit found in string"]);
    }

    #[test]
    fn a_sentence_is_a_reason_too_and_a_kind_can_be_said() {
        assert_eq!(HandlerError::reject("no such customer").failure().kind, "rejected");
        assert_eq!(HandlerError::retry(format!("later, {}", 1)).failure().kind, "failed");
        let boxed: BoxError = "boxed".into();
        assert_eq!(HandlerError::outage(boxed).failure().kind, "outage");
        let named = HandlerError::reject("no such customer").with_kind("no-customer");
        assert_eq!((&*named.failure().kind, &*named.failure().message), ("no-customer", "no such customer"));
    }

    #[test]
    fn an_error_that_is_only_called_so_is_named_with_its_path() {
        let kind = HandlerError::from(std::io::Error::other("x")).failure().kind.clone();
        assert!(kind.starts_with("std::io") && kind.ends_with("Error"), "{kind}");
    }

    #[test]
    fn causes_that_never_end_are_cut_off() {
        #[derive(Debug, thiserror::Error)]
        #[error("round and round")]
        struct Round;
        #[derive(Debug)]
        struct Wrap(Round);
        impl std::fmt::Display for Wrap {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("wrap")
            }
        }
        impl std::error::Error for Wrap {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                let _ = &self.0;
                Some(self)
            }
        }
        assert_eq!(HandlerError::from(Wrap(Round)).failure().chain.len(), CAUSES_MAX);
    }
}

//! Answers, and what they say of the deliveries that were sent.
//!
//! | answer | outcome |
//! | --- | --- |
//! | 2xx | `Ack` (in a batch: what it says of each) |
//! | 410 | `Gone` |
//! | 401, 403, 404, 405, 408, 425, 429, 5xx, a redirect, what is no status | `Retry`, an outage |
//! | other 4xx | `Reject` |
//! | nothing, and nothing was sent | `NotReached` |
//! | nothing, too much, or no HTTP | `Retry`, an outage |
//!
//! A wrong route or credential (401, 403, 404, 405) is the operator's to mend, and not the event's fault.

use super::{excerpt::Excerpts, retry_after};
use ports::{Effect, ErrorKind, Failure, Outcome, PortError, Timestamp, WebhookResponse};
use std::error::Error as _;

/// The most causes of a failure that are told.
const CHAIN_MAX: usize = 8;

/// What a status says; `None` is a 2xx, of which the body may say more.
pub(super) fn of_status(response: &WebhookResponse, now: Timestamp, excerpts: &Excerpts) -> Option<Outcome> {
    let status = response.status;
    let failure = |what: &str| {
        let excerpt = excerpts.of(&response.body);
        let said = if excerpt.is_empty() { String::new() } else { format!(": {excerpt}") };
        Failure::new(format!("http-{status}"), format!("the webhook answered {status}{what}{said}"))
    };
    let retry = |what: &str| Outcome::Retry {
        after: response.retry_after.as_deref().and_then(|text| retry_after::parse(text, now)),
        outage: true,
        failure: failure(what),
    };
    match status {
        200..=299 => None,
        300..=399 => Some(retry(", a redirect, which is not followed")),
        410 => Some(Outcome::Gone { failure: failure(", which asks for no more requests") }),
        401 | 403 | 404 | 405 | 408 | 425 | 429 | 500..=599 => Some(retry("")),
        400..=499 => Some(Outcome::Reject { failure: failure("") }),
        _ => Some(retry(", which is no final status")),
    }
}

/// What it says that no answer came.
pub(super) fn of_error(error: &PortError, excerpts: &Excerpts) -> Outcome {
    let kind = match (error.effect(), error.kind()) {
        (_, ErrorKind::Denied) => "denied",
        (Effect::None, ErrorKind::Throttled) => "throttled",
        (Effect::None, ErrorKind::Unsupported) => "unsupported",
        (Effect::None, ErrorKind::Invalid | ErrorKind::TooLarge) => "request-invalid",
        (Effect::None, _) => "connect",
        (Effect::Unknown, ErrorKind::Timeout) => "timeout",
        (Effect::Unknown, ErrorKind::TooLarge) => "answer-too-large",
        (Effect::Unknown, ErrorKind::Invalid | ErrorKind::Corrupt) => "answer-invalid",
        (Effect::Unknown, _) => "connection-lost",
    };
    let mut failure = Failure::new(kind, excerpts.of(error.detail().as_bytes()));
    let mut cause = error.source();
    while let Some(error) = cause.take_if(|_| failure.chain.len() < CHAIN_MAX) {
        failure.chain.push(excerpts.of(error.to_string().as_bytes()));
        cause = error.source();
    }
    match (error.effect(), error.kind()) {
        (Effect::None, _) | (_, ErrorKind::Denied) => Outcome::NotReached { failure },
        (Effect::Unknown, _) => Outcome::Retry { after: None, outage: true, failure },
    }
}

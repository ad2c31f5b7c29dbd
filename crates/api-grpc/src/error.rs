//! The one mapping of the domain's error to gRPC, with the stable code as `ErrorInfo.reason`.

use crate::proto;
use domain::{Error, ErrorCode};
use ports::Effect;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of [`tonic_types::ErrorInfo`].
const DOMAIN: &str = "eventstreaming";

/// The status of a call that failed.
pub(crate) fn status(error: &Error) -> Status {
    let mut metadata = HashMap::new();
    if let Some(effect) = effect(error) {
        metadata.insert("effect".to_owned(), effect.to_owned());
    }
    let mut details = ErrorDetails::with_error_info(error.code().as_str(), DOMAIN, metadata);
    for field in error.fields() {
        details.add_bad_request_violation(&field.field, &field.message);
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code(error.code()), error.detail(), details)
}

/// Whether a status is one of [`status`]'s.
pub(crate) fn has_code(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN)
}

/// What became of an item that failed.
pub(crate) fn item(error: &Error) -> proto::Error {
    let field = |field: &domain::FieldError| proto::FieldError {
        field: field.field.clone(),
        message: field.message.clone(),
    };
    proto::Error {
        code: error.code().as_str().to_owned(),
        detail: error.detail().to_owned(),
        errors: error.fields().iter().map(field).collect(),
        effect: effect(error).map(str::to_owned),
    }
}

fn effect(error: &Error) -> Option<&'static str> {
    error.effect().map(|effect| match effect {
        Effect::None => "none",
        Effect::Unknown => "unknown",
    })
}

fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::RequestTooLarge
        | ErrorCode::EventTooLarge
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::SchemaRejected
        | ErrorCode::UnsupportedMediaType => Code::InvalidArgument,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::Forbidden => Code::PermissionDenied,
        ErrorCode::TopicNotFound
        | ErrorCode::SubscriptionNotFound
        | ErrorCode::GroupNotFound
        | ErrorCode::ReplayNotFound
        | ErrorCode::DeadLetterNotFound
        | ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::PredecessorFailed | ErrorCode::IdempotencyInFlight | ErrorCode::Conflict => Code::Aborted,
        ErrorCode::GroupActive => Code::FailedPrecondition,
        ErrorCode::Internal => Code::Internal,
        ErrorCode::MethodNotAllowed | ErrorCode::NotSupported => Code::Unimplemented,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Timeout => Code::DeadlineExceeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_and_stands_as_the_reason() {
        for code in ErrorCode::ALL {
            let status = status(&Error::new(code, "why").with_field("a.b", "is wrong"));
            assert_ne!(status.code(), Code::Ok);
            let details = status.get_error_details();
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(code.as_str()));
            let violations = &details.bad_request().expect("fields are told").field_violations;
            assert_eq!(
                (violations[0].field.as_str(), violations[0].description.as_str()),
                ("a.b", "is wrong")
            );
        }
    }
}

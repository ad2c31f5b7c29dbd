//! What went wrong, in Confluent's shape.

use crate::{
    problem::{Problem, status},
    respond::{Reply, reply},
};
use domain::{
    Error,
    schemas::registry::{Reason, SchemaError},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// An answer that is none of 200.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) message: String,
    allow: Option<&'static str>,
    retry_after: Option<Duration>,
    close: bool,
}

/// The code of each reason. Exhaustive on purpose: a new reason must be given one here.
fn code(reason: Reason) -> u32 {
    match reason {
        Reason::SubjectNotFound => 40401,
        Reason::VersionNotFound => 40402,
        Reason::SchemaNotFound => 40403,
        Reason::SubjectSoftDeleted => 40404,
        Reason::SubjectNotSoftDeleted => 40405,
        Reason::VersionSoftDeleted => 40406,
        Reason::VersionNotSoftDeleted => 40407,
        Reason::ConfigNotSet => 40408,
        Reason::ModeNotSet => 40409,
        Reason::Incompatible => 40901,
        Reason::InvalidRequest => 422,
        Reason::InvalidSchema => 42201,
        Reason::InvalidVersion => 42202,
        Reason::InvalidLevel => 42203,
        Reason::InvalidMode => 42204,
        Reason::NotPermitted => 42205,
        Reason::ReferenceExists => 42206,
        Reason::IdMismatch => 42207,
        Reason::InvalidSubject => 42208,
        Reason::TooLarge => 42209,
        Reason::InvalidRuleSet => 42210,
        Reason::Internal => 500,
        Reason::NotSupported => 501,
        Reason::Store => 50001,
        Reason::Timeout => 50002,
    }
}

impl Refusal {
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), allow: None, retry_after: None, close: false }
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "HTTP 404 Not Found: there is nothing at this path of the schema registry")
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(405, format!("HTTP 405 Method Not Allowed: this path takes {allow}"))
        }
    }

    pub(super) fn unsupported_media_type(given: &str) -> Self {
        let given = crate::json::short(given);
        let message = format!(
            "HTTP 415 Unsupported Media Type: the body must be `{}` or `application/json`, not `{given}`",
            super::MEDIA_TYPE
        );
        Self::new(415, message)
    }

    /// A parameter or a member of a body that cannot be.
    pub(super) fn of_request(error: &Error) -> Self {
        Self::new(422, error.detail())
    }

    /// A body that could not be read: nothing more of its connection is.
    pub(super) fn of_body(problem: &Problem) -> Self {
        let code = u32::from(status(problem.code()).as_u16());
        Self { close: true, ..Self::new(code, problem.detail()) }
    }

    pub(super) fn status(&self) -> StatusCode {
        let mut status = self.code;
        while status >= 1000 {
            status /= 10;
        }
        u16::try_from(status)
            .ok()
            .and_then(|it| StatusCode::from_u16(it).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn reply(&self, media_type: HeaderValue) -> Reply {
        let body = json!({"error_code": self.code, "message": self.message});
        let mut reply = reply(self.status(), media_type, body.to_string().into_bytes());
        let headers = reply.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 3600) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl From<SchemaError> for Refusal {
    fn from(error: SchemaError) -> Self {
        // What a registry outside says is told by its own code.
        let code = error.outside_code().unwrap_or_else(|| code(error.reason()));
        Self { retry_after: error.retry_after(), ..Self::new(code, error.message()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_first_three_digits() {
        for (code, status) in [(404, 404), (40401, 404), (40901, 409), (422, 422), (42210, 422), (50001, 500)]
        {
            assert_eq!(Refusal::new(code, "").status().as_u16(), status);
        }
    }
}

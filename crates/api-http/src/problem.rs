//! Problem details (RFC 9457): the one shape of everything that went wrong.

use crate::{
    json::{push_string, push_u64},
    respond::{Reply, reply},
};
use domain::{Error, ErrorCode};
use http::{HeaderValue, StatusCode, header};
use ports::Effect;

/// The status of each code. Exhaustive on purpose: a new code must be given one here.
pub(crate) fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::TopicNotFound
        | ErrorCode::SubscriptionNotFound
        | ErrorCode::GroupNotFound
        | ErrorCode::ReplayNotFound
        | ErrorCode::DeadLetterNotFound
        | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::AlreadyExists
        | ErrorCode::PredecessorFailed
        | ErrorCode::IdempotencyInFlight
        | ErrorCode::GroupActive
        | ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::IdempotencyKeyReused | ErrorCode::SchemaRejected => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RequestTooLarge | ErrorCode::EventTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::NotSupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// What the fields of an event are called in the format that it came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As the service calls them.
    #[default]
    Service,
    /// As attributes of CloudEvents in JSON: extensions stand at the top.
    CloudEvents,
    /// As headers of CloudEvents in binary mode.
    Binary,
}

impl Naming {
    fn push(self, out: &mut String, field: &str) {
        match self {
            Self::Service => out.push_str(match field {
                "messagetype" => "messageType",
                field => field,
            }),
            Self::CloudEvents => out.push_str(match field {
                "key" => "partitionkey",
                field => field.strip_prefix("extensions.").unwrap_or(field),
            }),
            Self::Binary => match field {
                "key" => out.push_str("ce-partitionkey"),
                "datacontenttype" => out.push_str("content-type"),
                "topic" | "data" | "events" | "extensions" | "headers" => out.push_str(field),
                field if field.starts_with("ce-") => out.push_str(field),
                // A path within the value.
                field if field.starts_with("data.") || field.starts_with("data[") => out.push_str(field),
                field => {
                    out.push_str("ce-");
                    out.push_str(field.strip_prefix("extensions.").unwrap_or(field));
                }
            },
        }
    }
}

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct Problem {
    error: Error,
    naming: Naming,
    /// The item of a batch that is at fault.
    index: Option<usize>,
    allow: Option<&'static str>,
    close: bool,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, naming: Naming::Service, index: None, allow: None, close: false }
    }
}

impl Problem {
    /// A problem of an event that came in a format with names of its own.
    pub(crate) fn named(error: Error, naming: Naming) -> Self {
        Self { naming, ..Self::from(error) }
    }

    /// The same problem, as one of an item of a batch that is refused as a whole.
    pub(crate) fn of_item(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// The place is there, and takes these methods alone.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Self { allow: Some(allow), ..Self::from(Error::new(ErrorCode::MethodNotAllowed, detail)) }
    }

    /// The same problem, after which the connection ends: what is left of the request is not read.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// Its code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.error.code()
    }

    /// A sentence about this occurrence.
    pub(crate) fn detail(&self) -> &str {
        self.error.detail()
    }

    /// The answer.
    pub(crate) fn reply(&self, correlation_id: &str) -> Reply {
        let mut out = Vec::with_capacity(256);
        push_problem(&mut out, &self.error, self.naming, self.index, correlation_id);
        let status = status(self.error.code());
        let mut reply = reply(status, HeaderValue::from_static("application/problem+json"), out);
        let headers = reply.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(after) = self.error.retry_after() {
            // At least the time asked for: the header has whole seconds.
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 3600) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

/// Writes a problem; of the item `index` of a batch where that is given.
pub(crate) fn push_problem(
    out: &mut Vec<u8>,
    error: &Error,
    naming: Naming,
    index: Option<usize>,
    correlation_id: &str,
) {
    let code = error.code();
    out.extend_from_slice(b"{\"type\":\"urn:event-streaming:problem:");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"title\":");
    push_string(out, code.title());
    out.extend_from_slice(b",\"status\":");
    push_u64(out, u64::from(status(code).as_u16()));
    out.extend_from_slice(b",\"code\":\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"detail\":");
    push_string(out, error.detail());
    if !error.fields().is_empty() {
        out.extend_from_slice(b",\"errors\":[");
        for (at, wrong) in error.fields().iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"field\":" } else { b",{\"field\":" });
            let mut field = index.map_or_else(String::new, |index| format!("events[{index}]"));
            if !field.is_empty() && !wrong.field.is_empty() {
                field.push('.');
            }
            naming.push(&mut field, &wrong.field);
            push_string(out, &field);
            out.extend_from_slice(b",\"message\":");
            push_string(out, &wrong.message);
            out.push(b'}');
        }
        out.push(b']');
    }
    match error.effect() {
        Some(Effect::None) => out.extend_from_slice(b",\"effect\":\"none\""),
        Some(Effect::Unknown) => out.extend_from_slice(b",\"effect\":\"unknown\""),
        None => {}
    }
    out.extend_from_slice(b",\"correlationId\":");
    push_string(out, correlation_id);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(error: &Error, naming: Naming, index: Option<usize>) -> Value {
        let mut out = Vec::new();
        push_problem(&mut out, error, naming, index, "c-1");
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_code_has_the_status_that_clients_are_told() {
        let expected = [
            (400, "invalid_request"),
            (401, "unauthenticated"),
            (403, "forbidden"),
            (404, "topic_not_found"),
            (404, "subscription_not_found"),
            (404, "group_not_found"),
            (404, "replay_not_found"),
            (404, "dead_letter_not_found"),
            (404, "not_found"),
            (405, "method_not_allowed"),
            (409, "already_exists"),
            (409, "predecessor_failed"),
            (409, "idempotency_in_flight"),
            (422, "idempotency_key_reused"),
            (422, "schema_rejected"),
            (409, "group_active"),
            (409, "conflict"),
            (413, "request_too_large"),
            (413, "event_too_large"),
            (415, "unsupported_media_type"),
            (500, "internal"),
            (501, "not_supported"),
            (503, "unavailable"),
            (504, "timeout"),
        ];
        let mapped = ErrorCode::ALL.map(|code| (status(code).as_u16(), code.as_str()));
        assert_eq!(mapped, expected);
    }

    #[test]
    fn a_problem_says_all_that_is_known() {
        let error = Error::invalid("type", "must be \"a string\"");
        assert_eq!(
            written(&error, Naming::Service, Some(3)),
            json!({
                "type": "urn:event-streaming:problem:invalid_request", "title": "The request is not valid",
                "status": 400, "code": "invalid_request", "detail": "`type` must be \"a string\"",
                "errors": [{"field": "events[3].type", "message": "must be \"a string\""}],
                "correlationId": "c-1"
            })
        );
        let unavailable = written(&Error::new(ErrorCode::Unavailable, "gone"), Naming::Service, None);
        assert_eq!((&unavailable["effect"], &unavailable["errors"]), (&json!("none"), &Value::Null));
        let timeout = written(&Error::new(ErrorCode::Timeout, "late"), Naming::Service, None);
        assert_eq!(timeout["effect"], "unknown");
    }

    #[test]
    fn fields_are_called_as_the_format_calls_them() {
        let field = |field: &str, naming, index| {
            written(&Error::invalid(field, "x"), naming, index)["errors"][0]["field"].clone()
        };
        assert_eq!(field("extensions.region", Naming::CloudEvents, None), "region");
        assert_eq!(field("key", Naming::CloudEvents, Some(1)), "events[1].partitionkey");
        assert_eq!(field("time", Naming::Binary, None), "ce-time");
        assert_eq!(field("datacontenttype", Naming::Binary, None), "content-type");
        assert_eq!(field("topic", Naming::Binary, None), "topic");
        assert_eq!(field("data.a.b", Naming::Binary, None), "data.a.b");
        assert_eq!(field("messagetype", Naming::Binary, None), "ce-messagetype");
        assert_eq!(field("messagetype", Naming::Service, None), "messageType");
        assert_eq!(field("", Naming::Service, Some(0)), "events[0]");
    }

    #[test]
    fn the_time_to_wait_is_rounded_up_to_seconds() {
        let reply = Problem::from(Error::new(ErrorCode::Unavailable, "gone")).reply("c");
        assert_eq!(reply.headers()[header::RETRY_AFTER], "1");
        assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

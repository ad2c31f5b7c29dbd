//! What a request says beside its body: names in its path, its query, its headers.

use bytestring::ByteString;
use domain::{Error, Result};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The header that ties what belongs together.
pub(crate) const CORRELATION_ID: &str = "x-correlation-id";
/// A correlation id beyond this is somebody's mistake; another one is made.
const CORRELATION_ID_BYTES_MAX: usize = 256;

/// The correlation id that a client gave, or a new one.
///
/// One that is empty, too long, or holds what does not show in a log is replaced: the answer says by
/// which.
pub(crate) fn correlation_id(headers: &HeaderMap) -> ByteString {
    let given = headers.get(CORRELATION_ID).and_then(|value| value.to_str().ok()).map(str::trim);
    match given {
        Some(given) if (1..=CORRELATION_ID_BYTES_MAX).contains(&given.len()) && !given.contains('\t') => {
            given.into()
        }
        _ => {
            let mut buffer = uuid::Uuid::encode_buffer();
            let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            ByteString::from(&*uuid.hyphenated().encode_lower(&mut buffer))
        }
    }
}

/// The value of a correlation id for a header.
pub(crate) fn header_value(correlation_id: &ByteString) -> HeaderValue {
    // What was taken came from a header, and what was made is a UUID.
    HeaderValue::from_maybe_shared(correlation_id.as_bytes().clone())
        .unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// The W3C trace context, `traceparent` and `tracestate`, where it is well-formed.
///
/// A malformed one is ignored, as the standard wants: the trace begins anew.
pub(crate) fn trace_context(headers: &HeaderMap) -> (Option<ByteString>, Option<ByteString>) {
    let Some(parent) = headers.get("traceparent").and_then(|value| value.to_str().ok()) else {
        return (None, None);
    };
    if !is_traceparent(parent) {
        return (None, None);
    }
    let state = headers.get("tracestate").and_then(|value| value.to_str().ok());
    let state = state.filter(|state| (1..=512).contains(&state.len()) && !state.contains('\t'));
    (Some(parent.into()), state.map(ByteString::from))
}

fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let mut parts = text.split('-');
    let well_formed = lengths.iter().all(|length| {
        let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        parts.next().is_some_and(|part| part.len() == *length && hex(part))
    });
    well_formed && (parts.next().is_none() || !text.starts_with("00")) && !text.starts_with("ff")
}

/// A name in a path, decoded.
pub(crate) fn path_name<'a>(field: &str, segment: &'a str) -> Result<Cow<'a, str>> {
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| Error::invalid(field, "must be UTF-8 where it is percent-encoded"))
}

/// The type of a body without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// The parameters of a query, all of which must be known and stand there once.
///
/// A `+` is a plus, as in a time's offset; a space is `%20`.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self> {
        let mut found: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let shown = crate::json::short(&name);
            if !known.contains(&&*name) {
                return Err(crate::json::unknown_field(shown.to_owned(), &name, known));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Error::invalid(shown, "is given twice"));
            }
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| Error::invalid(shown, "must be UTF-8 where it is percent-encoded"))?;
            found.push((name, value));
        }
        Ok(Self(found))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || {
            Error::invalid(name, format!("must be a whole number (given: {:?})", crate::json::short(text)))
        };
        text.parse().map(Some).map_err(|_| wrong())
    }

    pub(crate) fn flag(&self, name: &str, otherwise: bool) -> Result<bool> {
        match self.text(name) {
            None => Ok(otherwise),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                let given = crate::json::short(other);
                Err(Error::invalid(name, format!("must be `true` or `false` (given: {given:?})")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_correlation_id_is_taken_where_it_can_be_and_made_otherwise() {
        assert_eq!(correlation_id(&headers(CORRELATION_ID, "trace-me-7")), "trace-me-7");
        for given in ["", &"x".repeat(257), "a\tb"] {
            let made = correlation_id(&headers(CORRELATION_ID, given));
            assert!(uuid::Uuid::parse_str(&made).is_ok(), "{given:?} gave {made}");
        }
        assert_ne!(correlation_id(&HeaderMap::new()), correlation_id(&HeaderMap::new()));
    }

    #[test]
    fn a_malformed_trace_context_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_context(&headers("traceparent", good)).0.as_deref(), Some(good));
        for bad in ["", "00", "00-XX-b7ad6b7169203331-01", &good.to_uppercase(), &format!("{good}-more")] {
            assert_eq!(trace_context(&headers("traceparent", bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn unknown_and_doubled_parameters_are_named() {
        let field =
            |query| Query::read(Some(query), &["from", "limit"]).unwrap_err().fields()[0].field.clone();
        assert_eq!(field("typo=1"), "typo");
        assert_eq!(field("from=a&from=b"), "from");
        assert_eq!(field("from=%ff"), "from");
        let query =
            Query::read(Some("from=2026-01-01T00:00:00+01:00&limit=%31"), &["from", "limit"]).unwrap();
        assert_eq!(query.text("from"), Some("2026-01-01T00:00:00+01:00"));
        assert_eq!(query.integer("limit").unwrap(), Some(1));
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "[a-z0-9=&%+:,fF]{0,40}") {
            if let Err(error) = Query::read(Some(&query), &["from", "limit"]) {
                prop_assert_eq!(error.code(), domain::ErrorCode::InvalidRequest);
            }
        }
    }
}

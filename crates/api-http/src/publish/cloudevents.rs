//! CloudEvents 1.0 as the standard has them: the JSON format (structured and batched), and binary mode of
//! its HTTP binding.

use super::draft::{ATTRIBUTES, Draft, Source};
use crate::json::{members, short};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{Error, Event, Limits, Result, event::parse_time};
use http::HeaderMap;
use percent_encoding::percent_decode;

/// What an event must have (section "REQUIRED Attributes").
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Reads one event in the JSON format.
pub(crate) fn read<'a>(source: Source<'a>, raw: &'a str) -> Result<Event> {
    let mut draft = Draft::default();
    members(raw, |name, raw| {
        if draft.attribute(source, &name, raw)? {
            return Ok(());
        }
        let field = short(&name);
        check_name(field, &name)?;
        match &*name {
            "partitionkey" => draft.key(source, &name, raw),
            "idempotencykey" => draft.idempotency_key(source, raw),
            "messagetype" => draft.message_type(source, &name, raw),
            _ => {
                // Equal names are told by the event's own check.
                if let Some(value) = source.scalar(field, raw)? {
                    draft.event.extensions.push((ByteString::from(&*name), value));
                }
                source.check_count(field, draft.event.extensions.len())
            }
        }
    })?;
    for name in REQUIRED {
        let there = match name {
            "specversion" => draft.has(name),
            "id" => draft.event.id.is_some(),
            "source" => draft.event.source.is_some(),
            _ => draft.event.event_type.is_some(),
        };
        if !there {
            return Err(Error::invalid(name, "is missing; a CloudEvent must have it"));
        }
    }
    draft.finish(source)
}

/// Reads an event whose attributes stand in `ce-*` headers, each of which may be left out, and whose value
/// is the body.
pub(crate) fn read_binary(headers: &HeaderMap, body: Bytes, limits: &Limits) -> Result<Event> {
    let mut event = Event { data: Some(body), ..Event::default() };
    if let Some(kind) = headers.get(http::header::CONTENT_TYPE) {
        let text = kind.to_str().map_err(|_| Error::invalid("datacontenttype", "must be text"))?;
        event.content_type = Some(text.into());
    }
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        let field = short(header.as_str());
        check_name(field, name)?;
        // Section 3.1.3.2: what is not printable ASCII stands percent-encoded, as UTF-8.
        let text = percent_decode(value.as_bytes())
            .decode_utf8()
            .map_err(|_| Error::invalid(field, "must be UTF-8 where it is percent-encoded"))?;
        let text = ByteString::from(&*text);
        let slot = match name {
            "specversion" if text == "1.0" => continue,
            "specversion" => {
                return Err(Error::invalid(field, "must be `1.0`, the version that is understood"));
            }
            "time" => {
                let time = parse_time(&text).ok_or_else(|| {
                    Error::invalid(field, format!("must be RFC 3339 (given: {:?})", short(&text)))
                })?;
                if event.time.replace(time).is_some() {
                    return Err(Error::invalid(field, "is given twice"));
                }
                continue;
            }
            "partitionkey" => {
                if event.key.replace(text.into_bytes()).is_some() {
                    return Err(Error::invalid(field, "is given twice"));
                }
                continue;
            }
            "datacontenttype" | "data" => {
                return Err(Error::invalid(field, "is said by `content-type` and the body in binary mode"));
            }
            "idempotencykey" => &mut event.idempotency_key,
            "messagetype" => &mut event.message_type,
            "id" => &mut event.id,
            "type" => &mut event.event_type,
            "source" => &mut event.source,
            "subject" => &mut event.subject,
            "dataschema" => &mut event.data_schema,
            "tenantid" => &mut event.tenant_id,
            "userid" => &mut event.user_id,
            "correlationid" => &mut event.correlation_id,
            "causationid" => &mut event.causation_id,
            "traceparent" => &mut event.traceparent,
            "tracestate" => &mut event.tracestate,
            _ => {
                event.extensions.push((name.into(), text));
                if event.extensions.len() > limits.headers_max {
                    let most = limits.headers_max;
                    return Err(Error::invalid("extensions", format!("must have at most {most} entries")));
                }
                continue;
            }
        };
        if slot.replace(text).is_some() {
            return Err(Error::invalid(field, "is given twice"));
        }
    }
    Ok(event)
}

/// Section "Naming Conventions": lower-case letters and digits; 20 of them are enough.
fn check_name(field: &str, name: &str) -> Result<()> {
    let fits = (1..=20).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits || ATTRIBUTES.contains(&name) {
        return Ok(());
    }
    Err(Error::invalid(field, "must have a name of 1 to 20 characters of a-z and 0-9"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;
    use proptest::prelude::*;

    fn structured(body: &str) -> Result<Event> {
        let body = ByteString::from(body);
        read(Source { body: &body, limits: &Limits::default() }, &body)
    }

    fn binary(headers: &[(&str, &[u8])], body: &'static str) -> Result<Event> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, http::HeaderValue::from_bytes(value).unwrap());
        }
        read_binary(&map, Bytes::from(body), &Limits::default())
    }

    fn field(error: &Error) -> &str {
        error.fields().first().map_or("", |field| &field.field)
    }

    #[test]
    fn extensions_stand_at_the_top() {
        let event = structured(
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"k","region":"eu","data":1,
            "idempotencykey":"once"}"#,
        )
        .unwrap();
        assert_eq!(event.key, Some(Bytes::from("k")));
        assert_eq!(event.extensions, [("region".into(), "eu".into())]);
        assert_eq!(event.data, Some(Bytes::from("1")));
        assert_eq!(event.idempotency_key.as_deref(), Some("once"));
    }

    #[test]
    fn the_strict_format_fills_nothing_in() {
        for (body, missing) in [
            (r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "source"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":null}"#, "type"),
            (r#"{"id":"1","source":"/s","type":"t"}"#, "specversion"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","Region":"eu"}"#, "Region"),
            (r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "specversion"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","x":{}}"#, "x"),
        ] {
            assert_eq!(field(&structured(body).unwrap_err()), missing, "{body}");
        }
    }

    #[test]
    fn binary_mode_takes_attributes_from_headers() {
        let event = binary(
            &[
                ("content-type", b"text/plain"),
                ("ce-id", b"1"),
                ("ce-type", b"t%C3%A9"),
                ("ce-time", b"1970-01-01T00:00:01Z"),
                ("ce-partitionkey", b"k"),
                ("ce-region", b"eu"),
                ("ce-idempotencykey", b"once"),
                ("x-other", b"not an attribute"),
            ],
            "body",
        )
        .unwrap();
        assert_eq!(event.event_type.as_deref(), Some("t\u{e9}"));
        assert_eq!(event.content_type.as_deref(), Some("text/plain"));
        assert_eq!(event.time, Some(ports::Timestamp(1000)));
        assert_eq!(event.key, Some(Bytes::from("k")));
        assert_eq!(event.extensions, [("region".into(), "eu".into())]);
        assert_eq!(event.data, Some(Bytes::from("body")));
        assert_eq!(event.idempotency_key.as_deref(), Some("once"));
    }

    #[test]
    fn a_bad_header_is_named() {
        let refused = |headers: &[(&str, &[u8])]| field(&binary(headers, "").unwrap_err()).to_owned();
        assert_eq!(refused(&[("ce-time", b"soon")]), "ce-time");
        assert_eq!(refused(&[("ce-id", b"%ff")]), "ce-id");
        assert_eq!(refused(&[("ce-id", b"a"), ("ce-id", b"b")]), "ce-id");
        assert_eq!(refused(&[("ce-no-name", b"a")]), "ce-no-name");
        assert_eq!(refused(&[("ce-specversion", b"0.3")]), "ce-specversion");
        assert_eq!(refused(&[("ce-datacontenttype", b"a/b")]), "ce-datacontenttype");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(
            name in "ce-[a-z0-9-]{0,24}",
            value in proptest::collection::vec(prop_oneof![32..127_u8, 128..=255_u8], 0..20),
        ) {
            if let Err(error) = binary(&[(&name, &value)], "x") {
                prop_assert!(matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotSupported));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(body in "\\PC*") {
            if let Err(error) = structured(&body) {
                prop_assert!(matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotSupported));
            }
        }
    }
}

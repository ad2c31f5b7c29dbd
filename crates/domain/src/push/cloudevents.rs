//! An event as CloudEvents 1.0 writes it: its attributes, and the strict JSON format.

use crate::{
    event::{Event, time_text},
    subscriptions::Payload,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ports::{HandlerDelivery, Timestamp};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet, io::Write as _};

/// The source of an event that names none, and its type.
const SOURCE: &str = "/event-streaming";
const TYPE: &str = "event";
/// The most extensions that are sent; events that came by this service have fewer.
const EXTENSIONS_MAX: usize = 100;
/// The most arrays and objects within each other that are sent as JSON; readers give up at some depth.
const DEPTH_MAX: usize = 100;
/// Members of the JSON format that are no attributes. A foreign producer's header of such a name must not
/// become one.
const MEMBERS: [&str; 4] = ["specversion", "data", "datacontenttype", "dataschema"];

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Whole(u64),
}

/// A name and its value.
pub(super) type Attribute<'a> = (&'a str, Value<'a>);

/// The event of a delivery.
pub(super) fn event_of(delivery: &HandlerDelivery) -> Event {
    Event::from_record(&delivery.record.record)
}

/// All attributes but `datacontenttype`, with what the standard demands and the event lacks. No name stands
/// twice, and no value is empty.
pub(super) fn attributes<'a>(event: &'a Event, delivery: &HandlerDelivery) -> Vec<Attribute<'a>> {
    let mut attributes = Vec::with_capacity(12 + event.extensions.len().min(EXTENSIONS_MAX));
    let mut put = |name, text: Cow<'a, str>| attributes.push((name, Value::Text(text)));
    put("specversion", "1.0".into());
    put("id", text(event.id.as_ref()).unwrap_or_else(|| place(delivery).into()));
    put("source", text(event.source.as_ref()).unwrap_or(SOURCE.into()));
    put("type", text(event.event_type.as_ref()).unwrap_or(TYPE.into()));
    if let Some(time) = event.time.and_then(rfc3339) {
        put("time", time.into());
    }
    let optional = [
        ("subject", &event.subject),
        ("dataschema", &event.data_schema),
        ("tenantid", &event.tenant_id),
        ("userid", &event.user_id),
        ("correlationid", &event.correlation_id),
        ("causationid", &event.causation_id),
        ("traceparent", &event.traceparent),
        ("tracestate", &event.tracestate),
    ];
    for (name, value) in optional {
        if let Some(value) = text(value.as_ref()) {
            put(name, value);
        }
    }
    match event.key.as_deref().map(std::str::from_utf8) {
        None | Some(Ok("")) => {}
        Some(Ok(key)) => put("partitionkey", key.into()),
        Some(Err(_)) => {
            put("keybase64", BASE64_STANDARD.encode(event.key.as_deref().unwrap_or_default()).into());
        }
    }
    if !event.extensions.is_empty() {
        // A foreign record may say a name twice, or one that is ours.
        let mut taken: HashSet<&str> = attributes.iter().map(|(name, _)| *name).chain(MEMBERS).collect();
        for (name, value) in event.extensions.iter().take(EXTENSIONS_MAX) {
            if let Some(value) = text(Some(value))
                && taken.insert(name)
            {
                attributes.push((name, Value::Text(value)));
            }
        }
    }
    attributes
}

/// What a batch says of each delivery, for want of headers of its own. These names beat the event's.
pub(super) fn put_delivery<'a>(attributes: &mut Vec<Attribute<'a>>, delivery: &'a HandlerDelivery) {
    let own = [
        ("esdeliveryid", Value::Text(delivery.id.as_str().into())),
        ("esattempt", Value::Whole(delivery.attempt.into())),
        ("estopic", Value::Text(delivery.topic.as_str().into())),
        ("espartition", Value::Whole(delivery.partition.into())),
        ("esoffset", Value::Whole(delivery.record.offset)),
    ];
    attributes.retain(|(name, _)| own.iter().all(|(taken, _)| taken != name));
    attributes.extend(own);
}

/// Writes an event in the JSON format.
pub(super) fn push_json(out: &mut Vec<u8>, attributes: &[Attribute<'_>], event: &Event, payload: Payload) {
    out.reserve(512 + event.data.as_ref().map_or(0, Bytes::len));
    for (index, (name, value)) in attributes.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        push_string(out, name);
        out.push(b':');
        match value {
            Value::Text(text) => push_string(out, text),
            Value::Whole(number) => push_number(out, *number),
        }
    }
    if let Some(kind) = text(event.content_type.as_ref()) {
        out.extend_from_slice(b",\"datacontenttype\":");
        push_string(out, &kind);
    }
    if let Some(data) = &event.data {
        let is_json = event.content_type.as_deref().is_none_or(is_json);
        if let Some(json) = (is_json && payload == Payload::Json).then(|| json_of(data)).flatten() {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(json.as_bytes());
        } else {
            out.extend_from_slice(b",\"data_base64\":");
            push_base64(out, data);
        }
    }
    out.push(b'}');
}

/// A value for a header, as the HTTP binding says (section 3.1.3.2): printable ASCII stays, but for blank,
/// quote and percent; the rest is percent-encoded UTF-8.
pub(super) fn header_value(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => percent_encoded(text),
        Value::Whole(number) => number.to_string(),
    }
}

/// The same for a text.
pub(super) fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | ..=b' ' | 0x7f.. => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Names an event that has no id, the same each time.
fn place(delivery: &HandlerDelivery) -> String {
    format!("{}:{}:{}", delivery.topic, delivery.partition, delivery.record.offset)
}

/// A text that may stand as an attribute: CloudEvents knows no empty ones.
fn text(value: Option<&bytestring::ByteString>) -> Option<Cow<'_, str>> {
    value.filter(|text| !text.is_empty()).map(|text| Cow::Borrowed(&**text))
}

/// `None` for a time that RFC 3339 cannot write.
fn rfc3339(time: Timestamp) -> Option<String> {
    let text = time_text(time);
    (text.len() == "1970-01-01T00:00:00.000Z".len() && text.ends_with('Z')).then_some(text)
}

/// Whether a media type is JSON: its subtype is `json` or ends in `+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// The JSON that the bytes are, where it can stand within other JSON.
pub(super) fn json_of(data: &[u8]) -> Option<&str> {
    let json: &RawValue = serde_json::from_slice(data).ok()?;
    depth_within(json.get(), DEPTH_MAX).then_some(json.get())
}

/// Whether valid JSON has at most so many arrays and objects within each other.
fn depth_within(json: &str, most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return false;
        }
    }
    true
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serializes, and a buffer takes every byte.
    let _ = serde_json::to_writer(out, text);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    // A buffer takes every byte.
    let _ = write!(out, "{number}");
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The length is the exact one, so that nothing is left out.
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    use ports::{Header, Monotonic, Record, StoredRecord, TopicName};
    use proptest::prelude::*;
    use serde_json::json;

    fn delivery(
        headers: &[(&str, &'static str)],
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> HandlerDelivery {
        let headers =
            headers.iter().map(|&(name, value)| Header::new(name, Bytes::from_static(value.as_bytes())));
        let record = Record {
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: headers.collect(),
            timestamp: Timestamp(0),
        };
        HandlerDelivery {
            id: "d-1".to_owned(),
            attempt: 2,
            deadline: Monotonic::default(),
            topic: TopicName::new("orders").unwrap(),
            partition: 3,
            record: std::sync::Arc::new(StoredRecord { offset: 7, record }),
        }
    }

    fn shown(delivery: &HandlerDelivery, batch: bool, payload: Payload) -> serde_json::Value {
        let event = event_of(delivery);
        let mut attributes = attributes(&event, delivery);
        if batch {
            put_delivery(&mut attributes, delivery);
        }
        let mut out = Vec::new();
        push_json(&mut out, &attributes, &event, payload);
        // A map of raw members refuses none; names are counted apart.
        let names: Vec<&str> = attributes.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn an_event_stands_in_the_strict_format() {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "i"),
            ("ce_source", "/shop"),
            ("ce_type", "order.created"),
            ("ce_time", "2026-01-01T00:00:00Z"),
            ("ce_tenantid", "t"),
            ("ce_region", "eu"),
            ("content-type", "application/json"),
            ("x-origin", "web"),
        ];
        assert_eq!(
            shown(&delivery(&headers, Some(b"k"), Some(b"{\"a\": 1}")), false, Payload::Json),
            json!({
                "specversion": "1.0", "id": "i", "source": "/shop", "type": "order.created",
                "time": "2026-01-01T00:00:00.000Z", "tenantid": "t", "partitionkey": "k", "region": "eu",
                "datacontenttype": "application/json", "data": {"a": 1}
            })
        );
    }

    #[test]
    fn what_a_foreign_producer_left_out_is_filled_in() {
        assert_eq!(
            shown(&delivery(&[("ce_type", "")], Some(b"\xff"), None), false, Payload::Json),
            json!({
                "specversion": "1.0", "id": "orders:3:7", "source": "/event-streaming", "type": "event",
                "keybase64": "/w=="
            })
        );
    }

    #[test]
    fn a_foreign_header_forges_no_member() {
        let headers = [
            ("ce_data", "forged"),
            ("ce_partitionkey", "forged"),
            ("ce_esattempt", "forged"),
            ("ce_a", "1"),
            ("ce_a", "2"),
        ];
        assert_eq!(
            shown(&delivery(&headers, Some(b"k"), Some(b"1")), true, Payload::Json),
            json!({
                "specversion": "1.0", "id": "orders:3:7", "source": "/event-streaming", "type": "event",
                "partitionkey": "k", "a": "1", "esdeliveryid": "d-1", "esattempt": 2, "estopic": "orders",
                "espartition": 3, "esoffset": 7, "data": 1
            })
        );
    }

    #[test]
    fn a_value_is_json_where_it_can_be() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let data = |kind: Option<&'static str>, value: &str, payload| {
            let headers: Vec<_> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
            let event = shown(&delivery(&headers, None, Some(value.as_bytes())), false, payload);
            event.get("data").is_some()
        };
        assert!(data(None, "[1]", Payload::Json));
        assert!(data(Some("Application/Problem+JSON; charset=utf-8"), "[1]", Payload::Json));
        assert!(!data(Some("text/plain"), "[1]", Payload::Json));
        assert!(!data(Some("application/json"), "[1", Payload::Json));
        assert!(!data(None, &deep, Payload::Json));
        assert!(!data(None, "[1]", Payload::Bytes));
        assert!(data(None, &format!("\"{}\"", "[\\\"".repeat(200)), Payload::Json));
    }

    #[test]
    fn header_values_are_percent_encoded_as_the_binding_says() {
        assert_eq!(percent_encoded("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(percent_encoded("a\"b%c\r\nd~!"), "a%22b%25c%0D%0Ad~!");
    }

    proptest! {
        #[test]
        fn any_record_is_a_cloud_event(
            key in any::<Option<Vec<u8>>>(),
            value in any::<Option<Vec<u8>>>(),
            headers in proptest::collection::vec(("(ce_[a-z]{1,3}|ce_time|content-type|.{0,5})", any::<Vec<u8>>()), 0..8),
        ) {
            let mut delivery = delivery(&[], key.as_deref(), value.as_deref());
            std::sync::Arc::make_mut(&mut delivery.record).record.headers =
                headers.into_iter().map(|(name, value)| Header::new(name, value)).collect();
            let event = shown(&delivery, true, Payload::Json);
            for name in ["specversion", "id", "source", "type"] {
                prop_assert!(event[name].as_str().is_some_and(|text| !text.is_empty()));
            }
            let said = event_of(&delivery);
            for (_, value) in attributes(&said, &delivery) {
                prop_assert!(header_value(&value).bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}

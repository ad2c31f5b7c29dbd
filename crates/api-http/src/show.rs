//! An event as it is shown: its fields and its place.

use crate::{
    json::{DEPTH_MAX, depth_within, push_base64, push_string, push_u64},
    publish::is_json,
    time::push_time,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    event_schemas::{SchemaName, ShownValue},
    subscriptions::Payload,
};
use ports::{Header, PartitionId, StoredRecord, TopicName};
use serde_json::value::RawValue;

/// Writes the event that a record carries. `value` is its value as far as that was read by a schema.
pub(crate) fn push_event(
    out: &mut Vec<u8>,
    topic: &TopicName,
    partition: PartitionId,
    stored: &StoredRecord,
    payload: Payload,
    value: &ShownValue,
) {
    let timestamp = stored.record.timestamp;
    let offset = stored.offset;
    let event = value.event(&stored.record);
    out.reserve(512 + event.data.as_ref().map_or(0, Bytes::len));
    let mut fields = Fields { out, first: true };
    fields.text("id", event.id.as_ref());
    fields.text("type", event.event_type.as_ref());
    fields.text("source", event.source.as_ref());
    fields.text("subject", event.subject.as_ref());
    if let Some(time) = event.time {
        push_time(fields.name("time"), time);
    }
    if let Some(key) = &event.key {
        push_bytes(fields.name("key"), key);
    }
    if !event.headers.is_empty() {
        push_headers(fields.name("headers"), &event.headers);
    }
    fields.text("tenantid", event.tenant_id.as_ref());
    fields.text("userid", event.user_id.as_ref());
    fields.text("correlationid", event.correlation_id.as_ref());
    fields.text("causationid", event.causation_id.as_ref());
    fields.text("traceparent", event.traceparent.as_ref());
    fields.text("tracestate", event.tracestate.as_ref());
    match value {
        // It is what is shown, and not what lies in the log.
        ShownValue::Decoded(_) => fields.text("datacontenttype", Some("application/json")),
        _ => fields.text("datacontenttype", event.content_type.as_ref()),
    }
    fields.text("dataschema", event.data_schema.as_ref());
    if !event.extensions.is_empty() {
        let mut extensions = Fields { out: fields.name("extensions"), first: true };
        for (name, value) in &event.extensions {
            extensions.text(name, Some(value));
        }
        extensions.end();
    }
    match value {
        ShownValue::Plain => {
            push_data(&mut fields, event.data.as_ref(), event.content_type.as_ref(), payload);
        }
        ShownValue::Decoded(decoded) => {
            fields.name("data").extend_from_slice(&decoded.json);
            push_schema(fields.name("schema"), &decoded.schema);
        }
        ShownValue::Undecodable(reason) => {
            push_string(fields.name("decodeError"), reason);
            push_base64(fields.name("data_base64"), event.data.as_deref().unwrap_or_default());
        }
    }
    fields.text("topic", Some(topic.as_str()));
    push_u64(fields.name("partition"), u64::from(partition));
    push_u64(fields.name("offset"), offset);
    push_time(fields.name("timestamp"), timestamp);
    fields.end();
}

/// Which schema a value was read by.
fn push_schema(out: &mut Vec<u8>, schema: &SchemaName) {
    let mut fields = Fields { out, first: true };
    push_u64(fields.name("id"), u64::from(schema.id.0));
    fields.text("subject", schema.subject.as_ref());
    if let Some(version) = schema.version {
        push_u64(fields.name("version"), u64::from(version));
    }
    fields.text("message", schema.message.as_ref());
    fields.end();
}

/// The members of an object that is being written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    /// Writes a member's name; its value is to follow.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(if self.first { b'{' } else { b',' });
        self.first = false;
        push_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, name: &str, value: Option<&(impl AsRef<str> + ?Sized)>) {
        if let Some(value) = value {
            push_string(self.name(name), value.as_ref());
        }
    }

    fn end(self) {
        self.out.extend_from_slice(if self.first { b"{}" } else { b"}" });
    }
}

/// Text where the bytes are UTF-8, `{"base64"}` otherwise.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        push_string(out, text);
    } else {
        out.extend_from_slice(b"{\"base64\":");
        push_base64(out, bytes);
        out.push(b'}');
    }
}

/// Headers by name; equal names as an array, in their order.
fn push_headers(out: &mut Vec<u8>, headers: &[Header]) {
    // Sorted, as a foreign record may have thousands; the sort keeps equal names in their order.
    let mut sorted: Vec<&Header> = headers.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    let mut fields = Fields { out, first: true };
    for equal in sorted.chunk_by(|one, other| one.name == other.name) {
        let out = fields.name(&equal[0].name);
        if let [header] = equal {
            push_header_value(out, header.value.as_ref());
            continue;
        }
        for (index, header) in equal.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            push_header_value(out, header.value.as_ref());
        }
        out.push(b']');
    }
    fields.end();
}

fn push_header_value(out: &mut Vec<u8>, value: Option<&Bytes>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => push_bytes(out, value),
    }
}

fn push_data(
    fields: &mut Fields<'_>,
    data: Option<&Bytes>,
    content_type: Option<&ByteString>,
    payload: Payload,
) {
    let Some(data) = data else {
        fields.name("data").extend_from_slice(b"null");
        return;
    };
    let said_to_be_json = content_type.map(|kind| is_json(kind));
    if payload == Payload::Json && said_to_be_json != Some(false) {
        match decode(data) {
            Ok(json) => {
                fields.name("data").extend_from_slice(json.as_bytes());
                return;
            }
            Err(reason) if said_to_be_json == Some(true) => {
                push_string(fields.name("decodeError"), &reason);
            }
            Err(_) => {}
        }
    }
    push_base64(fields.name("data_base64"), data);
}

/// The JSON that the bytes are, or why they are none that could stand within an answer.
fn decode(data: &[u8]) -> Result<&str, String> {
    let json: &RawValue = serde_json::from_slice(data).map_err(|error| format!("is not JSON: {error}"))?;
    if !depth_within(json.get(), DEPTH_MAX) {
        return Err(format!("has more than {DEPTH_MAX} arrays and objects within each other"));
    }
    Ok(json.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::{Record, Timestamp};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn shown_as(record: Record, payload: Payload) -> Value {
        let mut out = Vec::new();
        let topic = TopicName::new("orders").unwrap();
        push_event(&mut out, &topic, 2, &StoredRecord { offset: 7, record }, payload, &ShownValue::Plain);
        serde_json::from_slice(&out)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    fn shown(value: Option<&'static [u8]>, content_type: Option<&'static str>) -> Value {
        let kind = content_type.map(|kind| Header::new("content-type", kind));
        let value = value.map(Bytes::from_static);
        shown_as(Record { value, headers: kind.into_iter().collect(), ..Record::default() }, Payload::Json)
    }

    #[test]
    fn fields_stand_beside_the_place() {
        let record = Record {
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from("{\"a\": 1.50}")),
            headers: vec![
                Header::new("ce_id", "i"),
                Header::new("ce_region", "eu"),
                Header::new("x", "1"),
                Header { name: "y".into(), value: None },
                Header::new("x", Bytes::from_static(b"\xff")),
            ],
            timestamp: Timestamp(1000),
        };
        assert_eq!(
            shown_as(record, Payload::Json),
            json!({
                "id": "i", "key": "k", "headers": {"x": ["1", {"base64": "/w=="}], "y": null},
                "extensions": {"region": "eu"}, "data": {"a": 1.5},
                "topic": "orders", "partition": 2, "offset": 7, "timestamp": "1970-01-01T00:00:01.000Z"
            })
        );
    }

    #[test]
    fn a_value_is_shown_decoded_where_it_is_json() {
        let data = |value: Option<&'static [u8]>, kind| {
            let shown = shown(value, kind);
            let has = |field: &str| shown.get(field).cloned();
            (has("data"), has("data_base64"), has("decodeError").is_some())
        };
        assert_eq!(data(None, None), (Some(Value::Null), None, false));
        assert_eq!(data(Some(b""), None), (None, Some(json!("")), false));
        assert_eq!(data(Some(b"[1]"), None), (Some(json!([1])), None, false));
        assert_eq!(data(Some(b"[1"), None), (None, Some(json!("WzE=")), false));
        assert_eq!(data(Some(b"[1"), Some("application/json")), (None, Some(json!("WzE=")), true));
        assert_eq!(data(Some(b"[1]"), Some("text/plain")), (None, Some(json!("WzFd")), false));
        assert_eq!(data(Some(b"\"\xff\""), Some("a/b+json")), (None, Some(json!("Iv8i")), true));
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_for_a_reader_is_not_decoded() {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        let record = Record { value: Some(Bytes::from(deep)), ..Record::default() };
        assert!(shown_as(record, Payload::Json)["data_base64"].is_string());
    }

    #[test]
    fn bytes_are_never_decoded_where_bytes_were_asked_for() {
        let record = Record { value: Some(Bytes::from("1")), ..Record::default() };
        assert_eq!(shown_as(record, Payload::Bytes)["data_base64"], "MQ==");
    }

    proptest! {
        #[test]
        fn any_record_is_shown_as_json(
            key in any::<Option<Vec<u8>>>(),
            value in any::<Option<Vec<u8>>>(),
            headers in proptest::collection::vec((any::<String>(), any::<Option<Vec<u8>>>()), 0..5),
            time in any::<i64>(),
        ) {
            let headers = headers
                .into_iter()
                .map(|(name, value)| Header { name: name.into(), value: value.map(Bytes::from) })
                .collect();
            let record = Record {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers,
                timestamp: Timestamp(time),
            };
            shown_as(record, Payload::Json);
        }
    }
}

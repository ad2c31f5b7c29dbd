//! Messages to the domain's words and back.

use crate::{call::CORRELATION_ID, proto};
use bytestring::ByteString;
use domain::{
    Error, Event, Result,
    event_schemas::{SchemaName, ShownValue},
    publish::{ANONYMOUS, Item, PublishContext, Receipt, Rejected},
};
use ports::{Header, PartitionId, StoredRecord, Timestamp, TopicName};
use std::time::Duration;
use tonic::metadata::MetadataMap;

/// The source of events that name none.
const SOURCE: &str = "/event-streaming";

/// An event on its way in. What cannot be read is refused in its place.
pub(crate) fn item(event: proto::Event) -> Item {
    let key = event.key.clone();
    incoming(event).map_err(|error| Rejected { error, key })
}

fn incoming(event: proto::Event) -> Result<Event> {
    let text = |text: Option<String>| text.map(ByteString::from);
    let header = |header: proto::Header| Header { name: header.name.into(), value: header.value };
    Ok(Event {
        id: text(event.id),
        source: text(event.source),
        event_type: text(event.r#type),
        subject: text(event.subject),
        time: event.time.map(|time| timestamp("time", time)).transpose()?,
        key: event.key,
        partition: event.partition,
        headers: event.headers.into_iter().map(header).collect(),
        data: event.data,
        content_type: text(event.datacontenttype),
        data_schema: text(event.dataschema),
        tenant_id: text(event.tenantid),
        user_id: text(event.userid),
        correlation_id: text(event.correlationid),
        causation_id: text(event.causationid),
        traceparent: text(event.traceparent),
        tracestate: text(event.tracestate),
        extensions: sorted(event.extensions),
        idempotency_key: text(event.idempotencykey),
        message_type: text(event.messagetype),
    })
}

/// A map has no order; two publishes of the same event are to be the same record.
fn sorted(extensions: std::collections::HashMap<String, String>) -> Vec<(ByteString, ByteString)> {
    let mut extensions: Vec<(ByteString, ByteString)> =
        extensions.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    extensions.sort();
    extensions
}

/// An event on its way out, with where it lies.
/// Its value is as it was read by a schema, where it was.
pub(crate) fn outgoing(
    topic: &TopicName,
    partition: PartitionId,
    record: &StoredRecord,
    value: &ShownValue,
) -> proto::Event {
    let offset = record.offset;
    let timestamp = record.record.timestamp;
    let mut event = value.event(&record.record);
    let mut schema = None;
    if let ShownValue::Decoded(decoded) = value {
        event.data = Some(decoded.json.clone());
        event.content_type = Some(ByteString::from_static("application/json"));
        schema = Some(named(&decoded.schema));
    }
    // Copies, by their length: what is shared may be a small part of something large.
    let copy = |text: ByteString| String::from(&*text);
    let text = |text: Option<ByteString>| text.map(copy);
    let header = |header: Header| proto::Header { name: copy(header.name), value: header.value };
    proto::Event {
        id: text(event.id),
        r#type: text(event.event_type),
        source: text(event.source),
        subject: text(event.subject),
        time: event.time.map(time),
        key: event.key,
        partition: Some(partition),
        headers: event.headers.into_iter().map(header).collect(),
        data: event.data,
        datacontenttype: text(event.content_type),
        dataschema: text(event.data_schema),
        tenantid: text(event.tenant_id),
        userid: text(event.user_id),
        correlationid: text(event.correlation_id),
        causationid: text(event.causation_id),
        traceparent: text(event.traceparent),
        tracestate: text(event.tracestate),
        extensions: event.extensions.into_iter().map(|(name, value)| (copy(name), copy(value))).collect(),
        idempotencykey: None,
        messagetype: None,
        schema,
        topic: Some(topic.as_str().to_owned()),
        offset: Some(offset as i64),
        timestamp: Some(time(timestamp)),
    }
}

fn named(schema: &SchemaName) -> proto::EventSchema {
    proto::EventSchema {
        id: schema.id.0,
        subject: schema.subject.clone().unwrap_or_default(),
        version: schema.version.unwrap_or_default(),
        message: schema.message.clone().unwrap_or_default(),
    }
}

/// A receipt.
pub(crate) fn receipt(receipt: &Receipt) -> proto::Receipt {
    proto::Receipt {
        id: String::from(&*receipt.id),
        topic: receipt.topic.as_str().to_owned(),
        partition: receipt.partition,
        offset: receipt.offset as i64,
        timestamp: Some(time(receipt.timestamp)),
        duplicate: receipt.duplicate,
    }
}

/// The result of one item.
pub(crate) fn result(result: Result<Receipt>) -> proto::PublishResult {
    use proto::publish_result::Outcome;
    let outcome = match result {
        Ok(published) => Outcome::Receipt(receipt(&published)),
        Err(error) => Outcome::Error(crate::error::item(&error)),
    };
    proto::PublishResult { outcome: Some(outcome) }
}

/// What the events of a call have in common.
pub(crate) fn context(metadata: &MetadataMap) -> PublishContext {
    let text = |name: &str| metadata.get(name)?.to_str().ok().map(ByteString::from);
    // A malformed one is ignored, as the standard wants: the trace begins anew.
    let traceparent = text("traceparent").filter(|text| is_traceparent(text));
    let state_is_good = |state: &ByteString| (1..=512).contains(&state.len()) && !state.contains('\t');
    let tracestate = text("tracestate").filter(|state| traceparent.is_some() && state_is_good(state));
    PublishContext {
        principal: ByteString::from_static(ANONYMOUS),
        source: ByteString::from_static(SOURCE),
        correlation_id: text(CORRELATION_ID),
        traceparent,
        tracestate,
    }
}

/// Whether this is a trace's place by W3C Trace Context, `00-{32 hex}-{16 hex}-{2 hex}`.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let lengths = [2, 32, 16, 2];
    let good = lengths.iter().all(|length| {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        parts.next().is_some_and(|part| part.len() == *length && is_hex(part))
    });
    good && !text.starts_with("ff") && (parts.next().is_none() || !text.starts_with("00"))
}

/// A topic's name, `None` where it is to be routed.
pub(crate) fn topic(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

/// A time of ours as a message.
pub(crate) fn time(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.0.rem_euclid(1000) as i32 * 1_000_000;
    prost_types::Timestamp { seconds: time.0.div_euclid(1000), nanos }
}

/// A message as a time of ours, to the millisecond.
pub(crate) fn timestamp(field: &str, time: prost_types::Timestamp) -> Result<Timestamp> {
    let nanos = (0..1_000_000_000).contains(&time.nanos).then_some(i64::from(time.nanos / 1_000_000));
    let ms = nanos.and_then(|ms| time.seconds.checked_mul(1000)?.checked_add(ms));
    ms.map(Timestamp).ok_or_else(|| Error::invalid(field, "must be a time between the years 1 and 9999"))
}

/// A message as a duration.
pub(crate) fn duration(field: &str, duration: prost_types::Duration) -> Result<Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (u64::try_from(duration.seconds), nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(Error::invalid(field, "must be a duration that is not negative, as `30s`")),
    }
}

/// A duration as a message.
pub(crate) fn to_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_go_there_and_back(ms in -62_135_596_800_000_i64..=253_402_300_799_999) {
            prop_assert_eq!(timestamp("time", time(Timestamp(ms))).unwrap(), Timestamp(ms));
        }

        #[test]
        fn any_time_and_duration_is_read_without_harm(seconds in any::<i64>(), nanos in any::<i32>()) {
            let _ = timestamp("time", prost_types::Timestamp { seconds, nanos });
            let read = duration("wait", prost_types::Duration { seconds, nanos });
            prop_assert_eq!(read.is_ok(), seconds >= 0 && (0..1_000_000_000).contains(&nanos));
        }

        #[test]
        fn an_event_comes_out_as_it_went_in(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            data in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            extensions in prop::collection::hash_map("[a-z]{12}", "[ -~]{0,9}", 0..4),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
        ) {
            let sent = proto::Event {
                id: Some("1".into()),
                source: Some("/s".into()),
                r#type: Some("t".into()),
                time: Some(time(Timestamp(5))),
                key: key.map(Into::into),
                data: data.map(Into::into),
                extensions,
                headers: vec![proto::Header { name: "h".into(), value: value.map(Into::into) }],
                ..proto::Event::default()
            };
            let stamp = domain::event::Stamp::new(Timestamp(1), "/".into(), "e".into());
            let (record, _) = item(sent.clone()).unwrap().into_record(&stamp);
            let topic = TopicName::new("orders").unwrap();
            let got = outgoing(&topic, 3, &StoredRecord { offset: 7, record }, &ShownValue::Plain);
            prop_assert_eq!((got.partition, got.offset, got.topic.as_deref()), (Some(3), Some(7), Some("orders")));
            prop_assert_eq!((got.key, got.data, got.headers, got.extensions, got.time), (sent.key, sent.data, sent.headers, sent.extensions, sent.time));
        }
    }
}

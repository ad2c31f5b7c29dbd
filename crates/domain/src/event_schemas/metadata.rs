//! What a message says of its own event, for producers that know nothing of CloudEvents.
//!
//! A field of a Protobuf message, `metadata` unless configured, may be a message that holds an event's id, type,
//! source, tenant, user, correlation and causation id, its time and how often it was tried before. It is found by
//! reflection over the schema that the value was read by: nothing is registered for it, and a message without the
//! field costs one look for its name.
//!
//! Invariants:
//! 1. What is said around the value beats what is said in it: an attribute that is there stays as it is.
//! 2. It is read from the message that the value is decoded to anyway.
//! 3. How often an event was tried before counts for topics that follow a schema alone, and leaves it one delivery.
//! 4. It is read only where the value must follow a schema, by the topic's settings or its content type, and never
//!    where it is merely taken for one: so that it is the same whenever an event is looked at.
//! 5. What cannot be an attribute (too long, with control characters, empty, of another kind) says nothing. It is the
//!    producer's value all the same, and no reason to refuse it.

use crate::{
    event::{Event, MAX_TIME, header, parse_time, time_text},
    limits::Limits,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{Header, Record, Timestamp};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};
use std::borrow::Cow;

/// The extension that says how often an event was tried before it was published.
const RETRY_COUNT: &str = "retrycount";
const RETRY_COUNT_HEADER: &str = "ce_retrycount";

/// Where messages say what they are. Names are those of the `.proto` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataFields {
    /// The field of a topic's messages that holds the others.
    pub field: String,
    /// Identifies the event within its source.
    pub id: String,
    /// What kind of event it is.
    pub event_type: String,
    /// Where it comes from.
    pub source: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// The user who caused it.
    pub user_id: String,
    /// What it belongs together with.
    pub correlation_id: String,
    /// The event that caused it.
    pub causation_id: String,
    /// When it happened: a `google.protobuf.Timestamp`, a text in RFC 3339, or milliseconds since the epoch.
    pub time: String,
    /// How often it was tried before, by whomever: a whole number.
    pub retry_count: String,
}

impl Default for MetadataFields {
    fn default() -> Self {
        Self {
            field: "metadata".to_owned(),
            id: "event_id".to_owned(),
            event_type: "event_type".to_owned(),
            source: "source".to_owned(),
            tenant_id: "tenant_id".to_owned(),
            user_id: "user_id".to_owned(),
            correlation_id: "correlation_id".to_owned(),
            causation_id: "causation_id".to_owned(),
            time: "timestamp".to_owned(),
            retry_count: "retry_count".to_owned(),
        }
    }
}

/// What a message says of its event. Nothing of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Identifies the event within its source.
    pub id: Option<ByteString>,
    /// What kind of event it is.
    pub event_type: Option<ByteString>,
    /// Where it comes from.
    pub source: Option<ByteString>,
    /// The tenant that it belongs to.
    pub tenant_id: Option<ByteString>,
    /// The user who caused it.
    pub user_id: Option<ByteString>,
    /// What it belongs together with.
    pub correlation_id: Option<ByteString>,
    /// The event that caused it.
    pub causation_id: Option<ByteString>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// How often it was tried before.
    pub retry_count: u32,
}

impl MetadataFields {
    /// What a message says; `None` where that is nothing.
    pub(super) fn read(&self, message: &DynamicMessage) -> Option<Metadata> {
        let field = message.descriptor().get_field_by_name(&self.field)?;
        if field.is_list() || field.is_map() || !message.has_field(&field) {
            return None;
        }
        let value = message.get_field(&field);
        let said = Said { message: value.as_message()? };
        let metadata = Metadata {
            id: said.text(&self.id),
            event_type: said.text(&self.event_type),
            source: said.text(&self.source),
            tenant_id: said.text(&self.tenant_id),
            user_id: said.text(&self.user_id),
            correlation_id: said.text(&self.correlation_id),
            causation_id: said.text(&self.causation_id),
            time: said.time(&self.time),
            retry_count: said.count(&self.retry_count),
        };
        (metadata != Metadata::default()).then_some(metadata)
    }
}

impl Metadata {
    /// Gives an event what it lacks.
    pub fn fill(&self, event: &mut Event) {
        let texts = [
            (&mut event.id, &self.id),
            (&mut event.event_type, &self.event_type),
            (&mut event.source, &self.source),
            (&mut event.tenant_id, &self.tenant_id),
            (&mut event.user_id, &self.user_id),
            (&mut event.correlation_id, &self.correlation_id),
            (&mut event.causation_id, &self.causation_id),
        ];
        for (to, from) in texts {
            if to.is_none() {
                to.clone_from(from);
            }
        }
        event.time = event.time.or(self.time);
        if self.retry_count > 0 && !event.extensions.iter().any(|(name, _)| *name == *RETRY_COUNT) {
            let count = self.retry_count.to_string().into();
            event.extensions.push((ByteString::from_static(RETRY_COUNT), count));
        }
    }

    /// As headers, those alone that a record lacks.
    pub(super) fn headers(&self, record: &Record) -> Vec<Header> {
        let text = |text: &Option<ByteString>| text.clone().map(ByteString::into_bytes);
        let count = (self.retry_count > 0).then(|| Bytes::from(self.retry_count.to_string()));
        let all = [
            (header::ID, text(&self.id)),
            (header::TYPE, text(&self.event_type)),
            (header::SOURCE, text(&self.source)),
            (header::TENANT, text(&self.tenant_id)),
            (header::USER, text(&self.user_id)),
            (header::CORRELATION, text(&self.correlation_id)),
            (header::CAUSATION, text(&self.causation_id)),
            (header::TIME, self.time.map(|time| time_text(time).into())),
            (RETRY_COUNT_HEADER, count),
        ];
        let said = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let missing = said.filter(|(name, _)| attribute(record, name).is_none());
        missing
            .map(|(name, value)| Header { name: ByteString::from_static(name), value: Some(value) })
            .collect()
    }

    /// How often an event was tried before it came here: what its headers say, else its message.
    pub(crate) fn tried_before(record: &Record, said: Option<&Self>) -> u32 {
        let header = attribute(record, RETRY_COUNT_HEADER);
        let header = header.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        header.unwrap_or_else(|| said.map_or(0, |said| said.retry_count))
    }
}

/// Whether headers name the event, so that its message need not be read to tell copies of it.
pub(super) fn is_named(record: &Record) -> bool {
    attribute(record, header::ID).is_some() && attribute(record, header::SOURCE).is_some()
}

fn attribute<'a>(record: &'a Record, name: &str) -> Option<&'a Bytes> {
    record.headers.iter().find(|header| *header.name == *name)?.value.as_ref()
}

/// The message that says it.
struct Said<'a> {
    message: &'a DynamicMessage,
}

impl Said<'_> {
    /// A field that is there; proto3's defaults are not.
    fn get(&self, name: &str) -> Option<(Kind, Cow<'_, Value>)> {
        let field = self.message.descriptor().get_field_by_name(name)?;
        if field.is_list() || !self.message.has_field(&field) {
            return None;
        }
        Some((field.kind(), self.message.get_field(&field)))
    }

    fn text(&self, name: &str) -> Option<ByteString> {
        let (kind, value) = self.get(name)?;
        let text = match (&*value, kind) {
            (Value::Message(wrapped), _) => text_of(wrapper(wrapped)?.as_ref())?,
            (Value::EnumNumber(number), Kind::Enum(of)) => of.get_value(*number)?.name().to_owned(),
            (value, _) => text_of(value)?,
        };
        let is_attribute = !text.is_empty()
            && text.len() <= Limits::default().attribute_bytes_max
            && !text.chars().any(char::is_control);
        is_attribute.then(|| text.into())
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        let (_, value) = self.get(name)?;
        let time = match &*value {
            Value::Message(message) if message.descriptor().full_name() == "google.protobuf.Timestamp" => {
                let seconds = message.get_field_by_name("seconds")?.as_i64()?;
                let nanos = message.get_field_by_name("nanos")?.as_i32()?;
                seconds.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))?
            }
            Value::String(text) => parse_time(text)?.0,
            value => i64::try_from(whole(value)?).ok()?,
        };
        (1..=MAX_TIME).contains(&time).then_some(Timestamp(time))
    }

    fn count(&self, name: &str) -> u32 {
        let count = self.get(name).and_then(|(_, value)| match &*value {
            Value::Message(wrapped) => whole(wrapper(wrapped)?.as_ref()),
            value => whole(value),
        });
        count.map_or(0, |count| u32::try_from(count.max(0)).unwrap_or(u32::MAX))
    }
}

/// What one of `google.protobuf`'s wrappers holds.
fn wrapper(message: &DynamicMessage) -> Option<Cow<'_, Value>> {
    let descriptor: MessageDescriptor = message.descriptor();
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    name.strip_suffix("Value").filter(|of| !of.is_empty() && *of != "List")?;
    message.get_field_by_name("value")
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        value => whole(value).map(|number| number.to_string()),
    }
}

fn whole(value: &Value) -> Option<i128> {
    Some(match value {
        Value::I32(number) => i128::from(*number),
        Value::I64(number) => i128::from(*number),
        Value::U32(number) => i128::from(*number),
        Value::U64(number) => i128::from(*number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::{SchemaType, parse};
    use proptest::prelude::*;
    use prost::Message as _;

    const SCHEMA: &str = "syntax = \"proto2\"; import \"google/protobuf/timestamp.proto\"; \
        message Event { optional Said metadata = 1; optional string other = 2; } \
        message Said { optional string event_id = 1; optional string source = 2; \
          optional google.protobuf.Timestamp timestamp = 3; optional int64 retry_count = 4; \
          optional sint32 tenant_id = 5; }";

    fn message(bytes: &[u8]) -> Option<DynamicMessage> {
        let schema = parse(SchemaType::Protobuf, SCHEMA, &[]).unwrap();
        schema.as_protobuf().unwrap().decode(None, bytes).ok()
    }

    fn of_json(json: &str) -> Option<Metadata> {
        let schema = parse(SchemaType::Protobuf, SCHEMA, &[]).unwrap();
        let message = schema.as_protobuf().unwrap().of_json(None, json.as_bytes()).unwrap();
        MetadataFields::default().read(&message)
    }

    #[test]
    fn a_message_that_says_nothing_says_nothing() {
        for json in [
            "{}",
            r#"{"other": "x"}"#,
            r#"{"metadata": {}}"#,
            r#"{"metadata": {"eventId": "", "retryCount": "-1", "timestamp": "1969-12-31T23:59:59Z"}}"#,
        ] {
            assert_eq!(of_json(json), None, "{json}");
        }
        let none = MetadataFields { field: "other".into(), ..MetadataFields::default() };
        assert_eq!(none.read(&message(b"\x12\x01x").unwrap()), None, "a text is no message");
    }

    #[test]
    fn a_text_that_is_too_long_for_an_attribute_is_none() {
        let most = Limits::default().attribute_bytes_max;
        let id =
            |length: usize| of_json(&format!(r#"{{"metadata": {{"eventId": "{}"}}}}"#, "x".repeat(length)));
        assert_eq!(id(most).and_then(|said| said.id).map(|id| id.len()), Some(most));
        assert_eq!(id(most + 1), None);
    }

    proptest! {
        /// Whatever a message holds: what it says are attributes that a publisher could have given, headers are the
        /// same as what fills an event, and what is there stays.
        #[test]
        fn whatever_a_message_says_is_an_attribute_and_fills_only_gaps(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            id in prop::option::of("\\PC{0,5}"),
            source in prop::option::of(".{0,5}"),
            retries in prop::option::of(any::<i64>()),
            seconds in prop::option::of(any::<i64>()),
            given in prop::option::of("[a-z]{1,3}"),
        ) {
            let schema = parse(SchemaType::Protobuf, SCHEMA, &[]).unwrap();
            let protobuf = schema.as_protobuf().unwrap();
            let descriptor = protobuf.pool().get_message_by_name("Said").unwrap();
            // Random bytes may be fields of any kind.
            let mut said = DynamicMessage::decode(descriptor.clone(), &bytes[..])
                .unwrap_or_else(|_| DynamicMessage::new(descriptor));
            if let Some(id) = &id { said.set_field_by_name("event_id", Value::String(id.clone())); }
            if let Some(source) = &source { said.set_field_by_name("source", Value::String(source.clone())); }
            if let Some(retries) = retries { said.set_field_by_name("retry_count", Value::I64(retries)); }
            if let Some(seconds) = seconds {
                let time = protobuf.pool().get_message_by_name("google.protobuf.Timestamp").unwrap();
                let mut time = DynamicMessage::new(time);
                time.set_field_by_name("seconds", Value::I64(seconds));
                said.set_field_by_name("timestamp", Value::Message(time));
            }
            let mut event = DynamicMessage::new(protobuf.message(None).unwrap().clone());
            event.set_field_by_name("metadata", Value::Message(said));
            let read = message(&event.encode_to_vec()).and_then(|it| MetadataFields::default().read(&it));
            let Some(metadata) = read else { return Ok(()) };

            let given = Event { id: given.map(Into::into), ..Event::default() };
            let mut filled = given.clone();
            metadata.fill(&mut filled);
            prop_assert!(filled.check(&Limits::default()).is_ok(), "{filled:?}");
            prop_assert_eq!(&filled.id, &given.id.clone().or_else(|| metadata.id.clone()));
            let mut again = filled.clone();
            metadata.fill(&mut again);
            prop_assert_eq!(&again, &filled, "filled twice is filled once");

            let headers = given.id.map(|id| Header { name: header::ID.into(), value: Some(id.into_bytes()) });
            let mut record = Record { headers: headers.into_iter().collect(), ..Record::default() };
            let added = metadata.headers(&record);
            record.headers.extend(added);
            prop_assert_eq!(Event::from_record(&record), filled);
            prop_assert!(metadata.headers(&record).is_empty());
            let tried = u32::try_from(retries.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
            if retries.is_some() { prop_assert_eq!(Metadata::tried_before(&record, Some(&metadata)), tried); }
        }
    }
}

//! The event: CloudEvents 1.0 attributes around a key, a value and headers, and its binary binding to a
//! record (CloudEvents Kafka protocol binding 1.0, section 3.2).

use crate::{
    error::{Error, Result},
    limits::Limits,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{Header, Headers, PartitionId, Record, Timestamp};

/// Names of headers that carry attributes.
pub mod header {
    /// The prefix of CloudEvents attributes.
    pub const CE_PREFIX: &str = "ce_";
    /// The prefix of the service's own headers.
    pub const OWN_PREFIX: &str = "es_";
    /// `datacontenttype`.
    pub const CONTENT_TYPE: &str = "content-type";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace context.
    pub const TRACESTATE: &str = "tracestate";
    /// The mark of an event that was published with an idempotency key.
    pub const IDEMPOTENCY_KEY: &str = "es_idempotency_key";
    pub(super) const SPECVERSION: &str = "ce_specversion";
    pub(crate) const ID: &str = "ce_id";
    pub(crate) const SOURCE: &str = "ce_source";
    pub(crate) const TYPE: &str = "ce_type";
    pub(crate) const TIME: &str = "ce_time";
    pub(super) const SUBJECT: &str = "ce_subject";
    pub(super) const DATASCHEMA: &str = "ce_dataschema";
    pub(crate) const TENANT: &str = "ce_tenantid";
    pub(crate) const USER: &str = "ce_userid";
    pub(crate) const CORRELATION: &str = "ce_correlationid";
    pub(crate) const CAUSATION: &str = "ce_causationid";
}

/// An event, on its way in (what is left out is filled in) or out (what a foreign producer left out
/// stays so).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Identifies the event within its source.
    pub id: Option<ByteString>,
    /// Where it comes from, a URI reference.
    pub source: Option<ByteString>,
    /// What kind of event it is.
    pub event_type: Option<ByteString>,
    /// What it is about, within the source.
    pub subject: Option<ByteString>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The record's key, CloudEvents' `partitionkey`.
    pub key: Option<Bytes>,
    /// The partition that the publisher asks for.
    pub partition: Option<PartitionId>,
    /// Further headers of the record.
    pub headers: Headers,
    /// The value; `None` is null.
    pub data: Option<Bytes>,
    /// The media type of the value.
    pub content_type: Option<ByteString>,
    /// The schema that the value follows.
    pub data_schema: Option<ByteString>,
    /// The tenant that it belongs to.
    pub tenant_id: Option<ByteString>,
    /// The user who caused it.
    pub user_id: Option<ByteString>,
    /// What it belongs together with.
    pub correlation_id: Option<ByteString>,
    /// The event that caused it.
    pub causation_id: Option<ByteString>,
    /// W3C trace context.
    pub traceparent: Option<ByteString>,
    /// W3C trace context.
    pub tracestate: Option<ByteString>,
    /// Further CloudEvents extensions, by name.
    pub extensions: Vec<(ByteString, ByteString)>,
    /// Has the event published once. It is not a part of the record.
    pub idempotency_key: Option<ByteString>,
    /// The message of the topic's schema that the value is, where that is not the first one. It is not a part of the
    /// record: the value's frame says it.
    pub message_type: Option<ByteString>,
}

/// Fills in what publishers leave out. One for a batch, so that what is the same for all is made once.
#[derive(Debug)]
pub struct Stamp {
    now: Timestamp,
    now_text: Bytes,
    source: ByteString,
    event_type: ByteString,
}

impl Stamp {
    /// For a batch that is published at `now`, by a caller whose events come from `source` unless they
    /// say otherwise, to a topic whose events are of `event_type` unless they say otherwise.
    pub fn new(now: Timestamp, source: ByteString, event_type: ByteString) -> Self {
        Self { now, now_text: time_text(now).into(), source, event_type }
    }
}

impl Event {
    /// Checks the event against the rules for names and sizes. The size of the whole is the topic's
    /// matter.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let attributes = [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.event_type),
            ("subject", &self.subject),
            ("datacontenttype", &self.content_type),
            ("dataschema", &self.data_schema),
            ("tenantid", &self.tenant_id),
            ("userid", &self.user_id),
            ("correlationid", &self.correlation_id),
            ("causationid", &self.causation_id),
            ("traceparent", &self.traceparent),
            ("tracestate", &self.tracestate),
            ("messagetype", &self.message_type),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                check_text(name, value, limits)?;
            }
        }
        if let Some(time) = self.time
            && !(0..=MAX_TIME).contains(&time.0)
        {
            return Err(Error::invalid("time", "must lie between 1970-01-01 and 9999-12-31"));
        }
        if let Some(key) = &self.idempotency_key {
            check_text("idempotencykey", key, limits)?;
            if key.chars().count() > IDEMPOTENCY_KEY_MAX {
                return Err(Error::invalid(
                    "idempotencykey",
                    format!(
                        "must have at most {IDEMPOTENCY_KEY_MAX} characters, has {}",
                        key.chars().count()
                    ),
                ));
            }
        }
        if let Some(key) = &self.key
            && key.len() > limits.key_bytes_max
        {
            return Err(Error::invalid(
                "key",
                format!("must have at most {} bytes, has {}", limits.key_bytes_max, key.len()),
            ));
        }
        if self.headers.len() + self.extensions.len() > limits.headers_max {
            return Err(Error::invalid(
                "headers",
                format!(
                    "must have at most {} entries, extensions included, has {}",
                    limits.headers_max,
                    self.headers.len() + self.extensions.len()
                ),
            ));
        }
        for Header { name, value } in &self.headers {
            check_header(name, value.as_ref(), limits)?;
        }
        for (index, (name, value)) in self.extensions.iter().enumerate() {
            check_extension(name)?;
            if self.extensions[..index].iter().any(|(other, _)| other == name) {
                return Err(Error::invalid(format!("extensions.{name}"), "is given twice"));
            }
            check_text(&format!("extensions.{name}"), value, limits)?;
        }
        Ok(())
    }

    /// The record that carries this event, and the id that it has been given.
    ///
    /// Moves what it can: key, value and attribute bytes are shared, not copied.
    pub fn into_record(self, stamp: &Stamp) -> (Record, ByteString) {
        let id = self.id.unwrap_or_else(|| new_id(stamp.now));
        let mut headers = Headers::with_capacity(8 + self.extensions.len() + self.headers.len());
        let mut put = |name: &'static str, value: Bytes| {
            headers.push(Header { name: ByteString::from_static(name), value: Some(value) });
        };
        put(header::SPECVERSION, Bytes::from_static(b"1.0"));
        put(header::ID, id.as_bytes().clone());
        put(header::SOURCE, self.source.unwrap_or_else(|| stamp.source.clone()).into_bytes());
        put(header::TYPE, self.event_type.unwrap_or_else(|| stamp.event_type.clone()).into_bytes());
        let timestamp = self.time.unwrap_or(stamp.now);
        put(
            header::TIME,
            if timestamp == stamp.now { stamp.now_text.clone() } else { time_text(timestamp).into() },
        );
        let optional = [
            (header::SUBJECT, self.subject),
            (header::DATASCHEMA, self.data_schema),
            (header::TENANT, self.tenant_id),
            (header::USER, self.user_id),
            (header::CORRELATION, self.correlation_id),
            (header::CAUSATION, self.causation_id),
            (header::CONTENT_TYPE, self.content_type),
            (header::TRACEPARENT, self.traceparent),
            (header::TRACESTATE, self.tracestate),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                put(name, value.into_bytes());
            }
        }
        for (name, value) in self.extensions {
            headers.push(Header { name: format!("ce_{name}").into(), value: Some(value.into_bytes()) });
        }
        headers.extend(self.headers);
        (Record { key: self.key, value: self.data, headers, timestamp }, id)
    }

    /// The event that a record carries. Never fails: what is not an attribute stays a header.
    ///
    /// Bytes are shared with the record, not copied.
    pub fn from_record(record: &Record) -> Self {
        let mut event = Self { key: record.key.clone(), data: record.value.clone(), ..Self::default() };
        for header in &record.headers {
            event.take_header(header);
        }
        event
    }

    fn take_header(&mut self, header: &Header) {
        let text = match &header.value {
            Some(value) => ByteString::try_from(value.clone()).ok(),
            None => None,
        };
        let Some(text) = text else {
            self.headers.push(header.clone());
            return;
        };
        let slot = match &*header.name {
            header::SPECVERSION => return,
            header::ID => &mut self.id,
            header::SOURCE => &mut self.source,
            header::TYPE => &mut self.event_type,
            header::SUBJECT => &mut self.subject,
            header::DATASCHEMA => &mut self.data_schema,
            header::TENANT => &mut self.tenant_id,
            header::USER => &mut self.user_id,
            header::CORRELATION => &mut self.correlation_id,
            header::CAUSATION => &mut self.causation_id,
            header::CONTENT_TYPE | "ce_datacontenttype" => &mut self.content_type,
            header::TRACEPARENT | "ce_traceparent" => &mut self.traceparent,
            header::TRACESTATE | "ce_tracestate" => &mut self.tracestate,
            header::TIME => {
                match parse_time(&text) {
                    Some(time) if self.time.is_none() => self.time = Some(time),
                    _ => self.headers.push(header.clone()),
                }
                return;
            }
            name => {
                match name.strip_prefix(header::CE_PREFIX) {
                    Some(extension) if is_extension_name(extension) => {
                        self.extensions.push((ByteString::from(extension), text));
                    }
                    _ => self.headers.push(header.clone()),
                }
                return;
            }
        };
        if slot.is_none() {
            *slot = Some(text);
        } else {
            self.headers.push(header.clone());
        }
    }
}

/// The most characters of an idempotency key.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
pub(crate) const MAX_TIME: i64 = 253_402_300_799_999;

/// RFC 3339 in UTC with milliseconds.
pub fn time_text(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.0.to_string(), |t| format!("{t:.3}"))
}

/// Reads RFC 3339, or milliseconds since the epoch, as clients may write a time.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Some(Timestamp(millis));
    }
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
}

/// A version 7 UUID (RFC 9562) of `now`.
pub fn new_id(now: Timestamp) -> ByteString {
    let uuid = uuid::Builder::from_unix_timestamp_millis(now.0.max(0) as u64, &rand::random()).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    ByteString::from(&*uuid.hyphenated().encode_lower(&mut buffer))
}

fn check_text(field: &str, value: &str, limits: &Limits) -> Result<()> {
    if value.is_empty() {
        return Err(Error::invalid(field, "must not be empty; leave it out instead"));
    }
    if value.len() > limits.attribute_bytes_max {
        return Err(Error::invalid(
            field,
            format!("must have at most {} bytes, has {}", limits.attribute_bytes_max, value.len()),
        ));
    }
    // CloudEvents 1.0.2, section 3.1: strings hold no control characters.
    if let Some(character) = value.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(field, format!("must not hold the control character {character:?}")));
    }
    Ok(())
}

fn check_header(name: &str, value: Option<&Bytes>, limits: &Limits) -> Result<()> {
    let field = || format!("headers.{}", name.chars().take(80).collect::<String>());
    if name.is_empty() || name.len() > 256 {
        return Err(Error::invalid(field(), "must have a name of 1 to 256 bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(field(), "must not have a control character in its name"));
    }
    let reserved = name.starts_with(header::CE_PREFIX)
        || name.starts_with(header::OWN_PREFIX)
        || matches!(name, header::CONTENT_TYPE | header::TRACEPARENT | header::TRACESTATE);
    if reserved {
        return Err(Error::invalid(
            field(),
            "is reserved: `ce_…`, `content-type`, `traceparent` and `tracestate` carry the event's own fields, \
             `es_…` is the service's",
        ));
    }
    let length = value.map_or(0, Bytes::len);
    if length > limits.header_bytes_max {
        return Err(Error::invalid(
            field(),
            format!("must have at most {} bytes, has {length}", limits.header_bytes_max),
        ));
    }
    Ok(())
}

fn is_extension_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The names that CloudEvents or the event's own fields use.
const TAKEN: [&str; 18] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "partitionkey",
    "tenantid",
    "userid",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
    "idempotencykey",
    "messagetype",
];

fn check_extension(name: &str) -> Result<()> {
    let field = || format!("extensions.{}", name.chars().take(80).collect::<String>());
    if !is_extension_name(name) {
        return Err(Error::invalid(field(), "must have a name of 1 to 20 characters of a-z and 0-9"));
    }
    if TAKEN.contains(&name) {
        return Err(Error::invalid(field(), "is a field of the event itself; give it there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp::new(Timestamp(1_700_000_000_123), "/event-streaming".into(), "event".into())
    }

    #[test]
    fn an_event_comes_back_from_its_record_as_it_was() {
        let event = Event {
            id: Some("i".into()),
            source: Some("/shop".into()),
            event_type: Some("order.created".into()),
            subject: Some("o-1".into()),
            time: Some(Timestamp(1)),
            key: Some(Bytes::from_static(b"k\xff")),
            headers: vec![
                Header::new("x", Bytes::from_static(b"1")),
                Header { name: "x".into(), value: None },
                Header::new("y", Bytes::from_static(b"\xff")),
            ],
            data: Some(Bytes::new()),
            content_type: Some("application/json".into()),
            data_schema: Some("urn:s".into()),
            tenant_id: Some("t".into()),
            user_id: Some("u".into()),
            correlation_id: Some("c".into()),
            causation_id: Some("e".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: Some("a=b".into()),
            extensions: vec![("region".into(), "eu".into())],
            partition: None,
            idempotency_key: None,
            message_type: None,
        };
        event.check(&Limits::default()).unwrap();
        let (record, id) = event.clone().into_record(&stamp());
        assert_eq!(id, "i");
        assert_eq!(record.timestamp, Timestamp(1));
        assert_eq!(Event::from_record(&record), event);
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let (record, id) = Event::default().into_record(&stamp());
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        let event = Event::from_record(&record);
        assert_eq!(event.source.as_deref(), Some("/event-streaming"));
        assert_eq!(event.event_type.as_deref(), Some("event"));
        assert_eq!(event.time, Some(Timestamp(1_700_000_000_123)));
        assert_eq!(event.data, None, "no data is Kafka's null");
    }

    #[test]
    fn a_foreign_record_keeps_all_its_headers() {
        let headers = vec![
            Header::new("ce_id", Bytes::from_static(b"\xff\xfe")),
            Header::new("ce_time", Bytes::from_static(b"yesterday")),
            Header::new("ce_Bad-Name", Bytes::from_static(b"x")),
            Header { name: "ce_type".into(), value: None },
        ];
        let event = Event::from_record(&Record { headers: headers.clone(), ..Record::default() });
        assert_eq!(event.headers, headers);
        assert_eq!(event.id, None);
    }

    #[test]
    fn rules_name_the_field_and_what_would_be_right() {
        let limits = Limits::default();
        let refused = |event: Event| event.check(&limits).unwrap_err().fields()[0].field.clone();
        let text = |t: &str| Some(ByteString::from(t));
        assert_eq!(refused(Event { id: text(""), ..Event::default() }), "id");
        assert_eq!(refused(Event { source: text("a\nb"), ..Event::default() }), "source");
        assert_eq!(refused(Event { subject: text(&"x".repeat(5000)), ..Event::default() }), "subject");
        assert_eq!(refused(Event { idempotency_key: text(""), ..Event::default() }), "idempotencykey");
        let long = text(&"x".repeat(256));
        assert_eq!(refused(Event { idempotency_key: long, ..Event::default() }), "idempotencykey");
        assert_eq!(refused(Event { time: Some(Timestamp(-1)), ..Event::default() }), "time");
        let header =
            |name: &str| Event { headers: vec![Header::new(name, Bytes::new())], ..Event::default() };
        assert_eq!(refused(header("ce_id")), "headers.ce_id");
        assert_eq!(refused(header("es_x")), "headers.es_x");
        assert_eq!(refused(header("content-type")), "headers.content-type");
        let extension =
            |name: &str| Event { extensions: vec![(name.into(), "v".into())], ..Event::default() };
        assert_eq!(refused(extension("Region")), "extensions.Region");
        assert_eq!(refused(extension("tenantid")), "extensions.tenantid");
    }

    #[test]
    fn times_are_read_as_rfc3339_or_milliseconds_and_written_with_milliseconds() {
        assert_eq!(parse_time("1700000000123"), Some(Timestamp(1_700_000_000_123)));
        assert_eq!(parse_time("2023-11-14T23:13:20.123+01:00"), Some(Timestamp(1_700_000_000_123)));
        assert_eq!(parse_time("tomorrow"), None);
        assert_eq!(time_text(Timestamp(1_700_000_000_000)), "2023-11-14T22:13:20.000Z");
    }
}

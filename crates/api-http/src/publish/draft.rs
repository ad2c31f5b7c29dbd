//! An event while its members are read, whatever the format.

use crate::json::{
    DEPTH_MAX, base64_bytes, depth_within, elements, integer, is_null, members, short, string, wrong_type,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{Error, Event, Limits, Result, event::parse_time};
use ports::{Header, PartitionId, Timestamp};
use std::borrow::Cow;

/// What reading an event needs: the text that everything is sliced from, and the bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// The whole body.
    pub(crate) body: &'a ByteString,
    /// The bounds.
    pub(crate) limits: &'a Limits,
}

impl<'a> Source<'a> {
    /// A string without copying it where it holds no escape; `None` for null.
    pub(crate) fn text(&self, field: &str, raw: &'a str) -> Result<Option<ByteString>> {
        if is_null(raw) {
            return Ok(None);
        }
        Ok(Some(match string(field, raw)? {
            Cow::Borrowed(text) => self.body.slice_ref(text),
            Cow::Owned(text) => text.into(),
        }))
    }

    /// A scalar as its text, for extensions; `None` for null.
    pub(crate) fn scalar(&self, field: &str, raw: &'a str) -> Result<Option<ByteString>> {
        match raw.as_bytes().first() {
            Some(b'{' | b'[') => Err(wrong_type(field, "a string, a number or a boolean", raw)),
            Some(b'"' | b'n') => self.text(field, raw),
            _ => Ok(Some(self.body.slice_ref(raw))),
        }
    }

    /// A key: a string, or `{"base64"}` for bytes that are none.
    fn key(&self, field: &str, raw: &'a str) -> Result<Option<Bytes>> {
        if raw.starts_with('{') {
            return wrapped_base64(field, raw).map(Some);
        }
        match self.text(field, raw) {
            Ok(text) => Ok(text.map(ByteString::into_bytes)),
            Err(_) if !raw.starts_with('"') => Err(wrong_type(field, "a string or {\"base64\"}", raw)),
            Err(error) => Err(error),
        }
    }

    fn headers(&self, raw: &'a str) -> Result<Vec<Header>> {
        let mut headers = Vec::new();
        if is_null(raw) {
            return Ok(headers);
        }
        if !raw.starts_with('{') {
            return Err(wrong_type("headers", "an object", raw));
        }
        members(raw, |name, raw| {
            let name = match name {
                Cow::Borrowed(name) => self.body.slice_ref(name),
                Cow::Owned(name) => name.into(),
            };
            if !raw.starts_with('[') {
                headers.push(self.header(&name, raw)?);
                return self.check_count("headers", headers.len());
            }
            elements(raw, |_, raw| {
                headers.push(self.header(&name, raw)?);
                self.check_count("headers", headers.len())
            })
        })?;
        Ok(headers)
    }

    fn header(&self, name: &ByteString, raw: &'a str) -> Result<Header> {
        let field = || format!("headers.{}", short(name));
        let value = match raw.as_bytes().first() {
            Some(b'n') => None,
            Some(b'{') => Some(wrapped_base64(&field(), raw)?),
            Some(b'"') => self.text(&field(), raw)?.map(ByteString::into_bytes),
            _ => {
                let expected = "a string, null, {\"base64\"}, or an array of these";
                return Err(wrong_type(&field(), expected, raw));
            }
        };
        Ok(Header { name: name.clone(), value })
    }

    fn extensions(&self, raw: &'a str) -> Result<Vec<(ByteString, ByteString)>> {
        let mut extensions = Vec::new();
        if is_null(raw) {
            return Ok(extensions);
        }
        if !raw.starts_with('{') {
            return Err(wrong_type("extensions", "an object", raw));
        }
        members(raw, |name, raw| {
            let field = format!("extensions.{}", short(&name));
            if let Some(value) = self.scalar(&field, raw)? {
                extensions.push((ByteString::from(&*name), value));
            }
            self.check_count("extensions", extensions.len())
        })?;
        Ok(extensions)
    }

    /// Stops reading what is too much before it takes memory; the event's own check says it more exactly.
    pub(crate) fn check_count(&self, field: &str, count: usize) -> Result<()> {
        let most = self.limits.headers_max;
        if count > most {
            return Err(Error::invalid(field, format!("must have at most {most} entries")));
        }
        Ok(())
    }
}

/// A time, as RFC 3339 or as milliseconds since the epoch.
fn time(field: &str, raw: &str) -> Result<Option<Timestamp>> {
    if is_null(raw) {
        return Ok(None);
    }
    let text = if raw.starts_with('"') { string(field, raw)? } else { Cow::Borrowed(raw) };
    parse_time(&text).map(Some).ok_or_else(|| {
        let message = format!(
            "must be RFC 3339, as `2026-01-02T03:04:05.678Z`, or milliseconds since 1970 (given: {:?})",
            short(&text)
        );
        Error::invalid(field, message)
    })
}

/// `{"base64": "…"}`.
fn wrapped_base64(field: &str, raw: &str) -> Result<Bytes> {
    let mut bytes = None;
    members(raw, |name, raw| match &*name {
        "base64" if bytes.is_none() => {
            bytes = Some(Bytes::from(base64_bytes(field, raw)?));
            Ok(())
        }
        _ => Err(Error::invalid(field, "must have exactly one member, `base64`")),
    })?;
    bytes.ok_or_else(|| Error::invalid(field, "must have a member `base64`"))
}

/// An event of which not all members have been read.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    pub(crate) event: Event,
    data: Option<&'a str>,
    data_base64: Option<&'a str>,
    /// A bit for each member that has been read, by its place in [`ATTRIBUTES`].
    seen: u32,
}

/// The members that every JSON format of an event has.
pub(crate) const ATTRIBUTES: [&str; 16] = [
    "specversion",
    "id",
    "type",
    "source",
    "subject",
    "time",
    "data",
    "data_base64",
    "datacontenttype",
    "dataschema",
    "tenantid",
    "userid",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
];

/// The bits of [`Draft::seen`] behind those of [`ATTRIBUTES`].
const KEY: u32 = 1 << 16;
const PARTITION: u32 = 1 << 17;
const HEADERS: u32 = 1 << 18;
const EXTENSIONS: u32 = 1 << 19;
const IDEMPOTENCY_KEY: u32 = 1 << 20;
const MESSAGE_TYPE: u32 = 1 << 21;

impl<'a> Draft<'a> {
    /// Takes a member that every format has; false where `name` is none.
    pub(crate) fn attribute(&mut self, source: Source<'a>, name: &str, raw: &'a str) -> Result<bool> {
        let Some(at) = ATTRIBUTES.iter().position(|attribute| *attribute == name) else {
            return Ok(false);
        };
        self.once(1 << at, name)?;
        let event = &mut self.event;
        let slot = match name {
            "specversion" => {
                let version = source.text(name, raw)?;
                if version.as_deref().is_some_and(|version| version != "1.0") {
                    return Err(Error::invalid(name, "must be `1.0`, the version that is understood"));
                }
                return Ok(true);
            }
            "time" => {
                event.time = time(name, raw)?;
                return Ok(true);
            }
            "data" => {
                self.data = Some(raw);
                return Ok(true);
            }
            "data_base64" => {
                self.data_base64 = Some(raw);
                return Ok(true);
            }
            "id" => &mut event.id,
            "type" => &mut event.event_type,
            "source" => &mut event.source,
            "subject" => &mut event.subject,
            "datacontenttype" => &mut event.content_type,
            "dataschema" => &mut event.data_schema,
            "tenantid" => &mut event.tenant_id,
            "userid" => &mut event.user_id,
            "correlationid" => &mut event.correlation_id,
            "causationid" => &mut event.causation_id,
            "traceparent" => &mut event.traceparent,
            _ => &mut event.tracestate,
        };
        *slot = source.text(name, raw)?;
        Ok(true)
    }

    /// Takes the key; `name` is what it is called here.
    pub(crate) fn key(&mut self, source: Source<'a>, name: &str, raw: &'a str) -> Result<()> {
        self.once(KEY, name)?;
        self.event.key = source.key(name, raw)?;
        Ok(())
    }

    /// Takes the partition.
    pub(crate) fn partition(&mut self, raw: &'a str) -> Result<()> {
        self.once(PARTITION, "partition")?;
        if !is_null(raw) {
            let given = integer("partition", raw)?;
            let number = PartitionId::try_from(given);
            self.event.partition = Some(number.map_err(|_| {
                Error::invalid(
                    "partition",
                    format!("must be the number of a partition, from 0 (given: {given})"),
                )
            })?);
        }
        Ok(())
    }

    /// Takes the headers.
    pub(crate) fn headers(&mut self, source: Source<'a>, raw: &'a str) -> Result<()> {
        self.once(HEADERS, "headers")?;
        self.event.headers = source.headers(raw)?;
        Ok(())
    }

    /// Takes the extensions.
    pub(crate) fn extensions(&mut self, source: Source<'a>, raw: &'a str) -> Result<()> {
        self.once(EXTENSIONS, "extensions")?;
        self.event.extensions = source.extensions(raw)?;
        Ok(())
    }

    /// Takes the idempotency key.
    pub(crate) fn idempotency_key(&mut self, source: Source<'a>, raw: &'a str) -> Result<()> {
        self.once(IDEMPOTENCY_KEY, "idempotencykey")?;
        self.event.idempotency_key = source.text("idempotencykey", raw)?;
        Ok(())
    }

    /// Takes the message type; `name` is what it is called here.
    pub(crate) fn message_type(&mut self, source: Source<'a>, name: &str, raw: &'a str) -> Result<()> {
        self.once(MESSAGE_TYPE, "messagetype")?;
        self.event.message_type = source.text(name, raw)?;
        Ok(())
    }

    fn once(&mut self, bit: u32, name: &str) -> Result<()> {
        if self.seen & bit != 0 {
            return Err(Error::invalid(name, "is given twice"));
        }
        self.seen |= bit;
        Ok(())
    }

    /// Whether the member of [`ATTRIBUTES`] has been there.
    pub(crate) fn has(&self, name: &str) -> bool {
        ATTRIBUTES.iter().position(|attribute| *attribute == name).is_some_and(|at| self.seen & 1 << at != 0)
    }

    /// The event, with its value: only now it is known what type that has.
    pub(crate) fn finish(mut self, source: Source<'a>) -> Result<Event> {
        self.event.data = match (self.data, self.data_base64) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("data_base64", "must not be given beside `data`"));
            }
            (None, None) => None,
            (None, Some(raw)) if is_null(raw) => None,
            (None, Some(raw)) => Some(base64_bytes("data_base64", raw)?.into()),
            (Some(raw), None) if is_null(raw) => None,
            (Some(raw), None) => Some(self.value(source, raw)?),
        };
        Ok(self.event)
    }

    fn value(&self, source: Source<'a>, raw: &'a str) -> Result<Bytes> {
        let is_text = self.event.content_type.as_deref().is_some_and(|kind| !is_json(kind));
        if is_text && raw.starts_with('"') {
            return Ok(source.text("data", raw)?.unwrap_or_default().into_bytes());
        }
        if !depth_within(raw, DEPTH_MAX) {
            let message = format!("must not have more than {DEPTH_MAX} arrays and objects within each other");
            return Err(Error::invalid("data", message));
        }
        Ok(source.body.slice_ref(raw).into_bytes())
    }
}

/// Whether a media type is JSON: its subtype is `json` or ends in `+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((_, subtype)) = essence.split_once('/') else { return false };
    let ends_in = |suffix: &str| {
        let at = subtype.len().checked_sub(suffix.len());
        at.and_then(|at| subtype.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    subtype.eq_ignore_ascii_case("json") || ends_in("+json")
}

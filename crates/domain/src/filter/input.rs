//! The event as an expression sees it, read as far as it asks.

use super::{
    FilterInput,
    eval::{Budget, Fault},
    node::Name,
    value::{List, Map, Octets, Text, Value},
};
use crate::event::{Event, header};
use ports::{Header, Record, Timestamp};
use serde_json::Value as Json;
use std::{cell::OnceCell, collections::BTreeMap};

/// The names that an expression refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted(u32);

impl Wanted {
    pub(super) fn add(&mut self, name: Name) {
        self.0 |= name.bit();
    }

    fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0
    }

    pub(super) fn data(self) -> bool {
        self.has(Name::Data)
    }

    /// Whether an attribute is wanted that a value may say and a record's headers do not.
    pub(super) fn lacks(self, record: &Record) -> bool {
        let attributes = [
            (Name::Id, header::ID),
            (Name::Source, header::SOURCE),
            (Name::Type, header::TYPE),
            (Name::Time, header::TIME),
            (Name::TenantId, header::TENANT),
            (Name::UserId, header::USER),
            (Name::CorrelationId, header::CORRELATION),
            (Name::CausationId, header::CAUSATION),
        ];
        let is_there = |name: &str| record.headers.iter().any(|header| *header.name == *name);
        self.0 != 0 && attributes.iter().any(|(name, header)| self.has(*name) && !is_there(header))
    }

    /// Whether a header may carry something that is wanted.
    fn carried_by(self, carrier: &Header) -> bool {
        if self.has(Name::Headers) || self.has(Name::Extensions) {
            return true;
        }
        let attribute = carrier.name.strip_prefix(header::CE_PREFIX);
        attribute.and_then(Name::of).is_some_and(|name| self.has(name))
    }
}

/// An event, of which nothing has been read yet.
pub(super) struct Input<'r> {
    event: FilterInput<'r>,
    wanted: Wanted,
    data_bytes_max: usize,
    attributes: OnceCell<Event>,
    data: OnceCell<Result<Json, String>>,
}

impl<'r> Input<'r> {
    pub(super) fn new(event: FilterInput<'r>, wanted: Wanted, data_bytes_max: usize) -> Self {
        Self { event, wanted, data_bytes_max, attributes: OnceCell::new(), data: OnceCell::new() }
    }

    /// What a name stands for.
    pub(super) fn get<'a>(&'a self, name: Name, budget: &mut Budget) -> Result<Value<'a>, Fault> {
        let record = &self.event.record.record;
        let text = |text: &'a Option<bytestring::ByteString>| match text {
            Some(text) => Value::String(Text::Borrowed(text)),
            None => Value::Null,
        };
        Ok(match name {
            Name::Topic => Value::String(Text::Borrowed(self.event.topic)),
            Name::Partition => Value::Int(i64::from(self.event.partition)),
            Name::Offset => Value::Int(i64::try_from(self.event.record.offset).unwrap_or(i64::MAX)),
            Name::Timestamp => moment(record.timestamp)?,
            Name::Key => match &record.key {
                Some(key) => text_or_bytes(key, budget)?,
                None => Value::Null,
            },
            Name::Data => self.data(budget)?,
            Name::Id => text(&self.attributes(budget)?.id),
            Name::Source => text(&self.attributes(budget)?.source),
            Name::Type => text(&self.attributes(budget)?.event_type),
            Name::Subject => text(&self.attributes(budget)?.subject),
            Name::TenantId => text(&self.attributes(budget)?.tenant_id),
            Name::UserId => text(&self.attributes(budget)?.user_id),
            Name::CorrelationId => text(&self.attributes(budget)?.correlation_id),
            Name::CausationId => text(&self.attributes(budget)?.causation_id),
            Name::Time => match self.attributes(budget)?.time {
                Some(time) => moment(time)?,
                None => Value::Null,
            },
            Name::Headers => self.headers(budget)?,
            Name::Extensions => self.extensions(budget)?,
        })
    }

    /// The attributes, as far as they are wanted.
    fn attributes(&self, budget: &mut Budget) -> Result<&Event, Fault> {
        if let Some(event) = self.attributes.get() {
            return Ok(event);
        }
        let all = &self.event.record.record.headers;
        budget.take(all.len() as u64)?;
        let headers: Vec<Header> =
            all.iter().filter(|header| self.wanted.carried_by(header)).cloned().collect();
        for header in &headers {
            budget.take_bytes(header.value.as_ref().map_or(0, bytes::Bytes::len))?;
        }
        Ok(self.attributes.get_or_init(|| {
            let mut event = Event::from_record(&Record { headers, ..Record::default() });
            if let Some(metadata) = self.event.metadata {
                metadata.fill(&mut event);
            }
            event
        }))
    }

    fn data(&self, budget: &mut Budget) -> Result<Value<'_>, Fault> {
        let value = self.event.decoded.or(self.event.record.record.value.as_ref());
        let Some(value) = value else { return Ok(Value::Null) };
        let read = self.data.get_or_init(|| {
            if value.len() > self.data_bytes_max {
                return Err(format!(
                    "data has {} bytes, and at most {} are read for a filter",
                    value.len(),
                    self.data_bytes_max
                ));
            }
            // The parser's message holds a position and nothing of the value.
            serde_json::from_slice(value).map_err(|error| format!("data is not JSON: {error}"))
        });
        budget.take(1)?;
        read.as_ref().map(Value::of_json).map_err(|error| Fault::Error(error.clone()))
    }

    fn headers(&self, budget: &mut Budget) -> Result<Value<'_>, Fault> {
        let headers = &self.attributes(budget)?.headers;
        budget.take(4 * headers.len() as u64)?;
        let mut by_name: BTreeMap<&str, Vec<Value<'_>>> = BTreeMap::new();
        for Header { name, value } in headers {
            let value = match value {
                Some(value) => text_or_bytes(value, budget)?,
                None => Value::Null,
            };
            by_name.entry(name).or_default().push(value);
        }
        let entry = |(name, mut values): (_, Vec<_>)| {
            let only = if values.len() == 1 { values.pop() } else { None };
            let value = only.unwrap_or_else(|| Value::List(List::Made(values.into())));
            (Value::String(Text::Borrowed(name)), value)
        };
        Ok(Value::Map(Map::Made(by_name.into_iter().map(entry).collect())))
    }

    /// Where one comes twice, the first counts, as it does for the other attributes.
    fn extensions(&self, budget: &mut Budget) -> Result<Value<'_>, Fault> {
        let extensions = &self.attributes(budget)?.extensions;
        budget.take(4 * extensions.len() as u64)?;
        let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in extensions {
            by_name.entry(name).or_insert(value);
        }
        let text = |text| Value::String(Text::Borrowed(text));
        Ok(Value::Map(Map::Made(
            by_name.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
        )))
    }
}

fn text_or_bytes<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Value<'a>, Fault> {
    budget.take_bytes(bytes.len())?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(Text::Borrowed(text)),
        Err(_) => Value::Bytes(Octets::Borrowed(bytes)),
    })
}

fn moment(timestamp: Timestamp) -> Result<Value<'static>, Fault> {
    jiff::Timestamp::from_millisecond(timestamp.0).map(Value::Timestamp).map_err(|_| {
        Fault::Error(format!("{} milliseconds are beyond what a timestamp can say", timestamp.0))
    })
}

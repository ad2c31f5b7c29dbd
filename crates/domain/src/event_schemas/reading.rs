//! Framed values become JSON.
//!
//! A value is taken for a framed one where its topic has settings or its content type says so; and where neither
//! says anything, as with producers that know nothing of CloudEvents, if it begins with a zero byte and the id of a
//! schema that is known, and can be read by that. That last is a guess, which nobody waits for (`guessing`).

use super::{
    EventSchemas, Metadata, MetadataFields, TopicSchema, away, guessing::Named, media::says_framed,
    metadata::is_named,
};
use crate::{
    browse::Browsed,
    error::Result,
    event::{Event, header},
    schemas::{
        ParsedSchema, SchemaType, framing, protobuf,
        registry::{Reason, SchemaError, Subject},
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{Header, Monotonic, Record, SchemaId, StoredRecord, TopicName};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long a schema that is not there is not asked for again.
const MISSING_FOR: Duration = Duration::from_secs(1);
/// So many of them are remembered.
const MISSING_MAX: usize = 1_000;

/// A value as a client is to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ShownValue {
    /// As its bytes are: it follows no schema that is known.
    #[default]
    Plain,
    /// Read by its schema.
    Decoded(Arc<Decoded>),
    /// It should follow a schema and cannot be read by it, for this reason. The same bytes may be readable later only
    /// where the schema was not known.
    Undecodable(String),
}

/// A value that was read by its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The value.
    pub json: Bytes,
    /// What it was read by.
    pub schema: SchemaName,
    /// What it says of its event.
    pub metadata: Option<Box<Metadata>>,
}

impl ShownValue {
    /// What the value says of its event, where it was read.
    pub fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Decoded(decoded) => decoded.metadata.as_deref(),
            Self::Plain | Self::Undecodable(_) => None,
        }
    }

    /// The event that a record carries: attributes that its headers leave out are as its value says.
    pub fn event(&self, record: &Record) -> Event {
        let mut event = Event::from_record(record);
        if let Some(metadata) = self.metadata() {
            metadata.fill(&mut event);
        }
        event
    }
}

/// Which schema a value follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName {
    /// The id that stands in its frame.
    pub id: SchemaId,
    /// The format.
    pub schema_type: SchemaType,
    /// The subject that it is a version of: the topic's, if it is one of its versions. `None` where none is left.
    pub subject: Option<String>,
    /// The version of that subject.
    pub version: Option<u32>,
    /// The full name of the message, with Protobuf.
    pub message: Option<String>,
}

impl Decoded {
    /// The record that carries the value as JSON, for receivers that are given records: with the content type of
    /// JSON, what it was read by in extensions of the event, and the attributes that it alone says.
    pub(crate) fn record(&self, stored: &StoredRecord) -> StoredRecord {
        let SchemaName { id, subject, version, message, .. } = &self.schema;
        let said = [
            ("ce_esschemaid", Some(id.to_string())),
            ("ce_esschemasubject", subject.clone()),
            ("ce_esschemaversion", version.map(|version| version.to_string())),
            ("ce_esschemamessage", message.clone()),
        ];
        let kind = [Header::new(header::CONTENT_TYPE, "application/json")];
        let said = said.into_iter().filter_map(|(name, value)| value.map(|value| Header::new(name, value)));
        // What is said here stands first, where it counts.
        let headers = kind.into_iter().chain(said);
        let others = stored.record.headers.iter().filter(|header| !is_content_type(header)).cloned();
        let filled = self.metadata.as_deref().map(|metadata| metadata.headers(&stored.record));
        let record = Record {
            key: stored.record.key.clone(),
            value: Some(self.json.clone()),
            headers: headers.chain(others).chain(filled.into_iter().flatten()).collect(),
            timestamp: stored.record.timestamp,
        };
        StoredRecord { offset: stored.offset, record }
    }
}

/// What was not there a moment ago, by context and id.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<(String, SchemaId), Monotonic>>);

/// A schema that was looked for.
#[derive(Clone)]
pub(super) enum Found {
    Schema(ParsedSchema, Arc<Named>),
    Missing,
    /// It is there, and is none that can be used.
    Unusable(String),
}

impl EventSchemas {
    /// Whether the values of a topic were said to follow a schema.
    pub(crate) fn follows(&self, topic: &TopicName) -> bool {
        self.of(topic).is_some()
    }

    /// Whether an event's message must be read to tell copies of it: its headers do not name it, and its value follows
    /// a schema.
    pub(crate) fn names_by_value(&self, topic: &TopicName, record: &Record) -> bool {
        self.metadata.is_some()
            && Self::looks_framed(record)
            && !is_named(record)
            && (self.follows(topic) || says_so(record))
    }

    /// Whether values of a topic may say what its events are.
    pub(crate) fn says_metadata(&self, topic: &TopicName) -> bool {
        self.metadata.is_some() && self.follows(topic)
    }

    /// Whether a value may be in a frame. Costs next to nothing, so that those that are not cost nothing more.
    pub(crate) fn looks_framed(record: &Record) -> bool {
        record.value.as_ref().is_some_and(|value| value.first() == Some(&framing::MAGIC))
    }

    /// Values as clients are to see them, each in its place. Each schema is looked for once.
    ///
    /// # Errors
    /// In the place of a value: `Unavailable`, where the registry does not serve and the value should follow a schema.
    ///
    /// # Cancellation
    /// Has no effect but its answer.
    pub async fn read(&self, values: Vec<(&TopicName, &Record)>) -> Vec<Result<ShownValue>> {
        let mut batch = Batch { schemas: self, settings: HashMap::new(), found: HashMap::new(), guesses: 0 };
        let mut shown = Vec::with_capacity(values.len());
        for (topic, record) in values {
            shown.push(batch.read(topic, record).await);
            // Reading is work for a processor: others have their turn.
            tokio::task::coop::consume_budget().await;
        }
        shown
    }

    /// The values of what is shown to people, who look again: one that cannot be read for now is shown as one that
    /// cannot be read.
    ///
    /// # Cancellation
    /// Has no effect but its answer.
    pub async fn shown(&self, events: impl IntoIterator<Item = &Browsed>) -> Vec<ShownValue> {
        let values = events.into_iter().map(|browsed| (&browsed.topic, &browsed.record.record)).collect();
        let shown =
            |value: Result<_>| value.unwrap_or_else(|e| ShownValue::Undecodable(e.detail().to_owned()));
        self.read(values).await.into_iter().map(shown).collect()
    }

    /// Looks for a schema as a topic with this subject sees it.
    async fn find(&self, subject: &str, id: SchemaId) -> Result<Found> {
        if self.is_missing(subject, id) {
            return Ok(Found::Missing);
        }
        match self.registry.parsed_by_id(id, Some(subject)).await {
            Ok(schema) => Ok(Found::Schema(schema, self.named(subject, id).await)),
            Err(error) => found(self, subject, id, &error),
        }
    }

    /// Whether a schema was not there a moment ago.
    pub(super) fn is_missing(&self, subject: &str, id: SchemaId) -> bool {
        let now = self.clock.monotonic();
        self.known.0.lock().get(&missing(subject, id)).is_some_and(|at| now.since(*at) < MISSING_FOR)
    }
}

/// As what a schema counts that was looked for and is not had.
pub(super) fn found(
    schemas: &EventSchemas,
    subject: &str,
    id: SchemaId,
    error: &SchemaError,
) -> Result<Found> {
    match error.reason() {
        Reason::SchemaNotFound => {
            let mut known = schemas.known.0.lock();
            if known.len() >= MISSING_MAX {
                known.clear();
            }
            known.insert(missing(subject, id), schemas.clock.monotonic());
            Ok(Found::Missing)
        }
        Reason::Store | Reason::Timeout => Err(away(error)),
        // What it refers to is not there.
        Reason::SubjectNotFound | Reason::VersionNotFound => Ok(Found::Unusable(error.to_string())),
        // What a registry outside refuses otherwise, it refuses the service; nothing is said of the value.
        _ if error.outside_code().is_some() => Err(away(error)),
        _ => Ok(Found::Unusable(error.to_string())),
    }
}

/// Under what is remembered that a schema is not there.
fn missing(subject: &str, id: SchemaId) -> (String, SchemaId) {
    let context = Subject::parse(subject).map_or_else(|_| ".".to_owned(), |it| it.context().to_owned());
    (context, id)
}

/// One batch that is being read.
struct Batch<'a> {
    schemas: &'a EventSchemas,
    settings: HashMap<&'a TopicName, Option<Arc<TopicSchema>>>,
    /// Of those that were guessed, and of those that are known to be one.
    found: HashMap<(&'a TopicName, SchemaId, bool), Result<Found>>,
    /// How often the registry was asked for a guess.
    guesses: usize,
}

impl<'a> Batch<'a> {
    async fn read(&mut self, topic: &'a TopicName, record: &'a Record) -> Result<ShownValue> {
        let Some(value) = &record.value else { return Ok(ShownValue::Plain) };
        let setting = self.settings.entry(topic).or_insert_with(|| self.schemas.of(topic)).clone();
        let says_so = says_so(record);
        let undecodable = |reason: String| Ok(ShownValue::Undecodable(reason));
        let (id, rest) = match framing::unframe(value) {
            Ok((id, rest)) => (SchemaId(id), rest),
            Err(problem) if says_so || setting.as_ref().is_some_and(|setting| setting.required) => {
                return undecodable(format!("the value is in no frame, and must be in one: {problem}"));
            }
            Err(_) => return Ok(ShownValue::Plain),
        };
        // Without a word of anybody it may be anything that begins with a zero.
        let is_guess = !says_so && setting.is_none();
        let found = match self.found.get(&(topic, id, is_guess)) {
            Some(found) => found.clone(),
            None => {
                let subject = match &setting {
                    Some(setting) => setting.subject.clone(),
                    None => format!("{topic}-value"),
                };
                let found = if is_guess {
                    Ok(self.schemas.guess(&subject, id, &mut self.guesses).await)
                } else {
                    self.schemas.find(&subject, id).await
                };
                self.found.insert((topic, id, is_guess), found.clone());
                found
            }
        };
        let (schema, named) = match found {
            Ok(Found::Schema(schema, named)) => (schema, named),
            _ if is_guess => return Ok(ShownValue::Plain),
            Ok(Found::Missing) => {
                return undecodable(format!("the value follows schema {id}, which is not known"));
            }
            Ok(Found::Unusable(why)) => return undecodable(format!("schema {id} cannot be used: {why}")),
            Err(error) => return Err(error),
        };
        // What is only taken for a value of a schema says nothing: tomorrow it may be taken for another one.
        let fields = self.schemas.metadata.as_ref().filter(|_| !is_guess);
        match decode(&schema, id, &rest, fields) {
            Ok(Read { json, message, metadata }) => {
                let (subject, version) = named.of.clone().unzip();
                let schema = SchemaName { id, schema_type: schema.schema_type(), subject, version, message };
                Ok(ShownValue::Decoded(Arc::new(Decoded { json, schema, metadata })))
            }
            Err(_) if is_guess => Ok(ShownValue::Plain),
            Err(reason) => undecodable(reason),
        }
    }
}

/// What a value was read to.
struct Read {
    json: Bytes,
    message: Option<String>,
    metadata: Option<Box<Metadata>>,
}

/// What stands behind a schema's id, as JSON, the message that it is, and what that says of its event.
fn decode(
    schema: &ParsedSchema,
    id: SchemaId,
    rest: &Bytes,
    fields: Option<&MetadataFields>,
) -> Result<Read, String> {
    let misfit = |problem| format!("the value does not fit schema {id}: {problem}");
    let Some(protobuf) = schema.as_protobuf() else {
        let json = schema.decode_json(None, rest).map_err(misfit)?;
        return Ok(Read { json, message: None, metadata: None });
    };
    let (index, payload) = framing::split_index(rest).map_err(|problem| problem.to_string())?;
    let found = protobuf.message_at(&index).ok_or_else(|| {
        format!("the value has the message index {index:?}, which schema {id} does not have")
    })?;
    let message = found.full_name().to_owned();
    let value = protobuf.decode(Some(&message), &payload).map_err(misfit)?;
    let json = protobuf::json_of(&value, payload.len()).map_err(misfit)?;
    let metadata = fields.and_then(|fields| fields.read(&value)).map(Box::new);
    Ok(Read { json, message: Some(message), metadata })
}

/// Whether a value says by itself that it is in a frame.
fn says_so(record: &Record) -> bool {
    content_type(record).is_some_and(|kind| says_framed(kind).is_some())
}

fn content_type(record: &Record) -> Option<&str> {
    let header = record.headers.iter().find(|header| is_content_type(header))?;
    std::str::from_utf8(header.value.as_ref()?).ok()
}

fn is_content_type(header: &Header) -> bool {
    header.name == header::CONTENT_TYPE || header.name == "ce_datacontenttype"
}

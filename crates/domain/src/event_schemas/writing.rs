//! JSON and bytes become framed values; framed ones are checked.
//!
//! What a value is, is told by its content type. Where there is none, a first byte of zero tells a frame, which no
//! JSON and no Protobuf message begins with; what is JSON is JSON; the rest is bytes of the subject's format.

use super::{
    EventSchemas, Metadata, TopicSchema, away,
    media::{self, Said},
    rejected,
};
use crate::{
    error::{Error, Result},
    event::Event,
    schemas::{
        ParsedSchema, SchemaType, ValueProblem, framing,
        registry::{NewReference, NewSchema, Position, Reason, VersionSelector},
    },
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{SchemaId, TopicName};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde::de::IgnoredAny;
use std::{collections::HashMap, sync::Arc};

/// The latest version of a topic's subject.
#[derive(Clone, Debug)]
struct Latest {
    id: SchemaId,
    version: u32,
    schema: ParsedSchema,
}

/// What became of a value.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// What it says of its event.
    pub(crate) metadata: Option<Box<Metadata>>,
    /// What lies in the log instead of what was sent, and its content type.
    framed: Option<(Bytes, ByteString)>,
}

impl Written {
    /// Puts into an event what lies in the log.
    pub(crate) fn put(self, event: &mut Event) {
        if let Some((data, content_type)) = self.framed {
            event.data = Some(data);
            event.content_type = Some(content_type);
        }
    }
}

/// Makes the values of one batch for one topic follow its schema. Each schema is asked for once, and only where a
/// value needs it; so is each failure.
#[derive(Debug)]
pub(crate) struct Writer {
    schemas: Arc<EventSchemas>,
    topic: TopicName,
    setting: Option<Arc<TopicSchema>>,
    /// Asked for once.
    latest: Option<Result<Option<Latest>>>,
    /// Of framed values.
    by_id: HashMap<SchemaId, Result<ParsedSchema>>,
}

impl EventSchemas {
    /// What the values of a batch for a topic need; `None` where the topic has no settings.
    pub(crate) fn writer(self: &Arc<Self>, topic: &TopicName) -> Option<Writer> {
        self.of(topic).map(|setting| self.writer_by(topic, Some(setting)))
    }

    /// As [`Self::writer`], for a topic without settings: what its values say of themselves is held to.
    pub(crate) fn writer_of_framed(self: &Arc<Self>, topic: &TopicName) -> Writer {
        self.writer_by(topic, None)
    }

    fn writer_by(self: &Arc<Self>, topic: &TopicName, setting: Option<Arc<TopicSchema>>) -> Writer {
        let (schemas, topic) = (self.clone(), topic.clone());
        Writer { schemas, topic, setting, latest: None, by_id: HashMap::new() }
    }
}

/// What a value is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Json,
    Bytes,
    Framed,
    AsItIs,
}

impl Writer {
    /// Makes an event's value follow the topic's schema, or finds that it does. Null is left alone. The event stays as
    /// it was sent until [`Written::put`].
    ///
    /// # Errors
    /// `SchemaRejected` with the path of what does not fit; `Unavailable` where the registry does not serve.
    pub(crate) async fn write(&mut self, event: &Event) -> Result<Written> {
        let Some(data) = event.data.clone() else { return Ok(Written::default()) };
        let kind = event.content_type.as_deref();
        match self.taken(kind, &data).await? {
            Taken::AsItIs => Ok(Written::default()),
            Taken::Framed => {
                let metadata = self.check_framed(&data, event).await?;
                Ok(Written { metadata, framed: None })
            }
            taken => {
                let Some(latest) = self.latest().await?.cloned() else {
                    return self.without_schema().map(|()| Written::default());
                };
                let (framed, metadata) = self.frame(&latest, taken, &data, event)?;
                let kind = ByteString::from_static(media::framed(latest.schema.schema_type()));
                Ok(Written { metadata, framed: Some((framed, kind)) })
            }
        }
    }

    fn said(&self, value: &DynamicMessage) -> Option<Box<Metadata>> {
        self.schemas.metadata.as_ref()?.read(value).map(Box::new)
    }

    /// What a value is to be taken for.
    async fn taken(&mut self, content_type: Option<&str>, data: &Bytes) -> Result<Taken> {
        let Some(setting) = self.setting.clone() else {
            let framed = matches!(media::said(content_type), Said::Framed(_));
            return Ok(if framed { Taken::Framed } else { Taken::AsItIs });
        };
        Ok(match media::said(content_type) {
            Said::Framed(_) => Taken::Framed,
            Said::Json => Taken::Json,
            Said::Bytes(of) => match self.latest().await? {
                Some(latest) if latest.schema.schema_type() != of => {
                    let is = latest.schema.schema_type();
                    let message =
                        format!("says {of}, where the values of `{}` follow {is} schemas", self.topic);
                    return Err(rejected("datacontenttype", message));
                }
                _ => Taken::Bytes,
            },
            Said::Nothing if data.first() == Some(&framing::MAGIC) => Taken::Framed,
            Said::Nothing => match self.latest().await? {
                Some(latest) if is_json(latest.schema.schema_type(), data) => Taken::Json,
                _ => Taken::Bytes,
            },
            Said::Other if setting.required => {
                let message = format!(
                    "must be JSON, bytes of the schema's format (`application/x-protobuf`, `application/avro`) or a \
                     framed value (`application/vnd.confluent.protobuf`, `….avro`, `….json`): the values of `{}` \
                     follow the subject `{}`",
                    self.topic, setting.subject
                );
                return Err(rejected("datacontenttype", message));
            }
            Said::Other => Taken::AsItIs,
        })
    }

    /// A value for a subject that has no version.
    fn without_schema(&self) -> Result<()> {
        match &self.setting {
            Some(setting) if setting.required => Err(rejected(
                "data",
                format!(
                    "cannot be checked: the values of `{}` must follow the subject `{}`, which has no schema; \
                     register one first",
                    self.topic, setting.subject
                ),
            )),
            _ => Ok(()),
        }
    }

    /// A value in its frame, and what it says of its event.
    fn frame(
        &self,
        latest: &Latest,
        taken: Taken,
        data: &Bytes,
        event: &Event,
    ) -> Result<(Bytes, Option<Box<Metadata>>)> {
        let Latest { id, schema, .. } = latest;
        let message = event.message_type.as_deref();
        let misfit = |problem| self.misfit(&problem, latest.version, *id);
        if let Some(protobuf) = schema.as_protobuf() {
            let index = protobuf.index_of(message);
            let index = index.ok_or_else(|| no_message(message, schema.message_names()))?;
            let (value, payload) = if taken == Taken::Json {
                let value = protobuf.of_json(message, data).map_err(misfit)?;
                let payload = value.encode_to_vec().into();
                (value, payload)
            } else {
                (protobuf.checked(message, data).map_err(misfit)?, data.clone())
            };
            return Ok((framing::frame(id.0, Some(index), &payload), self.said(&value)));
        }
        if message.is_some() {
            let of = schema.schema_type();
            let wrong = format!("must be left out: only Protobuf schemas have messages, and this is {of}");
            return Err(rejected("messagetype", wrong));
        }
        if taken == Taken::Json {
            let payload = schema.encode_json(None, data).map_err(misfit)?;
            Ok((framing::frame(id.0, None, &payload), None))
        } else {
            schema.check(None, data).map_err(misfit)?;
            Ok((framing::frame(id.0, None, data), None))
        }
    }

    /// Whether a value that is framed already may be written here, and what it says of its event.
    async fn check_framed(&mut self, data: &Bytes, event: &Event) -> Result<Option<Box<Metadata>>> {
        let no_frame = |problem: framing::FrameProblem| {
            rejected("data", format!("is not in the frame that it should be in: {problem}"))
        };
        let (id, rest) = framing::unframe(data).map_err(no_frame)?;
        let id = SchemaId(id);
        let schema = self.of_frame(id).await?;
        if let Said::Framed(of) = media::said(event.content_type.as_deref())
            && of != schema.schema_type()
        {
            let is = schema.schema_type();
            return Err(rejected("datacontenttype", format!("says {of}, and schema {id} is {is}")));
        }
        let misfit = |problem| {
            let (field, message) = place(&problem);
            rejected(field, format!("does not fit schema {id}, which its frame names: {message}"))
        };
        let Some(protobuf) = schema.as_protobuf() else {
            return schema.check(None, &rest).map(|()| None).map_err(misfit);
        };
        let (index, payload) = framing::split_index(&rest).map_err(no_frame)?;
        let Some(found) = protobuf.message_at(&index) else {
            let wrong = format!("has the message index {index:?}, which schema {id} does not have");
            return Err(rejected("data", wrong));
        };
        let name = found.full_name();
        if let Some(said) = event.message_type.as_deref()
            && protobuf.message(Some(said)).is_none_or(|other| other.full_name() != name)
        {
            return Err(rejected("messagetype", format!("says `{said}`, and the value is a `{name}`")));
        }
        let value = protobuf.checked(Some(name), &payload).map_err(misfit)?;
        Ok(self.said(&value))
    }

    fn misfit(&self, problem: &ValueProblem, version: u32, id: SchemaId) -> Error {
        let subject = self.setting.as_ref().map_or("", |setting| &setting.subject);
        let (field, message) = place(problem);
        rejected(field, format!("does not fit version {version} of `{subject}` (schema {id}): {message}"))
    }

    /// The latest version of the subject; `None` where it has none.
    async fn latest(&mut self) -> Result<Option<&Latest>> {
        if self.latest.is_none() {
            self.latest = Some(self.find_latest().await);
        }
        match &self.latest {
            Some(Ok(latest)) => Ok(latest.as_ref()),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }

    async fn find_latest(&self) -> Result<Option<Latest>> {
        let Some(TopicSchema { subject, .. }) = self.setting.as_deref() else { return Ok(None) };
        let registry = &self.schemas.registry;
        let found = match registry.current(subject).await {
            Err(error) if error.reason() == Reason::SubjectNotFound => return Ok(None),
            found => found.map_err(|error| away(&error))?,
        };
        let Some(latest) = found.versions.iter().rfind(|version| !version.deleted) else { return Ok(None) };
        let schema = registry.parsed_by_id(latest.id, Some(subject)).await;
        let schema = schema.map_err(|error| away(&error))?;
        Ok(Some(Latest { id: latest.id, version: latest.version, schema }))
    }

    /// The schema of a frame's id, if values may be written by it here.
    async fn of_frame(&mut self, id: SchemaId) -> Result<ParsedSchema> {
        if let Some(found) = self.by_id.get(&id) {
            return found.clone();
        }
        let found = self.find(id).await;
        self.by_id.insert(id, found.clone());
        found
    }

    async fn find(&self, id: SchemaId) -> Result<ParsedSchema> {
        let registry = &self.schemas.registry;
        let subject = self.setting.as_ref().map(|setting| setting.subject.as_str());
        let schema = match registry.parsed_by_id(id, subject).await {
            Err(error) if error.reason() == Reason::SchemaNotFound => {
                let wrong = format!("names schema {id} in its frame, which is not known; register it first");
                return Err(rejected("data", wrong));
            }
            schema => schema.map_err(|error| away(&error))?,
        };
        let Some(setting) = &self.setting else { return Ok(schema) };
        let allowed = match registry.current(&setting.subject).await {
            Ok(found) => found.versions.iter().any(|version| version.id == id && !version.deleted),
            Err(error) if error.reason() == Reason::SubjectNotFound => false,
            Err(error) => return Err(away(&error)),
        };
        if allowed {
            return Ok(schema);
        }
        if setting.auto_register {
            return self.register(id, setting).await.map(|()| schema);
        }
        let (subject, topic) = (&setting.subject, &self.topic);
        let wrong = format!(
            "names schema {id} in its frame, which is no version of the subject `{subject}` that the values of \
             `{topic}` follow"
        );
        Err(rejected("data", wrong))
    }

    /// Makes a schema the next version of the topic's subject.
    async fn register(&self, id: SchemaId, setting: &TopicSchema) -> Result<()> {
        let registry = &self.schemas.registry;
        let found = registry.by_id(id, Some(&setting.subject)).await.map_err(|error| away(&error))?;
        let content = found.content();
        let reference = |of: &crate::schemas::registry::Reference| NewReference {
            name: of.name.clone(),
            subject: of.subject.clone(),
            version: VersionSelector::Number(of.version),
        };
        let new = NewSchema {
            references: content.references.iter().map(reference).collect(),
            metadata: content.metadata.clone(),
            rule_set: content.rule_set.clone(),
            ..NewSchema::new(content.schema_type, content.text.clone())
        };
        let registered = registry.register(&setting.subject, &new, Position::default(), false).await;
        registered.map(drop).map_err(|error| match error.reason() {
            Reason::Store | Reason::Timeout | Reason::Internal => away(&error),
            _ => rejected(
                "data",
                format!(
                    "names schema {id} in its frame, which cannot become a version of the subject `{}`: {error}",
                    setting.subject
                ),
            ),
        })
    }
}

/// Whether a value of which nothing is said is JSON.
fn is_json(of: SchemaType, data: &[u8]) -> bool {
    match (of, data.first()) {
        // No Protobuf message that is worth one begins so: it would be a group of number 15.
        (SchemaType::Protobuf, Some(b'{')) => true,
        _ => serde_json::from_slice::<IgnoredAny>(data).is_ok(),
    }
}

fn no_message(message: Option<&str>, known: &[String]) -> Error {
    let Some(name) = message else {
        return rejected("data", "cannot be written: the topic's schema defines no message");
    };
    let shown: String = name.chars().take(80).collect();
    let known: Vec<&str> = known.iter().take(20).map(String::as_str).collect();
    rejected(
        "messagetype",
        format!("must be a message of the topic's schema, one of {} (given: {shown:?})", known.join(", ")),
    )
}

/// The field that a problem is of, and what is wrong with it.
fn place(problem: &ValueProblem) -> (String, &str) {
    let path = problem.path.as_str();
    let field = match path.bytes().next() {
        None => "data".to_owned(),
        Some(b'[' | b'.') => format!("data{path}"),
        Some(_) => format!("data.{path}"),
    };
    (field, &problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn the_path_of_a_problem_begins_at_the_value() {
        for (path, field) in [("", "data"), ("a.b[2]", "data.a.b[2]"), ("[0].x", "data[0].x")] {
            assert_eq!(place(&ValueProblem::new(path, "m")), (field.to_owned(), "m"));
        }
        assert_eq!(rejected("data", "x").code(), ErrorCode::SchemaRejected);
    }
}

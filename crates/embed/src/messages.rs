//! Typed Protobuf: messages of the application's own types are published and handled as values that follow a schema.
//!
//! Invariants:
//! 1. What is published names in its frame a version of the topic's subject that has the very file that the
//!    application was built with: any client of Confluent's registry reads it.
//! 2. The registry is asked once a topic and message, and again only after what it said was refused.
//! 3. A handler is given a message only by a schema that says that it is one of its type.

use crate::{
    descriptors::{Descriptors, defect},
    service::context,
};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Event, Result,
    event_schemas::EventSchemas,
    handler::{Decode, Handler, RunHandler, each, runs},
    publish::{Publisher, Receipt},
    schemas::{
        SchemaType, framing,
        registry::{
            NewReference, NewSchema, Position, Reason, Registered, Registry, SchemaError, VersionSelector,
        },
    },
    topics::Topics,
};
use parking_lot::RwLock;
use ports::{
    BoxError, EventHandler, Failure, HandlerDelivery, Header, Outcome, Record, SchemaId, StoredRecord,
    TopicName,
};
use prost::{Message, Name};
use std::{collections::HashMap, fmt, sync::Arc};

const FRAMED: &str = "application/vnd.confluent.protobuf";
const BARE: &str = "application/x-protobuf";
const CONTENT_TYPE: &str = "content-type";
/// The message that a value is.
const MESSAGE: &str = "ce_esschemamessage";
/// Why a value cannot be read.
const PROBLEM: &str = "es_undecodable";

/// Publishes messages, from [`Service::messages`](crate::Service::messages) on.
pub struct Messages {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) schemas: Arc<EventSchemas>,
    pub(crate) descriptors: Descriptors,
    pub(crate) register: bool,
    pub(crate) source: ByteString,
    /// What stands before the payload, by topic and message.
    pub(crate) frames: RwLock<HashMap<(TopicName, String), Bytes>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("register", &self.register).finish_non_exhaustive()
    }
}

impl Messages {
    /// Publishes a message to a topic on behalf of a user of a tenant. The tenant is the event's key too, so that its
    /// events keep their order. What else is to be known of the event, its id, type and time, is as the message's
    /// metadata says, or is filled in.
    ///
    /// # Errors
    /// As [`Self::event`] and [`Service::publish`](crate::Service::publish); `schema_rejected` where the topic's values
    /// follow a subject that the message's schema is no version of.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown: the event may be appended.
    pub async fn publish<M: Message + Name>(
        &self,
        topic: &str,
        message: &M,
        tenant: &str,
        user: &str,
    ) -> Result<Receipt> {
        let event = Event {
            key: Some(Bytes::copy_from_slice(tenant.as_bytes())),
            tenant_id: Some(tenant.into()),
            user_id: Some(user.into()),
            ..self.event(topic, message).await?
        };
        let context = context(self.source.clone());
        let published = self.publisher.publish(Some(topic), vec![Ok(event)], &context).await;
        let receipt = published.and_then(|mut receipts| match receipts.pop() {
            Some(receipt) => receipt,
            None => Err(defect("the publisher gave no outcome for the event")),
        });
        if receipt.as_ref().is_err_and(|error| error.code() == ErrorCode::SchemaRejected) {
            // The schema may have been deleted, or the topic follows another subject now.
            self.frames.write().remove(&(topic_name(topic)?, M::full_name()));
        }
        receipt
    }

    /// An event of a topic whose value is a message, framed by its schema, to be given further attributes and published
    /// with others by [`Service::publish`](crate::Service::publish).
    ///
    /// The schema is the message's own file. It is looked for in the topic's subject, or registered there, with what it
    /// imports under the paths of the imports, where the builder was told to.
    ///
    /// # Errors
    /// `invalid_request` for a message that the builder was not given, or a topic's name that is none;
    /// `schema_rejected` where its schema is not registered; `conflict` where it may not follow those that are, with
    /// every difference; `unavailable` and `timeout` where the store of schemas does not serve.
    pub async fn event<M: Message + Name>(&self, topic: &str, message: &M) -> Result<Event> {
        let topic = topic_name(topic)?;
        let key = (topic, M::full_name());
        let known = self.frames.read().get(&key).cloned();
        let frame = match known {
            Some(frame) => frame,
            None => {
                let frame = self.frame(&key.0, &key.1).await?;
                self.frames.write().insert(key, frame.clone());
                frame
            }
        };
        let mut framed = BytesMut::with_capacity(frame.len() + message.encoded_len());
        framed.put_slice(&frame);
        message
            .encode(&mut framed)
            .map_err(|error| defect(format!("a message that was measured does not fit: {error}")))?;
        Ok(Event {
            data: Some(framed.freeze()),
            content_type: Some(ByteString::from_static(FRAMED)),
            ..Event::default()
        })
    }

    /// What stands before a message in a topic.
    async fn frame(&self, topic: &TopicName, message: &str) -> Result<Bytes> {
        let files = self.descriptors.files_of(message)?;
        // Nothing is registered for a topic that is not there.
        self.topics.get(topic.as_str()).await?;
        let subject = subject(&self.schemas, topic);
        // By the path of an import, what stands for it.
        let mut versions: HashMap<&str, u32> = HashMap::with_capacity(files.len());
        let mut own = None;
        for (at, (path, file)) in files.iter().enumerate() {
            let is_own = at + 1 == files.len();
            let place = if is_own { subject.as_str() } else { path };
            let reference = |import: &String| {
                let version = VersionSelector::Number(*versions.get(import.as_str())?);
                Some(NewReference { name: import.clone(), subject: import.clone(), version })
            };
            let references = file.imports.iter().filter_map(reference).collect();
            let new = NewSchema { references, ..NewSchema::new(SchemaType::Protobuf, file.text.clone()) };
            let found = self.registered(place, &new).await.map_err(|error| refused(error, message, place))?;
            versions.insert(path, found.version);
            own = Some(found.schema.id);
        }
        let id = own.ok_or_else(|| defect("a message has no file"))?;
        let parsed = self.registry.parsed_by_id(id, Some(&subject)).await?;
        let index = parsed.as_protobuf().and_then(|schema| schema.index_of(Some(message)));
        let index = index.ok_or_else(|| defect("a message's schema does not define it"))?;
        Ok(framing::frame(id.0, Some(index), &[]))
    }

    async fn registered(&self, subject: &str, new: &NewSchema) -> Result<Registered, SchemaError> {
        match self.registry.lookup(subject, new, false, false).await {
            Err(error)
                if self.register
                    && matches!(error.reason(), Reason::SubjectNotFound | Reason::SchemaNotFound) =>
            {
                self.registry.register(subject, new, Position::default(), false).await
            }
            found => found,
        }
    }

    /// A handler of messages, to be linked to a subscription with `payload: bytes`.
    pub(crate) fn each<H>(&self, handler: H) -> Arc<dyn EventHandler>
    where
        H: Handler<Event: Message + Name + Default>,
    {
        self.reading(each(Protobuf, handler))
    }

    fn reading(&self, inner: Arc<dyn EventHandler>) -> Arc<dyn EventHandler> {
        Arc::new(Reading { registry: self.registry.clone(), schemas: self.schemas.clone(), inner })
    }

    /// As [`Self::each`], of runs.
    pub(crate) fn runs<H>(&self, handler: H) -> Arc<dyn EventHandler>
    where
        H: RunHandler<Event: Message + Name + Default>,
    {
        self.reading(runs(Protobuf, handler))
    }
}

/// What the values of a topic follow.
fn subject(schemas: &EventSchemas, topic: &TopicName) -> String {
    schemas.of(topic).map_or_else(|| format!("{topic}-value"), |schema| schema.subject.clone())
}

fn topic_name(name: &str) -> Result<TopicName> {
    TopicName::new(name).map_err(|error| Error::invalid("topic", format!("{error}")))
}

/// What the registry says of a message's schema.
fn refused(error: SchemaError, message: &str, subject: &str) -> Error {
    match error.reason() {
        Reason::SubjectNotFound | Reason::SchemaNotFound => {
            let wrong = format!(
                "cannot be written: the schema of `{message}` is no version of the subject `{subject}`; register it, or \
                 have the builder do so by `register_schemas(true)`"
            );
            Error::new(ErrorCode::SchemaRejected, format!("`data` {wrong}")).with_field("data", wrong)
        }
        _ => error.into(),
    }
}

/// Reads the frames of values before their handler is given them.
struct Reading {
    registry: Arc<Registry>,
    schemas: Arc<EventSchemas>,
    inner: Arc<dyn EventHandler>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("handler", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventHandler for Reading {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        let mut read = Vec::with_capacity(run.len());
        let mut away = None;
        for delivery in run {
            match self.read(delivery).await {
                Ok(delivery) => read.push(delivery),
                Err(error) => {
                    away = Some(error);
                    break;
                }
            }
        }
        let mut outcomes = if read.is_empty() { Vec::new() } else { self.inner.handle(&read).await };
        // What is behind one that is to come again does not count.
        let all_are_done = outcomes.len() == read.len()
            && outcomes.iter().all(|outcome| matches!(outcome, Outcome::Ack | Outcome::Reject { .. }));
        if let Some(error) = away.filter(|_| all_are_done) {
            let failure = Failure::new("schema-registry", error.to_string());
            outcomes.push(Outcome::Retry { after: error.retry_after(), outage: true, failure });
        }
        outcomes
    }
}

impl Reading {
    /// A delivery whose value is the message alone, with its name; or what is wrong with it, where it can never be read.
    ///
    /// # Errors
    /// The registry does not serve.
    async fn read(&self, delivery: &HandlerDelivery) -> Result<HandlerDelivery, SchemaError> {
        let stored = &delivery.record;
        let Some(value) = stored.record.value.as_ref().filter(|value| value.first() == Some(&framing::MAGIC))
        else {
            // Null, or a message without a frame, which says nothing of its type.
            return Ok(delivery.clone());
        };
        let (value, headers) = match self.unframe(&delivery.topic, value).await? {
            Ok((name, payload)) => {
                (Some(payload), vec![Header::new(MESSAGE, name), Header::new(CONTENT_TYPE, BARE)])
            }
            Err(problem) => (None, vec![Header::new(PROBLEM, problem)]),
        };
        let others = stored.record.headers.iter().filter(|header| *header.name != *CONTENT_TYPE).cloned();
        let record = Record {
            key: stored.record.key.clone(),
            value,
            // What is said here stands first, where it counts.
            headers: headers.into_iter().chain(others).collect(),
            timestamp: stored.record.timestamp,
        };
        let record = Arc::new(StoredRecord { offset: stored.offset, record });
        Ok(HandlerDelivery { record, ..delivery.clone() })
    }

    /// The message's name and its bytes; or why they cannot be told.
    async fn unframe(
        &self,
        topic: &TopicName,
        value: &Bytes,
    ) -> Result<Result<(String, Bytes), String>, SchemaError> {
        let (id, rest) = match framing::unframe(value) {
            Ok((id, rest)) => (SchemaId(id), rest),
            Err(problem) => return Ok(Err(problem.to_string())),
        };
        let schema = match self.registry.parsed_by_id(id, Some(&subject(&self.schemas, topic))).await {
            Ok(schema) => schema,
            Err(error) if matches!(error.reason(), Reason::Store | Reason::Timeout) => return Err(error),
            Err(error) => return Ok(Err(format!("schema {id} cannot be used: {error}"))),
        };
        let Some(protobuf) = schema.as_protobuf() else {
            let is = schema.schema_type();
            return Ok(Err(format!("schema {id} is {is}, where a Protobuf message is expected")));
        };
        Ok(match framing::split_index(&rest) {
            Err(problem) => Err(problem.to_string()),
            Ok((index, payload)) => match protobuf.message_at(&index) {
                Some(message) => Ok((message.full_name().to_owned(), payload)),
                None => Err(format!("schema {id} has no message at the index {index:?}")),
            },
        })
    }
}

/// The value as a Protobuf message. One whose schema names another message is none of this type.
#[derive(Clone, Copy, Debug, Default)]
struct Protobuf;

impl<T: Message + Name + Default> Decode<T> for Protobuf {
    fn decode(&self, record: &Record) -> Result<T, BoxError> {
        let said = |name: &str| {
            let header = record.headers.iter().find(|header| *header.name == *name)?;
            std::str::from_utf8(header.value.as_ref()?).ok()
        };
        if let Some(problem) = said(PROBLEM) {
            return Err(problem.into());
        }
        let value = record.value.clone().ok_or("the value is null, where a message is expected")?;
        if let Some(name) = said(MESSAGE).filter(|name| *name != T::full_name()) {
            return Err(format!("the value is a `{name}`, where a `{}` is expected", T::full_name()).into());
        }
        Ok(T::decode(value)?)
    }
}

//! What a publish request is made of, and what it is answered.

use super::{
    once::OnceConfig,
    respond_async::AsyncConfig,
    routing::{Route, TopicRule},
};
use crate::{
    error::{Error, Result},
    event::Event,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{Offset, PartitionId, Timestamp, TopicName};

/// The principal of callers as long as none of them is authenticated.
pub const ANONYMOUS: &str = "anonymous";

/// The settings of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// For events without a topic; the first that takes the event counts.
    pub routes: Vec<Route>,
    /// By topic; the first whose pattern fits counts.
    pub topics: Vec<TopicRule>,
    /// The type of an event that has none, where no rule says.
    pub default_type: ByteString,
    /// Publishing once, by idempotency keys.
    pub once: OnceConfig,
    /// Publishing without waiting for the log.
    pub respond_async: AsyncConfig,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            topics: Vec::new(),
            default_type: ByteString::from_static("event"),
            once: OnceConfig::default(),
            respond_async: AsyncConfig::default(),
        }
    }
}

/// What the events of one request have in common.
#[derive(Clone, Debug)]
pub struct PublishContext {
    /// Who publishes: idempotency keys of different principals have nothing to do with each other.
    pub principal: ByteString,
    /// The source of an event that has none.
    pub source: ByteString,
    /// The correlation id of an event that has none.
    pub correlation_id: Option<ByteString>,
    /// The trace context of an event that has none.
    pub traceparent: Option<ByteString>,
    /// The trace context of an event that has none.
    pub tracestate: Option<ByteString>,
}

impl PublishContext {
    /// Gives an event what its request has for all.
    pub(super) fn fill(&self, event: &mut Event) {
        if event.correlation_id.is_none() {
            event.correlation_id.clone_from(&self.correlation_id);
        }
        if event.traceparent.is_none() {
            event.traceparent.clone_from(&self.traceparent);
            if event.tracestate.is_none() {
                event.tracestate.clone_from(&self.tracestate);
            }
        }
    }
}

/// An item that the front could not read as an event.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// What was wrong.
    pub error: Error,
    /// Its key, where that could be read: later items of that key fail too.
    pub key: Option<Bytes>,
}

/// One item of a publish request.
pub type Item = std::result::Result<Event, Rejected>;

/// The proof that an event is durable in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id.
    pub id: ByteString,
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its place there.
    pub offset: Offset,
    /// The time that the log keeps for it.
    pub timestamp: Timestamp,
    /// Whether it had been published before under the same idempotency key.
    pub duplicate: bool,
}

/// What became of each item, in order.
pub(super) type Results = Vec<Option<Result<Receipt>>>;

/// Why nothing of a request was taken to be published later.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The item that is at fault, where one is.
    pub index: Option<usize>,
    /// What is wrong.
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { index: None, error }
    }
}

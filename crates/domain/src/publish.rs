//! Publish: validate → route → choose the partition → append → receipt.
//!
//! Invariants:
//! 1. A receipt is given only for a record that the log reported durable.
//! 2. Results stand in the order of the items, one for each.
//! 3. Within one call, an event whose earlier event of the same key was not appended is not appended
//!    either, as far as that is known before the log is asked; so a key's order holds.
//! 4. One call makes one append a topic, whatever the number of its events.

use crate::{
    error::{Error, ErrorCode, Result},
    event::{Event, Stamp},
    limits::Limits,
    partition::{PartitionStrategy, Partitioner},
    topics::{TopicMeta, Topics, topic_name},
};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::RwLock;
use ports::{
    AppendRequest, Appended, Clock, Effect, ErrorKind, EventLog, LateReports, Offset, PartitionId, PortError,
    Record, Timestamp, TopicName,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A text in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether all of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// What an event must have for a [`Route`] to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// Its type fits.
    Type(Pattern),
    /// It has this attribute (`source`, `subject`, `tenantid`, `userid`, or an extension) and it fits.
    Attribute {
        /// The attribute.
        name: String,
        /// What its value must fit.
        value: Pattern,
    },
}

impl RouteMatch {
    fn takes(&self, event: &Event) -> bool {
        let (value, pattern) = match self {
            Self::Type(pattern) => (event.event_type.as_ref(), pattern),
            Self::Attribute { name, value } => (attribute(event, name), value),
        };
        value.is_some_and(|value| pattern.matches(value))
    }
}

fn attribute<'a>(event: &'a Event, name: &str) -> Option<&'a ByteString> {
    match name {
        "type" => event.event_type.as_ref(),
        "source" => event.source.as_ref(),
        "subject" => event.subject.as_ref(),
        "tenantid" => event.tenant_id.as_ref(),
        "userid" => event.user_id.as_ref(),
        name => event.extensions.iter().find(|(extension, _)| *extension == *name).map(|(_, value)| value),
    }
}

/// Sends an event that names no topic to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What the event must have.
    pub when: RouteMatch,
    /// Where it goes.
    pub topic: TopicName,
}

/// How the events of some topics are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// The topics.
    pub topics: Pattern,
    /// How their events are spread over partitions.
    pub strategy: PartitionStrategy,
    /// The type of an event that has none.
    pub event_type: Option<ByteString>,
}

/// The settings of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// For events without a topic; the first that takes the event counts.
    pub routes: Vec<Route>,
    /// By topic; the first whose pattern fits counts.
    pub topics: Vec<TopicRule>,
    /// The type of an event that has none, where no rule says.
    pub default_type: ByteString,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { routes: Vec::new(), topics: Vec::new(), default_type: ByteString::from_static("event") }
    }
}

/// What the events of one request have in common.
#[derive(Clone, Debug)]
pub struct PublishContext {
    /// The source of an event that has none.
    pub source: ByteString,
    /// The correlation id of an event that has none.
    pub correlation_id: Option<ByteString>,
    /// The trace context of an event that has none.
    pub traceparent: Option<ByteString>,
    /// The trace context of an event that has none.
    pub tracestate: Option<ByteString>,
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

/// What is kept for a topic between calls.
#[derive(Debug)]
struct TopicState {
    partitioner: Partitioner,
    event_type: ByteString,
}

/// Publishes events.
#[derive(Debug)]
pub struct Publisher {
    log: Arc<dyn EventLog>,
    topics: Arc<Topics>,
    clock: Arc<dyn Clock>,
    limits: Arc<Limits>,
    config: PublishConfig,
    states: RwLock<HashMap<TopicName, Arc<TopicState>>>,
}

/// The part of a call that goes to one topic.
struct Lane {
    topic: TopicName,
    meta: Arc<TopicMeta>,
    state: Arc<TopicState>,
    stamp: Stamp,
    records: Vec<(PartitionId, Record)>,
    /// For each record, its item's index and its event's id.
    items: Vec<(usize, ByteString)>,
}

impl Publisher {
    /// Publishes to `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        topics: Arc<Topics>,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        config: PublishConfig,
    ) -> Self {
        Self { log, topics, clock, limits, config, states: RwLock::default() }
    }

    /// Publishes a batch to `topic`, or where the routes send each event, and answers item by item.
    ///
    /// # Errors
    /// The whole request fails when its topic is not there, when it holds no item or too many, and
    /// when nothing of it could be accepted because the log does not serve.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown: what was handed to the log may be appended.
    pub async fn publish(
        &self,
        topic: Option<&str>,
        items: Vec<Item>,
        context: &PublishContext,
    ) -> Result<Vec<Result<Receipt>>> {
        let count = items.len();
        self.publish_batches(topic, items, &[count], context).await
    }

    /// Publishes several batches of one caller by one append a topic, each the next so many of `items`. A
    /// failed event fails the later ones of its key in its own batch alone, so that an answer does not
    /// depend on what else was on its way.
    ///
    /// # Errors
    /// As [`Self::publish`]; the bounds are on all batches together.
    ///
    /// # Cancellation
    /// As [`Self::publish`].
    pub async fn publish_batches(
        &self,
        topic: Option<&str>,
        items: Vec<Item>,
        counts: &[usize],
        context: &PublishContext,
    ) -> Result<Vec<Result<Receipt>>> {
        let topic = topic.map(|name| topic_name("topic", name)).transpose()?;
        if items.is_empty() {
            return Err(Error::invalid("events", "must hold at least one event"));
        }
        if items.len() > self.limits.batch_events_max {
            return Err(Error::invalid(
                "events",
                format!("must hold at most {} events, holds {}", self.limits.batch_events_max, items.len()),
            ));
        }
        let mut results: Vec<Option<Result<Receipt>>> = Vec::with_capacity(items.len());
        results.resize_with(items.len(), || None);
        let mut lanes: Vec<Lane> = Vec::with_capacity(1);
        if let Some(topic) = &topic {
            // Looked up before anything is done: an unknown topic fails the request, not each item.
            lanes.push(self.lane(topic, context, items.len()).await?);
        }
        self.prepare(topic.as_ref(), items, counts, context, &mut lanes, &mut results).await;
        match lanes.as_mut_slice() {
            [lane] => self.append(lane, &mut results).await,
            lanes => {
                let appends = lanes.iter_mut().map(|lane| async {
                    let mut of_lane = Vec::new();
                    of_lane.resize_with(results.len(), || None);
                    self.append(lane, &mut of_lane).await;
                    of_lane
                });
                for of_lane in futures::future::join_all(appends).await {
                    for (slot, result) in results.iter_mut().zip(of_lane) {
                        if result.is_some() {
                            *slot = result;
                        }
                    }
                }
            }
        }
        let results: Vec<_> = results
            .into_iter()
            .map(|result| {
                result.unwrap_or_else(|| Err(Error::new(ErrorCode::Internal, "the log gave no outcome")))
            })
            .collect();
        nothing_accepted(&results).map_or(Ok(results), Err)
    }

    /// Checks and routes every item, and puts what can go into its topic's lane.
    async fn prepare(
        &self,
        topic: Option<&TopicName>,
        items: Vec<Item>,
        counts: &[usize],
        context: &PublishContext,
        lanes: &mut Vec<Lane>,
        results: &mut [Option<Result<Receipt>>],
    ) {
        let mut failed_keys: HashSet<Bytes> = HashSet::new();
        let mut counts = counts.iter();
        let mut batch_end = counts.next().copied().unwrap_or_default();
        for (index, item) in items.into_iter().enumerate() {
            while index >= batch_end
                && let Some(count) = counts.next()
            {
                batch_end += count;
                failed_keys.clear();
            }
            let (key, outcome) = match item {
                Err(rejected) => (rejected.key, Err(rejected.error)),
                Ok(event) => {
                    let key = event.key.clone();
                    if key.as_ref().is_some_and(|key| !failed_keys.is_empty() && failed_keys.contains(key)) {
                        (key, Err(predecessor_failed()))
                    } else {
                        (key, self.place(topic, event, index, context, lanes).await)
                    }
                }
            };
            if let Err(error) = outcome {
                failed_keys.extend(key);
                results[index] = Some(Err(error));
            }
        }
    }

    /// Checks one event and puts it into its lane.
    async fn place(
        &self,
        topic: Option<&TopicName>,
        mut event: Event,
        index: usize,
        context: &PublishContext,
        lanes: &mut Vec<Lane>,
    ) -> Result<()> {
        event.check(&self.limits)?;
        let at = match topic {
            Some(_) => 0,
            None => {
                let topic = self.route(&event)?;
                match lanes.iter().position(|lane| lane.topic == topic) {
                    Some(at) => at,
                    None => {
                        lanes.push(self.lane(&topic, context, 1).await?);
                        lanes.len() - 1
                    }
                }
            }
        };
        let lane = &mut lanes[at];
        fill(&mut event, context);
        let partition = match event.partition {
            Some(partition) if partition < lane.meta.partitions => partition,
            Some(partition) => {
                return Err(Error::invalid(
                    "partition",
                    format!(
                        "must lie between 0 and {}, the partitions of `{}` (given: {partition})",
                        lane.meta.partitions - 1,
                        lane.topic
                    ),
                ));
            }
            None => lane.state.partitioner.choose(&event, lane.meta.partitions),
        };
        let (record, id) = event.into_record(&lane.stamp);
        let size = record.size();
        if size > lane.meta.max_message_bytes {
            return Err(Error::new(
                ErrorCode::EventTooLarge,
                format!(
                    "the event takes {size} bytes with its headers; topic `{}` takes at most {} \
                     (`max.message.bytes`)",
                    lane.topic, lane.meta.max_message_bytes
                ),
            )
            .with_field("data", "is too large for its topic"));
        }
        lane.records.push((partition, record));
        lane.items.push((index, id));
        Ok(())
    }

    fn route(&self, event: &Event) -> Result<TopicName> {
        self.config
            .routes
            .iter()
            .find(|route| route.when.takes(event))
            .map(|route| route.topic.clone())
            .ok_or_else(|| {
                Error::invalid(
                    "type",
                    "is taken by none of the routing rules; publish to a topic by name, or add a rule",
                )
            })
    }

    async fn lane(&self, topic: &TopicName, context: &PublishContext, capacity: usize) -> Result<Lane> {
        let meta = self.topics.meta(topic).await?.ok_or_else(|| Error::topic_not_found(topic))?;
        let state = self.state(topic);
        let stamp = Stamp::new(self.clock.wall(), context.source.clone(), state.event_type.clone());
        Ok(Lane {
            topic: topic.clone(),
            meta,
            state,
            stamp,
            records: Vec::with_capacity(capacity),
            items: Vec::with_capacity(capacity),
        })
    }

    fn state(&self, topic: &TopicName) -> Arc<TopicState> {
        if let Some(state) = self.states.read().get(topic) {
            return state.clone();
        }
        let rule = self.config.topics.iter().find(|rule| rule.topics.matches(topic.as_str()));
        let state = TopicState {
            partitioner: Partitioner::new(rule.map_or_else(Default::default, |rule| rule.strategy.clone())),
            event_type: rule
                .and_then(|rule| rule.event_type.clone())
                .unwrap_or_else(|| self.config.default_type.clone()),
        };
        self.states.write().entry(topic.clone()).or_insert_with(|| Arc::new(state)).clone()
    }

    async fn append(&self, lane: &mut Lane, results: &mut [Option<Result<Receipt>>]) {
        if lane.records.is_empty() {
            return;
        }
        let partitions: Vec<PartitionId> = lane.records.iter().map(|(partition, _)| *partition).collect();
        let request = AppendRequest {
            topic: lane.topic.clone(),
            records: std::mem::take(&mut lane.records),
            timeout: self.limits.publish_timeout,
        };
        let answer = self.log.append(request).await;
        if let Some(late) = answer.late {
            let ids = lane.items.iter().map(|(_, id)| id.clone()).collect();
            hear_late(lane.topic.clone(), ids, late);
        }
        let mut outcomes = answer.outcomes.into_iter();
        for ((index, id), partition) in lane.items.drain(..).zip(partitions) {
            results[index] = Some(match outcomes.next() {
                Some(Ok(Appended { offset, timestamp })) => Ok(Receipt {
                    id,
                    topic: lane.topic.clone(),
                    partition,
                    offset,
                    timestamp,
                    duplicate: false,
                }),
                Some(Err(error)) => Err(self.append_error(&lane.topic, &error)),
                None => Err(Error::new(ErrorCode::Internal, "the log gave no outcome for this event")),
            });
        }
    }

    fn append_error(&self, topic: &TopicName, error: &PortError) -> Error {
        match error.kind() {
            ErrorKind::NotFound => {
                // The topic was there when it was looked up: what is remembered of it is wrong.
                self.topics.forget(topic);
                Error::topic_not_found(topic)
            }
            // A full queue is the service's state, not the client's rate.
            ErrorKind::Throttled => Error::from(error).with_effect(Effect::None),
            _ => Error::from(error),
        }
    }
}

/// Gives an event what its request has for all.
fn fill(event: &mut Event, context: &PublishContext) {
    if event.correlation_id.is_none() {
        event.correlation_id.clone_from(&context.correlation_id);
    }
    if event.traceparent.is_none() {
        event.traceparent.clone_from(&context.traceparent);
        if event.tracestate.is_none() {
            event.tracestate.clone_from(&context.tracestate);
        }
    }
}

fn predecessor_failed() -> Error {
    Error::new(
        ErrorCode::PredecessorFailed,
        "an earlier event of this key in the same batch failed; to keep the key's order this one was not appended",
    )
}

/// The error of the whole request, where every item failed for want of the log.
fn nothing_accepted(results: &[Result<Receipt>]) -> Option<Error> {
    let mut unavailable = None;
    let mut unknown = false;
    for result in results {
        match result {
            Err(error) if error.code() == ErrorCode::Unavailable => {
                unknown |= error.effect() == Some(Effect::Unknown);
                unavailable.get_or_insert(error);
            }
            _ => return None,
        }
    }
    let error = unavailable?.clone();
    Some(if unknown { error.with_effect(Effect::Unknown) } else { error })
}

/// Hears what the log says after the publisher was answered `timeout`, so that an operator can tell
/// which of those events are there after all.
fn hear_late(topic: TopicName, ids: Vec<ByteString>, late: LateReports) {
    tokio::spawn(async move {
        for (index, outcome) in late.await {
            let id = ids.get(index).map(|id| &**id).unwrap_or_default();
            match outcome {
                Ok(appended) => {
                    tracing::warn!(%topic, id, offset = appended.offset, "an event answered as timed out was appended");
                }
                Err(error) => {
                    tracing::warn!(%topic, id, %error, "an event answered as timed out was not appended");
                }
            }
        }
    });
}

//! The second half of a call: one append a topic, and what its outcomes mean.

use super::{
    background::Background,
    late::Open,
    once::ends::Ends,
    prepare::Prepared,
    request::{PublishConfig, Receipt, Results},
};
use crate::{
    error::{Error, ErrorCode, Result},
    event::Event,
    event_schemas::{EventSchemas, Writer},
    limits::Limits,
    partition::{self, Partitioner},
    topics::{TopicMeta, Topics},
};
use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use ports::{
    AppendRequest, AppendResult, Appended, Clock, Effect, ErrorKind, EventLog, IdempotencyStore, PartitionId,
    PortError, Record, TopicName,
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, atomic::AtomicUsize},
};

/// What a chain of causes is cut to.
use crate::dead_letter::CHAIN_BYTES_MAX;

/// What is kept for a topic between calls.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) partitioner: Partitioner,
    pub(super) event_type: ByteString,
    /// The ends of partitions as last known; only looked at for events with an idempotency key.
    pub(super) ends: Mutex<Ends>,
}

/// What every call needs.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) topics: Arc<Topics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Arc<Limits>,
    pub(super) config: PublishConfig,
    pub(super) store: Option<Arc<dyn IdempotencyStore>>,
    /// What the values of topics follow, where there is a registry.
    pub(super) schemas: Option<Arc<EventSchemas>>,
    pub(super) background: Background,
    /// How many outcomes wait for a store that did not take them.
    pub(super) unsettled: AtomicUsize,
    pub(super) states: RwLock<HashMap<TopicName, Arc<TopicState>>>,
}

/// The part of a call that goes to one topic.
pub(super) struct Lane {
    pub(super) topic: TopicName,
    pub(super) meta: Arc<TopicMeta>,
    pub(super) state: Arc<TopicState>,
    /// Makes its values follow the topic's schema, where it has one.
    pub(super) writer: Option<Box<Writer>>,
    pub(super) records: Vec<(PartitionId, Record)>,
    /// For each record, its item's index and its event's id.
    pub(super) items: Vec<(usize, ByteString)>,
}

/// Whether a call waits for what is not known at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenLate {
    /// It is answered `timeout`; the report is heard in the background.
    Answer,
    /// It waits.
    Wait,
}

/// What the results do not tell of failures.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The items whose effect is unknown.
    pub(super) unknown: Vec<usize>,
    /// The chain of causes by item, where somebody wants it.
    pub(super) causes: Option<HashMap<usize, String>>,
}

impl Trace {
    fn note(&mut self, index: usize, error: &PortError) {
        if error.effect() == Effect::Unknown {
            self.unknown.push(index);
        }
        if let Some(causes) = &mut self.causes {
            causes.insert(index, chain(error));
        }
    }
}

/// The log's answer for one lane.
struct Answer {
    result: AppendResult,
    partitions: Vec<PartitionId>,
}

impl Core {
    /// Appends what is prepared, once where it has a key, and puts its outcomes into the results.
    pub(super) async fn run(self: &Arc<Self>, prepared: &mut Prepared, late: WhenLate, trace: &mut Trace) {
        if let Some(store) = self.store.clone().filter(|_| !prepared.keyed.is_empty()) {
            return Box::pin(self.publish_once(store, prepared, late, trace)).await;
        }
        let opens = self.append(&mut prepared.lanes, &mut prepared.results, trace).await;
        for open in opens {
            let hearing = open.hear(self.clone());
            match late {
                WhenLate::Answer => drop(tokio::spawn(hearing)),
                WhenLate::Wait => prepared.heard(hearing.await, trace),
            }
        }
    }

    /// Makes one append a lane, all at once. Gives the appends that are not known in full at their deadline.
    pub(super) async fn append(
        &self,
        lanes: &mut [Lane],
        results: &mut Results,
        trace: &mut Trace,
    ) -> Vec<Open> {
        let mut opens = Vec::new();
        if let [lane] = lanes {
            if let Some(answer) = self.ask(lane).await {
                opens.extend(self.take(lane, answer, results, trace));
            }
            return opens;
        }
        let answers = futures::future::join_all(lanes.iter_mut().map(|lane| self.ask(lane))).await;
        for (lane, answer) in lanes.iter_mut().zip(answers) {
            if let Some(answer) = answer {
                opens.extend(self.take(lane, answer, results, trace));
            }
        }
        opens
    }

    async fn ask(&self, lane: &mut Lane) -> Option<Answer> {
        if lane.records.is_empty() {
            return None;
        }
        let partitions = lane.records.iter().map(|(partition, _)| *partition).collect();
        let request = AppendRequest {
            topic: lane.topic.clone(),
            records: std::mem::take(&mut lane.records),
            timeout: self.limits.publish_timeout,
        };
        let result = self.log.append(request).await;
        Some(Answer { result, partitions })
    }

    fn take(
        &self,
        lane: &mut Lane,
        answer: Answer,
        results: &mut Results,
        trace: &mut Trace,
    ) -> Option<Open> {
        let Answer { result, partitions } = answer;
        let open = result.late.map(|reports| Open {
            topic: lane.topic.clone(),
            items: lane.items.clone(),
            partitions: partitions.clone(),
            reports,
        });
        let mut outcomes = result.outcomes.into_iter();
        for ((index, id), partition) in lane.items.drain(..).zip(partitions) {
            results[index] = Some(match outcomes.next() {
                Some(Ok(Appended { offset, timestamp })) => {
                    let topic = lane.topic.clone();
                    Ok(Receipt { id, topic, partition, offset, timestamp, duplicate: false })
                }
                Some(Err(error)) => {
                    trace.note(index, &error);
                    Err(self.append_error(&lane.topic, &error))
                }
                None => {
                    // A defect of the log's: nothing is known of it.
                    trace.unknown.push(index);
                    Err(Error::new(ErrorCode::Internal, "the log gave no outcome for this event"))
                }
            });
        }
        open
    }

    pub(super) fn append_error(&self, topic: &TopicName, error: &PortError) -> Error {
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

    /// An empty lane for a topic.
    ///
    /// # Errors
    /// The topic is not there, or cannot be looked up.
    pub(super) async fn lane(&self, topic: &TopicName, capacity: usize) -> Result<Lane> {
        let meta = self.topics.meta(topic).await?.ok_or_else(|| Error::topic_not_found(topic))?;
        Ok(Lane {
            topic: topic.clone(),
            meta,
            state: self.state(topic),
            writer: self.schemas.as_ref().and_then(|schemas| schemas.writer(topic)).map(Box::new),
            records: Vec::with_capacity(capacity),
            items: Vec::with_capacity(capacity),
        })
    }

    pub(super) fn partition_for(&self, topic: &TopicName, record: &Record, partitions: u32) -> PartitionId {
        let state = self.state(topic);
        match &record.key {
            Some(key) if state.partitioner.goes_by_key() => partition::by_hash(key, partitions),
            _ => state.partitioner.choose(&Event::from_record(record), partitions),
        }
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
            ends: Mutex::default(),
        };
        self.states.write().entry(topic.clone()).or_insert_with(|| Arc::new(state)).clone()
    }
}

/// An error and what caused it, one a line.
pub(super) fn chain(error: &PortError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if text.len() > CHAIN_BYTES_MAX {
            break;
        }
        let _ = write!(text, "\n{cause}");
        source = cause.source();
    }
    cut(&mut text, CHAIN_BYTES_MAX);
    text
}

/// Cuts a text to so many bytes at most, at the border of a character.
pub(super) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

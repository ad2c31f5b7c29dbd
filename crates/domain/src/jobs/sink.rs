//! Where a job's events go.

use super::{
    Shared,
    job::{Job, Target},
};
use crate::{
    dead_letter::header::PREVIOUS,
    dead_letters::Letter,
    error::{Error, ErrorCode, Result},
    event::header::OWN_PREFIX,
    subscriptions::Queue,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{AppendRequest, Effect, Header, PartitionId, PortError, Record, Retry, StoredRecord, TopicName};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// Names of the headers that a replayed event has beside its own. They say where it lay when it was replayed last.
pub mod header {
    /// The replay's id. Deduplication takes it into an event's key, so that an event that is replayed is handled
    /// again, and what one replay wrote twice is not.
    pub const REPLAY_ID: &str = "es_replay_id";
    /// The topic that it was read from.
    pub const TOPIC: &str = "es_original_topic";
    /// Its partition there.
    pub const PARTITION: &str = "es_original_partition";
    /// Its offset there.
    pub const OFFSET: &str = "es_original_offset";
    /// Its time there, in epoch milliseconds.
    pub const TIMESTAMP: &str = "es_original_timestamp";
    /// All of them.
    pub const ALL: [&str; 5] = [REPLAY_ID, TOPIC, PARTITION, OFFSET, TIMESTAMP];
}

/// How long one append may take.
const APPEND_WITHIN: Duration = Duration::from_secs(30);

/// An event on its way, with where it was read.
pub(super) struct Moved {
    pub(super) from: (PartitionId, u64),
    pub(super) to: PartitionId,
    pub(super) record: Record,
}

/// What did not arrive.
#[derive(Default)]
pub(super) struct Left {
    /// What is to be tried again, in order, and why.
    pub(super) again: Vec<Moved>,
    pub(super) reason: Option<PortError>,
    /// What can never be written, and why.
    pub(super) refused: Option<String>,
}

/// Writes a job's events.
pub(super) struct Sink {
    shared: Arc<Shared>,
    id: Uuid,
    source: TopicName,
    source_id: String,
    target: Target,
}

impl Sink {
    pub(super) fn new(shared: Arc<Shared>, job: &Job) -> Result<Self> {
        let (source, source_id) = (job.topic()?, job.task.topic_id.clone());
        Ok(Self { shared, id: job.id, source, source_id, target: job.task.target.clone() })
    }

    /// Makes the records that are written for events, and says to which topic.
    ///
    /// # Errors
    /// The target is gone, or is not known for now.
    pub(super) async fn prepare(
        &self,
        events: Vec<(PartitionId, StoredRecord)>,
    ) -> Result<(TopicName, Vec<Moved>)> {
        let place: Place = match &self.target {
            Target::Topic(name) => {
                let target = crate::topics::topic_name("target.topic", name)?;
                let meta = self.shared.services.topics.meta_if_there(&target).await?;
                let meta = meta.ok_or_else(|| Error::topic_not_found(&target))?;
                Place::Topic { same: target == self.source, partitions: meta.partitions, target }
            }
            Target::Subscription { name, uid } => {
                Place::Queue(self.shared.services.subscriptions.queue(name, *uid).await?)
            }
        };
        let now = self.shared.ports.clock.wall();
        let topic = Bytes::copy_from_slice(self.source.as_str().as_bytes());
        let id = Bytes::from(self.id.to_string());
        let moved = events.into_iter().map(|(partition, StoredRecord { offset, mut record })| {
            record.headers.retain(|of| !of.name.starts_with(OWN_PREFIX) || !header::ALL.contains(&&*of.name));
            let number = |number: i128| Bytes::from(number.to_string());
            let said = [
                (header::REPLAY_ID, id.clone()),
                (header::TOPIC, topic.clone()),
                (header::PARTITION, number(partition.into())),
                (header::OFFSET, number(offset.into())),
                (header::TIMESTAMP, number(record.timestamp.0.into())),
            ];
            let said =
                said.map(|(name, value)| Header { name: ByteString::from_static(name), value: Some(value) });
            record.headers.extend(said);
            let (to, mut record) = match &place {
                Place::Topic { same, partitions, .. } if *same && partition < *partitions => {
                    (partition, record)
                }
                Place::Topic { target, partitions, .. } => {
                    (self.shared.services.publisher.partition_for(target, &record, *partitions), record)
                }
                // In an epoch of its own: it is delivered, however often it was before.
                Place::Queue(queue) => {
                    queue.record((&self.source_id, &self.source, partition, offset), self.id, record)
                }
            };
            // It is written now: what it was is in its headers, and retention counts from here.
            record.timestamp = now;
            Moved { from: (partition, offset), to, record }
        });
        let moved = moved.collect();
        let target = match place {
            Place::Topic { target, .. } => target,
            Place::Queue(queue) => queue.topic,
        };
        Ok((target, moved))
    }

    /// Makes the records that are queued for dead letters, and says in which topic.
    ///
    /// # Errors
    /// The subscription is gone, or what is asked of topics is not known for now.
    pub(super) async fn queued(&self, letters: &[Letter]) -> Result<(TopicName, Vec<Moved>)> {
        let Target::Subscription { name, uid } = &self.target else {
            return Err(Error::new(ErrorCode::Internal, "dead letters go to a subscription"));
        };
        let queue = self.shared.services.subscriptions.queue(name, *uid).await?;
        let now = self.shared.ports.clock.wall();
        let mut logs: BTreeMap<&TopicName, String> = BTreeMap::new();
        let mut moved = Vec::with_capacity(letters.len());
        for letter in letters {
            let topic = &letter.event.topic;
            if !logs.contains_key(topic) {
                // Of a topic that is gone nothing is left to be taken for it.
                let meta = self.shared.services.topics.meta_if_there(topic).await?;
                logs.insert(topic, meta.map_or_else(String::new, |meta| meta.id.clone()));
            }
            let log = logs.get(topic).map_or("", String::as_str);
            let StoredRecord { offset, mut record } = letter.event.record.clone();
            let id = letter.id.to_string();
            record.headers.push(Header::new(PREVIOUS, id.clone()));
            let epoch = Uuid::parse_str(&id).unwrap_or(self.id);
            let place = (log, topic, letter.event.partition, offset);
            let (to, mut record) = queue.record(place, epoch, record);
            record.timestamp = now;
            moved.push(Moved { from: (letter.partition, letter.offset), to, record });
        }
        Ok((queue.topic, moved))
    }

    /// Writes records to a topic, and answers what did not arrive. One whose outcome is not known counts as not
    /// arrived.
    pub(super) async fn write(&self, target: &TopicName, moved: Vec<Moved>) -> Left {
        let records = moved.iter().map(|moved| (moved.to, moved.record.clone())).collect();
        let request = AppendRequest { topic: target.clone(), records, timeout: APPEND_WITHIN };
        let mut result = self.shared.ports.log.append(request).await;
        if let Some(late) = result.late.take() {
            // The log's own word: with it nothing need be written twice.
            for (index, outcome) in late.await {
                if let Some(place) = result.outcomes.get_mut(index) {
                    *place = outcome;
                }
            }
        }
        let mut left = Left::default();
        let mut outcomes = result.outcomes.into_iter();
        for moved in moved {
            let error = match outcomes.next() {
                Some(Ok(_)) => continue,
                Some(Err(error)) => Some(error),
                None => None,
            };
            match error {
                Some(error) if is_final(&error) => {
                    let (partition, offset) = moved.from;
                    let reason = format!(
                        "the event at partition {partition}, offset {offset} of `{}` cannot be written to `{target}`: \
                         {error}",
                        self.source
                    );
                    left.refused.get_or_insert(reason);
                }
                error => {
                    left.reason = left.reason.or(error);
                    left.again.push(moved);
                }
            }
        }
        left
    }
}

/// Where a batch goes.
enum Place {
    Topic {
        target: TopicName,
        /// Whether it is the one that is read.
        same: bool,
        partitions: u32,
    },
    Queue(Queue),
}

/// Whether trying again cannot help.
fn is_final(error: &PortError) -> bool {
    error.retry() == Retry::Permanent && error.effect() == Effect::None
}

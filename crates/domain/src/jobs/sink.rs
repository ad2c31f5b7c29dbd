//! Where a job's events go.

use super::{
    JobPorts,
    job::{Job, Target},
};
use crate::{
    error::{Error, Result},
    event::header::OWN_PREFIX,
    publish::Publisher,
    topics::Topics,
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{AppendRequest, Effect, Header, PartitionId, PortError, Record, Retry, StoredRecord, TopicName};
use std::{sync::Arc, time::Duration};

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
    ports: JobPorts,
    publisher: Arc<Publisher>,
    topics: Arc<Topics>,
    id: ByteString,
    source: TopicName,
    target: TopicName,
    same: bool,
}

impl Sink {
    pub(super) fn new(
        ports: JobPorts,
        publisher: Arc<Publisher>,
        topics: Arc<Topics>,
        job: &Job,
    ) -> Result<Self> {
        let source = job.topic()?;
        let Target::Topic(target) = &job.task.target;
        let target = crate::topics::topic_name("target.topic", target)?;
        let same = target == source;
        Ok(Self { ports, publisher, topics, id: job.id.to_string().into(), source, target, same })
    }

    /// Makes the records that are written for events.
    ///
    /// # Errors
    /// The target is gone, or is not known for now.
    pub(super) async fn prepare(&self, events: Vec<(PartitionId, StoredRecord)>) -> Result<Vec<Moved>> {
        let meta = self.topics.meta_if_there(&self.target).await?;
        let meta = meta.ok_or_else(|| Error::topic_not_found(&self.target))?;
        let now = self.ports.clock.wall();
        let topic = Bytes::copy_from_slice(self.source.as_str().as_bytes());
        let id = self.id.clone().into_bytes();
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
            // It is written now: what it was is in its headers, and retention counts from here.
            record.timestamp = now;
            let to = if self.same && partition < meta.partitions {
                partition
            } else {
                self.publisher.partition_for(&self.target, &record, meta.partitions)
            };
            Moved { from: (partition, offset), to, record }
        });
        Ok(moved.collect())
    }

    /// Writes records, and answers what did not arrive. One whose outcome is not known counts as not arrived.
    pub(super) async fn write(&self, moved: Vec<Moved>) -> Left {
        let records = moved.iter().map(|moved| (moved.to, moved.record.clone())).collect();
        let request = AppendRequest { topic: self.target.clone(), records, timeout: APPEND_WITHIN };
        let mut result = self.ports.log.append(request).await;
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
                        "the event at partition {partition}, offset {offset} of `{}` cannot be written to `{}`: {}",
                        self.source, self.target, error
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

/// Whether trying again cannot help.
fn is_final(error: &PortError) -> bool {
    error.retry() == Retry::Permanent && error.effect() == Effect::None
}

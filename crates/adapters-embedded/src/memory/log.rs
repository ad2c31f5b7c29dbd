//! Topics in a map, each partition a vector of records.

use super::{reader::MemoryReader, settings};
use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    AppendRequest, AppendResult, Appended, Capabilities, Clock, ErrorKind, EventLog, LogReader, Offset,
    PartitionId, PortError, Position, Record, Result, StoredRecord, TopicName, TopicPartition,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// `EventLog` and `TopicAdmin` in memory.
#[derive(Debug)]
pub struct MemoryLog {
    pub(super) shared: Arc<Shared>,
}

/// What the log shares with its readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topics: Mutex<Topics>,
    /// Counts the changes, so that readers can wait for the next.
    changes: watch::Sender<u64>,
    pub(super) clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) by_name: BTreeMap<TopicName, Topic>,
    /// How many were ever created: the last one's id.
    pub(super) created: u64,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: u64,
    pub(super) config: BTreeMap<String, String>,
    pub(super) partitions: Vec<Partition>,
}

/// The record of offset `n` is `records[n]`, also when it was trimmed: then it is there but not readable.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    pub(super) start: Offset,
    pub(super) records: Vec<StoredRecord>,
}

impl Partition {
    pub(super) fn end(&self) -> Offset {
        self.records.len() as Offset
    }

    pub(super) fn readable(&self) -> &[StoredRecord] {
        &self.records[self.start as usize..]
    }

    fn push(&mut self, record: Record) -> Appended {
        let appended = Appended { offset: self.end(), timestamp: record.timestamp };
        self.records.push(StoredRecord { offset: appended.offset, record });
        appended
    }

    fn locate(&self, at: Position) -> Offset {
        match at {
            Position::Earliest => self.start,
            Position::Latest => self.end(),
            Position::Timestamp(timestamp) => {
                let mut readable = self.readable().iter();
                readable
                    .find(|stored| stored.record.timestamp >= timestamp)
                    .map_or(self.end(), |stored| stored.offset)
            }
        }
    }
}

impl Topics {
    pub(super) fn topic(&mut self, operation: &'static str, name: &TopicName) -> Result<&mut Topic> {
        let unknown =
            || PortError::new(ErrorKind::NotFound, operation, format!("topic {name} does not exist"));
        self.by_name.get_mut(name).ok_or_else(unknown)
    }
}

impl Topic {
    pub(super) fn partition(
        &mut self,
        operation: &'static str,
        number: PartitionId,
    ) -> Result<&mut Partition> {
        let count = self.partitions.len();
        let unknown = || {
            let detail = format!("there is no partition {number}, the topic has {count}");
            PortError::new(ErrorKind::NotFound, operation, detail)
        };
        self.partitions.get_mut(number as usize).ok_or_else(unknown)
    }
}

impl Shared {
    /// Wakes the readers.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared { topics: Mutex::default(), changes: watch::Sender::default(), clock }),
        }
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_partition_batches: true, dense_offsets: true, replication: false }
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        const OPERATION: &str = "event_log.append";
        let mut topics = self.shared.topics.lock();
        let topic = match topics.topic(OPERATION, &request.topic) {
            Ok(topic) => topic,
            Err(error) => {
                return AppendResult::complete(
                    request.records.iter().map(|_| Err(error.duplicate())).collect(),
                );
            }
        };
        let bytes_max = settings::message_bytes_max(&topic.config);
        let mut outcomes = Vec::new();
        for (number, record) in request.records {
            outcomes.push(topic.partition(OPERATION, number).and_then(|partition| {
                let size = record.size();
                if size > bytes_max {
                    let detail =
                        format!("the record has {size} bytes, at most {bytes_max} (max.message.bytes)");
                    return Err(PortError::new(ErrorKind::TooLarge, OPERATION, detail));
                }
                Ok(partition.push(record))
            }));
        }
        drop(topics);
        self.shared.changed();
        AppendResult::complete(outcomes)
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        const OPERATION: &str = "event_log.open";
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, &partition.topic)?;
        topic.partition(OPERATION, partition.partition)?;
        Ok(Box::new(MemoryReader::new(self.shared.clone(), partition.clone(), topic.id, from)))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        const OPERATION: &str = "event_log.locate";
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, topic)?;
        at.iter().map(|(number, at)| Ok(topic.partition(OPERATION, *number)?.locate(*at))).collect()
    }
}

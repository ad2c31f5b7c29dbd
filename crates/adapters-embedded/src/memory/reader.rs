//! A cursor over one partition in memory.

use super::log::Shared;
use async_trait::async_trait;
use ports::{ErrorKind, Fetched, LogReader, Offset, PortError, ReadLimits, Result, TopicPartition};
use std::sync::Arc;

const OPERATION: &str = "event_log.next";

/// A cursor, of the topic as it was when it was opened: one that is made again has another id.
#[derive(Debug)]
pub(super) struct MemoryReader {
    shared: Arc<Shared>,
    partition: TopicPartition,
    topic_id: u64,
    offset: Offset,
}

impl MemoryReader {
    pub(super) fn new(shared: Arc<Shared>, partition: TopicPartition, topic_id: u64, offset: Offset) -> Self {
        Self { shared, partition, topic_id, offset }
    }

    /// What is there now.
    fn read(&self, limits: ReadLimits) -> Result<Fetched> {
        let mut topics = self.shared.topics.lock();
        let topic = topics.topic(OPERATION, &self.partition.topic)?;
        if topic.id != self.topic_id {
            let detail = format!("topic {} was deleted, and made again", self.partition.topic);
            return Err(PortError::new(ErrorKind::NotFound, OPERATION, detail));
        }
        let partition = topic.partition(OPERATION, self.partition.partition)?;
        let (start, end) = (partition.start, partition.end());
        if !(start..=end).contains(&self.offset) {
            let detail = format!("offset {} of {} is outside {start} to {end}", self.offset, self.partition);
            return Err(PortError::new(ErrorKind::OutOfRange, OPERATION, detail));
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        for stored in partition.records[self.offset as usize..].iter().take(limits.records_max.max(1)) {
            bytes += stored.record.size();
            if bytes > limits.bytes_max && !records.is_empty() {
                break;
            }
            records.push(stored.clone());
        }
        Ok(Fetched { next: self.offset + records.len() as Offset, records, end })
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched> {
        let deadline = self.shared.clock.monotonic() + limits.wait_max;
        let mut changes = self.shared.subscribe();
        loop {
            changes.mark_unchanged();
            let fetched = self.read(limits)?;
            let is_up = self.shared.clock.monotonic() >= deadline;
            if is_up || !fetched.records.is_empty() {
                self.offset = fetched.next;
                return Ok(fetched);
            }
            tokio::select! {
                // The log is there as long as its reader is.
                _ = changes.changed() => {}
                () = self.shared.clock.sleep_until(deadline) => {}
            }
        }
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        self.offset = to;
        Ok(())
    }
}

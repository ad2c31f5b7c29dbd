//! A log of which it is counted what was read, and which may have gaps.

use async_trait::async_trait;
use ports::{
    AppendRequest, AppendResult, Capabilities, EventLog, Fetched, LogReader, Offset, PartitionId, Position,
    ReadLimits, Result, TopicName, TopicPartition,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Passes everything on, but for records that are gone: compacted away, or a marker of a transaction.
#[derive(Debug)]
pub(crate) struct WatchedLog {
    inner: Arc<dyn EventLog>,
    read: Arc<AtomicUsize>,
    gone: fn(Offset) -> bool,
}

impl WatchedLog {
    pub(crate) fn new(inner: Arc<dyn EventLog>) -> Arc<Self> {
        Self::without(inner, |_| false)
    }

    /// Without the records at these offsets.
    pub(crate) fn without(inner: Arc<dyn EventLog>, gone: fn(Offset) -> bool) -> Arc<Self> {
        Arc::new(Self { inner, read: Arc::default(), gone })
    }

    /// How many records were read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Relaxed)
    }
}

#[async_trait]
impl EventLog for WatchedLog {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        self.inner.append(request).await
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        let inner = self.inner.open(partition, from).await?;
        Ok(Box::new(WatchedReader { inner, read: self.read.clone(), gone: self.gone }))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        self.inner.locate(topic, at).await
    }
}

#[derive(Debug)]
struct WatchedReader {
    inner: Box<dyn LogReader>,
    read: Arc<AtomicUsize>,
    gone: fn(Offset) -> bool,
}

#[async_trait]
impl LogReader for WatchedReader {
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched> {
        let mut fetched = self.inner.next(limits).await?;
        fetched.records.retain(|stored| !(self.gone)(stored.offset));
        self.read.fetch_add(fetched.records.len(), Relaxed);
        Ok(fetched)
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        self.inner.seek(to).await
    }
}

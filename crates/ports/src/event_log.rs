//! The log of events: append, read by cursor, and find a place.

use crate::{
    error::Result,
    record::{Record, StoredRecord, Timestamp},
    topic::{Offset, PartitionId, TopicName, TopicPartition},
};
use async_trait::async_trait;
use std::{fmt, fmt::Debug, future::Future, pin::Pin, time::Duration};

/// What may differ from one log to the next, as far as a caller decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The records of one [`AppendRequest`] that go to one partition are appended all or none, and
    /// lie beside each other.
    pub atomic_partition_batches: bool,
    /// The offsets of a partition have no gaps.
    pub dense_offsets: bool,
    /// Topics keep a replication factor above 1.
    pub replication: bool,
}

/// A batch for one topic.
#[derive(Debug)]
pub struct AppendRequest {
    /// The topic.
    pub topic: TopicName,
    /// The records in order, each with its partition.
    pub records: Vec<(PartitionId, Record)>,
    /// How long the caller waits. What is not known by then is answered as `Timeout` with its effect
    /// unknown, and told later by [`AppendResult::late`].
    pub timeout: Duration,
}

/// Where a record was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in its partition.
    pub offset: Offset,
    /// The time that the log keeps for it: the record's own, or the log's where a topic is set to that.
    pub timestamp: Timestamp,
}

/// Resolves to the outcome of every record that was left open when the caller's deadline passed, by its
/// index in the request. Ends when the log has reported on all of them.
pub type LateReports = Pin<Box<dyn Future<Output = Vec<(usize, Result<Appended>)>> + Send>>;

/// What became of an [`AppendRequest`].
pub struct AppendResult {
    /// One outcome a record, in the order of the request.
    pub outcomes: Vec<Result<Appended>>,
    /// Given when some outcomes are `Timeout` because the deadline passed first.
    pub late: Option<LateReports>,
}

impl AppendResult {
    /// All outcomes are known.
    pub fn complete(outcomes: Vec<Result<Appended>>) -> Self {
        Self { outcomes, late: None }
    }
}

impl Debug for AppendResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendResult")
            .field("outcomes", &self.outcomes)
            .field("late", &self.late.is_some())
            .finish()
    }
}

/// A place to start reading from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// The first record that is still there.
    Earliest,
    /// The end: the offset that the next record will get.
    Latest,
    /// The first record whose timestamp is this or later; the end where there is none.
    Timestamp(Timestamp),
}

/// How much one read may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// At most so many records, at least 1.
    pub records_max: usize,
    /// At most so many bytes of records ([`Record::size`]), but always one record.
    pub bytes_max: usize,
    /// How long to wait for the first record where there is none yet.
    pub wait_max: Duration,
}

/// What one read brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The records in order of their offsets; empty when nothing came in time.
    pub records: Vec<StoredRecord>,
    /// Where to go on: behind the last record and behind any gap that was passed. Never before where
    /// the read began.
    pub next: Offset,
    /// The partition's end as last known, for lag: the offset that the next record will get.
    pub end: Offset,
}

/// A durable, partitioned log.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventLog: Debug + Send + Sync + 'static {
    /// What this log can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends a batch and answers record by record.
    ///
    /// A record whose outcome is `Ok` is durable (as durable as the log gives: synced to disk, or on
    /// all in-sync replicas) and readable. Within one partition, offsets grow in the order of the
    /// request; two requests of which the second began after the first was answered keep that order
    /// too. A log never appends a record twice for one call.
    ///
    /// # Errors
    /// By record: `NotFound` (no such topic or partition), `TooLarge`, `Invalid`, `Denied`, `Throttled`
    /// (the bounded queue is full), `Unavailable`, and `Timeout`. `Effect::None` is said only where the
    /// record is certainly not in the log and never will be.
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown: records handed over may still be appended.
    async fn append(&self, request: AppendRequest) -> AppendResult;

    /// Opens a cursor that reads one partition from `from` on.
    ///
    /// `from` may be the end. Cursors are independent of each other and of consumer groups.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Denied`. A `from` outside the log is told by the first read.
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>>;

    /// Resolves positions to offsets, one for each that is asked for, in order.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Denied`, `Timeout`.
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>>;
}

/// A cursor over one partition. Dropping it closes it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogReader: Debug + Send + 'static {
    /// The records from the cursor on, and moves the cursor to [`Fetched::next`].
    ///
    /// Returns as soon as there is a record; with none until `wait_max` has passed, and then with what
    /// it knows of `next` and `end`. Records of aborted transactions and markers are passed over.
    ///
    /// # Errors
    /// `OutOfRange`: the cursor is before the log's start (retention) or beyond its end (a truncated
    /// log); the cursor stays, and the caller seeks. `NotFound`: the topic or partition is gone.
    /// `Corrupt`, `Unavailable`, `Denied`. After a transient error the same call goes on from the same
    /// place.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the cursor moves only when it returns.
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched>;

    /// Moves the cursor.
    ///
    /// # Errors
    /// `Unavailable`. A place outside the log is told by the next read.
    async fn seek(&mut self, to: Offset) -> Result<()>;
}

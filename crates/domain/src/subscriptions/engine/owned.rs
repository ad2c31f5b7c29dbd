//! A partition in one session of ownership.

use super::{PartitionKey, commits::Mark};
use crate::{
    delivery::{Counters, PartitionCore, commit_map::Epoch},
    subscriptions::Cause,
};
use ports::{Generation, LogReader, Monotonic, Offset, TopicPartition};

/// A partition in one session of ownership.
pub(super) struct Owned {
    pub(super) partition: TopicPartition,
    pub(super) generation: Generation,
    pub(super) session: u32,
    /// Names the subscription and the log in commits, claims and dead letters.
    pub(super) log: u64,
    /// The epoch that it is in.
    pub(super) epoch: Epoch,
    /// What waits to be tried again lies here.
    pub(super) retries: bool,
    pub(super) core: PartitionCore,
    /// Here while no read is under way.
    pub(super) reader: Option<Box<dyn LogReader>>,
    pub(super) read_failures: u32,
    pub(super) trouble: Option<Cause>,
    /// The partition's end as last read.
    pub(super) end: Offset,
    /// What is committed, as far as it is known.
    pub(super) committed: Option<Mark>,
    /// The last commit's metadata left little room.
    pub(super) progress_full: bool,
    /// Another member owns it already; nothing is committed any more.
    pub(super) fenced: bool,
    /// What the engine's sums and queues know of the core.
    pub(super) in_flight: usize,
    pub(super) held: usize,
    pub(super) counted: Counters,
    pub(super) queued: bool,
    pub(super) timeout: Option<Monotonic>,
}

impl Owned {
    /// Notes whether a commit's metadata left little room. Nothing new goes out while that is so: what it is
    /// done with could not be told any more. What was out already goes on.
    pub(super) fn set_progress_full(&mut self, full: bool) {
        self.progress_full = full;
        self.core.set_intake(!full);
    }
}

/// The key of a partition.
pub(super) fn key_of(partition: &TopicPartition) -> PartitionKey {
    PartitionKey { topic: super::name_hash(partition.topic.as_str()), partition: partition.partition }
}

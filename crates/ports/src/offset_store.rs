//! How far a group has come.

use crate::{
    error::Result,
    topic::{Generation, GroupId, Offset, TopicPartition},
};
use async_trait::async_trait;
use bytestring::ByteString;
use std::fmt::Debug;

/// The position of one partition, to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The assignment under which the committer owns it.
    pub generation: Generation,
    /// The offset to read next: everything before it is done.
    pub next: Offset,
    /// What else is to be known at the next start. It replaces what was there.
    pub metadata: ByteString,
}

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset to read next.
    pub next: Offset,
    /// What was committed with it.
    pub metadata: ByteString,
}

/// Keeps the positions of groups.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait OffsetStore: Debug + Send + Sync + 'static {
    /// Commits a batch of positions and answers one by one, in order.
    ///
    /// A commit that returned `Ok` survives a crash. One of a generation that does not own its partition
    /// (any more) is `Fenced` and changes nothing.
    ///
    /// # Errors
    /// By partition: `Fenced` (permanent: the owner is another one), `TooLarge` for the metadata,
    /// `NotFound`, `Unavailable` and `Timeout` (effect unknown: committing the same or more again is
    /// always right).
    ///
    /// # Cancellation
    /// Dropping the future leaves the effect unknown.
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>>;

    /// The committed positions, `None` where there is none, in order. Reads what a commit that returned
    /// before wrote.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`, `Denied`.
    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>>;

    /// Forgets all positions of a group.
    ///
    /// # Errors
    /// `Conflict` while the group has members; `Unavailable`. A group that is not known is `Ok`.
    async fn delete(&self, group: &GroupId) -> Result<()>;
}

//! The consumer groups of the whole log, also those of other programs: looked at, moved and deleted.

use crate::{
    error::Result,
    offset_store::Committed,
    topic::{GroupId, Offset, TopicPartition},
};
use async_trait::async_trait;
use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Debug,
    sync::Arc,
};

/// Why the name of a group was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupNameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than the protocol can carry.
    #[error("must have at most {max} bytes, has {length}")]
    TooLong {
        /// The most it may have.
        max: usize,
        /// What it has.
        length: usize,
    },
    /// A NUL.
    #[error("must not hold the character NUL")]
    Nul,
}

/// The name of any consumer group, as its program chose it: Kafka takes nearly every text, while those of
/// our own subscriptions follow the stricter rule of [`GroupId`]. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The most bytes that such a name may have: what a string of Kafka's protocol can carry.
    pub const BYTES_MAX: usize = 32_767;

    /// Checks `name` and keeps it.
    pub fn new(name: &str) -> Result<Self, GroupNameError> {
        if name.is_empty() {
            return Err(GroupNameError::Empty);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(GroupNameError::TooLong { max: Self::BYTES_MAX, length: name.len() });
        }
        if name.contains('\0') {
            return Err(GroupNameError::Nul);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&GroupId> for GroupName {
    fn from(id: &GroupId) -> Self {
        Self(id.as_str().into())
    }
}

impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

/// Where a group is, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// Each member has what it is to have.
    Stable,
    /// Members come or go, and partitions are about to be shared anew.
    PreparingRebalance,
    /// Partitions are being shared anew.
    CompletingRebalance,
    /// It has positions and no members.
    Empty,
    /// It is gone, or about to be.
    Dead,
    /// A state that this client has no word for, as those in which brokers assign.
    Unknown,
}

/// How the members of a group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// By Kafka's classic protocol, in which a member assigns.
    Classic,
    /// By the newer one, in which the coordinator assigns (KIP-848), or as the embedded log does.
    Consumer,
    /// Not at all: its programs choose their partitions themselves and only keep positions there. Such a
    /// group never has members, also while it reads.
    Simple,
    /// The log does not say.
    Unknown,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// Where it is.
    pub state: GroupState,
    /// How its partitions are shared.
    pub group_type: GroupType,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: GroupName,
    /// Where it is.
    pub state: GroupState,
    /// How its partitions are shared.
    pub group_type: GroupType,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// One member of a [`GroupInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id, unique in the group.
    pub id: String,
    /// What its program calls itself.
    pub client_id: String,
    /// Where it runs.
    pub host: String,
    /// The partitions that it has now.
    pub assignment: BTreeSet<TopicPartition>,
}

/// All committed positions of one group.
pub type GroupOffsets = BTreeMap<TopicPartition, Committed>;

/// Looks at, moves and deletes consumer groups, also those that others made.
///
/// All calls may also give `Unavailable`, `Timeout`, `Denied`, by group or partition where outcomes are.
/// A call that is dropped may still take effect.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait GroupAdmin: Debug + Send + Sync + 'static {
    /// All groups whose members read partitions or that have positions, by name.
    ///
    /// # Errors
    /// Where a part of the cluster does not answer, the call fails: a list is complete.
    async fn list(&self) -> Result<Vec<GroupSummary>>;

    /// One group with its members, or `None`. A group that has positions and no members is there.
    async fn describe(&self, group: &GroupName) -> Result<Option<GroupInfo>>;

    /// All positions of each of these groups, in order; a group that is not there has none. Reads what a
    /// commit that returned before wrote.
    ///
    /// One call for many groups costs little more than the requests that the log needs, which are made at
    /// the same time, a bounded number at once.
    async fn offsets(&self, groups: &[GroupName]) -> Vec<Result<GroupOffsets>>;

    /// Sets positions of a group without members, with no metadata, and answers one by one, in order. A
    /// group that is not there is made. Once this returned `Ok` for a partition, its next reader begins there,
    /// also one that joined meanwhile.
    ///
    /// The log does not check that an offset is within its partition.
    ///
    /// # Errors
    /// By partition: `Conflict` while the group has members, `NotFound` where the partition is not there,
    /// `Invalid` for an offset that the log cannot hold, or a name that it does not take. Others of the same
    /// call may have been set.
    async fn set_offsets(&self, group: &GroupName, offsets: &[(TopicPartition, Offset)]) -> Vec<Result<()>>;

    /// Forgets positions, and answers one by one, in order. A partition of a topic that is there and that
    /// has none is `Ok`.
    ///
    /// # Errors
    /// By partition: `Conflict` where a member of the group reads its topic, `NotFound` where there is no
    /// such group, or, on a log that forgets the positions of a topic with it, no such topic. Others of the
    /// same call may have been forgotten.
    async fn delete_offsets(&self, group: &GroupName, of: &[TopicPartition]) -> Vec<Result<()>>;

    /// Deletes a group with all its positions.
    ///
    /// # Errors
    /// `Conflict` while it has members; `NotFound`.
    async fn delete(&self, group: &GroupName) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_a_name_that_a_subscription_may_not() {
        for name in ["connect orders", "a/b", "grüße", &"x".repeat(300)] {
            assert!(GroupId::new(name).is_err() && GroupName::new(name).is_ok(), "{name}");
        }
        assert_eq!(GroupName::new(""), Err(GroupNameError::Empty));
        assert_eq!(GroupName::new("a\0b"), Err(GroupNameError::Nul));
        let long = "x".repeat(32_768);
        assert_eq!(GroupName::new(&long), Err(GroupNameError::TooLong { max: 32_767, length: 32_768 }));
    }
}

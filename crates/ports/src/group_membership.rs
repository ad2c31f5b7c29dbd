//! Who reads what: the members of a group share its partitions.

use crate::{
    error::Result,
    topic::{Generation, GroupId, TopicName, TopicPartition},
};
use async_trait::async_trait;
use std::{fmt, fmt::Debug};

/// Tells the backend that revoked partitions may go to their next owner.
///
/// Dropping it says the same, so that it cannot be forgotten.
pub struct Handover(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Handover {
    /// A hand-over that calls `release` once.
    pub fn new(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// Lets the partitions go.
    pub fn release(self) {}
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

impl Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handover")
    }
}

/// What a member learns.
#[derive(Debug)]
pub enum MembershipEvent {
    /// These partitions are the member's from now on, beside those that it has. Commits for them carry
    /// this generation.
    Assigned {
        /// What commits for these partitions carry.
        generation: Generation,
        /// The partitions that came.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions are about to go to another member. Until `handover` is released, or the backend's
    /// patience ends (a few seconds), they are still the member's and can be committed.
    Revoked {
        /// The partitions that go.
        partitions: Vec<TopicPartition>,
        /// Lets them go.
        handover: Handover,
    },
    /// These partitions are gone: another member may own them already. Commits for them are fenced.
    Lost {
        /// The partitions that went.
        partitions: Vec<TopicPartition>,
    },
}

/// Lets a process take part in a consumer group.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait GroupMembership: Debug + Send + Sync + 'static {
    /// Joins `group` as one more member that reads `topics`.
    ///
    /// Each partition of the topics, also those added later, is assigned to exactly one member of the
    /// group that reads its topic, over all processes that share the backend.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`, `Invalid`. A topic that does not exist gives no partitions until it does.
    ///
    /// # Cancellation
    /// Dropping the future leaves the group.
    async fn join(&self, group: &GroupId, topics: &[TopicName]) -> Result<Box<dyn Membership>>;
}

/// One member of a group. Dropping it leaves the group in the background.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Membership: Debug + Send + Sync + 'static {
    /// The next thing that the member learns; waits for it.
    ///
    /// # Errors
    /// `Unavailable` and others that are transient are told once and the member goes on by itself. A
    /// permanent error ends the membership: all partitions are lost, and the caller joins anew.
    ///
    /// # Cancellation
    /// Dropping the future loses no event.
    async fn next(&mut self) -> Result<MembershipEvent>;

    /// Leaves the group. The partitions that the member still has are free once this returns; commit
    /// before.
    async fn leave(self: Box<Self>) -> Result<()>;
}

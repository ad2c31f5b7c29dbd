//! Topics and the cluster that keeps them.

use crate::{
    error::Result,
    topic::{Offset, PartitionId, TopicName},
};
use async_trait::async_trait;
use std::{collections::BTreeMap, fmt::Debug};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// How many copies of each; `None` takes the log's default.
    pub replication_factor: Option<u16>,
    /// Settings by Kafka's names, as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSummary {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: u32,
    /// Made and used by the log itself.
    pub internal: bool,
    /// The sum over its partitions of latest minus earliest offset.
    pub events: u64,
}

/// A topic in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// What tells it from a topic of the same name that was deleted and made again.
    pub id: String,
    /// Its partitions, by number, without gaps.
    pub partitions: Vec<PartitionInfo>,
    /// The settings in force, by Kafka's names.
    pub config: BTreeMap<String, String>,
    /// Made and used by the log itself.
    pub internal: bool,
}

/// One partition of a [`TopicInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: PartitionId,
    /// The node that leads it; `None` while it has no leader.
    pub leader: Option<i32>,
    /// The nodes that keep it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync_replicas: Vec<i32>,
    /// The first offset that is still there. 0 while the partition has no leader.
    pub earliest: Offset,
    /// The offset that the next record will get. 0 while the partition has no leader.
    pub latest: Offset,
}

/// The log's cluster, for health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Its id.
    pub id: String,
    /// Its nodes, by number.
    pub nodes: Vec<i32>,
}

/// Creates, describes, changes and deletes topics.
///
/// All calls may also give `Unavailable`, `Timeout`, `Denied`. A call that is dropped may still take
/// effect.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TopicAdmin: Debug + Send + Sync + 'static {
    /// Creates a topic. Once it returns, the topic can be described, appended to and read.
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid` for a number of partitions, a replication factor or a setting that
    /// the log does not take, naming it; `Unsupported` for a setting that this log cannot honour.
    async fn create(&self, spec: TopicSpec) -> Result<()>;

    /// All topics, by name.
    async fn list(&self) -> Result<Vec<TopicSummary>>;

    /// One topic, or `None`.
    async fn describe(&self, topic: &TopicName) -> Result<Option<TopicInfo>>;

    /// Changes settings; `None` takes a setting back to its default. Others stay.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Unsupported`. Either all changes are made or none.
    async fn alter(&self, topic: &TopicName, changes: &BTreeMap<String, Option<String>>) -> Result<()>;

    /// Adds partitions until there are `total`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where `total` is not more than there are.
    async fn add_partitions(&self, topic: &TopicName, total: u32) -> Result<()>;

    /// Makes the records before an offset unreadable, for each partition that is named, and answers each
    /// one's earliest offset afterwards, in order.
    ///
    /// # Errors
    /// `NotFound`; `OutOfRange` for an offset beyond the end.
    async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<Vec<Offset>>;

    /// Deletes a topic and all it holds.
    ///
    /// # Errors
    /// `NotFound`.
    async fn delete(&self, topic: &TopicName) -> Result<()>;

    /// The cluster's id and nodes.
    async fn cluster(&self) -> Result<ClusterInfo>;
}

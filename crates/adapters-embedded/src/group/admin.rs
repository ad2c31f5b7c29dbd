//! Topics whose changes the groups see at once.

use super::Groups;
use async_trait::async_trait;
use ports::{
    ClusterInfo, Offset, PartitionId, Result, TopicAdmin, TopicInfo, TopicName, TopicSpec, TopicSummary,
};
use std::{collections::BTreeMap, sync::Arc};

/// Passes every call on, and nudges the groups after those that change what there is to read.
#[derive(Debug)]
pub(super) struct NudgingAdmin {
    inner: Arc<dyn TopicAdmin>,
    groups: Groups,
}

impl NudgingAdmin {
    pub(super) fn new(inner: Arc<dyn TopicAdmin>, groups: Groups) -> Self {
        Self { inner, groups }
    }

    /// Also after a failure, which may have had its effect.
    fn nudged<T>(&self, result: T) -> T {
        self.groups.nudge();
        result
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TopicAdmin for NudgingAdmin {
    async fn create(&self, spec: TopicSpec) -> Result<()> {
        self.nudged(self.inner.create(spec).await)
    }

    async fn list(&self) -> Result<Vec<TopicSummary>> {
        self.inner.list().await
    }

    async fn describe(&self, topic: &TopicName) -> Result<Option<TopicInfo>> {
        self.inner.describe(topic).await
    }

    async fn alter(&self, topic: &TopicName, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
        self.inner.alter(topic, changes).await
    }

    async fn add_partitions(&self, topic: &TopicName, total: u32) -> Result<()> {
        self.nudged(self.inner.add_partitions(topic, total).await)
    }

    async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<Vec<Offset>> {
        self.inner.trim(topic, before).await
    }

    async fn delete(&self, topic: &TopicName) -> Result<()> {
        self.nudged(self.inner.delete(topic).await)
    }

    async fn cluster(&self) -> Result<ClusterInfo> {
        self.inner.cluster().await
    }
}

//! Positions in a map.

use crate::group::Groups;
use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    Committed, ErrorKind, GroupId, GroupName, GroupOffsets, OffsetCommit, OffsetStore, PortError, Result,
    TopicPartition,
};
use std::collections::BTreeMap;

/// `OffsetStore` and `GroupAdmin` in memory, fenced by the membership of [`Groups`].
#[derive(Debug)]
pub struct MemoryOffsets {
    pub(super) groups: Groups,
    pub(super) positions: Mutex<BTreeMap<GroupName, GroupOffsets>>,
}

impl MemoryOffsets {
    /// An empty store for these groups.
    pub fn new(groups: Groups) -> Self {
        Self { groups, positions: Mutex::default() }
    }
}

#[async_trait]
impl OffsetStore for MemoryOffsets {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        let (outcomes, permit) = self.groups.admit(group, &commits);
        let mut positions = self.positions.lock();
        for (commit, _) in commits.into_iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            let OffsetCommit { partition, next, metadata, .. } = commit;
            positions.entry(group.into()).or_default().insert(partition, Committed { next, metadata });
        }
        drop(positions);
        drop(permit);
        outcomes
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        let positions = self.positions.lock();
        let group = positions.get(group.as_str());
        Ok(of.iter().map(|partition| group.and_then(|group| group.get(partition)).cloned()).collect())
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        if self.groups.has_members(group) {
            let detail = format!("group {group} has members");
            return Err(PortError::new(ErrorKind::Conflict, "offset_store.delete", detail));
        }
        self.positions.lock().remove(group.as_str());
        Ok(())
    }
}

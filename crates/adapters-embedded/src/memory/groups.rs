//! Groups over the positions in memory.

use super::offsets::MemoryOffsets;
use crate::group::{Need, check_offsets, describe, list, no_such_group};
use async_trait::async_trait;
use ports::{
    Committed, ErrorKind, GroupAdmin, GroupInfo, GroupName, GroupOffsets, GroupSummary, Offset, PortError,
    Result, TopicPartition,
};

#[async_trait]
impl GroupAdmin for MemoryOffsets {
    async fn list(&self) -> Result<Vec<GroupSummary>> {
        let with_positions = self.positions.lock().keys().cloned().collect();
        Ok(list(&self.groups, with_positions))
    }

    async fn describe(&self, group: &GroupName) -> Result<Option<GroupInfo>> {
        let has_positions = self.positions.lock().contains_key(group.as_str());
        Ok(describe(&self.groups, group, has_positions))
    }

    async fn offsets(&self, groups: &[GroupName]) -> Vec<Result<GroupOffsets>> {
        let positions = self.positions.lock();
        groups.iter().map(|group| Ok(positions.get(group.as_str()).cloned().unwrap_or_default())).collect()
    }

    async fn set_offsets(&self, group: &GroupName, offsets: &[(TopicPartition, Offset)]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.set_offsets";
        let partitions: Vec<_> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        let all = |error: PortError| offsets.iter().map(|_| Err(error.duplicate())).collect();
        let held = self.groups.hold(OPERATION, group, Need::NoMembers, &partitions);
        let (mut outcomes, permit) = match held {
            Ok(held) => held,
            Err(error) => return all(error),
        };
        if let Err(error) = self.groups.find(OPERATION, &partitions, &mut outcomes).await {
            return all(error);
        }
        check_offsets(OPERATION, offsets, &mut outcomes);
        let mut positions = self.positions.lock();
        for ((partition, next), _) in offsets.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            let committed = Committed { next: *next, metadata: String::new().into() };
            positions.entry(group.clone()).or_default().insert(partition.clone(), committed);
        }
        drop(positions);
        drop(permit);
        outcomes
    }

    async fn delete_offsets(&self, group: &GroupName, of: &[TopicPartition]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.delete_offsets";
        let all = |error: PortError| of.iter().map(|_| Err(error.duplicate())).collect();
        let has_positions = self.positions.lock().contains_key(group.as_str());
        if describe(&self.groups, group, has_positions).is_none() {
            return all(no_such_group(OPERATION, group));
        }
        let (outcomes, permit) = match self.groups.hold(OPERATION, group, Need::NobodyReads, of) {
            Ok(held) => held,
            Err(error) => return all(error),
        };
        let mut positions = self.positions.lock();
        if let Some(own) = positions.get_mut(group.as_str()) {
            for (partition, _) in of.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
                own.remove(partition);
            }
            if own.is_empty() {
                positions.remove(group.as_str());
            }
        }
        drop(positions);
        drop(permit);
        outcomes
    }

    async fn delete(&self, group: &GroupName) -> Result<()> {
        const OPERATION: &str = "group_admin.delete";
        let mut positions = self.positions.lock();
        match describe(&self.groups, group, positions.contains_key(group.as_str())) {
            None => Err(no_such_group(OPERATION, group)),
            Some(info) if !info.members.is_empty() => {
                let detail = format!("group {group} has members");
                Err(PortError::new(ErrorKind::Conflict, OPERATION, detail))
            }
            Some(_) => {
                positions.remove(group.as_str());
                Ok(())
            }
        }
    }
}

//! Groups over the positions in the tables.

use super::{
    offsets::{TableOffsets, forget},
    schema::POSITIONS,
};
use crate::group::{CommitPermit, Need, check_offsets, describe, list, no_such_group};
use async_trait::async_trait;
use ports::{
    Committed, ErrorKind, GroupAdmin, GroupInfo, GroupName, GroupOffsets, GroupSummary, Offset, PortError,
    Result, TopicName, TopicPartition,
};
use redb::{Error, ReadTransaction, ReadableTable};

type Key = (&'static str, &'static str, u32);
type Value = (u64, &'static str);

/// The groups that have positions: one look at the table a group, however many positions each has.
fn with_positions(transaction: &ReadTransaction) -> Result<Vec<GroupName>, Error> {
    let positions = transaction.open_table(POSITIONS)?;
    let mut found = Vec::new();
    let mut from = String::new();
    while let Some(entry) = positions.range((from.as_str(), "", 0)..)?.next() {
        let (key, _) = entry?;
        let (group, ..) = key.value();
        // What was written was a legal name.
        found.extend(GroupName::new(group));
        // The next text after this one, as no name holds a NUL.
        from = format!("{group}\0");
    }
    Ok(found)
}

fn offsets_of(positions: &impl ReadableTable<Key, Value>, group: &str) -> Result<GroupOffsets, Error> {
    let mut found = GroupOffsets::new();
    for entry in positions.range((group, "", 0)..)? {
        let (key, value) = entry?;
        let (of, topic, partition) = key.value();
        if of != group {
            break;
        }
        let Ok(topic) = TopicName::new(topic) else { continue };
        let (next, metadata) = value.value();
        found.insert(TopicPartition::new(topic, partition), Committed { next, metadata: metadata.into() });
    }
    Ok(found)
}

fn has_positions(positions: &impl ReadableTable<Key, Value>, group: &str) -> Result<bool, Error> {
    let Some(entry) = positions.range((group, "", 0)..)?.next() else { return Ok(false) };
    Ok(entry?.0.value().0 == group)
}

impl TableOffsets {
    async fn info(&self, operation: &'static str, group: &GroupName) -> Result<Option<GroupInfo>> {
        let name = group.clone();
        let has_positions = self.tables.read(operation, move |transaction| {
            has_positions(&transaction.open_table(POSITIONS)?, name.as_str())
        });
        Ok(describe(&self.groups, group, has_positions.await?))
    }

    /// Writes what was judged to be `Ok`; the partitions are held until that is on disk.
    async fn change(
        &self,
        operation: &'static str,
        group: &GroupName,
        (mut outcomes, permit): (Vec<Result<()>>, CommitPermit),
        changes: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Vec<Result<()>> {
        let is_ok: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        let accepted: Vec<_> =
            changes.into_iter().zip(is_ok).filter(|(_, is_ok)| *is_ok).map(|(change, _)| change).collect();
        if accepted.is_empty() {
            return outcomes;
        }
        let group = group.clone();
        let written = self.tables.write(operation, move |transaction| {
            let mut positions = transaction.open_table(POSITIONS)?;
            for (partition, next) in &accepted {
                let key = (group.as_str(), partition.topic.as_str(), partition.partition);
                match next {
                    Some(next) => drop(positions.insert(key, (*next, ""))?),
                    None => drop(positions.remove(key)?),
                }
            }
            Ok(Ok(permit))
        });
        // The permit comes back, or is dropped, when the transaction is over: also where this future is
        // dropped before.
        if let Err(error) = written.await.map(drop::<CommitPermit>) {
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(error.duplicate());
            }
        }
        outcomes
    }
}

#[async_trait]
impl GroupAdmin for TableOffsets {
    async fn list(&self) -> Result<Vec<GroupSummary>> {
        let with_positions = self.tables.read("group_admin.list", with_positions).await?;
        Ok(list(&self.groups, with_positions))
    }

    async fn describe(&self, group: &GroupName) -> Result<Option<GroupInfo>> {
        self.info("group_admin.describe", group).await
    }

    async fn offsets(&self, groups: &[GroupName]) -> Vec<Result<GroupOffsets>> {
        let names = groups.to_vec();
        let read = self.tables.read("group_admin.offsets", move |transaction| {
            let positions = transaction.open_table(POSITIONS)?;
            names.iter().map(|group| offsets_of(&positions, group.as_str())).collect::<Result<Vec<_>, _>>()
        });
        match read.await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => groups.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn set_offsets(&self, group: &GroupName, offsets: &[(TopicPartition, Offset)]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.set_offsets";
        let all = |error: PortError| offsets.iter().map(|_| Err(error.duplicate())).collect();
        let partitions: Vec<_> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        let (mut outcomes, permit) = match self.groups.hold(OPERATION, group, Need::NoMembers, &partitions) {
            Ok(held) => held,
            Err(error) => return all(error),
        };
        if let Err(error) = self.groups.find(OPERATION, &partitions, &mut outcomes).await {
            return all(error);
        }
        check_offsets(OPERATION, offsets, &mut outcomes);
        let changes = offsets.iter().map(|(partition, next)| (partition.clone(), Some(*next))).collect();
        self.change(OPERATION, group, (outcomes, permit), changes).await
    }

    async fn delete_offsets(&self, group: &GroupName, of: &[TopicPartition]) -> Vec<Result<()>> {
        const OPERATION: &str = "group_admin.delete_offsets";
        let all = |error: PortError| of.iter().map(|_| Err(error.duplicate())).collect();
        match self.info(OPERATION, group).await {
            Ok(Some(_)) => {}
            Ok(None) => return all(no_such_group(OPERATION, group)),
            Err(error) => return all(error),
        }
        match self.groups.hold(OPERATION, group, Need::NobodyReads, of) {
            Ok(held) => {
                let changes = of.iter().map(|partition| (partition.clone(), None)).collect();
                self.change(OPERATION, group, held, changes).await
            }
            Err(error) => all(error),
        }
    }

    async fn delete(&self, group: &GroupName) -> Result<()> {
        const OPERATION: &str = "group_admin.delete";
        let (groups, group) = (self.groups.clone(), group.clone());
        self.tables
            .write(OPERATION, move |transaction| {
                // Looked at here, as a member may have joined while this waited.
                if !groups.members(&group).1.is_empty() {
                    let detail = format!("group {group} has members");
                    return Ok(Err(PortError::new(ErrorKind::Conflict, OPERATION, detail)));
                }
                if forget(transaction, group.as_str())? {
                    return Ok(Ok(()));
                }
                Ok(Err(no_such_group(OPERATION, &group)))
            })
            .await
    }
}

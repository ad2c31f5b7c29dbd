//! Positions, fenced by the membership of this process.

use super::{Tables, schema::POSITIONS};
use crate::group::{CommitPermit, Groups};
use async_trait::async_trait;
use ports::{Committed, ErrorKind, GroupId, OffsetCommit, OffsetStore, PortError, Result, TopicPartition};
use redb::{Error, ReadableTable, WriteTransaction};

/// `OffsetStore` and `GroupAdmin` of the embedded backend: positions in the tables, commits of current owners only.
#[derive(Clone, Debug)]
pub struct TableOffsets {
    pub(super) tables: Tables,
    pub(super) groups: Groups,
}

impl TableOffsets {
    pub(super) fn new(tables: Tables, groups: Groups) -> Self {
        Self { tables, groups }
    }
}

fn write(transaction: &WriteTransaction, group: &GroupId, commits: &[OffsetCommit]) -> Result<(), Error> {
    let mut positions = transaction.open_table(POSITIONS)?;
    for OffsetCommit { partition, next, metadata, .. } in commits {
        let key = (group.as_str(), partition.topic.as_str(), partition.partition);
        positions.insert(key, (*next, &**metadata))?;
    }
    Ok(())
}

/// Removes all positions of a group. Says whether it had any.
pub(super) fn forget(transaction: &WriteTransaction, group: &str) -> Result<bool, Error> {
    let mut positions = transaction.open_table(POSITIONS)?;
    let mut keys = Vec::new();
    for entry in positions.range((group, "", 0)..)? {
        let (key, _) = entry?;
        let (of, topic, partition) = key.value();
        if of != group {
            break;
        }
        keys.push((topic.to_owned(), partition));
    }
    for (topic, partition) in &keys {
        positions.remove((group, topic.as_str(), *partition))?;
    }
    Ok(!keys.is_empty())
}

#[async_trait]
impl OffsetStore for TableOffsets {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        let (mut outcomes, permit) = self.groups.admit(group, &commits);
        let mut is_admitted = outcomes.iter().map(Result::is_ok);
        let mut admitted = commits;
        admitted.retain(|_| is_admitted.next().unwrap_or(false));
        if admitted.is_empty() {
            return outcomes;
        }
        let group = group.clone();
        let written = self.tables.write("offset_store.commit", move |transaction| {
            write(transaction, &group, &admitted)?;
            Ok(Ok(permit))
        });
        // The permit comes back, or is dropped, when the transaction is over: also where this future is
        // dropped before.
        match written.await.map(drop::<CommitPermit>) {
            Ok(()) => {}
            Err(error) => {
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(error.duplicate());
                }
            }
        }
        outcomes
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        let (group, of) = (group.clone(), of.to_vec());
        self.tables
            .read("offset_store.committed", move |transaction| {
                let positions = transaction.open_table(POSITIONS)?;
                let mut committed = Vec::with_capacity(of.len());
                for TopicPartition { topic, partition } in &of {
                    let found = positions.get((group.as_str(), topic.as_str(), *partition))?;
                    committed.push(found.map(|found| {
                        let (next, metadata) = found.value();
                        Committed { next, metadata: metadata.into() }
                    }));
                }
                Ok(committed)
            })
            .await
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        const OPERATION: &str = "offset_store.delete";
        let (groups, group) = (self.groups.clone(), group.clone());
        self.tables
            .write(OPERATION, move |transaction| {
                // Looked at here, as a member may have joined while this waited.
                if groups.has_members(&group) {
                    let detail = format!("group {group} has members");
                    return Ok(Err(PortError::new(ErrorKind::Conflict, OPERATION, detail)));
                }
                forget(transaction, group.as_str())?;
                Ok(Ok(()))
            })
            .await
    }
}

//! Positions beside those that the log's groups keep: what a missing commit goes on from.

use super::definition::{Definition, Place};
use crate::{delivery::commit_map::Epoch, error::Result};
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore, Offset, TopicPartition};
use serde::{Deserialize, Serialize};

/// A position as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mirrored {
    /// Names the subscription and the log.
    pub(super) log: u64,
    /// Everything before it is done.
    pub(super) next: Offset,
    /// In this epoch.
    pub(super) epoch: Epoch,
}

fn name(definition: &Definition, partition: &TopicPartition) -> String {
    format!("{}/{}/{}", definition.uid, partition.topic, partition.partition)
}

/// The position that was mirrored last, where it is of that log.
pub(super) async fn read(
    jobs: &dyn JobStore,
    definition: &Definition,
    partition: &TopicPartition,
    log: u64,
) -> Result<Option<Place>> {
    let stored = jobs.get(JobKind::Position, &name(definition, partition)).await?;
    let mirrored = stored.and_then(|stored| serde_json::from_slice::<Mirrored>(&stored.value).ok());
    Ok(mirrored
        .filter(|mirrored| mirrored.log == log)
        .map(|mirrored| Place { offset: mirrored.next, epoch: mirrored.epoch }))
}

/// Mirrors positions. One that somebody else writes at the same time is left as it is: it is the next owner's,
/// and newer.
pub(super) async fn write(
    jobs: &dyn JobStore,
    definition: &Definition,
    positions: &[(TopicPartition, Mirrored)],
) -> Result<()> {
    for (partition, mirrored) in positions {
        let name = name(definition, partition);
        let there = jobs.get(JobKind::Position, &name).await?;
        let expected = there.map_or(Expected::Absent, |stored| Expected::Version(stored.version));
        let value = serde_json::to_vec(mirrored).map(Bytes::from).unwrap_or_default();
        match jobs.put(JobKind::Position, &name, expected, value).await {
            Err(error) if error.kind() != ErrorKind::Conflict => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Forgets the positions of a subscription.
pub(super) async fn remove(jobs: &dyn JobStore, definition: &Definition) -> Result<()> {
    let of = format!("{}/", definition.uid);
    for stored in jobs.list(JobKind::Position).await? {
        if stored.name.starts_with(&of) {
            match jobs.delete(JobKind::Position, &stored.name, stored.version).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

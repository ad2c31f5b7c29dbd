//! Where an assigned partition begins: at its committed position, with what was done beyond it, or where
//! the definition says.
//!
//! A commit is believed only as far as it speaks of this log: one that this service wrote names the
//! subscription and the topic's id. Where these are others (the topic was deleted and made again) the
//! position and the map are dropped and the log is read from its start, so that nothing is skipped.

use super::{Context, log_hash};
use crate::{
    delivery::{
        DoneSet,
        commit_map::{self, Unreadable},
    },
    error::Result,
};
use ports::{Committed, ErrorKind, Generation, LogReader, Offset, PortError, Position, TopicPartition};
use std::{sync::Arc, time::Duration};

/// A partition that the engine was given.
#[derive(Clone, Debug)]
pub(super) struct Assigned {
    pub(super) partition: TopicPartition,
    pub(super) generation: Generation,
}

/// A partition, ready to be read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) assigned: Assigned,
    /// The first offset that is not known to be done.
    pub(super) from: Offset,
    /// What is done beyond it.
    pub(super) done: DoneSet,
    /// Names the subscription and the log in commits.
    pub(super) log: u64,
    pub(super) reader: Box<dyn LogReader>,
}

/// What came of opening: each of the partitions, or what is to be tried again.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) opened: Vec<Opened>,
    pub(super) failed: Vec<(Assigned, crate::Error)>,
    pub(super) failures: u32,
}

/// Opens partitions after `delay`. Ends with an answer for each.
pub(super) async fn open(
    context: Arc<Context>,
    partitions: Vec<Assigned>,
    failures: u32,
    delay: Duration,
) -> Opening {
    context.sleep(delay).await;
    let mut opening = Opening { opened: Vec::with_capacity(partitions.len()), failed: Vec::new(), failures };
    let names: Vec<_> = partitions.iter().map(|assigned| assigned.partition.clone()).collect();
    let committed = context.ports.offsets.committed(&context.definition.name, &names).await;
    match committed {
        Err(error) => {
            let failed = |assigned| (assigned, crate::Error::from(&error));
            opening.failed = partitions.into_iter().map(failed).collect();
        }
        Ok(committed) => {
            for (assigned, committed) in partitions.into_iter().zip(committed) {
                match open_one(&context, &assigned, committed).await {
                    Ok(opened) => opening.opened.push(opened),
                    Err(error) => opening.failed.push((assigned, error)),
                }
            }
        }
    }
    opening
}

async fn open_one(context: &Context, assigned: &Assigned, committed: Option<Committed>) -> Result<Opened> {
    let partition = &assigned.partition;
    let log = log_id(context, partition).await?;
    let (from, done) = match committed.map(|committed| believe(&committed, log)) {
        Some(Belief::Ours { next, done }) => {
            // A log that was cut behind the commit gives these offsets to other events.
            let cut = match done.end() {
                Some(end) => end > locate(context, partition, Position::Latest).await?,
                None => false,
            };
            (next, if cut { DoneSet::default() } else { done })
        }
        Some(Belief::Foreign { next }) => (next, DoneSet::default()),
        Some(Belief::OtherLog) => {
            tracing::warn!(
                subscription = %context.definition.name, %partition,
                "the committed position is of another log of that name: reading from the start",
            );
            (locate(context, partition, Position::Earliest).await?, DoneSet::default())
        }
        None => match context.definition.places.get(partition) {
            Some(place) => (*place, DoneSet::default()),
            None => (locate(context, partition, Position::Earliest).await?, DoneSet::default()),
        },
    };
    let reader = context.ports.log.open(partition, from).await?;
    Ok(Opened { assigned: assigned.clone(), from, done, log, reader })
}

/// Names the subscription and the log that lies under a partition now.
pub(super) async fn log_id(context: &Context, partition: &TopicPartition) -> Result<u64> {
    context.topics.forget(&partition.topic);
    let meta = context.topics.meta(&partition.topic).await?;
    let missing =
        || crate::Error::from(PortError::new(ErrorKind::NotFound, "opening", format!("{partition} is gone")));
    Ok(log_hash(&context.definition.uid, &meta.ok_or_else(missing)?.id))
}

async fn locate(context: &Context, partition: &TopicPartition, position: Position) -> Result<Offset> {
    let at = [(partition.partition, position)];
    Ok(context.ports.log.locate(&partition.topic, &at).await?.first().copied().unwrap_or_default())
}

#[derive(Debug, PartialEq, Eq)]
enum Belief {
    Ours {
        next: Offset,
        done: DoneSet,
    },
    /// Somebody's own tool moved the position: it counts, and there is no map.
    Foreign {
        next: Offset,
    },
    OtherLog,
}

fn believe(committed: &Committed, log: u64) -> Belief {
    let next = committed.next;
    match commit_map::decode(&committed.metadata) {
        Ok(map) if map.log == log && map.next == next => Belief::Ours { next, done: map.done },
        Ok(_) | Err(Unreadable::Damaged) => Belief::OtherLog,
        Err(Unreadable::NotOurs) => Belief::Foreign { next },
    }
}

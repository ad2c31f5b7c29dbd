//! Where an assigned partition begins: at its committed position, with what was done beyond it, or where
//! the definition says.
//!
//! A commit is believed only as far as it speaks of this log: one that this service wrote names the
//! subscription and the topic's id. Where these are others (the topic was deleted and made again) the
//! position and the map are dropped and the log is read from its start, so that nothing is skipped.
//!
//! **Epochs.** A partition's epoch is that of its commit, until its place in the definition has a later one:
//! then it begins at that place. A position that somebody else's tool committed becomes such a place, kept
//! before anything is delivered; so does the place at which a log goes on that was cut or made again. What
//! was done in an epoch is done again in the next.
//!
//! **The mirror.** Kafka forgets the positions of a group that was empty for a week. What is kept in the state
//! store beside the definitions then stands in for them.

use super::{Context, log_hash};
use crate::{
    delivery::{
        DoneSet,
        commit_map::{self, Epoch, Unreadable},
    },
    error::Result,
    subscriptions::{definition::Place, mirror, store},
};
use ports::{Committed, ErrorKind, Generation, LogReader, Offset, PortError, Position, TopicPartition};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    pub(super) start: Start,
    /// Names the subscription and the log in commits.
    pub(super) log: u64,
    pub(super) reader: Box<dyn LogReader>,
}

/// Where a partition begins.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// The first offset that is not known to be done.
    pub(super) from: Offset,
    /// What is done beyond it.
    pub(super) done: DoneSet,
    /// Deliveries that counted, of undecided events.
    pub(super) attempts: BTreeMap<Offset, u32>,
    /// The epoch in which that is so.
    pub(super) epoch: Epoch,
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
    // As it is kept now: another owner may have begun an epoch since this engine did.
    let place = store::place(&*context.ports.jobs, &context.definition, partition).await?;
    let start = match committed.map(|committed| believe(&committed, log)) {
        Some(Belief::Ours(start)) => match place {
            Some(place) if place.epoch.counter > start.epoch.counter => Start::at(place),
            _ => uncut(context, partition, start).await?,
        },
        Some(Belief::Foreign { next }) => {
            tracing::warn!(
                subscription = %context.definition.name, %partition, next,
                "the position was committed by another program: it begins a new epoch there",
            );
            begin_epoch(context, partition, next).await?
        }
        Some(Belief::OtherLog) => {
            tracing::warn!(
                subscription = %context.definition.name, %partition,
                "the committed position is of another log of that name: reading from the start",
            );
            let earliest = locate(context, partition, Position::Earliest).await?;
            begin_epoch(context, partition, earliest).await?
        }
        None => match (mirror::read(context.jobs(), &context.definition, partition, log).await?, place) {
            (Some(mirrored), Some(place)) if place.epoch.counter > mirrored.epoch.counter => Start::at(place),
            (Some(mirrored), _) => Start::at(mirrored),
            (None, Some(place)) => Start::at(place),
            (None, None) => Start {
                from: locate(context, partition, Position::Earliest).await?,
                epoch: context.definition.first_epoch(),
                ..Start::default()
            },
        },
    };
    let reader = context.ports.log.open(partition, start.from).await?;
    Ok(Opened { assigned: assigned.clone(), start, log, reader })
}

impl Start {
    fn at(place: Place) -> Self {
        Self { from: place.offset, epoch: place.epoch, ..Self::default() }
    }
}

/// A log that was cut behind the commit gives these offsets to other events: what was done of them is not.
async fn uncut(context: &Context, partition: &TopicPartition, start: Start) -> Result<Start> {
    let Some(end) = start.done.end() else { return Ok(start) };
    let latest = locate(context, partition, Position::Latest).await?;
    if end <= latest {
        return Ok(start);
    }
    begin_epoch(context, partition, start.from.min(latest)).await
}

/// Keeps that a partition begins a new epoch at an offset.
pub(super) async fn begin_epoch(
    context: &Context,
    partition: &TopicPartition,
    offset: Offset,
) -> Result<Start> {
    store::begin_epoch(context.jobs(), &context.definition, partition, offset).await.map(Start::at)
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

#[derive(Debug)]
enum Belief {
    Ours(Start),
    /// Somebody's own tool moved the position: it counts, and there is no map.
    Foreign {
        next: Offset,
    },
    OtherLog,
}

fn believe(committed: &Committed, log: u64) -> Belief {
    let next = committed.next;
    match commit_map::decode(&committed.metadata) {
        Ok(map) if map.log == log && map.next == next => {
            Belief::Ours(Start { from: next, done: map.done, attempts: map.attempts, epoch: map.epoch })
        }
        Ok(_) | Err(Unreadable::Damaged) => Belief::OtherLog,
        Err(Unreadable::NotOurs) => Belief::Foreign { next },
    }
}

//! A dry run: reads what a job would, and writes nothing.

use super::{
    Shared,
    job::{Kind, Progress, Task},
    sieve::Sieve,
    source::Source,
};
use crate::{browse::Browsed, error::Result, event::Event};
use ports::{PartitionId, StoredRecord, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a dry run reads. What it has not seen by then it does not count.
const WITHIN: Duration = Duration::from_secs(10);
/// So many events are shown.
const SAMPLE: usize = 10;
/// So many types are told apart; those beyond are counted together.
const TYPES_MAX: usize = 100;
/// What is read at once.
const BATCH: usize = 1_000;

/// What a job would write.
#[derive(Debug, Default)]
pub struct Trial {
    /// The range, and how much of it was read.
    pub progress: Progress,
    /// Whether all of it was read. If not, it was too much for a dry run, and the counts are of what was.
    pub complete: bool,
    /// What would be written, by partition that it lies in.
    pub by_partition: BTreeMap<PartitionId, u64>,
    /// What would be written, by type; `None` are those without one, and those of types beyond the first hundred.
    pub by_type: BTreeMap<Option<String>, u64>,
    /// The first of what would be written.
    pub sample: Vec<Browsed>,
}

pub(super) async fn run(shared: &Shared, kind: Kind, task: &Task, progress: &Progress) -> Result<Trial> {
    let topic = crate::topics::topic_name("topic", &task.topic)?;
    let sieve = Sieve::new(task, topic.clone(), &shared.limits.expressions, shared.services.schemas.clone())?;
    let clock = &shared.ports.clock;
    let until = clock.monotonic() + WITHIN;
    let log = shared.ports.log.clone();
    let mut source = Source::new(log, topic.clone(), &progress.partitions, false, BATCH);
    let mut trial = Trial { progress: progress.clone(), ..Trial::default() };
    loop {
        let ready = tokio::select! {
            ready = source.ready() => ready?,
            () = clock.sleep_until(until) => return Ok(trial),
        };
        if !ready {
            trial.complete = true;
            return Ok(trial);
        }
        let taken = source.take(BATCH, usize::MAX, Timestamp(i64::MAX));
        trial.progress.read += taken.events.len() as u64;
        for (partition, gone) in taken.gone {
            trial.progress.partitions.entry(partition).or_default().gone += gone;
        }
        for (partition, next) in taken.next {
            trial.progress.partitions.entry(partition).or_default().next = next;
        }
        match (kind, task.target.subscription()) {
            (Kind::Redrive, Some(name)) => {
                let is_meant = |(partition, stored): &(PartitionId, StoredRecord)| {
                    let of = |only: &BTreeMap<_, BTreeSet<_>>| {
                        only.get(partition).is_some_and(|of| of.contains(&stored.offset))
                    };
                    task.only.as_ref().is_none_or(of)
                };
                let events = taken.events.into_iter().filter(is_meant).collect();
                let of = &shared.services.dead_letters;
                let (wanted, errors) = sieve.letters(of, of.open(name, events).await?).await?;
                trial.progress.filter_errors += errors;
                wanted.into_iter().for_each(|letter| trial.count(letter.partition, letter.event));
            }
            _ => {
                let sifted = sieve.sift(taken.events).await?;
                trial.progress.filter_errors += sifted.errors;
                for (partition, record) in sifted.events {
                    trial.count(partition, Browsed { topic: topic.clone(), partition, record });
                }
            }
        }
    }
}

impl Trial {
    fn count(&mut self, partition: PartitionId, event: Browsed) {
        self.progress.matched += 1;
        *self.by_partition.entry(partition).or_default() += 1;
        let of = Event::from_record(&event.record.record).event_type.map(|of| of.to_string());
        let known = self.by_type.len() < TYPES_MAX || self.by_type.contains_key(&of);
        *self.by_type.entry(of.filter(|_| known)).or_default() += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(event);
        }
    }
}

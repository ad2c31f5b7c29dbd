//! Redriving: dead letters are given back to the subscription that could not handle them, and to it alone.
//!
//! A dead letter is queued in an epoch of its own, which its id names: queued twice it is one delivery to a
//! subscription that deduplicates. It counts as redriven once it was queued.

use super::{
    job::{Progress, Target, Task},
    request::{BATCH, positive},
};
use crate::{
    dead_letters::{DeadLetters, Selected, Selection},
    error::{Error, Result},
    subscriptions::Subscriptions,
};
use ports::{Offset, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// More than so many at once may be too much for whoever failed on them: somebody has to say how fast.
const WITHOUT_RATE_MAX: u64 = 100_000;

/// What is to be redriven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRedrive {
    /// Which dead letters. Those that were redriven or discarded already are passed over.
    pub selection: Selection,
    /// The most of a second.
    pub rate_per_second: Option<i64>,
}

impl NewRedrive {
    /// Checks what was asked for, and finds what there is to read.
    pub(super) async fn decide(
        self,
        name: &str,
        letters: &DeadLetters,
        subscriptions: &Subscriptions,
    ) -> Result<(Task, Progress)> {
        let rate_per_second = positive("ratePerSecond", self.rate_per_second)?;
        if let Selection::Ids(ids) = &self.selection
            && ids.is_empty()
        {
            return Err(Error::invalid("ids", "must name one dead letter at least"));
        }
        let definition = subscriptions.definition(name)?;
        let selected = letters.select(name, &self.selection).await?;
        let (topic, topic_id, partitions, places) = match selected {
            Some(Selected { topic, topic_id, spans, places, .. }) => {
                (topic.to_string(), topic_id, spans, places)
            }
            None => (definition.dead_letter_policy().topic.to_string(), String::new(), BTreeMap::new(), None),
        };
        let progress = Progress { partitions, ..Progress::default() };
        let total = places.as_ref().map_or_else(|| progress.total(), |places| places.len() as u64);
        if total > WITHOUT_RATE_MAX && rate_per_second.is_none() {
            let message = format!(
                "is needed where more than {WITHOUT_RATE_MAX} dead letters may be redriven (there are up to {total})"
            );
            return Err(Error::invalid("ratePerSecond", message));
        }
        let mut only: BTreeMap<PartitionId, BTreeSet<Offset>> = BTreeMap::new();
        for (partition, offset) in places.iter().flatten() {
            only.entry(*partition).or_default().insert(*offset);
        }
        let task = Task {
            topic,
            topic_id,
            since: None,
            until: None,
            filter: match self.selection {
                Selection::Filter(filter) => Some(filter),
                Selection::Ids(_) | Selection::All => None,
            },
            target_filter: None,
            only: places.is_some().then_some(only),
            target: Target::Subscription { name: name.to_owned(), uid: definition.uid },
            rate_per_second,
            bytes_per_second: None,
            speed: None,
            batch_size: BATCH,
        };
        Ok((task, progress))
    }
}

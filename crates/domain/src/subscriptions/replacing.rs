//! Changing a subscription while it is at work: by its users here, and as another replica changed it.
//!
//! Invariants:
//! 1. What is out when a definition is replaced may be decided under the old one for its time; what is left then
//!    comes again under the new one.
//! 2. What an old definition's retry topics hold is delivered; until they are empty no order is promised, and
//!    then they go.
//! 3. A topic that comes to a subscription, also one that it had before, begins at `start` as of then.

use super::{
    Definition, DeliveryMode, Entry, NewSubscription, StartSpec, SubscriptionView, Subscriptions,
    definition::{self, Cause, Place},
    engine::log_hash,
    store,
};
use crate::{
    dead_letter::{HEADROOM_BYTES, Origin, partition_of},
    delivery::commit_map::Epoch,
    error::{Error, ErrorCode, Result},
    retry_topic,
};
use ports::{Offset, PartitionId, Position, Record, TopicName, TopicPartition};
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};
use uuid::Uuid;

/// How often it is looked whether retry topics that are to go are empty.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long deleting takes at most.
const DELETING_AT_MOST: Duration = Duration::from_secs(30);
/// How long after the last delivery under an old definition another replica may take to learn of the new one.
const REPLICAS_KNOW_WITHIN: Duration = Duration::from_secs(5);

/// Where events wait that are to be delivered to one subscription alone.
#[derive(Debug)]
pub(crate) struct Queue {
    /// The topic.
    pub(crate) topic: TopicName,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    definition: Arc<Definition>,
}

impl Queue {
    /// The record that waits there, and its partition: that of its key, so that a key's order holds. `epoch` tells its
    /// delivery from others of the same event; `log` is the id of the topic that it first lay in.
    pub(crate) fn record(
        &self,
        (log, topic, partition, offset): (&str, &TopicName, PartitionId, Offset),
        epoch: Uuid,
        record: Record,
    ) -> (PartitionId, Record) {
        let origin = Origin {
            subscription: &self.definition.name,
            log: log_hash(&self.definition.uid, log),
            epoch,
            topic,
            partition,
            offset,
            timestamp: record.timestamp,
        };
        let to = partition_of(&record, &origin.id(), self.partitions);
        (to, retry_topic::queued(&origin, record))
    }
}

impl Subscriptions {
    /// Replaces a subscription's definition. Its name, its progress, and whether it is paused stay. `revision` is
    /// what the caller takes it to be now.
    ///
    /// # Errors
    /// As those of creating it; `conflict` where it is another revision.
    pub async fn replace(
        &self,
        name: &str,
        mut new: NewSubscription,
        revision: Option<u64>,
    ) -> Result<SubscriptionView> {
        if new.name.is_empty() {
            name.clone_into(&mut new.name);
        } else if new.name != name {
            return Err(Error::invalid("name", format!("must be `{name}`, as in the path, or be left out")));
        }
        if new.adopt_group {
            return Err(Error::invalid("adoptGroup", "is for a subscription that is created"));
        }
        let now = self.ports.clock.wall();
        let _changing = self.changing.lock().await;
        let entry = self.entry(name)?;
        let old = entry.definition.clone();
        if let DeliveryMode::Push(target) = &old.mode {
            new.push.unmask(target);
        }
        let decided = definition::decide(&new, &self.limits, &self.config.defaults, now)?;
        self.check_target(&decided)?;
        let partitions = self.partitions_of(&decided.topics).await?;
        let places = self.places_of_new(&old, &decided, &partitions).await?;
        let lease = old.lease();
        let millis = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let decided =
            Definition { replaced_at_ms: now.0, settled_at_ms: now.0.saturating_add(millis), ..decided };
        let (changed, _) = store::try_change(&*self.ports.jobs, &old, |kept| {
            if revision.is_some_and(|revision| revision != kept.revision) {
                let detail = format!(
                    "subscription `{name}` is at revision {} by now: read it, and say what is to change of that",
                    kept.revision
                );
                return Err(Error::new(ErrorCode::Conflict, detail));
            }
            *kept = replaced(kept, &decided, &places);
            Ok(())
        })
        .await?;
        let changed = self.go_on_as(&entry, changed, lease).await?;
        Ok(self.view(&changed).await)
    }

    /// Deletes what is kept of a subscription, after other replicas were told to leave its group.
    pub(super) async fn remove_kept(&self, definition: &Definition) -> Result<()> {
        let jobs = &*self.ports.jobs;
        if self.config.shared {
            let now = self.ports.clock.wall().0;
            store::change(jobs, definition, |kept| kept.deleting_since_ms = Some(now)).await?;
        }
        let removed = store::remove(&self.ports, &self.topics, definition).await;
        if removed.is_err() && self.config.shared {
            // It goes on, here at once and elsewhere when they see that.
            let _ = store::change(jobs, definition, |kept| kept.deleting_since_ms = None).await;
        }
        removed
    }

    /// The queue of a subscription, made where it has none yet: its engine then joins its group anew, so that what is
    /// out is decided first.
    ///
    /// # Errors
    /// `subscription_not_found`, also where it is another one of that name than `uid`; what the log says.
    pub(crate) async fn queue(&self, name: &str, uid: Uuid) -> Result<Queue> {
        let same = |entry: &Entry| {
            if entry.definition.uid == uid {
                return Ok(());
            }
            let detail = format!("subscription `{name}` was deleted, and there is another one of that name");
            Err(Error::new(ErrorCode::SubscriptionNotFound, detail))
        };
        let mut entry = self.entry(name)?;
        same(&entry)?;
        let topic = retry_topic::queue(&entry.definition.name);
        if !entry.definition.queue {
            let _changing = self.changing.lock().await;
            entry = self.entry(name)?;
            same(&entry)?;
            if !entry.definition.queue {
                self.topics.derive(&topic, &entry.definition.topics[0], HEADROOM_BYTES).await?;
                let (changed, _) =
                    store::change(&*self.ports.jobs, &entry.definition, |kept| kept.queue = true).await?;
                let lease = entry.definition.lease();
                entry = self.go_on_as(&entry, changed, lease).await?;
            }
        }
        let missing = || Error::new(ErrorCode::Unavailable, format!("topic `{topic}` is not there yet"));
        let meta = self.topics.meta_if_there(&topic).await?.ok_or_else(missing)?;
        Ok(Queue { topic, partitions: meta.partitions, definition: entry.definition.clone() })
    }

    /// Has an engine go on under another definition.
    async fn go_on_as(&self, entry: &Arc<Entry>, changed: Definition, lease: Duration) -> Result<Arc<Entry>> {
        let changed = Arc::new(changed);
        let drain_until = self.ports.clock.monotonic() + lease;
        entry.engine.redefine(changed.clone(), drain_until).await?;
        let before = &entry.definition;
        let handled_otherwise = before.mode != changed.mode
            || before.ordering != changed.ordering
            || before.retry != changed.retry;
        let dispatcher = if handled_otherwise {
            self.dispatcher(&changed, &entry.engine)
        } else {
            entry.dispatcher.clone()
        };
        let entry_now = Arc::new(Entry { definition: changed, engine: entry.engine.clone(), dispatcher });
        self.entries.write().insert(entry_now.definition.name.clone(), entry_now.clone());
        if let Some(before) = entry.dispatcher.clone().filter(|_| handled_otherwise) {
            // What it has under way may end.
            tokio::spawn(async move { before.stop(Some(drain_until)).await });
        }
        Ok(entry_now)
    }

    /// Where the partitions begin of topics that a subscription did not have. Each is said, as a position may be
    /// committed from an earlier time that it had them.
    async fn places_of_new(
        &self,
        old: &Definition,
        decided: &Definition,
        partitions: &BTreeMap<TopicName, u32>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let is_new = |topic: &TopicName| !old.topics.contains(topic);
        if let StartSpec::Offsets(said) = &decided.start {
            definition::offsets_of(said, partitions)?;
        }
        let added: BTreeMap<_, _> =
            partitions.iter().filter(|(topic, _)| is_new(topic)).map(|(t, n)| (t.clone(), *n)).collect();
        let mut places = BTreeMap::new();
        for (topic, count) in &added {
            let at: Vec<_> = (0..*count).map(|partition| (partition, Position::Earliest)).collect();
            let offsets = self.ports.log.locate(topic, &at).await?;
            for ((partition, _), offset) in at.into_iter().zip(offsets) {
                places.insert(TopicPartition::new(topic.clone(), partition), offset);
            }
        }
        let start = match &decided.start {
            StartSpec::Offsets(said) => {
                let of_added = said.iter().filter(|(topic, _)| added.contains_key(topic.as_str()));
                StartSpec::Offsets(of_added.map(|(topic, of)| (topic.clone(), of.clone())).collect())
            }
            other => other.clone(),
        };
        places.extend(self.places(&start, &added).await?);
        Ok(places)
    }

    /// Looks after what others change and what is to be emptied, for as long as `this` is there.
    pub(super) fn watch(this: Weak<Self>) {
        tokio::spawn(async move {
            let mut readable = true;
            loop {
                let Some(clock) = this.upgrade().map(|this| this.ports.clock.clone()) else { return };
                clock.sleep_until(clock.monotonic() + LOOK_EVERY).await;
                let Some(this) = this.upgrade().filter(|this| !this.stopped.load(Relaxed)) else { return };
                if this.config.shared {
                    let refreshed = this.refresh().await;
                    // Said when it changes, not every second.
                    if let Err(error) = &refreshed
                        && readable
                    {
                        tracing::warn!(%error, "what other replicas change cannot be read for now");
                    }
                    readable = refreshed.is_ok();
                }
                this.finish_emptying().await;
            }
        });
    }

    /// Takes over what other replicas made, changed and deleted.
    async fn refresh(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        if self.stopped.load(Relaxed) {
            return Ok(());
        }
        let mut kept = store::load(&*self.ports.jobs).await?;
        // One that was left so by a replica that died goes on after a while.
        let patience = i64::try_from(DELETING_AT_MOST.as_millis()).unwrap_or(i64::MAX);
        let long_ago = self.ports.clock.wall().0.saturating_sub(patience);
        kept.retain(|definition| definition.deleting_since_ms.is_none_or(|since| since < long_ago));
        let names: Vec<_> = kept.iter().map(|definition| definition.name.clone()).collect();
        for definition in kept {
            let known = self.entries.read().get(&definition.name).cloned();
            match known {
                Some(entry) if entry.definition.uid == definition.uid => {
                    self.follow(&entry, definition).await?;
                }
                known => {
                    if let Some(entry) = known {
                        entry.stop(None).await;
                    }
                    let entry = self.enter(Arc::new(definition));
                    self.entries.write().insert(entry.definition.name.clone(), entry);
                }
            }
        }
        let gone: Vec<_> = self
            .entries
            .read()
            .values()
            .filter(|entry| !names.contains(&entry.definition.name))
            .cloned()
            .collect();
        for entry in gone {
            self.entries.write().remove(&entry.definition.name);
            entry.stop(None).await;
        }
        Ok(())
    }

    async fn follow(&self, entry: &Arc<Entry>, kept: Definition) -> Result<()> {
        let known = &entry.definition;
        if (known.revision, &known.emptying, known.queue) != (kept.revision, &kept.emptying, kept.queue) {
            self.go_on_as(entry, kept, known.lease()).await?;
        } else if known.paused != kept.paused {
            entry.engine.pause(kept.paused.as_ref().map(Cause::of)).await?;
            let entry = entry.with(Arc::new(kept));
            self.entries.write().insert(entry.definition.name.clone(), entry);
        }
        Ok(())
    }

    /// Lets retry topics go that are to be emptied and are empty.
    async fn finish_emptying(&self) {
        let entries: Vec<_> = self.entries.read().values().cloned().collect();
        for entry in entries.iter().filter(|entry| !entry.definition.emptying.is_empty()) {
            if let Err(error) = self.finish_emptying_of(entry).await {
                let name = &entry.definition.name;
                tracing::warn!(subscription = %name, %error, "it cannot be seen whether its retry topics are empty");
            }
        }
    }

    async fn finish_emptying_of(&self, entry: &Entry) -> Result<()> {
        let definition = &entry.definition;
        let settled = i64::try_from(REPLICAS_KNOW_WITHIN.as_millis()).unwrap_or(i64::MAX);
        if self.ports.clock.wall().0 < definition.settled_at_ms.saturating_add(settled) {
            return Ok(());
        }
        for topic in &definition.emptying {
            if !self.is_done_with(definition, topic).await? {
                return Ok(());
            }
        }
        let _changing = self.changing.lock().await;
        let entry = self.entry(definition.name.as_str())?;
        if entry.definition.revision != definition.revision || entry.definition.uid != definition.uid {
            return Ok(());
        }
        let gone = entry.definition.emptying.clone();
        let (changed, _) = store::change(&*self.ports.jobs, definition, |kept| kept.emptying.clear()).await?;
        let lease = definition.lease();
        self.go_on_as(&entry, changed, lease).await?;
        for topic in gone {
            self.topics.remove(&topic).await?;
        }
        Ok(())
    }

    /// Whether all that a topic holds is done.
    async fn is_done_with(&self, definition: &Definition, topic: &TopicName) -> Result<bool> {
        self.topics.forget(topic);
        let Some(meta) = self.topics.meta_if_there(topic).await? else { return Ok(true) };
        let numbers = 0..meta.partitions;
        let partitions: Vec<_> =
            numbers.clone().map(|partition| TopicPartition::new(topic.clone(), partition)).collect();
        let at = |position| numbers.clone().map(|partition| (partition, position)).collect::<Vec<_>>();
        let ends = self.ports.log.locate(topic, &at(Position::Latest)).await?;
        let starts = self.ports.log.locate(topic, &at(Position::Earliest)).await?;
        let committed = self.ports.offsets.committed(&definition.name, &partitions).await?;
        let done = |((end, start), committed): ((Offset, Offset), Option<ports::Committed>)| {
            start >= end || committed.is_some_and(|committed| committed.next >= end)
        };
        Ok(ends.into_iter().zip(starts).zip(committed).all(done))
    }
}

/// What a definition becomes.
fn replaced(old: &Definition, decided: &Definition, places: &BTreeMap<TopicPartition, Offset>) -> Definition {
    let mut new = Definition {
        uid: old.uid,
        created_at_ms: old.created_at_ms,
        paused: old.paused.clone(),
        revision: old.revision + 1,
        queue: old.queue,
        ..decided.clone()
    };
    let stays = |partition: &TopicPartition| {
        decided.topics.contains(&partition.topic) || decided.is_retry_topic(&partition.topic)
    };
    let kept = old.places.iter().filter(|(partition, _)| stays(partition));
    new.places = kept.map(|(partition, place)| (partition.clone(), *place)).collect();
    let last = old.places.values().map(|place| place.epoch.counter).max().unwrap_or_default();
    for (partition, offset) in places {
        let epoch = Epoch { counter: last + 1, id: Uuid::new_v4() };
        new.places.insert(partition.clone(), Place { offset: *offset, epoch });
    }
    let still: Vec<_> = new.retry_topics();
    new.emptying = old.retry_topics().into_iter().filter(|topic| !still.contains(topic)).collect();
    new
}

//! What is committed, and mirrored.

use super::{Actor, LAST_COMMIT_WITHIN};
use crate::subscriptions::{
    engine::{
        PartitionKey, backoff,
        commits::{Committed, Mark, Part},
    },
    mirror::{self, Mirrored},
};
use ports::{ErrorKind, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

impl Actor {
    pub(super) fn commit_if_due(&mut self) {
        let due = self.commit_due.is_some_and(|due| due <= self.context.now());
        if due && !self.committing.is_some() {
            let dirty = std::mem::take(&mut self.dirty);
            self.commit_due = None;
            self.begin_commit(&dirty);
        }
        let now = self.context.now();
        if !self.unmirrored.is_empty()
            && self.mirroring.is_empty()
            && self.mirror_at.is_none_or(|at| at <= now)
        {
            self.mirror_at = Some(now + self.context.config.mirror_interval);
            self.mirror();
        }
    }

    /// Begins to mirror the positions that were committed since the last time. A failure is no harm: they are
    /// mirrored with the next commit, or the group still has them.
    pub(super) fn mirror(&mut self) {
        let keys = std::mem::take(&mut self.unmirrored);
        let positions: Vec<_> = keys
            .iter()
            .filter_map(|key| self.owned.get(key))
            .filter_map(|owned| {
                let next = owned.committed?.next();
                Some((owned.partition.clone(), Mirrored { log: owned.log, next, epoch: owned.epoch }))
            })
            .collect();
        // What waited and is done is needed no more.
        let mut done: BTreeMap<TopicName, Vec<_>> = BTreeMap::new();
        for (TopicPartition { topic, partition }, Mirrored { next, .. }) in &positions {
            if self.context.retry_topics.contains(topic) {
                done.entry(topic.clone()).or_default().push((*partition, *next));
            }
        }
        let context = self.context.clone();
        self.mirroring.push(Box::pin(async move {
            let name = &context.definition.name;
            if let Err(error) = mirror::write(context.jobs(), &context.definition, &positions).await {
                tracing::warn!(subscription = %name, %error, "positions could not be mirrored");
            }
            for (topic, before) in done {
                if let Err(error) = context.topics.trim(&topic, &before).await {
                    tracing::warn!(subscription = %name, %topic, %error, "a retry topic could not be trimmed");
                }
            }
        }));
    }

    fn begin_commit(&mut self, keys: &BTreeSet<PartitionKey>) {
        let bytes_max = self.context.config.metadata_bytes_max;
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(owned) = self.owned.get_mut(key).filter(|owned| !owned.fenced) {
                let part = Part::of(*key, owned, bytes_max);
                owned.set_progress_full(part.full);
                parts.push(part);
            }
        }
        self.decided = 0;
        if !parts.is_empty() {
            self.committing.begin(self.context.clone(), parts);
        }
        keys.iter().for_each(|key| self.touch_ready(*key));
    }

    pub(super) fn committed(&mut self, outcome: Vec<Committed>) {
        let mut failed = None;
        let mut fenced = Vec::new();
        for Committed { key, session, mark, outcome } in outcome {
            let Some(owned) = self.owned.get_mut(&key).filter(|owned| owned.session == session) else {
                continue;
            };
            match outcome {
                Ok(()) => {
                    owned.committed = Some(mark);
                    self.unmirrored.insert(key);
                    if mark != Mark::of(&owned.core) {
                        self.dirty.insert(key);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    tracing::warn!(
                        subscription = %self.context.definition.name, partition = %owned.partition, %error,
                        "another member owns the partition; its progress here is not committed",
                    );
                    // Delivering on would only repeat what the other one delivers.
                    owned.fenced = true;
                    let unused = owned.core.revoke();
                    fenced.push((key, unused));
                }
                Err(error) => {
                    self.dirty.insert(key);
                    failed = Some(error);
                }
            }
        }
        for (key, unused) in fenced {
            self.release(unused);
            self.touch(key);
        }
        let mut wait = self.context.config.commit_interval;
        if let Some(error) = failed {
            self.commit_failures += 1;
            wait = wait.max(backoff(self.commit_failures));
            if self.commit_trouble.is_none() {
                tracing::warn!(subscription = %self.context.definition.name, %error, "progress cannot be committed");
                self.commit_trouble = Some(self.context.cause("committing", error.to_string()));
            }
        } else {
            self.commit_failures = 0;
            self.commit_trouble = None;
        }
        if !self.dirty.is_empty() {
            self.commit_due.get_or_insert(self.context.now() + wait);
        }
    }

    /// Commits the progress of some partitions, as well as that goes in a short time.
    pub(super) async fn commit_now(&mut self, keys: &BTreeSet<PartitionKey>) {
        let clock = self.context.ports.clock.clone();
        let until = clock.monotonic() + LAST_COMMIT_WITHIN;
        // Twice: what is under way first, as an older commit must not come after a newer one.
        for begin in [false, true] {
            if begin {
                let dirty: BTreeSet<_> = keys.intersection(&self.dirty).copied().collect();
                self.dirty.retain(|key| !dirty.contains(key));
                self.begin_commit(&dirty);
            }
            if self.committing.is_some() {
                tokio::select! {
                    outcome = self.committing.outcome() => self.committed(outcome),
                    () = clock.sleep_until(until) => {
                        let name = &self.context.definition.name;
                        tracing::warn!(subscription = %name, "the last commit was not answered in time: what was done since the one before comes again");
                        return;
                    }
                }
            }
        }
    }
}

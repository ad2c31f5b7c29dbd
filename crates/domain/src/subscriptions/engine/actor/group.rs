//! What the group gives and takes.

use super::{Actor, BUFFER_BYTES_MIN};
use crate::{
    delivery::{CoreConfig, Counters, Ordering, PartitionCore, backoff::Backoff},
    subscriptions::{
        engine::{
            PartitionKey, backoff,
            commits::Mark,
            member::News,
            opening::{self, Assigned, Opened, Opening, Start},
            owned::{Owned, key_of},
        },
        policy::Jitter,
    },
};
use ports::{Generation, Handover, MembershipEvent, TopicPartition};
use rand::RngExt as _;
use std::time::Duration;

impl Actor {
    pub(super) async fn news(&mut self, news: News) {
        let name = &self.context.definition.name;
        match news {
            News::Joined => self.group_trouble = None,
            News::Trouble(error) => {
                tracing::warn!(subscription = %name, %error, "the group has trouble");
                self.group_trouble = Some(self.context.cause("group", error.to_string()));
            }
            News::Over(error) => {
                tracing::warn!(subscription = %name, %error, "not a member of the group; joining again");
                self.group_trouble = Some(self.context.cause("group", error.to_string()));
                self.assigned.clear();
                let keys: Vec<_> = self.owned.keys().copied().collect();
                keys.into_iter().for_each(|key| self.drop_partition(key));
            }
            News::Event(event) => {
                self.group_trouble = None;
                match event {
                    MembershipEvent::Assigned { generation, partitions } => {
                        self.assign(generation, partitions)
                    }
                    MembershipEvent::Revoked { partitions, handover } => {
                        self.hand_over(&partitions, handover).await
                    }
                    MembershipEvent::Lost { partitions } => self.forget(&partitions),
                }
            }
        }
    }

    fn assign(&mut self, generation: Generation, partitions: Vec<TopicPartition>) {
        self.forget(&partitions);
        let mut to_open = Vec::with_capacity(partitions.len());
        for partition in partitions {
            self.assigned.insert(partition.clone(), generation);
            to_open.push(Assigned { partition, generation });
        }
        self.openings.push(Box::pin(opening::open(self.context.clone(), to_open, 0, Duration::ZERO)));
    }

    async fn hand_over(&mut self, partitions: &[TopicPartition], handover: Handover) {
        let keys = partitions.iter().map(key_of).collect();
        self.commit_now(&keys).await;
        self.forget(partitions);
        self.let_claims_go().await;
        handover.release();
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.drop_partition(key_of(partition));
        }
    }

    pub(super) fn drop_partition(&mut self, key: PartitionKey) {
        if let Some(mut owned) = self.owned.remove(&key) {
            self.in_flight -= owned.in_flight;
            self.held -= owned.held;
            let unused = owned.core.revoke();
            self.release(unused);
            if let Some(at) = owned.timeout {
                self.timeouts.remove(&(at, key));
            }
            self.dirty.remove(&key);
        }
    }

    pub(super) fn opened(&mut self, opening: Opening) {
        let Opening { opened, failed, failures } = opening;
        let buffer_bytes = self.context.config.buffer_bytes_max / self.assigned.len().max(1);
        for opened in opened {
            if self.is_assigned(&opened.assigned) {
                self.own(opened, buffer_bytes.max(BUFFER_BYTES_MIN));
            }
        }
        let name = &self.context.definition.name;
        let mut again = Vec::new();
        for (assigned, error) in failed {
            if self.is_assigned(&assigned) {
                tracing::warn!(subscription = %name, partition = %assigned.partition, %error, "cannot be opened yet");
                let detail = format!("{} cannot be opened: {}", assigned.partition, error.detail());
                self.opening_trouble = Some(self.context.cause("opening", detail));
                again.push(assigned);
            }
        }
        if again.is_empty() {
            self.opening_trouble = None;
        } else {
            let (failures, context) = (failures + 1, self.context.clone());
            self.openings.push(Box::pin(opening::open(context, again, failures, backoff(failures))));
        }
    }

    fn is_assigned(&self, assigned: &Assigned) -> bool {
        self.assigned.get(&assigned.partition) == Some(&assigned.generation)
    }

    fn own(&mut self, opened: Opened, buffer_bytes_max: usize) {
        let Opened { assigned: Assigned { partition, generation }, start, log, reader } = opened;
        let Start { from, done, attempts, epoch } = start;
        let session = self.rng.random();
        let random = self.rng.random();
        let mut core = PartitionCore::new(self.core_config(buffer_bytes_max), session, from, random);
        let retries = self.context.retry_topics.contains(&partition.topic);
        let committed = Some(Mark::of(&core));
        core.with_progress(done, attempts);
        let key = key_of(&partition);
        let owned = Owned {
            partition,
            generation,
            session,
            log,
            epoch,
            retries,
            core,
            reader: Some(reader),
            read_failures: 0,
            trouble: None,
            end: from,
            committed,
            progress_full: false,
            fenced: false,
            in_flight: 0,
            held: 0,
            counted: Counters::default(),
            queued: false,
            timeout: None,
        };
        self.owned.insert(key, owned);
        self.touch(key);
    }

    fn core_config(&self, buffer_bytes_max: usize) -> CoreConfig {
        let (definition, config) = (&self.context.definition, &self.context.config);
        let retry = &definition.retry;
        CoreConfig {
            // What was without an order before has none until it is done.
            ordering: if definition.emptying.is_empty() { definition.ordering } else { Ordering::None },
            ack_timeout: definition.lease(),
            run_max: definition.mode.run_max(),
            claims: definition.dedup.enabled,
            deliveries_max: retry.max_retries.map(|max| max.saturating_add(1)),
            backoff: Backoff {
                initial: retry.initial_delay,
                max: retry.max_delay,
                multiplier: retry.multiplier,
                full_jitter: retry.jitter == Jitter::Full && self.context.tiers.is_empty(),
            },
            retry_elsewhere: !self.context.tiers.is_empty(),
            buffer_events_max: config.buffer_events_max.max(2 * definition.max_in_flight as usize),
            buffer_bytes_max,
            held_events_max: config.held_events_max,
            held_bytes_max: buffer_bytes_max,
        }
    }
}

//! What tests share, over the reference model: a log and a store that do what a test scripts, and processes
//! that consume.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

pub(crate) mod consuming;
mod log;
pub(crate) mod registry;
mod store;

pub(crate) use log::{Append, ScriptedLog};
pub(crate) use store::{Call, ScriptedStore};

use adapters_embedded::memory::Memory;
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Event, Limits,
    dead_letters::{DeadLetterPorts, DeadLetters, DeadLettersConfig},
    jobs::JobServices,
    publish::{Item, PublishConfig, PublishContext, Publisher},
    subscriptions::{DeliveryConfig, SubscriptionPorts, Subscriptions},
    topics::{NewTopic, TopicDefaults, Topics},
};
use ports::{Clock, Position, ReadLimits, StoredRecord, TopicName, TopicPartition};
use std::{sync::Arc, time::Duration};
use testkit::clock::TestClock;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: u32 = 4;

/// What outlives a process: a log and a store. Each publisher stands for a process.
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) memory: Memory,
    pub(crate) log: Arc<ScriptedLog>,
    pub(crate) store: Arc<ScriptedStore>,
    pub(crate) limits: Limits,
    pub(crate) config: PublishConfig,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let world = Self {
            log: ScriptedLog::new(memory.log()),
            store: ScriptedStore::new(memory.idempotency()),
            clock,
            memory,
            limits: Limits::default(),
            config: PublishConfig::default(),
        };
        let new = NewTopic { name: TOPIC.into(), partitions: Some(PARTITIONS.into()), ..NewTopic::default() };
        world.topics().create(new).await.unwrap();
        world
    }

    pub(crate) fn topics(&self) -> Arc<Topics> {
        let defaults = TopicDefaults { auto_create: false, partitions: 2, replication_factor: None };
        let limits = Arc::new(self.limits.clone());
        Topics::new(self.memory.admin(), self.log.clone(), self.clock.clone(), limits, defaults)
    }

    pub(crate) fn publisher(&self) -> Arc<Publisher> {
        Arc::new(Publisher::with_store(
            self.log.clone(),
            self.topics(),
            self.clock.clone(),
            Arc::new(self.limits.clone()),
            self.config.clone(),
            Some(self.store.clone()),
        ))
    }

    /// What the jobs of a process talk to.
    pub(crate) fn job_services(&self, subscriptions: Arc<Subscriptions>) -> JobServices {
        let ports = DeadLetterPorts { log: self.memory.log(), clock: self.clock.clone() };
        let (topics, limits) = (self.topics(), Arc::new(self.limits.clone()));
        let config = DeadLettersConfig::default();
        let dead_letters =
            DeadLetters::new(ports, subscriptions.clone(), topics.clone(), limits, None, config);
        JobServices { publisher: self.publisher(), topics, subscriptions, dead_letters, schemas: None }
    }

    /// Subscriptions of a process, none of which has begun.
    pub(crate) fn subscriptions(&self) -> Arc<Subscriptions> {
        let ports = SubscriptionPorts {
            log: self.memory.log(),
            membership: self.memory.membership(),
            offsets: self.memory.offsets(),
            jobs: self.memory.jobs(),
            idempotency: self.memory.idempotency(),
            clock: self.clock.clone(),
        };
        let limits = Arc::new(self.limits.clone());
        Subscriptions::new(ports, self.topics(), limits, DeliveryConfig::default())
    }

    /// All records of a topic, by partition and offset.
    pub(crate) async fn records(&self, topic: &str) -> Vec<(u32, StoredRecord)> {
        let topic = TopicName::new(topic).unwrap();
        let log = self.memory.log();
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let Ok(end) = log.locate(&topic, &[(partition, Position::Latest)]).await else { break };
            let mut reader = log.open(&TopicPartition::new(topic.clone(), partition), 0).await.unwrap();
            while all.iter().filter(|(p, _)| *p == partition).count() < end[0] as usize {
                let limits =
                    ReadLimits { records_max: 10_000, bytes_max: usize::MAX, wait_max: Duration::ZERO };
                let fetched = reader.next(limits).await.unwrap();
                all.extend(fetched.records.into_iter().map(|stored| (partition, stored)));
            }
        }
        all
    }

    /// Lets time pass until every lease that is not extended has ended.
    pub(crate) async fn outlive_leases(&self) {
        let until = self.clock.monotonic() + Duration::from_secs(60);
        self.clock.sleep_until(until).await;
    }
}

pub(crate) fn context() -> PublishContext {
    PublishContext {
        principal: ByteString::from_static("anonymous"),
        source: ByteString::from_static("/event-streaming"),
        correlation_id: Some(ByteString::from(rand_text())),
        traceparent: None,
        tracestate: None,
    }
}

/// No two requests have the same correlation id.
fn rand_text() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An event with a key of its own, published once under `idempotency_key`.
pub(crate) fn once(idempotency_key: &str, data: &str) -> Event {
    Event { idempotency_key: Some(idempotency_key.into()), ..plain(idempotency_key, data) }
}

pub(crate) fn plain(key: &str, data: &str) -> Event {
    Event {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        data: Some(Bytes::copy_from_slice(data.as_bytes())),
        ..Event::default()
    }
}

pub(crate) fn items(events: impl IntoIterator<Item = Event>) -> Vec<Item> {
    events.into_iter().map(Ok).collect()
}

pub(crate) fn header(record: &ports::Record, name: &str) -> Option<String> {
    let header = record.headers.iter().find(|header| *header.name == *name)?;
    Some(String::from_utf8(header.value.clone()?.to_vec()).unwrap())
}

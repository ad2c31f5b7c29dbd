//! What tests of consuming share: the log and the stores that last, and processes over them that are stopped
//! and killed.

mod handler;
mod hook;
mod log;
mod mortal;
mod offsets;
mod process;

pub(crate) use handler::{Handler, doing, failed, handled};
pub(crate) use hook::Hook;
pub(crate) use log::WatchedLog;
pub(crate) use offsets::HeldOffsets;
pub(crate) use process::Process;

use adapters_embedded::memory::Memory;
use bytes::Bytes;
use domain::{
    Limits,
    subscriptions::{
        AckRequest, DeliveryConfig, NewSubscription, PulledDelivery, RejectItem, SubscriptionPorts,
        Subscriptions,
    },
    topics::{TopicDefaults, Topics},
};
use mortal::Mortal;
use ports::{
    AppendRequest, Clock, EventLog, GroupId, IdempotencyStore, Offset, OffsetStore, PartitionId, Position,
    ReadLimits, Record, StoredRecord, TopicName, TopicPartition, TopicSpec, Webhooks,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use testkit::clock::TestClock;

/// The subscription.
pub(crate) const NAME: &str = "mail";
/// How long a pull waits.
pub(crate) const WAIT: Option<Duration> = Some(Duration::from_secs(55));

/// What lasts: the log and the stores.
pub(crate) struct World {
    pub(crate) memory: Memory,
    pub(crate) clock: Arc<dyn Clock>,
    /// What is published to.
    pub(crate) topic: TopicName,
    pub(crate) auto_create: bool,
    pub(crate) claims: Arc<dyn IdempotencyStore>,
    pub(crate) offsets: Arc<dyn OffsetStore>,
}

impl World {
    /// A topic `orders` of so many partitions, and nothing in it.
    pub(crate) async fn new(partitions: u32) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let (claims, offsets) = (memory.idempotency(), memory.offsets());
        let topic = TopicName::new("orders").unwrap();
        let world = Self { memory, clock, topic, auto_create: false, claims, offsets };
        world.create_topic(partitions).await;
        world
    }

    /// Makes the topic that is published to.
    pub(crate) async fn create_topic(&self, partitions: u32) {
        self.create(self.topic.as_str(), partitions).await;
    }

    pub(crate) async fn create(&self, topic: &str, partitions: u32) {
        let name = TopicName::new(topic).unwrap();
        let spec = TopicSpec { name, partitions, replication_factor: None, config: BTreeMap::new() };
        self.memory.admin().create(spec).await.unwrap();
    }

    pub(crate) async fn process(&self) -> Process {
        self.process_on(self.memory.log()).await
    }

    /// One of several, which follow each other's definitions.
    pub(crate) async fn replica(&self) -> Process {
        let config = DeliveryConfig { shared: true, ..DeliveryConfig::default() };
        self.process_with(self.memory.log(), config).await
    }

    pub(crate) async fn process_on(&self, log: Arc<dyn EventLog>) -> Process {
        self.process_with(log, DeliveryConfig::default()).await
    }

    pub(crate) async fn process_with(&self, log: Arc<dyn EventLog>, config: DeliveryConfig) -> Process {
        self.begin(log, config, None).await
    }

    /// One whose subscriptions push to `hook`.
    pub(crate) async fn pushing_to(&self, hook: &Arc<Hook>) -> Process {
        self.begin(self.memory.log(), DeliveryConfig::default(), Some(hook.clone())).await
    }

    async fn begin(
        &self,
        log: Arc<dyn EventLog>,
        config: DeliveryConfig,
        webhooks: Option<Arc<dyn Webhooks>>,
    ) -> Process {
        let limits = Arc::new(Limits::default());
        let dead = Arc::new(AtomicBool::new(false));
        let auto_create = self.auto_create;
        let defaults = TopicDefaults { auto_create, partitions: 1, replication_factor: None };
        let clock = self.clock.clone();
        let topics = Topics::new(self.memory.admin(), log.clone(), clock.clone(), limits.clone(), defaults);
        let ports = SubscriptionPorts {
            log,
            membership: self.memory.membership(),
            offsets: Arc::new(Mortal { dead: dead.clone(), inner: self.offsets.clone() }),
            jobs: self.memory.jobs(),
            idempotency: Arc::new(Mortal { dead: dead.clone(), inner: self.claims.clone() }),
            clock: clock.clone(),
        };
        let subscriptions = Subscriptions::with_webhooks(ports, topics, limits, config, webhooks);
        subscriptions.start().await.unwrap();
        Process { subscriptions, dead, clock }
    }

    /// Publishes numbers in order, each to the partition that its remainder names.
    pub(crate) async fn publish(&self, numbers: std::ops::Range<u32>, partitions: u32) {
        self.append(numbers.map(|n| (n % partitions, numbered(n))).collect()).await;
    }

    /// Publishes numbers in order, each under the key that its remainder names, in that key's partition.
    pub(crate) async fn publish_keyed(&self, numbers: std::ops::Range<u32>, keys: u32, partitions: u32) {
        let record = |n: u32| {
            let key = n % keys;
            (key % partitions, Record { key: Some(Bytes::from(format!("k{key}"))), ..numbered(n) })
        };
        self.append(numbers.map(record).collect()).await;
    }

    pub(crate) async fn append(&self, records: Vec<(PartitionId, Record)>) {
        self.append_to(self.topic.as_str(), records).await;
    }

    pub(crate) async fn append_to(&self, topic: &str, records: Vec<(PartitionId, Record)>) {
        let (topic, timeout) = (TopicName::new(topic).unwrap(), Duration::from_secs(1));
        let request = AppendRequest { topic, records, timeout };
        for outcome in self.memory.log().append(request).await.outcomes {
            outcome.unwrap();
        }
    }

    /// The offset that the subscription has committed of a partition.
    pub(crate) async fn committed(&self, partition: PartitionId) -> Option<Offset> {
        self.committed_of(self.topic.as_str(), partition).await
    }

    pub(crate) async fn committed_of(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let of = [TopicPartition::new(TopicName::new(topic).unwrap(), partition)];
        let committed = self.memory.offsets().committed(&GroupId::new(NAME).unwrap(), &of).await.unwrap();
        committed[0].as_ref().map(|committed| committed.next)
    }

    /// What lies in the first partition of a topic.
    pub(crate) async fn records_of(&self, topic: &str) -> Vec<StoredRecord> {
        self.records_in(topic, 0).await
    }

    /// What lies in a partition of a topic; nothing where there is no such topic.
    pub(crate) async fn records_in(&self, topic: &str, partition: PartitionId) -> Vec<StoredRecord> {
        let log = self.memory.log();
        let Some([begin, end]) = self.bounds(topic, partition).await else { return Vec::new() };
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), partition);
        let mut reader = log.open(&partition, begin).await.unwrap();
        let mut all = Vec::new();
        while all.last().map_or(begin, |stored: &StoredRecord| stored.offset + 1) < end {
            let limits = ReadLimits { records_max: 1_000, bytes_max: 1 << 20, wait_max: Duration::ZERO };
            all.extend(reader.next(limits).await.unwrap().records);
        }
        all
    }

    /// How many records were ever written to the first partition of a topic; what is done is deleted from a
    /// retry topic.
    pub(crate) async fn written_to(&self, topic: &str) -> Offset {
        self.written_in(topic, 0).await
    }

    /// The same of any partition.
    pub(crate) async fn written_in(&self, topic: &str, partition: PartitionId) -> Offset {
        self.bounds(topic, partition).await.map_or(0, |[_, end]| end)
    }

    async fn bounds(&self, topic: &str, partition: PartitionId) -> Option<[Offset; 2]> {
        let (log, topic) = (self.memory.log(), TopicName::new(topic).unwrap());
        let ends = [(partition, Position::Earliest), (partition, Position::Latest)];
        log.locate(&topic, &ends).await.ok()?.try_into().ok()
    }

    pub(crate) async fn is_there(&self, topic: &str) -> bool {
        self.memory.admin().describe(&TopicName::new(topic).unwrap()).await.unwrap().is_some()
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.clock.monotonic().0.as_secs()
    }
}

pub(crate) fn definition() -> NewSubscription {
    NewSubscription {
        name: NAME.into(),
        topics: vec!["orders".into()],
        ordering: Some("none".into()),
        ..NewSubscription::default()
    }
}

/// It pushes, and one attempt is all that there is.
pub(crate) fn by_push(new: &mut NewSubscription) {
    new.delivery_mode = Some("push".into());
    new.push.url = Some("https://example.com/hook".into());
    new.push.timeout = Some("5m".into());
    new.retry.max_retries = Some(0);
}

/// Retries wait in topics: 10 s, 20 s, then there are no more.
pub(crate) fn by_topics(new: &mut NewSubscription) {
    new.retry.strategy = Some("topics".into());
    new.retry.initial_delay = Some("10s".into());
    new.retry.max_retries = Some(2);
}

pub(crate) fn numbered(n: u32) -> Record {
    Record { value: Some(Bytes::from(n.to_string())), ..Record::default() }
}

pub(crate) fn ids(deliveries: &[PulledDelivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect()
}

pub(crate) fn number(delivery: &PulledDelivery) -> u32 {
    number_of(&delivery.record.record)
}

pub(crate) fn number_of(record: &Record) -> u32 {
    std::str::from_utf8(record.value.as_deref().unwrap()).unwrap().parse().unwrap()
}

pub(crate) fn numbers(deliveries: &[PulledDelivery]) -> BTreeSet<u32> {
    deliveries.iter().map(number).collect()
}

pub(crate) fn rejection(deliveries: &[PulledDelivery]) -> AckRequest {
    let item = |id: String| RejectItem { ack_id: id, reason: None };
    AckRequest { reject: ids(deliveries).into_iter().map(item).collect(), ..AckRequest::default() }
}

/// Lets time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

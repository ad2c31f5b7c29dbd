//! A run: what lasts, processes that come and go, and the end.

use super::{
    clients::{Client, Handler, Leftovers, sleep},
    oracle::Oracle,
    ports_spied::{Life, Spied, bad_day},
};
use adapters_embedded::memory::Memory;
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Limits,
    delivery::Ordering,
    subscriptions::{
        Definition, DeliveryConfig, DeliveryMode, HandlerOptions, Payload, StartSpec, SubscriptionPorts,
        Subscriptions,
        policy::{DeadLetterPolicy, DedupPolicy, Jitter, OnStoreFailure, RetryPolicy, RetryStrategy},
    },
    topics::{TopicDefaults, Topics},
};
use parking_lot::Mutex;
use ports::{AppendRequest, Clock, Expected, GroupId, Header, JobKind, Record, TopicName, TopicSpec};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::{clock::TestClock, fault::Faults};
use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) const NAME: &str = "mail";
pub(crate) const TOPIC: &str = "orders";

/// It fails for an odd event, which is no match.
const FILTER: &str = "type == 'wanted' || type == 'odd' && subject.size() > 0";
/// It fails for every fifth event, which has its source and id for a key.
const KEY: &str = "offset % 5 == 4 ? subject : source + '#' + id";

struct World {
    memory: Memory,
    clock: Arc<dyn Clock>,
    oracle: Arc<Oracle>,
    partitions: u32,
    linked: bool,
    concurrency: usize,
    client: Client,
    clients: usize,
    published: u64,
    filtered: bool,
}

struct Process {
    subscriptions: Arc<Subscriptions>,
    life: Arc<Life>,
    clients: JoinSet<()>,
}

fn definition(rng: &mut StdRng, ordering: Ordering, claims: bool) -> Definition {
    let elsewhere = ordering == Ordering::None && rng.random();
    let name = GroupId::new(NAME).unwrap();
    Definition {
        topics: vec![TopicName::new(TOPIC).unwrap()],
        uid: Uuid::from_u128(rng.random()),
        mode: DeliveryMode::Pull,
        ordering,
        max_in_flight: rng.random_range(1..100),
        ack_timeout: Duration::from_millis(rng.random_range(500..20_000)),
        payload: Payload::Bytes,
        filter: rng.random_bool(0.4).then(|| FILTER.to_owned()),
        retry: RetryPolicy {
            strategy: if elsewhere { RetryStrategy::Topics } else { RetryStrategy::InPlace },
            max_retries: [None, Some(0), Some(1), Some(3)][rng.random_range(0..4)],
            initial_delay: Duration::from_millis(rng.random_range(0..2_000)),
            max_delay: Duration::from_secs(10),
            multiplier: 2.0,
            jitter: if rng.random() { Jitter::Full } else { Jitter::None },
        },
        dead_letter: Some(DeadLetterPolicy { storm_guard: None, ..DeadLetterPolicy::of(&name) }),
        dedup: DedupPolicy {
            enabled: claims,
            ttl: Duration::from_secs(3600),
            on_store_failure: OnStoreFailure::Pause,
            key: rng.random_bool(0.3).then(|| KEY.to_owned()),
        },
        emptying: Vec::new(),
        queue: false,
        replaced_at_ms: 0,
        settled_at_ms: 0,
        deleting_since_ms: None,
        revision: 0,
        paused: None,
        start: StartSpec::Earliest,
        places: BTreeMap::new(),
        created_at_ms: 0,
        name,
    }
}

impl World {
    async fn new(rng: &mut StdRng) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let partitions = rng.random_range(1..5);
        let name = TopicName::new(TOPIC).unwrap();
        let spec = TopicSpec { name, partitions, replication_factor: None, config: BTreeMap::new() };
        memory.admin().create(spec).await.unwrap();
        let ordering = [Ordering::None, Ordering::Partition, Ordering::Key][rng.random_range(0..3)];
        let claims = rng.random_bool(0.6);
        let definition = definition(rng, ordering, claims);
        let kept = serde_json::to_vec(&definition).unwrap();
        memory.jobs().put(JobKind::Subscription, NAME, Expected::Absent, kept.into()).await.unwrap();
        let oracle = Arc::new(Oracle::new(ordering, claims));
        let client = Client {
            oracle: oracle.clone(),
            leftovers: Leftovers::default(),
            good: false,
            poison: definition.retry.max_retries.and_then(|_| rng.random_bool(0.5).then_some(17)),
            ack_timeout: definition.ack_timeout,
        };
        Self {
            memory,
            clock,
            oracle,
            partitions,
            linked: rng.random_bool(0.3),
            concurrency: rng.random_range(1..6),
            client,
            clients: rng.random_range(1..4),
            published: 0,
            filtered: definition.filter.is_some(),
        }
    }

    async fn publish(&mut self, rng: &mut StdRng, count: usize) {
        let mut records = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..count {
            let key = rng.random_bool(0.8).then(|| rng.random_range(0..7_u32));
            let partition =
                key.map_or_else(|| rng.random_range(0..self.partitions), |key| key % self.partitions);
            let text = |name: &'static str, value: String| {
                Header::new(ByteString::from_static(name), Bytes::from(value))
            };
            self.published += 1;
            let kind = ["wanted", "other", "odd"][rng.random_range(0..3)];
            let record = Record {
                key: key.map(|key| Bytes::from(key.to_string())),
                value: Some(Bytes::from_static(b"value")),
                headers: vec![
                    text("ce_id", self.published.to_string()),
                    text("ce_source", "/sim".into()),
                    text("ce_type", kind.into()),
                ],
                ..Record::default()
            };
            records.push((partition, record));
            keys.push((partition, key, self.filtered && kind != "wanted"));
        }
        let topic = TopicName::new(TOPIC).unwrap();
        let request = AppendRequest { topic, records, timeout: Duration::from_secs(1) };
        let outcomes = self.memory.log().append(request).await.outcomes;
        for (outcome, (partition, key, unwanted)) in outcomes.into_iter().zip(keys) {
            self.oracle.published(partition, outcome.unwrap().offset, key, unwanted);
        }
    }

    async fn process(&self, rng: &mut StdRng, faults: Faults, good: bool) -> Process {
        let life = Life::new(self.clock.clone(), self.oracle.clone(), rng.random(), Faults::default());
        let log: Arc<dyn ports::EventLog> = Arc::new(Spied { inner: self.memory.log(), life: life.clone() });
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
        let topics =
            Topics::new(self.memory.admin(), log.clone(), self.clock.clone(), limits.clone(), defaults);
        let ports = SubscriptionPorts {
            log,
            membership: self.memory.membership(),
            offsets: Arc::new(Spied { inner: self.memory.offsets(), life: life.clone() }),
            jobs: Arc::new(Spied { inner: self.memory.jobs(), life: life.clone() }),
            idempotency: Arc::new(Spied { inner: self.memory.idempotency(), life: life.clone() }),
            clock: self.clock.clone(),
        };
        let config = DeliveryConfig { seed: Some(rng.random()), ..DeliveryConfig::default() };
        let subscriptions = Subscriptions::new(ports, topics, limits, config);
        subscriptions.start().await.unwrap();
        let mut clients = JoinSet::new();
        if self.linked {
            let handler = Handler {
                oracle: self.oracle.clone(),
                clock: self.clock.clone(),
                rng: Mutex::new(StdRng::seed_from_u64(rng.random())),
                good,
                poison: self.client.poison,
            };
            let options = HandlerOptions {
                concurrency: self.concurrency,
                timeout: self.client.ack_timeout.mul_f64(0.9),
                ..HandlerOptions::default()
            };
            subscriptions.handle(NAME, Arc::new(handler), options).await.unwrap();
        } else {
            for _ in 0..self.clients {
                let client = Client { good, ..self.client.clone() };
                clients.spawn(client.work(subscriptions.clone(), self.clock.clone(), rng.random()));
            }
        }
        life.set(faults);
        Process { subscriptions, life, clients }
    }

    async fn end(&self, mut process: Process, kill: bool, rng: &mut StdRng) {
        process.clients.abort_all();
        while process.clients.join_next().await.is_some() {}
        if kill {
            process.life.kill();
        }
        let drain = if kill { Duration::ZERO } else { Duration::from_millis(rng.random_range(0..3_000)) };
        process.subscriptions.shutdown(self.clock.monotonic() + drain).await;
    }
}

/// One run.
pub(crate) async fn simulate(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut world = World::new(rng).await;
    let mut processes = Vec::new();
    let events = rng.random_range(20..250);
    let steps = rng.random_range(5..40);
    for _ in 0..steps {
        if world.oracle.count() < events {
            let count = rng.random_range(1..60);
            world.publish(rng, count).await;
        }
        match rng.random_range(0..10) {
            0 if !processes.is_empty() => {
                let process = processes.swap_remove(rng.random_range(0..processes.len()));
                world.end(process, true, rng).await;
            }
            1 if !processes.is_empty() => {
                let process = processes.swap_remove(rng.random_range(0..processes.len()));
                world.end(process, false, rng).await;
            }
            2..6 if processes.len() < 2 => {
                let faults = if rng.random_bool(0.3) { Faults::default() } else { bad_day(rng) };
                processes.push(world.process(rng, faults, false).await);
            }
            _ => {}
        }
        sleep(&*world.clock, Duration::from_millis(rng.random_range(0..8_000))).await;
        world.oracle.check();
        for process in &mut processes {
            if let Some(ended) = process.clients.try_join_next() {
                ended.unwrap();
            }
        }
    }
    for process in processes {
        let kill = rng.random_bool(0.5);
        world.end(process, kill, rng).await;
    }
    // The good days: one process without faults, clients that do what they should, and time.
    let mut last = world.process(rng, Faults::default(), true).await;
    sleep(&*world.clock, Duration::from_secs(1_200)).await;
    if let Some(ended) = last.clients.try_join_next() {
        ended.unwrap();
    }
    world.oracle.quiesced();
    let view = last.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.in_flight, view.held, view.lag), (0, 0, 0), "nothing is left: {view:?}");
    world.end(last, false, rng).await;
}

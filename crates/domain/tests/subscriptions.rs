//! What a subscription promises, over the reference model and paused time: delivered at least once, done
//! when acknowledged, whatever happens to the process, the group and the log between.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    ErrorCode, Limits,
    delivery::Status,
    subscriptions::{
        AckRequest, DeliveryConfig, HandlerOptions, NewSubscription, Pulled, PulledDelivery, RejectItem,
        RetryItem, StartSpec, State, SubscriptionPorts, Subscriptions, policy::NewStormGuard,
    },
    topics::{TopicDefaults, Topics},
};
use ports::{
    AppendRequest, Clock, Committed, EventHandler, EventLog, Failure, GroupId, HandlerDelivery,
    IdempotencyStore, Offset, OffsetCommit, OffsetStore, Outcome, PartitionId, PortError, ReadLimits, Record,
    Result, StoredRecord, TopicName, TopicPartition, TopicSpec,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use testkit::{
    clock::TestClock,
    fault::{Faults, FaultyIdempotencyStore, FaultyLog},
};

/// Offsets of one process: once it is killed, nothing that it does has an effect.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn OffsetStore>,
    dead: AtomicBool,
}

#[async_trait]
impl OffsetStore for Mortal {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        if self.dead.load(SeqCst) {
            let dead = || PortError::new(ports::ErrorKind::Unavailable, "commit", "the process was killed");
            return commits.iter().map(|_| Err(dead())).collect();
        }
        self.inner.commit(group, commits).await
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        self.inner.committed(group, of).await
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        self.inner.delete(group).await
    }
}

/// What lasts: the log and the stores.
struct World {
    memory: Memory,
    clock: Arc<dyn Clock>,
    topic: TopicName,
    auto_create: bool,
    claims: Arc<dyn IdempotencyStore>,
}

/// What a process is: it can be stopped, or killed.
struct Process {
    subscriptions: Arc<Subscriptions>,
    offsets: Arc<Mortal>,
    clock: Arc<dyn Clock>,
}

const NAME: &str = "mail";
const WAIT: Option<Duration> = Some(Duration::from_secs(55));

impl World {
    async fn new(partitions: u32) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let claims = memory.idempotency();
        let world =
            Self { memory, clock, topic: TopicName::new("orders").unwrap(), auto_create: false, claims };
        world.create_topic(partitions).await;
        world
    }

    async fn create_topic(&self, partitions: u32) {
        let spec = TopicSpec {
            name: self.topic.clone(),
            partitions,
            replication_factor: None,
            config: BTreeMap::new(),
        };
        self.memory.admin().create(spec).await.unwrap();
    }

    async fn process(&self) -> Process {
        self.process_on(self.memory.log()).await
    }

    async fn replica(&self) -> Process {
        let config = DeliveryConfig { shared: true, ..DeliveryConfig::default() };
        self.process_with(self.memory.log(), config).await
    }

    async fn process_on(&self, log: Arc<dyn EventLog>) -> Process {
        self.process_with(log, DeliveryConfig::default()).await
    }

    async fn process_with(&self, log: Arc<dyn EventLog>, config: DeliveryConfig) -> Process {
        let limits = Arc::new(Limits::default());
        let offsets = Arc::new(Mortal { inner: self.memory.offsets(), dead: AtomicBool::new(false) });
        let auto_create = self.auto_create;
        let defaults = TopicDefaults { auto_create, partitions: 1, replication_factor: None };
        let topics =
            Topics::new(self.memory.admin(), log.clone(), self.clock.clone(), limits.clone(), defaults);
        let ports = SubscriptionPorts {
            log,
            membership: self.memory.membership(),
            offsets: offsets.clone(),
            jobs: self.memory.jobs(),
            idempotency: self.claims.clone(),
            clock: self.clock.clone(),
        };
        let subscriptions = Subscriptions::new(ports, topics, limits, config);
        subscriptions.start().await.unwrap();
        Process { subscriptions, offsets, clock: self.clock.clone() }
    }

    /// Publishes numbers in order, each to the partition that its remainder names.
    async fn publish(&self, numbers: std::ops::Range<u32>, partitions: u32) {
        let record = |n: u32| Record { value: Some(Bytes::from(n.to_string())), ..Record::default() };
        let request = AppendRequest {
            topic: self.topic.clone(),
            records: numbers.map(|n| (n % partitions, record(n))).collect(),
            timeout: Duration::from_secs(1),
        };
        for outcome in self.memory.log().append(request).await.outcomes {
            outcome.unwrap();
        }
    }

    async fn committed(&self, partition: PartitionId) -> Option<Offset> {
        let of = [TopicPartition::new(self.topic.clone(), partition)];
        let committed = self.memory.offsets().committed(&GroupId::new(NAME).unwrap(), &of).await.unwrap();
        committed[0].as_ref().map(|committed| committed.next)
    }
}

impl Process {
    async fn create(&self, change: impl FnOnce(&mut NewSubscription)) {
        let mut new = definition();
        change(&mut new);
        self.subscriptions.create(new).await.unwrap();
    }

    async fn pull(&self, max: i64) -> Vec<PulledDelivery> {
        self.subscriptions.pull(NAME, Some(max), WAIT).await.unwrap().deliveries
    }

    /// Pulls until so many have come.
    async fn pull_all(&self, count: usize) -> Vec<PulledDelivery> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.pull((count - all.len()) as i64).await;
            assert!(!more.is_empty(), "only {} of {count} came", all.len());
            all.extend(more);
        }
        all
    }

    async fn decide(&self, request: AckRequest) -> Vec<Status> {
        let answered = self.subscriptions.acknowledge(NAME, request).await.unwrap();
        answered.into_iter().map(|(_, status)| status).collect()
    }

    async fn ack(&self, deliveries: &[PulledDelivery]) {
        let statuses = self.decide(AckRequest { ack: ids(deliveries), ..AckRequest::default() }).await;
        assert!(statuses.iter().all(|status| *status == Status::Ok), "{statuses:?}");
    }

    async fn nothing_comes(&self) {
        let came = numbers(&self.pull(1000).await);
        assert!(came.is_empty(), "{came:?} came again");
    }

    async fn stop(self) {
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }

    /// Ends the process as kill -9 does: what it has not committed is forgotten.
    async fn kill(self) {
        self.offsets.dead.store(true, SeqCst);
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }
}

fn definition() -> NewSubscription {
    NewSubscription {
        name: NAME.into(),
        topics: vec!["orders".into()],
        ordering: Some("none".into()),
        ..NewSubscription::default()
    }
}

fn ids(deliveries: &[PulledDelivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect()
}

fn number(delivery: &PulledDelivery) -> u32 {
    let value = delivery.record.record.value.as_deref().unwrap();
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

fn numbers(deliveries: &[PulledDelivery]) -> BTreeSet<u32> {
    deliveries.iter().map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_does_not_come_again_after_a_stop() {
    let world = World::new(3).await;
    world.publish(0..100, 3).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(100).await;
    assert_eq!(numbers(&all), (0..100).collect());
    process.ack(&all).await;
    process.nothing_comes().await;
    process.stop().await;
    let next = world.process().await;
    next.nothing_comes().await;
    world.publish(100..103, 3).await;
    assert_eq!(numbers(&next.pull_all(3).await), (100..103).collect());
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_what_was_done_beyond_a_gap_and_the_gap_comes_again() {
    let world = World::new(1).await;
    world.publish(0..50, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let mut all = process.pull_all(50).await;
    let gap = [all.remove(7), all.remove(20)];
    process.ack(&all).await;
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(7), "the commit must not pass an event that is undecided");
    let next = world.process().await;
    let again = next.pull_all(2).await;
    assert_eq!(numbers(&again), numbers(&gap));
    next.ack(&again).await;
    next.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_loses_nothing() {
    let world = World::new(3).await;
    world.publish(0..90, 3).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let first = process.pull_all(30).await;
    process.ack(&first).await;
    // Committed within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = process.pull_all(30).await;
    process.ack(&second).await;
    process.kill().await;
    let next = world.process().await;
    let rest = next.pull_all(30).await;
    assert!(numbers(&rest).is_disjoint(&numbers(&first)), "what was committed came again");
    assert!(numbers(&rest).is_disjoint(&numbers(&second)), "what was completed and not committed came again");
    next.ack(&rest).await;
    next.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_decided_in_time_comes_again_as_the_next_attempt() {
    let world = World::new(1).await;
    world.publish(0..3, 1).await;
    let process = world.process().await;
    process.create(|new| new.ack_timeout = Some("2s".into())).await;
    let first = process.pull_all(3).await;
    assert!(first.iter().all(|delivery| delivery.attempt == 1));
    process.ack(&first[..1]).await;
    let again = process.pull_all(2).await;
    assert_eq!(numbers(&again), [1, 2].into());
    assert!(again.iter().all(|delivery| delivery.attempt == 2), "{again:?}");
    process.ack(&again).await;
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_is_given_up_gives_back_and_counts_no_attempt() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    for round in 0..50_u32 {
        // The pull ends at about the moment at which the event comes.
        let pull = process.subscriptions.pull(NAME, Some(10), WAIT);
        let publish = async {
            world.publish(round..round + 1, 1).await;
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
        };
        let pulled: Option<domain::Result<Pulled>> = tokio::select! {
            biased;
            pulled = pull => Some(pulled),
            () = publish => None,
        };
        let deliveries = match pulled {
            Some(pulled) => pulled.unwrap().deliveries,
            None => process.pull_all(1).await,
        };
        assert_eq!((deliveries.len(), number(&deliveries[0]), deliveries[0].attempt), (1, round, 1));
        process.ack(&deliveries).await;
    }
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_waits_as_long_as_it_says_and_no_longer() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let began = world.clock.monotonic();
    process.nothing_comes().await;
    assert_eq!(world.clock.monotonic().since(began), WAIT.unwrap());
    let pulled = process.subscriptions.pull(NAME, None, None).await.unwrap();
    assert!(pulled.deliveries.is_empty());
    assert_eq!(world.clock.monotonic().since(began), WAIT.unwrap(), "without a wait it answers at once");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_out_than_max_in_flight() {
    let world = World::new(3).await;
    world.publish(0..30, 3).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.max_in_flight = Some(10);
            new.ack_timeout = Some("1h".into());
        })
        .await;
    let out = process.pull_all(10).await;
    process.nothing_comes().await;
    process.ack(&out[..4]).await;
    assert_eq!(process.pull_all(4).await.len(), 4);
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn two_replicas_share_and_what_was_done_at_one_does_not_come_at_the_other() {
    let world = World::new(4).await;
    world.publish(0..200, 4).await;
    let one = world.process().await;
    one.create(|_| {}).await;
    let mut done = BTreeSet::new();
    let first = one.pull_all(100).await;
    one.ack(&first).await;
    done.extend(numbers(&first));
    let other = world.process().await;
    let mut seen_by_other = 0;
    while done.len() < 200 {
        for (process, is_other) in [(&one, false), (&other, true)] {
            let deliveries = process
                .subscriptions
                .pull(NAME, Some(10), Some(Duration::from_secs(1)))
                .await
                .unwrap()
                .deliveries;
            let statuses =
                process.decide(AckRequest { ack: ids(&deliveries), ..AckRequest::default() }).await;
            for (delivery, status) in deliveries.iter().zip(statuses) {
                let number = number(delivery);
                assert!(!done.contains(&number), "{number} was done and came again");
                // Handed over between the pull and its answer, it is expired and comes at the other one.
                if status == Status::Ok {
                    done.insert(number);
                    seen_by_other += u32::from(is_other);
                }
            }
        }
    }
    assert!(seen_by_other > 0, "the second replica had nothing to do");
    one.kill().await;
    other.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn with_ordering_partition_a_lapse_takes_the_later_ones_back_and_order_holds() {
    let world = World::new(2).await;
    world.publish(0..40, 2).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.ordering = Some("partition".into());
            new.ack_timeout = Some("2s".into());
        })
        .await;
    let mut rng = StdRng::seed_from_u64(7);
    let mut done: BTreeMap<PartitionId, Vec<u32>> = BTreeMap::new();
    while done.values().map(Vec::len).sum::<usize>() < 40 {
        let deliveries = process.pull(rng.random_range(1..10)).await;
        for delivery in &deliveries {
            if rng.random_bool(0.2) {
                // Never answered: it and what follows it in its run lapse.
                continue;
            }
            let request = AckRequest { ack: vec![delivery.ack_id.clone()], ..AckRequest::default() };
            if process.decide(request).await == [Status::Ok] {
                let list = done.entry(delivery.partition).or_default();
                if !list.contains(&number(delivery)) {
                    list.push(number(delivery));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    for partition in 0..2 {
        let mut list = done[&partition].clone();
        list.sort_unstable();
        let all: Vec<u32> = (0..40).filter(|n| n % 2 == partition).collect();
        assert_eq!(list, all);
    }
    process.nothing_comes().await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_id_of_another_hand_is_unknown() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    process.create(|new| new.name = "other".into()).await;
    let out = process.pull_all(1).await;
    let mut tampered = out[0].ack_id.clone();
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'B' } else { 'A' });
    let others = process.subscriptions.pull("other", None, WAIT).await.unwrap().deliveries;
    let ack = vec![tampered, others[0].ack_id.clone(), String::new(), "ä".into(), "A".repeat(10_000)];
    assert_eq!(process.decide(AckRequest { ack, ..AckRequest::default() }).await, [Status::Unknown; 5]);
    process.ack(&out).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_is_fixed_when_the_subscription_is_made() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|new| new.start = Some(StartSpec::Latest)).await;
    process.subscriptions.shutdown(world.clock.monotonic()).await;
    // Published while nobody reads; nothing was committed yet.
    world.publish(10..12, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(2).await), [10, 11].into());
    let offsets = BTreeMap::from([("orders".to_owned(), BTreeMap::from([("0".to_owned(), 9)]))]);
    next.create(|new| {
        new.name = "by-offset".into();
        new.start = Some(StartSpec::Offsets(offsets));
    })
    .await;
    let pulled = next.subscriptions.pull("by-offset", None, WAIT).await.unwrap().deliveries;
    assert_eq!(numbers(&pulled), [9, 10, 11].into());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_again_is_read_from_its_start() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    process.stop().await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    // More than there were, so that the old position lies within the new log.
    world.publish(100..120, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(20).await), (100..120).collect());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_again_under_a_running_subscription_is_read_from_its_start() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    world.publish(100..103, 1).await;
    assert_eq!(numbers(&process.pull_all(3).await), (100..103).collect());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_holds_also_after_the_engine_has_begun_an_epoch() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(1).await;
    process.ack(&all).await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    world.publish(100..101, 1).await;
    process.pull_all(1).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(world.process().await.subscriptions.count(), 0, "it came back with the next process");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_group_goes_on_from_its_offsets_and_an_epoch_begins_there() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let (group, partition) = (GroupId::new(NAME).unwrap(), TopicPartition::new(world.topic.clone(), 0));
    let mut foreign =
        world.memory.membership().join(&group, std::slice::from_ref(&world.topic)).await.unwrap();
    let ports::MembershipEvent::Assigned { generation, .. } = foreign.next().await.unwrap() else {
        panic!("it is alone");
    };
    let commit = OffsetCommit { partition: partition.clone(), generation, next: 6, metadata: "".into() };
    assert!(world.memory.offsets().commit(&group, vec![commit]).await[0].is_ok());
    foreign.leave().await.unwrap();
    let process = world.process().await;
    let refused = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    process.create(|new| new.adopt_group = true).await;
    let rest = process.pull_all(4).await;
    assert_eq!(numbers(&rest), (6..10).collect());
    process.ack(&rest).await;
    process.stop().await;
    world.process().await.nothing_comes().await;
    assert_eq!(world.committed(0).await, Some(10));
}

#[tokio::test(start_paused = true)]
async fn nearly_nothing_but_dead_letters_pauses_the_subscription_and_that_outlives_the_process() {
    let world = World::new(1).await;
    world.publish(0..20, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            let guard = NewStormGuard { ratio: Some(0.5), window: Some(4) };
            new.dead_letter.storm_guard = Some(Some(guard));
        })
        .await;
    let out = process.pull_all(4).await;
    assert_eq!(process.decide(rejection(&out)).await, [Status::Ok; 4]);
    process.nothing_comes().await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "dead-letter-storm"));
    process.stop().await;
    let next = world.process().await;
    next.nothing_comes().await;
    next.subscriptions.resume(NAME).await.unwrap();
    assert_eq!(next.pull_all(16).await.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn positions_that_the_log_forgot_go_on_from_the_mirror() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    process.stop().await;
    // As Kafka does to a group that was empty for a week.
    world.memory.offsets().delete(&GroupId::new(NAME).unwrap()).await.unwrap();
    world.publish(10..12, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(2).await), [10, 11].into());
}

#[tokio::test(start_paused = true)]
async fn what_retention_deleted_is_counted_and_shown_and_the_rest_comes() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    process.nothing_comes().await;
    process.subscriptions.shutdown(world.clock.monotonic()).await;
    world.publish(0..10, 1).await;
    world.memory.admin().trim(&world.topic, &[(0, 6)]).await.unwrap();
    let next = world.process().await;
    let rest = next.pull_all(4).await;
    assert_eq!(numbers(&rest), (6..10).collect());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_and_a_name_twice_are_refused() {
    let world = World::new(1).await;
    let process = world.process().await;
    let unknown = NewSubscription { topics: vec!["nope".into()], ..definition() };
    let error = process.subscriptions.create(unknown).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TopicNotFound);
    process.create(|_| {}).await;
    let twice = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(twice.code(), ErrorCode::AlreadyExists);
    let missing = process.subscriptions.get("nope").await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::SubscriptionNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_group_with_offsets_of_somebody_else_is_not_taken() {
    let world = World::new(1).await;
    let group = GroupId::new(NAME).unwrap();
    let mut member =
        world.memory.membership().join(&group, std::slice::from_ref(&world.topic)).await.unwrap();
    let ports::MembershipEvent::Assigned { generation, partitions } = member.next().await.unwrap() else {
        panic!("nothing was assigned");
    };
    let commit = OffsetCommit { partition: partitions[0].clone(), generation, next: 0, metadata: "".into() };
    world.memory.offsets().commit(&group, vec![commit]).await[0].as_ref().unwrap();
    member.leave().await.unwrap();
    let process = world.process().await;
    let error = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(world.committed(0).await.is_some(), "the foreign offsets were touched");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_leaves_no_offsets_and_its_name_begins_anew() {
    let world = World::new(1).await;
    world.publish(0..5, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(5).await;
    process.ack(&all).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(world.committed(0).await, None);
    assert_eq!(process.subscriptions.list().await.unwrap().len(), 0);
    process.create(|_| {}).await;
    assert_eq!(numbers(&process.pull_all(5).await), (0..5).collect());
    let late = process.decide(AckRequest { ack: ids(&all), ..AckRequest::default() }).await;
    assert_eq!(late, [Status::Unknown; 5], "an ackId of the deleted one decides nothing");
}

#[tokio::test(start_paused = true)]
async fn what_it_shows_is_what_there_is() {
    let world = World::new(2).await;
    world.publish(0..10, 2).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let out = process.pull_all(10).await;
    process.ack(&out[..3]).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.in_flight, view.members.len()), (State::Active, 7, 1));
    process.ack(&out[3..]).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.lag, view.in_flight), (0, 0));
    world.publish(10..14, 2).await;
    assert_eq!(process.subscriptions.get(NAME).await.unwrap().lag, 4);
}

/// A log that fails half of the time, clients that forget, release and acknowledge in any order, stops and
/// kills: every event is acknowledged in the end, and none comes after its acknowledgement was committed.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_comes_after_it_was_committed_under_random_faults() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(3).await;
        let faults =
            Faults { error_before: 0.3, error_after: 0.2, delay: 0.5, delay_max: Duration::from_millis(300) };
        let log = || Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), seed, faults));
        let mut process = world.process().await;
        let ordering = if seed % 2 == 0 { "none" } else { "partition" };
        process
            .create(|new| {
                new.ordering = Some(ordering.into());
                new.ack_timeout = Some("5s".into());
            })
            .await;
        process.stop().await;
        process = world.process_on(log()).await;
        let (mut acked, mut committed, mut acked_here) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut published = 0;
        let mut rounds = 0;
        while acked.len() < 300 {
            rounds += 1;
            assert!(rounds < 2_000, "only {} of 300 came (seed {seed})", acked.len());
            if published < 300 {
                world.publish(published..published + 30, 3).await;
                published += 30;
            }
            let mut deliveries = process.pull(rng.random_range(1..60)).await;
            for number in numbers(&deliveries) {
                assert!(!committed.contains(&number), "{number} was committed and came again (seed {seed})");
            }
            let mut request = AckRequest::default();
            while !deliveries.is_empty() {
                let delivery = deliveries.swap_remove(rng.random_range(0..deliveries.len()));
                let number = number(&delivery);
                match rng.random_range(0..10) {
                    0 => {}
                    1 => request.release.push(delivery.ack_id),
                    _ => {
                        let ack = AckRequest { ack: vec![delivery.ack_id], ..AckRequest::default() };
                        if process.decide(ack).await == [Status::Ok] {
                            acked.insert(number);
                            acked_here.insert(number);
                        }
                    }
                }
            }
            process.decide(request).await;
            match rng.random_range(0..12) {
                0 => {
                    process.stop().await;
                    committed.append(&mut acked_here);
                    process = world.process_on(log()).await;
                }
                1 => {
                    process.kill().await;
                    acked_here.clear();
                    process = world.process_on(log()).await;
                }
                _ => {}
            }
        }
        // What was acknowledged and not committed before a kill comes once more; from a log that works, as
        // nothing is to be seen within the wait.
        process.stop().await;
        process = world.process().await;
        loop {
            let rest = process.pull(1000).await;
            if rest.is_empty() {
                break;
            }
            process.decide(AckRequest { ack: ids(&rest), ..AckRequest::default() }).await;
        }
        process.stop().await;
        world.process().await.nothing_comes().await;
    }
}

/// Says what it is told to say, and counts what it is given.
#[derive(Debug)]
struct Handler {
    says: Outcome,
    calls: parking_lot::Mutex<Vec<u64>>,
}

#[async_trait]
impl EventHandler for Handler {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        self.calls.lock().extend(run.iter().map(|delivery| delivery.record.offset));
        run.iter().map(|_| self.says.clone()).collect()
    }
}

async fn handled(process: &Process, says: Outcome) -> Arc<Handler> {
    let handler = Arc::new(Handler { says, calls: parking_lot::Mutex::default() });
    process.subscriptions.handle(NAME, handler.clone(), HandlerOptions::default()).await.unwrap();
    handler
}

#[tokio::test(start_paused = true)]
async fn a_linked_handler_gets_everything_once_and_progress_is_kept() {
    let world = World::new(2).await;
    world.publish(0..100, 2).await;
    let process = world.process().await;
    process.create(|new| new.ordering = None).await;
    let handler = handled(&process, Outcome::Ack).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handler.calls.lock().len(), 100);
    process.stop().await;
    assert_eq!((world.committed(0).await, world.committed(1).await), (Some(50), Some(50)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_wants_nothing_more_pauses_its_subscription() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let handler = handled(&process, Outcome::Gone { failure: Failure::new("http-410", "it is gone") }).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "handler-gone"));
    assert!(handler.calls.lock().len() < 5, "it is not asked for ever: {:?}", handler.calls);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_cannot_be_reached_opens_the_circuit_and_counts_no_attempt() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|new| new.retry.max_retries = Some(0)).await;
    handled(&process, Outcome::NotReached { failure: Failure::new("connect", "refused") }).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::CircuitOpen, "circuit-open"));
    let handler = handled(&process, Outcome::Ack).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(*handler.calls.lock(), [0], "it is no dead letter, though nothing may be tried twice");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_of_claims_is_away_nothing_is_delivered_unless_it_is_said_so() {
    for (policy, comes) in [("pause", 0), ("process", 5)] {
        let mut world = World::new(1).await;
        let down = Faults { error_before: 1.0, ..Faults::default() };
        let store = FaultyIdempotencyStore::new(world.memory.idempotency(), world.clock.clone(), 1, down);
        world.claims = Arc::new(store.clone());
        world.publish(0..5, 1).await;
        let process = world.process().await;
        process.create(|new| new.dedup.on_store_failure = Some(policy.into())).await;
        let out = process.pull(10).await;
        assert_eq!(out.len(), comes, "{policy}");
        let view = process.subscriptions.get(NAME).await.unwrap();
        assert_eq!((view.state, view.causes[0].code), (State::Degraded, "dedup-store"));
        process.ack(&out).await;
        store.set(Faults::default());
        let rest = process.pull_all(5 - comes).await;
        assert!(rest.iter().all(|delivery| delivery.attempt == 1), "an outage counts no attempt");
        process.ack(&rest).await;
        process.nothing_comes().await;
    }
}

fn rejection(deliveries: &[PulledDelivery]) -> AckRequest {
    let item = |id: String| RejectItem { ack_id: id, reason: None };
    AckRequest { reject: ids(deliveries).into_iter().map(item).collect(), ..AckRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn with_dead_letters_off_a_rejection_is_answered_and_the_event_is_let_go() {
    for dedup in [false, true] {
        let world = World::new(1).await;
        world.publish(0..2, 1).await;
        let process = world.process().await;
        process
            .create(|new| {
                new.dead_letter.enabled = Some(false);
                new.dedup.enabled = Some(dedup);
            })
            .await;
        let out = process.pull_all(2).await;
        let mut request = rejection(&out[..1]);
        request.ack = ids(&out[1..]);
        assert_eq!(process.decide(request).await, [Status::Ok, Status::Ok]);
        process.nothing_comes().await;
        let dead = TopicName::new("mail.dlq").unwrap();
        assert_eq!(world.memory.admin().describe(&dead).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_topic_keeps_for_ever_also_where_topics_are_made_by_themselves() {
    let mut world = World::new(2).await;
    world.auto_create = true;
    world.publish(0..1, 2).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let out = process.pull_all(1).await;
    assert_eq!(process.decide(rejection(&out)).await, [Status::Ok]);
    let dead = world.memory.admin().describe(&TopicName::new("mail.dlq").unwrap()).await.unwrap().unwrap();
    assert_eq!((dead.config["retention.ms"].as_str(), dead.partitions.len()), ("-1", 2));
    let source = world.memory.admin().describe(&world.topic).await.unwrap().unwrap();
    let bytes = |config: &BTreeMap<String, String>| config["max.message.bytes"].parse::<usize>().unwrap();
    assert!(bytes(&dead.config) > bytes(&source.config), "it takes what its source takes, and the headers");
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_waits_is_answered_when_the_subscription_stops() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let waiting = process.pull(1);
    let stopping = async {
        tokio::task::yield_now().await;
        process.subscriptions.shutdown(process.clock.monotonic()).await;
    };
    let (came, ()) = tokio::join!(waiting, stopping);
    assert!(came.is_empty());
}

/// Fails these deliveries, for the policy's delay or one that is asked for.
async fn fail(process: &Process, deliveries: &[PulledDelivery], after: Option<Duration>) {
    let retry = |id| RetryItem { ack_id: id, after, reason: Some("it says no".into()) };
    let retry = ids(deliveries).into_iter().map(retry).collect();
    let statuses = process.decide(AckRequest { retry, ..AckRequest::default() }).await;
    assert!(statuses.iter().all(|status| *status == Status::Ok), "{statuses:?}");
}

fn by_topics(new: &mut NewSubscription) {
    new.retry.strategy = Some("topics".into());
    new.retry.initial_delay = Some("10s".into());
    new.retry.max_retries = Some(2);
}

impl World {
    async fn records_of(&self, topic: &str) -> Vec<StoredRecord> {
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), 0);
        let mut reader = self.memory.log().open(&partition, 0).await.unwrap();
        let limits = ReadLimits { records_max: 100, bytes_max: 1 << 20, wait_max: Duration::ZERO };
        reader.next(limits).await.unwrap().records
    }

    fn seconds(&self) -> u64 {
        self.clock.monotonic().0.as_secs()
    }
}

/// The point of retry topics: what fails gives its place up, so that the committed position moves on, and is
/// neither lost nor forgotten, nor ever early, over whatever ends of processes.
#[tokio::test(start_paused = true)]
async fn what_waits_in_a_retry_topic_is_done_at_its_place_and_comes_again_when_it_is_due() {
    let world = World::new(1).await;
    world.publish(0..5, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let all = process.pull_all(5).await;
    fail(&process, &all[1..3], None).await;
    process.ack(&all[..1]).await;
    process.ack(&all[3..]).await;
    let failed_at = world.seconds();
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(5), "nothing is left at its first place");
    assert_eq!(world.records_of("mail.retry.10s").await.len(), 2);

    let next = world.process().await;
    let again = next.pull_all(2).await;
    assert!(world.seconds() >= failed_at + 10, "early");
    assert!(world.seconds() <= failed_at + 11, "late");
    assert_eq!(numbers(&again), [1, 2].into());
    for delivery in &again {
        let place = (delivery.topic.as_str(), delivery.partition, delivery.record.offset);
        assert_eq!(place, ("orders", 0, u64::from(number(delivery))), "it says where it first lay");
        assert_eq!(delivery.attempt, 2);
        assert!(delivery.record.record.headers.is_empty(), "what it waited with is taken off");
    }
    fail(&next, &again[..1], None).await;
    next.ack(&again[1..]).await;
    let failed_at = world.seconds();
    let last = next.pull_all(1).await;
    assert!(world.seconds() >= failed_at + 20, "the second delay is twice the first");
    assert_eq!((number(&last[0]), last[0].attempt), (number(&again[0]), 3));
    fail(&next, &last, None).await;
    next.nothing_comes().await;
    let dead = world.records_of("mail.dlq").await;
    assert_eq!(dead.len(), 1);
    let header = |name: &str| {
        let header = dead[0].record.headers.iter().find(|header| header.name == name).unwrap();
        String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("es_dlq_topic"), "orders");
    assert_eq!(header("es_dlq_offset"), number(&last[0]).to_string());
    assert_eq!(header("es_dlq_attempts"), "3");
    assert_eq!(header("es_dlq_error_message"), "it says no");
    assert!(!dead[0].record.headers.iter().any(|header| header.name.starts_with("es_retry_")));
}

/// Equal delays share a topic, other delays are rounded up to the next one, and none is cut short.
#[tokio::test(start_paused = true)]
async fn a_delay_that_is_asked_for_is_never_cut_short_by_its_topic() {
    let world = World::new(1).await;
    world.publish(0..4, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let all = process.pull_all(4).await;
    let asked = [Some(12), Some(60), None, Some(0)].map(|s: Option<u64>| s.map(Duration::from_secs));
    for (delivery, after) in all.iter().zip(asked) {
        fail(&process, std::slice::from_ref(delivery), after).await;
    }
    let start = world.seconds();
    let mut came = Vec::new();
    for _ in 0..4 {
        let one = process.pull_all(1).await;
        came.push((number(&one[0]), world.seconds() - start));
        process.ack(&one).await;
    }
    assert_eq!(came, [(3, 0), (2, 10), (0, 20), (1, 60)]);
    assert_eq!(world.records_of("mail.retry.10s").await.len(), 1);
    assert_eq!(world.records_of("mail.retry.20s").await.len(), 2);
}

/// While an event cannot be kept in its retry topic it must stay where it is: done there, it would be lost.
#[tokio::test(start_paused = true)]
async fn a_retry_topic_that_cannot_be_written_keeps_the_event_where_it_is() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let log = Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), 1, Faults::default()));
    let process = world.process_on(log.clone()).await;
    process.create(by_topics).await;
    let all = process.pull_all(1).await;
    log.set(Faults { error_before: 1.0, ..Faults::default() });
    let retry = vec![RetryItem { ack_id: all[0].ack_id.clone(), after: None, reason: None }];
    let statuses = process.decide(AckRequest { retry, ..AckRequest::default() }).await;
    assert_eq!(statuses, [Status::Unavailable]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert!(view.causes.iter().any(|cause| cause.code == "retry-topic"), "{view:?}");
    assert_eq!(world.committed(0).await.unwrap_or_default(), 0);
    log.set(Faults::default());
    let again = process.pull_all(1).await;
    assert_eq!(again[0].attempt, 2);
    process.ack(&again).await;
    process.nothing_comes().await;
    assert_eq!(world.committed(0).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_takes_its_retry_topics_with_it() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let there = |topic: &'static str| {
        let (admin, topic) = (world.memory.admin(), TopicName::new(topic).unwrap());
        async move { admin.describe(&topic).await.unwrap().is_some() }
    };
    assert!(there("mail.retry.10s").await && there("mail.retry.20s").await);
    process.subscriptions.delete(NAME).await.unwrap();
    assert!(!there("mail.retry.10s").await && !there("mail.retry.20s").await);
}

fn as_defined(change: impl FnOnce(&mut NewSubscription)) -> NewSubscription {
    let mut new = definition();
    change(&mut new);
    new
}

/// Replacing a definition under load loses nothing and takes nothing from who is at work.
#[tokio::test(start_paused = true)]
async fn what_is_out_when_a_definition_is_replaced_may_be_decided_and_the_rest_comes_again() {
    let world = World::new(1).await;
    world.publish(0..6, 1).await;
    let process = world.process().await;
    process.create(|new| new.ack_timeout = Some("10s".into())).await;
    let out = process.pull_all(4).await;
    process.ack(&out[..1]).await;
    let new = as_defined(|new| new.ordering = Some("partition".into()));
    let view = process.subscriptions.replace(NAME, new, Some(0)).await.unwrap();
    assert_eq!(view.definition.revision, 1);
    assert!(view.causes.iter().any(|cause| cause.code == "changing"), "{view:?}");
    let began = world.seconds();
    process.ack(&out[1..2]).await;
    let rest = process.pull_all(4).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [2, 3, 4, 5], "in order, as it is now");
    assert!((10..12).contains(&(world.seconds() - began)), "they had their time, and no more");
    process.ack(&rest).await;
    process.nothing_comes().await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.lag), (State::Active, 0), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replacement_of_another_revision_or_name_is_refused() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let replace = async |new, revision| process.subscriptions.replace(NAME, new, revision).await;
    assert_eq!(replace(definition(), Some(1)).await.unwrap_err().code(), ErrorCode::Conflict);
    let other = as_defined(|new| new.name = "other".into());
    assert_eq!(replace(other, None).await.unwrap_err().fields()[0].field, "name");
    let unknown = as_defined(|new| new.topics = vec!["unknown".into()]);
    assert_eq!(replace(unknown, None).await.unwrap_err().code(), ErrorCode::TopicNotFound);
    assert_eq!(process.subscriptions.get(NAME).await.unwrap().definition.revision, 0);
}

/// A topic that leaves and comes again must not go on from where it was: that was another time's progress.
#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_to_a_subscription_begins_at_its_start_as_of_then() {
    let mut world = World::new(1).await;
    world.publish(0..3, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(3).await;
    process.ack(&all).await;
    let orders = std::mem::replace(&mut world.topic, TopicName::new("others").unwrap());
    world.create_topic(1).await;
    world.publish(10..13, 1).await;
    let others = as_defined(|new| (new.topics, new.start) = (vec!["others".into()], Some(StartSpec::Latest)));
    process.subscriptions.replace(NAME, others, None).await.unwrap();
    process.nothing_comes().await;
    world.publish(13..14, 1).await;
    assert_eq!(numbers(&process.pull_all(1).await), [13].into());
    let both = as_defined(|new| new.topics = vec!["others".into(), "orders".into()]);
    process.subscriptions.replace(NAME, both, None).await.unwrap();
    let came = numbers(&process.pull_all(4).await);
    assert_eq!(came, [0, 1, 2, 13].into(), "{orders} begins again at its start");
}

/// No event may overtake under an order that holds, so what waits in retry topics comes first.
#[tokio::test(start_paused = true)]
async fn retry_topics_are_emptied_before_an_order_holds_and_go_then() {
    let world = World::new(1).await;
    world.publish(0..2, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let all = process.pull_all(2).await;
    fail(&process, &all[..1], None).await;
    process.ack(&all[1..]).await;
    let ordered = as_defined(|new| new.ordering = Some("partition".into()));
    process.subscriptions.replace(NAME, ordered, None).await.unwrap();
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert!(view.causes.iter().any(|cause| cause.code == "emptying"), "{view:?}");
    let again = process.pull_all(1).await;
    assert_eq!((number(&again[0]), again[0].attempt), (0, 2));
    process.ack(&again).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.definition.emptying.len()), (State::Active, 0), "{view:?}");
    let topic = TopicName::new("mail.retry.10s").unwrap();
    assert!(world.memory.admin().describe(&topic).await.unwrap().is_none());
    world.publish(2..5, 1).await;
    let run = process.pull_all(3).await;
    fail(&process, &run[..1], Some(Duration::ZERO)).await;
    let again = process.pull_all(3).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_makes_changes_and_deletes_the_others_follow() {
    let world = World::new(2).await;
    let (one, other) = (world.replica().await, world.replica().await);
    one.create(|_| {}).await;
    let follows = || tokio::time::sleep(Duration::from_secs(2));
    follows().await;
    world.publish(0..20, 2).await;
    let mut came = numbers(&one.pull_all(10).await);
    came.extend(numbers(&other.pull_all(10).await));
    assert_eq!(came, (0..20).collect(), "each has its share");
    other.subscriptions.pause(NAME).await.unwrap();
    follows().await;
    assert_eq!(one.subscriptions.get(NAME).await.unwrap().state, State::Paused);
    one.subscriptions.resume(NAME).await.unwrap();
    one.subscriptions.replace(NAME, as_defined(|new| new.max_in_flight = Some(7)), None).await.unwrap();
    follows().await;
    let at_other = other.subscriptions.get(NAME).await.unwrap();
    assert_eq!((at_other.definition.max_in_flight, at_other.definition.paused.clone()), (7, None));
    other.subscriptions.delete(NAME).await.unwrap();
    follows().await;
    assert_eq!(one.subscriptions.get(NAME).await.unwrap_err().code(), ErrorCode::SubscriptionNotFound);
    one.create(|_| {}).await;
    follows().await;
    assert_eq!(other.subscriptions.get(NAME).await.unwrap().definition.revision, 0);
}

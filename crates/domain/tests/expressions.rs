//! What a subscription's expressions promise, over the reference model and paused time: what its filter does
//! not want counts as done without a delivery, and its key tells copies of an event.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use bytes::Bytes;
use domain::{
    Limits,
    delivery::Status,
    subscriptions::{
        AckRequest, DeliveryConfig, NewSubscription, PulledDelivery, RetryItem, State, SubscriptionPorts,
        SubscriptionView, Subscriptions, policy::NewDedup,
    },
    topics::{TopicDefaults, Topics},
};
use ports::{AppendRequest, Clock, GroupId, Header, Offset, Record, TopicName, TopicPartition, TopicSpec};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::clock::TestClock;

const NAME: &str = "mail";
const TOPIC: &str = "orders";

/// What lasts: the log and the stores.
struct World {
    memory: Memory,
    clock: Arc<dyn Clock>,
}

struct Process {
    subscriptions: Arc<Subscriptions>,
    clock: Arc<dyn Clock>,
}

/// An event to publish, with its id in the order of publishing unless it says another.
#[derive(Clone, Copy, Default)]
struct E {
    id: Option<&'static str>,
    kind: &'static str,
    data: &'static str,
}

fn of(kind: &'static str, data: &'static str) -> E {
    E { kind, data, ..E::default() }
}

impl World {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let name = TopicName::new(TOPIC).unwrap();
        let spec = TopicSpec { name, partitions: 1, replication_factor: None, config: BTreeMap::new() };
        memory.admin().create(spec).await.unwrap();
        Self { memory, clock }
    }

    async fn process(&self) -> Process {
        self.process_within(Limits::default()).await
    }

    async fn process_within(&self, limits: Limits) -> Process {
        let (memory, limits) = (&self.memory, Arc::new(limits));
        let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), self.clock.clone(), limits.clone(), defaults);
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            idempotency: memory.idempotency(),
            clock: self.clock.clone(),
        };
        let subscriptions = Subscriptions::new(ports, topics, limits, DeliveryConfig::default());
        subscriptions.start().await.unwrap();
        Process { subscriptions, clock: self.clock.clone() }
    }

    async fn publish(&self, events: &[E]) {
        let header = |name: &'static str, value: String| Header::new(name, Bytes::from(value));
        let record = |(number, event): (usize, &E)| Record {
            value: Some(Bytes::from_static(event.data.as_bytes())),
            headers: vec![
                header("ce_id", event.id.map_or_else(|| number.to_string(), ToOwned::to_owned)),
                header("ce_source", "/test".to_owned()),
                header("ce_type", event.kind.to_owned()),
            ],
            ..Record::default()
        };
        let request = AppendRequest {
            topic: TopicName::new(TOPIC).unwrap(),
            records: events.iter().enumerate().map(|event| (0, record(event))).collect(),
            timeout: Duration::from_secs(1),
        };
        for outcome in self.memory.log().append(request).await.outcomes {
            outcome.unwrap();
        }
    }

    /// The committed offset, once what is to be committed by now is.
    async fn committed(&self) -> Option<Offset> {
        self.clock.sleep_until(self.clock.monotonic() + Duration::from_secs(2)).await;
        let of = [TopicPartition::new(TopicName::new(TOPIC).unwrap(), 0)];
        let committed = self.memory.offsets().committed(&GroupId::new(NAME).unwrap(), &of).await.unwrap();
        committed[0].as_ref().map(|committed| committed.next)
    }
}

impl Process {
    async fn create(&self, filter: Option<&str>, key: Option<&str>) {
        self.create_with(filter, key, |_| {}).await;
    }

    async fn create_with(
        &self,
        filter: Option<&str>,
        key: Option<&str>,
        change: impl FnOnce(&mut NewSubscription),
    ) {
        let mut new = NewSubscription {
            name: NAME.into(),
            topics: vec![TOPIC.into()],
            ordering: Some("none".into()),
            filter: filter.map(ToOwned::to_owned),
            dedup: NewDedup { key: key.map(ToOwned::to_owned), ..NewDedup::default() },
            ..NewSubscription::default()
        };
        change(&mut new);
        self.subscriptions.create(new).await.unwrap();
    }

    /// What comes within a wait.
    async fn pull(&self) -> Vec<PulledDelivery> {
        let wait = Some(Duration::from_secs(10));
        self.subscriptions.pull(NAME, Some(1000), wait).await.unwrap().deliveries
    }

    async fn ack(&self, deliveries: &[PulledDelivery]) {
        let ack = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        let request = AckRequest { ack, ..AckRequest::default() };
        let statuses = self.subscriptions.acknowledge(NAME, request).await.unwrap();
        assert!(statuses.iter().all(|(_, status)| *status == Status::Ok), "{statuses:?}");
    }

    async fn view(&self) -> SubscriptionView {
        self.subscriptions.get(NAME).await.unwrap()
    }

    async fn stop(self) {
        self.subscriptions.shutdown(self.clock.monotonic()).await;
    }
}

fn offsets(deliveries: &[PulledDelivery]) -> Vec<Offset> {
    deliveries.iter().map(|delivery| delivery.record.offset).collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_does_not_want_is_done_without_a_delivery_and_the_prefix_moves() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(Some("type == 'a' && data.n > 1"), None).await;
    world.publish(&[of("b", ""), of("b", "no json"), of("b", "{}")]).await;
    assert_eq!(world.committed().await, Some(3), "nobody has to pull for it");
    world.publish(&[of("a", r#"{"n":1}"#), of("a", r#"{"n":2}"#), of("b", ""), of("a", r#"{"n":3}"#)]).await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [4, 6]);
    assert_eq!(world.committed().await, Some(4), "a commit passes nothing that is undecided");
    process.ack(&out).await;
    assert_eq!(world.committed().await, Some(7));
    let view = process.view().await;
    assert_eq!((view.filtered, view.filter_errors.count, view.lag), (5, 0, 0));
    assert_eq!(view.state, State::Active);
    process.stop().await;
    let next = world.process().await;
    assert!(next.pull().await.is_empty(), "nothing comes again");
    assert_eq!(next.view().await.filtered, 0, "nothing is passed over again");
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_over_beyond_an_undecided_event_is_kept_with_the_commit() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(Some("type == 'a'"), None).await;
    world.publish(&[of("a", ""), of("b", ""), of("b", ""), of("a", "")]).await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [0, 3]);
    process.ack(&out[1..]).await;
    process.stop().await;
    assert_eq!(world.committed().await, Some(0));
    let next = world.process().await;
    assert_eq!(offsets(&next.pull().await), Vec::<Offset>::new(), "the one that is out is claimed still");
    let view = next.view().await;
    assert_eq!((view.filtered, view.lag), (0, 4), "what was passed over is not read a second time");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_which_the_filter_cannot_tell_is_no_match_counted_and_shown() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(Some("data.total > 10"), None).await;
    world
        .publish(&[of("a", r#"{"total":11}"#), of("a", "{}"), of("a", "no json"), of("a", r#"{"total":9}"#)])
        .await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [0]);
    process.ack(&out).await;
    assert_eq!(world.committed().await, Some(4));
    let view = process.view().await;
    assert_eq!((view.filtered, view.filter_errors.count), (3, 2));
    let last = view.filter_errors.last.unwrap();
    assert_eq!((last.topic.as_str(), last.partition, last.offset), (TOPIC, 0, 2));
    assert!(last.reason.starts_with("data is not JSON: "), "{}", last.reason);
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_costs_too_much_for_an_event_is_no_match() {
    let world = World::new().await;
    let mut limits = Limits::default();
    limits.expressions.cost_max = 200;
    let process = world.process_within(limits).await;
    process.create(Some("data.all(x, x > 0)"), None).await;
    let many: &'static str = Box::leak(format!("[{}1]", "1,".repeat(100)).into_boxed_str());
    world.publish(&[of("a", many), of("a", "[1,2]")]).await;
    assert_eq!(offsets(&process.pull().await), [1]);
    let last = process.view().await.filter_errors.last.unwrap();
    assert_eq!((last.offset, last.reason.as_str()), (0, "evaluating costs more than 200"));
}

#[tokio::test(start_paused = true)]
async fn expressions_that_the_limits_do_not_allow_any_more_keep_everything_back() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(Some("type == 'a' || type == 'c'"), None).await;
    assert!(process.pull().await.is_empty());
    process.stop().await;
    world.publish(&[of("a", ""), of("b", "")]).await;
    let mut limits = Limits::default();
    limits.expressions.text_bytes_max = 16;
    let next = world.process_within(limits).await;
    assert!(next.pull().await.is_empty(), "neither what it wants nor what it does not want");
    let view = next.view().await;
    assert_eq!((view.state, view.causes[0].code, view.lag), (State::Degraded, "expression-invalid", 2));
    assert!(view.causes[0].detail.contains("`filter`"), "{}", view.causes[0].detail);
    next.stop().await;
    assert_eq!(offsets(&world.process().await.pull().await), [0], "nothing was passed over meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_replaced_holds_for_what_is_not_done() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(Some("type == 'a'"), None).await;
    world.publish(&[of("a", ""), of("b", "")]).await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [0]);
    process.ack(&out).await;
    let replace = async |filter: &str| {
        let new = NewSubscription {
            topics: vec![TOPIC.into()],
            filter: Some(filter.into()),
            ..NewSubscription::default()
        };
        process.subscriptions.replace(NAME, new, None).await
    };
    assert_eq!(replace("typ == 'b'").await.unwrap_err().fields()[0].field, "filter");
    assert_eq!(replace("type == 'b'").await.unwrap().definition.filter.as_deref(), Some("type == 'b'"));
    world.publish(&[of("a", ""), of("b", "")]).await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [3], "what was passed over is done");
    process.ack(&out).await;
    assert_eq!(world.committed().await, Some(4));
}

/// Where it waits it has another topic and offset: of these neither the filter nor the key may speak.
#[tokio::test(start_paused = true)]
async fn what_waits_in_a_retry_topic_is_wanted_still_and_keeps_its_key() {
    let world = World::new().await;
    let process = world.process().await;
    let by_topics = |new: &mut NewSubscription| {
        new.retry.strategy = Some("topics".into());
        new.retry.initial_delay = Some("2s".into());
    };
    let (filter, key) = ("topic == 'orders' && offset >= 2", "topic + string(offset / 2)");
    process.create_with(Some(filter), Some(key), by_topics).await;
    world.publish(&[of("a", ""), of("a", ""), of("a", ""), of("a", "")]).await;
    let out = process.pull().await;
    assert_eq!(offsets(&out), [2], "the next one has the same key");
    let retry = RetryItem { ack_id: out[0].ack_id.clone(), ..RetryItem::default() };
    let request = AckRequest { retry: vec![retry], ..AckRequest::default() };
    assert_eq!(process.subscriptions.acknowledge(NAME, request).await.unwrap()[0].1, Status::Ok);
    let next = process.pull().await;
    assert_eq!(offsets(&next), [3], "its key is free while the other one waits");
    process.ack(&next).await;
    assert!(process.pull().await.is_empty(), "the one that waited is a copy of what is done");
    let view = process.view().await;
    assert_eq!((view.filtered, view.filter_errors.count, view.dedup_key_errors.count), (2, 0, 0));
    assert_eq!(view.lag, 0);
}

#[tokio::test(start_paused = true)]
async fn a_filter_does_not_look_at_what_waits_to_be_tried_again() {
    let world = World::new().await;
    let process = world.process().await;
    let by_topics = |new: &mut NewSubscription| {
        new.retry.strategy = Some("topics".into());
        new.retry.initial_delay = Some("2s".into());
    };
    process.create_with(Some("topic == 'orders' && offset == 1"), None, by_topics).await;
    world.publish(&[of("a", ""), of("a", "")]).await;
    let out = process.pull().await;
    let retry = RetryItem { ack_id: out[0].ack_id.clone(), ..RetryItem::default() };
    let request = AckRequest { retry: vec![retry], ..AckRequest::default() };
    assert_eq!(process.subscriptions.acknowledge(NAME, request).await.unwrap()[0].1, Status::Ok);
    let again = process.pull().await;
    assert_eq!((offsets(&again), again[0].attempt), (vec![1], 2), "it comes again");
    process.ack(&again).await;
}

#[tokio::test(start_paused = true)]
async fn events_of_one_key_are_handled_once_whatever_their_ids() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(None, Some("data.order")).await;
    let (seven, eight) = (r#"{"order":7}"#, r#"{"order":8}"#);
    world.publish(&[of("a", seven), of("a", eight), of("b", seven)]).await;
    let mut seen = Vec::new();
    loop {
        let out = process.pull().await;
        if out.is_empty() {
            break;
        }
        process.ack(&out).await;
        seen.extend(offsets(&out));
    }
    assert_eq!(seen, [0, 1]);
    assert_eq!(world.committed().await, Some(3), "the copy is done with the first one");
    process.stop().await;
    let next = world.process().await;
    world.publish(&[of("c", eight), of("c", r#"{"order":"7"}"#), of("c", r#"{"order":9}"#)]).await;
    let out = next.pull().await;
    assert_eq!(offsets(&out), [5], "a number and its text are one key, also after a restart");
    next.ack(&out).await;
    assert_eq!(next.view().await.dedup_key_errors.count, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_key_fails_has_its_source_and_id_which_is_counted_and_shown() {
    let world = World::new().await;
    let process = world.process().await;
    process.create(None, Some("data.order")).await;
    let with = |id, data| E { id: Some(id), kind: "a", data };
    world.publish(&[with("x", "{}"), with("y", "{}"), with("x", "no json")]).await;
    let mut seen = Vec::new();
    loop {
        let out = process.pull().await;
        if out.is_empty() {
            break;
        }
        process.ack(&out).await;
        seen.extend(offsets(&out));
    }
    assert_eq!(seen, [0, 1], "two of one source and id are one event");
    let view = process.view().await;
    assert!(view.dedup_key_errors.count >= 3, "{view:?}");
    assert!(view.dedup_key_errors.last.is_some());
    assert_eq!(view.state, State::Active);
    assert_eq!(world.committed().await, Some(3));
}

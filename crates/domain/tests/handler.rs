//! What a linked handler over a decoded type can rely on, over the reference model and paused time.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use bytes::Bytes;
use domain::{
    Event, Limits, dead_letter,
    handler::{self, Delivered, Handler, HandlerError, Json, RunHandler},
    publish::{PublishConfig, PublishContext, Publisher},
    subscriptions::{
        DeliveryConfig, HandlerCounts, HandlerOptions, NewSubscription, State, SubscriptionPorts,
        Subscriptions,
    },
    topics::{NewTopic, TopicDefaults, Topics},
};
use parking_lot::Mutex;
use ports::{Clock, EventHandler, Position, ReadLimits, Record, TopicName, TopicPartition};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::clock::TestClock;
use tokio::sync::Notify;

const NAME: &str = "billing";

struct World {
    memory: Memory,
    clock: Arc<dyn Clock>,
    publisher: Publisher,
    subscriptions: Arc<Subscriptions>,
}

impl World {
    /// One partition, and a subscription whose failed events come again twice.
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let world = Self::process(Memory::new(clock.clone()), clock).await;
        let mut new = NewSubscription {
            name: NAME.into(),
            topics: vec!["orders".into()],
            ..NewSubscription::default()
        };
        new.retry.max_retries = Some(2);
        new.retry.initial_delay = Some("1s".into());
        new.dead_letter.storm_guard = Some(None);
        world.subscriptions.create(new).await.unwrap();
        world
    }

    /// Another process on what the former left.
    async fn next_process(self) -> Self {
        Self::process(self.memory, self.clock).await
    }

    async fn process(memory: Memory, clock: Arc<dyn Clock>) -> Self {
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
        let new = NewTopic { name: "orders".into(), partitions: Some(1), ..NewTopic::default() };
        // The next process finds it there.
        let _ = topics.create(new).await;
        let config = PublishConfig::default();
        let publisher = Publisher::new(memory.log(), topics.clone(), clock.clone(), limits.clone(), config);
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            idempotency: memory.idempotency(),
            clock: clock.clone(),
        };
        let subscriptions = Subscriptions::new(ports, topics, limits, DeliveryConfig::default());
        subscriptions.start().await.unwrap();
        Self { memory, clock, publisher, subscriptions }
    }

    /// Publishes a value under a key each.
    async fn publish(&self, events: &[(&str, &str)]) {
        let event = |(key, value): &(&str, &str)| Event {
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            data: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Event::default()
        };
        let context = PublishContext {
            principal: "anonymous".into(),
            source: "/shop".into(),
            correlation_id: None,
            traceparent: None,
            tracestate: None,
        };
        let items = events.iter().map(|of| Ok(event(of))).collect();
        for receipt in self.publisher.publish(Some("orders"), items, &context).await.unwrap() {
            receipt.unwrap();
        }
    }

    /// Links a handler, and lets time pass in which everything that is published comes to its end.
    async fn handle(&self, handler: Arc<dyn EventHandler>, whole_runs: bool) -> HandlerCounts {
        let options = HandlerOptions { whole_runs, ..HandlerOptions::default() };
        self.subscriptions.handle(NAME, handler, options).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.subscriptions.handler_counts(NAME).unwrap()
    }

    async fn dead_letters(&self) -> Vec<Record> {
        let topic = TopicName::new("billing.dlq").unwrap();
        let log = self.memory.log();
        let Ok(end) = log.locate(&topic, &[(0, Position::Latest)]).await else { return Vec::new() };
        let mut reader = log.open(&TopicPartition::new(topic, 0), 0).await.unwrap();
        let mut all = Vec::new();
        while all.len() < end[0] as usize {
            let limits = ReadLimits { records_max: 100, bytes_max: usize::MAX, wait_max: Duration::ZERO };
            all.extend(reader.next(limits).await.unwrap().records.into_iter().map(|stored| stored.record));
        }
        all
    }
}

fn header(record: &Record, name: &str) -> String {
    let header = record.headers.iter().find(|header| *header.name == *name).unwrap();
    String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
}

#[derive(Clone, Debug, Deserialize)]
struct Order {
    total: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("the total is out of bounds")]
struct OutOfBounds(#[source] std::num::TryFromIntError);

/// Notes what it is given, and fails as the total says.
#[derive(Default)]
struct Billing {
    seen: Mutex<Vec<(u32, u32)>>,
    /// What a total of 4 waits for.
    go_on: Notify,
}

impl Handler for Billing {
    type Event = Order;

    async fn handle(&self, event: Delivered<Order>) -> Result<(), HandlerError> {
        self.seen.lock().push((event.data.total, event.attempt));
        match event.data.total {
            1 => return Err(HandlerError::reject("no such customer").with_kind("no-customer")),
            2 => panic!("two is too much"),
            3 => return Err(HandlerError::stop("the ledger is closed")),
            4 => self.go_on.notified().await,
            total => drop(u8::try_from(total).map_err(OutOfBounds)?),
        }
        Ok(())
    }
}

/// What a handler has seen: the totals with their attempts.
async fn seen(world: &World) -> (Vec<(u32, u32)>, HandlerCounts) {
    let billing = Arc::new(Billing::default());
    let counts = world.handle(handler::each(Json, billing.clone()), false).await;
    let seen = billing.seen.lock().clone();
    (seen, counts)
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_given_what_was_decoded_with_its_attributes() {
    type Seen = (String, Option<Bytes>, u64, u32);
    struct Look(Mutex<Vec<Seen>>);
    impl Handler for Look {
        type Event = Order;
        async fn handle(&self, event: Delivered<Order>) -> Result<(), HandlerError> {
            let source = event.event().source.unwrap_or_default();
            assert_eq!(event.header("ce_source"), Some(source.as_bytes()));
            self.0.lock().push((source.to_string(), event.key().cloned(), event.offset(), event.data.total));
            Ok(())
        }
    }
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 12}"#)]).await;
    let look = Arc::new(Look(Mutex::default()));
    world.handle(handler::each(Json, look.clone()), false).await;
    assert_eq!(*look.0.lock(), [("/shop".to_owned(), Some(Bytes::from_static(b"a")), 0, 12)]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_decoded_is_a_dead_letter_at_once_and_never_reaches_the_handler() {
    let world = World::new().await;
    let broken = "{\"total\": \"twelve\"}\u{0}";
    world.publish(&[("a", r#"{"total": 10}"#), ("a", broken), ("a", r#"{"total": 11}"#)]).await;
    let (seen, counts) = seen(&world).await;
    assert_eq!(seen, [(10, 1), (11, 1)], "what is behind it goes on");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(broken.as_bytes()));
    assert_eq!(header(&letters[0], dead_letter::header::ERROR_KIND), "undecodable");
    assert_eq!(header(&letters[0], dead_letter::header::ATTEMPTS), "1");
    let message = header(&letters[0], dead_letter::header::ERROR_MESSAGE);
    assert!(message.contains("expected u32") && message.contains("line 1"), "{message}");
    assert_eq!((counts.acknowledged, counts.rejected, counts.undecodable), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_again_and_ends_as_a_dead_letter_with_its_causes() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 300}"#), ("a", r#"{"total": 10}"#)]).await;
    let (seen, counts) = seen(&world).await;
    assert_eq!(seen, [(300, 1), (300, 2), (300, 3), (10, 1)], "its key waits for it");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], dead_letter::header::ERROR_KIND), "OutOfBounds");
    assert_eq!(header(&letters[0], dead_letter::header::ERROR_MESSAGE), "the total is out of bounds");
    assert!(header(&letters[0], dead_letter::header::ERROR_CHAIN).contains("out of range"));
    assert_eq!((counts.calls, counts.acknowledged, counts.retried), (4, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_not_tried_again() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 1}"#), ("a", r#"{"total": 10}"#)]).await;
    assert_eq!(seen(&world).await.0, [(1, 1), (10, 1)]);
    assert_eq!(header(&world.dead_letters().await[0], dead_letter::header::ERROR_KIND), "no-customer");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_event_alone() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 2}"#), ("b", r#"{"total": 10}"#)]).await;
    let (seen, counts) = seen(&world).await;
    let of = |total| seen.iter().filter(|(of, _)| *of == total).count();
    assert_eq!((of(2), of(10)), (3, 1));
    let letters = world.dead_letters().await;
    assert_eq!(header(&letters[0], dead_letter::header::ERROR_KIND), "panic");
    assert!(header(&letters[0], dead_letter::header::ERROR_MESSAGE).contains("two is too much"));
    assert_eq!((counts.retried, counts.outages), (3, 0));
    let view = world.subscriptions.get(NAME).await.unwrap();
    assert_eq!(view.state, State::Active, "{:?}", view.causes);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_pauses_its_subscription_and_no_attempt_counts() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 3}"#)]).await;
    let (seen, _) = seen(&world).await;
    assert!(!seen.is_empty() && seen.iter().all(|(_, attempt)| *attempt == 1), "{seen:?}");
    let view = world.subscriptions.get(NAME).await.unwrap();
    assert_eq!(view.state, State::Paused);
    assert!(view.causes[0].detail.contains("the ledger is closed"), "{:?}", view.causes);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_a_handler_is_at_and_keeps_that_it_is_done() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 4}"#)]).await;
    let billing = Arc::new(Billing::default());
    world
        .subscriptions
        .handle(NAME, handler::each(Json, billing.clone()), HandlerOptions::default())
        .await
        .unwrap();
    while billing.seen.lock().is_empty() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stopping = {
        let (subscriptions, deadline) =
            (world.subscriptions.clone(), world.clock.monotonic() + Duration::from_secs(20));
        tokio::spawn(async move { subscriptions.shutdown(deadline).await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!stopping.is_finished(), "the handler is at it still");
    billing.go_on.notify_one();
    stopping.await.unwrap();
    let of = [TopicPartition::new(TopicName::new("orders").unwrap(), 0)];
    let committed = world.memory.offsets().committed(&ports::GroupId::new(NAME).unwrap(), &of).await.unwrap();
    assert_eq!(committed[0].as_ref().map(|of| of.next), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_cuts_off_comes_again_at_once_and_no_attempt_counts() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 4}"#), ("a", r#"{"total": 10}"#)]).await;
    let first = Arc::new(Billing::default());
    let handler = handler::each(Json, first.clone());
    world.subscriptions.handle(NAME, handler, HandlerOptions::default()).await.unwrap();
    while first.seen.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begin = world.clock.monotonic();
    world.subscriptions.shutdown(begin + Duration::from_secs(2)).await;
    assert!(world.clock.monotonic().since(begin) < Duration::from_secs(3), "the stop does not wait for more");

    let world = world.next_process().await;
    let second = Arc::new(Billing::default());
    second.go_on.notify_one();
    let handler = handler::each(Json, second.clone());
    world.subscriptions.handle(NAME, handler, HandlerOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*second.seen.lock(), [(4, 1), (10, 1)], "its claim is not waited for");
    assert_eq!(*first.seen.lock(), [(4, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_former_handler_was_at_goes_to_the_next_at_once() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 4}"#)]).await;
    let (first, second) = (Arc::new(Billing::default()), Arc::new(Billing::default()));
    second.go_on.notify_one();
    for (handler, patience) in [(&first, 1), (&second, 5)] {
        let handler = handler::each(Json, handler.clone());
        world.subscriptions.handle(NAME, handler, HandlerOptions::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(patience)).await;
    }
    assert_eq!((&*first.seen.lock(), &*second.seen.lock()), (&vec![(4, 1)], &vec![(4, 1)]));
}

/// Handles runs: answers for what it is told to, and fails totals of 300 on their first attempt.
struct InRuns {
    seen: Mutex<Vec<Vec<(u32, u32)>>>,
    /// How many answers it gives at most.
    answers_max: usize,
}

impl RunHandler for InRuns {
    type Event = Order;

    async fn handle_run(&self, run: Vec<Delivered<Order>>) -> Vec<Result<(), HandlerError>> {
        self.seen.lock().push(run.iter().map(|event| (event.data.total, event.attempt)).collect());
        let fails = |event: &Delivered<Order>| event.data.total == 300 && event.attempt == 1;
        let answer = |event| if fails(event) { Err(HandlerError::retry("not yet")) } else { Ok(()) };
        run.iter().map(answer).take(self.answers_max).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_handled_together_without_what_cannot_be_decoded() {
    let world = World::new().await;
    let of_a = ["10", "11", "x", "300", "12"].map(|total| format!("{{\"total\": {total}}}"));
    let events: Vec<_> = of_a.iter().map(|value| ("a", value.as_str())).collect();
    world.publish(&events).await;
    let handler = Arc::new(InRuns { seen: Mutex::default(), answers_max: usize::MAX });
    let counts = world.handle(handler::runs(Json, handler.clone()), true).await;
    let seen = handler.seen.lock().clone();
    assert_eq!(seen[0], [(10, 1), (11, 1), (300, 1), (12, 1)]);
    let again: Vec<_> = seen[1..].concat();
    assert_eq!(again, [(300, 2), (12, 1)], "the failed one and what is behind it come again, in order");
    assert_eq!((counts.acknowledged, counts.undecodable, counts.retried), (4, 1, 1));
    assert_eq!(world.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_of_runs_does_not_answer_for_is_not_acknowledged() {
    let world = World::new().await;
    world.publish(&[("a", r#"{"total": 10}"#), ("a", r#"{"total": 11}"#)]).await;
    let handler = Arc::new(InRuns { seen: Mutex::default(), answers_max: 1 });
    world.handle(handler::runs(Json, handler.clone()), true).await;
    let seen = handler.seen.lock().concat();
    let mut attempts = BTreeMap::new();
    seen.iter().for_each(|(total, attempt)| {
        attempts.insert(*total, *attempt);
    });
    assert_eq!(
        attempts,
        BTreeMap::from([(10, 1), (11, 2)]),
        "it came again and was then the first of its run"
    );
}

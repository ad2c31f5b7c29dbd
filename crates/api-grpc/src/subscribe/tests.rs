//! What takes time, on a clock that stands still until everything waits.

use super::*;
use crate::proto::{Delivery, SubscribeResult, subscribe_request::Message as Said};
use adapters_embedded::memory::Memory;
use domain::{
    Event, Limits,
    publish::{PublishConfig, Publisher},
    subscriptions::{DeliveryConfig, NewSubscription, SubscriptionPorts},
    topics::{NewTopic, TopicDefaults, Topics},
};
use testkit::clock::TestClock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt;

const NAME: &str = "mail";

/// A subscription whose deliveries lapse after ten seconds, and a publisher for it.
async fn service() -> (Context, Publisher) {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
    let memory = Memory::new(clock.clone());
    let limits = Arc::new(Limits::default());
    let defaults = TopicDefaults { auto_create: true, partitions: 3, replication_factor: None };
    let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
    let publisher =
        Publisher::new(memory.log(), topics.clone(), clock.clone(), limits.clone(), PublishConfig::default());
    let ports = SubscriptionPorts {
        log: memory.log(),
        membership: memory.membership(),
        offsets: memory.offsets(),
        jobs: memory.jobs(),
        idempotency: memory.idempotency(),
        clock: clock.clone(),
    };
    let subscriptions = Subscriptions::new(ports, topics.clone(), limits.clone(), DeliveryConfig::default());
    subscriptions.start().await.unwrap();
    topics.create(NewTopic { name: "orders".into(), ..NewTopic::default() }).await.unwrap();
    let new = NewSubscription {
        name: NAME.into(),
        topics: vec!["orders".into()],
        ordering: Some("none".into()),
        ack_timeout: Some("10s".into()),
        ..NewSubscription::default()
    };
    subscriptions.create(new).await.unwrap();
    let context = Context {
        subscriptions,
        clock,
        decisions_max: limits.batch_events_max,
        draining: CancellationToken::new(),
        stop: CancellationToken::new(),
        drain_within: Duration::from_secs(5),
    };
    (context, publisher)
}

/// The same with a number of events.
async fn context(events: usize) -> Context {
    let (context, publisher) = service().await;
    publish(&publisher, events).await;
    context
}

async fn publish(publisher: &Publisher, events: usize) {
    let items: Vec<_> = (0..events).map(|_| Ok(Event::default())).collect();
    if !items.is_empty() {
        let context = crate::convert::context(&tonic::metadata::MetadataMap::new());
        publisher.publish(Some("orders"), items, &context).await.unwrap();
    }
}

struct Client {
    send: mpsc::Sender<Result<SubscribeRequest, Status>>,
    answers: BoxStream<'static, Answer>,
}

impl Client {
    fn open(context: &Context) -> Self {
        let (send, messages) = mpsc::channel(16);
        Self { send, answers: start(context.clone(), ReceiverStream::new(messages)) }
    }

    async fn start(context: &Context, credits: u32) -> Self {
        let client = Self::open(context);
        let subscription = NAME.to_owned();
        client.say(Said::Start(SubscribeStart { subscription, credits, release_on_close: false })).await;
        client
    }

    async fn say(&self, said: Said) {
        self.send.send(Ok(SubscribeRequest { message: Some(said) })).await.unwrap();
    }

    async fn message(&mut self) -> Result<Message, Status> {
        self.answers.next().await.expect("an end has a status").map(|response| response.message.unwrap())
    }

    async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.message().await.unwrap() {
                Message::Deliveries(deliveries) => all.extend(deliveries.deliveries),
                other => panic!("no deliveries: {other:?}"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    async fn result(&mut self) -> SubscribeResult {
        match self.message().await.unwrap() {
            Message::Results(mut results) => results.results.remove(0),
            other => panic!("no result: {other:?}"),
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_not_waited_for_without_end() {
    let context = context(0).await;
    let mut client = Client::open(&context);
    let began = context.clock.monotonic();
    let status = client.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "start");
    assert_eq!(context.clock.monotonic().since(began), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_lapses_gives_its_credit_back_and_comes_again() {
    let context = context(2).await;
    let mut client = Client::start(&context, 2).await;
    let began = context.clock.monotonic();
    let out = client.deliveries(2).await;
    let again = client.deliveries(2).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 2), "{again:?}");
    let took = context.clock.monotonic().since(began);
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&took), "{took:?}");
    let ids = |all: &[Delivery]| all.iter().map(|delivery| delivery.ack_id.clone()).collect::<Vec<_>>();
    assert!(ids(&again).iter().all(|id| !ids(&out).contains(id)));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_extended_keeps_its_credit_as_long() {
    let context = context(2).await;
    let mut client = Client::start(&context, 1).await;
    let began = context.clock.monotonic();
    let out = client.deliveries(1).await;
    let by = Some(prost_types::Duration { seconds: 40, nanos: 0 });
    let extend = vec![crate::proto::Extend { ack_id: out[0].ack_id.clone(), by }];
    client.say(Said::Decisions(SubscribeDecisions { extend, ..SubscribeDecisions::default() })).await;
    client.result().await;
    client.deliveries(1).await;
    let took = context.clock.monotonic().since(began);
    assert!((Duration::from_secs(40)..Duration::from_secs(41)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_longer_than_a_pull_does() {
    let (context, publisher) = service().await;
    let mut client = Client::start(&context, 1).await;
    let began = context.clock.monotonic();
    context.clock.sleep_until(began + 3 * PULL_WAIT).await;
    publish(&publisher, 1).await;
    client.deliveries(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_decides_nothing_is_ended_before_the_service_is_out_of_time() {
    let context = context(1).await;
    let mut client = Client::start(&context, 1).await;
    client.deliveries(1).await;
    context.stop.cancel();
    let began = context.clock.monotonic();
    assert!(matches!(client.message().await.unwrap(), Message::Draining(_)));
    let ended = client.message().await.unwrap_err();
    assert_eq!(reason(&ended), "unavailable");
    // Before the delivery lapses, too.
    let took = context.clock.monotonic().since(began);
    assert!((Duration::from_secs(4)..context.drain_within).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_stops_ends_its_streams_after_a_moment_and_not_in_a_busy_loop() {
    let context = context(0).await;
    let mut client = Client::start(&context, 1).await;
    client.say(Said::Decisions(SubscribeDecisions::default())).await;
    client.result().await;
    let now = context.clock.monotonic();
    context.subscriptions.shutdown(now).await;
    let ended = client.message().await.unwrap_err();
    assert_eq!(reason(&ended), "unavailable");
    let took = context.clock.monotonic().since(now);
    assert!((Duration::from_secs(3)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

//! What the front promises, by a real client over a real connection; the log is the reference model.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use api_grpc::{
    GrpcConfig, Services,
    proto::{
        self, AcknowledgeRequest, CreateSubscriptionRequest, CreateTopicRequest, Event, Extend,
        GetTopicRequest, ListTopicsRequest, PublishBatchRequest, PublishRequest, PublishStreamRequest,
        PullRequest, PurgeTopicRequest, publish_result::Outcome, publisher_client::PublisherClient,
        subscriber_client::SubscriberClient, subscriptions_client::SubscriptionsClient,
        topics_client::TopicsClient,
    },
};
use domain::{
    Limits,
    publish::{PublishConfig, Publisher},
    subscriptions::{DeliveryConfig, SubscriptionPorts, Subscriptions},
    topics::{TopicDefaults, Topics},
};
use ports::Clock;
use std::{collections::BTreeSet, sync::Arc};
use testkit::clock::SystemLikeClock;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

struct Front {
    channel: Channel,
    serving: watch::Sender<bool>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

const TOPIC: &str = "orders";

impl Front {
    async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemLikeClock::new());
        let memory = Memory::new(clock.clone());
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
        let publisher = Publisher::new(
            memory.log(),
            topics.clone(),
            clock.clone(),
            limits.clone(),
            PublishConfig::default(),
        );
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            clock,
        };
        let subscriptions =
            Subscriptions::new(ports, topics.clone(), limits.clone(), DeliveryConfig::default());
        subscriptions.start().await.unwrap();
        let serving = watch::Sender::new(true);
        let services = Services {
            publisher: Arc::new(publisher),
            topics,
            subscriptions,
            limits,
            serving: serving.subscribe(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(api_grpc::serve(listener, services, GrpcConfig::default(), stop.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let front = Self { channel, serving, stop, task };
        let create =
            CreateTopicRequest { name: TOPIC.into(), partitions: Some(3), ..CreateTopicRequest::default() };
        front.topics().create_topic(create).await.unwrap();
        front
    }

    fn publisher(&self) -> PublisherClient<Channel> {
        PublisherClient::new(self.channel.clone()).max_encoding_message_size(64 << 20)
    }

    fn topics(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone())
    }

    fn subscriber(&self) -> SubscriberClient<Channel> {
        SubscriberClient::new(self.channel.clone())
    }

    async fn subscribe(&self, name: &str) {
        let create = CreateSubscriptionRequest {
            name: name.into(),
            topics: vec![TOPIC.into()],
            ordering: Some("none".into()),
            ..CreateSubscriptionRequest::default()
        };
        SubscriptionsClient::new(self.channel.clone()).create_subscription(create).await.unwrap();
    }
}

fn event(number: u64) -> Event {
    Event {
        key: Some(format!("k{}", number % 7).into()),
        data: Some(number.to_be_bytes().to_vec().into()),
        ..Event::default()
    }
}

fn number(event: &Event) -> u64 {
    u64::from_be_bytes(event.data.as_deref().unwrap().try_into().unwrap())
}

fn bad(number: u64) -> Event {
    Event { partition: Some(99), ..event(number) }
}

async fn pull_all(front: &Front, name: &str, count: usize) -> Vec<proto::Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let wait = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let request = PullRequest { subscription: name.into(), max: Some(1000), wait };
        let pulled = front.subscriber().pull(request).await.unwrap().into_inner().deliveries;
        assert!(!pulled.is_empty(), "only {} of {count} came", all.len());
        all.extend(pulled);
    }
    all
}

#[tokio::test]
async fn what_is_published_is_pulled_and_done_when_acknowledged() {
    let front = Front::start().await;
    front.subscribe("mail").await;
    let request = PublishRequest { topic: TOPIC.into(), event: Some(event(1)) };
    let receipt = front.publisher().publish(request).await.unwrap().into_inner();
    assert_eq!((receipt.topic.as_str(), receipt.offset, receipt.duplicate), (TOPIC, 0, false));
    let batch = PublishBatchRequest { topic: TOPIC.into(), events: (2..100).map(event).collect() };
    let answer = front.publisher().publish_batch(batch).await.unwrap().into_inner();
    assert_eq!((answer.published, answer.failed, answer.results.len()), (98, 0, 98));
    let all = pull_all(&front, "mail", 99).await;
    let numbers: BTreeSet<_> = all.iter().map(|delivery| number(delivery.event.as_ref().unwrap())).collect();
    assert_eq!(numbers, (1..100).collect());
    let first = all.iter().find(|d| number(d.event.as_ref().unwrap()) == 1).unwrap().event.clone().unwrap();
    assert_eq!((first.topic.as_deref(), first.id), (Some(TOPIC), Some(receipt.id)));
    let ack = AcknowledgeRequest {
        subscription: "mail".into(),
        ack: all.iter().map(|delivery| delivery.ack_id.clone()).chain(["forged".to_owned()]).collect(),
        ..AcknowledgeRequest::default()
    };
    let results = front.subscriber().acknowledge(ack).await.unwrap().into_inner().results;
    let (forged, done) = results.split_last().unwrap();
    assert!(done.iter().all(|result| result.status == "ok"));
    assert_eq!((forged.ack_id.as_str(), forged.status.as_str()), ("forged", "unknown"));
    let nothing = PullRequest { subscription: "mail".into(), ..PullRequest::default() };
    assert!(front.subscriber().pull(nothing).await.unwrap().into_inner().deliveries.is_empty());
}

#[tokio::test]
async fn a_stream_is_answered_in_order_keeps_order_and_ends_with_what_was_open() {
    let front = Front::start().await;
    let (send, messages) = tokio::sync::mpsc::channel(16);
    let sending = tokio::spawn(async move {
        for n in 0..2_000_u64 {
            let events = if n % 10 == 0 {
                vec![event(3 * n), bad(3 * n + 1), event(3 * n + 2)]
            } else {
                vec![event(3 * n)]
            };
            send.send(PublishStreamRequest { topic: TOPIC.into(), events }).await.unwrap();
        }
        // Dropping the sender closes our side.
    });
    let mut answers =
        front.publisher().publish_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
    let mut last: std::collections::HashMap<u32, i64> = std::collections::HashMap::new();
    let mut count = 0_u64;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.results.len(), if count % 10 == 0 { 3 } else { 1 });
        for (index, result) in answer.results.iter().enumerate() {
            match result.outcome.as_ref().unwrap() {
                Outcome::Receipt(receipt) => {
                    let before = last.insert(receipt.partition, receipt.offset);
                    assert!(before.is_none_or(|before| before < receipt.offset), "out of order");
                }
                Outcome::Error(error) => {
                    assert_eq!((index, error.code.as_str()), (1, "invalid_request"));
                    assert_eq!(error.errors[0].field, "partition");
                }
            }
        }
        count += 1;
    }
    assert_eq!(count, 2_000);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_stopped_answers_what_it_took_and_says_so() {
    let front = Front::start().await;
    let (send, messages) = tokio::sync::mpsc::channel(16);
    send.send(PublishStreamRequest { topic: TOPIC.into(), events: vec![event(1)] }).await.unwrap();
    let mut answers =
        front.publisher().publish_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    front.stop.cancel();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    front.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unknown_topic_fails_the_items_of_a_stream_and_the_stream_goes_on() {
    let front = Front::start().await;
    let topics = ["nope", TOPIC, "a/b", TOPIC];
    let messages = topics.map(|topic| PublishStreamRequest { topic: topic.into(), events: vec![event(1)] });
    let mut answers =
        front.publisher().publish_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut codes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        codes.push(match answer.results.into_iter().next().unwrap().outcome.unwrap() {
            Outcome::Receipt(_) => "ok".to_owned(),
            Outcome::Error(error) => error.code,
        });
    }
    assert_eq!(codes, ["topic_not_found", "ok", "invalid_request", "ok"]);
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_code_and_the_field() {
    let front = Front::start().await;
    front.subscribe("mail").await;
    let refused = |status: tonic::Status| {
        let details = status.get_error_details();
        let reason = details.error_info().unwrap().reason.clone();
        let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        (status.code(), reason, field.unwrap_or_default())
    };
    let is = |code, reason: &str, field: &str| (code, reason.to_owned(), field.to_owned());

    let publish = |topic: &str, event| PublishRequest { topic: topic.into(), event };
    let error = front.publisher().publish(publish("nope", Some(event(1)))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::NotFound, "topic_not_found", ""));
    let error = front.publisher().publish(publish("..", Some(event(1)))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "topic"));
    let error = front.publisher().publish(publish(TOPIC, None)).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "event"));
    let keyed = Event { idempotencykey: Some("a".into()), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(keyed))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::Unimplemented, "not_supported", "idempotencykey"));
    let absurd = Event { time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(absurd))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "time"));
    let large = Event { data: Some(vec![0; 2 << 20].into()), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(large))).await.unwrap_err();
    assert_eq!((error.code(), refused(error).1.as_str()), (Code::InvalidArgument, "event_too_large"));
    let huge = Event { data: Some(vec![0; 9 << 20].into()), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(huge))).await.unwrap_err();
    assert!(matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted), "{error:?}");

    let empty = PublishBatchRequest { topic: TOPIC.into(), events: Vec::new() };
    let error = front.publisher().publish_batch(empty).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "events"));

    let pull = |name: &str, max, seconds| PullRequest {
        subscription: name.into(),
        max: Some(max),
        wait: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let error = front.subscriber().pull(pull("nope", 1, 0)).await.unwrap_err();
    assert_eq!(refused(error), is(Code::NotFound, "subscription_not_found", ""));
    let error = front.subscriber().pull(pull("mail", 0, 0)).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "max"));
    let error = front.subscriber().pull(pull("mail", 1, -1)).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "wait"));

    let extend = vec![Extend { ack_id: "a".into(), by: None }];
    let ack = AcknowledgeRequest { subscription: "mail".into(), extend, ..AcknowledgeRequest::default() };
    let error = front.subscriber().acknowledge(ack).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "extend[0].by"));
    let retry = vec![proto::Retry::default()];
    let ack = AcknowledgeRequest { subscription: "mail".into(), retry, ..AcknowledgeRequest::default() };
    let error = front.subscriber().acknowledge(ack).await.unwrap_err();
    assert_eq!(refused(error), is(Code::Unimplemented, "not_supported", "retry"));

    let twice = CreateTopicRequest { name: TOPIC.into(), ..CreateTopicRequest::default() };
    let error = front.topics().create_topic(twice).await.unwrap_err();
    assert_eq!(refused(error), is(Code::AlreadyExists, "already_exists", ""));
}

#[tokio::test]
async fn topics_are_shown_changed_and_purged() {
    let front = Front::start().await;
    let batch = PublishBatchRequest { topic: TOPIC.into(), events: (0..30).map(event).collect() };
    front.publisher().publish_batch(batch).await.unwrap();
    let listed = front.topics().list_topics(ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!((listed[0].name.as_str(), listed[0].partitions, listed[0].events), (TOPIC, 3, 30));
    let before_offsets = [(0, 1)].into();
    let purge = PurgeTopicRequest { name: TOPIC.into(), before_offsets, before_time: None };
    let left = front.topics().purge_topic(purge).await.unwrap().into_inner().earliest_offsets;
    assert_eq!(left, [(0, 1)].into());
    let topic = front.topics().get_topic(GetTopicRequest { name: TOPIC.into() }).await.unwrap().into_inner();
    assert_eq!(topic.partitions[0].earliest_offset, 1);
    assert_eq!(topic.partitions.iter().map(|p| p.latest_offset).sum::<i64>(), 30);
}

#[tokio::test]
async fn health_follows_the_service() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let front = Front::start().await;
    let mut health = HealthClient::new(front.channel.clone());
    let mut seen = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    // It may be seen before the first report.
    while seen.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    front.serving.send_replace(false);
    assert_eq!(seen.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn a_pull_that_is_cancelled_gives_back() {
    let front = Front::start().await;
    front.subscribe("mail").await;
    for round in 0..20 {
        let wait = Some(prost_types::Duration { seconds: 30, nanos: 0 });
        let request = PullRequest { subscription: "mail".into(), max: Some(1), wait };
        let mut subscriber = front.subscriber();
        let waiting = tokio::spawn(async move { subscriber.pull(request).await });
        tokio::task::yield_now().await;
        waiting.abort();
        let _ = waiting.await;
        let publish = PublishRequest { topic: TOPIC.into(), event: Some(event(round)) };
        front.publisher().publish(publish).await.unwrap();
        let got = pull_all(&front, "mail", 1).await;
        assert_eq!((got.len(), got[0].attempt, number(got[0].event.as_ref().unwrap())), (1, 1, round));
        let ack = vec![got[0].ack_id.clone()];
        let ack = AcknowledgeRequest { subscription: "mail".into(), ack, ..AcknowledgeRequest::default() };
        front.subscriber().acknowledge(ack).await.unwrap();
    }
}

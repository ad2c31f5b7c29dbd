//! The gRPC front of the real binary, by the clients that its proto files make.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use api_grpc::proto::{
    AcknowledgeRequest, CreateSubscriptionRequest, CreateTopicRequest, DecisionStatus, Delivery, Event,
    GetTopicRequest, PublishBatchRequest, PublishRequest, PublishStreamRequest, PullRequest, Receipt,
    SubscribeDecisions, SubscribeRequest, SubscribeResponse, SubscribeStart, publish_result::Outcome,
    publisher_client::PublisherClient, subscribe_request, subscribe_response,
    subscriber_client::SubscriberClient, subscriptions_client::SubscriptionsClient,
    topics_client::TopicsClient,
};
use event_streaming_tests::{Log, PATIENCE, Service, Setup, eventually, on_every_log, unique};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

on_every_log!(
    a_stream_is_answered_in_order_and_what_it_published_is_pulled_and_done,
    what_a_stream_acknowledged_is_there_after_a_kill,
    a_batchs_bad_items_fail_alone_and_a_call_that_fails_says_its_code,
    both_fronts_see_the_same_events,
    what_a_stream_delivers_arrives_whatever_is_killed,
);

/// How many keys the events of a test share.
const KEYS: u64 = 7;
/// The events of one message of a stream.
const MESSAGE: u64 = 25;
/// How many messages of a stream are on their way at most.
const WINDOW: usize = 16;
/// How many deliveries are out at a stream at most.
const CREDITS: u32 = 200;

/// A running service, with a topic of this test's own.
struct Fixture {
    service: Service,
    channel: Channel,
    topic: String,
    data: TempDir,
}

async fn connect(service: &Service) -> Channel {
    let endpoint = Channel::from_shared(service.grpc().to_owned()).expect("the address is one");
    endpoint.connect().await.expect("gRPC is served when the service is ready")
}

async fn fixture(log: &Log) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(log).start(data.path()).await;
    let channel = connect(&service).await;
    let topic = unique("grpc");
    let mut topics = TopicsClient::new(channel.clone());
    let create =
        CreateTopicRequest { name: topic.clone(), partitions: Some(3), ..CreateTopicRequest::default() };
    topics.create_topic(create).await.expect("the topic can be made");
    // On a cluster it is known to each node a moment later.
    eventually("the topic is known", async || {
        topics.get_topic(GetTopicRequest { name: topic.clone() }).await.ok().map(drop)
    })
    .await;
    Fixture { service, channel, topic, data }
}

fn event(number: u64) -> Event {
    Event {
        id: Some(format!("e-{number}")),
        key: Some(format!("k-{}", number % KEYS).into()),
        data: Some(number.to_string().into()),
        ..Event::default()
    }
}

fn number(id: &str) -> u64 {
    id.strip_prefix("e-").and_then(|number| number.parse().ok()).expect("the id is one of this test's")
}

fn receipt(outcome: Option<Outcome>) -> Receipt {
    match outcome {
        Some(Outcome::Receipt(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

/// Publishes events over one stream with a window, until all are answered or the stream breaks; gives the
/// receipts, which stand in the order of what was sent. `seen` is told how many there are.
async fn stream(
    channel: Channel,
    topic: &str,
    numbers: Range<u64>,
    mut seen: impl FnMut(usize),
) -> Vec<Receipt> {
    let (messages, sent) = mpsc::channel(WINDOW);
    let sending = {
        let (topic, mut first) = (topic.to_owned(), numbers.start);
        tokio::spawn(async move {
            while first < numbers.end {
                let next = (first + MESSAGE).min(numbers.end);
                let events = (first..next).map(event).collect();
                if messages.send(PublishStreamRequest { topic: topic.clone(), events }).await.is_err() {
                    return;
                }
                first = next;
            }
        })
    };
    let mut client = PublisherClient::new(channel);
    let mut answers =
        client.publish_stream(ReceiverStream::new(sent)).await.expect("the stream opens").into_inner();
    let mut receipts = Vec::new();
    while let Ok(Some(answer)) = answers.message().await {
        receipts.extend(answer.results.into_iter().map(|result| receipt(result.outcome)));
        seen(receipts.len());
    }
    drop(answers);
    sending.await.expect("the sender does not panic");
    receipts
}

async fn subscribe(channel: &Channel, name: &str, topic: &str) {
    let create = CreateSubscriptionRequest {
        name: name.to_owned(),
        topics: vec![topic.to_owned()],
        ..CreateSubscriptionRequest::default()
    };
    let mut client = SubscriptionsClient::new(channel.clone());
    client.create_subscription(create).await.expect("the subscription can be made");
}

/// Pulls and acknowledges until `enough` of all that came.
async fn pull_until(
    channel: &Channel,
    name: &str,
    mut enough: impl FnMut(&[Delivery]) -> bool,
) -> Vec<Delivery> {
    let mut client = SubscriberClient::new(channel.clone());
    let mut all: Vec<Delivery> = Vec::new();
    eventually("the events are delivered", async || {
        let wait = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let pull = PullRequest { subscription: name.to_owned(), max: Some(1000), wait };
        let deliveries = client.pull(pull).await.expect("a pull is answered").into_inner().deliveries;
        let ack: Vec<String> = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        let request =
            AcknowledgeRequest { subscription: name.to_owned(), ack, ..AcknowledgeRequest::default() };
        let decided = client.acknowledge(request).await.expect("acknowledging is answered").into_inner();
        assert_eq!(decided.results.len(), deliveries.len());
        assert!(decided.results.iter().all(|result| result.status == "ok"), "{decided:?}");
        all.extend(deliveries);
        enough(&all).then_some(())
    })
    .await;
    all
}

/// The numbers of events that were delivered, by their key and in the order in which they came.
fn by_key(deliveries: &[Delivery]) -> HashMap<Vec<u8>, Vec<u64>> {
    let mut found: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
    for event in deliveries.iter().filter_map(|delivery| delivery.event.as_ref()) {
        found.entry(event.key().to_vec()).or_default().push(number(event.id()));
    }
    found
}

async fn a_stream_is_answered_in_order_and_what_it_published_is_pulled_and_done(log: Log) {
    const EVENTS: u64 = 5000;
    let it = fixture(&log).await;
    let receipts = stream(it.channel.clone(), &it.topic, 0..EVENTS, |_| ()).await;
    let ids: Vec<u64> = receipts.iter().map(|receipt| number(&receipt.id)).collect();
    assert!(ids.into_iter().eq(0..EVENTS), "receipts stand in the order of the events");
    let mut ends: HashMap<u32, i64> = HashMap::new();
    for receipt in &receipts {
        let last = ends.insert(receipt.partition, receipt.offset);
        assert!(last.is_none_or(|last| last < receipt.offset), "offsets grow in the order of the stream");
    }
    let name = unique("grpc-pull");
    subscribe(&it.channel, &name, &it.topic).await;
    let deliveries = pull_until(&it.channel, &name, |all| all.len() as u64 >= EVENTS).await;
    assert_eq!(deliveries.len() as u64, EVENTS);
    for (key, numbers) in by_key(&deliveries) {
        assert!(numbers.is_sorted(), "key {key:?} keeps its order");
    }
}

async fn what_a_stream_acknowledged_is_there_after_a_kill(log: Log) {
    let it = fixture(&log).await;
    let (enough, mut reached) = mpsc::channel(1);
    let publishing = {
        let (channel, topic) = (it.channel.clone(), it.topic.clone());
        tokio::spawn(async move {
            stream(channel, &topic, 0..1_000_000, |count| {
                if count >= 2000 {
                    // Told once; there is nothing to do where it was told before.
                    let _ = enough.try_send(());
                }
            })
            .await
        })
    };
    reached.recv().await.expect("events are acknowledged");
    it.service.kill().await;
    let acknowledged = publishing.await.expect("the publisher does not panic");
    assert!(acknowledged.len() < 1_000_000, "it was killed while it published");
    let service = Setup::on(&log).start(it.data.path()).await;
    let channel = connect(&service).await;
    let name = unique("grpc-kill");
    subscribe(&channel, &name, &it.topic).await;
    let deliveries = pull_until(&channel, &name, |all| {
        let there: HashSet<&str> =
            all.iter().filter_map(|delivery| delivery.event.as_ref()).map(Event::id).collect();
        acknowledged.iter().all(|receipt| there.contains(receipt.id.as_str()))
    })
    .await;
    for (key, numbers) in by_key(&deliveries) {
        assert!(numbers.is_sorted(), "key {key:?} keeps its order");
    }
}

/// Takes deliveries from a stream and acknowledges each by itself, until that is `enough`, which is asked for
/// each, or the stream breaks. Gives the events whose acknowledgement was answered with `ok`.
async fn subscribe_until(
    channel: &Channel,
    name: &str,
    mut enough: impl FnMut(&HashSet<u64>) -> bool,
) -> HashSet<u64> {
    let (requests, sent) = mpsc::channel(CREDITS as usize);
    let say = |message| SubscribeRequest { message: Some(message) };
    let subscription = name.to_owned();
    let start = SubscribeStart { subscription, credits: CREDITS, release_on_close: false };
    requests.send(say(subscribe_request::Message::Start(start))).await.expect("there is room");
    let mut done = HashSet::new();
    let opening = SubscriberClient::new(channel.clone()).subscribe(ReceiverStream::new(sent)).await;
    let Ok(answers) = opening else { return done };
    let mut answers = answers.into_inner();
    let mut out: HashMap<u64, u64> = HashMap::new();
    let mut next = 0;
    while !enough(&done) {
        let Ok(Some(SubscribeResponse { message: Some(message) })) = answers.message().await else { break };
        match message {
            subscribe_response::Message::Deliveries(deliveries) => {
                for delivery in deliveries.deliveries {
                    let number = number(delivery.event.expect("a delivery has its event").id());
                    assert!(!done.contains(&number), "e-{number} came again after it was done");
                    next += 1;
                    out.insert(next, number);
                    let ack = vec![delivery.ack_id];
                    let decisions =
                        SubscribeDecisions { request_id: next, ack, ..SubscribeDecisions::default() };
                    // Where it has broken, the next message says so.
                    let _ = requests.send(say(subscribe_request::Message::Decisions(decisions))).await;
                }
            }
            subscribe_response::Message::Results(results) => {
                for result in results.results {
                    let number = out.remove(&result.request_id).expect("a result is of a request");
                    assert_eq!(result.error, None);
                    if result.statuses().all(|status| status == DecisionStatus::Ok) {
                        done.insert(number);
                    }
                }
            }
            subscribe_response::Message::Draining(_) => {}
        }
    }
    done
}

async fn what_a_stream_delivers_arrives_whatever_is_killed(log: Log) {
    const EVENTS: u64 = 3000;
    let it = fixture(&log).await;
    stream(it.channel.clone(), &it.topic, 0..EVENTS, |_| ()).await;
    let name = unique("grpc-subscribe");
    // What is out when the service is killed may be kept for its client so long.
    let create = CreateSubscriptionRequest {
        name: name.clone(),
        topics: vec![it.topic.clone()],
        ack_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..CreateSubscriptionRequest::default()
    };
    SubscriptionsClient::new(it.channel.clone())
        .create_subscription(create)
        .await
        .expect("the subscription can be made");
    let (enough, mut reached) = mpsc::channel(1);
    let consuming = {
        let (channel, name) = (it.channel.clone(), name.clone());
        tokio::spawn(async move {
            subscribe_until(&channel, &name, |done| {
                if done.len() >= 1000 {
                    // Told once; there is nothing to do where it was told before.
                    let _ = enough.try_send(());
                }
                false
            })
            .await
        })
    };
    reached.recv().await.expect("events are acknowledged");
    it.service.kill().await;
    let before = consuming.await.expect("the consumer does not panic");
    let service = Setup::on(&log).start(it.data.path()).await;
    let channel = connect(&service).await;
    let all =
        |after: &HashSet<u64>| (0..EVENTS).all(|number| before.contains(&number) || after.contains(&number));
    let after = timeout(PATIENCE, subscribe_until(&channel, &name, all)).await.expect("the rest arrives");
    assert!(all(&after), "the stream ended with {} and {} of {EVENTS}", before.len(), after.len());
}

async fn a_batchs_bad_items_fail_alone_and_a_call_that_fails_says_its_code(log: Log) {
    let it = fixture(&log).await;
    let mut publisher = PublisherClient::new(it.channel.clone());
    let bad = Event { partition: Some(99), key: None, ..event(1) };
    let batch = PublishBatchRequest { topic: it.topic.clone(), events: vec![event(0), bad, event(2)] };
    let answer = publisher.publish_batch(batch).await.expect("a batch is answered").into_inner();
    assert_eq!((answer.published, answer.failed), (2, 1));
    match &answer.results[1].outcome {
        Some(Outcome::Error(error)) => {
            assert_eq!(
                (error.code.as_str(), error.errors[0].field.as_str()),
                ("invalid_request", "partition")
            );
        }
        other => panic!("no error: {other:?}"),
    }
    for (topic, code) in [("no-such-topic", Code::NotFound), ("..", Code::InvalidArgument)] {
        let publish = PublishRequest { topic: topic.to_owned(), event: Some(event(1)) };
        let error = publisher.publish(publish).await.expect_err("it is refused");
        assert_eq!(error.code(), code, "{error:?}");
    }
}

async fn both_fronts_see_the_same_events(log: Log) {
    let it = fixture(&log).await;
    let publish = PublishRequest { topic: it.topic.clone(), event: Some(event(7)) };
    let receipt =
        PublisherClient::new(it.channel.clone()).publish(publish).await.expect("a receipt").into_inner();
    let events = it.service.client().browse_all(&it.topic).await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0]["id"].as_str(), events[0]["key"].as_str()), (Some("e-7"), Some("k-0")));
    assert_eq!(events[0]["offset"].as_i64(), Some(receipt.offset));
}

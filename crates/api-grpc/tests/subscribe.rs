//! What a stream of deliveries promises, by a real client over a real connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    AcknowledgeRequest, CreateSubscriptionRequest, DecisionStatus, Delivery, Event, Extend,
    GetSubscriptionRequest, GetTopicRequest, PublishBatchRequest, PullRequest, Reject, Retry,
    SubscribeCredits, SubscribeDecisions, SubscribeRequest, SubscribeResponse, SubscribeResult,
    SubscribeStart, subscribe_request, subscribe_response::Message, subscriber_client::SubscriberClient,
    subscriptions_client::SubscriptionsClient,
};
use std::{collections::BTreeSet, time::Duration};
use support::{Front, TOPIC, event, number};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

const NAME: &str = "mail";

/// A client's end of a stream.
struct Client {
    send: mpsc::Sender<SubscribeRequest>,
    answers: Streaming<SubscribeResponse>,
    /// What came while something else was waited for.
    deliveries: Vec<Delivery>,
    results: Vec<SubscribeResult>,
    draining: bool,
}

impl Client {
    async fn open(front: &Front, credits: u32, release_on_close: bool) -> Self {
        Self::open_by(front.subscriber(), credits, release_on_close).await
    }

    async fn open_by(
        mut subscriber: SubscriberClient<Channel>,
        credits: u32,
        release_on_close: bool,
    ) -> Self {
        let (send, messages) = mpsc::channel(64);
        let start = SubscribeStart { subscription: NAME.into(), credits, release_on_close };
        send.send(message(subscribe_request::Message::Start(start))).await.unwrap();
        let answers = subscriber.subscribe(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { send, answers, deliveries: Vec::new(), results: Vec::new(), draining: false }
    }

    async fn say(&self, said: subscribe_request::Message) {
        self.send.send(message(said)).await.unwrap();
    }

    async fn decide(&self, decisions: SubscribeDecisions) {
        self.say(subscribe_request::Message::Decisions(decisions)).await;
    }

    async fn ack(&self, request_id: u64, deliveries: &[Delivery]) {
        self.decide(SubscribeDecisions { request_id, ack: ids(deliveries), ..SubscribeDecisions::default() })
            .await;
    }

    /// Takes one message; false at the end.
    async fn take(&mut self) -> Result<bool, Status> {
        let Some(response) = self.answers.message().await? else { return Ok(false) };
        match response.message.expect("a message says something") {
            Message::Deliveries(deliveries) => self.deliveries.extend(deliveries.deliveries),
            Message::Results(results) => self.results.extend(results.results),
            Message::Draining(_) => self.draining = true,
        }
        Ok(true)
    }

    /// The next deliveries.
    async fn next(&mut self, count: usize) -> Vec<Delivery> {
        while self.deliveries.len() < count {
            assert!(self.take().await.unwrap(), "ended with {} of {count}", self.deliveries.len());
        }
        self.deliveries.drain(..count).collect()
    }

    /// The next result.
    async fn result(&mut self) -> SubscribeResult {
        while self.results.is_empty() {
            assert!(self.take().await.unwrap(), "ended without the result");
        }
        self.results.remove(0)
    }

    /// The statuses of one request, which is the next to be answered.
    async fn statuses(&mut self, decisions: SubscribeDecisions) -> Vec<DecisionStatus> {
        let request_id = decisions.request_id;
        self.decide(decisions).await;
        let result = self.result().await;
        assert_eq!((result.request_id, &result.error), (request_id, &None));
        result.statuses().collect()
    }

    /// Goes there and back so often that whatever was ready would have come.
    async fn nothing_comes(&mut self) {
        for request_id in 900..930 {
            let ack = vec!["made up".to_owned()];
            let of = SubscribeDecisions { request_id, ack, ..SubscribeDecisions::default() };
            assert_eq!(self.statuses(of).await, [DecisionStatus::Unknown]);
        }
        assert!(self.deliveries.is_empty(), "{} more came", self.deliveries.len());
    }

    /// How the stream ends.
    async fn end(&mut self) -> Result<(), Status> {
        while self.take().await? {}
        Ok(())
    }
}

fn message(message: subscribe_request::Message) -> SubscribeRequest {
    SubscribeRequest { message: Some(message) }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect()
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(delivery.event.as_ref().unwrap())).collect()
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

async fn publish(front: &Front, events: impl IntoIterator<Item = Event>) {
    let batch = PublishBatchRequest { topic: TOPIC.into(), events: events.into_iter().collect() };
    assert_eq!(front.publisher().publish_batch(batch).await.unwrap().into_inner().failed, 0);
}

async fn subscribe(front: &Front, ordering: &str, max_in_flight: i64) {
    let create = CreateSubscriptionRequest {
        name: NAME.into(),
        topics: vec![TOPIC.into()],
        ordering: Some(ordering.into()),
        max_in_flight: Some(max_in_flight),
        ..CreateSubscriptionRequest::default()
    };
    SubscriptionsClient::new(front.channel.clone()).create_subscription(create).await.unwrap();
}

async fn in_flight(front: &Front) -> u64 {
    let get = GetSubscriptionRequest { name: NAME.into() };
    let mut client = SubscriptionsClient::new(front.channel.clone());
    client.get_subscription(get).await.unwrap().into_inner().in_flight
}

async fn pull(front: &Front, max: i64, wait: i64) -> Vec<Delivery> {
    let request = PullRequest { subscription: NAME.into(), max: Some(max), wait: Some(seconds(wait)) };
    front.subscriber().pull(request).await.unwrap().into_inner().deliveries
}

#[tokio::test]
async fn no_more_is_out_than_there_are_credits_and_a_decision_gives_one_back() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..100).map(event)).await;
    let mut client = Client::open(&front, 10, false).await;
    let mut all = client.next(10).await;
    client.nothing_comes().await;
    client.ack(1, &all[..3]).await;
    all.extend(client.next(3).await);
    assert_eq!(client.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok; 3]);
    client.nothing_comes().await;
    client.say(subscribe_request::Message::Credits(SubscribeCredits { add: 5 })).await;
    all.extend(client.next(5).await);
    client.nothing_comes().await;
    // Giving back is a decision too; acknowledging once more is none.
    let release = ids(&all[3..5]);
    let of =
        SubscribeDecisions { request_id: 2, ack: ids(&all[..3]), release, ..SubscribeDecisions::default() };
    assert_eq!(client.statuses(of).await, [DecisionStatus::Ok; 5]);
    let more = client.next(2).await;
    assert!(more.iter().all(|delivery| delivery.attempt == 1), "releasing counts no attempt");
    client.nothing_comes().await;
}

#[tokio::test]
async fn credit_that_was_not_given_at_first_can_be_given_later() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..3).map(event)).await;
    let mut client = Client::open(&front, 0, false).await;
    client.nothing_comes().await;
    client.say(subscribe_request::Message::Credits(SubscribeCredits { add: 3 })).await;
    assert_eq!(client.next(3).await.len(), 3);
}

#[tokio::test]
async fn a_partition_keeps_its_order_and_its_runs() {
    let front = Front::start().await;
    subscribe(&front, "partition", 1000).await;
    publish(&front, (0..600).map(event)).await;
    let mut client = Client::open(&front, 50, false).await;
    let mut last = std::collections::HashMap::new();
    let mut out: Vec<Delivery> = Vec::new();
    for _ in 0..600 {
        let delivery = client.next(1).await.remove(0);
        let event = delivery.event.as_ref().unwrap();
        let before = last.insert(event.partition(), event.offset());
        assert!(before.is_none_or(|before| before < event.offset()), "out of order");
        // Of a partition, one run is out at a time.
        let same = |other: &&Delivery| other.event.as_ref().unwrap().partition() == event.partition();
        assert!(out.iter().filter(same).all(|other| other.run == delivery.run));
        out.push(delivery);
        if out.len() == 20 || client.deliveries.is_empty() {
            client.ack(1, &std::mem::take(&mut out)).await;
            assert!(client.result().await.statuses().all(|status| status == DecisionStatus::Ok));
        }
    }
}

#[tokio::test]
async fn ten_thousand_events_are_acknowledged_one_by_one_and_answered_in_order() {
    const EVENTS: u64 = 10_000;
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..EVENTS).map(event)).await;
    let mut client = Client::open(&front, 500, false).await;
    let (mut seen, mut sent, mut answered) = (BTreeSet::new(), 0, 0);
    while answered < EVENTS {
        assert!(client.take().await.unwrap());
        for delivery in std::mem::take(&mut client.deliveries) {
            assert!(seen.insert(number(delivery.event.as_ref().unwrap())), "it came twice");
            client.ack(sent, &[delivery]).await;
            sent += 1;
        }
        for result in client.results.drain(..) {
            assert_eq!(result.request_id, answered);
            assert_eq!(result.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok]);
            answered += 1;
        }
        assert!(sent - answered <= 500);
    }
    assert_eq!(seen.len() as u64, EVENTS);
    assert_eq!(in_flight(&front).await, 0);
}

#[tokio::test]
async fn what_failed_comes_again_or_is_a_dead_letter_as_the_client_says() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..2).map(event)).await;
    let mut client = Client::open(&front, 2, false).await;
    let out = client.next(2).await;
    let after = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let of = SubscribeDecisions {
        request_id: 1,
        retry: vec![Retry { ack_id: out[0].ack_id.clone(), after, reason: "busy".into() }],
        reject: vec![Reject { ack_id: out[1].ack_id.clone(), reason: "no".into() }],
        ..SubscribeDecisions::default()
    };
    assert_eq!(client.statuses(of).await, [DecisionStatus::Ok; 2]);
    let again = client.next(1).await;
    assert_eq!((again[0].attempt, numbers(&again)), (2, numbers(&out[..1])));
    client.nothing_comes().await;
    // A reject is `ok` when its dead letter is written.
    let get = GetTopicRequest { name: "mail.dlq".into() };
    let letters = front.topics().get_topic(get).await.unwrap().into_inner();
    assert_eq!(letters.partitions.iter().map(|partition| partition.latest_offset).sum::<i64>(), 1);
}

#[tokio::test]
async fn what_comes_behind_a_retry_in_its_run_is_taken_back() {
    let front = Front::start().await;
    subscribe(&front, "partition", 1000).await;
    publish(&front, (0..3).map(|n| Event { partition: Some(0), ..event(n) })).await;
    let mut client = Client::open(&front, 3, false).await;
    let out = client.next(3).await;
    assert!(out.iter().all(|delivery| delivery.run == out[0].run));
    assert_eq!(numbers(&out), [0, 1, 2]);
    let after = Some(prost_types::Duration::default());
    let retry = vec![Retry { ack_id: out[0].ack_id.clone(), after, ..Retry::default() }];
    let of =
        SubscribeDecisions { request_id: 1, ack: ids(&out[1..]), retry, ..SubscribeDecisions::default() };
    let superseded = DecisionStatus::Superseded;
    assert_eq!(client.statuses(of).await, [superseded, superseded, DecisionStatus::Ok]);
    let again = client.next(3).await;
    assert_eq!(numbers(&again), [0, 1, 2]);
    assert_eq!(again.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 1, 1]);
}

#[tokio::test]
async fn a_request_that_is_malformed_fails_alone_and_names_its_field() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, [event(1)]).await;
    let mut client = Client::open(&front, 10, false).await;
    let out = client.next(1).await;
    let none = Extend { ack_id: out[0].ack_id.clone(), by: None };
    let long = Extend { by: Some(seconds(13 * 3600)), ..none.clone() };
    let good = Extend { by: Some(seconds(60)), ..none.clone() };
    let of = |request_id, extend| SubscribeDecisions { request_id, extend, ..SubscribeDecisions::default() };
    let many = vec!["x".to_owned(); 10_001];
    client.decide(of(1, vec![good.clone(), none])).await;
    client.decide(of(2, vec![long])).await;
    client.decide(SubscribeDecisions { request_id: 3, ack: many, ..SubscribeDecisions::default() }).await;
    client.decide(of(4, vec![good])).await;
    for (request_id, field) in
        [(1, "decisions.extend[1].by"), (2, "decisions.extend[0].by"), (3, "decisions")]
    {
        let SubscribeResult { request_id: answered, statuses, error } = client.result().await;
        let error = error.unwrap();
        assert_eq!((answered, error.code.as_str(), statuses.len()), (request_id, "invalid_request", 0));
        assert_eq!(error.errors[0].field, field);
    }
    let result = client.result().await;
    assert_eq!((result.request_id, result.statuses().collect::<Vec<_>>()), (4, vec![DecisionStatus::Ok]));
    client.ack(5, &out).await;
    assert_eq!(client.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok]);
}

#[tokio::test]
async fn what_was_delivered_elsewhere_may_be_decided_here() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..4).map(event)).await;
    let pulled = pull(&front, 2, 20).await;
    assert_eq!(pulled.len(), 2);
    let mut client = Client::open(&front, 1, false).await;
    let here = client.next(1).await;
    client.ack(1, &pulled).await;
    assert_eq!(client.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok; 2]);
    // It gives no credit.
    client.nothing_comes().await;
    let mut other = Client::open(&front, 0, false).await;
    other.ack(2, &here).await;
    assert_eq!(other.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok]);
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_answered_what_it_decided_and_given_no_more() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..500).map(event)).await;
    let mut client = Client::open(&front, 200, false).await;
    let out = client.next(200).await;
    for (request_id, delivery) in (0..).zip(&out) {
        client.ack(request_id, std::slice::from_ref(delivery)).await;
    }
    let Client { send, answers, .. } = client;
    drop(send);
    let mut client =
        Client { send: mpsc::channel(1).0, answers, deliveries: vec![], results: vec![], draining: false };
    client.end().await.unwrap();
    assert_eq!(
        client.results.iter().map(|result| result.request_id).collect::<Vec<_>>(),
        (0..200).collect::<Vec<_>>()
    );
    assert!(
        client.results.iter().flat_map(SubscribeResult::statuses).all(|status| status == DecisionStatus::Ok)
    );
    // What came with the last credits is out at nobody else, and can be decided still.
    let late = AcknowledgeRequest {
        subscription: NAME.into(),
        ack: ids(&client.deliveries),
        ..AcknowledgeRequest::default()
    };
    let results = front.subscriber().acknowledge(late).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.status == "ok"));
    let mut seen: BTreeSet<u64> = numbers(&out).into_iter().chain(numbers(&client.deliveries)).collect();
    while seen.len() < 500 {
        let pulled = pull(&front, 1000, 20).await;
        assert!(!pulled.is_empty(), "{} of 500 came", seen.len());
        assert!(numbers(&pulled).into_iter().all(|number| seen.insert(number)), "it came twice");
    }
}

#[tokio::test]
async fn what_is_out_at_a_client_that_goes_away_is_kept_for_it() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..20).map(event)).await;
    let mut client = Client::open(&front, 10, false).await;
    let out = client.next(10).await;
    drop(client);
    let others = pull(&front, 100, 20).await;
    let both: BTreeSet<u64> = numbers(&out).into_iter().chain(numbers(&others)).collect();
    assert_eq!((others.len(), both.len()), (10, 20), "what was out went to nobody else");
    let mut again = Client::open(&front, 10, false).await;
    again.ack(1, &out).await;
    assert_eq!(again.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok; 10]);
}

#[tokio::test]
async fn what_is_out_at_a_client_that_asked_for_it_is_released_when_it_goes() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..20).map(event)).await;
    for closes in [true, false] {
        let mut client = Client::open(&front, 20, true).await;
        let out = client.next(20).await;
        assert!(out.iter().all(|delivery| delivery.attempt == 1));
        client.ack(1, &[]).await;
        client.result().await;
        if closes {
            let Client { send, answers, .. } = client;
            drop(send);
            let mut answers = answers;
            assert!(answers.message().await.unwrap().is_none());
            assert_eq!(in_flight(&front).await, 0, "released before the stream ends");
        }
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let pulled = pull(&front, 100, 20).await;
        assert!(!pulled.is_empty(), "{} of 20 came", seen.len());
        assert!(pulled.iter().all(|delivery| delivery.attempt == 1), "releasing counts no attempt");
        seen.extend(numbers(&pulled));
    }
}

/// A client that takes nothing, once it is given no more; and how many events there are.
async fn held(front: &Front) -> (Client, u64) {
    const BATCH: u64 = 20;
    let endpoint = Channel::from_shared(format!("http://{}", front.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(64 << 10).connect().await.unwrap();
    let client = Client::open_by(SubscriberClient::new(channel), 100_000, false).await;
    for published in (BATCH..=100 * BATCH).step_by(BATCH as usize) {
        let large = |n| Event { extensions: [("fill".into(), "x".repeat(4000))].into(), ..event(n) };
        publish(front, (published - BATCH..published).map(large)).await;
        let mut looked = 0;
        while in_flight(front).await < published {
            looked += 1;
            if looked == 100 {
                return (client, published);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    panic!("everything went out to a client that takes nothing");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_no_more_until_it_does() {
    let front = Front::start().await;
    subscribe(&front, "none", 100_000).await;
    let (mut client, published) = held(&front).await;
    let all = client.next(published as usize).await;
    assert_eq!(numbers(&all).into_iter().collect::<BTreeSet<_>>().len() as u64, published);
}

#[tokio::test]
async fn what_was_not_sent_to_a_client_that_goes_away_is_released() {
    let front = Front::start().await;
    subscribe(&front, "none", 100_000).await;
    let (client, _) = held(&front).await;
    let out = in_flight(&front).await;
    drop(client);
    let mut looked = 0;
    while in_flight(&front).await >= out {
        looked += 1;
        assert!(looked < 2000, "nothing was released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn refused(status: &Status) -> (Code, String, Option<String>) {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    (status.code(), reason, violations.first().map(|violation| violation.field.clone()))
}

#[tokio::test]
async fn a_stream_that_is_opened_badly_ends_with_what_was_wrong() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    let start = |name: &str, credits| {
        let subscription = name.into();
        message(subscribe_request::Message::Start(SubscribeStart {
            subscription,
            credits,
            release_on_close: false,
        }))
    };
    let credits = |add| message(subscribe_request::Message::Credits(SubscribeCredits { add }));
    let invalid = |field: &str| (Code::InvalidArgument, "invalid_request".to_owned(), Some(field.to_owned()));
    let cases = [
        (vec![], invalid("start")),
        (vec![credits(1)], invalid("start")),
        (vec![SubscribeRequest { message: None }], invalid("start")),
        (vec![start("", 1)], invalid("start.subscription")),
        (vec![start("a/b", 1)], invalid("start.subscription")),
        (vec![start("nope", 0)], (Code::NotFound, "subscription_not_found".to_owned(), None)),
        (vec![start(NAME, 1_000_001)], invalid("start.credits")),
        (vec![start(NAME, 1), start(NAME, 1)], invalid("start")),
        (vec![start(NAME, 1), credits(1_000_000)], invalid("credits.add")),
        (vec![start(NAME, 1), SubscribeRequest { message: None }], invalid("message")),
    ];
    for (messages, expected) in cases {
        let shown = format!("{messages:?}");
        let mut answers =
            front.subscriber().subscribe(tokio_stream::iter(messages)).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        assert_eq!(refused(&status), expected, "{shown}: {status:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_after_what_came_before_is_answered() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    let mut client = Client::open(&front, 10, false).await;
    client.ack(1, &[]).await;
    let huge = vec!["x".repeat(9 << 20)];
    client.decide(SubscribeDecisions { request_id: 2, ack: huge, ..SubscribeDecisions::default() }).await;
    let status = client.end().await.unwrap_err();
    assert_eq!(refused(&status), (Code::InvalidArgument, "request_too_large".to_owned(), None));
    assert_eq!(client.results.iter().map(|result| result.request_id).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_subscription_that_is_deleted_ends_its_streams() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    let mut client = Client::open(&front, 10, false).await;
    client.ack(1, &[]).await;
    client.result().await;
    let delete = api_grpc::proto::DeleteSubscriptionRequest { name: NAME.into() };
    SubscriptionsClient::new(front.channel.clone()).delete_subscription(delete).await.unwrap();
    assert_eq!(refused(&client.end().await.unwrap_err()).1, "subscription_not_found");
}

#[tokio::test]
async fn a_service_that_stops_says_so_takes_what_is_decided_and_ends() {
    for told_before in [true, false] {
        let front = Front::start().await;
        subscribe(&front, "none", 1000).await;
        publish(&front, (0..20).map(event)).await;
        let mut client = Client::open(&front, 10, false).await;
        let out = client.next(10).await;
        if told_before {
            front.draining.cancel()
        } else {
            front.stop.cancel()
        }
        while !client.draining {
            assert!(client.take().await.unwrap());
        }
        // Room is not filled any more.
        client.ack(1, &out[..5]).await;
        assert_eq!(client.result().await.statuses().collect::<Vec<_>>(), [DecisionStatus::Ok; 5]);
        client.ack(2, &out[5..]).await;
        let status = client.end().await.unwrap_err();
        assert_eq!(refused(&status).1, "unavailable");
        assert_eq!(client.results[0].statuses().collect::<Vec<_>>(), [DecisionStatus::Ok; 5]);
        assert!(client.deliveries.is_empty());
        front.stop.cancel();
        front.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_that_was_told_does_not_keep_the_service_from_stopping() {
    let front = Front::start().await;
    subscribe(&front, "none", 1000).await;
    publish(&front, (0..20).map(event)).await;
    let mut client = Client::open(&front, 10, false).await;
    client.next(10).await;
    front.draining.cancel();
    while !client.draining {
        assert!(client.take().await.unwrap());
    }
    front.stop.cancel();
    assert_eq!(refused(&client.end().await.unwrap_err()).1, "unavailable");
    front.task.await.unwrap().unwrap();
}

//! What the front promises, by a real client over a real connection; the log is the reference model.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    self, AcknowledgeRequest, CreateSubscriptionRequest, CreateTopicRequest, DedupPolicy, Event, Extend,
    GetTopicRequest, ListTopicsRequest, PublishBatchRequest, PublishRequest, PublishStreamRequest,
    PullRequest, PurgeTopicRequest, publish_result::Outcome, subscriptions_client::SubscriptionsClient,
};
use std::collections::BTreeSet;
use support::{Front, TOPIC, event, number};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt;

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
        assert_eq!(answer.results.len(), if count.is_multiple_of(10) { 3 } else { 1 });
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
    let keyed = |key: &str, n| Event { idempotencykey: Some(key.into()), ..event(n) };
    let error = front.publisher().publish(publish(TOPIC, Some(keyed("", 1)))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "idempotencykey"));
    front.publisher().publish(publish(TOPIC, Some(keyed("a", 1)))).await.unwrap();
    let error = front.publisher().publish(publish(TOPIC, Some(keyed("a", 2)))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "idempotency_key_reused", "idempotencykey"));
    let absurd = Event { time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(absurd))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "time"));
    let large = Event { data: Some(vec![0; 2 << 20].into()), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(large))).await.unwrap_err();
    assert_eq!((error.code(), refused(error).1.as_str()), (Code::InvalidArgument, "event_too_large"));
    let huge = Event { data: Some(vec![0; 9 << 20].into()), ..event(1) };
    let error = front.publisher().publish(publish(TOPIC, Some(huge))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "request_too_large", ""));

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
    let reject = vec![proto::Reject { ack_id: "a".into(), reason: "x".repeat(5000) }];
    let ack = AcknowledgeRequest { subscription: "mail".into(), reject, ..AcknowledgeRequest::default() };
    let error = front.subscriber().acknowledge(ack).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "reject[0].reason"));

    let mut subscriptions = SubscriptionsClient::new(front.channel.clone());
    let new = |filter: Option<&str>, key: Option<&str>| CreateSubscriptionRequest {
        name: "filtered".into(),
        topics: vec![TOPIC.into()],
        filter: filter.map(str::to_owned),
        dedup: Some(DedupPolicy { key: key.map(str::to_owned), ..DedupPolicy::default() }),
        ..CreateSubscriptionRequest::default()
    };
    let error = subscriptions.create_subscription(new(Some("true &&\n typ == 'a'"), None)).await.unwrap_err();
    assert!(error.message().contains("line 2, column 2: `typ` is not known"), "{error:?}");
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "filter"));
    let error = subscriptions.create_subscription(new(Some(""), None)).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "filter"));
    let error = subscriptions.create_subscription(new(None, Some("data."))).await.unwrap_err();
    assert_eq!(refused(error), is(Code::InvalidArgument, "invalid_request", "dedup.key"));

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
async fn what_a_filter_passed_over_and_could_not_tell_is_shown() {
    let front = Front::start().await;
    let mut subscriptions = SubscriptionsClient::new(front.channel.clone());
    let new = CreateSubscriptionRequest {
        name: "filtered".into(),
        topics: vec![TOPIC.into()],
        filter: Some("subject.startsWith('a')".into()),
        dedup: Some(DedupPolicy { key: Some("subject".into()), ..DedupPolicy::default() }),
        ..CreateSubscriptionRequest::default()
    };
    let shown = subscriptions.create_subscription(new).await.unwrap().into_inner();
    assert_eq!(shown.filter.as_deref(), Some("subject.startsWith('a')"));
    assert_eq!(shown.dedup.unwrap().key.as_deref(), Some("subject"));
    let about = |subject: Option<&str>, n| Event { subject: subject.map(Into::into), ..event(n) };
    let events = vec![about(Some("a"), 1), about(Some("b"), 2), about(None, 3)];
    let batch = PublishBatchRequest { topic: TOPIC.into(), events };
    front.publisher().publish_batch(batch).await.unwrap();
    let out = pull_all(&front, "filtered", 1).await;
    assert_eq!(number(out[0].event.as_ref().unwrap()), 1);
    let get = proto::GetSubscriptionRequest { name: "filtered".into() };
    let mut tries = 0;
    // Each partition is read by itself.
    let shown = loop {
        let shown = subscriptions.get_subscription(get.clone()).await.unwrap().into_inner();
        if shown.filtered == 2 {
            break shown;
        }
        tries += 1;
        assert!(tries < 10_000, "{shown:?}");
        tokio::task::yield_now().await;
    };
    let errors = shown.filter_errors.unwrap();
    let last = errors.last.unwrap();
    assert_eq!((errors.count, last.topic.as_str()), (1, TOPIC));
    assert_eq!(last.reason, "startsWith() takes strings, not null and a string");
    assert_eq!(shown.dedup_key_errors, Some(proto::ExpressionErrors::default()));
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

#[tokio::test]
async fn a_correlation_id_is_given_back_and_travels_with_the_event() {
    let front = Front::start().await;
    front.subscribe("mail").await;
    let publish = PublishRequest { topic: TOPIC.into(), event: Some(event(1)) };
    let mut request = tonic::Request::new(publish.clone());
    request.metadata_mut().insert("x-correlation-id", "trace-me-7".parse().unwrap());
    let answer = front.publisher().publish(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-correlation-id").unwrap(), "trace-me-7");
    let made = front.publisher().publish(publish).await.unwrap();
    let made = made.metadata().get("x-correlation-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(made.len(), 36);
    let error = front.topics().get_topic(GetTopicRequest { name: "nope".into() }).await.unwrap_err();
    assert!(error.metadata().get("x-correlation-id").is_some(), "{error:?}");
    let got = pull_all(&front, "mail", 2).await;
    let ids: BTreeSet<_> = got.into_iter().map(|d| d.event.unwrap().correlationid.unwrap()).collect();
    assert_eq!(ids, ["trace-me-7".to_owned(), made].into());
}

#[tokio::test]
async fn a_pull_that_waits_is_answered_when_the_front_stops_and_the_front_ends() {
    let front = Front::start().await;
    front.subscribe("mail").await;
    let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = PullRequest { subscription: "mail".into(), max: Some(1), wait };
    let mut subscriber = front.subscriber();
    let pulling = tokio::spawn(async move { subscriber.pull(request).await });
    // What is answered on the same connection came after the pull.
    front.topics().list_topics(ListTopicsRequest {}).await.unwrap();
    front.stop.cancel();
    assert!(pulling.await.unwrap().unwrap().into_inner().deliveries.is_empty());
    front.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_held() {
    let front = Front::start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let answers = front.publisher().publish_stream(ReceiverStream::new(receiver)).await.unwrap();
    // The answers are larger than the messages.
    let message = || PublishStreamRequest { topic: TOPIC.into(), events: vec![Event::default(); 10_000] };
    let mut sent = 0;
    // The windows of both sides, and what lies between: far less than this.
    while sent < 400 {
        let sending = sender.send(message());
        match tokio::time::timeout(std::time::Duration::from_secs(1), sending).await {
            Ok(taken) => taken.unwrap(),
            Err(_held) => break,
        }
        sent += 1;
    }
    assert!((1..200).contains(&sent), "{sent} messages were taken");
    // It goes on where the answers are taken.
    drop(sender);
    let mut answers = answers.into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.results.iter().all(|result| matches!(result.outcome, Some(Outcome::Receipt(_)))));
        answered += 1;
    }
    assert_eq!(answered, sent);
}

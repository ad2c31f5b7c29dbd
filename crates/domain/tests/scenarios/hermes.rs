//! Hermes' suite of webhooks (`integration-tests`).

use crate::support::consuming::{Hook, NAME, World, by_push, numbered, numbers, pass};
use bytes::Bytes;
use domain::{
    dead_letter::header,
    subscriptions::{StartSpec, State},
};
use ports::{Header, Record};

async fn publish(world: &World, ids: &[&str]) {
    let record = |id: &&str| Record {
        headers: vec![Header::new("ce_id", (*id).to_owned()), Header::new("ce_source", "/test")],
        value: Some(Bytes::from_static(b"{}")),
        ..Record::default()
    };
    world.append(ids.iter().map(|id| (0, record(id))).collect()).await;
}

fn attempts(id: &str, count: u32) -> Vec<(String, String)> {
    (1..=count).map(|attempt| (id.to_owned(), attempt.to_string())).collect()
}

/// `PublishingAndConsumingTest`: `shouldRetryUntilRequestSuccessfulAndSendRetryCounterInHeader`,
/// `shouldNotRetryIfRequestSuccessful`.
#[tokio::test(start_paused = true)]
async fn a_request_is_repeated_with_its_attempt_until_it_succeeds_and_no_more() {
    let world = World::new(1).await;
    publish(&world, &["a"]).await;
    let hook = Hook::answering_first([Some(500), Some(503), Some(429)]);
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            new.retry.max_retries = Some(5);
            new.retry.initial_delay = Some("1s".into());
        })
        .await;
    pass(600).await;
    assert_eq!((hook.posts(), process.lag().await), (attempts("a", 4), 0));
    assert!(!world.is_there("mail.dlq").await);
}

/// `PublishingTimeoutTest` and `ConsumingTest.shouldTimeoutRequestToSlowClient`.
#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_slow_is_given_up_in_time_and_asked_again() {
    let world = World::new(1).await;
    publish(&world, &["a", "b"]).await;
    let hook = Hook::answering_first([None]);
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            new.push.timeout = Some("2s".into());
            new.push.concurrency = Some(1);
            new.retry.max_retries = Some(1);
            new.retry.initial_delay = Some("1s".into());
        })
        .await;
    pass(30).await;
    let mut expected = attempts("a", 2);
    expected.extend(attempts("b", 1));
    assert_eq!((hook.posts(), process.lag().await), (expected, 0), "the other one waits no longer than that");
    *hook.status.lock() = None;
    publish(&world, &["c"]).await;
    pass(30).await;
    let letters = world.records_of("mail.dlq").await;
    assert_eq!((letters.len(), process.lag().await), (1, 0));
    let kind = letters[0].record.headers.iter().find(|of| *of.name == *header::ERROR_KIND).unwrap();
    assert_eq!(kind.value.as_deref(), Some(&b"timeout"[..]));
}

/// `SubscriptionManagementTest.shouldNotConsumeMessagesWhenSubscriptionIsSuspended`.
#[tokio::test(start_paused = true)]
async fn a_paused_subscription_pushes_nothing_also_after_a_restart_and_everything_once_resumed() {
    let world = World::new(1).await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    process.create(by_push).await;
    process.subscriptions.pause(NAME).await.unwrap();
    publish(&world, &["a", "b"]).await;
    pass(60).await;
    process.stop().await;
    let process = world.pushing_to(&hook).await;
    pass(60).await;
    assert_eq!((hook.posts(), process.view().await.state), (vec![], State::Paused));
    process.subscriptions.resume(NAME).await.unwrap();
    pass(5).await;
    assert_eq!(hook.posts(), [attempts("a", 1), attempts("b", 1)].concat());
}

/// `KafkaRetransmissionServiceTest.shouldMoveOffsetNearGivenTimestamp`, for where a subscription begins.
#[tokio::test(start_paused = true)]
async fn a_subscription_can_begin_at_a_time() {
    let world = World::new(2).await;
    let publish = async |numbers: std::ops::Range<u32>| {
        let record = |n| Record { timestamp: world.clock.wall(), ..numbered(n) };
        world.append(numbers.map(|n| (n % 2, record(n))).collect()).await;
    };
    publish(0..10).await;
    pass(100).await;
    let time = world.clock.wall().0;
    publish(10..20).await;
    pass(100).await;
    let process = world.process().await;
    process.create(|new| new.start = Some(StartSpec::Time(time))).await;
    let out = process.pull_all(10).await;
    assert_eq!(numbers(&out), (10..20).collect());
    process.ack(&out).await;
    process.nothing_comes().await;
}

//! Retries that wait in topics.

use crate::support::consuming::{NAME, World, by_topics, number, numbers};
use domain::{
    delivery::Status,
    subscriptions::{AckRequest, RetryItem},
};
use ports::TopicName;
use std::{sync::Arc, time::Duration};
use testkit::fault::{Faults, FaultyLog};

/// The point of retry topics: what fails gives its place up, so that the committed position moves on, and is
/// neither lost nor forgotten, nor ever early, over whatever ends of processes.
#[tokio::test(start_paused = true)]
async fn what_waits_in_a_retry_topic_is_done_at_its_place_and_comes_again_when_it_is_due() {
    let world = World::new(1).await;
    world.publish(0..5, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let all = process.pull_all(5).await;
    process.fail(&all[1..3], None).await;
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
    next.fail(&again[..1], None).await;
    next.ack(&again[1..]).await;
    let failed_at = world.seconds();
    let last = next.pull_all(1).await;
    assert!(world.seconds() >= failed_at + 20, "the second delay is twice the first");
    assert_eq!((number(&last[0]), last[0].attempt), (number(&again[0]), 3));
    next.fail(&last, None).await;
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
        process.fail(std::slice::from_ref(delivery), after).await;
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

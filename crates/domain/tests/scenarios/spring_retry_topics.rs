//! Spring Kafka's retry topics (`org.springframework.kafka.retrytopic`), and its dead letters.

use crate::support::consuming::{
    NAME, World, by_topics, definition, number, numbered, numbers, pass, rejection,
};
use bytes::Bytes;
use domain::{dead_letter::header, delivery::Status};
use futures::future::join_all;
use ports::{Header, Record, StoredRecord, Timestamp};
use std::collections::BTreeMap;

fn text(letter: &StoredRecord, name: &str) -> String {
    let found: Vec<_> = letter.record.headers.iter().filter(|header| *header.name == *name).collect();
    assert_eq!(found.len(), 1, "{name} of {letter:?}");
    String::from_utf8(found[0].value.clone().unwrap().to_vec()).unwrap()
}

/// `RetryTopicIntegrationTests.shouldRetrySecondTopic`: equal delays share one topic.
#[tokio::test(start_paused = true)]
async fn with_a_fixed_delay_one_topic_serves_all_retries_and_then_it_is_a_dead_letter() {
    // Its attempts are told by the store of claims, or, without one, by what waits alone.
    for dedup in [true, false] {
        let world = World::new(1).await;
        world.publish(0..1, 1).await;
        let mut process = world.process().await;
        process
            .create(|new| {
                by_topics(new);
                new.dedup.enabled = Some(dedup);
                new.retry.multiplier = Some(1.0);
                new.retry.max_retries = Some(3);
            })
            .await;
        for attempt in 1..=4 {
            let began = world.seconds();
            let out = process.pull_all(1).await;
            let waited = world.seconds() - began;
            assert_eq!(out[0].attempt, attempt, "dedup: {dedup}");
            assert!(attempt == 1 || (10..12).contains(&waited), "{waited}");
            process.fail(&out, None).await;
            process.stop().await;
            process = world.process().await;
        }
        process.nothing_comes().await;
        assert_eq!(world.written_to("mail.retry.10s").await, 3);
        assert!(!world.is_there("mail.retry.20s").await);
        let letters = world.records_of("mail.dlq").await;
        assert_eq!((letters.len(), &*text(&letters[0], header::ATTEMPTS)), (1, "4"), "dedup: {dedup}");
    }
}

/// `RetryTopicIntegrationTests.shouldRetryFourthTopicWithNoDlt`.
#[tokio::test(start_paused = true)]
async fn without_dead_letters_what_is_used_up_is_let_go_and_committed() {
    let world = World::new(1).await;
    world.publish(0..2, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            by_topics(new);
            new.dead_letter.enabled = Some(false);
        })
        .await;
    for _ in 1..=3 {
        process.fail(&process.pull_all(2).await, None).await;
    }
    process.nothing_comes().await;
    assert!(!world.is_there("mail.dlq").await);
    process.stop().await;
    assert_eq!(world.committed(0).await, Some(2));
    for topic in ["mail.retry.10s", "mail.retry.20s"] {
        assert_eq!(world.committed_of(topic, 0).await, Some(2), "{topic}");
    }
    world.process().await.nothing_comes().await;
}

/// `RetryTopicIntegrationTests.shouldRetryManualTopicWithDefaultDlt`: topics that an operator has made.
#[tokio::test(start_paused = true)]
async fn topics_that_are_there_already_are_used_as_they_are() {
    let world = World::new(1).await;
    world.create("mail.retry.10s", 2).await;
    world.create("mail.dlq", 3).await;
    world.publish_keyed(0..40, 40, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            by_topics(new);
            new.retry.max_retries = Some(1);
        })
        .await;
    process.fail(&process.pull_all(40).await, None).await;
    let again = process.pull_all(40).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 2), "all of them came by the retry topic");
    process.fail(&again, None).await;
    process.nothing_comes().await;
    for (topic, partitions) in [("mail.retry.10s", 2), ("mail.dlq", 3)] {
        for partition in 0..partitions {
            assert!(world.written_in(topic, partition).await > 0, "{topic}/{partition} is left out");
        }
    }
    let dead = [0, 1, 2].map(async |n| world.written_in("mail.dlq", n).await);
    assert_eq!(join_all(dead).await.iter().sum::<u64>(), 40);
    assert_eq!(process.lag().await, 0);
}

/// `RetryTopicIntegrationTests.shouldRetryFifthTopicWithTwoListenersAndManualAssignment`.
#[tokio::test(start_paused = true)]
async fn what_fails_at_one_subscription_comes_again_there_and_not_at_another_of_its_topic() {
    let world = World::new(1).await;
    world.publish(0..3, 1).await;
    let process = world.process().await;
    for name in ["one", "other"] {
        process
            .create(|new| {
                by_topics(new);
                new.name = name.into();
            })
            .await;
    }
    let at_one = process.pull_from("one", 3).await;
    process.fail_at("one", &at_one, None).await;
    let at_other = process.pull_from("other", 3).await;
    process.ack_at("other", &at_other).await;
    assert!(process.pull_from("other", 3).await.is_empty(), "it has done them");
    let again = process.pull_from("one", 3).await;
    assert_eq!(numbers(&again), (0..3).collect());
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
    assert_eq!(world.written_to("one.retry.10s").await, 3);
    assert_eq!(world.written_to("other.retry.10s").await, 0);
}

/// `RetryTopicIntegrationTests.shouldGoStraightToDlt`, and `StraightToDltIfUserProvidedFatal` of
/// `RetryTopicExceptionRoutingIntegrationTests`.
#[tokio::test(start_paused = true)]
async fn what_is_rejected_goes_past_the_retry_topics_at_any_attempt() {
    let world = World::new(1).await;
    world.publish(0..2, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let out = process.pull_all(2).await;
    assert_eq!(process.decide(rejection(&out[..1])).await, [Status::Ok]);
    process.fail(&out[1..], None).await;
    let again = process.pull_all(1).await;
    assert_eq!(process.decide(rejection(&again)).await, [Status::Ok]);
    process.nothing_comes().await;
    assert_eq!(world.written_to("mail.retry.10s").await, 1);
    assert_eq!(world.written_to("mail.retry.20s").await, 0);
    let letters = world.records_of("mail.dlq").await;
    let attempts: Vec<_> = letters.iter().map(|letter| text(letter, header::ATTEMPTS)).collect();
    assert_eq!(attempts, ["1", "2"]);
}

/// `DeadLetterPublishingRecovererFactoryTests`: `shouldSendMessage`, `shouldAppendOriginalHeaders`, over a
/// retry topic.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_where_and_when_it_first_lay_and_keeps_what_it_was() {
    let world = World::new(1).await;
    let own = |n: u8| Header::new("x-origin", vec![n, 0xff]);
    let published = Record {
        key: Some(Bytes::from_static(b"\0key")),
        value: Some(Bytes::from_static(b"\xfe\xff")),
        headers: vec![own(1), Header { name: "empty".into(), value: None }, own(2)],
        timestamp: Timestamp(1_234_567_890_123),
    };
    world.append(vec![(0, numbered(0)), (0, published.clone())]).await;
    let process = world.process().await;
    process
        .create(|new| {
            by_topics(new);
            new.payload = Some("bytes".into());
        })
        .await;
    let first = process.pull_all(2).await;
    process.ack(&first[..1]).await;
    let mut failing = first.into_iter().skip(1).collect::<Vec<_>>();
    for _ in 0..2 {
        pass(5).await;
        process.fail(&failing, None).await;
        failing = process.pull_all(1).await;
        assert_eq!(failing[0].record.record, published, "as it was, though it comes from a retry topic");
    }
    process.fail(&failing, None).await;
    let letters = world.records_of("mail.dlq").await;
    let letter = &letters[0];
    let kept = (&letter.record.key, &letter.record.value, letter.record.timestamp);
    assert_eq!(kept, (&published.key, &published.value, published.timestamp));
    let of_the_event: Vec<_> =
        letter.record.headers.iter().filter(|of| !of.name.starts_with(header::PREFIX)).cloned().collect();
    assert_eq!(of_the_event, published.headers);
    for (name, expected) in [
        (header::TOPIC, "orders".to_owned()),
        (header::PARTITION, "0".to_owned()),
        (header::OFFSET, "1".to_owned()),
        (header::TIMESTAMP, published.timestamp.0.to_string()),
        (header::SUBSCRIPTION, NAME.to_owned()),
        (header::ATTEMPTS, "3".to_owned()),
        (header::ERROR_MESSAGE, "it says no".to_owned()),
    ] {
        assert_eq!(text(letter, name), expected, "{name}");
    }
    let (first, last) = (text(letter, header::FIRST_FAILED_AT), text(letter, header::LAST_FAILED_AT));
    assert!(first < last, "{first}, {last}");
}

/// `DefaultDestinationTopicResolver` and the circular dead letter topic of `RetryTopicConfigurerTests`.
#[tokio::test(start_paused = true)]
async fn dead_letters_never_go_round_in_a_circle() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let out = process.pull_all(1).await;
    assert_eq!(process.decide(rejection(&out)).await, [Status::Ok]);
    let mut own = definition();
    (own.name, own.topics) = ("circle".into(), vec!["mail.dlq".into()]);
    own.dead_letter.topic = Some("mail.dlq".into());
    let refused = process.subscriptions.create(own.clone()).await.unwrap_err();
    assert_eq!(&*refused.fields()[0].field, "deadLetter.topic");
    // One that has dead letters of its own may read them.
    own.dead_letter.topic = None;
    process.subscriptions.create(own).await.unwrap();
    let dead = process.pull_from("circle", 1).await;
    assert_eq!(number(&dead[0]), 0);
    assert_eq!(process.decide_at("circle", rejection(&dead)).await, [Status::Ok]);
    assert!(process.pull_from("circle", 1).await.is_empty());
    let letters = world.records_of("circle.dlq").await;
    assert_eq!((letters.len(), &*text(&letters[0], header::TOPIC)), (1, "mail.dlq"));
    assert_eq!(text(&letters[0], header::SUBSCRIPTION), "circle");
    assert_eq!(world.records_of("mail.dlq").await.len(), 1, "the first of them has none more");
}

/// `DefaultDestinationTopicPartitionResolver`: here by the key, whatever the partition was.
#[tokio::test(start_paused = true)]
async fn what_waits_and_what_is_dead_of_one_key_lies_in_one_partition() {
    let world = World::new(4).await;
    world.publish_keyed(0..40, 8, 4).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let out = process.pull_all(40).await;
    process.fail(&out[..20], None).await;
    assert_eq!(process.decide(rejection(&out[20..])).await, [Status::Ok; 20]);
    for (topic, count) in [("mail.retry.10s", 20), ("mail.dlq", 20)] {
        let mut partitions: BTreeMap<Bytes, Vec<u32>> = BTreeMap::new();
        for partition in 0..4 {
            for stored in world.records_in(topic, partition).await {
                partitions.entry(stored.record.key.unwrap()).or_default().push(partition);
            }
        }
        assert_eq!(partitions.values().map(Vec::len).sum::<usize>(), count, "{topic}");
        for (key, of_key) in &partitions {
            assert!(of_key.iter().all(|of| *of == of_key[0]), "{key:?} lies in {of_key:?} of {topic}");
        }
        let first = partitions.values().next().map(|of_key| of_key[0]);
        assert!(partitions.values().any(|of_key| Some(of_key[0]) != first), "all lie in one of {topic}");
    }
}

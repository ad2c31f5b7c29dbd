//! Watermill's suite of a publisher and a subscriber (`pubsub/tests/test_pubsub.go`).

use crate::support::consuming::{NAME, World, definition, doing, number, number_of, numbered, numbers, pass};
use bytes::Bytes;
use domain::subscriptions::HandlerOptions;
use futures::future::join_all;
use parking_lot::Mutex;
use ports::{Header, Outcome, Record};
use std::{sync::Arc, time::Duration};
use testkit::fault::{Faults, FaultyLog};

/// `TestPublishSubscribe`.
#[tokio::test(start_paused = true)]
async fn what_is_published_arrives_with_its_key_its_payload_and_its_metadata() {
    let world = World::new(1).await;
    let values = [None, Some(Bytes::new()), Some(Bytes::from_static(b"\0\xff\xfe")), Some("text".into())];
    let mut published = Vec::new();
    for n in 0..100_u8 {
        let empty = Header { name: "none".into(), value: None };
        published.push(Record {
            key: (n % 3 > 0).then(|| Bytes::from(vec![n, 0xff])),
            value: values[usize::from(n) % values.len()].clone(),
            headers: vec![Header::new("n", vec![n]), empty, Header::new("n", vec![n, n])],
            ..Record::default()
        });
    }
    world.append(published.iter().map(|record| (0, record.clone())).collect()).await;
    let process = world.process().await;
    process.create(|new| new.payload = Some("bytes".into())).await;
    let mut came = process.pull_all(100).await;
    came.sort_by_key(|delivery| delivery.record.offset);
    for (delivery, published) in came.iter().zip(&published) {
        let record = &delivery.record.record;
        assert_eq!(
            (&record.key, &record.value, &record.headers),
            (&published.key, &published.value, &published.headers)
        );
    }
}

/// `TestConcurrentSubscribe`.
#[tokio::test(start_paused = true)]
async fn fifty_publishers_and_fifty_clients_share_everything_and_nothing_comes_twice() {
    let world = World::new(4).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let publishers = (0..50).map(|n| world.publish(n * 100..(n + 1) * 100, 4));
    let clients = (0..50).map(async |_| {
        let mut came = Vec::new();
        loop {
            let out = process.pull(10).await;
            if out.is_empty() {
                return came;
            }
            process.ack(&out).await;
            came.extend(out.iter().map(number));
        }
    });
    let (came, _) = tokio::join!(join_all(clients), join_all(publishers));
    assert!(came.iter().filter(|came| !came.is_empty()).count() > 1, "one client had everything");
    let mut came = came.concat();
    came.sort_unstable();
    assert_eq!(came, (0..5000).collect::<Vec<_>>());
}

/// `TestConcurrentSubscribeMultipleTopics`, `TestTopic`.
#[tokio::test(start_paused = true)]
async fn each_of_twenty_topics_that_are_read_at_once_yields_exactly_its_own() {
    let world = World::new(1).await;
    let process = world.process().await;
    let reads = (0..20_u32).map(async |n| {
        let topic = format!("topic-{n}");
        world.create(&topic, 1).await;
        let mut new = definition();
        (new.name, new.topics) = (format!("of-{n}"), vec![topic.clone()]);
        let name = new.name.clone();
        process.subscriptions.create(new).await.unwrap();
        let own = n * 100..(n + 1) * 100;
        world.append_to(&topic, own.clone().map(|n| (0, numbered(n))).collect()).await;
        let mut came = Vec::new();
        loop {
            let out = process.pull_from(&name, 30).await;
            if out.is_empty() {
                break;
            }
            process.ack_at(&name, &out).await;
            came.extend(out.iter().map(number));
        }
        came.sort_unstable();
        assert_eq!(came, own.collect::<Vec<_>>(), "{topic}");
    });
    join_all(reads).await;
}

/// `TestResendOnError`.
#[tokio::test(start_paused = true)]
async fn what_is_refused_at_first_comes_again_and_all_arrive() {
    for ordering in ["none", "key", "partition"] {
        let world = World::new(1).await;
        world.publish_keyed(0..100, 7, 1).await;
        let process = world.process().await;
        process.create(|new| new.ordering = Some(ordering.into())).await;
        let mut came = Vec::new();
        for _ in 0..2 {
            process.fail(&process.pull_all(1).await, None).await;
        }
        while came.len() < 100 {
            let out = process.pull_all(1).await;
            came.push(number(&out[0]));
            process.ack(&out).await;
        }
        process.nothing_comes().await;
        came.sort_unstable();
        assert_eq!(came, (0..100).collect::<Vec<_>>(), "{ordering}");
    }
}

/// `TestNoAck`.
#[tokio::test(start_paused = true)]
async fn where_order_holds_the_next_waits_until_the_one_before_is_acknowledged() {
    for ordering in ["key", "partition"] {
        let world = World::new(1).await;
        world.publish_keyed(0..2, 1, 1).await;
        let process = world.process().await;
        process
            .create(|new| {
                new.ordering = Some(ordering.into());
                new.ack_timeout = Some("1h".into());
            })
            .await;
        let first = process.pull_all(1).await;
        process.nothing_comes().await;
        process.ack(&first).await;
        assert_eq!(numbers(&process.pull_all(1).await), [1].into(), "{ordering}");
        process.nothing_comes().await;
    }
}

/// `TestContinueAfterSubscribeClose`: what a subscriber had not acknowledged when it closed comes to the next.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_closes_and_comes_again_twenty_times_gets_everything() {
    let world = World::new(3).await;
    let process = world.process().await;
    process.create(|new| new.ack_timeout = Some("5s".into())).await;
    process.stop().await;
    let mut done = Vec::new();
    for life in 0..20 {
        world.publish(life * 50..(life + 1) * 50, 3).await;
        let process = world.process().await;
        let out = process.pull_all(40).await;
        process.ack(&out[..30]).await;
        done.extend(out[..30].iter().map(number));
        process.stop().await;
    }
    let process = world.process().await;
    while done.len() < 1000 {
        let out = process.pull_all(1).await;
        process.ack(&out).await;
        done.extend(out.iter().map(number));
    }
    done.sort_unstable();
    assert_eq!(done, (0..1000).collect::<Vec<_>>());
    process.nothing_comes().await;
}

/// `TestConcurrentClose`.
#[tokio::test(start_paused = true)]
async fn after_ten_replicas_came_and_went_at_once_the_next_gets_everything() {
    let world = World::new(3).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    process.stop().await;
    let come_and_go = (0..10).map(async |n| {
        let process = world.process().await;
        let pull = process.subscriptions.pull(NAME, Some(1), Some(Duration::from_secs(5)));
        let stop = async {
            tokio::time::sleep(Duration::from_millis(n * 7)).await;
            process.subscriptions.shutdown(process.clock.monotonic()).await;
        };
        // It may be refused: the service stops.
        let (_, ()) = tokio::join!(pull, stop);
    });
    join_all(come_and_go).await;
    world.publish(0..50, 3).await;
    let process = world.process().await;
    assert_eq!(numbers(&process.pull_all(50).await), (0..50).collect());
}

/// `TestContinueAfterErrors`; and no attempt is forgotten when its subscriber closes.
#[tokio::test(start_paused = true)]
async fn after_three_subscribers_refused_everything_a_hundred_times_the_next_gets_it_all() {
    for dedup in [true, false] {
        let world = World::new(1).await;
        world.publish(0..50, 1).await;
        let first = world.process().await;
        first
            .create(|new| {
                new.retry.max_retries = Some(-1);
                new.dedup.enabled = Some(dedup);
            })
            .await;
        first.stop().await;
        for _ in 0..3 {
            let process = world.process().await;
            for _ in 0..100 {
                process.fail(&process.pull_all(50).await, Some(Duration::ZERO)).await;
            }
            process.stop().await;
        }
        let process = world.process().await;
        let all = process.pull_all(50).await;
        assert_eq!(numbers(&all), (0..50).collect());
        let attempts: Vec<_> = all.iter().map(|delivery| delivery.attempt).collect();
        assert_eq!(attempts, [301; 50], "dedup: {dedup}");
    }
}

/// `TestNewSubscriberReceivesOldMessages`, `TestConsumerGroups`.
#[tokio::test(start_paused = true)]
async fn each_subscription_that_is_added_gets_all_there_was_and_all_that_comes() {
    let world = World::new(2).await;
    let process = world.process().await;
    for round in 0..3_u32 {
        world.publish(round * 10..(round + 1) * 10, 2).await;
        process.create(|new| new.name = format!("added-{round}")).await;
        for added in 0..=round {
            let name = format!("added-{added}");
            let mut came = Vec::new();
            let expected: Vec<u32> =
                if added == round { 0..(round + 1) * 10 } else { round * 10..(round + 1) * 10 }.collect();
            while came.len() < expected.len() {
                let out = process.pull_from(&name, 100).await;
                assert!(!out.is_empty(), "only {came:?} came to {name}");
                process.ack_at(&name, &out).await;
                came.extend(out.iter().map(number));
            }
            came.sort_unstable();
            assert_eq!(came, expected, "{name}");
        }
    }
}

/// `TestReconnect`, with the log as a whole away; the tests over real brokers take those down.
#[tokio::test(start_paused = true)]
async fn a_log_that_goes_away_twice_holds_a_handler_up_and_loses_nothing() {
    let world = World::new(3).await;
    let log = Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), 3, Faults::default()));
    let process = world.process_on(log.clone()).await;
    process.create(|_| {}).await;
    let handled: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = handled.clone();
    doing(&process, HandlerOptions::default(), move |delivery| {
        seen.lock().push(number_of(&delivery.record.record));
        std::future::ready(Outcome::Ack)
    })
    .await;
    for third in 0..3 {
        world.publish(third * 100..third * 100 + 50, 3).await;
        pass(60).await;
        log.set(Faults { error_before: 1.0, ..Faults::default() });
        // The reads that wait already end, and what others publish meanwhile is not there for them.
        pass(10).await;
        world.publish(third * 100 + 50..(third + 1) * 100, 3).await;
        pass(60).await;
        assert_eq!(handled.lock().len() as u32, third * 100 + 50, "while it is away nothing can be read");
        log.set(Faults::default());
        pass(60).await;
    }
    let mut handled = handled.lock().clone();
    handled.sort_unstable();
    assert_eq!(handled, (0..300).collect::<Vec<_>>());
    assert_eq!(process.lag().await, 0);
}

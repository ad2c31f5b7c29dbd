//! What publishing without waiting for the log promises: over the reference model, with a log that fails
//! where a test scripts it.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use domain::{
    ErrorCode, Event,
    publish::{Item, Publisher, Refused, Rejected},
};
use ports::{Effect, ErrorKind};
use std::time::Duration;
use support::{Append, PARTITIONS, TOPIC, World, context, header, items, once, plain};
use tokio::sync::oneshot;

const DEAD: &str = "event-streaming.publish.dlq";

async fn accept(publisher: &Publisher, items: Vec<Item>) -> Result<Vec<bytestring::ByteString>, Refused> {
    publisher.accept(Some(TOPIC), items, 100, &context()).await
}

async fn drained(world: &World, publisher: &Publisher) -> bool {
    use ports::Clock as _;
    publisher.shutdown(world.clock.monotonic() + Duration::from_secs(1000)).await
}

fn in_one_partition(data: &str) -> Event {
    Event { partition: Some(0), ..plain("k", data) }
}

async fn values(world: &World, topic: &str) -> Vec<String> {
    let records = world.records(topic).await;
    let value = |record: &ports::Record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    records.iter().map(|(_, stored)| value(&stored.record)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_is_published_in_order_and_in_batches() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (go, gate) = oneshot::channel();
    world.log.script(TOPIC, [Append::After(gate)]);
    let ids = accept(&publisher, items([in_one_partition("0")])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    for n in 1..10 {
        accept(&publisher, items([in_one_partition(&n.to_string())])).await.unwrap();
    }
    assert!(world.records(TOPIC).await.is_empty(), "it was answered before the log was");
    assert_eq!(publisher.async_counts().waiting, 10);
    go.send(()).unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(values(&world, TOPIC).await, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(world.log.appends(TOPIC), [1, 9], "what waited is one append");
    assert_eq!(header(&world.records(TOPIC).await[0].1.record, "ce_id").as_deref(), Some(&*ids[0]));
    let counts = publisher.async_counts();
    assert_eq!((counts.accepted, counts.published, counts.waiting), (10, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_bad_event_is_refused_as_a_whole() {
    let world = World::new().await;
    let publisher = world.publisher();
    let bad = [
        Err(Rejected { error: domain::Error::invalid("type", "is wrong"), key: None }),
        Ok(Event { partition: Some(PARTITIONS), ..Event::default() }),
        Ok(Event { data: Some(Bytes::from(vec![0; 2 << 20])), ..Event::default() }),
        Ok(Event { id: Some("".into()), ..Event::default() }),
    ];
    for item in bad {
        let refused = accept(&publisher, vec![Ok(plain("k", "1")), item]).await.unwrap_err();
        assert_eq!(refused.index, Some(1), "{refused:?}");
    }
    let refused = publisher.accept(Some("nowhere"), items([plain("k", "1")]), 0, &context()).await;
    assert_eq!(refused.unwrap_err().error.code(), ErrorCode::TopicNotFound);
    assert_eq!(accept(&publisher, vec![]).await.unwrap_err().error.fields()[0].field, "events");
    assert!(drained(&world, &publisher).await);
    assert!(world.records(TOPIC).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_in_events_and_in_bytes_of_requests() {
    let mut world = World::new().await;
    world.config.respond_async.events_max = 3;
    world.config.respond_async.bytes_max = 100_000;
    let publisher = world.publisher();
    let (go, gate) = oneshot::channel();
    world.log.script(TOPIC, [Append::After(gate)]);
    accept(&publisher, items([plain("a", "1"), plain("b", "2")])).await.unwrap();
    let refused = accept(&publisher, items([plain("a", "3"), plain("b", "4")])).await.unwrap_err();
    assert_eq!((refused.error.code(), refused.error.effect()), (ErrorCode::Unavailable, Some(Effect::None)));
    assert!(refused.error.retry_after().is_some());
    // A small event may hold on to a large body.
    let large = publisher.accept(Some(TOPIC), items([plain("a", "5")]), 100_000, &context()).await;
    assert_eq!(large.unwrap_err().error.code(), ErrorCode::Unavailable);
    accept(&publisher, items([plain("a", "6")])).await.unwrap();
    go.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    accept(&publisher, items([plain("a", "7"), plain("b", "8")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(world.records(TOPIC).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_had_no_effect_is_tried_again_before_what_came_later() {
    let world = World::new().await;
    let publisher = world.publisher();
    let fail = || Append::Fail(ErrorKind::Unavailable);
    world.log.script(TOPIC, [fail(), fail(), Append::Fail(ErrorKind::Throttled)]);
    accept(&publisher, items([in_one_partition("1"), in_one_partition("2")])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    accept(&publisher, items([in_one_partition("3")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(values(&world, TOPIC).await, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_refuses_becomes_a_dead_letter_with_all_that_is_known() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Fail(ErrorKind::Denied)]);
    let event = Event {
        key: Some(Bytes::from_static(b"\xff\x00")),
        data: Some(Bytes::from_static(b"\x00\xfe")),
        headers: vec![ports::Header::new("own", "1")],
        ..Event::default()
    };
    let ids = accept(&publisher, items([event])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert!(world.records(TOPIC).await.is_empty());
    let dead = world.records(DEAD).await;
    let record = &dead[0].1.record;
    assert_eq!(record.key.as_deref(), Some(&b"\xff\x00"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"\x00\xfe"[..]));
    let of = |name: &str| header(record, name);
    assert_eq!(of("ce_id").as_deref(), Some(&*ids[0]));
    assert_eq!(of("own").as_deref(), Some("1"));
    assert_eq!(of("es_dlq_topic").as_deref(), Some(TOPIC));
    assert!(of("es_dlq_partition").is_some());
    assert_eq!(of("es_dlq_attempts").as_deref(), Some("1"));
    assert_eq!(of("es_dlq_error_kind").as_deref(), Some("forbidden"));
    assert_eq!(of("es_dlq_error_message").as_deref(), Some("failed as scripted"));
    let chain = of("es_dlq_error_chain").unwrap();
    assert!(chain.ends_with("failed as scripted\nthe cause of it"), "{chain}");
    assert_eq!(of("es_dlq_timestamp").as_deref(), Some("1767225600000"));
    for name in ["es_dlq_first_failed_at", "es_dlq_last_failed_at"] {
        assert_eq!(of(name).as_deref(), Some("2026-01-01T00:00:00.000Z"), "{name}");
    }
    let topic = world.topics().get(DEAD).await.unwrap();
    assert_eq!(topic.config["retention.ms"], "-1", "it keeps for ever");
    let max: usize = topic.config["max.message.bytes"].parse().unwrap();
    assert_eq!(max, (1 << 20) + (64 << 10), "it takes more than its source");
    assert_eq!(publisher.async_counts().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_in_the_log_is_not_tried_again() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Unknown]);
    accept(&publisher, items([plain("k", "1")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(world.records(TOPIC).await.len(), 1);
    assert_eq!(values(&world, DEAD).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_an_idempotency_key_is_tried_again_whatever_became_of_it() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Unknown]);
    accept(&publisher, items([once("k", "1")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(world.records(TOPIC).await.len(), 1);
    assert_eq!(publisher.async_counts().published, 1);
}

#[tokio::test(start_paused = true)]
async fn the_logs_late_report_is_waited_for() {
    for (appended, published) in [(true, 1), (false, 2)] {
        let world = World::new().await;
        let publisher = world.publisher();
        let (report, late) = oneshot::channel();
        world.log.script(TOPIC, [Append::Late(late)]);
        accept(&publisher, items([plain("k", "1")])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(world.records(TOPIC).await.is_empty());
        report.send(appended).unwrap();
        assert!(drained(&world, &publisher).await);
        assert_eq!(values(&world, TOPIC).await, ["1"], "it was not there and is tried again, or it is there");
        assert_eq!(world.log.appends(TOPIC).len(), published);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_outlasts_the_retries_ends_in_dead_letters() {
    let mut world = World::new().await;
    world.config.respond_async.retry_time = Duration::from_secs(10);
    let publisher = world.publisher();
    world.log.script(TOPIC, (0..100).map(|_| Append::Fail(ErrorKind::Unavailable)));
    accept(&publisher, items([plain("a", "1"), plain("a", "2")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    let dead = world.records(DEAD).await;
    assert_eq!(dead.len(), 2);
    let attempts: u32 = header(&dead[0].1.record, "es_dlq_attempts").unwrap().parse().unwrap();
    assert!((5..20).contains(&attempts), "{attempts} attempts");
    assert_ne!(
        header(&dead[0].1.record, "es_dlq_first_failed_at"),
        header(&dead[0].1.record, "es_dlq_last_failed_at")
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_written_is_counted_as_lost() {
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Fail(ErrorKind::Denied)]);
    world.log.script(DEAD, (0..100).map(|_| Append::Fail(ErrorKind::Unavailable)));
    accept(&publisher, items([plain("k", "1")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    let counts = publisher.async_counts();
    assert_eq!((counts.lost, counts.dead_lettered, counts.waiting), (1, 0, 0));
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::Fail(ErrorKind::Denied)]);
    world.log.script(DEAD, [Append::Fail(ErrorKind::Unavailable)]);
    accept(&publisher, items([plain("k", "1")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(publisher.async_counts().dead_lettered, 1, "writing it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_nothing_more_and_gives_up_at_its_deadline_by_name() {
    use ports::Clock as _;
    let world = World::new().await;
    let publisher = world.publisher();
    world.log.script(TOPIC, [Append::CrashBefore]);
    accept(&publisher, items([plain("a", "1")])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    accept(&publisher, items([plain("a", "2")])).await.unwrap();
    let deadline = world.clock.monotonic() + Duration::from_secs(5);
    let (stopped, refused) = tokio::join!(publisher.shutdown(deadline), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        accept(&publisher, items([plain("a", "3")])).await.unwrap_err()
    });
    assert!(!stopped);
    assert_eq!(refused.error.code(), ErrorCode::Unavailable);
    let counts = publisher.async_counts();
    assert_eq!((counts.accepted, counts.lost, counts.waiting), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn copies_under_one_key_are_published_once_and_another_content_is_a_dead_letter() {
    let world = World::new().await;
    let publisher = world.publisher();
    let (go, gate) = oneshot::channel();
    world.log.script(TOPIC, [Append::After(gate)]);
    accept(&publisher, items([plain("other", "0")])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    for data in ["1", "1", "2"] {
        accept(&publisher, items([once("k", data)])).await.unwrap();
    }
    go.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    accept(&publisher, items([once("k", "1")])).await.unwrap();
    assert!(drained(&world, &publisher).await);
    assert_eq!(world.records(TOPIC).await.len(), 2);
    let dead = world.records(DEAD).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0].1.record, "es_dlq_error_kind").as_deref(), Some("idempotency_key_reused"));
}

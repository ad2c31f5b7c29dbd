//! Uber's uForwarder, which pushes what it consumes.

use crate::support::consuming::{
    Hook, World, by_push, by_topics, doing, ids, number, number_of, pass, rejection,
};
use bytes::Bytes;
use domain::{
    dead_letter::header,
    delivery::Status,
    subscriptions::{AckRequest, HandlerOptions, RetryItem},
};
use parking_lot::Mutex;
use ports::{Header, Outcome, Record};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};
use testkit::fault::{Faults, FaultyLog};

fn event(id: &str, value: Option<Bytes>) -> (u32, Record) {
    let headers = vec![Header::new("ce_id", id.to_owned()), Header::new("ce_source", "/test")];
    (0, Record { headers, value, ..Record::default() })
}

fn attempts(hook: &Hook, id: &str) -> Vec<u32> {
    let own = hook.posts().into_iter().filter(|(of, _)| of == id);
    let mut attempts: Vec<u32> = own.map(|(_, attempt)| attempt.parse().unwrap()).collect();
    attempts.sort_unstable();
    attempts
}

/// End to end: `testEndToEndFlow`, with values that are empty and that are none.
#[tokio::test(start_paused = true)]
async fn what_is_pushed_arrives_as_it_was_also_where_it_is_empty() {
    let world = World::new(1).await;
    let values = [Some("text".into()), Some(Bytes::new()), None, Some(Bytes::from_static(b"\0\xff"))];
    world.append(values.iter().enumerate().map(|(n, of)| event(&n.to_string(), of.clone())).collect()).await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            new.ordering = Some("partition".into());
        })
        .await;
    pass(5).await;
    assert_eq!(hook.bodies(), values.map(Option::unwrap_or_default));
    assert_eq!((process.lag().await, world.is_there("mail.dlq").await), (0, false));
}

/// End to end with a retry queue and a dead letter queue: each event is seen in the topic, in the retry topic
/// and among the dead letters.
#[tokio::test(start_paused = true)]
async fn what_a_webhook_never_takes_is_pushed_from_its_topic_then_from_the_retry_topic_then_is_dead() {
    let world = World::new(1).await;
    world.append(["a", "b", "c"].map(|id| event(id, Some(Bytes::from_static(b"{}")))).to_vec()).await;
    let hook = Hook::answering(Some(500));
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            by_topics(new);
            new.retry.max_retries = Some(1);
        })
        .await;
    pass(60).await;
    for id in ["a", "b", "c"] {
        assert_eq!(attempts(&hook, id), [1, 2]);
    }
    assert_eq!(world.written_to("mail.retry.10s").await, 3);
    assert_eq!(world.records_of("mail.dlq").await.len(), 3);
    assert_eq!(process.lag().await, 0);
}

/// Tiered retry queues: the count of retries grows from tier to tier, up to the dead letter.
#[tokio::test(start_paused = true)]
async fn each_tier_of_retries_is_passed_once_with_its_attempt_counted_and_never_early() {
    let world = World::new(1).await;
    world.append(vec![event("a", Some(Bytes::from_static(b"{}")))]).await;
    let hook = Hook::answering(Some(503));
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            by_topics(new);
            new.retry.max_retries = Some(4);
        })
        .await;
    for (after, count) in [(9, 1), (3, 2), (16, 2), (5, 3), (34, 3), (7, 4), (72, 4), (9, 5)] {
        pass(after).await;
        assert_eq!(attempts(&hook, "a"), (1..=count).collect::<Vec<_>>(), "at {} s", world.seconds());
    }
    for tier in ["10s", "20s", "40s", "80s"] {
        assert_eq!(world.written_to(&format!("mail.retry.{tier}")).await, 1, "{tier}");
    }
    let letters = world.records_of("mail.dlq").await;
    assert_eq!(letters.len(), 1);
    let attempts = letters[0].record.headers.iter().find(|of| *of.name == *header::ATTEMPTS).unwrap();
    assert_eq!(attempts.value.as_deref(), Some(&b"5"[..]));
}

/// `LinkedAckTrackingQueueTest`: in order, out of order, with gaps.
#[tokio::test(start_paused = true)]
async fn in_whatever_order_events_are_acknowledged_the_commit_is_what_is_done_without_a_gap() {
    for seed in 0..5 {
        let world = World::new(1).await;
        world.publish(0..30, 1).await;
        let process = world.process().await;
        process.create(|new| new.ack_timeout = Some("1h".into())).await;
        let mut all = process.pull_all(30).await;
        if seed > 0 {
            all.shuffle(&mut StdRng::seed_from_u64(seed));
        }
        let mut done = BTreeSet::new();
        for delivery in all {
            process.ack(std::slice::from_ref(&delivery)).await;
            done.insert(number(&delivery));
            pass(1).await;
            let prefix = (0..30).take_while(|n| done.contains(n)).count() as u64;
            assert_eq!(world.committed(0).await.unwrap_or_default(), prefix, "seed {seed}, done {done:?}");
        }
    }
}

/// `LinkedAckTrackingQueueTest`: a nack after an ack, an ack after a nack.
#[tokio::test(start_paused = true)]
async fn of_contradicting_decisions_done_is_final_and_a_failure_is_not() {
    for dedup in [true, false] {
        let world = World::new(1).await;
        world.publish(0..2, 1).await;
        let process = world.process().await;
        process.create(|new| new.dedup.enabled = Some(dedup)).await;
        let out = process.pull_all(2).await;
        let ack = |n: usize| AckRequest { ack: ids(&out[n..=n]), ..AckRequest::default() };
        let after = Some(Duration::from_secs(5));
        let item = |n: usize| RetryItem { ack_id: out[n].ack_id.clone(), after, reason: None };
        let retry = |n: usize| AckRequest { retry: vec![item(n)], ..AckRequest::default() };
        assert_eq!(process.decide(ack(0)).await, [Status::Ok]);
        assert_eq!(process.decide(retry(0)).await, [Status::Expired], "dedup: {dedup}");
        assert_eq!(process.decide(retry(1)).await, [Status::Ok]);
        assert_eq!(process.decide(ack(1)).await, [Status::Ok], "it was done after all; dedup: {dedup}");
        process.nothing_comes().await;
        assert_eq!(world.committed(0).await, Some(2));
    }
}

/// `HeadBlockingDetectorTest`: a stuck head is found and cancelled.
#[tokio::test(start_paused = true)]
async fn an_event_that_its_handler_is_stuck_at_is_cut_off_and_what_is_behind_it_goes_on() {
    let world = World::new(1).await;
    world.publish_keyed(0..40, 4, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.ordering = Some("key".into());
            new.retry.max_retries = Some(1);
            new.retry.initial_delay = Some("1s".into());
        })
        .await;
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let handled = seen.clone();
    let options = HandlerOptions { timeout: Duration::from_secs(2), ..HandlerOptions::default() };
    doing(&process, options, move |delivery| {
        let handled = handled.clone();
        async move {
            let number = number_of(&delivery.record.record);
            if number == 0 {
                pending::<()>().await;
            }
            handled.lock().push(number);
            Outcome::Ack
        }
    })
    .await;
    pass(60).await;
    let mut seen = seen.lock().clone();
    seen.sort_unstable();
    assert_eq!(seen, (1..40).collect::<Vec<_>>());
    let letters = world.records_of("mail.dlq").await;
    assert_eq!((letters.len(), number_of(&letters[0].record)), (1, 0));
    let kind = letters[0].record.headers.iter().find(|of| *of.name == *header::ERROR_KIND).unwrap();
    assert_eq!(kind.value.as_deref(), Some(&b"timeout"[..]));
    assert_eq!(world.committed(0).await, Some(40));
}

/// `ProcessorImplTest`: what could not be produced elsewhere must not be committed here.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_kept_is_not_committed_past_and_not_answered_as_done() {
    for dedup in [true, false] {
        let world = World::new(1).await;
        world.publish(0..3, 1).await;
        let log = Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), 1, Faults::default()));
        let process = world.process_on(log.clone()).await;
        process.create(|new| new.dedup.enabled = Some(dedup)).await;
        let out = process.pull_all(3).await;
        process.ack(&out[1..]).await;
        log.set(Faults { error_before: 1.0, ..Faults::default() });
        assert_eq!(process.decide(rejection(&out[..1])).await, [Status::Unavailable]);
        pass(60).await;
        assert_eq!(world.committed(0).await.unwrap_or_default(), 0, "dedup: {dedup}");
        let view = process.view().await;
        assert!(view.causes.iter().any(|cause| cause.code == "dead-letter-topic"), "{view:?}");
        log.set(Faults::default());
        pass(60).await;
        let letters = world.records_of("mail.dlq").await;
        assert_eq!((letters.len(), number_of(&letters[0].record)), (1, 0));
        process.nothing_comes().await;
        assert_eq!(world.committed(0).await, Some(3), "dedup: {dedup}");
    }
}

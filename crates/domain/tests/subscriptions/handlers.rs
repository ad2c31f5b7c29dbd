//! Handlers that are linked in.

use crate::support::consuming::{NAME, World, doing, handled};
use domain::subscriptions::{HandlerOptions, State};
use parking_lot::Mutex;
use ports::{Failure, Outcome};
use std::{sync::Arc, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_linked_handler_gets_everything_once_and_progress_is_kept() {
    let world = World::new(2).await;
    world.publish(0..100, 2).await;
    let process = world.process().await;
    process.create(|new| new.ordering = None).await;
    let handler = handled(&process, Outcome::Ack).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handler.calls.lock().len(), 100);
    process.stop().await;
    assert_eq!((world.committed(0).await, world.committed(1).await), (Some(50), Some(50)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_wants_nothing_more_pauses_its_subscription() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let handler = handled(&process, Outcome::Gone { failure: Failure::new("http-410", "it is gone") }).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "handler-gone"));
    assert!(handler.calls.lock().len() < 5, "it is not asked for ever: {:?}", handler.calls);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_cannot_be_reached_opens_the_circuit_and_counts_no_attempt() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|new| new.retry.max_retries = Some(0)).await;
    handled(&process, Outcome::NotReached { failure: Failure::new("connect", "refused") }).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::CircuitOpen, "circuit-open"));
    let handler = handled(&process, Outcome::Ack).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(*handler.calls.lock(), [0], "it is no dead letter, though nothing may be tried twice");
}

/// What has lapsed goes out again: were the call not over by then, one event would be handled twice at once.
#[tokio::test(start_paused = true)]
async fn a_call_ends_before_its_delivery_lapses_and_a_key_is_never_handled_beside_itself() {
    let world = World::new(1).await;
    world.publish_keyed(0..2, 1, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            new.ordering = Some("key".into());
            new.ack_timeout = Some("10s".into());
            new.retry.max_retries = Some(1);
        })
        .await;
    let at_work: Arc<Mutex<Vec<(u64, u32)>>> = Arc::default();
    let called = at_work.clone();
    let options = HandlerOptions { timeout: Duration::from_secs(3600), ..HandlerOptions::default() };
    doing(&process, options, move |delivery| {
        called.lock().push((delivery.record.offset, delivery.attempt));
        let (called, first) = (called.clone(), delivery.record.offset == 0);
        async move {
            if first {
                tokio::time::sleep(Duration::from_secs(60)).await;
                called.lock().push((0, 0));
            }
            Outcome::Ack
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(*at_work.lock(), [(0, 1), (0, 2), (1, 1)], "it was cut off, twice, and its key went on then");
    let kept = world.records_of("mail.dlq").await;
    let kind = kept[0].record.headers.iter().find(|header| header.name == "es_dlq_error_kind").unwrap();
    assert_eq!(
        kind.value.as_deref(),
        Some(&b"timeout"[..]),
        "a call that took too long, and not one forgotten"
    );
}

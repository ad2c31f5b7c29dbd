//! Handlers that are linked in.

use crate::support::consuming::{NAME, World, handled};
use domain::subscriptions::State;
use ports::{Failure, Outcome};
use std::time::Duration;

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

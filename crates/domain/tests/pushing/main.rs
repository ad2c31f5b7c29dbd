//! Subscriptions that push, over the reference model and paused time: who holds what across crashes and
//! stops, and what counts as an attempt.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod copies;
mod retry_topics;

use bytes::Bytes;
use domain::{
    ErrorCode,
    subscriptions::{HandlerOptions, State},
};
use ports::{Header, MockEventHandler, Record};
use std::{sync::Arc, time::Duration};
use support::consuming::{Hook, NAME, World, by_push, definition, pass};

async fn publish(world: &World, ids: &[&str]) {
    let record = |id: &&str| Record {
        headers: vec![Header::new("ce_id", (*id).to_owned()), Header::new("ce_source", "/test")],
        value: Some(Bytes::from_static(b"{}")),
        ..Record::default()
    };
    world.append(ids.iter().map(|id| (0, record(id))).collect()).await;
}

fn first(ids: &[&str]) -> Vec<(String, String)> {
    ids.iter().map(|id| ((*id).to_owned(), "1".to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cut_off_comes_at_once_and_counts_no_attempt() {
    let world = World::new(1).await;
    publish(&world, &["a", "b", "c"]).await;
    let silent = Hook::answering(None);
    let mut process = world.pushing_to(&silent).await;
    process.create(by_push).await;
    for life in 1..=4 {
        pass(2).await;
        assert_eq!(silent.posts().len(), 3 * life, "at once, though the claims of before have not ended");
        process.kill().await;
        process = world.pushing_to(&silent).await;
    }
    process.kill().await;
    // Nor when the claims have ended by the time somebody is there again.
    pass(3600).await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    pass(2).await;
    assert_eq!((hook.posts(), process.lag().await), (first(&["a", "b", "c"]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_this_process_is_not_taken_over_by_another_copy_of_the_event() {
    let world = World::new(1).await;
    publish(&world, &["a", "a"]).await;
    let silent = Hook::answering(None);
    let process = world.pushing_to(&silent).await;
    process.create(by_push).await;
    pass(2).await;
    assert_eq!(silent.posts().len(), 1, "the other copy waits");
    process.kill().await;
    let process = world.pushing_to(&silent).await;
    pass(60).await;
    assert_eq!(silent.posts().len(), 2, "and waits on, whoever handles the first");
    assert_eq!(process.lag().await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_cuts_off_is_handed_back_and_counts_no_attempt() {
    let world = World::new(1).await;
    publish(&world, &["a", "b"]).await;
    let silent = Hook::answering(None);
    let process = world.pushing_to(&silent).await;
    process.create(by_push).await;
    pass(2).await;
    let until = world.clock.monotonic() + Duration::from_secs(5);
    process.subscriptions.shutdown(until).await;
    assert!(world.clock.monotonic() <= until, "what is under way is cut off in time");
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    pass(2).await;
    assert_eq!((hook.posts(), process.lag().await), (first(&["a", "b"]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_what_is_under_way() {
    let world = World::new(1).await;
    publish(&world, &["a"]).await;
    let silent = Hook::answering(None);
    let process = world.pushing_to(&silent).await;
    process.create(by_push).await;
    pass(2).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(Arc::strong_count(&silent), 2, "the test and the subscriptions have it, and no request");
    process.create(by_push).await;
    pass(2).await;
    assert_eq!(silent.posts().len(), 2, "the name begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_gone_is_asked_no_more() {
    let world = World::new(1).await;
    publish(&world, &["a", "b", "c", "d"]).await;
    let gone = Hook::answering(Some(410));
    let process = world.pushing_to(&gone).await;
    process
        .create(|new| {
            by_push(new);
            new.push.concurrency = Some(2);
        })
        .await;
    pass(100).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "handler-gone"));
    assert!(gone.posts().len() <= 2, "but by what was under way");
    *gone.status.lock() = Some(200);
    process.subscriptions.resume(NAME).await.unwrap();
    pass(2).await;
    assert_eq!(process.lag().await, 0);
    assert!(gone.posts().iter().all(|(_, attempt)| attempt == "1"), "it counts no attempt");
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_an_event_waits_as_long_as_it_is_asked_to_at_most_max_delay() {
    let world = World::new(1).await;
    let ids: Vec<String> = (10..30).map(|n| n.to_string()).collect();
    publish(&world, &ids.iter().map(|id| &**id).collect::<Vec<_>>()).await;
    let hook = Hook::asking_to_wait(503, "86400");
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_push(new);
            new.retry.max_retries = Some(3);
            new.retry.initial_delay = Some("1s".into());
            new.retry.max_delay = Some("2m".into());
        })
        .await;
    pass(60).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::CircuitOpen, "circuit-open"));
    assert!(view.causes[0].detail.contains("http-503"), "{}", view.causes[0].detail);
    let posts = hook.posts();
    let mut once = posts.clone();
    once.dedup_by(|one, other| one.0 == other.0);
    assert_eq!(posts.len(), once.len(), "none is sent again before its time: {posts:?}");
    *hook.status.lock() = Some(200);
    pass(300).await;
    assert_eq!(process.lag().await, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_gets_what_is_pushed() {
    let world = World::new(1).await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    process.create(by_push).await;
    let refused = process.subscriptions.pull(NAME, None, None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    let handler = Arc::new(MockEventHandler::new());
    let refused = process.subscriptions.handle(NAME, handler, HandlerOptions::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn without_webhooks_a_push_is_refused_and_a_stored_one_says_so() {
    let world = World::new(1).await;
    publish(&world, &["a"]).await;
    let process = world.process().await;
    let mut pushed = definition();
    by_push(&mut pushed);
    let refused = process.subscriptions.create(pushed).await.unwrap_err();
    assert_eq!((refused.code(), &*refused.fields()[0].field), (ErrorCode::NotSupported, "delivery.mode"));
    let hook = Hook::answering(None);
    world.pushing_to(&hook).await.create(by_push).await;
    let process = world.process().await;
    pass(2).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Degraded, "handler-missing"));
}

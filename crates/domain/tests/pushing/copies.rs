//! Webhooks and `dedup.key`: what has one key is one event, of which one copy is sent at a time, whatever
//! becomes of it and of the process.

use crate::support::consuming::{Hook, World, by_push, pass};
use bytes::Bytes;
use domain::subscriptions::NewSubscription;
use ports::{Header, Record};

/// Events by their ids, each of an order.
pub(crate) async fn publish_orders(world: &World, events: &[(&str, u32)]) {
    let record = |(id, order): &(&str, u32)| Record {
        headers: vec![Header::new("ce_id", (*id).to_owned()), Header::new("ce_source", "/test")],
        value: Some(Bytes::from(format!(r#"{{"order":{order}}}"#))),
        ..Record::default()
    };
    world.append(events.iter().map(|event| (0, record(event))).collect()).await;
}

/// It pushes, and events of one order are one event.
pub(crate) fn by_order(new: &mut NewSubscription) {
    by_push(new);
    new.dedup.key = Some("data.order".into());
}

/// Which event was sent at which attempt, as [`Hook::posts`] tells it.
pub(crate) fn posts<const N: usize>(of: [(&str, u32); N]) -> Vec<(String, String)> {
    of.map(|(id, attempt)| (id.to_owned(), attempt.to_string())).to_vec()
}

#[tokio::test(start_paused = true)]
async fn of_what_has_one_key_a_webhook_is_sent_one_also_after_a_restart() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 8), ("c", 7)]).await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    process.create(by_order).await;
    pass(10).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("b", 1)]), 0));
    process.stop().await;
    publish_orders(&world, &[("d", 8), ("e", 9)]).await;
    let process = world.pushing_to(&hook).await;
    pass(10).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("b", 1), ("e", 1)]), 0));
}

#[tokio::test(start_paused = true)]
async fn while_one_copy_is_under_way_no_other_is_sent_also_after_a_crash() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 7), ("c", 8)]).await;
    let silent = Hook::answering(None);
    let mut process = world.pushing_to(&silent).await;
    process.create(by_order).await;
    let mut expected = Vec::new();
    for _ in 1..=4 {
        pass(30).await;
        expected.extend(posts([("a", 1), ("c", 1)]));
        expected.sort();
        assert_eq!(silent.posts(), expected, "what was cut off goes on at once, and counts no attempt");
        process.kill().await;
        process = world.pushing_to(&silent).await;
    }
    process.kill().await;
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    pass(5).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("c", 1)]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_what_failed_waits_with_it_and_is_done_with_it() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 7)]).await;
    let hook = Hook::answering_first([Some(500)]);
    let process = world.pushing_to(&hook).await;
    process
        .create(|new| {
            by_order(new);
            new.retry.max_retries = Some(1);
            new.retry.initial_delay = Some("20s".into());
            new.retry.jitter = Some("none".into());
        })
        .await;
    pass(19).await;
    assert_eq!(hook.posts(), posts([("a", 1)]), "the copy is not tried in its stead");
    pass(60).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("a", 2)]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_what_was_refused_is_neither_sent_nor_a_dead_letter_of_its_own() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 7), ("c", 8)]).await;
    let hook = Hook::answering(Some(422));
    let process = world.pushing_to(&hook).await;
    process.create(by_order).await;
    pass(30).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("c", 1)]), 0));
    let letters = world.records_of("mail.dlq").await;
    let orders: Vec<_> = letters.into_iter().map(|letter| letter.record.value.unwrap()).collect();
    assert_eq!(orders, [r#"{"order":7}"#, r#"{"order":8}"#]);
}

//! Webhooks whose retries wait in topics, and copies of one key that wait there.

use super::copies::{by_order, posts, publish_orders};
use crate::support::consuming::{Hook, World, by_push, by_topics, pass};
use domain::subscriptions::{NewSubscription, State};

/// It pushes, and what fails waits in topics: 10 s, 20 s, then it is a dead letter.
fn pushing_by_topics(new: &mut NewSubscription) {
    by_push(new);
    by_topics(new);
}

/// The same, and events of one order are one event.
fn by_order_and_topics(new: &mut NewSubscription) {
    by_order(new);
    by_topics(new);
}

#[tokio::test(start_paused = true)]
async fn what_waits_outlives_a_crash_and_is_sent_when_it_is_due_with_its_attempts_counted_on() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7)]).await;
    let hook = Hook::answering_first([Some(500), Some(500)]);
    let mut process = world.pushing_to(&hook).await;
    process.create(pushing_by_topics).await;
    // Killed while it waits in each of the topics.
    for (attempt, early, rest) in [(1, 8, 3), (2, 15, 4)] {
        pass(1).await;
        assert_eq!(world.committed(0).await, Some(1), "it is done where it first lay");
        process.kill().await;
        process = world.pushing_to(&hook).await;
        pass(early).await;
        assert_eq!(hook.posts().len(), attempt, "early: {:?}", hook.posts());
        pass(rest).await;
        assert_eq!(hook.posts().len(), attempt + 1, "late: {:?}", hook.posts());
    }
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("a", 2), ("a", 3)]), 0));
    assert!(!world.is_there("mail.dlq").await);
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cut_off_of_a_retry_comes_at_once_and_counts_no_attempt() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7)]).await;
    let failing = Hook::answering(Some(500));
    let process = world.pushing_to(&failing).await;
    process.create(pushing_by_topics).await;
    pass(1).await;
    process.kill().await;
    let silent = Hook::answering(None);
    for life in 1..=4 {
        let process = world.pushing_to(&silent).await;
        pass(if life == 1 { 12 } else { 2 }).await;
        assert_eq!(silent.posts(), vec![("a".to_owned(), "2".to_owned()); life]);
        process.kill().await;
    }
    let hook = Hook::answering(Some(200));
    let process = world.pushing_to(&hook).await;
    pass(2).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 2)]), 0));
}

/// An outage is nobody's attempt: else each event would pass through all topics while it lasts, to its end
/// among the dead letters.
#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_nothing_moves_to_a_retry_topic_and_none_is_used_up() {
    let world = World::new(1).await;
    let ids: Vec<String> = (10..40).map(|n| n.to_string()).collect();
    publish_orders(&world, &ids.iter().zip(0..).map(|(id, n)| (&**id, n)).collect::<Vec<_>>()).await;
    let hook = Hook::answering(Some(503));
    let process = world.pushing_to(&hook).await;
    process.create(pushing_by_topics).await;
    pass(600).await;
    assert_eq!(process.view().await.state, State::CircuitOpen);
    let moved = world.written_to("mail.retry.10s").await;
    assert!((1..10).contains(&moved), "{moved} of 30 moved, where ten failures open the circuit");
    assert_eq!(world.written_to("mail.retry.20s").await, 0);
    *hook.status.lock() = Some(200);
    pass(120).await;
    assert_eq!((process.lag().await, world.is_there("mail.dlq").await), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_a_webhook_asks_for_is_rounded_up_to_the_next_topic() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7)]).await;
    let hook = Hook::asking_to_wait(429, "15");
    let process = world.pushing_to(&hook).await;
    process.create(pushing_by_topics).await;
    pass(1).await;
    *hook.status.lock() = Some(200);
    assert_eq!((world.written_to("mail.retry.10s").await, world.written_to("mail.retry.20s").await), (0, 1));
    pass(18).await;
    assert_eq!(hook.posts(), posts([("a", 1)]), "early");
    pass(3).await;
    assert_eq!((hook.posts(), process.lag().await), (posts([("a", 1), ("a", 2)]), 0));
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_what_waits_in_a_topic_is_sent_meanwhile_and_both_are_done_with_it() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 7)]).await;
    let hook = Hook::answering_first([Some(500)]);
    let process = world.pushing_to(&hook).await;
    process.create(by_order_and_topics).await;
    pass(5).await;
    let sent = posts([("a", 1), ("b", 2)]);
    assert_eq!(hook.posts(), sent, "the key is free while one waits, and its attempts are the key's");
    pass(120).await;
    assert_eq!((hook.posts(), process.lag().await), (sent, 0));
}

#[tokio::test(start_paused = true)]
async fn copies_that_wait_in_topics_share_their_attempts_and_end_as_one() {
    for (last, dead) in [(200, 0), (500, 1)] {
        let world = World::new(1).await;
        publish_orders(&world, &[("a", 7), ("b", 7)]).await;
        let hook = Hook::answering_first([Some(500), Some(500), Some(last)]);
        let process = world.pushing_to(&hook).await;
        process.create(by_order_and_topics).await;
        pass(5).await;
        for topic in ["mail.retry.10s", "mail.retry.20s"] {
            assert_eq!(world.written_to(topic).await, 1, "each waits as long as its key's attempts say");
        }
        pass(120).await;
        assert_eq!(hook.posts(), posts([("a", 1), ("a", 3), ("b", 2)]), "after {last}");
        assert_eq!((world.records_of("mail.dlq").await.len(), process.lag().await), (dead, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_one_copy_waits_and_the_other_is_under_way_sends_the_other_once_more_and_no_third() {
    let world = World::new(1).await;
    publish_orders(&world, &[("a", 7), ("b", 7)]).await;
    let hook = Hook::answering_first([Some(500), None]);
    let process = world.pushing_to(&hook).await;
    process.create(by_order_and_topics).await;
    pass(5).await;
    assert_eq!(hook.posts(), posts([("a", 1), ("b", 2)]));
    process.kill().await;
    let process = world.pushing_to(&hook).await;
    pass(2).await;
    let sent = posts([("a", 1), ("b", 2), ("b", 2)]);
    assert_eq!(hook.posts(), sent, "at once, though its claim has not ended, and at the same attempt");
    pass(120).await;
    assert_eq!((hook.posts(), process.lag().await), (sent, 0));
}

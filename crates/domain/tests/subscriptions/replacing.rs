//! Definitions that are replaced under load.

use crate::support::consuming::{NAME, World, by_topics, definition, number, numbers};
use domain::{
    ErrorCode,
    subscriptions::{NewSubscription, StartSpec, State},
};
use ports::TopicName;
use std::time::Duration;

fn as_defined(change: impl FnOnce(&mut NewSubscription)) -> NewSubscription {
    let mut new = definition();
    change(&mut new);
    new
}

/// Replacing a definition under load loses nothing and takes nothing from who is at work.
#[tokio::test(start_paused = true)]
async fn what_is_out_when_a_definition_is_replaced_may_be_decided_and_the_rest_comes_again() {
    let world = World::new(1).await;
    world.publish(0..6, 1).await;
    let process = world.process().await;
    process.create(|new| new.ack_timeout = Some("10s".into())).await;
    let out = process.pull_all(4).await;
    process.ack(&out[..1]).await;
    let new = as_defined(|new| new.ordering = Some("partition".into()));
    let view = process.subscriptions.replace(NAME, new, Some(0)).await.unwrap();
    assert_eq!(view.definition.revision, 1);
    assert!(view.causes.iter().any(|cause| cause.code == "changing"), "{view:?}");
    let began = world.seconds();
    process.ack(&out[1..2]).await;
    let rest = process.pull_all(4).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [2, 3, 4, 5], "in order, as it is now");
    assert!((10..12).contains(&(world.seconds() - began)), "they had their time, and no more");
    process.ack(&rest).await;
    process.nothing_comes().await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.lag), (State::Active, 0), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replacement_of_another_revision_or_name_is_refused() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let replace = async |new, revision| process.subscriptions.replace(NAME, new, revision).await;
    assert_eq!(replace(definition(), Some(1)).await.unwrap_err().code(), ErrorCode::Conflict);
    let other = as_defined(|new| new.name = "other".into());
    assert_eq!(replace(other, None).await.unwrap_err().fields()[0].field, "name");
    let unknown = as_defined(|new| new.topics = vec!["unknown".into()]);
    assert_eq!(replace(unknown, None).await.unwrap_err().code(), ErrorCode::TopicNotFound);
    assert_eq!(process.subscriptions.get(NAME).await.unwrap().definition.revision, 0);
}

/// A topic that leaves and comes again must not go on from where it was: that was another time's progress.
#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_to_a_subscription_begins_at_its_start_as_of_then() {
    let mut world = World::new(1).await;
    world.publish(0..3, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(3).await;
    process.ack(&all).await;
    let orders = std::mem::replace(&mut world.topic, TopicName::new("others").unwrap());
    world.create_topic(1).await;
    world.publish(10..13, 1).await;
    let others = as_defined(|new| (new.topics, new.start) = (vec!["others".into()], Some(StartSpec::Latest)));
    process.subscriptions.replace(NAME, others, None).await.unwrap();
    process.nothing_comes().await;
    world.publish(13..14, 1).await;
    assert_eq!(numbers(&process.pull_all(1).await), [13].into());
    let both = as_defined(|new| new.topics = vec!["others".into(), "orders".into()]);
    process.subscriptions.replace(NAME, both, None).await.unwrap();
    let came = numbers(&process.pull_all(4).await);
    assert_eq!(came, [0, 1, 2, 13].into(), "{orders} begins again at its start");
}

/// No event may overtake under an order that holds, so what waits in retry topics comes first.
#[tokio::test(start_paused = true)]
async fn retry_topics_are_emptied_before_an_order_holds_and_go_then() {
    let world = World::new(1).await;
    world.publish(0..2, 1).await;
    let process = world.process().await;
    process.create(by_topics).await;
    let all = process.pull_all(2).await;
    process.fail(&all[..1], None).await;
    process.ack(&all[1..]).await;
    let ordered = as_defined(|new| new.ordering = Some("partition".into()));
    process.subscriptions.replace(NAME, ordered, None).await.unwrap();
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert!(view.causes.iter().any(|cause| cause.code == "emptying"), "{view:?}");
    let again = process.pull_all(1).await;
    assert_eq!((number(&again[0]), again[0].attempt), (0, 2));
    process.ack(&again).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.definition.emptying.len()), (State::Active, 0), "{view:?}");
    let topic = TopicName::new("mail.retry.10s").unwrap();
    assert!(world.memory.admin().describe(&topic).await.unwrap().is_none());
    world.publish(2..5, 1).await;
    let run = process.pull_all(3).await;
    process.fail(&run[..1], Some(Duration::ZERO)).await;
    let again = process.pull_all(3).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_makes_changes_and_deletes_the_others_follow() {
    let world = World::new(2).await;
    let (one, other) = (world.replica().await, world.replica().await);
    one.create(|_| {}).await;
    let follows = || tokio::time::sleep(Duration::from_secs(2));
    follows().await;
    world.publish(0..20, 2).await;
    let mut came = numbers(&one.pull_all(10).await);
    came.extend(numbers(&other.pull_all(10).await));
    assert_eq!(came, (0..20).collect(), "each has its share");
    other.subscriptions.pause(NAME).await.unwrap();
    follows().await;
    assert_eq!(one.subscriptions.get(NAME).await.unwrap().state, State::Paused);
    one.subscriptions.resume(NAME).await.unwrap();
    one.subscriptions.replace(NAME, as_defined(|new| new.max_in_flight = Some(7)), None).await.unwrap();
    follows().await;
    let at_other = other.subscriptions.get(NAME).await.unwrap();
    assert_eq!((at_other.definition.max_in_flight, at_other.definition.paused.clone()), (7, None));
    other.subscriptions.delete(NAME).await.unwrap();
    follows().await;
    assert_eq!(one.subscriptions.get(NAME).await.unwrap_err().code(), ErrorCode::SubscriptionNotFound);
    one.create(|_| {}).await;
    follows().await;
    assert_eq!(other.subscriptions.get(NAME).await.unwrap().definition.revision, 0);
}

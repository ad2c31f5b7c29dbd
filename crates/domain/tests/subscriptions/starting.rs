//! Where a subscription begins, and begins again.

use crate::support::consuming::{NAME, WAIT, World, definition, numbers};
use domain::{ErrorCode, subscriptions::StartSpec};
use ports::{GroupId, OffsetCommit, TopicPartition};
use std::collections::BTreeMap;

#[tokio::test(start_paused = true)]
async fn a_start_is_fixed_when_the_subscription_is_made() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|new| new.start = Some(StartSpec::Latest)).await;
    process.subscriptions.shutdown(world.clock.monotonic()).await;
    // Published while nobody reads; nothing was committed yet.
    world.publish(10..12, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(2).await), [10, 11].into());
    let offsets = BTreeMap::from([("orders".to_owned(), BTreeMap::from([("0".to_owned(), 9)]))]);
    next.create(|new| {
        new.name = "by-offset".into();
        new.start = Some(StartSpec::Offsets(offsets));
    })
    .await;
    let pulled = next.subscriptions.pull("by-offset", None, WAIT).await.unwrap().deliveries;
    assert_eq!(numbers(&pulled), [9, 10, 11].into());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_again_is_read_from_its_start() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    process.stop().await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    // More than there were, so that the old position lies within the new log.
    world.publish(100..120, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(20).await), (100..120).collect());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_again_under_a_running_subscription_is_read_from_its_start() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    world.publish(100..103, 1).await;
    assert_eq!(numbers(&process.pull_all(3).await), (100..103).collect());
}

#[tokio::test(start_paused = true)]
async fn an_adopted_group_goes_on_from_its_offsets_and_an_epoch_begins_there() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let (group, partition) = (GroupId::new(NAME).unwrap(), TopicPartition::new(world.topic.clone(), 0));
    let mut foreign =
        world.memory.membership().join(&group, std::slice::from_ref(&world.topic)).await.unwrap();
    let ports::MembershipEvent::Assigned { generation, .. } = foreign.next().await.unwrap() else {
        panic!("it is alone");
    };
    let commit = OffsetCommit { partition: partition.clone(), generation, next: 6, metadata: "".into() };
    assert!(world.memory.offsets().commit(&group, vec![commit]).await[0].is_ok());
    foreign.leave().await.unwrap();
    let process = world.process().await;
    let refused = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    process.create(|new| new.adopt_group = true).await;
    let rest = process.pull_all(4).await;
    assert_eq!(numbers(&rest), (6..10).collect());
    process.ack(&rest).await;
    process.stop().await;
    world.process().await.nothing_comes().await;
    assert_eq!(world.committed(0).await, Some(10));
}

#[tokio::test(start_paused = true)]
async fn positions_that_the_log_forgot_go_on_from_the_mirror() {
    let world = World::new(1).await;
    world.publish(0..10, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(10).await;
    process.ack(&all).await;
    process.stop().await;
    // As Kafka does to a group that was empty for a week.
    world.memory.offsets().delete(&GroupId::new(NAME).unwrap()).await.unwrap();
    world.publish(10..12, 1).await;
    let next = world.process().await;
    assert_eq!(numbers(&next.pull_all(2).await), [10, 11].into());
}

#[tokio::test(start_paused = true)]
async fn what_retention_deleted_is_counted_and_shown_and_the_rest_comes() {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    process.nothing_comes().await;
    process.subscriptions.shutdown(world.clock.monotonic()).await;
    world.publish(0..10, 1).await;
    world.memory.admin().trim(&world.topic, &[(0, 6)]).await.unwrap();
    let next = world.process().await;
    let rest = next.pull_all(4).await;
    assert_eq!(numbers(&rest), (6..10).collect());
}

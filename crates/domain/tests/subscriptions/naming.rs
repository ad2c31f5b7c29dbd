//! Names, groups and deletions.

use crate::support::consuming::{NAME, World, definition, ids, numbers};
use domain::{
    ErrorCode,
    delivery::Status,
    subscriptions::{AckRequest, NewSubscription},
};
use ports::{GroupId, OffsetCommit};

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_and_a_name_twice_are_refused() {
    let world = World::new(1).await;
    let process = world.process().await;
    let unknown = NewSubscription { topics: vec!["nope".into()], ..definition() };
    let error = process.subscriptions.create(unknown).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TopicNotFound);
    process.create(|_| {}).await;
    let twice = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(twice.code(), ErrorCode::AlreadyExists);
    let missing = process.subscriptions.get("nope").await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::SubscriptionNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_group_with_offsets_of_somebody_else_is_not_taken() {
    let world = World::new(1).await;
    let group = GroupId::new(NAME).unwrap();
    let mut member =
        world.memory.membership().join(&group, std::slice::from_ref(&world.topic)).await.unwrap();
    let ports::MembershipEvent::Assigned { generation, partitions } = member.next().await.unwrap() else {
        panic!("nothing was assigned");
    };
    let commit = OffsetCommit { partition: partitions[0].clone(), generation, next: 0, metadata: "".into() };
    world.memory.offsets().commit(&group, vec![commit]).await[0].as_ref().unwrap();
    member.leave().await.unwrap();
    let process = world.process().await;
    let error = process.subscriptions.create(definition()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(world.committed(0).await.is_some(), "the foreign offsets were touched");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_leaves_no_offsets_and_its_name_begins_anew() {
    let world = World::new(1).await;
    world.publish(0..5, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(5).await;
    process.ack(&all).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(world.committed(0).await, None);
    assert_eq!(process.subscriptions.list().await.unwrap().len(), 0);
    process.create(|_| {}).await;
    assert_eq!(numbers(&process.pull_all(5).await), (0..5).collect());
    let late = process.decide(AckRequest { ack: ids(&all), ..AckRequest::default() }).await;
    assert_eq!(late, [Status::Unknown; 5], "an ackId of the deleted one decides nothing");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_holds_also_after_the_engine_has_begun_an_epoch() {
    let world = World::new(1).await;
    world.publish(0..1, 1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let all = process.pull_all(1).await;
    process.ack(&all).await;
    world.memory.admin().delete(&world.topic).await.unwrap();
    world.create_topic(1).await;
    world.publish(100..101, 1).await;
    process.pull_all(1).await;
    process.subscriptions.delete(NAME).await.unwrap();
    assert_eq!(world.process().await.subscriptions.count(), 0, "it came back with the next process");
}

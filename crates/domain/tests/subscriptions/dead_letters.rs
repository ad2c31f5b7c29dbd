//! Dead letters: their topic, and what guards against too many.

use crate::support::consuming::{NAME, World, ids, rejection};
use domain::{delivery::Status, subscriptions::State, subscriptions::policy::NewStormGuard};
use ports::TopicName;
use std::collections::BTreeMap;

#[tokio::test(start_paused = true)]
async fn nearly_nothing_but_dead_letters_pauses_the_subscription_and_that_outlives_the_process() {
    let world = World::new(1).await;
    world.publish(0..20, 1).await;
    let process = world.process().await;
    process
        .create(|new| {
            let guard = NewStormGuard { ratio: Some(0.5), window: Some(4) };
            new.dead_letter.storm_guard = Some(Some(guard));
        })
        .await;
    let out = process.pull_all(4).await;
    assert_eq!(process.decide(rejection(&out)).await, [Status::Ok; 4]);
    process.nothing_comes().await;
    let view = process.subscriptions.get(NAME).await.unwrap();
    assert_eq!((view.state, view.causes[0].code), (State::Paused, "dead-letter-storm"));
    process.stop().await;
    let next = world.process().await;
    next.nothing_comes().await;
    next.subscriptions.resume(NAME).await.unwrap();
    assert_eq!(next.pull_all(16).await.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn with_dead_letters_off_a_rejection_is_answered_and_the_event_is_let_go() {
    for dedup in [false, true] {
        let world = World::new(1).await;
        world.publish(0..2, 1).await;
        let process = world.process().await;
        process
            .create(|new| {
                new.dead_letter.enabled = Some(false);
                new.dedup.enabled = Some(dedup);
            })
            .await;
        let out = process.pull_all(2).await;
        let mut request = rejection(&out[..1]);
        request.ack = ids(&out[1..]);
        assert_eq!(process.decide(request).await, [Status::Ok, Status::Ok]);
        process.nothing_comes().await;
        let dead = TopicName::new("mail.dlq").unwrap();
        assert_eq!(world.memory.admin().describe(&dead).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_topic_keeps_for_ever_also_where_topics_are_made_by_themselves() {
    let mut world = World::new(2).await;
    world.auto_create = true;
    world.publish(0..1, 2).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let out = process.pull_all(1).await;
    assert_eq!(process.decide(rejection(&out)).await, [Status::Ok]);
    let dead = world.memory.admin().describe(&TopicName::new("mail.dlq").unwrap()).await.unwrap().unwrap();
    assert_eq!((dead.config["retention.ms"].as_str(), dead.partitions.len()), ("-1", 2));
    let source = world.memory.admin().describe(&world.topic).await.unwrap().unwrap();
    let bytes = |config: &BTreeMap<String, String>| config["max.message.bytes"].parse::<usize>().unwrap();
    assert!(bytes(&dead.config) > bytes(&source.config), "it takes what its source takes, and the headers");
}

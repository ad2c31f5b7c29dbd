//! The service killed at moments of chance.

use crate::load::{Chance, Habit, Store, World};
use event_streaming_tests::{Client, Log, unique};
use serde_json::{Value, json};
use std::time::Duration;

const PUBLISHERS: u64 = 20;
const KILLS: u64 = 4;

macro_rules! on_every_store {
    ($($test:ident => $name:ident($log:expr)),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$name($log, super::Store::Embedded).await;
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$name($log, super::Store::Redis(event_streaming_tests::redis().await)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$name($log, super::Store::Postgres(event_streaming_tests::postgres().await)).await;
            })+
        }
    };
}

on_every_store!(
    kills_under_load_lose_nothing_and_repeat_nothing_on_the_embedded_log =>
        kills_under_load_lose_nothing_and_repeat_nothing(event_streaming_tests::Log::embedded()),
    kills_under_load_lose_nothing_and_repeat_nothing_on_kafka =>
        kills_under_load_lose_nothing_and_repeat_nothing(event_streaming_tests::Log::kafka().await),
    three_kills_with_everything_out_make_no_dead_letters_on_the_embedded_log =>
        three_kills_with_everything_out_make_no_dead_letters(event_streaming_tests::Log::embedded()),
);

async fn kills_under_load_lose_nothing_and_repeat_nothing(log: Log, store: Store) {
    let mut chance = Chance::seeded(store.name().len() as u64 * 1000 + log.name().len() as u64);
    let retry = json!({"maxRetries": 5, "initialDelay": "50ms", "maxDelay": "500ms"});
    // What a kill cut off on its way to a client comes again when its claim has ended.
    let more = json!({"ackTimeout": "3s", "retry": retry, "deadLetter": {"stormGuard": null}});
    let mut world = World::new(store.setup(&log), &more).await;
    world.publish(PUBLISHERS, &mut chance);
    let mut habits = vec![Habit::Acknowledges; 5];
    habits.extend([Habit::Fails; 3]);
    habits.extend([Habit::Forgets; 2]);
    world.consume(&habits, &mut chance);
    world.goes_on(50).await;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(500 + chance.below(3000))).await;
        world.kill().await;
    }
    world.goes_on(50).await;
    world.ends_well().await;
}

/// A crash of the service is not the events' fault: it counts no attempt of what clients hold.
async fn three_kills_with_everything_out_make_no_dead_letters(log: Log, store: Store) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = store.setup(&log);
    let mut service = setup.start(data.path()).await;
    let (topic, name) = (unique("faults"), unique("sub"));
    let client = service.client();
    client.create_topic(&topic, 3).await;
    let more = json!({"ordering": "none", "ackTimeout": "5m", "retry": {"maxRetries": 3}});
    client.subscribe(&name, &topic, &more).await;
    let events: Vec<_> = (0..1000).map(|n| json!({"key": format!("k{}", n % 100), "data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let out = client.pull_count(&name, 1000).await;
    for _ in 0..3 {
        service.kill().await;
        service = setup.start(data.path()).await;
        nothing_comes(&service.client(), &name).await;
    }
    let client = service.client();
    client.ack(&name, &out).await;
    nothing_comes(&client, &name).await;
    let dead = client.get(&format!("/v1/topics/{name}.dlq")).await;
    assert_eq!(dead.status, 404, "nothing became a dead letter");
}

async fn nothing_comes(client: &Client, name: &str) {
    assert_eq!(client.pull(name, 100, "1s").await, Vec::<Value>::new());
}

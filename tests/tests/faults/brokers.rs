//! Kafka's brokers killed under load.

use crate::load::{Chance, Habit, Store, World};
use event_streaming_tests::{Log, OwnServers};
use serde_json::json;
use std::time::Duration;
use tokio::sync::Mutex;

/// Four brokers at once are too much for a small machine.
static ONE_CLUSTER: Mutex<()> = Mutex::const_new(());

async fn world(own: &OwnServers) -> World {
    let log = Log::Kafka(own.server("KAFKA_BROKERS").await);
    let more =
        json!({"ackTimeout": "20s", "retry": {"initialDelay": "100ms"}, "deadLetter": {"stormGuard": null}});
    World::new(Store::Embedded.setup(&log), &more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_and_consuming_go_on_after_all_brokers_were_away_for_15_seconds() {
    let _one = ONE_CLUSTER.lock().await;
    let mut chance = Chance::seeded(15);
    let own = OwnServers::up("kafka").await;
    let mut world = world(&own).await;
    world.publish(5, &mut chance);
    world.consume(&[Habit::Acknowledges, Habit::Acknowledges, Habit::Fails], &mut chance);
    world.goes_on(50).await;
    own.kill("kafka-1").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    own.start("kafka-1").await;
    world.publishes_more(50).await;
    world.goes_on(50).await;
    world.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_leaders_of_replicated_partitions_loses_and_repeats_nothing() {
    let _one = ONE_CLUSTER.lock().await;
    let mut chance = Chance::seeded(3);
    let own = OwnServers::up("kafka3").await;
    let mut world = world(&own).await;
    world.publish(5, &mut chance);
    world.consume(&[Habit::Acknowledges, Habit::Acknowledges, Habit::Fails], &mut chance);
    world.goes_on(50).await;
    // Each node leads one of the three partitions, and one of them coordinates the group.
    for node in ["kafka-1", "kafka-2"] {
        world.is_in_sync(3).await;
        own.kill(node).await;
        world.publishes_more(100).await;
        world.goes_on(100).await;
        own.start(node).await;
        world.goes_on(50).await;
    }
    world.ends_well().await;
}

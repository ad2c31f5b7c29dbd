//! The store of claims killed under load, and back on its data.

use crate::load::{Chance, Habit, Store, World};
use event_streaming_tests::{Log, OwnServers, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// How long it is away, from when the service has noticed.
const AWAY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn delivery_waits_for_a_redis_that_was_killed_and_goes_on_by_itself_on_the_embedded_log() {
    delivery_waits_for_a_redis_that_was_killed(&Log::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_waits_for_a_redis_that_was_killed_and_goes_on_by_itself_on_kafka() {
    delivery_waits_for_a_redis_that_was_killed(&Log::kafka().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_waits_for_a_postgres_that_was_killed_and_goes_on_by_itself_on_the_embedded_log() {
    delivery_waits_for_a_postgres_that_was_killed(&Log::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_waits_for_a_postgres_that_was_killed_and_goes_on_by_itself_on_kafka() {
    delivery_waits_for_a_postgres_that_was_killed(&Log::kafka().await).await;
}

async fn delivery_waits_for_a_redis_that_was_killed(log: &Log) {
    let own = OwnServers::up("redis").await;
    let store = Store::Redis(own.server("REDIS_URL").await);
    delivery_waits_for_a_store_that_was_killed(log, &own, store).await;
}

async fn delivery_waits_for_a_postgres_that_was_killed(log: &Log) {
    let own = OwnServers::up("postgres").await;
    let store = Store::Postgres(own.server("DATABASE_URL").await);
    delivery_waits_for_a_store_that_was_killed(log, &own, store).await;
}

async fn delivery_waits_for_a_store_that_was_killed(log: &Log, own: &OwnServers, store: Store) {
    let mut chance = Chance::seeded(7);
    let node = store.name();
    let retry = json!({"maxRetries": 5, "initialDelay": "50ms", "maxDelay": "500ms"});
    let more = json!({"ackTimeout": "20s", "retry": retry, "deadLetter": {"stormGuard": null}});
    let mut world = World::new(store.setup(log), &more).await;
    world.publish(5, &mut chance);
    world.consume(&[Habit::Acknowledges; 4], &mut chance);
    world.goes_on(50).await;

    own.kill(node).await;
    eventually("the subscription says what it waits for", async || {
        world.causes().await.iter().any(|code| code == "dedup-store").then_some(())
    })
    .await;
    eventually("the circuit is open", async || {
        (circuit(&world, node).await["state"] == "open").then_some(())
    })
    .await;
    let (deliveries, published) = (world.ledger().deliveries_count(), world.ledger().published_count());
    tokio::time::sleep(AWAY).await;
    assert_eq!(world.ledger().deliveries_count(), deliveries, "delivered without a claim");
    assert!(world.ledger().published_count() > published, "publishing needs no claims here");

    own.start(node).await;
    world.goes_on(50).await;
    eventually("nothing is wrong", async || world.causes().await.is_empty().then_some(())).await;
    // What the health says may be a moment old.
    eventually("the circuit is closed", async || {
        (circuit(&world, node).await == json!({"state": "closed"})).then_some(())
    })
    .await;
    world.ends_well().await;
}

async fn circuit(world: &World, name: &str) -> Value {
    let health = world.client().get("/actuator/health").await.body;
    health["components"]["circuitBreakers"]["details"][name].clone()
}

//! Claims in Redis and in PostgreSQL: the store that the configuration chose is the one that publishing and
//! consuming use.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Server, Service, Setup, eventually, unique};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// A server, and two places for claims in it.
struct Store {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
    place: &'static str,
    places: [String; 2],
    _server: Arc<Server>,
}

impl Store {
    /// Named by its host alone.
    async fn redis() -> Self {
        let server = event_streaming_tests::redis().await;
        let url = reqwest::Url::parse(&server.address).expect("a URL");
        let settings = vec![
            ("redis.host", url.host_str().expect("a host").to_owned()),
            ("redis.port", url.port().unwrap_or(6379).to_string()),
            ("redis.database", url.path().trim_start_matches('/').to_owned()),
        ];
        let places = [(); 2].map(|()| format!("{}:", unique("test")));
        Self { name: "redis", settings, place: "redis.key-prefix", places, _server: server }
    }

    async fn postgres() -> Self {
        let server = event_streaming_tests::postgres().await;
        let settings = vec![
            ("event-streaming.idempotency.backend", "postgres".to_owned()),
            ("postgres.url", server.address.clone()),
        ];
        // The one is made anew, and the other is there from the second run on.
        let places = ["event_streaming_claims_1".to_owned(), "event_streaming_claims_2".to_owned()];
        Self { name: "postgres", settings, place: "postgres.schema", places, _server: server }
    }

    /// A service with its claims in one of the two places.
    async fn start(&self, place: usize, data: &Path) -> Service {
        self.setup().set(self.place, &self.places[place]).start(data).await
    }

    fn setup(&self) -> Setup {
        self.settings.iter().fold(Setup::on(&Log::embedded()), |setup, (key, value)| setup.set(key, value))
    }
}

macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Store::redis().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Store::postgres().await).await;
            })+
        }
    };
}

on_every_store!(
    a_receipt_is_found_in_the_store_that_was_named_and_in_no_other,
    what_is_out_at_a_client_is_held_by_the_store_that_was_named,
    a_store_that_is_not_there_is_named_and_refuses_what_needs_it_alone,
);

async fn publish(client: &Client, topic: &str, event: &Value) -> (Value, bool) {
    let receipt = client.publish(topic, event).await;
    (receipt["offset"].clone(), receipt["duplicate"] == true)
}

async fn a_receipt_is_found_in_the_store_that_was_named_and_in_no_other(store: Store) {
    let data = tempfile::tempdir().expect("a folder");
    let topic = unique("claimed");
    // Places may be there from another run.
    let event = json!({"key": "a", "data": 1, "idempotencykey": unique("order")});
    let service = store.start(0, data.path()).await;
    let line = service.ready_line();
    assert!(line.contains(&format!(" idempotency={} ", store.name)), "{line}");
    let client = service.client();
    client.create_topic(&topic, 1).await;
    let health = client.get("/actuator/health").await.expect(200);
    assert_eq!(health["components"][store.name]["status"], "UP", "{health}");
    let circuits = &health["components"]["circuitBreakers"];
    assert_eq!(circuits["details"][store.name], json!({"state": "closed"}), "{health}");
    let first = publish(&client, &topic, &event).await;
    assert_eq!(first, (json!(0), false));
    assert_eq!(publish(&client, &topic, &event).await, (json!(0), true));
    service.stop().await;

    let elsewhere = store.start(1, data.path()).await;
    assert_eq!(publish(&elsewhere.client(), &topic, &event).await, (json!(1), false), "nobody knows it");
    elsewhere.stop().await;

    let again = store.start(0, data.path()).await;
    assert_eq!(publish(&again.client(), &topic, &event).await, (json!(0), true));
}

async fn what_is_out_at_a_client_is_held_by_the_store_that_was_named(store: Store) {
    let data = tempfile::tempdir().expect("a folder");
    let (topic, name) = (unique("claimed"), unique("sub"));
    let service = store.start(0, data.path()).await;
    let client = service.client();
    client.create_topic(&topic, 2).await;
    client.subscribe(&name, &topic, &json!({"ordering": "none", "ackTimeout": "10m"})).await;
    let events: Vec<_> = (0..20).map(|n| json!({"key": format!("k{n}"), "data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let out = client.pull_count(&name, 20).await;
    service.kill().await;

    let elsewhere = store.start(1, data.path()).await;
    assert_eq!(elsewhere.client().pull_count(&name, 20).await.len(), 20, "nobody knows that they are out");
    elsewhere.kill().await;

    let again = store.start(0, data.path()).await;
    let client = again.client();
    assert_eq!(client.pull(&name, 100, "1s").await, Vec::<Value>::new(), "they are out still");
    client.ack(&name, &out).await;
}

async fn a_store_that_is_not_there_is_named_and_refuses_what_needs_it_alone(mut store: Store) {
    for (key, value) in &mut store.settings {
        match *key {
            "redis.port" => "1".clone_into(value),
            "postgres.url" => "postgres://me@127.0.0.1:1/nowhere".clone_into(value),
            _ => {}
        }
    }
    let data = tempfile::tempdir().expect("a folder");
    let topic = unique("claimed");
    let service = store.start(0, data.path()).await;
    let client = service.client();
    client.create_topic(&topic, 1).await;
    let health = client.get("/actuator/health").await.expect(503);
    assert_eq!(health["components"][store.name]["status"], "DOWN", "{health}");
    assert_eq!(health["components"]["embedded"]["status"], "UP", "{health}");
    client.get("/actuator/health/liveness").await.expect(200);
    assert_eq!(publish(&client, &topic, &json!({"data": 1})).await, (json!(0), false));
    let path = format!("/v1/topics/{topic}/events");
    let problem = client.post(&path, &json!({"data": 1, "idempotencykey": "k"})).await.expect(503);
    assert_eq!(problem["code"], "unavailable", "{problem}");
    let circuit = eventually("the circuit opens", async || {
        client.post(&path, &json!({"data": 1, "idempotencykey": "k"})).await.expect(503);
        let health = client.get("/actuator/health").await.expect(503);
        let circuit = health["components"]["circuitBreakers"]["details"][store.name].clone();
        (circuit["state"] == "open").then_some(circuit)
    })
    .await;
    assert!(circuit["since"].is_string() && circuit["nextProbe"].is_string(), "{circuit}");
    assert!(circuit["reason"].as_str().is_some_and(|reason| reason.contains("not reached")), "{circuit}");
    assert_eq!(client.browse_all(&topic).await.len(), 1, "what could not be claimed was not appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_said_beats_a_server_that_is_named() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded())
        .set("redis.host", "nowhere.invalid")
        .set("event-streaming.idempotency.backend", "embedded");
    let service = setup.start(data.path()).await;
    assert!(service.ready_line().contains(" idempotency=embedded "), "{}", service.ready_line());
    let health = service.client().get("/actuator/health").await.expect(200);
    assert_eq!(health["components"].get("redis"), None, "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_for_subscriptions_is_what_a_subscription_has_that_does_not_say() {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded())
        .set("event-streaming.dlq.enabled", "false")
        .set("event-streaming.dlq.max-retries", "7")
        .set("event-streaming.dlq.retry-delay-ms", "250")
        .set("event-streaming.consumer.idempotency.enabled", "false")
        .set("event-streaming.consumer.idempotency.ttl", "7200")
        .start(data.path())
        .await;
    let client = service.client();
    let (topic, name) = (unique("configured"), unique("sub"));
    client.create_topic(&topic, 1).await;
    let definition = client.subscribe(&name, &topic, &json!({})).await;
    assert_eq!(definition["retry"]["maxRetries"], 7, "{definition}");
    assert_eq!(definition["retry"]["initialDelay"], "250ms", "{definition}");
    assert_eq!(definition["deadLetter"]["enabled"], false, "{definition}");
    assert_eq!(definition["dedup"]["enabled"], false, "{definition}");
    assert_eq!(definition["dedup"]["ttl"], "2h", "{definition}");
    // Of what it says it has what it says.
    let own = json!({"retry": {"maxRetries": 1}, "dedup": {"enabled": true}});
    let definition = client.subscribe(&unique("own"), &topic, &own).await;
    assert_eq!(
        (&definition["retry"]["maxRetries"], &definition["dedup"]["enabled"]),
        (&json!(1), &json!(true))
    );
    assert!(!service.output().contains("no effect"), "{}", service.output());
}

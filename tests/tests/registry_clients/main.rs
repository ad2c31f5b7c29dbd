//! Clients made for Confluent's registry, against ours: what they ask of it, and orders that they write to Kafka and the
//! service reads, and the other way round; then schemas that evolve. The scripts of clients in other languages are in
//! `tests/clients`.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod evolution;
mod rust;
mod scripts;

use event_streaming_tests::{Client, Log, Service, Setup, foreign_clients, unique};
use rust::RustClient;
use scripts::Script;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Stamps a test a client and format.
macro_rules! both_ways {
    ($($client:ident { $($name:ident: $format:ident),+ })+) => {
        $($(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            orders_go_both_ways(&$client, Format::$format).await;
        })+)+
    };
}

const PYTHON: Script = Script::Python;
const NODE: Script = Script::Node;
const RUST: RustClient = RustClient;

both_ways! {
    PYTHON {
        orders_go_both_ways_with_the_python_client_in_protobuf: Protobuf,
        orders_go_both_ways_with_the_python_client_in_avro: Avro,
        orders_go_both_ways_with_the_python_client_in_json: Json
    }
    NODE {
        orders_go_both_ways_with_the_javascript_client_in_protobuf: Protobuf,
        orders_go_both_ways_with_the_javascript_client_in_avro: Avro,
        orders_go_both_ways_with_the_javascript_client_in_json: Json
    }
    RUST {
        orders_go_both_ways_with_the_rust_client_in_protobuf: Protobuf,
        orders_go_both_ways_with_the_rust_client_in_avro: Avro,
        orders_go_both_ways_with_the_rust_client_in_json: Json
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_answers_all_that_the_python_client_asks() {
    the_registry_answers(&PYTHON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_answers_all_that_the_javascript_client_asks() {
    the_registry_answers(&NODE).await;
}

async fn the_registry_answers(script: &Script) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded()).start(data.path()).await;
    script.ask(&registry_of(&service)).await;
}

fn registry_of(service: &Service) -> String {
    format!("{}/schema-registry", service.http())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Avro,
    Json,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Protobuf => "PROTOBUF",
            Self::Avro => "AVRO",
            Self::Json => "JSON",
        }
    }
}

/// A client that writes orders to the topic with its serializer, and reads them with its deserializer.
trait Orders {
    /// Registers the schema of orders, and the one it refers to, as the client does; writes the orders.
    async fn produce(&self, place: &Place, format: Format, orders: &[Value]);

    /// The first `count` orders of the topic.
    async fn consume(&self, place: &Place, format: Format, count: usize) -> Vec<Value>;
}

/// A service on Kafka, and a topic there that the clients go to by themselves.
struct Place {
    client: Client,
    registry: String,
    brokers: String,
    topic: String,
    _service: Service,
    _data: TempDir,
}

impl Place {
    async fn new() -> Self {
        let log = Log::kafka().await;
        let Log::Kafka(server) = &log else { unreachable!("it was asked for Kafka") };
        let brokers = server.address.clone();
        let data = tempfile::tempdir().expect("a folder");
        let service = Setup::on(&log).start(data.path()).await;
        let (client, topic) = (service.client(), unique("clients"));
        client.create_topic(&topic, 1).await;
        let registry = registry_of(&service);
        Self { client, registry, brokers, topic, _service: service, _data: data }
    }
}

fn order(number: i32) -> Value {
    json!({
        "id": format!("o-{number}"),
        "cents": 100 * number,
        "items": [{"sku": "a", "count": number}, {"sku": "b", "count": 2}]
    })
}

async fn orders_go_both_ways(client: &impl Orders, format: Format) {
    let place = Place::new().await;
    let (service, topic) = (&place.client, &place.topic);
    let orders = [order(1), order(2), order(3)];
    client.produce(&place, format, &orders[..2]).await;

    // Its topic follows no schema yet: the frame says all that is needed.
    let shown = service.browse_all(topic).await;
    let data: Vec<&Value> = shown.iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&orders[0], &orders[1]], "{shown:?}");

    // From here on what is published as JSON becomes what the client registered.
    let path = format!("/v1/topics/{topic}");
    let schema = json!({"schema": {"required": true}});
    service.send(service.request(reqwest::Method::PATCH, &path).json(&schema)).await.expect(200);
    service.publish(topic, &json!({"key": "k", "data": orders[2]})).await;
    let refused =
        service.post(&format!("{path}/events"), &json!({"data": {"id": 1, "cents": 2}})).await.expect(422);
    assert_eq!(refused["code"], "schema_rejected", "{refused}");

    let subscription = unique("clients");
    service.subscribe(&subscription, topic, &json!({})).await;
    let pulled = service.pull_count(&subscription, 3).await;
    let data: Vec<&Value> = pulled.iter().map(|delivery| &delivery["event"]["data"]).collect();
    assert_eq!(data, orders.iter().collect::<Vec<_>>());
    for delivery in &pulled {
        let read_by = &delivery["event"]["schema"];
        assert_eq!((&read_by["subject"], &read_by["version"]), (&json!(format!("{topic}-value")), &json!(1)));
        if format == Format::Protobuf {
            assert_eq!(read_by["message"], "shop.Order");
        }
    }

    assert_eq!(client.consume(&place, format, 3).await, orders);
}

/// A file of the schemas that the clients share.
fn schema_text(path: &str) -> String {
    let path = foreign_clients().join("schemas").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

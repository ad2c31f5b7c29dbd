//! A schema that evolves under those who use it: publishers and consumers of either version go on, and a version that
//! would break them is refused with what is wrong in words.

use super::rust::values_in;
use base64::{Engine, prelude::BASE64_STANDARD};
use event_streaming_tests::{Client, Log, Setup, on_every_log, unique};
use schema_registry_converter::prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message as _,
};
use serde_json::{Value, json};

on_every_log!(old_and_new_consumers_read_both_versions_and_a_breaking_one_is_refused);

const FIRST: &str = "syntax = \"proto3\"; package shop; message Order { string id = 1; int32 cents = 2; }";
const SECOND: &str = "syntax = \"proto3\"; package shop; \
                      message Order { string id = 1; int32 cents = 2; string note = 3; }";
/// The number of `cents`, used again for something else.
const THIRD: &str = "syntax = \"proto3\"; package shop; \
                     message Order { string id = 1; string currency = 2; string note = 3; }";

async fn old_and_new_consumers_read_both_versions_and_a_breaking_one_is_refused(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let (client, topic) = (service.client(), unique("evolution"));
    let definition = json!({"name": topic, "partitions": 1, "schema": {"required": true}});
    client.post("/v1/topics", &definition).await.expect(201);
    let path = format!("/schema-registry/subjects/{topic}-value/versions");
    let register =
        async |text: &str| client.post(&path, &json!({"schemaType": "PROTOBUF", "schema": text})).await;

    let first = register(FIRST).await.expect(200);
    client.publish(&topic, &json!({"data": {"id": "o-1", "cents": 100}})).await;

    let second = register(SECOND).await.expect(200);
    assert_eq!((&first["version"], &second["version"]), (&json!(1), &json!(2)));
    client.publish(&topic, &json!({"data": {"id": "o-2", "cents": 200, "note": "gift"}})).await;
    // An application that was built with the first version frames its values by that, and goes on.
    let order = written(&reader(FIRST), &json!({"id": "o-3", "cents": 300}));
    let id = u32::try_from(first["id"].as_u64().expect("an id")).expect("an id of four bytes");
    let framed = [&[0][..], &id.to_be_bytes(), &[0], &order].concat();
    let kind = [("content-type", "application/vnd.confluent.protobuf")];
    client.post_bytes(&format!("/v1/topics/{topic}/events"), &kind, framed).await.expect(200);

    let refused = register(THIRD).await.expect(409);
    let why = refused["message"].as_str().expect("a sentence");
    for words in ["FIELD_SCALAR_KIND_CHANGED", "Order/2", "oldSchemaVersion: "] {
        assert!(why.contains(words), "{words} is not in: {why}");
    }
    let asked = format!("/schema-registry/compatibility/subjects/{topic}-value/versions?verbose=true");
    let answer = client.post(&asked, &json!({"schemaType": "PROTOBUF", "schema": THIRD})).await.expect(200);
    assert_eq!(answer["is_compatible"], false);
    assert!(answer["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{answer}");
    assert_eq!(client.get(&path).await.expect(200), json!([1, 2]));

    // Consumers that were built with either version, each with its own descriptor.
    let old = [
        json!({"id": "o-1", "cents": 100}),
        json!({"id": "o-2", "cents": 200}),
        json!({"id": "o-3", "cents": 300}),
    ];
    let mut new = old.clone();
    new[1]["note"] = json!("gift");
    let mut seen = vec![pulled_bytes(&client, &topic).await];
    if let Log::Kafka(server) = &log {
        seen.push(values_in(&server.address, &topic, old.len()).await);
    }
    for values in seen {
        for (text, expected) in [(FIRST, &old), (SECOND, &new)] {
            let reader = reader(text);
            let read: Vec<Value> = values.iter().map(|value| read(&reader, value)).collect();
            assert_eq!(&read[..], expected, "read by: {text}");
        }
    }

    // And one that leaves it to the service.
    let shown = client.browse_all(&topic).await;
    let read: Vec<&Value> = shown.iter().map(|event| &event["data"]).collect();
    assert_eq!(read, new.iter().collect::<Vec<_>>());
    let versions: Vec<&Value> = shown.iter().map(|event| &event["schema"]["version"]).collect();
    assert_eq!(versions, [1, 2, 1]);
}

/// What protoc would have built into an application.
fn reader(text: &str) -> MessageDescriptor {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("order.proto"), text).expect("it can be written");
    let set = protox::compile(["order.proto"], [folder.path()]).expect("the schema compiles");
    let pool = DescriptorPool::from_file_descriptor_set(set).expect("they are whole");
    pool.get_message_by_name("shop.Order").expect("it is there")
}

fn written(message: &MessageDescriptor, value: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(message.clone(), value).expect("it fits").encode_to_vec()
}

/// Reads a value that is framed for the schema's first message.
fn read(message: &MessageDescriptor, framed: &[u8]) -> Value {
    assert_eq!((framed[0], framed[5]), (0, 0));
    let read = DynamicMessage::decode(message.clone(), &framed[6..]).expect("it is read");
    serde_json::to_value(&read).expect("it has a JSON form")
}

async fn pulled_bytes(client: &Client, topic: &str) -> Vec<Vec<u8>> {
    let name = unique("evolution");
    client.subscribe(&name, topic, &json!({"payload": "bytes"})).await;
    let pulled = client.pull_count(&name, 3).await;
    let bytes = |delivery: &Value| {
        let text = delivery["event"]["data_base64"].as_str().expect("bytes");
        BASE64_STANDARD.decode(text).expect("base64")
    };
    pulled.iter().map(bytes).collect()
}

//! Topics whose values follow a schema, over HTTP.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use serde_json::{Value, json};
use support::Front;

const EVENTS: &str = "/v1/topics/orders/events";
const JSON: (&str, &str) = ("content-type", "application/json");
const TEXT: &str =
    "syntax = \"proto3\"; package shop; message Order { string id = 1; } message Item { int32 count = 1; }";

async fn front() -> Front {
    let front = Front::new().await;
    let new = json!({"name": "orders", "partitions": 1, "schema": {"required": true}});
    let shown = front.post("/v1/topics", &new).await.expect(201);
    let schema = json!({"subject": "orders-value", "required": true, "autoRegister": false});
    assert_eq!(shown["schema"], schema);
    let new = json!({"schemaType": "PROTOBUF", "schema": TEXT});
    front.post("/schema-registry/subjects/orders-value/versions", &new).await.expect(200);
    front
}

#[tokio::test(start_paused = true)]
async fn values_are_shown_read_by_their_schema_or_as_they_are() {
    let front = front().await;
    front.post(EVENTS, &json!({"data": {"id": "a"}})).await.expect(200);
    front.post(EVENTS, &json!({"messageType": "Item", "data": {"count": 2}})).await.expect(200);
    let binary = [("content-type", "application/x-protobuf"), ("ce-messagetype", "shop.Item")];
    front.send("POST", EVENTS, &binary, &b"\x08\x03"[..]).await.expect(200);
    let strict = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "messagetype": "Item",
                        "datacontenttype": "application/json", "data": {"count": 4}});
    let structured = [("content-type", "application/cloudevents+json")];
    front.send("POST", EVENTS, &structured, strict.to_string()).await.expect(200);

    let page = front.get(EVENTS).await.expect(200);
    let events = page["events"].as_array().unwrap();
    let data: Vec<&Value> = events.iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&json!({"id": "a"}), &json!({"count": 2}), &json!({"count": 3}), &json!({"count": 4})]);
    assert_eq!(events[0]["datacontenttype"], "application/json");
    let schema = json!({"id": 1, "subject": "orders-value", "version": 1, "message": "shop.Order"});
    assert_eq!(events[0]["schema"], schema);
    assert!(events.iter().all(|event| event.get("extensions").is_none()), "{events:?}");
    let page = front.get(&format!("{EVENTS}?decode=false")).await.expect(200);
    assert_eq!(page["events"][0]["data_base64"], "AAAAAAEACgFh");
    assert_eq!(page["events"][0]["datacontenttype"], "application/vnd.confluent.protobuf");
    assert_eq!(page["events"][0].get("schema"), None);
    assert_eq!(front.get(&format!("{EVENTS}?decode=maybe")).await.field(), "decode");

    for (name, payload) in [("j", "json"), ("b", "bytes")] {
        let new =
            json!({"name": name, "topics": ["orders"], "delivery": {"mode": "pull"}, "payload": payload});
        front.post("/v1/subscriptions", &new).await.expect(201);
        let wait = json!({"max": 1, "wait": "5s"});
        let pulled = front.post(&format!("/v1/subscriptions/{name}/pull"), &wait).await.expect(200);
        let event = &pulled["deliveries"][0]["event"];
        match payload {
            "json" => assert_eq!((&event["data"], &event["schema"]), (&json!({"id": "a"}), &schema)),
            _ => assert_eq!(event["data_base64"], "AAAAAAEACgFh"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_named_as_its_format_names_it() {
    let front = front().await;
    let bad = front.post(EVENTS, &json!({"data": {"id": 7}})).await;
    assert_eq!((bad.field(), &bad.body["code"]), ("data.id", &json!("schema_rejected")));
    bad.expect(422);
    let typed = [("content-type", "application/vnd.x+json")];
    assert_eq!(front.send("POST", EVENTS, &typed, r#"{"id":7}"#).await.field(), "data.id");
    let other = [("content-type", "text/plain")];
    assert_eq!(front.send("POST", EVENTS, &other, "text").await.field(), "content-type");
    let binary = [("content-type", "application/x-protobuf"), ("ce-messagetype", "Nope")];
    assert_eq!(front.send("POST", EVENTS, &binary, "").await.field(), "ce-messagetype");
    let batch = json!({"events": [{"data": {"id": "a"}}, {"messageType": "Nope", "data": {}}]});
    let answer = front.post(EVENTS, &batch).await.expect(207);
    let error = &answer["results"][1]["error"];
    assert_eq!(
        (&error["status"], &error["errors"][0]["field"]),
        (&json!(422), &json!("events[1].messageType"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_topic_follows_is_changed_and_taken_away() {
    let front = front().await;
    let path = "/v1/topics/orders";
    let patch = async |body: &str| front.send("PATCH", path, &[JSON], body.to_owned()).await;
    let changed = patch(r#"{"schema": {"subject": "other", "autoRegister": true}}"#).await.expect(200);
    let schema = json!({"subject": "other", "required": false, "autoRegister": true});
    assert_eq!(changed["schema"], schema);
    assert_eq!(patch(r#"{"config": {}}"#).await.expect(200)["schema"], schema);
    assert_eq!(patch(r#"{"schema": {"subject": ""}}"#).await.field(), "schema.subject");
    assert_eq!(patch(r#"{"schema": {"subjct": "a"}}"#).await.field(), "schema.subjct");
    assert_eq!(patch(r#"{"schema": null}"#).await.expect(200).get("schema"), None);
    assert_eq!(front.get(path).await.expect(200).get("schema"), None);
    front.post(EVENTS, &json!({"data": 1})).await.expect(200);
}

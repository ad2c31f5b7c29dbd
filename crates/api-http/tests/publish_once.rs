//! Idempotency keys and answers that do not wait, over HTTP.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use domain::Limits;
use serde_json::{Value, json};
use support::Front;

const EVENTS: &str = "/v1/topics/orders/events";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn front() -> Front {
    let front = Front::with(Limits { batch_events_max: 10, ..Limits::default() }).await;
    front.create_topic("orders", 1).await;
    front
}

async fn count(front: &Front) -> usize {
    let page = front.get(&format!("{EVENTS}?from=earliest")).await.expect(200);
    page["events"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_retry_under_its_key_gets_the_first_receipt() {
    let front = front().await;
    let headers = |key| [JSON, ("idempotency-key", key)];
    let first = front.send("POST", EVENTS, &headers("a"), r#"{"data":1}"#).await.expect(200);
    assert_eq!(first["duplicate"], false);
    let again = front.send("POST", EVENTS, &headers("\"a\""), r#"{"data":1}"#).await.expect(200);
    assert_eq!(again["duplicate"], true);
    for field in ["id", "topic", "partition", "offset", "timestamp"] {
        assert_eq!(first[field], again[field], "{field}");
    }
    // The header and the field are one key.
    let body = json!({"data": 1, "idempotencykey": "a"});
    assert_eq!(front.post(EVENTS, &body).await.expect(200)["duplicate"], true);
    assert_eq!(count(&front).await, 1);

    let other = front.send("POST", EVENTS, &headers("a"), r#"{"data":2}"#).await;
    assert_eq!((other.field(), &other.body["code"]), ("idempotency-key", &json!("idempotency_key_reused")));
    other.expect(422);
}

#[tokio::test(start_paused = true)]
async fn keys_in_every_format_are_the_same_keys() {
    let front = front().await;
    let binary = [("content-type", "text/plain"), ("ce-idempotencykey", "b"), ("ce-type", "t")];
    front.send("POST", EVENTS, &binary, "x").await.expect(200);
    assert_eq!(front.send("POST", EVENTS, &binary, "x").await.expect(200)["duplicate"], true);
    let reused = front.send("POST", EVENTS, &binary, "y").await;
    assert_eq!(reused.field(), "ce-idempotencykey");
    let body = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "idempotencykey": "c"});
    let structured = [("content-type", "application/cloudevents+json")];
    for duplicate in [false, true] {
        let answer = front.send("POST", EVENTS, &structured, body.to_string()).await.expect(200);
        assert_eq!(answer["duplicate"], duplicate);
    }
}

#[tokio::test(start_paused = true)]
async fn each_item_of_a_batch_has_its_own_key_and_the_header_is_refused() {
    let front = front().await;
    let item = |key: &str, data| json!({"idempotencykey": key, "data": data});
    let batch = json!({"events": [item("a", 1), item("a", 1), item("a", 2), item("b", 3)]});
    let answer = front.post(EVENTS, &batch).await.expect(207);
    let results = answer["results"].as_array().unwrap();
    let duplicates: Vec<_> = results.iter().map(|result| &result["duplicate"]).collect();
    assert_eq!(duplicates, [&json!(false), &json!(true), &Value::Null, &json!(false)]);
    assert_eq!(results[2]["error"]["errors"][0]["field"], "events[2].idempotencykey");
    let answer = front.send("POST", EVENTS, &[JSON, ("idempotency-key", "k")], batch.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "idempotency-key"));
    assert_eq!(count(&front).await, 2);
}

#[tokio::test(start_paused = true)]
async fn bad_keys_are_named_where_they_came_from() {
    let front = front().await;
    let long = "x".repeat(256);
    for key in ["", "a\tb", &long] {
        let answer = front.send("POST", EVENTS, &[JSON, ("idempotency-key", key)], "{}").await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, "idempotency-key"), "{key:?}");
        let answer = front.post(EVENTS, &json!({"idempotencykey": key})).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, "idempotencykey"), "{key:?}");
    }
    let body = r#"{"idempotencykey":"a"}"#;
    let answer = front.send("POST", EVENTS, &[JSON, ("idempotency-key", "b")], body).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "idempotency-key"));
}

#[tokio::test(start_paused = true)]
async fn who_prefers_it_is_answered_before_the_event_is_durable() {
    let front = front().await;
    let headers = [JSON, ("prefer", "respond-async")];
    let body = json!({"events": [{"id": "a", "data": 1}, {"data": 2}]}).to_string();
    let answer = front.send("POST", EVENTS, &headers, body).await;
    assert_eq!(answer.headers["preference-applied"], "respond-async");
    let answer = answer.expect(202);
    assert_eq!((&answer["accepted"], &answer["ids"][0]), (&json!(2), &json!("a")));
    assert_eq!(answer["ids"][1].as_str().unwrap().len(), 36);
    let deadline = ports::Monotonic(std::time::Duration::from_secs(5));
    assert!(front.services.publisher.shutdown(deadline).await);

    assert_eq!(count(&front).await, 2);
    let stopped = front.send("POST", EVENTS, &headers, "{}").await;
    assert_eq!(
        (&stopped.body["effect"], stopped.headers.contains_key("retry-after")),
        (&json!("none"), true)
    );
    stopped.expect(503);
}

#[tokio::test(start_paused = true)]
async fn a_bad_item_refuses_a_batch_that_is_not_waited_for() {
    let front = front().await;
    let headers = [JSON, ("prefer", "respond-async")];
    let body = json!({"events": [{"data": 1}, {"data": 2, "partition": 7}]}).to_string();
    let answer = front.send("POST", EVENTS, &headers, body).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "events[1].partition"));
    let answer = front.send("POST", EVENTS, &headers, r#"{"partition":7}"#).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "partition"));
    front.send("POST", "/v1/topics/nowhere/events", &headers, "{}").await.expect(404);
    assert_eq!(count(&front).await, 0);
}

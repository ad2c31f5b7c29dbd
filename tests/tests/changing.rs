//! Retry topics, and subscriptions that are replaced while they are at work, over the real binary.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Setup, on_every_log, unique};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

on_every_log!(
    what_waits_in_a_retry_topic_outlives_a_kill_and_comes_again_when_it_is_due,
    a_subscription_is_replaced_while_it_is_at_work,
    a_replacement_that_cannot_be_is_refused_by_field_and_changes_nothing,
);

async fn retry(client: &Client, name: &str, deliveries: &[Value]) {
    let items: Vec<_> = deliveries.iter().map(|it| json!({"ackId": it["ackId"], "reason": "no"})).collect();
    let path = format!("/v1/subscriptions/{name}/ack");
    let said = client.post(&path, &json!({"retry": items})).await.expect(200);
    let statuses = said["results"].as_array().expect("results");
    assert!(statuses.iter().all(|result| result["status"] == "ok"), "{said}");
}

fn places(deliveries: &[Value]) -> BTreeSet<(i64, i64)> {
    let number = |event: &Value, field: &str| event[field].as_i64().expect("a number");
    deliveries.iter().map(|it| (number(&it["event"], "partition"), number(&it["event"], "offset"))).collect()
}

/// Spring Kafka retrytopic, `shouldRetryFirstTopic`; uForwarder, `RQ+DLQ`: over the retry topics into the dead
/// letters, here with the process killed between.
async fn what_waits_in_a_retry_topic_outlives_a_kill_and_comes_again_when_it_is_due(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("retried"), unique("sub"));
    client.create_topic(&topic, 2).await;
    let retries = json!({"strategy": "topics", "initialDelay": "3s", "maxRetries": 1});
    client.subscribe(&name, &topic, &json!({"ordering": "none", "retry": retries})).await;
    let events: Vec<_> = (0..20).map(|n| json!({"key": format!("k{n}"), "data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let out = client.pull_count(&name, 20).await;
    let failed = Instant::now();
    retry(&client, &name, &out[..10]).await;
    client.ack(&name, &out[10..]).await;
    // Progress is committed within a tenth of a second; what is not would come again at its first place.
    assert_eq!(client.pull(&name, 100, "1s").await, Vec::<Value>::new());
    service.kill().await;

    let service = setup.start(data.path()).await;
    let client = service.client();
    let again = client.pull_count(&name, 10).await;
    assert!(failed.elapsed() >= Duration::from_secs(3), "nothing is ever early");
    assert_eq!(places(&again), places(&out[..10]), "each says where it first lay");
    for delivery in &again {
        assert_eq!((&delivery["attempt"], &delivery["event"]["topic"]), (&json!(2), &json!(topic)));
    }
    client.ack(&name, &again[..9]).await;
    retry(&client, &name, &again[9..]).await;
    assert_eq!(client.pull(&name, 100, "1s").await, Vec::<Value>::new());
    let letters = client.browse_all(&format!("{name}.dlq")).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let header = |name: &str| letters[0]["headers"][name].clone();
    assert_eq!((header("es_dlq_topic"), header("es_dlq_attempts")), (json!(topic), json!("2")));
    assert_eq!(header("es_dlq_offset"), json!(again[9]["event"]["offset"].to_string()));
    let view = client.get(&format!("/v1/subscriptions/{name}")).await.expect(200);
    assert_eq!((&view["state"], &view["lag"]), (&json!("active"), &json!(0)), "{view}");
    assert_eq!(client.delete(&format!("/v1/subscriptions/{name}")).await.status, 204);
    assert_eq!(client.get(&format!("/v1/topics/{name}.retry.3s")).await.status, 404, "they go with it");
}

async fn put(client: &Client, name: &str, tag: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = client.request(Method::PUT, &format!("/v1/subscriptions/{name}")).json(body);
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    let answer = client.send(request).await;
    let status = answer.status.as_u16();
    (status, answer.expect(status))
}

/// Parallel Consumer, `pausingAndResumingProcessingShouldWork` in the large: what changes in the middle of work
/// loses nothing and repeats nothing that was done.
async fn a_subscription_is_replaced_while_it_is_at_work(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("replaced"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&name, &topic, &json!({"ordering": "none", "ackTimeout": "5s"})).await;
    let events: Vec<_> = (0..300).map(|n| json!({"key": format!("k{}", n % 7), "data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let out = client.pull_count(&name, 100).await;
    client.ack(&name, &out[..40]).await;
    let body = json!({"topics": [topic], "ordering": "key", "ackTimeout": "1m"});
    let (status, view) = put(&client, &name, Some("\"0\""), &body).await;
    assert_eq!((status, &view["ordering"]), (200, &json!("key")), "{view}");
    client.ack(&name, &out[40..80]).await;
    let mut done = places(&out[..80]);
    let mut last = BTreeMap::new();
    while done.len() < 300 {
        let more = client.pull(&name, 50, "20s").await;
        assert!(!more.is_empty(), "{} of 300 came", done.len());
        for delivery in &more {
            let place = places(std::slice::from_ref(delivery));
            assert!(done.is_disjoint(&place), "{delivery} was done and came again");
            let event = &delivery["event"];
            let key = (event["key"].clone().to_string(), event["partition"].to_string());
            let offset = event["offset"].as_i64().expect("a number");
            assert!(last.insert(key, offset).is_none_or(|before| before < offset), "in order, as it is now");
            done.extend(place);
        }
        client.ack(&name, &more).await;
    }
    let (status, problem) = put(&client, &name, Some("\"0\""), &body).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "somebody else was first");
}

async fn a_replacement_that_cannot_be_is_refused_by_field_and_changes_nothing(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("replaced"), unique("sub"));
    client.create_topic(&topic, 1).await;
    client.subscribe(&name, &topic, &json!({})).await;
    for (body, field) in [
        (json!({"topics": [topic], "name": "other"}), "name"),
        (json!({"topics": []}), "topics"),
        (json!({"topics": [topic], "maxInFlight": 0}), "maxInFlight"),
        (json!({"topics": [topic], "retry": {"strategy": "topics"}}), "retry.strategy"),
        (json!({"topics": [topic], "ackTimeout": "99999d"}), "ackTimeout"),
        (json!({"topics": [topic], "adoptGroup": true}), "adoptGroup"),
    ] {
        let (status, problem) = put(&client, &name, None, &body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!(field)), "{problem}");
    }
    let (status, problem) = put(&client, &name, Some("three"), &json!({"topics": [topic]})).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("If-Match")), "{problem}");
    let (status, problem) = put(&client, "unknown", None, &json!({"topics": [topic]})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("subscription_not_found")), "{problem}");
    let (status, problem) = put(&client, &name, None, &json!({"topics": ["unknown-topic"]})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("topic_not_found")), "{problem}");
    let view = client.get(&format!("/v1/subscriptions/{name}")).await.expect(200);
    assert_eq!(view["topics"], json!([topic]));
}

//! An event that is sent again with its idempotency key is published once, whatever died between.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Setup, on_every_log, unique};
use serde_json::{Value, json};

on_every_log!(
    a_key_that_is_used_again_gives_the_first_receipt_also_after_a_kill,
    a_key_with_another_event_is_refused,
    in_a_batch_each_item_has_its_own_key,
);

async fn send(client: &Client, topic: &str, key: &str, event: &Value) -> (u16, Value) {
    let path = format!("/v1/topics/{topic}/events");
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let answer = client.post_bytes(&path, &headers, event.to_string()).await;
    let status = answer.status.as_u16();
    (status, answer.expect(status))
}

async fn a_key_that_is_used_again_gives_the_first_receipt_also_after_a_kill(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let topic = unique("once");
    service.client().create_topic(&topic, 3).await;
    let event = json!({"key": "a", "data": {"n": 1}});
    let (status, first) = send(&service.client(), &topic, "k-1", &event).await;
    assert_eq!((status, &first["duplicate"]), (200, &json!(false)), "{first}");
    let (_, again) = send(&service.client(), &topic, "k-1", &event).await;
    service.kill().await;
    let service = setup.start(data.path()).await;
    let (_, after) = send(&service.client(), &topic, "k-1", &event).await;
    for receipt in [again, after] {
        assert_eq!(receipt["duplicate"], true, "{receipt}");
        for field in ["id", "topic", "partition", "offset"] {
            assert_eq!(receipt[field], first[field], "{field} of {receipt}");
        }
    }
    assert_eq!(service.client().browse_all(&topic).await.len(), 1);
}

async fn a_key_with_another_event_is_refused(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let topic = unique("once");
    service.client().create_topic(&topic, 1).await;
    send(&service.client(), &topic, "k-1", &json!({"data": 1})).await;
    let (status, problem) = send(&service.client(), &topic, "k-1", &json!({"data": 2})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")), "{problem}");
    assert_eq!(service.client().browse_all(&topic).await.len(), 1);
}

async fn in_a_batch_each_item_has_its_own_key(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).start(data.path()).await;
    let topic = unique("once");
    service.client().create_topic(&topic, 1).await;
    let item = |key: &str, n: u32| json!({"data": n, "idempotencykey": key});
    let receipts = service.client().publish_batch(&topic, &[item("a", 1), item("b", 2)]).await;
    let again = service.client().publish_batch(&topic, &[item("b", 2), item("c", 3)]).await;
    assert_eq!((&again[0]["duplicate"], &again[0]["offset"]), (&json!(true), &receipts[1]["offset"]));
    assert_eq!(again[1]["duplicate"], false);
    assert_eq!(service.client().browse_all(&topic).await.len(), 3);
}

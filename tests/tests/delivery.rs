//! A pull subscription delivers at least once, and what is acknowledged is done.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Service, Setup, eventually, on_every_log, unique};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;

on_every_log!(
    what_is_published_is_pulled_once_and_done_when_acknowledged,
    what_is_not_acknowledged_in_time_comes_again_with_its_attempt_counted,
    extending_keeps_a_delivery_out,
    a_pull_waits_for_what_is_published_meanwhile,
    acknowledging_twice_is_ok_and_a_foreign_id_is_unknown,
    two_clients_of_one_subscription_share_its_events,
    each_subscription_gets_everything,
    a_deleted_subscription_is_gone_and_its_name_is_free,
);

struct Fixture {
    _service: Service,
    client: Client,
    topic: String,
    subscription: String,
    _data: TempDir,
}

async fn fixture(log: &Log, more: &Value) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(log).start(data.path()).await;
    let client = service.client();
    let (topic, subscription) = (unique("delivery"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&subscription, &topic, more).await;
    Fixture { _service: service, client, topic, subscription, _data: data }
}

impl Fixture {
    async fn publish(&self, numbers: std::ops::Range<i64>) {
        let events: Vec<Value> = numbers.map(|n| json!({"key": format!("k{n}"), "data": n})).collect();
        self.client.publish_batch(&self.topic, &events).await;
    }

    async fn pull(&self, count: usize) -> Vec<Value> {
        self.client.pull_count(&self.subscription, count).await
    }

    async fn ack(&self, deliveries: &[Value]) {
        self.client.ack(&self.subscription, deliveries).await;
    }
}

fn numbers(deliveries: &[Value]) -> BTreeSet<i64> {
    deliveries.iter().filter_map(|delivery| delivery["event"]["data"].as_i64()).collect()
}

async fn what_is_published_is_pulled_once_and_done_when_acknowledged(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    it.publish(0..100).await;
    let deliveries = it.pull(100).await;
    assert_eq!(numbers(&deliveries), (0..100).collect());
    for delivery in &deliveries {
        assert_eq!(delivery["attempt"], 1, "{delivery}");
        assert!(delivery["ackId"].is_string() && delivery["deadline"].is_string(), "{delivery}");
        assert_eq!(delivery["event"]["topic"], it.topic, "{delivery}");
    }
    it.ack(&deliveries).await;
    assert_eq!(it.client.pull(&it.subscription, 100, "1s").await, Vec::<Value>::new());
}

async fn what_is_not_acknowledged_in_time_comes_again_with_its_attempt_counted(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none", "ackTimeout": "2s"})).await;
    it.publish(0..10).await;
    let first = it.pull(10).await;
    let (done, left) = first.split_at(4);
    it.ack(done).await;
    let again = it.pull(6).await;
    assert_eq!(numbers(&again), numbers(left));
    for delivery in &again {
        assert_eq!(delivery["attempt"], 2, "{delivery}");
    }
    it.ack(&again).await;
}

async fn extending_keeps_a_delivery_out(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none", "ackTimeout": "2s"})).await;
    it.publish(0..2).await;
    let out = it.pull(2).await;
    let extend = json!({"extend": [{"ackId": out[0]["ackId"], "by": "60s"}]});
    let body =
        it.client.post(&format!("/v1/subscriptions/{}/ack", it.subscription), &extend).await.expect(200);
    assert_eq!(body["results"][0]["status"], "ok", "{body}");
    // The other one lapses, which shows that the time has passed.
    let again = it.pull(1).await;
    assert_eq!(numbers(&again), numbers(&out[1..]));
    it.ack(&again).await;
    it.ack(&out[..1]).await;
    assert_eq!(it.client.pull(&it.subscription, 10, "1s").await, Vec::<Value>::new());
}

async fn a_pull_waits_for_what_is_published_meanwhile(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    let (pulled, ()) = tokio::join!(it.pull(1), it.publish(7..8));
    assert_eq!(numbers(&pulled), [7].into());
    it.ack(&pulled).await;
}

async fn acknowledging_twice_is_ok_and_a_foreign_id_is_unknown(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    it.publish(0..1).await;
    let out = it.pull(1).await;
    it.ack(&out).await;
    it.ack(&out).await;
    let body = it
        .client
        .post(&format!("/v1/subscriptions/{}/ack", it.subscription), &json!({"ack": ["no-such-id"]}))
        .await
        .expect(200);
    assert_eq!(body["results"], json!([{"ackId": "no-such-id", "status": "unknown"}]));
}

async fn two_clients_of_one_subscription_share_its_events(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    it.publish(0..300).await;
    let share = async || {
        let mut got = Vec::new();
        loop {
            let deliveries = it.client.pull(&it.subscription, 20, "3s").await;
            if deliveries.is_empty() {
                return got;
            }
            it.ack(&deliveries).await;
            got.extend(deliveries);
        }
    };
    let (one, other) = tokio::join!(share(), share());
    assert_eq!(one.len() + other.len(), 300, "an event came to both, or to none");
    assert_eq!(&numbers(&one) | &numbers(&other), (0..300).collect());
}

async fn each_subscription_gets_everything(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    let second = unique("second");
    it.publish(0..20).await;
    it.client.subscribe(&second, &it.topic, &json!({"ordering": "none"})).await;
    assert_eq!(numbers(&it.pull(20).await), (0..20).collect());
    assert_eq!(numbers(&it.client.pull_count(&second, 20).await), (0..20).collect());
}

async fn a_deleted_subscription_is_gone_and_its_name_is_free(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    let path = format!("/v1/subscriptions/{}", it.subscription);
    assert_eq!(it.client.get(&path).await.expect(200)["name"], it.subscription);
    let listed = it.client.get("/v1/subscriptions").await.expect(200);
    let names = listed["subscriptions"].as_array().expect("a list");
    assert!(names.iter().any(|one| one["name"] == it.subscription), "{listed}");
    let twice = json!({"name": it.subscription, "topics": [it.topic]});
    assert_eq!(it.client.post("/v1/subscriptions", &twice).await.expect(409)["code"], "already_exists");

    it.publish(0..5).await;
    let deliveries = it.pull(5).await;
    it.ack(&deliveries).await;
    it.client.delete(&path).await.expect(204);
    assert_eq!(it.client.get(&path).await.expect(404)["code"], "subscription_not_found");
    // Its offsets went with it, so the next of that name begins at the start.
    eventually("the name is free", async || {
        let definition = json!({"name": it.subscription, "topics": [it.topic], "ordering": "none"});
        (it.client.post("/v1/subscriptions", &definition).await.status == 201).then_some(())
    })
    .await;
    assert_eq!(numbers(&it.pull(5).await), (0..5).collect());
}

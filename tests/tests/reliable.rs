//! Consuming reliably: order by key, retries, dead letters, and done once, over the real binary.
//!
//! Scenarios that others' suites check are named after what they prove, with their source.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Service, Setup, eventually, on_every_log, unique};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

on_every_log!(
    a_failed_event_holds_its_key_while_others_go_on,
    what_is_rejected_is_a_dead_letter_with_its_context_and_its_bytes,
    retries_that_are_used_up_become_a_dead_letter,
    an_undecodable_value_is_a_dead_letter_at_once,
    with_dedup_what_was_acknowledged_is_final_and_an_ack_id_outlives_a_kill,
    an_event_that_was_published_twice_is_handled_once,
    a_paused_subscription_delivers_nothing_until_it_is_resumed,
    a_skipped_event_does_not_come_again,
    three_kills_with_everything_out_make_no_dead_letters,
    each_key_keeps_its_order_over_many_clients_that_fail_one_in_ten,
);

struct Fixture {
    setup: Setup,
    service: Service,
    client: Client,
    topic: String,
    name: String,
    data: TempDir,
}

async fn fixture(log: &Log, more: &Value) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("reliable"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&name, &topic, more).await;
    Fixture { setup, service, client, topic, name, data }
}

impl Fixture {
    async fn publish(&self, events: &[Value]) {
        self.client.publish_batch(&self.topic, events).await;
    }

    async fn pull(&self, count: usize) -> Vec<Value> {
        self.client.pull_count(&self.name, count).await
    }

    async fn nothing_comes(&self) {
        assert_eq!(self.client.pull(&self.name, 100, "1s").await, Vec::<Value>::new());
    }

    /// Says what is to become of deliveries, and answers the statuses.
    async fn say(&self, decisions: &Value) -> Vec<String> {
        let path = format!("/v1/subscriptions/{}/ack", self.name);
        let body = self.client.post(&path, decisions).await.expect(200);
        let results = body["results"].as_array().expect("results").clone();
        results.iter().map(|result| result["status"].as_str().expect("a status").to_owned()).collect()
    }

    async fn dead_letters(&self, count: usize) -> Vec<Value> {
        let topic = format!("{}.dlq", self.name);
        eventually("dead letters are there", async || {
            let there = self.client.get(&format!("/v1/topics/{topic}")).await.status == 200;
            let letters = if there { self.client.browse_all(&topic).await } else { Vec::new() };
            (letters.len() >= count).then_some(letters)
        })
        .await
    }

    async fn killed(self) -> Self {
        let Self { setup, service, topic, name, data, .. } = self;
        service.kill().await;
        let service = setup.start(data.path()).await;
        let client = service.client();
        Self { setup, service, client, topic, name, data }
    }
}

fn data(delivery: &Value) -> i64 {
    delivery["event"]["data"].as_i64().expect("a number")
}

async fn a_failed_event_holds_its_key_while_others_go_on(log: Log) {
    let it = fixture(&log, &json!({"retry": {"initialDelay": "1h", "maxDelay": "1h"}})).await;
    it.publish(&[
        json!({"key": "a", "data": 1}),
        json!({"key": "a", "data": 2}),
        json!({"key": "b", "data": 3}),
    ])
    .await;
    let out = it.pull(3).await;
    let first = out.iter().find(|delivery| data(delivery) == 1).expect("it came");
    let second = out.iter().find(|delivery| data(delivery) == 2).expect("it came");
    assert_eq!(first["run"], second["run"], "events of one key are a run");
    let other = out.iter().find(|delivery| data(delivery) == 3).expect("it came");
    let said = it
        .say(&json!({
            "ack": [second["ackId"], other["ackId"]],
            "retry": [{"ackId": first["ackId"], "after": "2s", "reason": "not now"}],
        }))
        .await;
    assert_eq!(said, ["superseded", "ok", "ok"], "the later one of the run comes again behind it");
    it.publish(&[json!({"key": "a", "data": 4}), json!({"key": "b", "data": 5})]).await;
    let mut next = Vec::new();
    while next.len() < 4 {
        let out = it.pull(1).await;
        it.client.ack(&it.name, &out).await;
        next.extend(out);
    }
    assert_eq!(data(&next[0]), 5, "another key goes on while this one is held");
    let again: Vec<_> = next[1..].iter().map(data).collect();
    assert_eq!(again, [1, 2, 4], "nothing overtakes");
    assert_eq!(next[1]["attempt"], 2);
    assert_eq!(next[2]["attempt"], 1, "what was taken back counts no attempt");
}

async fn what_is_rejected_is_a_dead_letter_with_its_context_and_its_bytes(log: Log) {
    let it = fixture(&log, &json!({})).await;
    it.publish(&[json!({"key": "a", "type": "t", "headers": {"x": "y"}, "data": {"n": 1}})]).await;
    let out = it.pull(1).await;
    let said = it.say(&json!({"reject": [{"ackId": out[0]["ackId"], "reason": "it is wrong"}]})).await;
    assert_eq!(said, ["ok"]);
    let letters = it.dead_letters(1).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter["key"], &letter["data"]), (&json!("a"), &json!({"n": 1})));
    let event = &out[0]["event"];
    for (header, expected) in [
        ("x", "y".to_owned()),
        ("es_dlq_topic", it.topic.clone()),
        ("es_dlq_partition", event["partition"].to_string()),
        ("es_dlq_offset", event["offset"].to_string()),
        ("es_dlq_subscription", it.name.clone()),
        ("es_dlq_attempts", "1".to_owned()),
        ("es_dlq_error_kind", "rejected".to_owned()),
        ("es_dlq_error_message", "it is wrong".to_owned()),
    ] {
        assert_eq!(letter["headers"][header], json!(expected), "{header} of {letter}");
    }
    it.nothing_comes().await;
}

/// Spring Kafka retrytopic: after N attempts, the dead letter topic.
async fn retries_that_are_used_up_become_a_dead_letter(log: Log) {
    let it = fixture(&log, &json!({"retry": {"maxRetries": 2, "initialDelay": "10ms"}})).await;
    it.publish(&[json!({"key": "a", "data": 1}), json!({"key": "a", "data": 2})]).await;
    for attempt in 1..=3 {
        let out = it.client.pull(&it.name, 1, "20s").await;
        assert_eq!((data(&out[0]), &out[0]["attempt"]), (1, &json!(attempt)));
        let said = it.say(&json!({"retry": [{"ackId": out[0]["ackId"], "reason": "no"}]})).await;
        assert_eq!(said, ["ok"]);
    }
    let letters = it.dead_letters(1).await;
    assert_eq!(letters[0]["headers"]["es_dlq_attempts"], "3");
    let next = it.pull(1).await;
    assert_eq!(data(&next[0]), 2, "the key goes on once the dead letter is kept");
}

async fn an_undecodable_value_is_a_dead_letter_at_once(log: Log) {
    let it = fixture(&log, &json!({})).await;
    let path = format!("/v1/topics/{}/events", it.topic);
    let headers = [("content-type", "application/vnd.order+json")];
    it.client.post_bytes(&path, &headers, "{broken").await.expect(200);
    it.publish(&[json!({"key": "a", "data": 2})]).await;
    let out = it.pull(1).await;
    assert_eq!(data(&out[0]), 2, "what can be decoded comes");
    it.client.ack(&it.name, &out).await;
    // It is found when its turn to be delivered has come.
    it.nothing_comes().await;
    let letters = it.dead_letters(1).await;
    assert_eq!(letters[0]["headers"]["es_dlq_error_kind"], "undecodable");
}

async fn with_dedup_what_was_acknowledged_is_final_and_an_ack_id_outlives_a_kill(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none", "ackTimeout": "20s"})).await;
    let events: Vec<_> = (0..40).map(|n| json!({"key": format!("k{}", n % 10), "data": n})).collect();
    it.publish(&events).await;
    let out = it.pull(40).await;
    let (done, held) = out.split_at(20);
    it.client.ack(&it.name, done).await;
    let it = it.killed().await;
    it.nothing_comes().await;
    // A client that is still at work finishes, at the process that came after.
    let (late, left) = held.split_at(10);
    it.client.ack(&it.name, late).await;
    let mut again = BTreeSet::new();
    let expected: BTreeSet<_> = left.iter().map(data).collect();
    eventually("what nobody decided comes again when its claims have ended", async || {
        let out = it.client.pull(&it.name, 10, "2s").await;
        again.extend(out.iter().map(data));
        it.client.ack(&it.name, &out).await;
        (again.len() >= expected.len()).then_some(())
    })
    .await;
    assert_eq!(again, expected, "and nothing else");
    let stale = it.say(&json!({"ack": left.iter().map(|one| &one["ackId"]).collect::<Vec<_>>()})).await;
    assert!(stale.iter().all(|status| status == "expired"), "it was out again: {stale:?}");
    it.nothing_comes().await;
}

async fn an_event_that_was_published_twice_is_handled_once(log: Log) {
    let it = fixture(&log, &json!({"ordering": "none"})).await;
    let event = |n: i64| json!({"id": format!("e{n}"), "source": "/shop", "key": "a", "data": n});
    it.publish(&[event(1), event(1), event(2)]).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let out = it.client.pull(&it.name, 10, "20s").await;
        seen.extend(out.iter().map(data));
        it.client.ack(&it.name, &out).await;
    }
    it.publish(&[event(2), event(3)]).await;
    let out = it.pull(1).await;
    seen.extend(out.iter().map(data));
    it.client.ack(&it.name, &out).await;
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), [1, 2, 3].into());
    assert_eq!(seen.len(), 3, "{seen:?}");
    it.nothing_comes().await;
}

/// Hermes: `NotConsumeWhenSuspended`.
async fn a_paused_subscription_delivers_nothing_until_it_is_resumed(log: Log) {
    let it = fixture(&log, &json!({})).await;
    it.publish(&[json!({"key": "a", "data": 1})]).await;
    let path = |what: &str| format!("/v1/subscriptions/{}/{what}", it.name);
    let paused = it.client.post(&path("pause"), &json!({})).await.expect(200);
    assert_eq!(paused["state"], "paused", "{paused}");
    it.nothing_comes().await;
    let it = it.killed().await;
    it.nothing_comes().await;
    let resumed = it.client.post(&format!("/v1/subscriptions/{}/resume", it.name), &json!({})).await;
    assert_ne!(resumed.expect(200)["state"], "paused");
    assert_eq!(data(&it.pull(1).await[0]), 1);
}

async fn a_skipped_event_does_not_come_again(log: Log) {
    let it = fixture(&log, &json!({})).await;
    it.publish(&[json!({"key": "a", "data": 1}), json!({"key": "a", "data": 2})]).await;
    let out = it.pull(2).await;
    let event = &out[0]["event"];
    let path = format!("/v1/subscriptions/{}/skip", it.name);
    let skip = json!({"topic": it.topic, "partition": event["partition"], "offset": event["offset"], "reason": "it is poison"});
    it.client.post(&path, &skip).await.expect(204);
    assert_eq!(it.client.post(&path, &skip).await.expect(409)["code"], "conflict");
    it.client.ack(&it.name, &out[1..]).await;
    let it = it.killed().await;
    it.nothing_comes().await;
}

/// A crash of the service is not the events' fault: it counts no attempt of what clients hold.
async fn three_kills_with_everything_out_make_no_dead_letters(log: Log) {
    let mut it =
        fixture(&log, &json!({"ordering": "none", "ackTimeout": "5m", "retry": {"maxRetries": 3}})).await;
    let events: Vec<_> = (0..1000).map(|n| json!({"key": format!("k{}", n % 100), "data": n})).collect();
    it.publish(&events).await;
    let out = it.pull(1000).await;
    for _ in 0..3 {
        it = it.killed().await;
        it.nothing_comes().await;
    }
    it.client.ack(&it.name, &out).await;
    it.nothing_comes().await;
    let dead = it.client.get(&format!("/v1/topics/{}.dlq", it.name)).await;
    assert_eq!(dead.status, 404, "nothing became a dead letter");
}

/// Watermill: `PublishSubscribeInOrder`, with handlers that fail one in ten and a kill in the middle.
async fn each_key_keeps_its_order_over_many_clients_that_fail_one_in_ten(log: Log) {
    let retry = json!({"maxRetries": -1, "initialDelay": "50ms", "maxDelay": "200ms"});
    let mut it = fixture(&log, &json!({"ackTimeout": "5s", "retry": retry})).await;
    let events: Vec<_> = (0..600).map(|n| json!({"key": format!("k{}", n % 16), "data": n})).collect();
    it.publish(&events).await;
    let mut done: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut count = 0;
    let mut killed = false;
    while count < 600 {
        // Four clients at once, each with what it was given.
        let clients = (0..4).map(|_| it.client.pull(&it.name, 25, "2s"));
        for out in futures::future::join_all(clients).await {
            let (mut ack, mut retry) = (Vec::new(), Vec::new());
            for delivery in &out {
                let fails = (data(delivery) + delivery["attempt"].as_i64().expect("a number")) % 10 == 0;
                if fails { retry.push(json!({"ackId": delivery["ackId"]})) } else { ack.push(delivery) }
            }
            let ids: Vec<_> = ack.iter().map(|delivery| &delivery["ackId"]).collect();
            let said = it.say(&json!({"ack": ids, "retry": retry})).await;
            for (delivery, status) in ack.iter().zip(said) {
                if status == "ok" {
                    let n = data(delivery);
                    done.entry(n % 16).or_default().push(n);
                    count += 1;
                }
            }
        }
        if count > 300 && !killed {
            killed = true;
            it = it.killed().await;
        }
    }
    for (key, numbers) in done {
        assert!(numbers.is_sorted(), "key {key} was done out of order: {numbers:?}");
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "key {key} was done twice: {numbers:?}");
    }
    it.nothing_comes().await;
}

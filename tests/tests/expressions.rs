//! Filters and keys of deduplication as expressions, over the real binary.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Log, Setup, eventually, on_every_log, unique};
use serde_json::{Value, json};
use std::collections::BTreeSet;

on_every_log!(a_filter_passes_over_what_it_does_not_want_and_a_key_tells_copies_also_after_a_kill);

fn order(number: u64, kind: &str, order: u64, total: u64) -> Value {
    json!({"id": format!("e{number}"), "source": "/shop", "type": kind, "key": format!("k{order}"),
           "data": {"order": order, "total": total}})
}

fn orders(deliveries: &[Value]) -> Vec<u64> {
    deliveries.iter().map(|one| one["event"]["data"]["order"].as_u64().expect("an order")).collect()
}

async fn a_filter_passes_over_what_it_does_not_want_and_a_key_tells_copies_also_after_a_kill(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("expressions"), unique("sub"));
    client.create_topic(&topic, 3).await;
    let filter = "type == 'order.paid' && data.total > 10";
    let more = json!({"filter": filter, "dedup": {"key": "data.order"}});
    let shown = client.subscribe(&name, &topic, &more).await;
    assert_eq!((&shown["filter"], &shown["dedup"]["key"]), (&json!(filter), &json!("data.order")));

    // Of each order: one event of another type, one that is too small, and two that say the same.
    let mut events = Vec::new();
    for n in 0..50 {
        events.push(order(4 * n, "order.created", n, 100));
        events.push(order(4 * n + 1, "order.paid", n, 1));
        events.push(order(4 * n + 2, "order.paid", n, 100));
        events.push(order(4 * n + 3, "order.paid", n, 100));
    }
    // Of this one the filter cannot tell.
    events.push(json!({"type": "order.paid", "key": "x", "data": "nothing"}));
    client.publish_batch(&topic, &events).await;
    let mut seen = Vec::new();
    let path = format!("/v1/subscriptions/{name}");
    eventually("everything is done", async || {
        let out = client.pull(&name, 20, "1s").await;
        client.ack(&name, &out).await;
        seen.extend(orders(&out));
        (client.get(&path).await.expect(200)["lag"] == 0).then_some(())
    })
    .await;
    assert_eq!(seen.len(), 50, "each once: {seen:?}");
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), (0..50).collect());
    let shown = client.get(&path).await.expect(200);
    assert_eq!((&shown["filtered"], &shown["filterErrors"]["count"]), (&json!(101), &json!(1)), "{shown}");
    assert_eq!(shown["filterErrors"]["last"]["reason"], "a string has no field `total`");
    assert_eq!((&shown["state"], &shown["dedupKeyErrors"]["count"]), (&json!("active"), &json!(0)));

    service.kill().await;
    let service = setup.start(data.path()).await;
    let client = service.client();
    let events = [
        order(1000, "order.paid", 7, 100),
        order(1001, "order.created", 77, 100),
        order(1002, "order.paid", 77, 100),
    ];
    client.publish_batch(&topic, &events).await;
    let out = client.pull_count(&name, 1).await;
    assert_eq!(orders(&out), [77]);
    client.ack(&name, &out).await;
    assert_eq!(client.pull(&name, 100, "1s").await, Vec::<Value>::new(), "what was done is done");
}

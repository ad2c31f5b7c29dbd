//! What was acknowledged outlives the process, however it ends.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Setup, eventually, on_every_log, unique};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

on_every_log!(
    every_acknowledged_event_is_read_back_after_a_kill_under_load,
    what_was_out_comes_again_after_a_kill_and_nothing_is_lost,
    a_graceful_stop_exits_0_and_nothing_acknowledged_comes_again,
);

/// How many receipts must have come before the kill.
const RECEIPTS: usize = 2_000;

/// Receipts by partition and offset: the id of the event that is said to be there.
type Receipts = Arc<Mutex<BTreeMap<(u64, u64), String>>>;

async fn every_acknowledged_event_is_read_back_after_a_kill_under_load(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let topic = unique("crash");
    client.create_topic(&topic, 3).await;

    let receipts = Receipts::default();
    let publishers: Vec<_> = (0..6)
        .map(|number| {
            // Three publish one by one, three by batches of 25.
            let batch = if number % 2 == 0 { 1 } else { 25 };
            tokio::spawn(publish_until_cut_off(
                client.clone(),
                topic.clone(),
                number,
                batch,
                receipts.clone(),
            ))
        })
        .collect();
    eventually("enough was acknowledged", async || (count(&receipts) >= RECEIPTS).then_some(())).await;
    service.kill().await;
    for publisher in publishers {
        publisher.await.expect("a publisher ends when it is cut off");
    }

    let service = setup.start(data.path()).await;
    let there: BTreeMap<(u64, u64), String> =
        service.client().browse_all(&topic).await.iter().map(place_and_id).collect();
    let receipts = receipts.lock().expect("no publisher panicked");
    let lost: Vec<_> = receipts.iter().filter(|(place, id)| there.get(place) != Some(id)).take(10).collect();
    assert!(
        lost.is_empty(),
        "of {} acknowledged these are not where they were said to be: {lost:?}",
        receipts.len()
    );
}

async fn publish_until_cut_off(
    client: Client,
    topic: String,
    publisher: u32,
    batch: usize,
    receipts: Receipts,
) {
    let path = format!("/v1/topics/{topic}/events");
    for round in 0_u64.. {
        let events: Vec<Value> = (0..batch)
            .map(|n| json!({"id": format!("{publisher}-{round}-{n}"), "key": format!("{n}"), "data": "x".repeat(200)}))
            .collect();
        let body = if batch == 1 { events[0].clone() } else { json!({"events": events}) };
        let request = client.request(reqwest::Method::POST, &path).json(&body);
        let Some(answer) = client.try_send(request).await else { return };
        // A service that is going down may refuse; it must not say yes.
        let acknowledged = match (answer.status.as_u16(), batch) {
            (200, 1) => vec![answer.body],
            (200 | 207, _) => answer.body["results"].as_array().cloned().unwrap_or_default(),
            _ => vec![],
        };
        let mut receipts = receipts.lock().expect("no publisher panicked");
        for receipt in acknowledged.iter().filter(|receipt| receipt["error"].is_null()) {
            let (place, id) = place_and_id(receipt);
            let other = receipts.insert(place, id);
            assert_eq!(other, None, "two events were given the same place {place:?}");
        }
    }
}

fn count(receipts: &Receipts) -> usize {
    receipts.lock().expect("no publisher panicked").len()
}

/// Of a receipt, or of an event.
fn place_and_id(of: &Value) -> ((u64, u64), String) {
    let number = |field: &str| of[field].as_u64().unwrap_or_else(|| panic!("no {field} in {of}"));
    (
        (number("partition"), number("offset")),
        of["id"].as_str().unwrap_or_else(|| panic!("no id in {of}")).to_owned(),
    )
}

fn numbers(deliveries: &[Value]) -> BTreeSet<i64> {
    deliveries.iter().filter_map(|delivery| delivery["event"]["data"].as_i64()).collect()
}

async fn publish_numbers(client: &Client, topic: &str, count: i64) {
    let events: Vec<Value> = (0..count).map(|n| json!({"key": format!("k{n}"), "data": n})).collect();
    client.publish_batch(topic, &events).await;
}

async fn what_was_out_comes_again_after_a_kill_and_nothing_is_lost(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, subscription) = (unique("crash"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&subscription, &topic, &json!({"ordering": "none"})).await;
    publish_numbers(&client, &topic, 300).await;
    let deliveries = client.pull_count(&subscription, 200).await;
    let (acknowledged, out) = deliveries.split_at(100);
    client.ack(&subscription, acknowledged).await;
    service.kill().await;

    let service = setup.start(data.path()).await;
    let client = service.client();
    // What was acknowledged since the last commit may come again after a crash; the rest must.
    let must: BTreeSet<i64> = &(0..300).collect() - &numbers(acknowledged);
    let mut came = BTreeSet::new();
    eventually("all that was not acknowledged has come", async || {
        let deliveries = client.pull(&subscription, 100, "2s").await;
        client.ack(&subscription, &deliveries).await;
        came.extend(numbers(&deliveries));
        must.is_subset(&came).then_some(())
    })
    .await;
    assert!(numbers(out).is_subset(&came));
}

async fn a_graceful_stop_exits_0_and_nothing_acknowledged_comes_again(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, subscription) = (unique("stop"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&subscription, &topic, &json!({"ordering": "none"})).await;
    publish_numbers(&client, &topic, 300).await;
    let deliveries = client.pull_count(&subscription, 200).await;
    // Every other one, so that much is done beyond the first gap.
    let (acknowledged, out): (Vec<Value>, Vec<Value>) = deliveries
        .into_iter()
        .partition(|delivery| delivery["event"]["data"].as_i64().is_some_and(|n| n % 2 == 0));
    client.ack(&subscription, &acknowledged).await;
    let status = service.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");

    let service = setup.start(data.path()).await;
    let client = service.client();
    let left = 300 - acknowledged.len();
    let mut rest = Vec::new();
    eventually("all that was not acknowledged has come", async || {
        let deliveries = client.pull(&subscription, 300, "2s").await;
        client.ack(&subscription, &deliveries).await;
        rest.extend(deliveries);
        (rest.len() >= left).then_some(())
    })
    .await;
    let again: BTreeSet<i64> = &numbers(&rest) & &numbers(&acknowledged);
    assert_eq!(again, BTreeSet::new(), "acknowledged before the stop, and came again");
    assert!(numbers(&out).is_subset(&numbers(&rest)));
    assert_eq!(rest.len(), left);
}

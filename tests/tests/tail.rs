//! A tail shows events as they are published, and goes on where it was cut off.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Log, Setup, on_every_log, unique};
use serde_json::{Value, json};

on_every_log!(
    a_tail_shows_what_is_published_from_then_on,
    a_tail_resumes_behind_the_last_event_that_was_seen,
    a_tail_from_the_start_shows_everything,
);

macro_rules! service_with_topic {
    ($log:expr, $client:ident, $topic:ident, $partitions:expr) => {
        let data = tempfile::tempdir().expect("a folder");
        let service = Setup::on(&$log).start(data.path()).await;
        let $client = service.client();
        let $topic = unique("tail");
        $client.create_topic(&$topic, $partitions).await;
    };
}

async fn a_tail_shows_what_is_published_from_then_on(log: Log) {
    service_with_topic!(log, client, topic, 1);
    client.publish(&topic, &json!({"data": "before"})).await;
    // Its answer comes when it has fixed the place to begin at.
    let mut tail = client.tail(&topic, "", None).await;
    for n in 0..5 {
        client.publish(&topic, &json!({"data": n})).await;
        let (id, event) = tail.next().await;
        assert_eq!(
            (id, &event["data"], &event["offset"]),
            (format!("0:{}", n + 2), &json!(n), &json!(n + 1))
        );
    }
}

async fn a_tail_resumes_behind_the_last_event_that_was_seen(log: Log) {
    service_with_topic!(log, client, topic, 3);
    let events: Vec<Value> = (0..60).map(|n| json!({"key": format!("k{n}"), "data": n})).collect();
    client.publish_batch(&topic, &events[..30]).await;
    let mut seen = Vec::new();
    let mut last = None;
    let mut tail = client.tail(&topic, "?from=earliest", None).await;
    for _ in 0..17 {
        let (id, mut event) = tail.next().await;
        seen.push(event["data"].take());
        last = Some(id);
    }
    drop(tail);
    client.publish_batch(&topic, &events[30..]).await;
    let mut tail = client.tail(&topic, "", last.as_deref()).await;
    while seen.len() < events.len() {
        let (_, mut event) = tail.next().await;
        seen.push(event["data"].take());
    }
    seen.sort_by_key(Value::as_i64);
    assert_eq!(seen, (0..60).map(Value::from).collect::<Vec<_>>(), "each once, none left out");
}

async fn a_tail_from_the_start_shows_everything(log: Log) {
    service_with_topic!(log, client, topic, 1);
    let events: Vec<Value> = (0..1_500).map(|n| json!({"data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let mut tail = client.tail(&topic, "?from=earliest", None).await;
    for n in 0..events.len() {
        let (_, event) = tail.next().await;
        assert_eq!(event["data"], n);
    }
}

//! What is published comes back by browsing as it was, whichever way it came in.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use base64::{Engine, prelude::BASE64_STANDARD};
use event_streaming_tests::{Client, Log, Service, Setup, on_every_log, unique};
use serde_json::{Value, json};
use tempfile::TempDir;

on_every_log!(
    every_field_of_an_event_comes_back_as_it_was_sent,
    what_is_left_out_is_filled_in,
    null_and_empty_values_stay_apart,
    a_batch_is_answered_item_by_item_and_its_bad_items_fail_alone,
    events_of_one_key_share_a_partition_and_keep_their_order,
    cloudevents_come_in_structured_batched_and_binary,
    bytes_of_any_type_come_back_byte_for_byte,
    browsing_goes_on_from_its_cursor,
    an_event_beyond_the_topics_limit_fails_alone,
);

/// A running service, with a topic of this test's own.
struct Fixture {
    service: Service,
    client: Client,
    topic: String,
    _data: TempDir,
}

async fn fixture(log: &Log, partitions: u32) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(log).start(data.path()).await;
    let client = service.client();
    let topic = unique("publish");
    client.create_topic(&topic, partitions).await;
    Fixture { service, client, topic, _data: data }
}

impl Fixture {
    fn events_path(&self) -> String {
        format!("/v1/topics/{}/events", self.topic)
    }

    /// The only event of the topic.
    async fn only(&self) -> Value {
        let mut events = self.client.browse_all(&self.topic).await;
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

async fn every_field_of_an_event_comes_back_as_it_was_sent(log: Log) {
    let it = fixture(&log, 3).await;
    assert!(it.service.ready_line().contains(&format!("log={}", log.name())), "{}", it.service.ready_line());
    let sent = json!({
        "id": "o-1-created", "type": "order.created", "source": "/shop", "subject": "o-1",
        "time": "2026-01-02T03:04:05.678Z", "key": "o-1", "partition": 2,
        "headers": {"x-origin": "web", "x-none": null, "x-twice": ["a", {"base64": "AP8="}]},
        "data": {"any": ["json", 1.50, null], "ünï": "cödé"},
        "tenantid": "t1", "userid": "u1", "correlationid": "c1", "causationid": "e0",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "datacontenttype": "application/json", "dataschema": "https://example.com/order",
        "extensions": {"region": "eu"}
    });
    let receipt = it.client.publish(&it.topic, &sent).await;
    assert_eq!(
        (&receipt["id"], &receipt["topic"], &receipt["partition"], &receipt["offset"], &receipt["duplicate"]),
        (&json!("o-1-created"), &json!(it.topic), &json!(2), &json!(0), &json!(false)),
        "{receipt}"
    );
    let event = it.only().await;
    for (field, value) in sent.as_object().expect("an object") {
        assert_eq!(&event[field], value, "{field} of {event}");
    }
    assert_eq!((&event["topic"], &event["offset"]), (&json!(it.topic), &json!(0)), "{event}");
    assert!(event["timestamp"].is_string(), "{event}");
}

async fn what_is_left_out_is_filled_in(log: Log) {
    let it = fixture(&log, 1).await;
    let receipt = it.client.publish(&it.topic, &json!({"data": 1})).await;
    let event = it.only().await;
    assert_eq!(event["id"], receipt["id"]);
    let id: uuid::Uuid = event["id"].as_str().and_then(|id| id.parse().ok()).expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!((&event["source"], &event["type"]), (&json!("/event-streaming"), &json!("event")), "{event}");
    let time = event["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.len() == "2026-01-02T03:04:05.678Z".len(), "{time}");
}

async fn null_and_empty_values_stay_apart(log: Log) {
    let it = fixture(&log, 1).await;
    it.client
        .publish_batch(
            &it.topic,
            &[
                json!({"id": "none"}),
                json!({"id": "null", "data": null}),
                json!({"id": "empty", "data_base64": ""}),
            ],
        )
        .await;
    let events = it.client.browse_all(&it.topic).await;
    assert_eq!(events.len(), 3);
    for event in &events[..2] {
        assert!(event["data"].is_null() && event["data_base64"].is_null(), "{event}");
    }
    assert_eq!(events[2]["data_base64"], "", "{}", events[2]);
}

async fn a_batch_is_answered_item_by_item_and_its_bad_items_fail_alone(log: Log) {
    let it = fixture(&log, 1).await;
    let body = it
        .client
        .post(
            &it.events_path(),
            &json!({"events": [{"id": "first", "data": 1}, {"type": 5}, {"data": 2, "typo": 3}, {"id": "last", "data": 4}]}),
        )
        .await
        .expect(207);
    assert_eq!((&body["published"], &body["failed"]), (&json!(2), &json!(2)), "{body}");
    let results = body["results"].as_array().expect("results");
    assert_eq!((&results[0]["id"], &results[0]["offset"]), (&json!("first"), &json!(0)), "{body}");
    assert_eq!((&results[3]["id"], &results[3]["offset"]), (&json!("last"), &json!(1)), "{body}");
    for (index, field) in [(1, "type"), (2, "typo")] {
        let error = &results[index]["error"];
        assert_eq!((&error["status"], &error["code"]), (&json!(400), &json!("invalid_request")), "{body}");
        assert!(names(error, &format!("events[{index}].{field}")), "{body}");
    }
    let ids: Vec<Value> =
        it.client.browse_all(&it.topic).await.into_iter().map(|mut e| e["id"].take()).collect();
    assert_eq!(ids, ["first", "last"]);
}

async fn events_of_one_key_share_a_partition_and_keep_their_order(log: Log) {
    let it = fixture(&log, 5).await;
    let events: Vec<Value> = (0..200).map(|n| json!({"key": format!("k{}", n % 20), "data": n})).collect();
    for batch in events.chunks(70) {
        it.client.publish_batch(&it.topic, batch).await;
    }
    let read = it.client.browse_all(&it.topic).await;
    assert_eq!(read.len(), events.len());
    let mut used = std::collections::BTreeSet::new();
    for key in 0..20 {
        let of_key: Vec<&Value> = read.iter().filter(|event| event["key"] == format!("k{key}")).collect();
        let numbers: Vec<i64> = of_key.iter().filter_map(|event| event["data"].as_i64()).collect();
        assert_eq!(numbers, (0..10).map(|round| round * 20 + key).collect::<Vec<_>>(), "key {key}");
        let partitions: std::collections::BTreeSet<u64> =
            of_key.iter().filter_map(|event| event["partition"].as_u64()).collect();
        assert_eq!(partitions.len(), 1, "key {key} is on {partitions:?}");
        used.extend(partitions);
    }
    assert!(used.len() > 1, "all keys are on one partition");
}

async fn cloudevents_come_in_structured_batched_and_binary(log: Log) {
    let it = fixture(&log, 1).await;
    let event = |id: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/plane", "type": "departed", "subject": "N1",
            "partitionkey": "N1", "region": "eu", "datacontenttype": "application/json", "data": {"id": id}
        })
    };
    let path = it.events_path();
    it.client
        .post_bytes(
            &path,
            &[("content-type", "application/cloudevents+json")],
            event("structured").to_string(),
        )
        .await
        .expect(200);
    let batch = json!([event("batched-1"), event("batched-2")]).to_string();
    let body = it
        .client
        .post_bytes(&path, &[("content-type", "application/cloudevents-batch+json")], batch)
        .await
        .expect(200);
    assert_eq!(body["published"], 2, "{body}");
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "/plane"),
        ("ce-type", "departed"),
        ("ce-subject", "N1"),
        ("ce-partitionkey", "N1"),
        ("ce-region", "eu"),
    ];
    // `application/json` is the service's own format; binary mode needs a type that is not.
    let mut binary = headers;
    binary[0] = ("content-type", "application/vnd.plane+json");
    it.client.post_bytes(&path, &binary, json!({"id": "binary"}).to_string()).await.expect(200);

    let events = it.client.browse_all(&it.topic).await;
    let ids: Vec<&Value> = events.iter().map(|event| &event["id"]).collect();
    assert_eq!(ids, ["structured", "batched-1", "batched-2", "binary"]);
    for event in &events {
        assert_eq!(
            (
                &event["source"],
                &event["type"],
                &event["subject"],
                &event["key"],
                &event["extensions"]["region"]
            ),
            (&json!("/plane"), &json!("departed"), &json!("N1"), &json!("N1"), &json!("eu")),
            "{event}"
        );
        assert_eq!(event["data"]["id"], event["id"], "{event}");
    }

    let mut lacking = event("lacking");
    lacking.as_object_mut().expect("an object").remove("source");
    let refused = it
        .client
        .post_bytes(&path, &[("content-type", "application/cloudevents+json")], lacking.to_string())
        .await
        .expect(400);
    assert!(names(&refused, "source"), "the strict format fills nothing in: {refused}");
}

async fn bytes_of_any_type_come_back_byte_for_byte(log: Log) {
    let it = fixture(&log, 1).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let headers = [("content-type", "application/octet-stream"), ("ce-type", "blob")];
    it.client.post_bytes(&it.events_path(), &headers, bytes.clone()).await.expect(200);
    let event = it.only().await;
    assert_eq!(event["data_base64"], BASE64_STANDARD.encode(bytes), "{event}");
    assert_eq!(
        (&event["type"], &event["datacontenttype"]),
        (&json!("blob"), &json!("application/octet-stream"))
    );
}

async fn browsing_goes_on_from_its_cursor(log: Log) {
    let it = fixture(&log, 1).await;
    let events: Vec<Value> = (0..25).map(|n| json!({"data": n})).collect();
    it.client.publish_batch(&it.topic, &events).await;
    let path = it.events_path();
    let page = it.client.get(&format!("{path}?partition=0&offset=5&limit=10")).await.expect(200);
    let numbers = |page: &Value| -> Vec<i64> {
        page["events"].as_array().expect("events").iter().filter_map(|event| event["data"].as_i64()).collect()
    };
    assert_eq!(numbers(&page), (5..15).collect::<Vec<_>>());
    assert_eq!(page["next"], "0:15");
    let rest = it.client.get(&format!("{path}?cursor=0:15&limit=100")).await.expect(200);
    assert_eq!(numbers(&rest), (15..25).collect::<Vec<_>>());
    assert_eq!(rest["next"], "0:25");
    let end = it.client.get(&format!("{path}?from=latest")).await.expect(200);
    assert_eq!((numbers(&end), &end["next"]), (vec![], &json!("0:25")));
}

async fn an_event_beyond_the_topics_limit_fails_alone(log: Log) {
    let it = fixture(&log, 1).await;
    let large = "x".repeat(1_200_000);
    let alone = it.client.post(&it.events_path(), &json!({"data": large})).await.expect(413);
    assert_eq!(alone["code"], "event_too_large", "{}", alone["detail"]);
    let batch = json!({"events": [{"data": "before"}, {"data": large}, {"data": "after"}]});
    let body = it.client.post(&it.events_path(), &batch).await.expect(207);
    assert_eq!((&body["published"], &body["failed"]), (&json!(2), &json!(1)));
    assert_eq!(body["results"][1]["error"]["code"], "event_too_large");
    let kept: Vec<Value> =
        it.client.browse_all(&it.topic).await.into_iter().map(|mut e| e["data"].take()).collect();
    assert_eq!(kept, ["before", "after"]);
}

/// Whether a problem names `field`.
fn names(problem: &Value, field: &str) -> bool {
    problem["errors"].as_array().is_some_and(|errors| errors.iter().any(|error| error["field"] == field))
}

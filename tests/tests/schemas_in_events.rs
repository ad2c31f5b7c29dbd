//! Events whose values follow a schema, by the real binary: registered by REST, published as JSON, framed in the log,
//! read by browsing, following, pulling, gRPC and a webhook.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use api_grpc::proto::{
    CreateSubscriptionRequest, Event, PublishRequest, PullRequest, publisher_client::PublisherClient,
    subscriber_client::SubscriberClient, subscriptions_client::SubscriptionsClient,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use event_streaming_tests::{Client, Log, Service, Setup, eventually, on_every_log, unique};
use serde_json::{Value, json};
use tempfile::TempDir;

on_every_log!(
    json_is_published_as_protobuf_and_read_as_json_again,
    what_does_not_fit_its_schema_is_refused_with_its_path,
    a_value_that_cannot_be_read_becomes_a_dead_letter_with_its_bytes,
    old_and_new_readers_read_what_either_version_wrote,
    what_a_message_says_of_its_event_is_what_the_event_is,
);

const ORDER: &str = "syntax = \"proto3\"; package shop; \
                     message Order { string id = 1; repeated Item items = 2; } \
                     message Item { string sku = 1; int32 count = 2; }";

/// A running service, with a topic of this test's own whose values follow a subject.
struct Fixture {
    service: Service,
    client: Client,
    topic: String,
    subject: String,
    /// The id of the first version.
    id: u64,
    _data: TempDir,
}

async fn fixture(log: &Log) -> Fixture {
    fixture_of(log, ORDER).await
}

async fn fixture_of(log: &Log, text: &str) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(log).start(data.path()).await;
    let client = service.client();
    let topic = unique("schemas");
    client.create_topic(&topic, 1).await;
    let path = format!("/v1/topics/{topic}");
    let schema = json!({"schema": {"required": true}});
    let request = client.request(reqwest::Method::PATCH, &path).json(&schema);
    let shown = client.send(request).await.expect(200);
    let subject = format!("{topic}-value");
    let expected = json!({"subject": subject, "required": true, "autoRegister": false});
    assert_eq!(shown["schema"], expected);
    assert_eq!(client.get(&path).await.expect(200)["schema"], expected);
    let id = register(&client, &subject, text).await;
    Fixture { service, client, topic, subject, id, _data: data }
}

async fn register(client: &Client, subject: &str, text: &str) -> u64 {
    let path = format!("/schema-registry/subjects/{subject}/versions");
    let answer = client.post(&path, &json!({"schemaType": "PROTOBUF", "schema": text})).await.expect(200);
    answer["id"].as_u64().expect("an id")
}

impl Fixture {
    fn events(&self) -> String {
        format!("/v1/topics/{}/events", self.topic)
    }

    /// The bytes of the values, as they lie in the log.
    async fn raw(&self, topic: &str) -> Vec<Vec<u8>> {
        let path = format!("/v1/topics/{topic}/events?decode=false&limit=1000");
        let page = self.client.get(&path).await.expect(200);
        let bytes = |event: &Value| {
            let text = event["data_base64"].as_str().expect("bytes");
            BASE64_STANDARD.decode(text).expect("base64")
        };
        page["events"].as_array().expect("events").iter().map(bytes).collect()
    }

    fn framed(&self, index: &[u8], payload: &[u8]) -> Vec<u8> {
        let id = u32::try_from(self.id).expect("an id").to_be_bytes();
        [&[0][..], &id, index, payload].concat()
    }
}

async fn json_is_published_as_protobuf_and_read_as_json_again(log: Log) {
    let it = fixture(&log).await;
    let order = json!({"id": "o-1", "items": [{"sku": "a", "count": 2}]});
    it.client.publish(&it.topic, &json!({"key": "k", "data": order})).await;
    it.client.publish(&it.topic, &json!({"messageType": "shop.Item", "data": {"sku": "b"}})).await;
    let kind = [("content-type", "application/x-protobuf")];
    it.client.post_bytes(&it.events(), &kind, *b"\x0a\x01c").await.expect(200);
    let channel = tonic::transport::Channel::from_shared(it.service.grpc().to_owned());
    let channel = channel.expect("the address is one").connect().await.expect("gRPC is served");
    let framed = it.framed(&[0], b"\x0a\x01d");
    let event = Event { data: Some(framed.clone().into()), ..Event::default() };
    let request = PublishRequest { topic: it.topic.clone(), event: Some(event) };
    PublisherClient::new(channel.clone()).publish(request).await.expect("it is published");

    let raw = it.raw(&it.topic).await;
    let expected = [
        it.framed(&[0], b"\x0a\x03o-1\x12\x05\x0a\x01a\x10\x02"),
        it.framed(&[2, 2], b"\x0a\x01b"),
        it.framed(&[0], b"\x0a\x01c"),
        framed,
    ];
    assert_eq!(raw, expected);

    let shown = it.client.browse_all(&it.topic).await;
    let data: Vec<_> = shown.iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&order, &json!({"sku": "b"}), &json!({"id": "c"}), &json!({"id": "d"})]);
    let schema = json!({"id": it.id, "subject": it.subject, "version": 1, "message": "shop.Order"});
    assert_eq!(shown[0]["schema"], schema);
    assert_eq!(shown[1]["schema"]["message"], "shop.Item");
    let mut tail = it.client.tail(&it.topic, "?from=earliest", None).await;
    let (_, followed) = tail.next().await;
    assert_eq!((&followed["data"], &followed["schema"]), (&order, &schema));

    let subscription = unique("schemas-pull");
    it.client.subscribe(&subscription, &it.topic, &json!({})).await;
    let pulled = it.client.pull_count(&subscription, 4).await;
    assert_eq!((&pulled[0]["event"]["data"], &pulled[0]["event"]["schema"]), (&order, &schema));
    it.client.ack(&subscription, &pulled).await;
    let bytes = unique("schemas-bytes");
    it.client.subscribe(&bytes, &it.topic, &json!({"payload": "bytes"})).await;
    let pulled = it.client.pull_count(&bytes, 4).await;
    assert_eq!(pulled[0]["event"]["data_base64"], BASE64_STANDARD.encode(&expected[0]));

    let name = unique("schemas-grpc");
    let create = CreateSubscriptionRequest {
        name: name.clone(),
        topics: vec![it.topic.clone()],
        ordering: Some("none".into()),
        ..CreateSubscriptionRequest::default()
    };
    SubscriptionsClient::new(channel.clone()).create_subscription(create).await.expect("it is created");
    let first = eventually("a delivery over gRPC", async || {
        let request = PullRequest { subscription: name.clone(), max: Some(1), wait: None };
        let pulled = SubscriberClient::new(channel.clone()).pull(request).await.expect("a pull");
        pulled.into_inner().deliveries.into_iter().next()?.event
    })
    .await;
    let data: Value = serde_json::from_slice(&first.data.expect("data")).expect("JSON");
    let schema = first.schema.expect("a schema");
    assert_eq!(data, order);
    assert_eq!((u64::from(schema.id), schema.version, schema.message.as_str()), (it.id, 1, "shop.Order"));
}

async fn what_does_not_fit_its_schema_is_refused_with_its_path(log: Log) {
    let it = fixture(&log).await;
    let good = json!({"data": {"id": "a"}});
    let bad = json!({"data": {"id": "b", "items": [{"sku": "x"}, {"count": "many"}]}});
    let refused = it.client.post(&it.events(), &bad).await.expect(422);
    assert_eq!(refused["code"], "schema_rejected");
    assert_eq!(refused["errors"][0]["field"], "data.items[1].count");
    let batch = json!({"events": [good, bad, {"messageType": "Nope", "data": {}}]});
    let answer = it.client.post(&it.events(), &batch).await.expect(207);
    let field = |index: usize| answer["results"][index]["error"]["errors"][0]["field"].clone();
    assert_eq!((&answer["published"], field(1)), (&json!(1), json!("events[1].data.items[1].count")));
    assert_eq!(field(2), "events[2].messageType");
    let unknown = [("content-type", "application/vnd.confluent.protobuf")];
    let refused = it.client.post_bytes(&it.events(), &unknown, *b"\0\x7f\0\0\0\0").await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "data");
    assert_eq!(it.raw(&it.topic).await.len(), 1);
}

async fn a_value_that_cannot_be_read_becomes_a_dead_letter_with_its_bytes(log: Log) {
    let it = fixture(&log).await;
    // Written while the topic followed nothing, as a foreign producer does.
    let path = format!("/v1/topics/{}", it.topic);
    let alter = async |schema: Value| {
        let request = it.client.request(reqwest::Method::PATCH, &path).json(&json!({"schema": schema}));
        it.client.send(request).await.expect(200)
    };
    assert_eq!(alter(Value::Null).await.get("schema"), None);
    let broken = it.framed(&[0], b"\xff");
    let octets = [("content-type", "application/octet-stream")];
    it.client.post_bytes(&it.events(), &octets, broken.clone()).await.expect(200);
    alter(json!({"required": true})).await;
    it.client.publish(&it.topic, &json!({"data": {"id": "good"}})).await;
    let shown = it.client.browse_all(&it.topic).await;
    assert_eq!(shown[0]["data_base64"], BASE64_STANDARD.encode(&broken));
    assert!(shown[0]["decodeError"].as_str().is_some_and(|reason| reason.contains("shop.Order")));

    let name = unique("schemas-dead");
    it.client.subscribe(&name, &it.topic, &json!({})).await;
    let pulled = it.client.pull_count(&name, 1).await;
    assert_eq!(pulled[0]["event"]["data"], json!({"id": "good"}));
    it.client.ack(&name, &pulled).await;
    let letters = format!("{name}.dlq");
    let letter = eventually("the dead letter", async || {
        let answer = it.client.get(&format!("/v1/topics/{letters}/events")).await;
        answer.body["events"].get(0).cloned()
    })
    .await;
    assert_eq!(it.raw(&letters).await, [broken]);
    assert_eq!(letter["headers"]["es_dlq_error_kind"], "undecodable");
}

async fn old_and_new_readers_read_what_either_version_wrote(log: Log) {
    let it = fixture(&log).await;
    it.client.publish(&it.topic, &json!({"data": {"id": "old"}})).await;
    let second = ORDER.replace("string id = 1;", "string id = 1; string note = 3;");
    let id = register(&it.client, &it.subject, &second).await;
    let framed_by_old = it.framed(&[0], b"\x0a\x05older");
    it.client.publish(&it.topic, &json!({"data": {"id": "new", "note": "n"}})).await;
    let kind = [("content-type", "application/vnd.confluent.protobuf")];
    it.client.post_bytes(&it.events(), &kind, framed_by_old).await.expect(200);
    let shown = it.client.browse_all(&it.topic).await;
    let seen: Vec<_> = shown.iter().map(|event| (&event["data"], &event["schema"]["version"])).collect();
    let expected = [json!({"id": "old"}), json!({"id": "new", "note": "n"}), json!({"id": "older"})];
    assert_eq!(seen, [(&expected[0], &json!(1)), (&expected[1], &json!(2)), (&expected[2], &json!(1))]);
    assert_eq!(shown[1]["schema"]["id"], id);
    // A number that is used again is refused, and what follows the topic's schema goes on.
    let path = format!("/schema-registry/subjects/{}/versions", it.subject);
    let third = ORDER.replace("string id = 1;", "int32 id = 1;");
    let refused =
        it.client.post(&path, &json!({"schemaType": "PROTOBUF", "schema": third})).await.expect(409);
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("FIELD_SCALAR_KIND_CHANGED")));
    it.client.publish(&it.topic, &json!({"data": {"id": "on"}})).await;
}

async fn what_a_message_says_of_its_event_is_what_the_event_is(log: Log) {
    let text = format!(
        "{} message Said {{ string event_id = 1; string tenant_id = 2; int32 retry_count = 3; }}",
        ORDER.replace("string id = 1;", "string id = 1; Said metadata = 3;")
    );
    let it = fixture_of(&log, &text).await;
    let order = json!({"id": "o", "metadata": {"eventId": "e-1", "tenantId": "t-1", "retryCount": 1}});
    let receipt = it.client.publish(&it.topic, &json!({"data": order})).await;
    assert_eq!(receipt["id"], "e-1");
    let named = json!({"id": "e-2", "tenantid": "t-2", "data": order});
    assert_eq!(it.client.publish(&it.topic, &named).await["id"], "e-2", "what is around it counts more");
    let shown = it.client.browse_all(&it.topic).await;
    let seen: Vec<_> = shown.iter().map(|event| (&event["id"], &event["tenantid"])).collect();
    let expected = [(json!("e-1"), json!("t-1")), (json!("e-2"), json!("t-2"))];
    assert_eq!(seen, expected.each_ref().map(|(id, tenant)| (id, tenant)));
    let name = unique("said");
    it.client.subscribe(&name, &it.topic, &json!({"filter": "tenantid == 't-1'"})).await;
    // The second try of the publisher is the same event.
    it.client.publish(&it.topic, &json!({"data": order})).await;
    it.client.publish(&it.topic, &json!({"id": "last", "data": order})).await;
    let pulled = it.client.pull_count(&name, 2).await;
    let seen: Vec<_> = pulled.iter().map(|it| (&it["event"]["id"], &it["attempt"])).collect();
    assert_eq!(seen, [(&json!("e-1"), &json!(2)), (&json!("last"), &json!(2))]);
    it.client.ack(&name, &pulled).await;
}

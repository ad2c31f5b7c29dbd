//! Schemas in the way of an event, in a registry outside, under paused time: values are written and read by what it
//! has, and one that hangs harms nobody who needs no schema.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use domain::{
    Error, ErrorCode, Event, Limits,
    event_schemas::{Decoded, EventSchemas, NewTopicSchema, ShownValue},
    publish::{PublishConfig, Publisher, Receipt},
    schemas::{
        SchemaType,
        registry::{NewSchema, Position, Registry, RegistryConfig},
    },
    topics::NewTopic,
};
use ports::{Header, Record, TopicName};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use support::{
    World, context, items,
    registry::{Fake, away, kept, refused, text},
};
use tokio::time::{advance, timeout};

const TOPIC: &str = "shop";
const SUBJECT: &str = "shop-value";
/// Longer than anything here may take, of a time that passes as soon as all wait.
const LONG: Duration = Duration::from_secs(60);
/// A value of nobody's, in the frame of the first schema.
const FRAMED: &[u8] = b"\0\0\0\0\x01\0\x0a\x01a";

struct Shop {
    world: World,
    outside: Arc<Fake>,
    registry: Arc<Registry>,
    schemas: Arc<EventSchemas>,
    publisher: Publisher,
}

impl Shop {
    /// A topic that follows a subject, which has a version, and another one that follows none.
    async fn new() -> Self {
        let world = World::new().await;
        let (outside, clock, topics) = (Arc::new(Fake::default()), world.clock.clone(), world.topics());
        outside.put(SUBJECT, 1, kept("id"));
        let registry = Registry::outside(outside.clone(), clock.clone(), RegistryConfig::default());
        let registry = Arc::new(registry);
        let schemas = EventSchemas::new(registry.clone(), topics.clone(), world.memory.jobs(), clock.clone());
        schemas.start(false).await.unwrap();
        let new = NewTopic { name: TOPIC.into(), partitions: Some(1), ..NewTopic::default() };
        let follows = NewTopicSchema { required: Some(true), ..NewTopicSchema::default() };
        schemas.create_topic(new, Some(follows)).await.unwrap();
        let publisher = Publisher::with_schemas(
            world.log.clone(),
            topics,
            clock,
            Arc::new(Limits::default()),
            PublishConfig::default(),
            Some(world.store.clone()),
            Some(schemas.clone()),
        );
        Self { world, outside, registry, schemas, publisher }
    }

    async fn publish(&self, topic: &str, data: &'static str) -> Result<Receipt, Error> {
        let event = Event { data: Some(Bytes::from_static(data.as_bytes())), ..Event::default() };
        self.publisher.publish(Some(topic), items([event]), &context()).await?.remove(0)
    }

    async fn values(&self, topic: &str) -> Vec<Bytes> {
        let records = self.world.records(topic).await;
        records.into_iter().map(|(_, stored)| stored.record.value.unwrap()).collect()
    }

    /// What is shown of values of a topic, however long that takes.
    async fn read(&self, topic: &str, records: &[Record]) -> Vec<Result<ShownValue, Error>> {
        let topic = TopicName::new(topic).unwrap();
        let values = records.iter().map(|record| (&topic, record)).collect();
        timeout(LONG, self.schemas.read(values)).await.expect("nobody waits for a registry that hangs")
    }

    async fn one(&self, topic: &str, record: Record) -> Result<ShownValue, Error> {
        self.read(topic, &[record]).await.remove(0)
    }
}

fn value(bytes: impl Into<Bytes>) -> Record {
    Record { value: Some(bytes.into()), ..Record::default() }
}

/// One that says what it is.
fn said(bytes: &'static [u8]) -> Record {
    let headers = vec![Header::new("content-type", "application/vnd.confluent.protobuf")];
    Record { headers, ..value(bytes) }
}

fn decoded(value: Result<ShownValue, Error>) -> Arc<Decoded> {
    match value.unwrap() {
        ShownValue::Decoded(decoded) => decoded,
        other => panic!("{other:?}"),
    }
}

fn json_of(value: Result<ShownValue, Error>) -> Value {
    serde_json::from_slice(&decoded(value).json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn values_are_written_and_read_by_the_schemas_of_the_registry() {
    let shop = Shop::new().await;
    shop.publish(TOPIC, r#"{"id":"a"}"#).await.unwrap();
    assert_eq!(shop.values(TOPIC).await, [FRAMED]);
    let read = decoded(shop.one(TOPIC, value(FRAMED)).await);
    assert_eq!(read.json, r#"{"id":"a"}"#);
    assert_eq!((read.schema.subject.as_deref(), read.schema.version), (Some(SUBJECT), Some(1)));
    let refused = shop.publish(TOPIC, r#"{"id":7}"#).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::SchemaRejected);
    assert_eq!(shop.publish(TOPIC, r#"{"no":"x"}"#).await.unwrap_err().code(), ErrorCode::SchemaRejected);

    // What is registered here counts at once.
    let new = NewSchema::new(SchemaType::Protobuf, text("no"));
    shop.registry.register(SUBJECT, &new, Position::default(), false).await.unwrap();
    shop.publish(TOPIC, r#"{"no":"x"}"#).await.unwrap();
    assert_eq!(shop.values(TOPIC).await[1], &b"\0\0\0\0\x02\0\x0a\x01x"[..]);
    shop.outside.asked();
    shop.publish(TOPIC, r#"{"no":"y"}"#).await.unwrap();
    assert_eq!(shop.outside.asked(), [""; 0], "what is known is not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_keeps_nobody_who_needs_no_schema() {
    let shop = Shop::new().await;
    shop.outside.hang(true);
    shop.publish(support::TOPIC, "{}").await.unwrap();
    assert_eq!(shop.outside.asked(), [""; 0]);
    // Values that look like framed ones are waited for once, and then for a while not at all.
    assert_eq!(shop.one(support::TOPIC, value(FRAMED)).await.unwrap(), ShownValue::Plain);
    assert_eq!(shop.outside.asked(), ["schema . 1"]);
    let others: Vec<Record> = (1..100_u8).map(|id| value(vec![0, 0, 0, 0, id, 0])).collect();
    let shown = shop.read(support::TOPIC, &others).await;
    assert!(shown.into_iter().all(|value| value.unwrap() == ShownValue::Plain));
    assert_eq!(shop.outside.asked(), [""; 0]);

    shop.outside.hang(false);
    advance(Duration::from_secs(6)).await;
    let known = shop.one(support::TOPIC, value(&b"\0\0\0\0\x02\0"[..])).await.unwrap();
    assert_eq!(known, ShownValue::Plain, "there is none");
    shop.outside.put("other-value", 1, kept("other"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(json_of(shop.one(support::TOPIC, value(&b"\0\0\0\0\x02\0"[..])).await), json!({}));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_read_with_its_name_while_the_registry_hangs() {
    let shop = Shop::new().await;
    for topic in [TOPIC, support::TOPIC] {
        assert_eq!(json_of(shop.one(topic, value(FRAMED)).await), json!({"id": "a"}));
    }
    shop.outside.hang(true);
    for _ in 0..3 {
        // Names are looked up again after a while.
        advance(Duration::from_secs(70)).await;
        for topic in [TOPIC, support::TOPIC] {
            let read = decoded(shop.one(topic, value(FRAMED)).await);
            assert_eq!((read.schema.subject.as_deref(), read.schema.version), (Some(SUBJECT), Some(1)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_values_that_begin_with_a_zero_asks_little() {
    let shop = Shop::new().await;
    let numbers: Vec<Record> =
        (1000..1500_u64).map(|number| value((number << 24).to_be_bytes().to_vec())).collect();
    shop.outside.asked();
    for shown in shop.read(support::TOPIC, &numbers).await {
        assert_eq!(shown.unwrap(), ShownValue::Plain);
    }
    let asked = shop.outside.asked();
    assert!(asked.len() <= 20, "{asked:?}");
    // What cannot be an id is not asked for.
    for none in [&b"\0\xff\0\0\x01\0"[..], b"\0\0\0\0\0\0"] {
        shop.one(support::TOPIC, value(none)).await.unwrap();
    }
    assert_eq!(shop.outside.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_guessed_of_one_value_is_not_held_against_one_that_says_what_it_is() {
    let shop = Shop::new().await;
    shop.outside.fail(Some(away));
    let mut shown = shop.read(support::TOPIC, &[value(FRAMED), said(FRAMED)]).await;
    assert_eq!(shown.pop().unwrap().unwrap_err().code(), ErrorCode::Unavailable, "it waits");
    assert_eq!(shown.pop().unwrap().unwrap(), ShownValue::Plain);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_taken_for_a_missing_schema_only_where_it_says_so() {
    let shop = Shop::new().await;
    for refusal in [|| refused(403), || refused(40301), || refused(400), || refused(42201), || refused(499)] {
        shop.outside.fail(Some(refusal));
        let error = shop.one(TOPIC, value(FRAMED)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
        let error = shop.publish(TOPIC, "{}").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    }
    shop.outside.fail(None);
    let missing = shop.one(TOPIC, value(&b"\0\0\0\0\x63\0"[..])).await.unwrap();
    assert!(matches!(&missing, ShownValue::Undecodable(why) if why.contains("99")), "{missing:?}");
    assert_eq!(json_of(shop.one(TOPIC, value(FRAMED)).await), json!({"id": "a"}));
}

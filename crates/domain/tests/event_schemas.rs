//! Schemas in the way of an event, over the reference model and paused time: what is published to a topic with a
//! schema follows it, what is consumed is read by it, and what the registry does not know or say harms nobody else.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    Error, ErrorCode, Event, Limits,
    event_schemas::{EventSchemas, NewTopicSchema, ShownValue, TopicSchemaChange},
    publish::{PublishConfig, Publisher, Receipt},
    schemas::{
        SchemaType,
        registry::{NewSchema, Position, Registry, RegistryConfig},
    },
    subscriptions::{
        AckRequest, DeliveryConfig, HandlerOptions, NewSubscription, PulledDelivery, SubscriptionPorts,
        Subscriptions, policy::NewDedup,
    },
    topics::{NewTopic, TopicChange},
};
use ports::{
    AppendRequest, Clock, ErrorKind, EventHandler, Fingerprint, HandlerDelivery, Header, JobKind, Outcome,
    PortError, Record, Result as PortResult, Revision, SchemaChange, SchemaChanged, SchemaKey, SchemaSetting,
    SchemaStore, StoredRecord, StoredSchema, StoredSubject, TopicName, VersionKey,
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use support::{World, context, header, items, once};

const TOPIC: &str = "shop";
const SUBJECT: &str = "shop-value";
const WAIT: Option<Duration> = Some(Duration::from_secs(50));

/// A store of schemas that counts what it is asked, and may be away.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn SchemaStore>,
    calls: AtomicUsize,
    away: AtomicBool,
}

impl Watched {
    fn asked(&self) -> PortResult<()> {
        self.calls.fetch_add(1, SeqCst);
        if self.away.load(SeqCst) {
            return Err(PortError::new(ErrorKind::Unavailable, "schemas", "away"));
        }
        Ok(())
    }
}

#[async_trait]
impl SchemaStore for Watched {
    async fn revision(&self) -> PortResult<Revision> {
        self.asked()?;
        self.inner.revision().await
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> PortResult<Vec<Option<StoredSchema>>> {
        self.asked()?;
        self.inner.schemas(keys).await
    }

    async fn find(&self, fingerprint: Fingerprint) -> PortResult<Vec<SchemaKey>> {
        self.asked()?;
        self.inner.find(fingerprint).await
    }

    async fn subjects(&self, names: Vec<String>) -> PortResult<Vec<Option<StoredSubject>>> {
        self.asked()?;
        self.inner.subjects(names).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> PortResult<Vec<StoredSubject>> {
        self.asked()?;
        self.inner.list(prefix, after, limit).await
    }

    async fn uses(&self, key: &SchemaKey) -> PortResult<Vec<VersionKey>> {
        self.asked()?;
        self.inner.uses(key).await
    }

    async fn referrers(&self, subject: &str) -> PortResult<Vec<(u32, SchemaKey)>> {
        self.asked()?;
        self.inner.referrers(subject).await
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> PortResult<Vec<Option<Bytes>>> {
        self.asked()?;
        self.inner.settings(setting, scopes).await
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> PortResult<SchemaChanged> {
        self.asked()?;
        self.inner.change(expected, change).await
    }
}

/// One process over what lasts.
struct Shop {
    world: World,
    store: Arc<Watched>,
    registry: Arc<Registry>,
    schemas: Arc<EventSchemas>,
    publisher: Publisher,
}

const ORDER: &str = "syntax = \"proto3\"; package shop; message Order { string id = 1; repeated Item items = 2; } \
                     message Item { string sku = 1; int32 count = 2; }";

impl Shop {
    async fn new() -> Self {
        let world = World::new().await;
        let store = Arc::new(Watched {
            inner: world.memory.schemas(),
            calls: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        });
        let registry = Arc::new(Registry::new(store.clone(), world.clock.clone(), RegistryConfig::default()));
        let topics = world.topics();
        let schemas =
            EventSchemas::new(registry.clone(), topics.clone(), world.memory.jobs(), world.clock.clone());
        schemas.start(false).await.unwrap();
        let publisher = Publisher::with_schemas(
            world.log.clone(),
            topics,
            world.clock.clone(),
            Arc::new(Limits::default()),
            PublishConfig::default(),
            Some(world.store.clone()),
            Some(schemas.clone()),
        );
        Self { world, store, registry, schemas, publisher }
    }

    /// With a topic whose values follow a subject, in which `text` is the first version.
    async fn with(schema_type: SchemaType, text: &str, schema: NewTopicSchema) -> Self {
        let shop = Self::new().await;
        shop.create(schema).await;
        shop.register(SUBJECT, schema_type, text).await;
        shop
    }

    async fn create(&self, schema: NewTopicSchema) {
        let new = NewTopic { name: TOPIC.into(), partitions: Some(1), ..NewTopic::default() };
        self.schemas.create_topic(new, Some(schema)).await.unwrap();
    }

    async fn register(&self, subject: &str, schema_type: SchemaType, text: &str) -> u32 {
        let new = NewSchema::new(schema_type, text);
        self.registry.register(subject, &new, Position::default(), false).await.unwrap().schema.id.0
    }

    async fn publish(&self, events: impl IntoIterator<Item = Event>) -> Vec<Result<Receipt, Error>> {
        self.publisher.publish(Some(TOPIC), items(events), &context()).await.unwrap()
    }

    async fn one(&self, event: Event) -> Result<Receipt, Error> {
        self.publisher.publish(Some(TOPIC), items([event]), &context()).await?.remove(0)
    }

    async fn values(&self, topic: &str) -> Vec<Bytes> {
        let records = self.world.records(topic).await;
        records.into_iter().map(|(_, stored)| stored.record.value.unwrap_or_default()).collect()
    }

    /// Appends as a foreign producer does.
    async fn append(&self, topic: &str, value: impl Into<Bytes>, kind: Option<&'static str>) {
        let headers = kind.map(|kind| Header::new("content-type", kind)).into_iter().collect();
        let record = Record { value: Some(value.into()), headers, ..Record::default() };
        let request = AppendRequest {
            topic: TopicName::new(topic).unwrap(),
            records: vec![(0, record)],
            timeout: Duration::from_secs(1),
        };
        self.world.memory.log().append(request).await.outcomes.remove(0).unwrap();
    }

    async fn shown(&self, topic: &str) -> Vec<ShownValue> {
        let topic = TopicName::new(topic).unwrap();
        let records = self.world.records(topic.as_str()).await;
        let values = records.iter().map(|(_, stored)| (&topic, &stored.record)).collect();
        self.schemas.read(values).await.into_iter().map(Result::unwrap).collect()
    }

    async fn subscribe(&self, new: NewSubscription) -> Arc<Subscriptions> {
        let memory = &self.world.memory;
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            idempotency: memory.idempotency(),
            clock: self.world.clock.clone(),
        };
        let subscriptions = Subscriptions::with_schemas(
            ports,
            self.world.topics(),
            Arc::new(Limits::default()),
            DeliveryConfig::default(),
            None,
            Some(self.schemas.clone()),
        );
        subscriptions.start().await.unwrap();
        let new = NewSubscription { name: "s".into(), topics: vec![TOPIC.into()], ..new };
        subscriptions.create(new).await.unwrap();
        subscriptions
    }
}

fn event(data: impl Into<Bytes>, kind: Option<&'static str>) -> Event {
    Event { data: Some(data.into()), content_type: kind.map(Into::into), ..Event::default() }
}

fn required() -> NewTopicSchema {
    NewTopicSchema { required: Some(true), ..NewTopicSchema::default() }
}

#[track_caller]
fn rejected(outcome: Result<Receipt, Error>) -> (String, String) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), ErrorCode::SchemaRejected, "{error}");
    (error.fields()[0].field.clone(), error.fields()[0].message.clone())
}

fn decoded(value: &ShownValue) -> Value {
    match value {
        ShownValue::Decoded(decoded) => serde_json::from_slice(&decoded.json).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn pull(subscriptions: &Subscriptions) -> Vec<PulledDelivery> {
    let pulled = subscriptions.pull("s", None, WAIT).await.unwrap();
    let ack = pulled.deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
    subscriptions.acknowledge("s", AckRequest { ack, ..AckRequest::default() }).await.unwrap();
    pulled.deliveries
}

#[tokio::test(start_paused = true)]
async fn json_for_a_protobuf_topic_is_encoded_framed_and_read_again() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let order = r#"{"id": "o-1", "items": [{"sku": "a", "count": 2}]}"#;
    shop.one(event(order, None)).await.unwrap();
    let item =
        Event { message_type: Some("Item".into()), ..event(r#"{"sku":"b"}"#, Some("application/json")) };
    shop.one(item).await.unwrap();
    let values = shop.values(TOPIC).await;
    assert_eq!(&values[0][..6], [0, 0, 0, 0, 1, 0], "magic, id, the first message");
    assert_eq!(&values[0][6..], b"\x0a\x03o-1\x12\x05\x0a\x01a\x10\x02");
    assert_eq!(&values[1][..], b"\0\0\0\0\x01\x02\x02\x0a\x01b", "the second message has the index [1]");
    let records = shop.world.records(TOPIC).await;
    assert_eq!(
        header(&records[0].1.record, "content-type").as_deref(),
        Some("application/vnd.confluent.protobuf")
    );
    let shown = shop.shown(TOPIC).await;
    assert_eq!(decoded(&shown[0]), json!({"id": "o-1", "items": [{"sku": "a", "count": 2}]}));
    let ShownValue::Decoded(second) = &shown[1] else { panic!("{shown:?}") };
    let schema = &second.schema;
    assert_eq!((schema.id.0, schema.subject.as_deref(), schema.version), (1, Some(SUBJECT), Some(1)));
    assert_eq!(schema.message.as_deref(), Some("shop.Item"));
}

#[tokio::test(start_paused = true)]
async fn avro_and_json_schema_take_json_too() {
    let avro = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}"#;
    let shop = Shop::with(SchemaType::Avro, avro, required()).await;
    shop.one(event(r#"{"id":"o"}"#, None)).await.unwrap();
    shop.one(event(&b"\x02p"[..], Some("application/avro"))).await.unwrap();
    assert_eq!(shop.values(TOPIC).await, [&b"\0\0\0\0\x01\x02o"[..], b"\0\0\0\0\x01\x02p"]);
    assert_eq!(
        shop.shown(TOPIC).await.iter().map(decoded).collect::<Vec<_>>(),
        [json!({"id":"o"}), json!({"id":"p"})]
    );
    let (field, _) = rejected(shop.one(event(r#"{"id":7}"#, None)).await);
    assert_eq!(field, "data.id");
    let typed = Event { message_type: Some("Order".into()), ..event(r#"{"id":"o"}"#, None) };
    assert_eq!(rejected(shop.one(typed).await).0, "messagetype");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_alone_and_says_where() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let outcomes = shop
        .publish([
            event(r#"{"id":"a"}"#, None),
            event(r#"{"id":"b","items":[{"sku":"x"},{"count":"many"}]}"#, None),
            event(r#"{"id":"c","typo":1}"#, None),
            event(r#"{"id":"d"}"#, Some("text/plain")),
            event(&b"\x0a\xff"[..], Some("application/x-protobuf")),
            Event { message_type: Some("Nope".into()), ..event("{}", None) },
            event(&b"\0\0\0\0\x09\0"[..], None),
            event(&b"\0\0\0\0\x01\x02\x12"[..], None),
            event(&b"{}"[..], Some("application/vnd.confluent.protobuf")),
            event(&b"\0\0\0\0\x01\0"[..], Some("application/vnd.confluent.avro")),
            event(&b"\x02a"[..], Some("application/avro")),
            event(r#"{"id":"z"}"#, None),
        ])
        .await;
    let mut outcomes = outcomes.into_iter();
    outcomes.next().unwrap().unwrap();
    outcomes.next_back().unwrap().unwrap();
    let refused: Vec<(String, String)> = outcomes.map(rejected).collect();
    let expected = [
        ("data.items[1].count", "version 1 of `shop-value` (schema 1)"),
        ("data", "typo"),
        ("datacontenttype", "follow the subject `shop-value`"),
        ("data", "shop.Order"),
        ("messagetype", "shop.Order, shop.Item"),
        ("data", "schema 9"),
        ("data", "[9]"),
        ("data", "0x7b"),
        ("datacontenttype", "PROTOBUF"),
        ("datacontenttype", "AVRO"),
    ];
    assert_eq!(refused.len(), expected.len());
    for ((field, message), (expected, part)) in refused.iter().zip(expected) {
        assert!(field.starts_with(expected) && message.contains(part), "{field}: {message}");
    }
    assert_eq!(shop.values(TOPIC).await.len(), 2);
    shop.one(Event::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_are_checked_and_framed_and_frames_are_passed_on() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    shop.one(event(&b"\x0a\x01a"[..], Some("application/x-protobuf"))).await.unwrap();
    shop.one(event(&b"\x0a\x01a"[..], None)).await.unwrap();
    shop.one(event(&b"\0\0\0\0\x01\0\x0a\x01a"[..], Some("application/vnd.confluent.protobuf")))
        .await
        .unwrap();
    assert_eq!(shop.values(TOPIC).await, [&b"\0\0\0\0\x01\0\x0a\x01a"[..]; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_schema_of_another_subject_becomes_a_version_where_that_is_wanted() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, NewTopicSchema::default()).await;
    let more = ORDER.replace("string id = 1;", "string id = 1; string note = 9;");
    assert_eq!(shop.register("other", SchemaType::Protobuf, &more).await, 2);
    let framed = || event(&b"\0\0\0\0\x02\0\x0a\x01a"[..], Some("application/vnd.confluent.protobuf"));
    let (field, message) = rejected(shop.one(framed()).await);
    assert!(field == "data" && message.contains("no version of the subject `shop-value`"), "{message}");
    let wanted = NewTopicSchema { auto_register: Some(true), ..NewTopicSchema::default() };
    shop.schemas
        .alter_topic(TOPIC, TopicChange::default(), Some(TopicSchemaChange::Follow(wanted)))
        .await
        .unwrap();
    shop.one(framed()).await.unwrap();
    let current = shop.registry.current(SUBJECT).await.unwrap();
    assert_eq!(current.versions.iter().map(|it| (it.version, it.id.0)).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    // One that does not fit the others is refused still.
    let other = "syntax = \"proto3\"; package shop; message Order { int32 id = 1; }";
    assert_eq!(shop.register("third", SchemaType::Protobuf, other).await, 3);
    let (_, message) = rejected(shop.one(event(&b"\0\0\0\0\x03\0"[..], None)).await);
    assert!(message.contains("cannot become a version"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn without_a_schema_values_are_refused_where_one_is_required_and_else_taken_as_they_are() {
    let shop = Shop::new().await;
    shop.create(required()).await;
    let (field, message) = rejected(shop.one(event("{}", None)).await);
    assert!(field == "data" && message.contains("register one first"), "{message}");
    shop.schemas
        .alter_topic(
            TOPIC,
            TopicChange::default(),
            Some(TopicSchemaChange::Follow(NewTopicSchema::default())),
        )
        .await
        .unwrap();
    shop.one(event("{}", None)).await.unwrap();
    shop.one(event("text", Some("text/plain"))).await.unwrap();
    // One that comes later is found.
    shop.register(SUBJECT, SchemaType::Protobuf, ORDER).await;
    shop.one(event("{}", None)).await.unwrap();
    assert_eq!(shop.values(TOPIC).await, [&b"{}"[..], b"text", b"\0\0\0\0\x01\0"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_asks_once_and_a_warm_one_not_at_all() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let batch = || (0..50).map(|n| event(format!(r#"{{"id":"{n}"}}"#), None)).collect::<Vec<_>>();
    let before = shop.store.calls.load(SeqCst);
    shop.publish(batch()).await;
    let cold = shop.store.calls.load(SeqCst) - before;
    assert!(cold <= 2, "the subject and the schema: {cold}");
    shop.publish(batch()).await;
    assert_eq!(shop.store.calls.load(SeqCst) - before, cold);
    shop.shown(TOPIC).await;
    let read = shop.store.calls.load(SeqCst);
    shop.shown(TOPIC).await;
    assert_eq!(shop.store.calls.load(SeqCst), read);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_is_a_matter_of_topics_with_a_schema_alone() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    shop.store.away.store(true, SeqCst);
    let calls = shop.store.calls.load(SeqCst);
    let plain = shop.publisher.publish(Some(support::TOPIC), items([event("{}", None)]), &context()).await;
    plain.unwrap().remove(0).unwrap();
    assert_eq!(shop.store.calls.load(SeqCst), calls, "a topic without a schema asks nothing");
    let error = shop.one(event("{}", None)).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Unavailable, Some(ports::Effect::None)));
    assert!(error.retry_after().is_some());
    shop.store.away.store(false, SeqCst);
    shop.one(event("{}", None)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_a_duplicate_also_where_the_schema_has_another_version_by_then() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let event = || once("k", r#"{"id":"a"}"#);
    let first = shop.one(event()).await.unwrap();
    let more = ORDER.replace("string id = 1;", "string id = 1; string note = 9;");
    shop.register(SUBJECT, SchemaType::Protobuf, &more).await;
    let again = shop.one(event()).await.unwrap();
    assert_eq!((again.offset, again.duplicate), (first.offset, true));
    // Another message is another content, though the value says the same.
    shop.one(once("m", "{}")).await.unwrap();
    let other = Event { message_type: Some("Item".into()), ..once("m", "{}") };
    assert_eq!(shop.one(other).await.unwrap_err().code(), ErrorCode::IdempotencyKeyReused);
    // What is refused frees its key.
    rejected(shop.one(once("l", r#"{"id":7}"#)).await);
    shop.one(once("l", r#"{"id":"b"}"#)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn foreign_values_are_read_where_they_can_be_and_left_alone_where_they_cannot() {
    let shop = Shop::new().await;
    shop.register("orders-value", SchemaType::Protobuf, ORDER).await;
    for value in
        [&b"\0\0\0\0\x01\0\x0a\x01a"[..], b"\0\0\0\0\x07\0", b"\0\0\0\0\x01\0\xff", b"\0", b"", b"plain"]
    {
        shop.append(support::TOPIC, value, None).await;
    }
    let shown = shop.shown(support::TOPIC).await;
    assert_eq!(decoded(&shown[0]), json!({"id": "a"}));
    assert!(shown[1..].iter().all(|value| *value == ShownValue::Plain), "{shown:?}");
    // A schema that comes later is found, and a name that says so is believed.
    for _ in 2..=7 {
        let text = format!("syntax = \"proto3\"; message M{} {{ string id = 1; }}", uuid());
        shop.register(&uuid(), SchemaType::Protobuf, &text).await;
    }
    shop.world.clock.sleep_until(shop.world.clock.monotonic() + Duration::from_secs(2)).await;
    assert_eq!(decoded(&shop.shown(support::TOPIC).await[1]), json!({}));
    shop.append(support::TOPIC, &b"plain"[..], Some("application/vnd.confluent.avro")).await;
    let shown = shop.shown(support::TOPIC).await;
    assert!(matches!(shown.last(), Some(ShownValue::Undecodable(_))), "{shown:?}");
}

/// A name that no other has.
fn uuid() -> String {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("n{}", NEXT.fetch_add(1, SeqCst))
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_read_and_what_cannot_be_is_a_dead_letter_at_once() {
    for dedup in [true, false] {
        let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
        let dedup = NewDedup { enabled: Some(dedup), ..NewDedup::default() };
        let subscriptions = shop.subscribe(NewSubscription { dedup, ..NewSubscription::default() }).await;
        shop.one(event(r#"{"id":"a"}"#, None)).await.unwrap();
        for bad in [&b"\0\0\0\0\x01\0\xff"[..], b"\0\0\0\0\x63\0", b"{}"] {
            shop.append(TOPIC, bad, None).await;
        }
        shop.one(event(r#"{"id":"b"}"#, None)).await.unwrap();
        let mut ids = Vec::new();
        while ids.len() < 2 {
            ids.extend(pull(&subscriptions).await.iter().map(|it| decoded(&it.value)["id"].clone()));
        }
        assert_eq!(ids, ["a", "b"]);
        let mut letters = Vec::new();
        while letters.len() < 3 {
            shop.world.clock.sleep_until(shop.world.clock.monotonic() + Duration::from_millis(10)).await;
            letters = shop.world.records("s.dlq").await;
        }
        let values: Vec<_> = letters.iter().map(|(_, it)| it.record.value.clone().unwrap()).collect();
        assert_eq!(values, [&b"\0\0\0\0\x01\0\xff"[..], b"\0\0\0\0\x63\0", b"{}"], "byte for byte");
        for (_, StoredRecord { record, .. }) in &letters {
            assert_eq!(header(record, "es_dlq_error_kind").as_deref(), Some("undecodable"));
            assert_eq!(header(record, "es_dlq_attempts").as_deref(), Some("0"), "nobody was given it");
        }
    }
}

/// Keeps what it is given.
#[derive(Debug, Default)]
struct Keeping(Mutex<Vec<Record>>);

#[async_trait]
impl EventHandler for Keeping {
    async fn handle(&self, run: &[HandlerDelivery]) -> Vec<Outcome> {
        self.0.lock().unwrap().extend(run.iter().map(|delivery| delivery.record.record.clone()));
        vec![Outcome::Ack; run.len()]
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_and_webhooks_are_given_the_json_and_what_it_was_read_by() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let subscriptions = shop.subscribe(NewSubscription::default()).await;
    let handler = Arc::new(Keeping::default());
    subscriptions.handle("s", handler.clone(), HandlerOptions::default()).await.unwrap();
    let forged = vec![("esschemaid".into(), "forged".into())];
    shop.one(Event { extensions: forged, ..event(r#"{"id":"a"}"#, None) }).await.unwrap();
    while handler.0.lock().unwrap().is_empty() {
        shop.world.clock.sleep_until(shop.world.clock.monotonic() + Duration::from_millis(10)).await;
    }
    let given = handler.0.lock().unwrap().remove(0);
    assert_eq!(given.value.as_deref(), Some(&br#"{"id":"a"}"#[..]));
    for (name, expected) in [
        ("content-type", "application/json"),
        ("ce_esschemaid", "1"),
        ("ce_esschemasubject", SUBJECT),
        ("ce_esschemaversion", "1"),
        ("ce_esschemamessage", "shop.Order"),
    ] {
        assert_eq!(header(&given, name).as_deref(), Some(expected), "{name}");
    }
    assert!(header(&given, "ce_id").is_some());
    assert_eq!(shop.values(TOPIC).await, [&b"\0\0\0\0\x01\0\x0a\x01a"[..]], "the log keeps what it has");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_given_where_bytes_are_wanted() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let payload = Some("bytes".to_owned());
    let subscriptions = shop.subscribe(NewSubscription { payload, ..NewSubscription::default() }).await;
    shop.one(event(r#"{"id":"a"}"#, None)).await.unwrap();
    shop.append(TOPIC, &b"no frame"[..], None).await;
    let mut given = pull(&subscriptions).await;
    while given.len() < 2 {
        given.extend(pull(&subscriptions).await);
    }
    assert!(given.iter().all(|delivery| delivery.value == ShownValue::Plain));
    assert_eq!(given[0].record.record.value.as_deref(), Some(&b"\0\0\0\0\x01\0\x0a\x01a"[..]));
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_away_deliveries_wait_and_none_is_lost() {
    for dedup in [true, false] {
        let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
        shop.one(event(r#"{"id":"a"}"#, None)).await.unwrap();
        let away = Arc::new(Watched {
            inner: shop.world.memory.schemas(),
            calls: AtomicUsize::new(0),
            away: AtomicBool::new(true),
        });
        let clock = shop.world.clock.clone();
        let cold = Arc::new(Registry::new(away.clone(), clock.clone(), RegistryConfig::default()));
        let schemas = EventSchemas::new(cold, shop.world.topics(), shop.world.memory.jobs(), clock.clone());
        schemas.start(false).await.unwrap();
        let shop = Shop { schemas, ..shop };
        let dedup = NewDedup { enabled: Some(dedup), ..NewDedup::default() };
        let subscriptions = shop.subscribe(NewSubscription { dedup, ..NewSubscription::default() }).await;
        let none = subscriptions.pull("s", None, Some(Duration::from_secs(5))).await.unwrap();
        assert!(none.deliveries.is_empty());
        let causes = subscriptions.get("s").await.unwrap().causes;
        assert!(causes.iter().any(|cause| cause.code == "schema-registry"), "{causes:?}");
        away.away.store(false, SeqCst);
        let given = pull(&subscriptions).await;
        assert_eq!((given.len(), given[0].attempt), (1, 1));
        assert_eq!(decoded(&given[0].value), json!({"id": "a"}));
        assert!(subscriptions.get("s").await.unwrap().causes.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn filters_and_keys_see_decoded_data() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let subscriptions = shop
        .subscribe(NewSubscription {
            filter: Some("data.items[0].count > 1".into()),
            dedup: NewDedup { key: Some("data.id".into()), ..NewDedup::default() },
            ..NewSubscription::default()
        })
        .await;
    for (id, count) in [("a", 1), ("b", 2), ("b", 3), ("c", 4)] {
        let order = format!(r#"{{"id":"{id}","items":[{{"count":{count}}}]}}"#);
        shop.one(event(order, None)).await.unwrap();
    }
    let mut ids: Vec<Value> = Vec::new();
    while ids.len() < 2 {
        ids.extend(pull(&subscriptions).await.iter().map(|it| decoded(&it.value)["id"].clone()));
    }
    assert_eq!(ids, ["b", "c"]);
    let view = subscriptions.get("s").await.unwrap();
    assert_eq!((view.filtered, view.filter_errors.count, view.dedup_key_errors.count), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn settings_outlive_the_process_are_seen_by_others_and_go_with_their_topic() {
    let shop = Shop::with(SchemaType::Protobuf, ORDER, required()).await;
    let topic = TopicName::new(TOPIC).unwrap();
    let other = EventSchemas::new(
        shop.registry.clone(),
        shop.world.topics(),
        shop.world.memory.jobs(),
        shop.world.clock.clone(),
    );
    other.start(true).await.unwrap();
    let of = other.of(&topic).unwrap();
    assert_eq!((of.subject.as_str(), of.required, of.auto_register), (SUBJECT, true, false));
    let subject = |text: &str| NewTopicSchema { subject: Some(text.into()), ..NewTopicSchema::default() };
    let alter = |schema| shop.schemas.alter_topic(TOPIC, TopicChange::default(), schema);
    let error = alter(Some(TopicSchemaChange::Follow(subject("a\nb")))).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "schema.subject");
    alter(Some(TopicSchemaChange::Follow(subject("other")))).await.unwrap();
    assert_eq!(alter(None).await.unwrap().schema.unwrap().subject, "other", "what is not said stays");
    shop.world.clock.sleep_until(shop.world.clock.monotonic() + Duration::from_secs(2)).await;
    assert_eq!(other.of(&topic).unwrap().subject, "other");
    shop.schemas.delete_topic(TOPIC).await.unwrap();
    assert_eq!(shop.schemas.of(&topic), None);
    assert!(shop.world.memory.jobs().list(JobKind::Topic).await.unwrap().is_empty());
}

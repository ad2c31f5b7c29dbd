//! Messages that say what their events are: what headers leave out is as the message says, for publishers that say
//! little and for producers that know nothing of CloudEvents.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use domain::{
    Event, Limits,
    event_schemas::{EventSchemas, MetadataFields, NewTopicSchema},
    partition::{PartitionStrategy, Partitioner},
    publish::{Pattern, PublishConfig, PublishContext, Publisher, TopicRule},
    schemas::{
        SchemaType, framing,
        registry::{NewSchema, Position, Registry, RegistryConfig},
    },
    subscriptions::{
        AckRequest, DeliveryConfig, NewSubscription, PulledDelivery, RetryItem, SubscriptionPorts,
        Subscriptions,
        policy::{NewDedup, NewRetry},
    },
    topics::NewTopic,
};
use ports::{AppendRequest, Clock, Header, Record, TopicName};
use prost::Message;
use std::{sync::Arc, time::Duration};
use support::{PARTITIONS, World, context, header, items};

const TOPIC: &str = "tenants";
const SUBJECT: &str = "tenants-value";
const WAIT: Option<Duration> = Some(Duration::from_secs(50));

const SCHEMA: &str = "syntax = \"proto3\"; package nnipa; \
    import \"google/protobuf/timestamp.proto\"; \
    message TenantCreated { Metadata metadata = 1; string name = 2; } \
    message Metadata { string event_id = 1; string event_type = 2; string source = 3; string tenant_id = 4; \
      string user_id = 5; string correlation_id = 6; string causation_id = 7; \
      google.protobuf.Timestamp timestamp = 8; int32 retry_count = 9; }";

/// The message as a producer writes it.
#[derive(Clone, PartialEq, Message)]
struct TenantCreated {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Said>,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(string, tag = "1")]
    event_id: String,
    #[prost(string, tag = "3")]
    source: String,
    #[prost(string, tag = "4")]
    tenant_id: String,
    #[prost(int32, tag = "9")]
    retry_count: i32,
}

impl Said {
    fn framed(self) -> Vec<u8> {
        let message = TenantCreated { metadata: Some(self), name: "n".into() };
        framing::frame(1, Some(&[0]), &message.encode_to_vec()).to_vec()
    }
}

fn said(event_id: &str, tenant_id: &str, retry_count: i32) -> Said {
    Said { event_id: event_id.into(), source: String::new(), tenant_id: tenant_id.into(), retry_count }
}

/// One process over what lasts, with a topic whose values follow the schema.
struct Process {
    world: World,
    schemas: Arc<EventSchemas>,
    publisher: Publisher,
}

impl Process {
    async fn new() -> Self {
        Self::with(Some(MetadataFields::default()), SCHEMA).await
    }

    async fn with(fields: Option<MetadataFields>, schema: &str) -> Self {
        let world = World::new().await;
        let (clock, topics) = (world.clock.clone(), world.topics());
        let config = RegistryConfig::default();
        let registry = Arc::new(Registry::new(world.memory.schemas(), clock.clone(), config));
        let new = NewSchema::new(SchemaType::Protobuf, schema);
        registry.register(SUBJECT, &new, Position::default(), false).await.unwrap();
        let jobs = world.memory.jobs();
        let schemas = EventSchemas::with_metadata(registry, topics.clone(), jobs, clock.clone(), fields);
        schemas.start(false).await.unwrap();
        let new = NewTopic { name: TOPIC.into(), partitions: Some(PARTITIONS.into()), ..NewTopic::default() };
        schemas.create_topic(new, Some(NewTopicSchema::default())).await.unwrap();
        let rule =
            TopicRule { topics: Pattern::new(TOPIC), strategy: PartitionStrategy::Tenant, event_type: None };
        let publisher = Publisher::with_schemas(
            world.log.clone(),
            topics,
            clock,
            Arc::new(Limits::default()),
            PublishConfig { topics: vec![rule], ..PublishConfig::default() },
            Some(world.store.clone()),
            Some(schemas.clone()),
        );
        Self { world, schemas, publisher }
    }

    /// Publishes, and answers the record as it lies in the log, with its partition.
    async fn publish(&self, event: Event, context: &PublishContext) -> (u32, Record) {
        let receipt = self.publisher.publish(Some(TOPIC), items([event]), context).await.unwrap().remove(0);
        let receipt = receipt.unwrap();
        let records = self.world.records(TOPIC).await;
        let is_it = |(at, stored): &&(u32, ports::StoredRecord)| {
            (*at, stored.offset) == (receipt.partition, receipt.offset)
        };
        let (at, stored) = records.iter().find(is_it).unwrap();
        assert_eq!(header(&stored.record, "ce_id").as_deref(), Some(&*receipt.id), "the receipt says the id");
        (*at, stored.record.clone())
    }

    /// Appends as a producer does that knows nothing of CloudEvents.
    async fn append(&self, topic: &str, value: Vec<u8>, headers: Vec<Header>) {
        let record = Record { value: Some(value.into()), headers, ..Record::default() };
        let request = AppendRequest {
            topic: TopicName::new(topic).unwrap(),
            records: vec![(0, record)],
            timeout: Duration::from_secs(1),
        };
        self.world.memory.log().append(request).await.outcomes.remove(0).unwrap();
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
        let (limits, config) = (Arc::new(Limits::default()), DeliveryConfig::default());
        let schemas = Some(self.schemas.clone());
        let topics = self.world.topics();
        let subscriptions = Subscriptions::with_schemas(ports, topics, limits, config, None, schemas);
        subscriptions.start().await.unwrap();
        let topics = if new.topics.is_empty() { vec![TOPIC.into()] } else { new.topics.clone() };
        subscriptions.create(NewSubscription { name: "s".into(), topics, ..new }).await.unwrap();
        subscriptions
    }
}

fn ids(deliveries: &[PulledDelivery]) -> Vec<Option<String>> {
    let id = |it: &PulledDelivery| it.value.event(&it.record.record).id.map(|id| id.to_string());
    deliveries.iter().map(id).collect()
}

/// Acknowledges until nothing more comes.
async fn drain(subscriptions: &Subscriptions) -> Vec<PulledDelivery> {
    let mut all = Vec::new();
    loop {
        let given = subscriptions.pull("s", None, WAIT).await.unwrap().deliveries;
        if given.is_empty() {
            return all;
        }
        let ack = given.iter().map(|delivery| delivery.ack_id.clone()).collect();
        subscriptions.acknowledge("s", AckRequest { ack, ..AckRequest::default() }).await.unwrap();
        all.extend(given);
    }
}

fn json(data: &str) -> Event {
    Event { data: Some(Bytes::copy_from_slice(data.as_bytes())), ..Event::default() }
}

#[tokio::test(start_paused = true)]
async fn what_a_publisher_leaves_out_is_as_its_message_says() {
    let process = Process::new().await;
    let event = json(
        r#"{"name": "n", "metadata": {"eventId": "e-1", "eventType": "tenant.created", "source": "/admin",
            "tenantId": "t-1", "userId": "system", "correlationId": "c-1", "causationId": "e-0",
            "timestamp": "2026-11-25T10:00:00.123Z", "retryCount": 2}}"#,
    );
    let (partition, record) = process.publish(event, &context()).await;
    for (name, expected) in [
        ("ce_id", "e-1"),
        ("ce_type", "tenant.created"),
        ("ce_source", "/admin"),
        ("ce_tenantid", "t-1"),
        ("ce_userid", "system"),
        ("ce_correlationid", "c-1"),
        ("ce_causationid", "e-0"),
        ("ce_time", "2026-11-25T10:00:00.123Z"),
        ("ce_retrycount", "2"),
    ] {
        assert_eq!(header(&record, name).as_deref(), Some(expected), "{name}");
    }
    let by_tenant = Partitioner::new(PartitionStrategy::Tenant);
    let named = Event { tenant_id: Some("t-1".into()), ..Event::default() };
    assert_eq!(partition, by_tenant.choose(&named, PARTITIONS), "the tenant's partition");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_around_a_message_beats_what_is_said_in_it() {
    let process = Process::new().await;
    let framed = said("inside", "t-in", 1).framed();
    let event = Event {
        id: Some("outside".into()),
        tenant_id: Some("t-out".into()),
        extensions: vec![("retrycount".into(), "0".into())],
        ..Event { data: Some(framed.clone().into()), ..Event::default() }
    };
    let (_, record) = process.publish(event, &context()).await;
    assert_eq!(header(&record, "ce_id").as_deref(), Some("outside"));
    assert_eq!(header(&record, "ce_tenantid").as_deref(), Some("t-out"));
    assert_eq!(header(&record, "ce_retrycount").as_deref(), Some("0"));
    assert_eq!(record.value.as_deref(), Some(&framed[..]), "the message stays as it is");
    // What nobody says is filled in as ever.
    assert_eq!(header(&record, "ce_source").as_deref(), Some("/event-streaming"));
    assert!(has_the_requests_correlation(&record));
}

fn has_the_requests_correlation(record: &Record) -> bool {
    header(record, "ce_correlationid").is_some_and(|id| id.starts_with("request-"))
}

#[tokio::test(start_paused = true)]
async fn copies_are_told_by_the_ids_in_their_messages() {
    for payload in ["json", "bytes"] {
        let process = Process::new().await;
        for id in ["a", "b", "a"] {
            process.append(TOPIC, said(id, "t", 0).framed(), Vec::new()).await;
        }
        // The same id of another source is another event; and a header beats the message.
        let other = Said { source: "/other".into(), ..said("a", "t", 0) };
        process.append(TOPIC, other.framed(), Vec::new()).await;
        let named = vec![Header::new("ce_id", "b"), Header::new("ce_source", "/third")];
        process.append(TOPIC, said("a", "t", 0).framed(), named).await;
        // Without an id in either place an event is what lies in its place.
        process.append(TOPIC, said("", "t", 0).framed(), Vec::new()).await;
        process.append(TOPIC, said("", "t", 0).framed(), Vec::new()).await;
        let new = NewSubscription { payload: Some(payload.into()), ..NewSubscription::default() };
        let subscriptions = process.subscribe(new).await;
        let given = drain(&subscriptions).await;
        let offsets: Vec<u64> = given.iter().map(|it| it.record.offset).collect();
        assert_eq!(offsets, [0, 1, 3, 4, 5, 6], "{payload}");
        if payload == "json" {
            let shown = ids(&given);
            let shown: Vec<_> = shown.iter().map(Option::as_deref).collect();
            assert_eq!(shown, [Some("a"), Some("b"), Some("a"), Some("b"), None, None]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_say_nothing_where_nobody_looks_or_values_follow_no_schema() {
    let process = Process::with(None, SCHEMA).await;
    let (_, record) = process.publish(json(r#"{"metadata": {"eventId": "e-1"}}"#), &context()).await;
    assert_ne!(header(&record, "ce_id").as_deref(), Some("e-1"));
    let process = Process::new().await;
    // A topic that follows nothing: what looks like a value of the schema is shown by it, and is not believed.
    for _ in 0..2 {
        process.append(support::TOPIC, said("same", "t", 5).framed(), Vec::new()).await;
    }
    let topics = vec![support::TOPIC.into()];
    let subscriptions = process.subscribe(NewSubscription { topics, ..NewSubscription::default() }).await;
    let given = drain(&subscriptions).await;
    assert_eq!(given.iter().map(|it| it.attempt).collect::<Vec<_>>(), [1, 1]);
    // One that says that it follows a schema is believed in any topic.
    for _ in 0..2 {
        let kind = vec![Header::new("content-type", "application/vnd.confluent.protobuf")];
        process.append(support::TOPIC, said("named", "t", 0).framed(), kind).await;
    }
    assert_eq!(drain(&subscriptions).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn filters_and_key_expressions_see_what_messages_say() {
    let process = Process::new().await;
    for (id, tenant) in [("a", "t-1"), ("b", "t-2"), ("c", "t-1"), ("d", "t-1")] {
        process.append(TOPIC, said(id, tenant, 0).framed(), Vec::new()).await;
    }
    let key = Some("id == 'd' ? 'c' : id".into());
    let subscriptions = process
        .subscribe(NewSubscription {
            filter: Some("tenantid == 't-1'".into()),
            dedup: NewDedup { key, ..NewDedup::default() },
            ..NewSubscription::default()
        })
        .await;
    let given = drain(&subscriptions).await;
    let shown = ids(&given);
    assert_eq!(shown.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some("a"), Some("c")]);
}

#[tokio::test(start_paused = true)]
async fn attempts_go_on_from_the_retry_count_and_one_is_always_left() {
    for dedup in [true, false] {
        let process = Process::new().await;
        // Three retries are four deliveries.
        process.append(TOPIC, said("two", "t", 2).framed(), Vec::new()).await;
        process.append(TOPIC, said("many", "t", i32::MAX).framed(), Vec::new()).await;
        process.append(TOPIC, said("minus", "t", -7).framed(), Vec::new()).await;
        let none = vec![Header::new("ce_retrycount", "0")];
        process.append(TOPIC, said("none", "t", 2).framed(), none).await;
        let subscriptions = process
            .subscribe(NewSubscription {
                ordering: Some("none".into()),
                retry: NewRetry {
                    max_retries: Some(3),
                    initial_delay: Some("1s".into()),
                    ..NewRetry::default()
                },
                dedup: NewDedup { enabled: Some(dedup), ..NewDedup::default() },
                ..NewSubscription::default()
            })
            .await;
        let mut attempts = Vec::new();
        loop {
            let given = subscriptions.pull("s", None, WAIT).await.unwrap().deliveries;
            if given.is_empty() {
                break;
            }
            let failed =
                |it: &PulledDelivery| RetryItem { ack_id: it.ack_id.clone(), ..RetryItem::default() };
            attempts.extend(given.iter().map(|it| (it.record.offset, it.attempt)));
            let retry = given.iter().map(failed).collect();
            subscriptions.acknowledge("s", AckRequest { retry, ..AckRequest::default() }).await.unwrap();
        }
        attempts.sort_unstable();
        let expected =
            [(0, 3), (0, 4), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3), (3, 4)];
        assert_eq!(attempts, expected, "dedup: {dedup}");
        let mut letters = Vec::new();
        while letters.len() < 4 {
            process
                .world
                .clock
                .sleep_until(process.world.clock.monotonic() + Duration::from_millis(10))
                .await;
            letters = process.world.records("s.dlq").await;
        }
        assert!(letters.iter().all(|(_, it)| header(&it.record, "es_dlq_attempts").as_deref() == Some("4")));
    }
}

#[tokio::test(start_paused = true)]
async fn fields_have_the_names_that_are_configured_and_kinds_that_fit() {
    let schema = "syntax = \"proto3\"; import \"google/protobuf/wrappers.proto\"; \
        message Odd { Head head = 1; } enum Kind { NONE = 0; MADE = 1; } \
        message Head { int64 id = 1; Kind kind = 2; google.protobuf.StringValue tenant = 3; repeated string user = 4; \
          int64 at = 5; string source = 6; bytes correlation = 7; }";
    let fields = MetadataFields {
        field: "head".into(),
        id: "id".into(),
        event_type: "kind".into(),
        tenant_id: "tenant".into(),
        user_id: "user".into(),
        time: "at".into(),
        correlation_id: "correlation".into(),
        ..MetadataFields::default()
    };
    let process = Process::with(Some(fields), schema).await;
    let event = json(
        r#"{"head": {"id": "77", "kind": "MADE", "tenant": "t", "user": ["u"], "at": "1000",
            "source": "a\nb", "correlation": "YQ=="}}"#,
    );
    let (_, record) = process.publish(event, &context()).await;
    for (name, expected) in [
        ("ce_id", Some("77")),
        ("ce_type", Some("MADE")),
        ("ce_tenantid", Some("t")),
        ("ce_userid", None),
        ("ce_time", Some("1970-01-01T00:00:01.000Z")),
        ("ce_source", Some("/event-streaming")),
    ] {
        assert_eq!(header(&record, name).as_deref(), expected, "{name}");
    }
    assert!(has_the_requests_correlation(&record), "bytes are no id");
}

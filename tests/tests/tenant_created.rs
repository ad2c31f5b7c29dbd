//! Messages in a Rust application: published by their types and handled as them, on every log, and read by others.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming::{
    Delivered, ErrorCode, Handler, HandlerError, HandlerOptions, KafkaConfig, NewSubscription,
    Service as Embedded,
};
use event_streaming_tests::{Log, PATIENCE, Setup, eventually, on_every_log, unique};
use examples::tenant_created::{
    DESCRIPTORS, Running, Welcomed,
    proto::{EventMetadata, Tenant, TenantCreatedEvent},
    tenant_created,
};
use rdkafka::{
    config::ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::json;
use std::path::Path;

/// Handles nothing.
struct Ignoring;

impl Handler for Ignoring {
    type Event = Tenant;

    async fn handle(&self, _: Delivered<Tenant>) -> Result<(), HandlerError> {
        Ok(())
    }
}

on_every_log!(
    a_message_is_published_by_its_type_handled_as_one_and_read_by_others,
    what_is_no_message_of_the_handlers_type_is_a_dead_letter_and_nothing_waits,
    without_registering_a_message_is_refused_until_its_schema_is_there,
);

async fn start(log: &Log, data: &Path, topic: &str) -> Running {
    Running::start(data, kafka(log), topic, &unique("welcome")).await.expect("it starts")
}

fn kafka(log: &Log) -> Option<KafkaConfig> {
    match log {
        Log::Embedded => None,
        Log::Kafka(server) => {
            Some(KafkaConfig { bootstrap_servers: server.address.clone(), ..KafkaConfig::default() })
        }
    }
}

async fn next(running: &mut Running) -> Welcomed {
    let welcomed = tokio::time::timeout(PATIENCE, running.welcomed.recv()).await;
    welcomed.expect("the handler is given it in time").expect("the handler is there")
}

async fn a_message_is_published_by_its_type_handled_as_one_and_read_by_others(log: Log) {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = unique("nnipa.events.tenant.created");
    let mut running = start(&log, folder.path(), &topic).await;
    let event = tenant_created("t-1", "e-1");
    let receipt = running.publish(&event, "t-1").await.expect("it is published");
    assert_eq!(&*receipt.id, "e-1", "the event has the id that its message says");
    let welcomed = next(&mut running).await;
    assert_eq!(welcomed.data, event);
    let attributes = welcomed.event;
    let text = |text: &Option<_>| text.as_ref().map(ToString::to_string);
    for (given, expected) in [
        (text(&attributes.id), "e-1"),
        (text(&attributes.event_type), "nnipa.tenant.created"),
        (text(&attributes.source), "/tenants"),
        (text(&attributes.tenant_id), "t-1"),
        (text(&attributes.user_id), "system"),
        (text(&attributes.correlation_id), "sign-up-t-1"),
    ] {
        assert_eq!(given.as_deref(), Some(expected));
    }
    assert_eq!((attributes.key.as_deref(), welcomed.attempt), (Some(&b"t-1"[..]), 1));
    // The id is in the message, so that its publisher's second try is not handled again.
    running.publish(&event, "t-1").await.expect("it is published");
    running.publish(&tenant_created("t-1", "e-2"), "t-1").await.expect("it is published");
    assert_eq!(next(&mut running).await.event.id.as_deref(), Some("e-2"));
    assert!(running.service.shutdown().await);

    // The binary goes on with the directory: its registry has the schema, with the file that it imports.
    let binary = Setup::on(&log).start(folder.path()).await;
    let client = binary.client();
    let shown = client.browse_all(&topic).await;
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0]["data"]["tenant"], json!({"id": "t-1", "name": "Acme", "plan": "free"}));
    assert_eq!(shown[0]["schema"]["message"], "nnipa.events.TenantCreatedEvent");
    let subject = format!("/schema-registry/subjects/{topic}-value/versions");
    assert_eq!(client.get(&subject).await.expect(200), json!([1]), "registered once");
    let version = client.get(&format!("{subject}/1")).await.expect(200);
    let import = "nnipa/events/metadata.proto";
    assert_eq!(version["references"], json!([{"name": import, "subject": import, "version": 1}]));
    let text = version["schema"].as_str().expect("a text");
    assert!(text.contains("message TenantCreatedEvent"), "{text}");
    assert!(!text.contains("json_name"), "as a person would have written it: {text}");
}

async fn what_is_no_message_of_the_handlers_type_is_a_dead_letter_and_nothing_waits(log: Log) {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = unique("tenants");
    let mut running = start(&log, folder.path(), &topic).await;
    let service = &running.service;
    let messages = service.messages();
    let keyed = |event| event_streaming::Event { key: Some("t".into()), ..event };
    let other = keyed(messages.event(&topic, &Tenant::default()).await.expect("it is framed"));
    let nameless = keyed(messages.event(&topic, &TenantCreatedEvent::default()).await.expect("it is framed"));
    let no_frame = event_streaming::Event { data: Some("\u{1}".into()), ..other.clone() };
    let no_frame = event_streaming::Event { content_type: None, ..no_frame };
    let null = event_streaming::Event { data: None, content_type: None, ..other.clone() };
    let published = service.publish(&topic, [other, nameless, no_frame, null]).await.expect("published");
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    running.publish(&tenant_created("t", "good"), "t").await.expect("it is published");
    assert_eq!(next(&mut running).await.event.id.as_deref(), Some("good"), "nothing waits for the others");
    let name = running.subscription().to_owned();
    let counts = eventually("all have their answer", async || {
        running.service.counts(&name).filter(|counts| counts.acknowledged == 1)
    })
    .await;
    assert_eq!((counts.rejected, counts.undecodable), (4, 3), "{counts:?}");
    assert!(running.service.shutdown().await);
}

async fn without_registering_a_message_is_refused_until_its_schema_is_there(log: Log) {
    let folder = tempfile::tempdir().expect("a folder");
    let topic = unique("tenants");
    let builder = Embedded::builder().messages(DESCRIPTORS);
    let builder = match kafka(&log) {
        None => builder.embedded(folder.path()),
        Some(kafka) => builder.kafka(kafka, folder.path()),
    };
    let service = builder.start().await.expect("it starts");
    let event = tenant_created("t", "e");
    let unknown = service.messages().publish(&topic, &event, "t", "system").await;
    assert_eq!(unknown.expect_err("there is no topic").code(), ErrorCode::TopicNotFound);
    service.ensure_topic(&topic, 1).await.expect("a topic");
    let refused = service.messages().publish(&topic, &event, "t", "system").await;
    let refused = refused.expect_err("nothing is registered");
    assert_eq!(refused.code(), ErrorCode::SchemaRejected);
    assert!(refused.detail().contains("register_schemas(true)"), "{refused}");
    // A handler of messages takes bytes alone.
    let json = NewSubscription {
        name: unique("json"),
        topics: vec![topic.clone()],
        payload: Some("json".into()),
        ..NewSubscription::default()
    };
    service.subscriptions().create(json.clone()).await.expect("it is created");
    let (again, other) = (NewSubscription { payload: None, ..json.clone() }, json);
    for (subscription, code) in [(again, ErrorCode::Conflict), (other, ErrorCode::InvalidRequest)] {
        let refused = service.handle_messages(subscription, Ignoring, HandlerOptions::default());
        assert_eq!(refused.await.expect_err("its payload is JSON").code(), code);
    }
    assert!(service.shutdown().await);

    // Registered by another, it is found.
    let running = Running::start(folder.path(), kafka(&log), &topic, &unique("welcome")).await;
    let running = running.expect("it starts");
    running.publish(&event, "t").await.expect("it is published");
    assert!(running.service.shutdown().await);
    let builder = Embedded::builder().messages(DESCRIPTORS);
    let builder = match kafka(&log) {
        None => builder.embedded(folder.path()),
        Some(kafka) => builder.kafka(kafka, folder.path()),
    };
    let service = builder.start().await.expect("it starts");
    service.messages().publish(&topic, &event, "t", "system").await.expect("its schema is there");
    assert!(service.shutdown().await);
}

/// On Kafka alone others can write into the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_knows_nothing_of_cloudevents_is_handled_by_what_its_messages_say() {
    let log = Log::kafka().await;
    let Log::Kafka(server) = &log else { unreachable!("it was asked for") };
    let folder = tempfile::tempdir().expect("a folder");
    let topic = unique("tenants");
    let mut running = start(&log, folder.path(), &topic).await;
    running.follow_schema().await.expect("the topic follows its subject");
    running.publish(&tenant_created("t-0", "first"), "t-0").await.expect("it is published");
    let id = next(&mut running).await.event.id;
    assert_eq!(id.as_deref(), Some("first"));

    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &server.address).create().expect("a producer");
    let metadata = EventMetadata { event_id: "e-1".into(), retry_count: 2, ..EventMetadata::default() };
    let created = TenantCreatedEvent { metadata: Some(metadata), ..tenant_created("t-1", "") };
    let frame = running.service.messages().event(&topic, &created).await.expect("it is framed");
    let value = frame.data.expect("a value");
    for _ in 0..2 {
        let record: BaseRecord<'_, str, [u8]> =
            BaseRecord::to(&topic).partition(0).payload(&value[..]).key("t-1");
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
    }
    let last = tenant_created("t-1", "e-2");
    let last = running.service.messages().event(&topic, &last).await.expect("it is framed");
    let last = last.data.expect("a value");
    let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&topic).partition(0).payload(&last[..]).key("t-1");
    producer.send(record).map_err(|(error, _)| error).expect("it is queued");
    producer.flush(PATIENCE).expect("they are written");

    let welcomed = next(&mut running).await;
    assert_eq!((welcomed.data, welcomed.attempt), (created, 3), "two tries came before");
    let welcomed = next(&mut running).await;
    let said = welcomed.data.metadata.expect("metadata");
    assert_eq!((&*said.event_id, welcomed.attempt), ("e-2", 1), "the copy was not handled");
    assert!(running.service.shutdown().await);
}

//! A message that says in its metadata what its event is, published by its type and handled as one.
//!
//! The schema is registered when the message is first published. Whoever speaks Confluent's registry can read what lies
//! in the topic, and the handler is given what such a producer writes.

use event_streaming::{
    Builder, Delivered, Event, Handler, HandlerError, HandlerOptions, KafkaConfig, NewSubscription,
    NewTopicSchema, Receipt, Service, TopicChange, TopicSchemaChange,
};
use prost_types::Timestamp;
use std::{error::Error, path::Path, time::SystemTime};
use tokio::sync::mpsc;

/// The messages, as the build script made them.
pub mod proto {
    #![allow(missing_docs, clippy::pedantic, reason = "it is written by a machine")]
    include!(concat!(env!("OUT_DIR"), "/nnipa.events.rs"));
}

use proto::{EventMetadata, Tenant, TenantCreatedEvent};

/// Their files, as the registry is given them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What a tenant's handler was given.
#[derive(Clone, Debug)]
pub struct Welcomed {
    /// The decoded event.
    pub data: TenantCreatedEvent,
    /// Its attributes.
    pub event: Event,
    /// Which delivery it was.
    pub attempt: u32,
}

/// Welcomes tenants.
struct Welcome {
    welcomed: mpsc::UnboundedSender<Welcomed>,
}

impl Handler for Welcome {
    type Event = TenantCreatedEvent;

    async fn handle(&self, created: Delivered<TenantCreatedEvent>) -> Result<(), HandlerError> {
        let (event, attempt) = (created.event(), created.attempt);
        if created.data.tenant.is_none() {
            return Err(HandlerError::reject("the event names no tenant").with_kind("no-tenant"));
        }
        self.welcomed.send(Welcomed { data: created.data, event, attempt })?;
        Ok(())
    }
}

/// A message about a tenant of this id.
#[allow(clippy::disallowed_methods, reason = "an application has the time from where it likes")]
pub fn tenant_created(id: &str, event_id: &str) -> TenantCreatedEvent {
    TenantCreatedEvent {
        metadata: Some(EventMetadata {
            event_id: event_id.to_owned(),
            event_type: "nnipa.tenant.created".to_owned(),
            source: "/tenants".to_owned(),
            correlation_id: format!("sign-up-{id}"),
            timestamp: Some(Timestamp::from(SystemTime::now())),
            ..EventMetadata::default()
        }),
        tenant: Some(Tenant { id: id.to_owned(), name: "Acme".to_owned(), plan: "free".to_owned() }),
    }
}

/// The example, under way.
#[derive(Debug)]
pub struct Running {
    /// The service.
    pub service: Service,
    /// What the handler is given.
    pub welcomed: mpsc::UnboundedReceiver<Welcomed>,
    topic: String,
    subscription: String,
}

impl Running {
    /// Starts it with its data in `data`, its events on the embedded log, or on this Kafka.
    ///
    /// # Errors
    /// What the service says.
    pub async fn start(
        data: &Path,
        kafka: Option<KafkaConfig>,
        topic: &str,
        subscription: &str,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let builder: Builder = Service::builder().messages(DESCRIPTORS).register_schemas(true);
        let builder = match kafka {
            None => builder.embedded(data),
            Some(kafka) => builder.kafka(kafka, data),
        };
        let service = builder.start().await?;
        service.ensure_topic(topic, 3).await?;
        let (sender, welcomed) = mpsc::unbounded_channel();
        let welcome = NewSubscription {
            name: subscription.to_owned(),
            topics: vec![topic.to_owned()],
            ..NewSubscription::default()
        };
        let handler = Welcome { welcomed: sender };
        service.handle_messages(welcome, handler, HandlerOptions::default()).await?;
        Ok(Self { service, welcomed, topic: topic.to_owned(), subscription: subscription.to_owned() })
    }

    /// Has everything in the topic follow its subject: producers that write into the log by other ways are believed
    /// what their messages say of themselves, then.
    ///
    /// # Errors
    /// What the service says.
    pub async fn follow_schema(&self) -> event_streaming::Result<()> {
        let follow = TopicSchemaChange::Follow(NewTopicSchema::default());
        self.service.schemas().alter_topic(&self.topic, TopicChange::default(), Some(follow)).await?;
        Ok(())
    }

    /// The name of its subscription.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Publishes a message on behalf of the system.
    ///
    /// # Errors
    /// What the service says.
    pub async fn publish(
        &self,
        event: &TenantCreatedEvent,
        tenant: &str,
    ) -> event_streaming::Result<Receipt> {
        self.service.messages().publish(&self.topic, event, tenant, "system").await
    }
}

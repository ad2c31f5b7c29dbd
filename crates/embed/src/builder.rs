//! How a service is put together.

use crate::{Messages, Service, backends::Backends, descriptors::Descriptors};
use adapters_embedded::SystemClock;
use adapters_kafka::KafkaConfig;
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Limits, Result,
    breaker::{self, Breaker, GuardedClaims},
    event_schemas::{EventSchemas, MetadataFields},
    publish::{PublishConfig, Publisher},
    schemas::registry::{Registry, RegistryConfig},
    subscriptions::{DeliveryConfig, Subscriptions},
    topics::{TopicDefaults, Topics},
};
use parking_lot::RwLock;
use ports::IdempotencyStore;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What a service is told. What is not said is as the binary has it by default.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    data_dir: PathBuf,
    kafka: Option<KafkaConfig>,
    claims: Option<Arc<dyn IdempotencyStore>>,
    limits: Limits,
    publish: PublishConfig,
    delivery: DeliveryConfig,
    source: ByteString,
    messages: Vec<Bytes>,
    register_schemas: bool,
    metadata: Option<MetadataFields>,
    drain_timeout: Duration,
    shutdown_timeout: Duration,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            kafka: None,
            claims: None,
            limits: Limits::default(),
            publish: PublishConfig::default(),
            delivery: DeliveryConfig::default(),
            source: ByteString::from_static("/event-streaming"),
            messages: Vec::new(),
            register_schemas: false,
            metadata: Some(MetadataFields::default()),
            drain_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(30),
        }
    }

    /// Keeps events, definitions and claims in this directory, which is made where it does not exist; `data`
    /// unless said. One process at a time can have it.
    pub fn embedded(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = data_dir.into();
        self.kafka = None;
        self
    }

    /// Keeps events in this Kafka, and definitions and claims in the directory. Needs the feature `kafka`.
    pub fn kafka(mut self, kafka: KafkaConfig, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = data_dir.into();
        self.delivery.member.clone_from(&kafka.client_id);
        self.kafka = Some(kafka);
        self
    }

    /// Keeps claims in this store and not in the directory, behind a circuit of its own: Redis or PostgreSQL by
    /// the crates of their names, or another one. While it is away, events that need a claim wait.
    pub fn claims(mut self, store: Arc<dyn IdempotencyStore>) -> Self {
        self.claims = Some(store);
        self
    }

    /// The source of events that have none, a URI reference.
    pub fn source(mut self, source: impl Into<ByteString>) -> Self {
        self.source = source.into();
        self
    }

    /// Knows these messages: a serialized `FileDescriptorSet`, as a build script keeps it, with all that its files
    /// import. May be called again for further ones. [`Service::messages`] publishes them.
    pub fn messages(mut self, descriptors: impl Into<Bytes>) -> Self {
        self.messages.push(descriptors.into());
        self
    }

    /// Whether the schema of a message is registered when it is first published to a topic; otherwise, and unless said,
    /// it must be a version of the topic's subject by then.
    pub fn register_schemas(mut self, register: bool) -> Self {
        self.register_schemas = register;
        self
    }

    /// Where messages say what their events are; with `None` they say nothing.
    pub fn metadata(mut self, fields: Option<MetadataFields>) -> Self {
        self.metadata = fields;
        self
    }

    /// The bounds on calls and events.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where events without a topic go, and how they are spread over partitions.
    pub fn publish(mut self, publish: PublishConfig) -> Self {
        self.publish = publish;
        self
    }

    /// How delivery works inside, and what a subscription does where nobody says.
    pub fn delivery(mut self, delivery: DeliveryConfig) -> Self {
        self.delivery = delivery;
        self
    }

    /// How long a stop waits for handlers that are at work, and how long it may take in all.
    pub fn stop_within(mut self, drain: Duration, all: Duration) -> Self {
        (self.drain_timeout, self.shutdown_timeout) = (drain.min(all), all);
        self
    }

    /// Opens and starts it, with the subscriptions that the directory holds; what is due to them waits
    /// until they have a handler. Must be called within a Tokio runtime with its timer on, on which all of
    /// it runs. Does not wait for a Kafka that is not there.
    ///
    /// # Errors
    /// `unavailable` where the directory is another process's or cannot be read, `not_supported` where
    /// Kafka was not built in, `invalid_request` where its client refuses its settings or [`Self::messages`] was given
    /// what holds none.
    ///
    /// # Cancellation
    /// Dropping the future stops what was started.
    pub async fn start(self) -> Result<Service> {
        let Self { data_dir, kafka, claims, limits, publish, delivery, source, .. } = self;
        let (register, metadata) = (self.register_schemas, self.metadata);
        let mut descriptors = Descriptors::default();
        for set in &self.messages {
            descriptors.add(set)?;
        }
        let (drain_timeout, shutdown_timeout) = (self.drain_timeout, self.shutdown_timeout);
        let clock = Arc::new(SystemClock::new());
        let limits = Arc::new(limits);
        let opening = {
            let (limits, clock) = (limits.clone(), clock.clone());
            tokio::task::spawn_blocking(move || Backends::open(&data_dir, kafka, &limits, clock))
        };
        let opened = opening.await;
        let opened = opened.map_err(|_| Error::new(ErrorCode::Internal, "opening the backends panicked"))?;
        let mut backends = opened?;
        if let Some(store) = claims {
            let breaker = Breaker::new("claims", breaker::STORE, clock.clone());
            backends.ports.idempotency = Arc::new(GuardedClaims::new(store, Arc::new(breaker)));
        }
        let ports = backends.ports.clone();
        let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
        let topics =
            Topics::new(backends.admin.clone(), ports.log.clone(), clock.clone(), limits.clone(), defaults);
        let registry =
            Arc::new(Registry::new(backends.schemas.clone(), clock.clone(), RegistryConfig::default()));
        let jobs = ports.jobs.clone();
        let schemas =
            EventSchemas::with_metadata(registry.clone(), topics.clone(), jobs, clock.clone(), metadata);
        let publisher = Arc::new(Publisher::with_schemas(
            ports.log.clone(),
            topics.clone(),
            clock.clone(),
            limits.clone(),
            publish,
            Some(ports.idempotency.clone()),
            Some(schemas.clone()),
        ));
        let subscriptions =
            Subscriptions::with_schemas(ports, topics.clone(), limits, delivery, None, Some(schemas.clone()));
        // What values follow is known before anything is delivered. The directory is this process's alone.
        schemas.start(false).await?;
        subscriptions.start().await?;
        let messages = Arc::new(Messages {
            publisher: publisher.clone(),
            topics: topics.clone(),
            registry,
            schemas,
            descriptors,
            register,
            source: source.clone(),
            frames: RwLock::default(),
        });
        Ok(Service {
            publisher,
            messages,
            topics,
            subscriptions,
            backends,
            clock,
            source,
            drain_timeout,
            shutdown_timeout,
        })
    }
}

//! The ports over librdkafka.

mod admin;
mod batch;
mod error;
mod ffi;
mod gate;
mod groups;
mod janitor;
mod leaders;
mod member;
mod metadata;
mod offsets;
mod producer;
mod reader;

use crate::config::{GroupProtocol, KafkaConfig, Profile};
use async_trait::async_trait;
use member::Members;
use metadata::Metadata;
use ports::{
    AppendRequest, AppendResult, Capabilities, EventLog, GroupAdmin, GroupMembership, LogReader, Offset,
    OffsetStore, PartitionId, PortError, Position, Result, TopicAdmin, TopicName, TopicPartition,
};
use producer::Producer;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use reader::Readers;
use std::{sync::Arc, time::Duration};

/// One Kafka cluster. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Kafka {
    log: Arc<KafkaLog>,
    admin: Arc<admin::KafkaAdmin>,
    members: Arc<Members>,
    groups: Arc<groups::KafkaGroups>,
}

/// The log: what produces, and what reads by cursor.
#[derive(Debug)]
struct KafkaLog {
    producer: Producer,
    readers: Arc<Readers>,
    metadata: Arc<Metadata>,
}

impl Kafka {
    /// Makes the clients. Does not wait for a broker: the order of starting does not matter.
    ///
    /// # Errors
    /// `Invalid` for a setting that librdkafka does not take, naming it.
    pub fn open(config: KafkaConfig) -> Result<Self> {
        let config = Arc::new(config);
        let metadata = Arc::new(Metadata::new(&config)?);
        let producer = Producer::new(config.clone(), metadata.clone())?;
        let readers = Arc::new(Readers::new(config.clone(), metadata.clone()));
        let members = Arc::new(Members::new(config.clone())?);
        let admin = Arc::new(admin::KafkaAdmin::new(&config, metadata.clone())?);
        let groups = Arc::new(admin.groups());
        Ok(Self { log: Arc::new(KafkaLog { producer, readers, metadata }), admin, members, groups })
    }

    /// The log.
    pub fn event_log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    /// Its topics.
    pub fn topic_admin(&self) -> Arc<dyn TopicAdmin> {
        self.admin.clone()
    }

    /// Its groups' members.
    pub fn membership(&self) -> Arc<dyn GroupMembership> {
        self.members.clone()
    }

    /// Its groups' positions.
    pub fn offsets(&self) -> Arc<dyn OffsetStore> {
        self.members.clone()
    }

    /// All groups of the cluster.
    pub fn groups(&self) -> Arc<dyn GroupAdmin> {
        self.groups.clone()
    }

    /// Sends what is queued, for as long as `deadline` allows. Call it once nothing appends any more.
    pub async fn close(&self, deadline: Duration) {
        self.log.producer.flush(deadline).await;
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_partition_batches: false, dense_offsets: false, replication: true }
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        self.producer.append(request).await
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        let partitions = self.metadata.partitions(&partition.topic, "event_log.open").await?;
        if partition.partition >= partitions {
            return Err(not_found("event_log.open", partition));
        }
        let reader = self.readers.open(partition.clone(), from)?;
        Ok(Box::new(reader))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        self.metadata.locate(topic, at).await
    }
}

fn not_found(operation: &'static str, partition: &TopicPartition) -> PortError {
    PortError::new(ports::ErrorKind::NotFound, operation, format!("there is no partition {partition}"))
}

/// What all clients are told. librdkafka's log lines go to `tracing` (the client crate's feature).
fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", &config.client_id)
        .set("socket.keepalive.enable", "true")
        // A broker that comes back is found within a second.
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (key, value) in &config.common {
        client.set(key, value);
    }
    client
}

/// What a client for administration is told. Such a request goes to the controller, and a client that follows
/// no topic of its own hears of another controller (with KRaft: of any other node that is up) only by the
/// regular look at the list of brokers; until then its requests wait for the one that is gone. librdkafka
/// lets ten seconds pass between two such looks, whatever is set; its default is five minutes.
fn admin_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client_config(config);
    client.set("topic.metadata.refresh.interval.ms", "5000");
    for (key, value) in &config.common {
        client.set(key, value);
    }
    client
}

/// What the producer is told. Idempotence and `acks=all` are what a receipt rests on.
fn producer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client_config(config);
    match config.profile {
        Profile::Balanced => client.set("linger.ms", "0"),
        Profile::Throughput => client.set("linger.ms", "20").set("batch.size", "1000000"),
    };
    for (key, value) in &config.producer {
        client.set(key, value);
    }
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", config.delivery_timeout.as_millis().max(30_000).to_string())
        // Our own bound in bytes is reached first, so that `QueueFull` stays an exception.
        .set("queue.buffering.max.kbytes", (config.producer_buffer_bytes / 1024 * 2).max(2048).to_string())
        .set("queue.buffering.max.messages", "2000000")
        // The broker's limit for a topic decides, not the client's.
        .set("message.max.bytes", "100000000");
    client
}

/// What readers by cursor are told.
fn reader_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client_config(config);
    client
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "50")
        .set("queued.max.messages.kbytes", "2048")
        .set("fetch.queue.backoff.ms", "2")
        .set("topic.metadata.refresh.interval.ms", "5000");
    for (key, value) in &config.consumer {
        client.set(key, value);
    }
    client
        // Never subscribed; `assign` needs one all the same.
        .set("group.id", format!("{}-reader-{}", config.client_id, uuid::Uuid::new_v4()))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // Leaving the log is told, never mended by jumping.
        .set("auto.offset.reset", "error")
        // Tells that the end was reached, which a gap at the end hides otherwise.
        .set("enable.partition.eof", "true");
    client
}

/// What the members of a group are told.
fn member_config(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = client_config(config);
    // Partitions that are added, and topics that are made, are noticed within this.
    client.set("topic.metadata.refresh.interval.ms", "1000").set("metadata.max.age.ms", "3000");
    for (key, value) in &config.consumer {
        client.set(key, value);
    }
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error");
    match config.group_protocol {
        GroupProtocol::Classic => client
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (config.session_timeout.as_millis() / 5).max(200).to_string()),
        // Session and heartbeat are the broker's to set there; the client refuses them.
        GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
    };
    client
}

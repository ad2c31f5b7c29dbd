//! The settings as the program uses them, and what they must be beside well-formed.

use super::{
    schemas::SchemaRegistry,
    state::State,
    stores::{EventStreaming, Postgres, Redis},
    units::{Bytes, Count, Scalar, Secret, Time},
};
use domain::filter::FilterLimits;
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// All settings. The comments stand in `config.default.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) http: Http,
    pub(crate) grpc: Grpc,
    pub(crate) security: Security,
    pub(crate) log: Log,
    pub(crate) state: State,
    pub(crate) schema_registry: SchemaRegistry,
    pub(crate) schema: super::metadata::Section,
    pub(crate) embedded: Embedded,
    pub(crate) topics: Topics,
    pub(crate) publish: Publish,
    pub(crate) delivery: Delivery,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) lag: Lag,
    pub(crate) jobs: Jobs,
    pub(crate) limits: Limits,
    pub(crate) kafka: Kafka,
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    pub(crate) event_streaming: EventStreaming,
    pub(crate) webhooks: super::webhooks::Section,
    pub(crate) logging: Logging,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) base_path: String,
    pub(crate) shutdown_timeout: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) connections_max: Count,
    pub(crate) header_bytes_max: Bytes,
    pub(crate) headers_max: Count,
    pub(crate) header_timeout: Time,
    pub(crate) idle_timeout: Time,
    pub(crate) body_idle_timeout: Time,
    pub(crate) body_timeout: Time,
    pub(crate) heartbeat: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Grpc {
    pub(crate) connections_max: Count,
    pub(crate) streams_max: Count,
    pub(crate) metadata_bytes_max: Bytes,
    pub(crate) keepalive_interval: Time,
    pub(crate) keepalive_timeout: Time,
    pub(crate) stream_window: Count,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Security {
    pub(crate) anonymous: Anonymous,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Anonymous {
    Loopback,
    Allow,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) backend: LogBackend,
}

/// Where events are kept. `Auto` is gone once a configuration is loaded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogBackend {
    Auto,
    Embedded,
    Kafka,
}

impl LogBackend {
    /// As the configuration and the ready line call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Embedded {
    pub(crate) data_dir: PathBuf,
    pub(crate) committers: Count,
    pub(crate) queue_bytes_max: Bytes,
    pub(crate) tail_bytes_max: Bytes,
    pub(crate) retention_interval: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Topics {
    pub(crate) auto_create: bool,
    pub(crate) partitions: Count,
    pub(crate) replication_factor: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Publish {
    pub(crate) default_type: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) topics: Vec<TopicRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) r#type: Option<String>,
    pub(crate) attribute: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) topic: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TopicRule {
    pub(crate) topics: String,
    pub(crate) partition_by: Option<String>,
    pub(crate) default_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Delivery {
    pub(crate) commit_interval: Time,
    pub(crate) commit_events_max: Count,
    pub(crate) buffer_events_max: Count,
    pub(crate) buffer_bytes_max: Bytes,
    pub(crate) held_events_max: Count,
    pub(crate) metadata_bytes_max: Bytes,
    pub(crate) drain_timeout: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DeadLetters {
    pub(crate) index_max: Count,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Lag {
    pub(crate) enabled: bool,
    pub(crate) sample_interval: Time,
    pub(crate) window: Count,
    pub(crate) partitions_max: Count,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Jobs {
    pub(crate) keep_finished: Time,
    pub(crate) open_max: Count,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) request_bytes_max: Bytes,
    pub(crate) batch_events_max: Count,
    pub(crate) key_bytes_max: Bytes,
    pub(crate) attribute_bytes_max: Bytes,
    pub(crate) headers_max: Count,
    pub(crate) header_bytes_max: Bytes,
    pub(crate) publish_timeout: Time,
    pub(crate) browse_events_max: Count,
    pub(crate) response_bytes_max: Bytes,
    pub(crate) partitions_max: Count,
    pub(crate) pull_events_max: Count,
    pub(crate) pull_wait_max: Time,
    pub(crate) pull_waiters_max: Count,
    pub(crate) subscriptions_max: Count,
    pub(crate) expression_bytes_max: Bytes,
    pub(crate) expression_nesting_max: Count,
    pub(crate) expression_cost_max: Count,
    pub(crate) expression_data_bytes_max: Bytes,
    pub(crate) dedup_key_bytes_max: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Kafka {
    #[expect(
        dead_code,
        reason = "one client so far; the setting is there to be said, and refused when wrong"
    )]
    pub(crate) client: KafkaClient,
    pub(crate) bootstrap_servers: String,
    pub(crate) client_id: String,
    pub(crate) profile: Profile,
    pub(crate) group_protocol: GroupProtocol,
    pub(crate) security_protocol: String,
    pub(crate) sasl: Sasl,
    pub(crate) request_timeout: Time,
    pub(crate) delivery_timeout: Time,
    pub(crate) buffer_memory: Bytes,
    pub(crate) session_timeout: Time,
    pub(crate) revoke_patience: Time,
    pub(crate) properties: Properties,
    pub(crate) producer: Properties,
    pub(crate) consumer: Properties,
}

/// Settings by the client's own names. Any of them may be a secret.
pub(crate) type Properties = BTreeMap<String, Secret>;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KafkaClient {
    Rdkafka,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Profile {
    Balanced,
    Throughput,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GroupProtocol {
    Classic,
    Consumer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sasl {
    pub(crate) mechanism: String,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) password_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Logging {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// What well-formed values must be beside. Gives the key at fault and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let open = [("server.http", self.server.http), ("server.grpc", self.server.grpc)];
        for (key, address) in open {
            if !address.ip().is_loopback() && self.security.anonymous == Anonymous::Loopback {
                let problem = format!(
                    "{address} can be reached from other machines, and there is no authentication; \
                     say security.anonymous=allow where that is meant"
                );
                return Err((key, problem));
            }
        }
        let path = &self.server.base_path;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if !path.is_empty()
            && (!path.starts_with('/')
                || path.ends_with('/')
                || path.contains("//")
                || !path.chars().all(plain))
        {
            return Err((
                "server.base-path",
                format!("`{path}` must begin with a slash and not end with one"),
            ));
        }
        let replicas = &self.topics.replication_factor.0;
        if replicas != "auto" && !replicas.parse::<u16>().is_ok_and(|number| (1..=100).contains(&number)) {
            return Err((
                "topics.replication-factor",
                "must be `auto`, or a number from 1 to 100".to_owned(),
            ));
        }
        self.check_limits()?;
        self.check_stores()?;
        self.check_state()?;
        self.check_schemas()?;
        self.check_metadata()?;
        self.webhooks().map(drop)?;
        self.check_kafka()
    }

    fn check_limits(&self) -> Result<(), (&'static str, String)> {
        let limits = &self.limits;
        let counts = [
            ("http.connections-max", self.http.connections_max.0 as usize, 1, 1_000_000),
            ("http.header-bytes-max", self.http.header_bytes_max.0, 8 << 10, 1 << 30),
            ("http.headers-max", self.http.headers_max.0 as usize, 16, 10_000),
            ("grpc.connections-max", self.grpc.connections_max.0 as usize, 1, 1_000_000),
            ("grpc.streams-max", self.grpc.streams_max.0 as usize, 1, 1_000_000),
            ("grpc.metadata-bytes-max", self.grpc.metadata_bytes_max.0, 8 << 10, 1 << 30),
            ("grpc.stream-window", self.grpc.stream_window.0 as usize, 1, 100_000),
            ("embedded.committers", self.embedded.committers.0 as usize, 1, 64),
            ("embedded.queue-bytes-max", self.embedded.queue_bytes_max.0, 1 << 20, u32::MAX as usize),
            ("embedded.tail-bytes-max", self.embedded.tail_bytes_max.0, 0, 1 << 40),
            ("topics.partitions", self.topics.partitions.0 as usize, 1, limits.partitions_max.0 as usize),
            ("delivery.commit-events-max", self.delivery.commit_events_max.0 as usize, 1, 10_000_000),
            ("delivery.buffer-events-max", self.delivery.buffer_events_max.0 as usize, 1, 10_000_000),
            ("delivery.buffer-bytes-max", self.delivery.buffer_bytes_max.0, 1 << 10, 1 << 40),
            ("delivery.held-events-max", self.delivery.held_events_max.0 as usize, 1, 10_000_000),
            ("delivery.metadata-bytes-max", self.delivery.metadata_bytes_max.0, 128, 1 << 16),
            ("dead-letters.index-max", self.dead_letters.index_max.0 as usize, 1, 100_000_000),
            ("lag.window", self.lag.window.0 as usize, 2, 1_000),
            ("lag.partitions-max", self.lag.partitions_max.0 as usize, 1, 10_000_000),
            ("limits.request-bytes-max", limits.request_bytes_max.0, 1 << 10, 1 << 30),
            ("limits.batch-events-max", limits.batch_events_max.0 as usize, 1, 10_000_000),
            ("limits.key-bytes-max", limits.key_bytes_max.0, 1, 1 << 30),
            ("limits.attribute-bytes-max", limits.attribute_bytes_max.0, 64, 1 << 30),
            ("limits.headers-max", limits.headers_max.0 as usize, 0, 100_000),
            ("limits.header-bytes-max", limits.header_bytes_max.0, 0, 1 << 30),
            ("limits.browse-events-max", limits.browse_events_max.0 as usize, 1, 10_000_000),
            ("limits.response-bytes-max", limits.response_bytes_max.0, 1 << 10, 1 << 30),
            ("limits.partitions-max", limits.partitions_max.0 as usize, 1, 100_000),
            ("limits.pull-events-max", limits.pull_events_max.0 as usize, 1, 10_000_000),
            ("limits.pull-waiters-max", limits.pull_waiters_max.0 as usize, 1, 10_000_000),
            ("limits.subscriptions-max", limits.subscriptions_max.0 as usize, 1, 1_000_000),
            ("limits.expression-bytes-max", limits.expression_bytes_max.0, 16, FilterLimits::TEXT_BYTES_MAX),
            (
                "limits.expression-nesting-max",
                limits.expression_nesting_max.0 as usize,
                1,
                FilterLimits::NESTING_MAX,
            ),
            ("limits.expression-cost-max", limits.expression_cost_max.0 as usize, 100, 100_000_000),
            ("limits.expression-data-bytes-max", limits.expression_data_bytes_max.0, 0, 1 << 30),
            ("limits.dedup-key-bytes-max", limits.dedup_key_bytes_max.0, 1, 1 << 20),
        ];
        for (key, value, least, most) in counts {
            if value < least || value > most {
                return Err((key, format!("{value} is not between {least} and {most}")));
            }
        }
        let queue_bytes_min = 2 * limits.request_bytes_max.0;
        if self.log.backend == LogBackend::Embedded && self.embedded.queue_bytes_max.0 < queue_bytes_min {
            let problem = format!("must be at least {queue_bytes_min}, twice limits.request-bytes-max");
            return Err(("embedded.queue-bytes-max", problem));
        }
        let times = [
            ("http.header-timeout", self.http.header_timeout),
            ("http.idle-timeout", self.http.idle_timeout),
            ("http.body-idle-timeout", self.http.body_idle_timeout),
            ("http.body-timeout", self.http.body_timeout),
            ("http.heartbeat", self.http.heartbeat),
            ("grpc.keepalive-interval", self.grpc.keepalive_interval),
            ("grpc.keepalive-timeout", self.grpc.keepalive_timeout),
            ("embedded.retention-interval", self.embedded.retention_interval),
            ("delivery.commit-interval", self.delivery.commit_interval),
            ("lag.sample-interval", self.lag.sample_interval),
            ("limits.publish-timeout", limits.publish_timeout),
            ("kafka.request-timeout", self.kafka.request_timeout),
            ("kafka.session-timeout", self.kafka.session_timeout),
            ("kafka.revoke-patience", self.kafka.revoke_patience),
        ];
        match times.into_iter().find(|(_, time)| time.0.is_zero()) {
            Some((key, _)) => Err((key, "must be more than nothing".to_owned())),
            None => Ok(()),
        }
    }
}

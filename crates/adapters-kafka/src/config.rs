//! What the adapter is told.

use std::{collections::BTreeMap, fmt, time::Duration};

/// What the producer is tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// No linger: a lone event is sent at once, and under load batches form by themselves.
    #[default]
    Balanced,
    /// Linger 20 ms and large batches.
    Throughput,
}

/// Which protocol members speak with the group coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The classic protocol with cooperative rebalancing.
    #[default]
    Classic,
    /// The new consumer group protocol (KIP-848); Kafka 4.0 or later.
    Consumer,
}

/// The adapter's settings. Maps hold librdkafka's own names and beat what the adapter sets itself, but
/// for what its promises rest on.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// The name that brokers see.
    pub client_id: String,
    /// What the producer is tuned for.
    pub profile: Profile,
    /// The protocol of groups.
    pub group_protocol: GroupProtocol,
    /// Settings of every client, as `security.protocol`.
    pub common: BTreeMap<String, String>,
    /// Settings of the producer.
    pub producer: BTreeMap<String, String>,
    /// Settings of readers and members.
    pub consumer: BTreeMap<String, String>,
    /// How long one administrative request may take.
    pub request_timeout: Duration,
    /// How long a record may stay in the producer's queue and on its way. At least 30 s: a broker that
    /// dies stalls its partitions until it has left the in-sync replicas.
    pub delivery_timeout: Duration,
    /// How many bytes of records may wait in the producer; more are pushed back.
    pub producer_buffer_bytes: usize,
    /// How long a rebalance waits for a member to finish with what it must give up.
    pub revoke_patience: Duration,
    /// A member that is not heard from for so long is expelled (classic protocol).
    pub session_timeout: Duration,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            client_id: "event-streaming".to_owned(),
            profile: Profile::default(),
            group_protocol: GroupProtocol::default(),
            common: BTreeMap::new(),
            producer: BTreeMap::new(),
            consumer: BTreeMap::new(),
            request_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(60),
            producer_buffer_bytes: 64 << 20,
            revoke_patience: Duration::from_secs(5),
            session_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The maps may hold passwords and keys: their values are not shown.
        let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("profile", &self.profile)
            .field("group_protocol", &self.group_protocol)
            .field("common", &names(&self.common))
            .field("producer", &names(&self.producer))
            .field("consumer", &names(&self.consumer))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value_that_may_be_a_secret() {
        let config = KafkaConfig {
            common: BTreeMap::from([("sasl.password".to_owned(), "hunter2".to_owned())]),
            ..KafkaConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}

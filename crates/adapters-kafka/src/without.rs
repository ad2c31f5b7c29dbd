//! What stands here when no client was built in.

use crate::config::KafkaConfig;
use ports::{ErrorKind, EventLog, GroupAdmin, GroupMembership, OffsetStore, PortError, Result, TopicAdmin};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// Kafka, which this build has no client for.
#[derive(Clone, Debug)]
pub struct Kafka(Infallible);

impl Kafka {
    /// Says that the client is missing.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn open(_config: KafkaConfig) -> Result<Self> {
        Err(PortError::new(
            ErrorKind::Unsupported,
            "kafka.open",
            "this program was built without `rdkafka`; build it with the feature `kafka`, or use the embedded log",
        ))
    }

    /// The log.
    pub fn event_log(&self) -> Arc<dyn EventLog> {
        match self.0 {}
    }

    /// Its topics.
    pub fn topic_admin(&self) -> Arc<dyn TopicAdmin> {
        match self.0 {}
    }

    /// Its groups' members.
    pub fn membership(&self) -> Arc<dyn GroupMembership> {
        match self.0 {}
    }

    /// Its groups' positions.
    pub fn offsets(&self) -> Arc<dyn OffsetStore> {
        match self.0 {}
    }

    /// All groups of the cluster.
    pub fn groups(&self) -> Arc<dyn GroupAdmin> {
        match self.0 {}
    }

    /// Closes what there is.
    #[allow(clippy::unused_async, reason = "the same call as where the client is built in")]
    pub async fn close(&self, _deadline: Duration) {
        match self.0 {}
    }
}

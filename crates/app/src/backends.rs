//! The backends that a configuration asks for, opened, as the ports that the domain needs.

use crate::config::{Config, LogBackend};
use adapters_embedded::{
    disk::{DirLock, DiskLimits, DiskLog},
    group::{GroupConfig, Groups},
    tables::Tables,
};
use adapters_kafka::{Kafka, KafkaConfig};
use ports::{Clock, EventLog, GroupMembership, IdempotencyStore, JobStore, OffsetStore, Result, TopicAdmin};
use std::{sync::Arc, time::Duration};

/// Open backends. Where events are kept and where definitions are need not be the same.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) admin: Arc<dyn TopicAdmin>,
    pub(crate) membership: Arc<dyn GroupMembership>,
    pub(crate) offsets: Arc<dyn OffsetStore>,
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) idempotency: Arc<dyn IdempotencyStore>,
    kafka: Option<Kafka>,
    /// Given back last: the directory is ours until everything in it is closed.
    lock: Arc<DirLock>,
}

impl Backends {
    /// Opens what `config` asks for; `kafka` is what it says of Kafka, where that is the log. Blocks while
    /// files are read. Does not wait for a Kafka that is not there.
    ///
    /// # Errors
    /// Where the data directory is another process's or cannot be read, or the Kafka client refuses its
    /// settings or was not built in.
    pub(crate) fn open(config: &Config, kafka: KafkaConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        // Definitions are in its tables whatever the log is.
        let lock = DirLock::acquire(&config.embedded.data_dir)?;
        let tables = Tables::open(&config.embedded.data_dir)?;
        let jobs: Arc<dyn JobStore> = Arc::new(tables.clone());
        let idempotency: Arc<dyn IdempotencyStore> = Arc::new(tables.claims(clock.clone())?);
        if config.log.backend == LogBackend::Kafka {
            let kafka = Kafka::open(kafka)?;
            return Ok(Self {
                log: kafka.event_log(),
                admin: kafka.topic_admin(),
                membership: kafka.membership(),
                offsets: kafka.offsets(),
                jobs,
                idempotency,
                kafka: Some(kafka),
                lock,
            });
        }
        let log = Arc::new(DiskLog::open_locked(lock.clone(), limits(config), clock.clone())?);
        let groups = Groups::new(log.clone(), clock, GroupConfig::default());
        Ok(Self {
            log,
            admin: groups.admin(),
            offsets: Arc::new(tables.offsets(groups.clone())),
            membership: Arc::new(groups),
            jobs,
            idempotency,
            kafka: None,
            lock,
        })
    }

    /// Writes out and closes everything, within `patience`.
    pub(crate) async fn close(self, patience: Duration) {
        let Self { log, admin, membership, offsets, jobs, idempotency, kafka, lock } = self;
        if let Some(kafka) = kafka {
            kafka.close(patience).await;
        }
        // The last handle on a file closes it, which waits for the disk.
        let closing = tokio::task::spawn_blocking(move || {
            drop((membership, offsets, admin, log, jobs, idempotency));
            drop(lock);
        });
        if tokio::time::timeout(patience, closing).await.is_err() {
            tracing::warn!("the data directory was not closed in time; it is whole all the same");
        }
    }
}

fn limits(config: &Config) -> DiskLimits {
    let embedded = &config.embedded;
    DiskLimits {
        partitions_max: config.limits.partitions_max.0,
        // A request's events for one partition may be written at once, with some bytes of frame to each.
        frame_bytes_max: (2 * config.limits.request_bytes_max.0).clamp(16 << 20, 1 << 30),
        queue_bytes_max: embedded.queue_bytes_max.0,
        tail_bytes_max: embedded.tail_bytes_max.0,
        committers: embedded.committers.0 as usize,
        retention_interval: embedded.retention_interval.0,
    }
}

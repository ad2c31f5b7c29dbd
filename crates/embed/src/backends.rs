//! The backends of a service, opened, as the ports that the domain needs.

use adapters_embedded::{
    disk::{DirLock, DiskLimits, DiskLog},
    group::{GroupConfig, Groups},
    tables::Tables,
};
use adapters_kafka::{Kafka, KafkaConfig};
use domain::{Limits, subscriptions::SubscriptionPorts};
use ports::{Clock, Result, SchemaStore, TopicAdmin};
use std::{path::Path, sync::Arc, time::Duration};

/// How often it is looked whether all handles are gone.
const CLOSED_AGAIN: Duration = Duration::from_millis(1);

/// Open backends.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) ports: SubscriptionPorts,
    pub(crate) schemas: Arc<dyn SchemaStore>,
    pub(crate) admin: Arc<dyn TopicAdmin>,
    kafka: Option<Kafka>,
    /// Given back last: the directory is ours until everything in it is closed.
    lock: Arc<DirLock>,
}

impl Backends {
    /// Opens what lies in `data_dir`, and the log beside it where that is Kafka. Blocks while files are read.
    ///
    /// # Errors
    /// Where the directory is another process's or cannot be read, or Kafka's client refuses its settings or
    /// was not built in.
    pub(crate) fn open(
        data_dir: &Path,
        kafka: Option<KafkaConfig>,
        limits: &Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let lock = DirLock::acquire(data_dir)?;
        let tables = Tables::open_locked(lock.clone())?;
        let idempotency = Arc::new(tables.claims(clock.clone())?);
        let jobs = Arc::new(tables.clone());
        let schemas = Arc::new(tables.clone());
        if let Some(config) = kafka {
            let kafka = Kafka::open(config)?;
            let ports = SubscriptionPorts {
                log: kafka.event_log(),
                membership: kafka.membership(),
                offsets: kafka.offsets(),
                jobs,
                idempotency,
                clock,
            };
            return Ok(Self { ports, schemas, admin: kafka.topic_admin(), kafka: Some(kafka), lock });
        }
        let disk = DiskLimits {
            partitions_max: limits.partitions_max,
            // A call's events for one partition may be written at once, with some bytes of frame to each.
            frame_bytes_max: (2 * limits.request_bytes_max).clamp(16 << 20, 1 << 30),
            ..DiskLimits::default()
        };
        let log = Arc::new(DiskLog::open_locked(lock.clone(), disk, clock.clone())?);
        let groups = Groups::new(log.clone(), clock.clone(), GroupConfig::default());
        let admin = groups.admin();
        let ports = SubscriptionPorts {
            log,
            offsets: Arc::new(tables.offsets(groups.clone())),
            membership: Arc::new(groups),
            jobs,
            idempotency,
            clock,
        };
        Ok(Self { ports, schemas, admin, kafka: None, lock })
    }

    /// Writes out and closes everything, within `patience`, and gives the directory back. False when somebody
    /// still holds a part of it then.
    pub(crate) async fn close(self, patience: Duration) -> bool {
        let Self { ports, schemas, admin, kafka, lock } = self;
        if let Some(kafka) = kafka {
            kafka.close(patience).await;
        }
        // The last handle on a file closes it, which waits for the disk.
        let closing = tokio::task::spawn_blocking(move || drop((ports, schemas, admin)));
        let closed = async {
            let _ = closing.await;
            // Tasks that have just said that they are at their end may hold their handles a moment longer,
            // and the log its lock until what it was given is written.
            while Arc::strong_count(&lock) > 1 {
                tokio::time::sleep(CLOSED_AGAIN).await;
            }
        };
        tokio::time::timeout(patience, closed).await.is_ok()
    }
}

//! The backends that a configuration asks for, opened, as the ports that the domain needs.

use crate::{
    config::{Config, LogBackend, Servers},
    outside::Outside,
    servers::Server,
};
use adapters_embedded::{
    disk::{DirLock, DiskLimits, DiskLog},
    group::{GroupConfig, Groups},
    tables::Tables,
};
use adapters_kafka::{Kafka, KafkaConfig};
use adapters_webhook::{HttpWebhooks, WebhookConfig};
use domain::breaker::GuardedAppends;
use ports::{
    Clock, EventLog, GroupAdmin, GroupMembership, IdempotencyStore, JobStore, OffsetStore, Result,
    SchemaStore, TopicAdmin, Webhooks,
};
use std::{sync::Arc, time::Duration};

/// Open backends. Where events are kept, where definitions are and where claims are need not be the same.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) admin: Arc<dyn TopicAdmin>,
    pub(crate) membership: Arc<dyn GroupMembership>,
    pub(crate) offsets: Arc<dyn OffsetStore>,
    pub(crate) groups: Arc<dyn GroupAdmin>,
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) idempotency: Arc<dyn IdempotencyStore>,
    pub(crate) schemas: Arc<dyn SchemaStore>,
    /// The registry outside that schemas are in instead, where they are in one.
    pub(crate) outside: Option<Outside>,
    /// The circuits before a log that is another's.
    pub(crate) appends: Option<Arc<GuardedAppends>>,
    /// Where definitions or claims are kept outside the data directory.
    pub(crate) servers: Vec<Server>,
    pub(crate) webhooks: Arc<dyn Webhooks>,
    kafka: Option<Kafka>,
    /// The data directory, where something is kept in it. Given back last: it is ours until everything in it is
    /// closed.
    lock: Option<Arc<DirLock>>,
}

impl Backends {
    /// Opens what `config` asks for; `kafka` is what it says of Kafka, where that is the log, `servers` of
    /// those that definitions or claims are kept on, and `webhooks` of webhooks. Blocks while files are read. Does not wait for a server that
    /// is not there. Wants a runtime around it.
    ///
    /// # Errors
    /// Where the data directory is another process's or cannot be read, or a client refuses its settings or
    /// was not built in, or the file of certificates for webhooks is not good.
    pub(crate) fn open(
        config: &Config,
        kafka: KafkaConfig,
        servers: &Servers,
        webhooks: WebhookConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        // What needs no file first: a build without it is told before anything is made.
        let outside =
            servers.registry.as_ref().map(|settings| Outside::open(settings, &clock)).transpose()?;
        let servers = Server::open_all(config, servers, &clock)?;
        let webhooks: Arc<dyn Webhooks> = Arc::new(HttpWebhooks::open(webhooks)?);
        let jobs = servers.iter().find_map(Server::jobs);
        let idempotency = servers.iter().find_map(Server::idempotency);
        let schemas = servers.iter().find_map(Server::schemas);
        if config.log.backend == LogBackend::Kafka {
            // A replica that keeps everything elsewhere needs no data directory.
            let (jobs, idempotency, schemas, lock) = match (jobs, idempotency, schemas) {
                (Some(jobs), Some(idempotency), Some(schemas)) => (jobs, idempotency, schemas, None),
                (jobs, idempotency, schemas) => {
                    let lock = DirLock::acquire(&config.embedded.data_dir)?;
                    let tables = Tables::open_locked(lock.clone())?;
                    let (jobs, idempotency) = or_in_tables(jobs, idempotency, &tables, &clock)?;
                    let schemas = schemas.unwrap_or_else(|| Arc::new(tables));
                    (jobs, idempotency, schemas, Some(lock))
                }
            };
            let kafka = Kafka::open(kafka)?;
            let appends = Arc::new(GuardedAppends::new(kafka.event_log(), clock));
            return Ok(Self {
                log: appends.clone(),
                appends: Some(appends),
                admin: kafka.topic_admin(),
                membership: kafka.membership(),
                offsets: kafka.offsets(),
                groups: kafka.groups(),
                jobs,
                idempotency,
                schemas,
                outside,
                servers,
                webhooks,
                kafka: Some(kafka),
                lock,
            });
        }
        let lock = DirLock::acquire(&config.embedded.data_dir)?;
        let tables = Tables::open_locked(lock.clone())?;
        let (jobs, idempotency) = or_in_tables(jobs, idempotency, &tables, &clock)?;
        let log = Arc::new(DiskLog::open_locked(lock.clone(), limits(config), clock.clone())?);
        let groups = Groups::new(log.clone(), clock, GroupConfig::default());
        let offsets = Arc::new(tables.offsets(groups.clone()));
        Ok(Self {
            log,
            appends: None,
            admin: groups.admin(),
            offsets: offsets.clone(),
            groups: offsets,
            membership: Arc::new(groups),
            jobs,
            idempotency,
            schemas: schemas.unwrap_or_else(|| Arc::new(tables)),
            outside,
            servers,
            webhooks,
            kafka: None,
            lock: Some(lock),
        })
    }

    /// Writes out and closes everything, within `patience`.
    pub(crate) async fn close(self, patience: Duration) {
        // Webhooks have nothing to write out: what is under way ends with its subscription.
        let Self {
            log,
            admin,
            membership,
            offsets,
            groups,
            jobs,
            idempotency,
            schemas,
            appends,
            servers,
            kafka,
            lock,
            ..
        } = self;
        for server in servers {
            server.close(patience).await;
        }
        if let Some(kafka) = kafka {
            kafka.close(patience).await;
        }
        // The last handle on a file closes it, which waits for the disk.
        let closing = tokio::task::spawn_blocking(move || {
            drop((membership, offsets, groups, admin, log, appends, jobs, idempotency, schemas));
            drop(lock);
        });
        if tokio::time::timeout(patience, closing).await.is_err() {
            tracing::warn!("the data directory was not closed in time; it is whole all the same");
        }
    }
}

/// Definitions and claims, in the data directory where they are nowhere else.
fn or_in_tables(
    jobs: Option<Arc<dyn JobStore>>,
    idempotency: Option<Arc<dyn IdempotencyStore>>,
    tables: &Tables,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<dyn JobStore>, Arc<dyn IdempotencyStore>)> {
    let jobs = jobs.unwrap_or_else(|| Arc::new(tables.clone()));
    let idempotency = match idempotency {
        Some(idempotency) => idempotency,
        None => Arc::new(tables.claims(clock.clone())?),
    };
    Ok((jobs, idempotency))
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

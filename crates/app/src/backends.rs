//! The backends that a configuration asks for, opened, as the ports that the domain needs.

use crate::config::{ClaimStore, Config, IDEMPOTENCY_BACKEND, LogBackend};
use adapters_embedded::{
    disk::{DirLock, DiskLimits, DiskLog},
    group::{GroupConfig, Groups},
    tables::Tables,
};
use adapters_kafka::{Kafka, KafkaConfig};
use adapters_postgres::Postgres;
use adapters_redis::Redis;
use adapters_webhook::{HttpWebhooks, WebhookConfig};
use domain::breaker::{self, Breaker, GuardedAppends, GuardedClaims};
use ports::{
    Clock, EventLog, GroupMembership, IdempotencyStore, JobStore, OffsetStore, PortError, Result, TopicAdmin,
    Webhooks,
};
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
    /// The circuits before a log that is another's.
    pub(crate) appends: Option<Arc<GuardedAppends>>,
    /// Where claims are kept outside the data directory.
    pub(crate) claims: Option<ClaimServer>,
    pub(crate) webhooks: Arc<dyn Webhooks>,
    kafka: Option<Kafka>,
    /// Given back last: the directory is ours until everything in it is closed.
    lock: Arc<DirLock>,
}

impl Backends {
    /// Opens what `config` asks for; `kafka` is what it says of Kafka, where that is the log, `claims` of the
    /// store of claims, and `webhooks` of webhooks. Blocks while files are read. Does not wait for a server that
    /// is not there. Wants a runtime around it.
    ///
    /// # Errors
    /// Where the data directory is another process's or cannot be read, or a client refuses its settings or
    /// was not built in, or the file of certificates for webhooks is not good.
    pub(crate) fn open(
        config: &Config,
        kafka: KafkaConfig,
        claims: &ClaimStore,
        webhooks: WebhookConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        // What needs no file first: a build without it is told before anything is made.
        let claims = ClaimServer::open(claims, clock.clone())?;
        let webhooks: Arc<dyn Webhooks> = Arc::new(HttpWebhooks::open(webhooks)?);
        // Definitions are in its tables whatever the log is.
        let lock = DirLock::acquire(&config.embedded.data_dir)?;
        let tables = Tables::open(&config.embedded.data_dir)?;
        let jobs: Arc<dyn JobStore> = Arc::new(tables.clone());
        let idempotency: Arc<dyn IdempotencyStore> = match &claims {
            Some(server) => server.idempotency(),
            None => Arc::new(tables.claims(clock.clone())?),
        };
        if config.log.backend == LogBackend::Kafka {
            let kafka = Kafka::open(kafka)?;
            let appends = Arc::new(GuardedAppends::new(kafka.event_log(), clock));
            return Ok(Self {
                log: appends.clone(),
                appends: Some(appends),
                admin: kafka.topic_admin(),
                membership: kafka.membership(),
                offsets: kafka.offsets(),
                jobs,
                idempotency,
                claims,
                webhooks,
                kafka: Some(kafka),
                lock,
            });
        }
        let log = Arc::new(DiskLog::open_locked(lock.clone(), limits(config), clock.clone())?);
        let groups = Groups::new(log.clone(), clock, GroupConfig::default());
        Ok(Self {
            log,
            appends: None,
            admin: groups.admin(),
            offsets: Arc::new(tables.offsets(groups.clone())),
            membership: Arc::new(groups),
            jobs,
            idempotency,
            claims,
            webhooks,
            kafka: None,
            lock,
        })
    }

    /// Writes out and closes everything, within `patience`.
    pub(crate) async fn close(self, patience: Duration) {
        // Webhooks have nothing to write out: what is under way ends with its subscription.
        let Self { log, admin, membership, offsets, jobs, idempotency, appends, claims, kafka, lock, .. } =
            self;
        if let Some(claims) = claims {
            claims.close(patience).await;
        }
        if let Some(kafka) = kafka {
            kafka.close(patience).await;
        }
        // The last handle on a file closes it, which waits for the disk.
        let closing = tokio::task::spawn_blocking(move || {
            drop((membership, offsets, admin, log, appends, jobs, idempotency));
            drop(lock);
        });
        if tokio::time::timeout(patience, closing).await.is_err() {
            tracing::warn!("the data directory was not closed in time; it is whole all the same");
        }
    }
}

/// A server that claims are kept in, behind a circuit.
#[derive(Clone, Debug)]
pub(crate) struct ClaimServer {
    client: Client,
    pub(crate) breaker: Arc<Breaker>,
}

#[derive(Clone, Debug)]
enum Client {
    Redis(Redis),
    Postgres(Postgres),
}

/// What a server says of itself.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// Why it may forget what it was told.
    pub(crate) warning: Option<String>,
}

impl ClaimServer {
    /// Opens it; `None` where claims are in the data directory.
    fn open(store: &ClaimStore, clock: Arc<dyn Clock>) -> Result<Option<Self>> {
        let (name, opened) = match store {
            ClaimStore::Embedded => return Ok(None),
            ClaimStore::Redis(config) => ("redis", Redis::open(config).map(Client::Redis)),
            ClaimStore::Postgres(config) => ("postgres", Postgres::open(config).map(Client::Postgres)),
        };
        let client = opened.map_err(|error| {
            let text = format!("{IDEMPOTENCY_BACKEND} is {name}: {}", error.detail());
            PortError::new(error.kind(), error.operation(), text).with_source(error)
        })?;
        Ok(Some(Self { client, breaker: Arc::new(Breaker::new(name, breaker::STORE, clock)) }))
    }

    /// As the configuration and the health call it.
    pub(crate) fn name(&self) -> &'static str {
        self.breaker.name()
    }

    fn idempotency(&self) -> Arc<dyn IdempotencyStore> {
        let store = match &self.client {
            Client::Redis(redis) => redis.idempotency(),
            Client::Postgres(postgres) => postgres.idempotency(),
        };
        Arc::new(GuardedClaims::new(store, self.breaker.clone()))
    }

    /// Asks whether it serves, and whether it keeps what it is told. Also while its circuit is open.
    pub(crate) async fn check(&self) -> Result<Status> {
        Ok(match &self.client {
            Client::Redis(redis) => {
                let status = redis.check().await?;
                Status { version: status.version, warning: status.warning }
            }
            Client::Postgres(postgres) => {
                let status = postgres.check().await?;
                Status { version: status.version, warning: status.warning }
            }
        })
    }

    async fn close(self, patience: Duration) {
        match self.client {
            // Its connection ends with its last handle.
            Client::Redis(_) => {}
            Client::Postgres(postgres) => postgres.close(patience).await,
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

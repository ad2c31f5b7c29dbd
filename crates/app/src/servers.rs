//! The servers beside the log that something is kept on, each opened once and behind one circuit.

use crate::config::{
    Config, IDEMPOTENCY_BACKEND, IdempotencyBackend, STATE_BACKEND, Servers as Settings, StateBackend,
};
use adapters_postgres::Postgres;
use adapters_redis::Redis;
use domain::breaker::{self, Breaker, GuardedClaims, GuardedJobs, GuardedSchemas};
use ports::{Clock, IdempotencyStore, JobStore, PortError, Result, SchemaStore};
use std::{sync::Arc, time::Duration};

/// A server, behind a circuit.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    client: Client,
    keeps: Keeps,
    pub(crate) breaker: Arc<Breaker>,
}

#[derive(Clone, Debug)]
enum Client {
    Redis(Redis),
    Postgres(Postgres),
}

/// What is kept on a server.
#[derive(Clone, Copy, Debug)]
struct Keeps {
    state: bool,
    claims: bool,
}

/// What a server says of itself.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// Why it may forget what it was told.
    pub(crate) warning: Option<String>,
}

impl Server {
    /// Opens those that something is kept on. Waits for none of them.
    ///
    /// # Errors
    /// Where a client refuses its settings or was not built in; the text names the setting that wants it.
    pub(crate) fn open_all(
        config: &Config,
        settings: &Settings,
        clock: &Arc<dyn Clock>,
    ) -> Result<Vec<Self>> {
        let (state, claims) = (config.state.backend, config.event_streaming.idempotency.backend);
        let mut servers = Vec::new();
        if let Some(settings) = &settings.redis {
            let keeps =
                Keeps { state: state == StateBackend::Redis, claims: claims == IdempotencyBackend::Redis };
            servers.push(Self::new("redis", Redis::open(settings).map(Client::Redis), keeps, clock)?);
        }
        if let Some(settings) = &settings.postgres {
            let keeps = Keeps {
                state: state == StateBackend::Postgres,
                claims: claims == IdempotencyBackend::Postgres,
            };
            let opened = Postgres::open(settings).map(Client::Postgres);
            servers.push(Self::new("postgres", opened, keeps, clock)?);
        }
        Ok(servers)
    }

    fn new(name: &'static str, opened: Result<Client>, keeps: Keeps, clock: &Arc<dyn Clock>) -> Result<Self> {
        let client = opened.map_err(|error| {
            let key = if keeps.state { STATE_BACKEND } else { IDEMPOTENCY_BACKEND };
            let text = format!("{key} is {name}: {}", error.detail());
            PortError::new(error.kind(), error.operation(), text).with_source(error)
        })?;
        let breaker = Arc::new(Breaker::new(name, breaker::STORE, clock.clone()));
        Ok(Self { client, keeps, breaker })
    }

    /// As the configuration and the health call it.
    pub(crate) fn name(&self) -> &'static str {
        self.breaker.name()
    }

    /// What is kept there, for a log line.
    pub(crate) fn keeps(&self) -> &'static str {
        match (self.keeps.state, self.keeps.claims) {
            (true, true) => "state and claims",
            (true, false) => "state",
            (false, _) => "claims",
        }
    }

    /// The store of claims, where they are kept here.
    pub(crate) fn idempotency(&self) -> Option<Arc<dyn IdempotencyStore>> {
        let store = match &self.client {
            Client::Redis(redis) => redis.idempotency(),
            Client::Postgres(postgres) => postgres.idempotency(),
        };
        self.keeps.claims.then(|| Arc::new(GuardedClaims::new(store, self.breaker.clone())) as _)
    }

    /// The store of documents, where the state is kept here.
    pub(crate) fn jobs(&self) -> Option<Arc<dyn JobStore>> {
        let store = match &self.client {
            Client::Redis(redis) => redis.jobs(),
            Client::Postgres(postgres) => postgres.jobs(),
        };
        self.keeps.state.then(|| Arc::new(GuardedJobs::new(store, self.breaker.clone())) as _)
    }

    /// The store of schemas, where the state is kept here.
    pub(crate) fn schemas(&self) -> Option<Arc<dyn SchemaStore>> {
        let store = match &self.client {
            Client::Redis(redis) => redis.schemas(),
            Client::Postgres(postgres) => postgres.schemas(),
        };
        self.keeps.state.then(|| Arc::new(GuardedSchemas::new(store, self.breaker.clone())) as _)
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

    pub(crate) async fn close(self, patience: Duration) {
        match self.client {
            // Its connection ends with its last handle.
            Client::Redis(_) => {}
            Client::Postgres(postgres) => postgres.close(patience).await,
        }
    }
}

//! Where the service keeps what is its own: definitions of subscriptions and what else all replicas share. And
//! the servers that this, or claims, are kept on.

use super::{
    stores::{self, IdempotencyBackend, Wrong},
    values::{Config, LogBackend},
};
use adapters_postgres::PostgresConfig;
use adapters_redis::RedisConfig;
use adapters_registry::RegistryConfig;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) backend: StateBackend,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StateBackend {
    Embedded,
    Redis,
    Postgres,
}

impl StateBackend {
    /// As the configuration and the ready line call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    /// Whether it is a server, which other replicas may use too.
    pub(crate) fn is_server(self) -> bool {
        self != Self::Embedded
    }
}

/// The key that chooses.
pub(crate) const BACKEND: &str = "state.backend";

/// What adapters are told of the servers that something is kept on; `None` of those that nothing is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    pub(crate) redis: Option<RedisConfig>,
    pub(crate) postgres: Option<PostgresConfig>,
    /// The registry outside that schemas are in.
    pub(crate) registry: Option<RegistryConfig>,
}

impl Config {
    /// Whether several replicas of the service may share its subscriptions: the log is a cluster, and the state is
    /// on a server.
    pub(crate) fn is_shared(&self) -> bool {
        self.log.backend == LogBackend::Kafka && self.state.backend.is_server()
    }

    pub(super) fn check_state(&self) -> Result<(), Wrong> {
        let claims = self.event_streaming.idempotency.backend;
        if self.is_shared() && claims == IdempotencyBackend::Embedded {
            let state = self.state.backend.name();
            let problem = format!(
                "is embedded while {BACKEND} is {state}: replicas that share their subscriptions must share what was \
                 claimed and done, or events are handled twice; say redis or postgres, or leave it at auto"
            );
            return Err((stores::BACKEND, problem));
        }
        Ok(())
    }

    /// The servers that the state, claims or schemas are kept on. Reads the files of secrets and certificates.
    ///
    /// # Errors
    /// The key at fault, and what is wrong with it.
    pub(crate) fn servers(&self) -> Result<Servers, Wrong> {
        // `Auto` was decided when the configuration was loaded.
        let (state, claims) = (self.state.backend, self.event_streaming.idempotency.backend);
        let redis = state == StateBackend::Redis || claims == IdempotencyBackend::Redis;
        let postgres = state == StateBackend::Postgres || claims == IdempotencyBackend::Postgres;
        Ok(Servers {
            redis: redis.then(|| self.redis()).transpose()?,
            postgres: postgres.then(|| self.postgres()).transpose()?,
            registry: self.outside_registry()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, Sources, load};

    fn read(settings: &[&str]) -> Result<Loaded, ConfigError> {
        let set = settings.iter().map(|&setting| setting.to_owned()).collect();
        load(&Sources { set, ..Sources::default() })
    }

    const KAFKA: &str = "kafka.bootstrap-servers=broker:9092";
    const POSTGRES: &str = "postgres.url=postgres://db/x";

    #[test]
    fn claims_go_where_the_state_is_unless_a_redis_is_named_or_a_backend_is_said() {
        for (settings, claims, word) in [
            (&["state.backend=redis"][..], "redis", "state.backend"),
            (&["state.backend=postgres", POSTGRES], "postgres", "state.backend"),
            (&["state.backend=postgres", POSTGRES, "redis.host=cache"], "redis", "redis.host"),
            (
                &["state.backend=redis", POSTGRES, "event-streaming.idempotency.backend=postgres"],
                "postgres",
                "says so",
            ),
            (&["redis.host=cache"], "redis", "redis.host"),
        ] {
            let loaded = read(settings).expect("good");
            let found = loaded.config.event_streaming.idempotency.backend.name();
            assert_eq!(found, claims, "{settings:?}");
            assert!(loaded.idempotency_because.contains(word), "{}", loaded.idempotency_because);
        }
    }

    #[test]
    fn a_server_is_spoken_to_where_something_is_kept_on_it() {
        for (settings, redis, postgres) in [
            (&[POSTGRES][..], false, false),
            (&["state.backend=redis"], true, false),
            (&["state.backend=postgres", POSTGRES], false, true),
            (&["state.backend=postgres", POSTGRES, "redis.host=cache"], true, true),
        ] {
            let servers = read(settings).expect("good").config.servers().expect("good");
            assert_eq!(
                (servers.redis.is_some(), servers.postgres.is_some()),
                (redis, postgres),
                "{settings:?}"
            );
        }
    }

    #[test]
    fn replicas_share_what_is_on_a_cluster_and_a_server() {
        for (settings, shared) in [
            (&["state.backend=redis", KAFKA][..], true),
            // One process has an embedded log.
            (&["state.backend=redis"], false),
            (&[KAFKA, "redis.host=cache"], false),
        ] {
            let config = read(settings).expect("good").config;
            assert_eq!((config.is_shared(), config.delivery().shared), (shared, shared), "{settings:?}");
        }
    }

    #[test]
    fn what_cannot_be_together_names_its_key_and_the_remedy() {
        let embedded = "event-streaming.idempotency.backend=embedded";
        for (settings, words) in [
            (&["state.backend=etcd"][..], ["state.backend", "postgres"]),
            (&["state.backend=postgres"], ["postgres.url", "state.backend"]),
            (&["state.backend=redis", KAFKA, embedded], ["idempotency.backend", "say redis or postgres"]),
        ] {
            let text = read(settings).expect_err("it cannot be").to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{settings:?}: {text}");
        }
        // One replica alone may.
        read(&["state.backend=redis", embedded]).expect("one process has an embedded log");
        read(&[KAFKA, embedded]).expect("one process has an embedded state");
    }
}

//! Where claims are kept: the choice; and the settings of Redis and PostgreSQL as the adapters take them.

use super::{
    layers::{Origin, Settings},
    state::{self, StateBackend},
    units::{Count, Secret, Time, Ttl},
    values::Config,
};
use adapters_postgres::PostgresConfig;
use adapters_redis::RedisConfig;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is set but cannot be: the key, and what is wrong.
pub(super) type Wrong = (&'static str, String);

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Redis {
    pub(crate) host: String,
    pub(crate) port: Count,
    pub(crate) database: Count,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) password_file: PathBuf,
    pub(crate) tls: RedisTls,
    pub(crate) key_prefix: String,
    pub(crate) hash_tags: Count,
    pub(crate) connect_timeout: Time,
    pub(crate) request_timeout: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RedisTls {
    pub(crate) enabled: bool,
    pub(crate) ca_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Postgres {
    /// It may hold a password.
    pub(crate) url: Secret,
    pub(crate) password: Secret,
    pub(crate) password_file: PathBuf,
    pub(crate) schema: String,
    pub(crate) connections_max: Count,
    pub(crate) acquire_timeout: Time,
    pub(crate) request_timeout: Time,
    pub(crate) cleanup_interval: Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EventStreaming {
    pub(crate) idempotency: Idempotency,
    pub(crate) consumer: Consumer,
    pub(crate) dlq: Dlq,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Idempotency {
    pub(crate) backend: IdempotencyBackend,
    pub(crate) publish: Once,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Consumer {
    pub(crate) idempotency: Once,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Once {
    pub(crate) enabled: bool,
    pub(crate) ttl: Ttl,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Dlq {
    pub(crate) enabled: bool,
    pub(crate) max_retries: Count,
    pub(crate) retry_delay_ms: Count,
}

/// Where claims are kept. `Auto` is gone once a configuration is loaded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IdempotencyBackend {
    Auto,
    Embedded,
    Redis,
    Postgres,
}

impl IdempotencyBackend {
    /// As the configuration and the ready line call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// The key that chooses.
pub(crate) const BACKEND: &str = "event-streaming.idempotency.backend";

/// Naming a Redis selects it, and else the server that the state is on; an explicit backend beats that. Says why.
pub(super) fn choose(config: &mut Config, settings: &Settings) -> String {
    let origin = |key| settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
    let backend = &mut config.event_streaming.idempotency.backend;
    if *backend != IdempotencyBackend::Auto {
        return format!("{BACKEND} says so ({})", origin(BACKEND));
    }
    let host = origin("redis.host");
    if host != Origin::Default {
        *backend = IdempotencyBackend::Redis;
        return format!("redis.host is named ({host})");
    }
    *backend = match config.state.backend {
        StateBackend::Embedded => IdempotencyBackend::Embedded,
        StateBackend::Redis => IdempotencyBackend::Redis,
        StateBackend::Postgres => IdempotencyBackend::Postgres,
    };
    if config.state.backend.is_server() {
        return format!("{} is {} ({})", state::BACKEND, backend.name(), origin(state::BACKEND));
    }
    "no Redis is named".to_owned()
}

/// The least and the most that a time to live may be, in seconds.
const TTL_S: (u64, u64) = (1, 366 * 24 * 3600);

impl Config {
    /// What can be seen to be wrong without a server.
    pub(super) fn check_stores(&self) -> Result<(), Wrong> {
        let (redis, postgres, own) = (&self.redis, &self.postgres, &self.event_streaming);
        let counts = [
            ("redis.port", redis.port, 1, 65_535),
            ("redis.database", redis.database, 0, 65_535),
            ("redis.hash-tags", redis.hash_tags, 1, 16_384),
            ("postgres.connections-max", postgres.connections_max, 1, 1_000),
            ("event-streaming.dlq.max-retries", own.dlq.max_retries, 0, 1_000_000),
            ("event-streaming.dlq.retry-delay-ms", own.dlq.retry_delay_ms, 0, 24 * 3_600_000),
        ];
        if let Some((key, Count(value), least, most)) =
            counts.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(&value.0))
        {
            return Err((key, format!("{value} is not between {least} and {most}")));
        }
        let times = [
            ("redis.connect-timeout", redis.connect_timeout),
            ("redis.request-timeout", redis.request_timeout),
            ("postgres.acquire-timeout", postgres.acquire_timeout),
            ("postgres.request-timeout", postgres.request_timeout),
            ("postgres.cleanup-interval", postgres.cleanup_interval),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.0.is_zero()) {
            return Err((key, "must be more than nothing".to_owned()));
        }
        for (key, once) in [
            ("event-streaming.idempotency.publish.ttl", &own.idempotency.publish),
            ("event-streaming.consumer.idempotency.ttl", &own.consumer.idempotency),
        ] {
            let (least, most) = TTL_S;
            if !(least..=most).contains(&once.ttl.0.as_secs()) {
                return Err((key, "must be from 1s to 366d".to_owned()));
            }
        }
        self.check_redis()?;
        self.check_postgres()
    }

    fn check_redis(&self) -> Result<(), Wrong> {
        let redis = &self.redis;
        if redis.host.trim().is_empty() {
            return Err(("redis.host", "must be a name or an address".to_owned()));
        }
        if redis.key_prefix.contains(['{', '}']) {
            let problem = "must have no braces: they mark what decides a key's slot in a cluster";
            return Err(("redis.key-prefix", problem.to_owned()));
        }
        let has_password = !redis.password.0.is_empty() || !redis.password_file.as_os_str().is_empty();
        if !redis.username.is_empty() && !has_password {
            return Err(("redis.username", "needs redis.password or redis.password-file".to_owned()));
        }
        if !redis.tls.enabled && !redis.tls.ca_file.as_os_str().is_empty() {
            return Err(("redis.tls.ca-file", "has a meaning with redis.tls.enabled only".to_owned()));
        }
        Ok(())
    }

    fn check_postgres(&self) -> Result<(), Wrong> {
        let (url, schema) = (&self.postgres.url.0, &self.postgres.schema);
        let needed_by = if self.state.backend == StateBackend::Postgres {
            Some(state::BACKEND)
        } else {
            let claims = self.event_streaming.idempotency.backend;
            (claims == IdempotencyBackend::Postgres).then_some(BACKEND)
        };
        if let Some(key) = needed_by.filter(|_| url.is_empty()) {
            let problem = format!("is needed where {key} is postgres: postgres://USER@HOST:PORT/DATABASE");
            return Err(("postgres.url", problem));
        }
        // Without its value, which may hold a password.
        if !url.is_empty() && !["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it)) {
            return Err(("postgres.url", "must be as postgres://USER@HOST:PORT/DATABASE".to_owned()));
        }
        let begins = |c: char| c.is_ascii_lowercase() || c == '_';
        let goes_on = |c: char| begins(c) || c.is_ascii_digit();
        if schema.len() > 40 || !schema.starts_with(begins) || !schema.chars().all(goes_on) {
            let problem =
                format!("`{schema}` must be a lower-case letter or `_`, and then such or digits; 40 at most");
            return Err(("postgres.schema", problem));
        }
        Ok(())
    }

    pub(super) fn redis(&self) -> Result<RedisConfig, Wrong> {
        let redis = &self.redis;
        let ca_file = &redis.tls.ca_file;
        let tls_ca = if ca_file.as_os_str().is_empty() {
            None
        } else {
            let unreadable = |e| ("redis.tls.ca-file", format!("{}: {e}", ca_file.display()));
            Some(fs::read(ca_file).map_err(unreadable)?)
        };
        Ok(RedisConfig {
            host: redis.host.trim().to_owned(),
            port: redis.port.0 as u16,
            database: redis.database.0 as u16,
            username: (!redis.username.is_empty()).then(|| redis.username.clone()),
            password: password(&redis.password, "redis.password-file", &redis.password_file)?,
            tls: redis.tls.enabled,
            tls_ca,
            key_prefix: redis.key_prefix.clone(),
            hash_tags: redis.hash_tags.0 as u16,
            connect_timeout: redis.connect_timeout.0,
            request_timeout: redis.request_timeout.0,
        })
    }

    pub(super) fn postgres(&self) -> Result<PostgresConfig, Wrong> {
        let postgres = &self.postgres;
        Ok(PostgresConfig {
            url: postgres.url.0.clone(),
            password: password(&postgres.password, "postgres.password-file", &postgres.password_file)?,
            schema: postgres.schema.clone(),
            connections_max: postgres.connections_max.0,
            acquire_timeout: postgres.acquire_timeout.0,
            request_timeout: postgres.request_timeout.0,
            cleanup_interval: postgres.cleanup_interval.0,
        })
    }
}

/// The password as it is set, or the first line of its file, which beats it.
pub(super) fn password(set: &Secret, key: &'static str, file: &Path) -> Result<Option<String>, Wrong> {
    if file.as_os_str().is_empty() {
        return Ok((!set.0.is_empty()).then(|| set.0.clone()));
    }
    let text = fs::read_to_string(file).map_err(|e| (key, format!("{}: {e}", file.display())))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => Err((key, format!("{}: its first line is empty; it must be the password", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;
    use std::{io::Write as _, time::Duration};

    fn set(settings: &[&str]) -> Sources {
        Sources { set: settings.iter().map(|&s| s.to_owned()).collect(), ..Sources::default() }
    }

    fn chosen(settings: &[&str]) -> (&'static str, String) {
        let loaded = load(&set(settings)).expect("good");
        let backend = loaded.config.event_streaming.idempotency.backend;
        (backend.name(), loaded.idempotency_because)
    }

    #[test]
    fn the_defaults_are_those_of_the_adapters_and_of_the_domain() {
        let config = load(&Sources::default()).expect("good").config;
        assert_eq!(config.redis(), Ok(RedisConfig::default()));
        assert_eq!(config.postgres(), Ok(PostgresConfig::default()));
    }

    #[test]
    fn naming_a_redis_selects_it_unless_a_backend_is_said() {
        assert_eq!(chosen(&[]), ("embedded", "no Redis is named".to_owned()));
        let (backend, because) = chosen(&["redis.host=localhost"]);
        assert_eq!(backend, "redis");
        assert!(because.contains("redis.host") && because.contains("--set"), "{because}");
        let (backend, because) = chosen(&["redis.host=a", "event-streaming.idempotency.backend=embedded"]);
        assert_eq!(backend, "embedded");
        assert!(because.contains(BACKEND), "{because}");
        // Other settings of a Redis do not name one.
        assert_eq!(chosen(&["redis.port=1"]).0, "embedded");
        let said = ["postgres.url=postgres://db/x", "event-streaming.idempotency.backend=postgres"];
        assert_eq!(chosen(&said).0, "postgres");
        assert_eq!(chosen(&said[..1]).0, "embedded");
    }

    #[test]
    fn what_is_wrong_names_its_key_and_what_would_be_right() {
        for (settings, key, word) in [
            (&["event-streaming.idempotency.backend=etcd"][..], BACKEND, "postgres"),
            (&["event-streaming.idempotency.backend=postgres"], "postgres.url", "postgres://USER"),
            (&["postgres.url=mysql://me:hunter2@db/x"], "postgres.url", "postgres://USER"),
            (&["postgres.schema=Upper"], "postgres.schema", "lower-case"),
            (&["postgres.connections-max=0"], "postgres.connections-max", "between 1 and 1000"),
            (&["redis.port=65536"], "redis.port", "between 1 and 65535"),
            (&["redis.hash-tags=0"], "redis.hash-tags", "between 1 and 16384"),
            (&["redis.key-prefix=a{b}"], "redis.key-prefix", "braces"),
            (&["redis.username=me"], "redis.username", "redis.password-file"),
            (&["redis.tls.ca-file=/ca.pem"], "redis.tls.ca-file", "redis.tls.enabled"),
            (&["redis.host= "], "redis.host", "address"),
            (&["redis.request-timeout=0s"], "redis.request-timeout", "more than nothing"),
            (&["event-streaming.consumer.idempotency.ttl=0"], "consumer.idempotency.ttl", "from 1s"),
            (&["event-streaming.consumer.idempotency.ttl=soon"], "consumer.idempotency.ttl", "seconds"),
            (&["event-streaming.dlq.retry-delay-ms=5s"], "dlq.retry-delay-ms", "whole number"),
            (&["event-streaming.dlq.max-retry=1"], "dlq.max-retry", "event-streaming.dlq.max-retries"),
        ] {
            let text = load(&set(settings)).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains(word), "{settings:?}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_time_to_live_is_a_time_or_a_number_of_seconds() {
        let ttl = |setting: &str| {
            let loaded = load(&set(&[&format!("event-streaming.consumer.idempotency.ttl={setting}")]));
            loaded.expect("good").config.event_streaming.consumer.idempotency.ttl.0
        };
        assert_eq!(ttl("3600"), Duration::from_hours(1));
        assert_eq!(ttl("90m"), Duration::from_mins(90));
    }

    #[test]
    fn secrets_are_taken_from_where_they_are_and_never_shown() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "hunter2\nsecond line").expect("it can be written");
        let path = file.path().display().to_string();
        let loaded = load(&set(&[
            "redis.host=db",
            &format!("redis.password-file={path}"),
            &format!("postgres.password-file={path}"),
            "postgres.url=postgres://me:hunter2/@db:5432/x?password=hunter2",
            "redis.password=hunter2",
        ]))
        .expect("good");
        let redis = loaded.config.servers().expect("good").redis.expect("a Redis is named");
        assert_eq!(redis.password.as_deref(), Some("hunter2"));
        assert_eq!(loaded.config.postgres().expect("good").password.as_deref(), Some("hunter2"));
        let shown = format!("{}{:?}{redis:?}", loaded.show(), loaded.config);
        assert!(shown.contains(&path) && shown.contains("@db:5432/x"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for key in ["redis.password-file", "redis.tls.ca-file"] {
            let missing = ["redis.host=db", "redis.tls.enabled=true", &format!("{key}=/nowhere/at/all")];
            let wrong = load(&set(&missing)).expect("good").config.servers().expect_err("no such file");
            assert!(wrong.0 == key && wrong.1.contains("/nowhere/at/all"), "{wrong:?}");
        }
    }
}

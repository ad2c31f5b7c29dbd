//! A server: what is opened, and what it says of itself.

use crate::{
    config::{RedisConfig, RedisStatus},
    connection::Connection,
    idempotency_store::Claims,
    job_store::Documents,
    schema_store::Schemas,
};
use ports::{ErrorKind, IdempotencyStore, JobStore, PortError, Result, SchemaStore};
use redis::{FromRedisValue as _, Pipeline, Value};
use std::sync::Arc;

/// The most hash tags: a cluster has no more slots.
const HASH_TAGS_MAX: u16 = 16_384;

/// What begins each certificate of a PEM file.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Redis, open. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Redis {
    connection: Arc<Connection>,
    claims: Arc<Claims>,
    documents: Arc<Documents>,
    schemas: Arc<Schemas>,
}

impl Redis {
    /// Checks the settings and makes what speaks to the server, which need not be there yet: it is
    /// connected to when it is first needed, and again whenever that is lost. Must be called within a
    /// runtime of tokio's.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be right, as a key prefix with a brace.
    pub fn open(config: &RedisConfig) -> Result<Self> {
        let invalid = |what: String| Err(PortError::new(ErrorKind::Invalid, "redis.open", what));
        if config.host.trim().is_empty() {
            return invalid("the host must be a name or an address".to_owned());
        }
        if config.key_prefix.contains(['{', '}']) {
            let prefix = &config.key_prefix;
            return invalid(format!("the key prefix `{prefix}` must have no braces: they mark the hash tag"));
        }
        if !(1..=HASH_TAGS_MAX).contains(&config.hash_tags) {
            return invalid(format!("{} hash tags are not between 1 and {HASH_TAGS_MAX}", config.hash_tags));
        }
        if config.username.is_some() && config.password.is_none() {
            return invalid("a user needs a password".to_owned());
        }
        // The client takes a file without any for one that trusts nobody.
        if config
            .tls_ca
            .as_ref()
            .is_some_and(|pem| !pem.windows(CERTIFICATE.len()).any(|it| it == CERTIFICATE))
        {
            return invalid(
                "who may sign the server's certificate must be given as certificates in PEM".to_owned(),
            );
        }
        let connection = Arc::new(Connection::open(config)?);
        let claims = Arc::new(Claims::new(connection.clone(), config));
        let documents = Arc::new(Documents::new(connection.clone(), config));
        let schemas = Arc::new(Schemas::new(connection.clone(), config));
        Ok(Self { connection, claims, documents, schemas })
    }

    /// The store of claims.
    pub fn idempotency(&self) -> Arc<dyn IdempotencyStore> {
        self.claims.clone()
    }

    /// The store of documents.
    pub fn jobs(&self) -> Arc<dyn JobStore> {
        self.documents.clone()
    }

    /// The store of schemas.
    pub fn schemas(&self) -> Arc<dyn SchemaStore> {
        self.schemas.clone()
    }

    /// Asks the server whether it serves, and whether it keeps what it is told.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`, `Denied`, as a call to the store would have.
    pub async fn check(&self) -> Result<RedisStatus> {
        const OPERATION: &str = "redis.check";
        let mut questions = Pipeline::with_capacity(4);
        questions.cmd("PING");
        for section in ["server", "persistence", "memory"] {
            questions.cmd("INFO").arg(section);
        }
        let mut answers = self.connection.send(&questions, OPERATION).await?.into_iter();
        if let Some(Value::ServerError(error)) = answers.next() {
            return Err(self.connection.refusal(error, OPERATION));
        }
        // Who may not ask is not told; that is no reason not to serve.
        let told: Vec<String> = answers.filter_map(|answer| String::from_redis_value(answer).ok()).collect();
        Ok(status(&told.join("\n")))
    }
}

/// Reads the sections of INFO.
fn status(info: &str) -> RedisStatus {
    let value = |name: &str| {
        let mut values = info.lines().filter_map(|line| line.split_once(':'));
        values.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    };
    let mut warnings = Vec::new();
    match value("aof_enabled") {
        None => warnings.push("it does not say whether it has an append-only file".to_owned()),
        Some("0") => warnings.push(
            "it has no append-only file, so that a crash forgets what it was told (set appendonly yes)"
                .to_owned(),
        ),
        Some(_) if value("aof_last_write_status").is_some_and(|status| status != "ok") => {
            warnings.push("it cannot write its append-only file".to_owned());
        }
        Some(_) => {}
    }
    let limited = value("maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = value("maxmemory_policy")
        && limited
        && policy != "noeviction"
    {
        warnings.push(format!(
            "it evicts keys when its memory is full ({policy}), and with them what it was told (set maxmemory-policy \
             noeviction)"
        ));
    }
    RedisStatus {
        version: value("redis_version").unwrap_or_default().to_owned(),
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Persistence\r\naof_enabled:1\r\n\
                        aof_last_write_status:ok\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";

    #[test]
    fn a_server_that_keeps_what_it_is_told_has_no_warning() {
        let status = status(GOOD);
        assert_eq!((status.version.as_str(), status.warning), ("7.0.15", None));
        // Nothing is evicted where there is no limit.
        assert_eq!(super::status(&GOOD.replace("noeviction", "allkeys-lru")).warning, None);
    }

    #[test]
    fn a_server_that_may_forget_is_warned_of() {
        for (from, to, word) in [
            ("aof_enabled:1", "aof_enabled:0", "appendonly yes"),
            ("aof_enabled:1", "x:1", "does not say"),
            ("status:ok", "status:err", "cannot write"),
        ] {
            let warning = status(&GOOD.replace(from, to)).warning.expect("it may forget");
            assert!(warning.contains(word), "{warning}");
        }
        let evicts = GOOD.replace("maxmemory:0", "maxmemory:1000").replace("noeviction", "volatile-ttl");
        let warning = status(&evicts).warning.expect("it may forget");
        assert!(warning.contains("volatile-ttl") && warning.contains("noeviction"), "{warning}");
    }

    #[tokio::test]
    async fn settings_that_cannot_be_right_are_refused() {
        let config = RedisConfig::default;
        for (config, word) in [
            (RedisConfig { key_prefix: "a{b}".to_owned(), ..config() }, "brace"),
            (RedisConfig { hash_tags: 0, ..config() }, "between 1 and 16384"),
            (RedisConfig { hash_tags: 16_385, ..config() }, "16385"),
            (RedisConfig { host: " ".to_owned(), ..config() }, "host"),
            (RedisConfig { username: Some("me".to_owned()), ..config() }, "password"),
            (RedisConfig { tls: true, tls_ca: Some(b"no PEM".to_vec()), ..config() }, "certificate"),
        ] {
            let error = Redis::open(&config).expect_err("it cannot be right");
            assert!(error.kind() == ErrorKind::Invalid && error.detail().contains(word), "{error}");
        }
    }
}

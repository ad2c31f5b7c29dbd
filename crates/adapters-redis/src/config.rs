//! What the adapter is told, and what it tells.

use std::{fmt, time::Duration};

/// The adapter's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database; a cluster has 0 alone.
    pub database: u16,
    /// The user of the server's access list; without one it is `default`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether the connection is encrypted, and the server's certificate checked.
    pub tls: bool,
    /// The certificates (PEM) of who may have signed the server's; without them those that the system
    /// trusts.
    pub tls_ca: Option<Vec<u8>>,
    /// What stands before every key; no braces.
    pub key_prefix: String,
    /// Over how many hash tags, and so over how many slots of a cluster, keys are spread; 1 to 16384.
    pub hash_tags: u16,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a whole call may take, connecting included.
    pub request_timeout: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 6379,
            database: 5,
            username: None,
            password: None,
            tls: false,
            tls_ca: None,
            key_prefix: "event-streaming:".to_owned(),
            hash_tags: 1,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("tls", &self.tls)
            .field("key_prefix", &self.key_prefix)
            .field("hash_tags", &self.hash_tags)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisStatus {
    /// Its version; empty where it does not tell.
    pub version: String,
    /// Why it may forget what it was told: one sentence for a person, or nothing.
    pub warning: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let config = RedisConfig { password: Some("hunter2".to_owned()), ..RedisConfig::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("(hidden)") && !shown.contains("hunter2"), "{shown}");
    }
}

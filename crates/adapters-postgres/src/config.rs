//! What the adapter is told, and what it tells.

use std::{fmt, time::Duration};

/// The adapter's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters as `?sslmode=verify-full`.
    pub url: String,
    /// The password, which beats the one in the URL.
    pub password: Option<String>,
    /// The schema that everything is in: a letter or underscore, then letters, digits and underscores, all
    /// in lower case, 40 at most.
    pub schema: String,
    /// The most connections.
    pub connections_max: u32,
    /// How long a call may wait for a connection.
    pub acquire_timeout: Duration,
    /// How long a whole call may take, and a statement at the server.
    pub request_timeout: Duration,
    /// How often what is over is deleted.
    pub cleanup_interval: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            password: None,
            schema: "event_streaming".to_owned(),
            connections_max: 10,
            acquire_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            cleanup_interval: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("PostgresConfig")
            .field("schema", &self.schema)
            .field("connections_max", &self.connections_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("cleanup_interval", &self.cleanup_interval)
            .finish_non_exhaustive()
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresStatus {
    /// Its version.
    pub version: String,
    /// Why it may forget what it was told: one sentence for a person, or nothing.
    pub warning: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let url = "postgres://me:hunter2@localhost/x".to_owned();
        let config =
            PostgresConfig { url, password: Some("hunter2".to_owned()), ..PostgresConfig::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("event_streaming") && !shown.contains("hunter2"), "{shown}");
    }
}

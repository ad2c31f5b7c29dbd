//! What the adapter is told.

use std::{fmt, time::Duration};

/// The adapter's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Where the registry is: `http` or `https`, with the path before `/subjects`. Several are replicas of one
    /// registry, of which the first that answers is kept to.
    pub urls: Vec<String>,
    /// Who asks, by basic authentication.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Certificates, in PEM, that are trusted beside the system's.
    pub ca: Option<Vec<u8>>,
    /// How long a TCP connection may take.
    pub connect_timeout: Duration,
    /// How long one request may take, with its answer.
    pub request_timeout: Duration,
    /// How often a request is made at most.
    pub attempts: u32,
    /// The delay before the second attempt; each is twice the one before it, and random from its half on.
    pub retry_delay: Duration,
    /// The most bytes of an answer.
    pub response_bytes_max: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            username: None,
            password: None,
            ca: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            attempts: 3,
            retry_delay: Duration::from_millis(100),
            response_bytes_max: 16 << 20,
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("urls", &self.urls.len())
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("ca", &self.ca.as_ref().map(Vec::len))
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("attempts", &self.attempts)
            .field("retry_delay", &self.retry_delay)
            .field("response_bytes_max", &self.response_bytes_max)
            .finish()
    }
}

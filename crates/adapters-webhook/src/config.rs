//! What the adapter is told.

use crate::allow::AllowList;
use std::{path::PathBuf, time::Duration};

/// The adapter's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// What may be reached beside public addresses.
    pub allow: AllowList,
    /// The most bytes of an answer's body; a longer answer is a failure.
    pub response_bytes_max: usize,
    /// How long it may take to have a connection: the name's lookup, TCP and TLS.
    pub connect_timeout: Duration,
    /// The most requests at once; further ones wait, within their time.
    pub requests_max: usize,
    /// The most idle connections that are kept for one host.
    pub idle_per_host_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Certificates, in PEM, that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            allow: AllowList::default(),
            response_bytes_max: 64 << 10,
            connect_timeout: Duration::from_secs(5),
            requests_max: 1024,
            idle_per_host_max: 32,
            idle_timeout: Duration::from_secs(30),
            ca_file: None,
        }
    }
}

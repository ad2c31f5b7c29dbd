//! The settings of the front.

use std::time::Duration;

/// How HTTP is served. What a request may hold is said by [`domain::Limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// What stands before every path, as `/event-streaming`; empty for nothing.
    pub base_path: String,
    /// The most connections at a time. Further ones wait in the listener's backlog.
    pub connections_max: usize,
    /// The most bytes of a request's head.
    pub header_bytes_max: usize,
    /// The most headers of a request.
    pub headers_max: usize,
    /// How long a client may take for a request's head, from its first byte on. It is looked at once in
    /// this time, so that a connection ends after twice that at the latest.
    pub header_timeout: Duration,
    /// How long a connection may lie still between requests, or with an answer that is not read.
    pub idle_timeout: Duration,
    /// How long a client may pause within a request's body.
    pub body_idle_timeout: Duration,
    /// How long a client may take for the whole of a request's body.
    pub body_timeout: Duration,
    /// How long a silent tail waits before it sends a comment, so that the connection is seen to live.
    pub heartbeat: Duration,
    /// How long requests that are being answered may take once the server is told to stop.
    pub drain_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            base_path: "/event-streaming".into(),
            connections_max: 10_000,
            header_bytes_max: 32 << 10,
            headers_max: 128,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            body_idle_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(120),
            heartbeat: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

//! Requests to addresses that users name.

use crate::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt::Debug, time::Duration};

/// A POST to somebody else's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Where to; `http` or `https`.
    pub url: String,
    /// Names in lower case; the host and the length come by themselves.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
    /// For the whole of it: resolving, connecting, sending, and the answer with its body.
    pub timeout: Duration,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookResponse {
    /// The status.
    pub status: u16,
    /// `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
    /// The body, whole.
    pub body: Bytes,
}

/// Makes requests, and reaches no address that it must not.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Webhooks: Debug + Send + Sync + 'static {
    /// Whether requests to this address can be made at all, as far as that can be told without making
    /// one: its scheme, its host where that is an address, its length.
    ///
    /// # Errors
    /// `Invalid` or `Denied`; the detail says what is wrong and what would be right, to be put after the
    /// field's name.
    fn check(&self, url: &str) -> Result<()>;

    /// Makes one request. Follows no redirect: it is an answer like others.
    ///
    /// # Errors
    /// `Unavailable` with no effect: no connection could be made (name, refused, TLS), so nothing reached
    /// the server. `Denied`: the name resolves to an address that must not be reached. `Timeout`,
    /// `Unavailable` with the effect unknown: the connection failed on the way. `TooLarge`: the answer was
    /// larger than what is read; `Invalid`: it was no HTTP.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection; the effect is unknown.
    async fn post(&self, request: WebhookRequest) -> Result<WebhookResponse>;
}

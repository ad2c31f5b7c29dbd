//! The event streaming port for webhooks ([`ports::Webhooks`]), over an HTTP client of its own.
//!
//! Users name the addresses, so that requests must not reach what only this machine or its network may:
//!
//! 1. **What is connected to is what was checked.** A name is resolved once, the addresses that must not be
//!    reached are struck out, and the connection goes to one of those that are left. A name that answers
//!    differently the next time gains nothing.
//! 2. **Whatever is not plainly public is refused**: private, shared, loopback, link-local, multicast, reserved
//!    and documentation addresses, and the IPv4 addresses that stand inside of IPv6 ones. The allow list
//!    ([`AllowList`]) lifts that.
//! 3. **No redirect is followed**, no proxy is taken from the environment, no cookie is kept.
//! 4. **TLS is always verified**, by the system's certificates and those of a file.
//! 5. **Everything has a bound**: the answer's head and body, the time for connecting and for the whole,
//!    requests at once, connections kept, lookups of names.
//!
//! | feature | what it pulls |
//! | --- | --- |
//! | `webhook` (default) | hyper, and rustls with ring |
//!
//! Without `webhook` the crate still compiles, and its [`HttpWebhooks`] refuses every address as
//! `Unsupported`.
//!
//! This crate must never know what a request means to its receiver: formats, signatures and the meaning of
//! answers are the domain's.

mod allow;
#[cfg(feature = "webhook")]
mod client;
mod config;
#[cfg(not(feature = "webhook"))]
mod without;

#[cfg(feature = "webhook")]
pub use client::HttpWebhooks;
#[cfg(not(feature = "webhook"))]
pub use without::HttpWebhooks;

pub use allow::{AllowError, AllowList};
pub use config::WebhookConfig;

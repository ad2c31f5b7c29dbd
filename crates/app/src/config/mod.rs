//! What the service is told: read in layers ([`load`]), checked, and shown ([`show`]).
//!
//! `config.default.yaml` is the one place of the default values; the structs here have none.

mod domain;
mod error;
mod fronts;
mod kafka;
mod layers;
mod load;
mod metadata;
mod schemas;
mod show;
mod state;
mod stores;
mod units;
mod values;
mod webhooks;

#[cfg(test)]
mod tests;

pub(crate) use error::ConfigError;
pub(crate) use load::{Loaded, Sources, load};
pub(crate) use state::{BACKEND as STATE_BACKEND, Servers, StateBackend};
pub(crate) use stores::{BACKEND as IDEMPOTENCY_BACKEND, IdempotencyBackend};
pub(crate) use values::{Config, LogBackend, LogFormat};

/// The commented defaults, which are read as the first layer.
pub(crate) const DEFAULTS: &str = include_str!("../../config.default.yaml");

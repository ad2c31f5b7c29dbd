//! What stands here when no client was built in.

use crate::config::RegistryConfig;
use ports::{ErrorKind, PortError, Result, SchemaRegistry};
use std::{convert::Infallible, sync::Arc};

/// A registry outside, which this build has no client for.
#[derive(Clone, Debug)]
pub struct ConfluentRegistry(Infallible);

impl ConfluentRegistry {
    /// Says that the client is missing.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn open(_config: &RegistryConfig) -> Result<Self> {
        Err(PortError::new(
            ErrorKind::Unsupported,
            "schema_registry.open",
            "this program was built without `registry`; build it with the feature `registry`, or keep schemas in the \
             state",
        ))
    }

    /// The registry.
    pub fn registry(&self) -> Arc<dyn SchemaRegistry> {
        match self.0 {}
    }

    /// Where it is.
    pub fn urls(&self) -> Vec<String> {
        match self.0 {}
    }
}

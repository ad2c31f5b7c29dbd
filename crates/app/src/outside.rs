//! A schema registry of somebody else's, behind a circuit.

use adapters_registry::{ConfluentRegistry, RegistryConfig};
use domain::breaker::{Breaker, GuardedRegistry, REGISTRY};
use ports::{Clock, PortError, Result, SchemaRegistry};
use std::sync::Arc;

/// As its circuit is called.
const NAME: &str = "schema-registry";

/// A registry outside.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    client: ConfluentRegistry,
    pub(crate) breaker: Arc<Breaker>,
}

impl Outside {
    /// Makes its client. Waits for nothing.
    ///
    /// # Errors
    /// Where the client refuses its settings or was not built in; the text names the setting that wants it.
    pub(crate) fn open(config: &RegistryConfig, clock: &Arc<dyn Clock>) -> Result<Self> {
        let client = ConfluentRegistry::open(config).map_err(|error| {
            let text = format!("schema-registry.backend is confluent: {}", error.detail());
            PortError::new(error.kind(), error.operation(), text).with_source(error)
        })?;
        let breaker = Arc::new(Breaker::new(NAME, REGISTRY, clock.clone()));
        Ok(Self { client, breaker })
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Arc<dyn SchemaRegistry> {
        Arc::new(GuardedRegistry::new(self.client.registry(), self.breaker.clone()))
    }

    /// Where it is.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.client.urls()
    }
}

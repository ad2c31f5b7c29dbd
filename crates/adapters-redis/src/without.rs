//! What stands here when no client was built in.

use crate::config::{RedisConfig, RedisStatus};
use ports::{ErrorKind, IdempotencyStore, JobStore, PortError, Result, SchemaStore};
use std::{convert::Infallible, sync::Arc};

/// Redis, which this build has no client for.
#[derive(Clone, Debug)]
pub struct Redis(Infallible);

impl Redis {
    /// Says that the client is missing.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn open(_config: &RedisConfig) -> Result<Self> {
        Err(PortError::new(
            ErrorKind::Unsupported,
            "redis.open",
            "this program was built without `redis`; build it with the feature `redis`, or use the embedded store",
        ))
    }

    /// The store of claims.
    pub fn idempotency(&self) -> Arc<dyn IdempotencyStore> {
        match self.0 {}
    }

    /// The store of documents.
    pub fn jobs(&self) -> Arc<dyn JobStore> {
        match self.0 {}
    }

    /// The store of schemas.
    pub fn schemas(&self) -> Arc<dyn SchemaStore> {
        match self.0 {}
    }

    /// Asks the server how it is.
    ///
    /// # Errors
    /// None: there is no server.
    #[allow(clippy::unused_async, reason = "the same call as where the client is built in")]
    pub async fn check(&self) -> Result<RedisStatus> {
        match self.0 {}
    }
}

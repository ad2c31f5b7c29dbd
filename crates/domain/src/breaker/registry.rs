//! A schema registry of somebody else's behind a circuit.

use super::Breaker;
use async_trait::async_trait;
use ports::{
    Asked, RegistryAgainst, RegistryCheck, RegistryError, RegistrySchema, RegistryVersion, SchemaKey,
    SchemaRegistry, VersionKey,
};
use std::sync::Arc;

/// A schema registry that is left alone while it does not serve. What it refuses says that it does. Otherwise as the
/// registry itself.
#[derive(Debug)]
pub struct GuardedRegistry {
    registry: Arc<dyn SchemaRegistry>,
    breaker: Arc<Breaker>,
}

impl GuardedRegistry {
    /// Puts `breaker` before `registry`.
    pub fn new(registry: Arc<dyn SchemaRegistry>, breaker: Arc<Breaker>) -> Self {
        Self { registry, breaker }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Asked<T>> + Send,
    ) -> Asked<T> {
        let reached = async {
            match asked.await {
                Ok(answer) => Ok(Ok(answer)),
                Err(RegistryError::Refused(refusal)) => Ok(Err(refusal)),
                Err(RegistryError::Failed(error)) => Err(error),
            }
        };
        self.breaker.call(operation, reached).await?.map_err(RegistryError::Refused)
    }
}

#[async_trait]
impl SchemaRegistry for GuardedRegistry {
    async fn ping(&self) -> Asked<()> {
        self.call("schema_registry.ping", self.registry.ping()).await
    }

    async fn schema(&self, key: &SchemaKey) -> Asked<RegistrySchema> {
        self.call("schema_registry.schema", self.registry.schema(key)).await
    }

    async fn version(&self, subject: &str, version: Option<u32>, deleted: bool) -> Asked<RegistryVersion> {
        self.call("schema_registry.version", self.registry.version(subject, version, deleted)).await
    }

    async fn versions(&self, subject: &str, deleted: bool) -> Asked<Vec<u32>> {
        self.call("schema_registry.versions", self.registry.versions(subject, deleted)).await
    }

    async fn uses(&self, key: &SchemaKey, deleted: bool) -> Asked<Vec<VersionKey>> {
        self.call("schema_registry.uses", self.registry.uses(key, deleted)).await
    }

    async fn subjects(&self, deleted: bool) -> Asked<Vec<String>> {
        self.call("schema_registry.subjects", self.registry.subjects(deleted)).await
    }

    async fn lookup(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
        deleted: bool,
    ) -> Asked<RegistryVersion> {
        let asked = self.registry.lookup(subject, schema, normalize, deleted);
        self.call("schema_registry.lookup", asked).await
    }

    async fn register(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
    ) -> Asked<RegistryVersion> {
        self.call("schema_registry.register", self.registry.register(subject, schema, normalize)).await
    }

    async fn check(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        against: RegistryAgainst,
        normalize: bool,
    ) -> Asked<RegistryCheck> {
        self.call("schema_registry.check", self.registry.check(subject, schema, against, normalize)).await
    }
}

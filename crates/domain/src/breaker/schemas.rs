//! A store of schemas behind a circuit.

use super::Breaker;
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    Fingerprint, Result, Revision, SchemaChange, SchemaChanged, SchemaKey, SchemaSetting, SchemaStore,
    StoredSchema, StoredSubject, VersionKey,
};
use std::sync::Arc;

/// A store of schemas that is left alone while it does not serve. Otherwise as the store itself.
#[derive(Debug)]
pub struct GuardedSchemas {
    store: Arc<dyn SchemaStore>,
    breaker: Arc<Breaker>,
}

impl GuardedSchemas {
    /// Puts `breaker` before `store`; it may stand before other calls to the same server too.
    pub fn new(store: Arc<dyn SchemaStore>, breaker: Arc<Breaker>) -> Self {
        Self { store, breaker }
    }
}

#[async_trait]
impl SchemaStore for GuardedSchemas {
    async fn revision(&self) -> Result<Revision> {
        self.breaker.call("schema_store.revision", self.store.revision()).await
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>> {
        self.breaker.call("schema_store.schemas", self.store.schemas(keys)).await
    }

    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>> {
        self.breaker.call("schema_store.find", self.store.find(fingerprint)).await
    }

    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>> {
        self.breaker.call("schema_store.subjects", self.store.subjects(names)).await
    }

    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>> {
        self.breaker.call("schema_store.list", self.store.list(prefix, after, limit)).await
    }

    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>> {
        self.breaker.call("schema_store.uses", self.store.uses(key)).await
    }

    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>> {
        self.breaker.call("schema_store.referrers", self.store.referrers(subject)).await
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        self.breaker.call("schema_store.settings", self.store.settings(setting, scopes)).await
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged> {
        self.breaker.call("schema_store.change", self.store.change(expected, change)).await
    }
}

//! A store of documents behind a circuit.

use super::Breaker;
use async_trait::async_trait;
use bytes::Bytes;
use ports::{Expected, JobKind, JobStore, Result, Stored};
use std::sync::Arc;

/// A store of documents that is left alone while it does not serve. Otherwise as the store itself.
#[derive(Debug)]
pub struct GuardedJobs {
    store: Arc<dyn JobStore>,
    breaker: Arc<Breaker>,
}

impl GuardedJobs {
    /// Puts `breaker` before `store`; it may stand before other calls to the same server too.
    pub fn new(store: Arc<dyn JobStore>, breaker: Arc<Breaker>) -> Self {
        Self { store, breaker }
    }
}

#[async_trait]
impl JobStore for GuardedJobs {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        self.breaker.call("job_store.get", self.store.get(kind, name)).await
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        self.breaker.call("job_store.list", self.store.list(kind)).await
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64> {
        self.breaker.call("job_store.put", self.store.put(kind, name, expected, value)).await
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        self.breaker.call("job_store.delete", self.store.delete(kind, name, version)).await
    }
}

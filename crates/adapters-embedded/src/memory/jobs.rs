//! Documents in a map.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{ErrorKind, Expected, JobKind, JobStore, PortError, Result, Stored};
use std::collections::BTreeMap;

/// `JobStore` in memory.
#[derive(Debug, Default)]
pub struct MemoryJobs(Mutex<Documents>);

#[derive(Debug, Default)]
struct Documents {
    stored: BTreeMap<(JobKind, String), Stored>,
    /// The last version that was given, to any document, so that none is given twice.
    version: u64,
}

impl Documents {
    fn expect(&self, operation: &'static str, key: &(JobKind, String), expected: Expected) -> Result<()> {
        let found = self.stored.get(key).map(|stored| stored.version);
        let wanted = match expected {
            Expected::Absent => None,
            Expected::Version(version) => Some(version),
        };
        if found == wanted {
            return Ok(());
        }
        let (kind, name) = (key.0.as_str(), &key.1);
        let detail = format!("{kind} {name:?} has version {found:?}, expected was {wanted:?}");
        Err(PortError::new(ErrorKind::Conflict, operation, detail))
    }
}

#[async_trait]
impl JobStore for MemoryJobs {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        Ok(self.0.lock().stored.get(&(kind, name.to_owned())).cloned())
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        let documents = self.0.lock();
        Ok(documents
            .stored
            .iter()
            .filter(|((of, _), _)| *of == kind)
            .map(|(_, stored)| stored.clone())
            .collect())
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64> {
        let mut documents = self.0.lock();
        let key = (kind, name.to_owned());
        documents.expect("job_store.put", &key, expected)?;
        documents.version += 1;
        let version = documents.version;
        documents.stored.insert(key, Stored { name: name.to_owned(), version, value });
        Ok(version)
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        let mut documents = self.0.lock();
        let key = (kind, name.to_owned());
        documents.expect("job_store.delete", &key, Expected::Version(version))?;
        documents.stored.remove(&key);
        Ok(())
    }
}

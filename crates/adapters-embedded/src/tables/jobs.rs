//! Documents.

use super::{
    Tables, fault,
    schema::{DOCUMENTS, META, META_VERSION},
    store::Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore, PortError, Result, Stored};
use redb::{Error, ReadTransaction, ReadableTable};

impl Tables {
    /// Reads where it may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Error> + Send + 'static,
    ) -> Result<T> {
        let store = self.0.store.clone();
        let reading = move |store: &Store| {
            let transaction = store.read(operation)?;
            read(&transaction).map_err(|error| fault::port_error(operation, error))
        };
        match tokio::task::spawn_blocking(move || reading(&store)).await {
            Ok(result) => result,
            Err(error) => Err(PortError::new(ErrorKind::Unavailable, operation, error.to_string())),
        }
    }
}

fn stored(name: &str, (version, value): (u64, &[u8])) -> Stored {
    Stored { name: name.to_owned(), version, value: Bytes::copy_from_slice(value) }
}

/// Whether what is there is what is expected.
fn check(
    operation: &'static str,
    (kind, name): (JobKind, &str),
    found: Option<u64>,
    expected: Expected,
) -> Result<()> {
    let wanted = match expected {
        Expected::Absent => None,
        Expected::Version(version) => Some(version),
    };
    if found == wanted {
        return Ok(());
    }
    let say = |version: Option<u64>| {
        version.map_or("no version".to_owned(), |version| format!("version {version}"))
    };
    let detail = format!("{} {name:?} has {}, expected was {}", kind.as_str(), say(found), say(wanted));
    Err(PortError::new(ErrorKind::Conflict, operation, detail))
}

#[async_trait]
impl JobStore for Tables {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        let name = name.to_owned();
        self.read("job_store.get", move |transaction| {
            let found = transaction.open_table(DOCUMENTS)?.get((kind.as_str(), name.as_str()))?;
            Ok(found.map(|found| stored(&name, found.value())))
        })
        .await
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        self.read("job_store.list", move |transaction| {
            let documents = transaction.open_table(DOCUMENTS)?;
            let mut list = Vec::new();
            for entry in documents.range((kind.as_str(), "")..)? {
                let (key, value) = entry?;
                let (of, name) = key.value();
                if of != kind.as_str() {
                    break;
                }
                list.push(stored(name, value.value()));
            }
            Ok(list)
        })
        .await
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64> {
        const OPERATION: &str = "job_store.put";
        let name = name.to_owned();
        self.write(OPERATION, move |transaction| {
            let mut documents = transaction.open_table(DOCUMENTS)?;
            let key = (kind.as_str(), name.as_str());
            let found = documents.get(key)?.map(|found| found.value().0);
            if let Err(refused) = check(OPERATION, (kind, &name), found, expected) {
                return Ok(Err(refused));
            }
            // Counted over all documents and never back, so that no document gets a version twice.
            let mut meta = transaction.open_table(META)?;
            let version = meta.get(META_VERSION)?.map_or(0, |last| last.value()) + 1;
            meta.insert(META_VERSION, version)?;
            documents.insert(key, (version, &*value))?;
            Ok(Ok(version))
        })
        .await
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        const OPERATION: &str = "job_store.delete";
        let name = name.to_owned();
        self.write(OPERATION, move |transaction| {
            let mut documents = transaction.open_table(DOCUMENTS)?;
            let key = (kind.as_str(), name.as_str());
            let found = documents.get(key)?.map(|found| found.value().0);
            if let Err(refused) = check(OPERATION, (kind, &name), found, Expected::Version(version)) {
                return Ok(Err(refused));
            }
            documents.remove(key)?;
            Ok(Ok(()))
        })
        .await
    }
}

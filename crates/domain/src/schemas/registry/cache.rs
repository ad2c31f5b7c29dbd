//! What is kept in memory: contents and parsed schemas by id, which never change, and subjects for a moment.
//!
//! Each has a bound in bytes; what is asked for by many at once is loaded once. Nothing is kept of what is not
//! there, so that a schema that comes later is found.

use super::{RegistryConfig, error::Result, error::SchemaError, lookup::Kept};
use crate::schemas::ParsedSchema;
use moka::future::Cache as Moka;
use ports::{Monotonic, SchemaKey, StoredSubject};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A parsed schema counts as so many times its text.
const PARSED_WEIGHT: u32 = 8;
/// Subjects that are known for a moment.
const SUBJECTS_MAX: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Cache {
    contents: Moka<SchemaKey, Arc<Kept>>,
    parsed: Moka<SchemaKey, ParsedSchema>,
    subjects: Moka<String, Arc<Known>>,
    subject_ttl: Duration,
    /// How often something was changed here. What was read before a change is not known any more after it.
    changes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A subject as it was at a time.
#[derive(Debug)]
struct Known {
    subject: Arc<StoredSubject>,
    at: Monotonic,
    changes: u64,
}

impl Cache {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        let bytes = config.cache_bytes_max;
        let of_content = |_: &SchemaKey, kept: &Arc<Kept>| kept.content.weight();
        let of_parsed = |_: &SchemaKey, parsed: &ParsedSchema| {
            let bytes = u32::try_from(parsed.canonical().len()).unwrap_or(u32::MAX);
            bytes.saturating_mul(PARSED_WEIGHT).saturating_add(4096)
        };
        Self {
            contents: Moka::builder().max_capacity(bytes / 4).weigher(of_content).build(),
            parsed: Moka::builder().max_capacity(bytes - bytes / 4).weigher(of_parsed).build(),
            subjects: Moka::new(SUBJECTS_MAX),
            subject_ttl: config.subject_ttl,
            changes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The content of a schema that is kept here.
    pub(super) async fn content(&self, key: &SchemaKey) -> Option<Arc<Kept>> {
        let found = self.contents.get(key).await;
        self.count(found.is_some());
        found
    }

    /// The content of a schema, loaded where it is not kept.
    pub(super) async fn content_or(
        &self,
        key: &SchemaKey,
        load: impl Future<Output = Result<Arc<Kept>>>,
    ) -> Result<Arc<Kept>> {
        if let Some(found) = self.content(key).await {
            return Ok(found);
        }
        flight(self.contents.try_get_with_by_ref(key, load).await)
    }

    pub(super) async fn keep_content(&self, key: SchemaKey, kept: Arc<Kept>) {
        self.contents.insert(key, kept).await;
    }

    /// A parsed schema that is kept here. What is not is no miss: nothing is loaded for it.
    pub(super) async fn parsed(&self, key: &SchemaKey) -> Option<ParsedSchema> {
        let found = self.parsed.get(key).await;
        if found.is_some() {
            self.count(true);
        }
        found
    }

    /// A parsed schema, parsed where it is not kept.
    pub(super) async fn parsed_or(
        &self,
        key: &SchemaKey,
        parse: impl Future<Output = Result<ParsedSchema>>,
    ) -> Result<ParsedSchema> {
        let found = self.parsed.get(key).await;
        self.count(found.is_some());
        match found {
            Some(found) => Ok(found),
            None => flight(self.parsed.try_get_with_by_ref(key, parse).await),
        }
    }

    pub(super) async fn keep_parsed(&self, key: SchemaKey, parsed: ParsedSchema) {
        self.parsed.insert(key, parsed).await;
    }

    /// A subject as it is, or was a moment ago.
    pub(super) async fn subject_or(
        &self,
        name: &str,
        now: Monotonic,
        load: impl Future<Output = Result<Arc<StoredSubject>>>,
    ) -> Result<Arc<StoredSubject>> {
        let changes = self.changes.load(Relaxed);
        let found = self.subjects.get(name).await;
        let found = found.filter(|known| known.changes == changes && now.since(known.at) < self.subject_ttl);
        self.count(found.is_some());
        if let Some(known) = found {
            return Ok(known.subject.clone());
        }
        // One that is too old is in the way of the next.
        self.subjects.invalidate(name).await;
        let load = async { Ok(Arc::new(Known { subject: load.await?, at: now, changes })) };
        flight(self.subjects.try_get_with_by_ref(name, load).await).map(|known| known.subject.clone())
    }

    /// Something was changed here: whoever asks next gets what it is now.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    /// What is gone from the store.
    pub(super) async fn forget(&self, key: &SchemaKey) {
        self.contents.invalidate(key).await;
        self.parsed.invalidate(key).await;
    }

    /// How often something was found here, and how often not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }

    /// How many parsed schemas are kept.
    pub(super) async fn entries(&self) -> u64 {
        // What was put in and taken out is counted a while later otherwise.
        self.parsed.run_pending_tasks().await;
        self.parsed.entry_count()
    }

    fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
    }
}

/// All who waited for one load are told of its failure.
fn flight<T>(result: std::result::Result<T, Arc<SchemaError>>) -> Result<T> {
    result.map_err(|error| (*error).clone())
}

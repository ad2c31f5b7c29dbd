//! How many subjects, versions and schemas there are.

use super::{Registry, content::tag, error::Result, is_live, live};
use crate::schemas::SchemaType;
use parking_lot::Mutex;
use ports::Revision;

/// What a registry holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Subjects with a live version.
    pub subjects: u64,
    /// Live versions; `None` where the schemas are in a registry outside, which does not count them.
    pub versions: Option<u64>,
    /// Versions that were deleted softly; `None` as for `versions`.
    pub deleted_versions: Option<u64>,
    /// Contexts with a live version.
    pub contexts: u64,
    /// Live versions by the format of their schemas, for every format; empty where they are not counted.
    pub by_type: Vec<(SchemaType, u64)>,
}

/// How this process's memory of schemas does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// How often something was found in memory.
    pub hits: u64,
    /// How often it was not.
    pub misses: u64,
    /// How many parsed schemas are kept.
    pub entries: u64,
}

impl CacheStatistics {
    /// The share of what was found, from 0 to 1; 0 where nothing was asked for.
    pub fn hit_rate(&self) -> f64 {
        let all = self.hits + self.misses;
        if all == 0 { 0.0 } else { self.hits as f64 / all as f64 }
    }
}

/// What was counted, and at which revision that was.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<(Revision, Statistics)>>);

impl Registry {
    /// What there is. Counted when it has changed since it was last asked for, and remembered until then.
    ///
    /// Of a registry outside subjects and contexts are counted, once a minute at most; it is asked each time whether
    /// it serves.
    pub async fn statistics(&self) -> Result<Statistics> {
        if let Some(outside) = self.home_outside() {
            return outside.statistics(self.clock.monotonic()).await;
        }
        let revision = self.store()?.revision().await?;
        if let Some((at, statistics)) = &*self.statistics.0.lock()
            && *at == revision
        {
            return Ok(statistics.clone());
        }
        let (mut counted, mut versions, mut deleted_versions) = (Statistics::default(), 0, 0);
        let mut by_tag = [0; 256];
        let mut contexts = std::collections::BTreeSet::new();
        self.each_subject("", |subject| {
            counted.subjects += u64::from(is_live(&subject));
            for version in live(&subject) {
                versions += 1;
                by_tag[usize::from(version.tag)] += 1;
            }
            deleted_versions += subject.versions.iter().filter(|it| it.deleted).count() as u64;
            if is_live(&subject) {
                contexts.insert(subject.context);
            }
            true
        })
        .await?;
        (counted.versions, counted.deleted_versions) = (Some(versions), Some(deleted_versions));
        counted.contexts = contexts.len() as u64;
        counted.by_type = SchemaType::ALL.map(|of| (of, by_tag[usize::from(tag(of))])).to_vec();
        *self.statistics.0.lock() = Some((revision, counted.clone()));
        Ok(counted)
    }

    /// How this process's memory of schemas does.
    pub async fn cache_statistics(&self) -> CacheStatistics {
        let (hits, misses) = self.cache.counts();
        CacheStatistics { hits, misses, entries: self.cache.entries().await }
    }
}

//! The schema registry: which schema is which version of which subject, by Confluent's rules.
//!
//! Invariants, for any number of replicas over one store:
//! 1. Equal contents (type, canonical text, references, metadata, rules) of one context have one id, unless ids
//!    were imported; ids are 1, 2, 3… without gaps, and none is given to two contents.
//! 2. Versions of a subject are 1, 2, 3… in the order of their registrations; what was registered is not lost, and
//!    registering it again gives the same version.
//! 3. A version fits those that were there when it was registered, by the level that held then.
//! 4. What a schema refers to is there as long as the schema is: a reference is taken only to a version that is not
//!    deleted, and holds it. A reference is to a version that was there before, so there are no cycles.
//!
//! They hold because every decision is made on what was read after the store's revision was asked for, and takes
//! effect at that revision only; a change that lost is decided anew. Within a process changes wait for each other,
//! so that they do not lose to their own kind.
//!
//! Reading goes to the store, so that writers read what they wrote at any replica. What never changes is kept: the
//! contents and parsed schemas by id. [`Registry::current`] alone answers from what was known a moment ago.
//!
//! Or the schemas are in a registry outside, whose rules hold then (`outside`): the invariants are its own to keep.

mod cache;
mod checking;
mod content;
mod deleting;
mod error;
mod listing;
mod lookup;
mod outside;
mod references;
mod registering;
mod settings;
mod statistics;
mod subject;

pub use checking::{Against, Check};
pub use content::{Content, Reference};
pub use error::{Reason, Result, SchemaError};
pub use listing::{Deleted, Page};
pub use lookup::{Registered, Schema, VersionSelector};
pub use registering::{NewReference, NewSchema, Position};
pub use settings::{Config, Mode, level_from_name};
pub use statistics::{CacheStatistics, Statistics};
pub use subject::{Part, Subject, SubjectNameStrategy, SubjectPrefix};

use crate::schemas::CompatibilityLevel;
use cache::Cache;
use futures::future::BoxFuture;
use outside::Outside;
use ports::{Clock, SchemaRegistry, SchemaStore, StoredSubject, SubjectVersion};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, Semaphore};

/// How many subjects are read from the store at once.
const PAGE: usize = 500;
/// So often a change that loses to other replicas' is decided anew.
const ATTEMPTS: u32 = 100;
/// So many schemas are parsed or compared at a time; further ones wait. It is work for a processor, and small
/// calls are not to wait behind it.
const PARSERS: usize = 4;

/// How the registry works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The compatibility level where none is set.
    pub level: CompatibilityLevel,
    /// The most bytes of contents and parsed schemas that are kept in memory, about.
    pub cache_bytes_max: u64,
    /// For how long [`Registry::current`] may answer what it knew.
    pub subject_ttl: Duration,
    /// The most versions of a subject.
    pub versions_max: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            level: CompatibilityLevel::FullTransitive,
            cache_bytes_max: 64 << 20,
            subject_ttl: Duration::from_secs(5),
            versions_max: 10_000,
        }
    }
}

/// The registry. Shared by all who use it.
///
/// Dropping a call that reads does nothing; one that changes may still take effect.
#[derive(Debug)]
pub struct Registry {
    home: Home,
    clock: Arc<dyn Clock>,
    config: RegistryConfig,
    cache: Cache,
    statistics: statistics::Kept,
    /// Whose turn it is to change something.
    turn: Mutex<()>,
    parsers: Arc<Semaphore>,
}

/// Where schemas are.
#[derive(Debug)]
enum Home {
    /// Kept by this service, by the rules here.
    Store(Arc<dyn SchemaStore>),
    /// In a registry of somebody else's, by its own.
    Outside(Outside),
}

impl Registry {
    /// A registry over what `store` keeps.
    pub fn new(store: Arc<dyn SchemaStore>, clock: Arc<dyn Clock>, config: RegistryConfig) -> Self {
        Self::of(Home::Store(store), clock, config)
    }

    /// What there is of `registry`, another one, whose rules hold: schemas are looked up and registered there, and its
    /// refusals are handed on with their codes. What whoever writes and reads values does not need (settings,
    /// deletions, lists of schemas) is `NotSupported` here, so that nobody does by this service's credentials what is
    /// the operator's to do there.
    pub fn outside(registry: Arc<dyn SchemaRegistry>, clock: Arc<dyn Clock>, config: RegistryConfig) -> Self {
        Self::of(Home::Outside(Outside::new(registry)), clock, config)
    }

    fn of(home: Home, clock: Arc<dyn Clock>, config: RegistryConfig) -> Self {
        Self {
            home,
            clock,
            cache: Cache::new(&config),
            config,
            statistics: statistics::Kept::default(),
            turn: Mutex::new(()),
            parsers: Arc::new(Semaphore::new(PARSERS)),
        }
    }

    /// The store, for what is asked of it alone.
    fn store(&self) -> Result<&dyn SchemaStore> {
        match &self.home {
            Home::Store(store) => Ok(&**store),
            Home::Outside(_) => Err(outside::elsewhere()),
        }
    }

    /// The registry outside, where schemas are in one.
    fn home_outside(&self) -> Option<&Outside> {
        match &self.home {
            Home::Store(_) => None,
            Home::Outside(outside) => Some(outside),
        }
    }

    /// Makes a change, deciding anew while other replicas are faster. `attempt` asks for the revision first.
    async fn change<'a, T>(&self, attempt: impl Fn() -> BoxFuture<'a, Result<T>> + Send) -> Result<T> {
        let _turn = self.turn.lock().await;
        for _ in 1..ATTEMPTS {
            match attempt().await {
                Err(error) if error.is_lost() => {}
                other => return other,
            }
        }
        attempt().await
    }

    /// Does what keeps a processor busy where it is in nobody's way.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.parsers.clone().acquire_owned().await;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        let failed = |error| SchemaError::new(Reason::Internal, format!("a schema was not judged: {error}"));
        working.await.map_err(failed)?
    }
}

fn live(subject: &StoredSubject) -> impl DoubleEndedIterator<Item = &SubjectVersion> {
    subject.versions.iter().filter(|version| !version.deleted)
}

fn is_live(subject: &StoredSubject) -> bool {
    live(subject).next().is_some()
}

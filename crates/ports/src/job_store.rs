//! Definitions and jobs: small documents that are changed by compare-and-set.

use crate::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Debug;

/// Which kind of document. Names are unique within a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// The definition of a subscription.
    Subscription,
    /// How far a subscription has come in a partition, beside what its group committed.
    Position,
    /// What all replicas of the service share: keys and ids made once.
    Shared,
    /// What the service keeps of a topic beside the log: the schemas that its values follow.
    Topic,
    /// A replay, or another thing that takes long, with how far it has come.
    Job,
}

impl JobKind {
    /// The name under which a backend keeps the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Position => "position",
            Self::Shared => "shared",
            Self::Topic => "topic",
            Self::Job => "job",
        }
    }
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No document of that name.
    Absent,
    /// This version of it.
    Version(u64),
}

/// A document as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Grows with each change; a document made anew under an old name never has an old version.
    pub version: u64,
    /// What it holds.
    pub value: Bytes,
}

/// Keeps documents durably.
///
/// All calls may also give `Unavailable`, `Timeout`, `Denied`. A change that returned `Ok` survives a
/// crash; one that was dropped may still take effect.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait JobStore: Debug + Send + Sync + 'static {
    /// One document, or `None`.
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>>;

    /// All documents of a kind, by name.
    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>>;

    /// Writes a document where what is there is what was expected, and answers its new version.
    ///
    /// # Errors
    /// `Conflict` where something else is there.
    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64>;

    /// Deletes that version of a document.
    ///
    /// # Errors
    /// `Conflict` where another version, or nothing, is there.
    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()>;
}

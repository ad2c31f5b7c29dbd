//! Schemas, the versions of their subjects, and settings: what a schema registry keeps.

use crate::error::{ErrorKind, PortError, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::{self, Debug};

/// Counts the changes of a store. What was read after a revision was asked for still holds when a change that
/// expects that revision is made: had anything changed in between, the change would be refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// The number of a schema within its context, from 1. It stands before every value that is written by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a schema is: its id, and the context that the id belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaKey {
    /// The context.
    pub context: String,
    /// The id within it.
    pub id: SchemaId,
}

/// Tells contents apart: equal for equal contents, and for no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// A version of a subject, as others name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// The subject.
    pub subject: String,
    /// The version.
    pub version: u32,
}

/// A schema as it is kept. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSchema {
    /// Where it is.
    pub key: SchemaKey,
    /// The fingerprint of its content.
    pub fingerprint: Fingerprint,
    /// Its content, as whoever registered it wrote it.
    pub value: Bytes,
}

/// A version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// Its number.
    pub version: u32,
    /// The schema that it is.
    pub id: SchemaId,
    /// Whether it was deleted softly: it is there to be read by its id, and to be purged.
    pub deleted: bool,
    /// A mark of whoever registered it, which the store keeps.
    pub tag: u8,
}

/// A subject that has a version, be it a deleted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubject {
    /// Its name, unique in the store.
    pub name: String,
    /// The context that the ids of its versions belong to.
    pub context: String,
    /// Its versions, ascending.
    pub versions: Vec<SubjectVersion>,
}

/// Which kind of setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaSetting {
    /// What a new version is judged by.
    Config,
    /// What may be changed.
    Mode,
}

impl SchemaSetting {
    /// The name under which a backend keeps the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Mode => "mode",
        }
    }
}

/// The schema that a new version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisteredSchema {
    /// One that is there.
    Known(SchemaId),
    /// A new one.
    New {
        /// The id that it is to have; else the next one. Ids that are given beyond the last move that.
        id: Option<SchemaId>,
        /// The fingerprint of its content.
        fingerprint: Fingerprint,
        /// Its content.
        value: Bytes,
        /// The versions that it refers to.
        references: Vec<VersionKey>,
    },
}

/// A change. It is made as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChange {
    /// Adds a version to a subject, and its schema where that is new.
    Register {
        /// The context of the subject.
        context: String,
        /// The subject.
        subject: String,
        /// The number of the new version, which must not be there.
        version: u32,
        /// Its mark.
        tag: u8,
        /// Its schema.
        schema: RegisteredSchema,
    },
    /// Deletes these versions softly. Those that are not there are passed over.
    Delete {
        /// The subject.
        subject: String,
        /// The versions.
        versions: Vec<u32>,
    },
    /// Removes these versions for good, and each schema that no version is left of. Those that are not there are
    /// passed over.
    Purge {
        /// The subject.
        subject: String,
        /// The versions.
        versions: Vec<u32>,
    },
    /// Writes a setting, or removes it.
    Set {
        /// Which kind.
        setting: SchemaSetting,
        /// What it is for, as a subject.
        scope: String,
        /// What it becomes.
        value: Option<Bytes>,
    },
}

impl SchemaChange {
    /// The most bytes of a name.
    pub const NAME_BYTES_MAX: usize = 1024;
    /// The most bytes of a content.
    pub const VALUE_BYTES_MAX: usize = 16 << 20;

    /// Whether names and contents are such that every store keeps them.
    ///
    /// # Errors
    /// `Invalid` for a name, `TooLarge` for a content that is not; as of [`SchemaStore::change`].
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Register { context, subject, schema, .. } => {
                check_name("context", context)?;
                check_name("subject", subject)?;
                let RegisteredSchema::New { value, references, .. } = schema else { return Ok(()) };
                references.iter().try_for_each(|to| check_name("reference", &to.subject))?;
                check_value(value)
            }
            Self::Delete { subject, .. } | Self::Purge { subject, .. } => check_name("subject", subject),
            Self::Set { scope, value, .. } => {
                check_name("scope", scope)?;
                value.as_ref().map_or(Ok(()), check_value)
            }
        }
    }
}

const CHANGE: &str = "schema_store.change";

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.contains('\0') {
        let detail = format!("the {what} {name:?} has the character U+0000; it must have none");
        return Err(PortError::new(ErrorKind::Invalid, CHANGE, detail));
    }
    if name.len() > SchemaChange::NAME_BYTES_MAX {
        let (len, max) = (name.len(), SchemaChange::NAME_BYTES_MAX);
        let detail = format!("the {what} has {len} bytes; it may have {max}");
        return Err(PortError::new(ErrorKind::Invalid, CHANGE, detail));
    }
    Ok(())
}

fn check_value(value: &Bytes) -> Result<()> {
    if value.len() > SchemaChange::VALUE_BYTES_MAX {
        let (len, max) = (value.len(), SchemaChange::VALUE_BYTES_MAX);
        return Err(PortError::new(
            ErrorKind::TooLarge,
            CHANGE,
            format!("the content has {len} bytes; it may have {max}"),
        ));
    }
    Ok(())
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaChanged {
    /// The revision after it.
    pub revision: Revision,
    /// The id of the schema that was registered; `None` for other changes.
    pub id: Option<SchemaId>,
}

/// Keeps schemas durably.
///
/// What may be registered, deleted or set is its caller's to decide, who reads after asking for the [`Revision`]
/// and says it with the change: so each decision is made on what is there when it takes effect, whatever other
/// replicas do. Ids that are not given are 1, 2, 3… within a context, without gaps, and none is given twice, also
/// where the schema that had it is purged. Names of contexts, subjects and scopes are texts without U+0000 and of
/// 1 KiB at most (a scope may be empty), contents have 16 MiB at most, ids and versions are from 1 to 2³¹ - 1.
///
/// All calls may also give `Unavailable`, `Timeout`, `Denied`. A change that returned `Ok` survives a crash; one
/// that was dropped, or failed with its effect unknown, may still take effect. A reader that waited for a change
/// sees it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SchemaStore: Debug + Send + Sync + 'static {
    /// The revision now.
    async fn revision(&self) -> Result<Revision>;

    /// Schemas by their keys, each in its place; `None` for what is not there.
    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>>;

    /// Where contents of this fingerprint are, by context and id.
    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>>;

    /// Subjects by their names, each in its place; `None` for what has no version.
    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>>;

    /// The subjects whose names begin with `prefix`, in the order of their bytes, from the first behind `after`
    /// on, `limit` at most. Fewer than `limit` are the last.
    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>>;

    /// The versions, deleted ones too, that a schema is, by subject and version.
    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>>;

    /// The schemas that refer to versions of a subject, each with the version that it refers to, by version,
    /// context and id.
    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>>;

    /// Settings of one kind, each in the place of its scope; `None` for what is not set.
    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>>;

    /// Makes a change.
    ///
    /// # Errors
    /// `Conflict` where the store is at another revision; `Invalid` for a version or an id that is there already,
    /// for a schema that is not, and for a name that cannot be kept; `TooLarge`. All of these without effect.
    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged>;
}

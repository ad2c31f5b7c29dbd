//! A schema registry of somebody else's, which decides by its own rules.

use crate::{
    error::PortError,
    schema_store::{SchemaId, SchemaKey, VersionKey},
};
use async_trait::async_trait;
use std::fmt::{self, Debug};

/// A schema as such a registry gives it. Nothing of it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySchema {
    /// Its format, by its name (`AVRO`, `PROTOBUF`, `JSON`, or another).
    pub schema_type: String,
    /// Its text.
    pub text: String,
    /// What it refers to.
    pub references: Vec<RegistryReference>,
    /// What its writer says of it, JSON.
    pub metadata: Option<String>,
    /// Rules for clients, JSON.
    pub rule_set: Option<String>,
    /// Its GUID, where the registry gives schemas one.
    pub guid: Option<[u8; 16]>,
}

/// A reference to a version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryReference {
    /// The name by which the schema refers to it.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The version; `None` is the latest, and is said by those who register alone.
    pub version: Option<u32>,
}

/// A version of a subject, with its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryVersion {
    /// The subject, as the registry writes it.
    pub subject: String,
    /// The version.
    pub version: u32,
    /// The id of its schema.
    pub id: SchemaId,
    /// Whether it was deleted softly, as far as the registry says.
    pub deleted: bool,
    /// The schema.
    pub schema: RegistrySchema,
}

/// What a registry says of a schema that might be registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryCheck {
    /// Whether it may follow those that are there.
    pub is_compatible: bool,
    /// Why not.
    pub messages: Vec<String>,
}

/// Which versions a schema is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryAgainst {
    /// Those that the subject's level asks for.
    Level,
    /// The latest.
    Latest,
    /// The one of this number.
    Version(u32),
}

/// A registry's verdict: it was reached, and says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryRefusal {
    /// Its code: a status, as 409, or one with two more digits, as 40401.
    pub code: u32,
    /// Its sentence.
    pub message: String,
}

impl RegistryRefusal {
    /// The status of its code: the first three digits.
    pub fn status(&self) -> u32 {
        let mut status = self.code;
        while status >= 1000 {
            status /= 10;
        }
        status
    }
}

impl fmt::Display for RegistryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

/// Why a call gave nothing.
#[derive(Debug)]
pub enum RegistryError {
    /// The registry refuses.
    Refused(RegistryRefusal),
    /// It could not be asked, or did not answer as a registry does.
    Failed(PortError),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
            Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for RegistryError {}

impl From<PortError> for RegistryError {
    fn from(error: PortError) -> Self {
        Self::Failed(error)
    }
}

/// The result of asking a registry.
pub type Asked<T> = Result<T, RegistryError>;

/// A registry outside, for those who write and read values: what there is, and registering.
///
/// Its rules are its own: which schemas follow which, and what a name may be. Subjects are written as it writes them,
/// with their contexts (`:.context:name`). All that it answers has a bound, and is whole: what cannot be an answer to
/// the question is `Unavailable`, never taken for one, and never for a verdict.
///
/// All calls may be `Refused`, and may fail with `Unavailable`, `Timeout`, `Throttled`, or with `Denied` where it does
/// not know who asks. They were tried again as often as is configured. Dropping a call that reads does nothing; one
/// that registers may still take effect, and may be made again whatever became of it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SchemaRegistry: Debug + Send + Sync + 'static {
    /// Whether it serves. Asks for as little as can be.
    async fn ping(&self) -> Asked<()>;

    /// The schema of an id.
    async fn schema(&self, key: &SchemaKey) -> Asked<RegistrySchema>;

    /// A version of a subject, the latest for `None`; deleted ones too where they are asked for.
    async fn version(&self, subject: &str, version: Option<u32>, deleted: bool) -> Asked<RegistryVersion>;

    /// The versions of a subject, ascending; deleted ones too where they are asked for.
    async fn versions(&self, subject: &str, deleted: bool) -> Asked<Vec<u32>>;

    /// The versions that a schema is, by subject and version; deleted ones too where they are asked for.
    async fn uses(&self, key: &SchemaKey, deleted: bool) -> Asked<Vec<VersionKey>>;

    /// The names of all subjects of all contexts, in their order, each once; those of deleted ones too where they are
    /// asked for.
    async fn subjects(&self, deleted: bool) -> Asked<Vec<String>>;

    /// The version under which a subject has a schema; deleted ones too where they are asked for.
    async fn lookup(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
        deleted: bool,
    ) -> Asked<RegistryVersion>;

    /// Registers a schema as the next version of a subject, or finds it there. What is answered can be read from then
    /// on.
    async fn register(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
    ) -> Asked<RegistryVersion>;

    /// Whether a schema may follow those of a subject.
    async fn check(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        against: RegistryAgainst,
        normalize: bool,
    ) -> Asked<RegistryCheck>;
}

//! Registering a schema as the next version of a subject.

use super::{
    Registry,
    checking::Judged,
    content::tag,
    error::{Reason, Result, SchemaError},
    lookup::{Read, Registered, VersionSelector},
    settings::{Mode, read_only},
    subject::Subject,
};
use crate::schemas::{SchemaType, limits, protobuf::text_of_serialized};
use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use futures::FutureExt as _;
use ports::{RegisteredSchema, Revision, SchemaChange, SchemaId, SchemaKey, StoredSubject, SubjectVersion};
use serde_json::Value;

/// The greatest id and version: they travel as signed numbers of 32 bits.
pub(super) const NUMBER_MAX: u32 = i32::MAX.unsigned_abs();

/// The most bytes of a name by which a schema refers to another.
const REFERENCE_NAME_BYTES_MAX: usize = 512;
/// The most bytes of metadata and rules.
const EXTRA_BYTES_MAX: usize = 64 << 10;

/// A schema that a client gives.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchema {
    /// Its format.
    pub schema_type: SchemaType,
    /// Its text.
    pub text: String,
    /// What it refers to.
    pub references: Vec<NewReference>,
    /// What its writer says of it: an object.
    pub metadata: Option<Value>,
    /// Rules for clients: an object.
    pub rule_set: Option<Value>,
}

/// A reference that a client gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReference {
    /// The name by which the schema refers to it.
    pub name: String,
    /// The subject; one of the default context is looked for in the context of the schema.
    pub subject: String,
    /// The version; `Latest` becomes the one that is the latest now.
    pub version: VersionSelector,
}

/// Where a schema is to be, as a client says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The id; in mode `IMPORT` alone.
    pub id: Option<SchemaId>,
    /// The version; in other modes than `IMPORT` the next one alone.
    pub version: Option<u32>,
}

impl NewSchema {
    /// A schema that refers to nothing.
    pub fn new(schema_type: SchemaType, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { schema_type, text, references: Vec::new(), metadata: None, rule_set: None }
    }

    /// Its text. Some clients send a serialized file descriptor, in base64, instead.
    pub(super) fn readable(&self) -> Result<String> {
        let text = self.text.trim();
        // No `.proto` file is without these.
        if self.schema_type != SchemaType::Protobuf || text.contains([';', '{', '"', '\'']) {
            return Ok(self.text.clone());
        }
        match STANDARD.decode(text) {
            Ok(bytes) => Ok(text_of_serialized(&bytes)?),
            Err(_) => Ok(self.text.clone()),
        }
    }

    /// What can be seen without reading it.
    pub(super) fn check(&self) -> Result<()> {
        if self.text.trim().is_empty() {
            return Err(SchemaError::new(Reason::InvalidSchema, "the schema is empty; give its text"));
        }
        if self.text.len() > limits::TEXT_BYTES_MAX {
            let (len, max) = (self.text.len(), limits::TEXT_BYTES_MAX);
            let message = format!("the schema has {len} bytes, and {max} are the most; split it up");
            return Err(SchemaError::new(Reason::TooLarge, message));
        }
        if self.references.len() > limits::REFERENCES_MAX {
            let (count, max) = (self.references.len(), limits::REFERENCES_MAX);
            let message = format!("the schema has {count} references, and {max} are the most; split it up");
            return Err(SchemaError::new(Reason::InvalidSchema, message));
        }
        for reference in &self.references {
            let name = &reference.name;
            if name.is_empty() || name.len() > REFERENCE_NAME_BYTES_MAX {
                let message = format!(
                    "the name of a reference must have from 1 to {REFERENCE_NAME_BYTES_MAX} bytes, and has {}",
                    name.len()
                );
                return Err(SchemaError::new(Reason::InvalidSchema, message));
            }
        }
        for (name, reason, value) in [
            ("metadata", Reason::InvalidSchema, &self.metadata),
            ("ruleSet", Reason::InvalidRuleSet, &self.rule_set),
        ] {
            let Some(value) = value else { continue };
            if !value.is_object() {
                return Err(SchemaError::new(reason, format!("`{name}` must be an object")));
            }
            let len = value.to_string().len();
            if len > EXTRA_BYTES_MAX {
                let message = format!("`{name}` has {len} bytes, and {EXTRA_BYTES_MAX} are the most");
                return Err(SchemaError::new(reason, message));
            }
        }
        Ok(())
    }
}

impl Registry {
    /// Registers a schema as the next version of a subject. One that is a live version already stays that version;
    /// one whose content has an id in the context gets that id.
    ///
    /// # Errors
    /// `InvalidSubject`, `InvalidSchema` (also for references), `InvalidRuleSet`, `TooLarge`; `Incompatible` with
    /// what is there; `NotPermitted` by the mode; `InvalidVersion` for one that is not the next; `IdMismatch` where
    /// it is there under another id; `Store`, `Timeout`: registering it again is safe, whatever became of it. Those of
    /// a registry outside, where schemas are in one.
    pub async fn register(
        &self,
        subject: &str,
        schema: &NewSchema,
        position: Position,
        normalize: bool,
    ) -> Result<Registered> {
        let subject = Subject::parse(subject)?;
        for number in [position.id.map(|id| id.0), position.version].into_iter().flatten() {
            if !(1..=NUMBER_MAX).contains(&number) {
                let message = format!("an id or version must be from 1 to 2^31-1, and is {number}");
                return Err(SchemaError::new(Reason::InvalidVersion, message));
            }
        }
        if let Some(outside) = self.home_outside() {
            let registered = outside.register(&subject, schema, position, normalize).await;
            // Also where it failed: it may have had its effect.
            self.cache.changed();
            return self.keep(registered?).await;
        }
        let normalize = normalize || self.in_force(&subject).await?.normalize;
        // What takes long is done before it is this registration's turn: the schema is parsed, and those before it
        // are in memory.
        let read = self.read(&subject, schema, normalize, false).await?;
        if let Some(there) = self.stored(&subject).await? {
            if let Some(found) = self.find_there(&there, &read, position).await? {
                return self.registered(&there, found).await;
            }
            let in_force = self.in_force(&subject).await?;
            self.load_for(&there, in_force.level).await?;
        }
        let (subject, read) = (&subject, &read);
        self.change(|| self.try_register(subject, read, position).boxed()).await
    }

    async fn try_register(&self, subject: &Subject, read: &Read, position: Position) -> Result<Registered> {
        let revision = self.store()?.revision().await?;
        let stored = self.stored(subject).await?;
        let stored = stored.unwrap_or_else(|| StoredSubject {
            name: subject.qualified(),
            context: subject.context().to_owned(),
            versions: Vec::new(),
        });
        if let Some(found) = self.find_there(&stored, read, position).await? {
            return self.registered(&stored, found).await;
        }
        let in_force = self.in_force(subject).await?;
        check_mode(subject, in_force.mode, position)?;
        self.check_live(&read.content.references).await?;
        let version = self.next_version(&stored, in_force.mode, position)?;
        if in_force.mode != Mode::Import {
            let judged = self.judge(&stored, &read.parsed, in_force.level).await?;
            if let Some(refused) = judged.refusal(&stored.name) {
                return Err(refused);
            }
        }
        self.add(revision, stored, version, read, position).await
    }

    async fn add(
        &self,
        revision: Revision,
        stored: StoredSubject,
        version: u32,
        read: &Read,
        position: Position,
    ) -> Result<Registered> {
        let context = stored.context.clone();
        let known = self.known_id(&context, read, position).await?;
        let schema = match known {
            Some(id) => RegisteredSchema::Known(id),
            None => RegisteredSchema::New {
                id: position.id,
                fingerprint: read.fingerprint,
                value: read.content.encode()?,
                references: read.content.refers_to(),
            },
        };
        let tag = tag(read.content.schema_type);
        let subject = stored.name.clone();
        let change = SchemaChange::Register { context: context.clone(), subject, version, tag, schema };
        let changed = self.store()?.change(revision, change).await?;
        let missing = || SchemaError::new(Reason::Internal, "the store gave no id to a schema");
        let id = changed.id.ok_or_else(missing)?;
        self.cache.changed();
        self.cache.keep_parsed(SchemaKey { context, id }, read.parsed.clone()).await;
        tracing::info!(subject = stored.name, version, id = id.0, "registered a schema");
        self.registered(&stored, SubjectVersion { version, id, deleted: false, tag }).await
    }

    /// The live version that this content is already, where it may be that one.
    async fn find_there(
        &self,
        stored: &StoredSubject,
        read: &Read,
        position: Position,
    ) -> Result<Option<SubjectVersion>> {
        let Some(found) = self.find_in(stored, read.fingerprint, false).await? else { return Ok(None) };
        let elsewhere = position.version.is_some_and(|version| version != found.version);
        match position.id {
            // What is imported keeps its versions, also where two of them are one schema.
            Some(id) if elsewhere && id == found.id => Ok(None),
            Some(id) if id != found.id => {
                let message =
                    format!("Schema already registered with id {} instead of input id {id}", found.id);
                Err(SchemaError::new(Reason::IdMismatch, message))
            }
            _ => Ok(Some(found)),
        }
    }

    /// The id that a content has in a context.
    async fn known_id(&self, context: &str, read: &Read, position: Position) -> Result<Option<SchemaId>> {
        let keys = self.store()?.find(read.fingerprint).await?;
        let mut ids = keys.into_iter().filter(|key| key.context == context).map(|key| key.id);
        let Some(wanted) = position.id else { return Ok(ids.next()) };
        if ids.any(|id| id == wanted) {
            return Ok(Some(wanted));
        }
        let there =
            self.store()?.schemas(vec![SchemaKey { context: context.to_owned(), id: wanted }]).await?;
        if there.iter().any(Option::is_some) {
            let message = format!("Overwrite new schema with id {wanted} is not permitted.");
            return Err(SchemaError::not_permitted(message));
        }
        Ok(None)
    }

    fn next_version(&self, stored: &StoredSubject, mode: Mode, position: Position) -> Result<u32> {
        if stored.versions.len() >= self.config.versions_max {
            let (name, max) = (&stored.name, self.config.versions_max);
            let message =
                format!("Subject '{name}' has {max} versions, which are the most; delete some for good");
            return Err(SchemaError::not_permitted(message));
        }
        let next = stored.versions.last().map_or(0, |last| last.version) + 1;
        let version = position.version.unwrap_or(next);
        if mode == Mode::Import {
            if stored.versions.iter().any(|there| there.version == version) {
                let message =
                    format!("Subject '{}' has a version {version} already, which is another", stored.name);
                return Err(SchemaError::not_permitted(message));
            }
        } else if version != next {
            let message =
                format!("Version is not one more than previous version: {version} was given, {next} is next");
            return Err(SchemaError::new(Reason::InvalidVersion, message));
        }
        if version > NUMBER_MAX {
            let message = format!("Subject '{}' has no further versions", stored.name);
            return Err(SchemaError::not_permitted(message));
        }
        Ok(version)
    }
}

fn check_mode(subject: &Subject, mode: Mode, position: Position) -> Result<()> {
    if mode.is_read_only() {
        return Err(read_only(subject));
    }
    match (mode, position.id) {
        (Mode::Import, None) => {
            Err(SchemaError::not_permitted(format!("Subject {subject} is not in read-write mode")))
        }
        (Mode::ReadWrite, Some(_)) => {
            Err(SchemaError::not_permitted(format!("Subject {subject} is not in import mode")))
        }
        _ => Ok(()),
    }
}

impl Judged {
    /// The refusal of a schema that may not follow.
    fn refusal(&self, subject: &str) -> Option<SchemaError> {
        if self.is_compatible() {
            return None;
        }
        let message = format!(
            "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]",
            self.messages().join(", ")
        );
        Some(SchemaError::new(Reason::Incompatible, message))
    }
}

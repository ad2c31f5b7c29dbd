//! Finding schemas: by id, by GUID, by subject and version, by content.

use super::{
    Registry, content,
    content::{Content, guid},
    error::{Reason, Result, SchemaError},
    is_live, live,
    outside::Found,
    registering::NewSchema,
    subject::{Subject, context_of},
};
use crate::schemas::{ParsedSchema, SchemaType};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ports::{Fingerprint, SchemaId, SchemaKey, StoredSubject, SubjectVersion, VersionKey};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// A content as it is kept in memory.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) content: Content,
    /// `None` where a registry outside gives schemas none.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// A schema, whatever it is a version of.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The context of its id.
    pub context: String,
    /// Its id.
    pub id: SchemaId,
    pub(super) kept: Arc<Kept>,
}

impl Schema {
    /// What it is.
    pub fn content(&self) -> &Content {
        &self.kept.content
    }

    /// Its GUID, the same wherever its content is registered; `None` where it is of a registry outside that gives
    /// schemas none.
    pub fn guid(&self) -> Option<Uuid> {
        self.kept.fingerprint.map(guid)
    }
}

/// A version of a subject, with its schema.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The subject, with its context where that is not the default one.
    pub subject: String,
    /// The version.
    pub version: u32,
    /// Whether it was deleted softly.
    pub deleted: bool,
    /// The schema.
    pub schema: Schema,
}

/// Which version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// The latest.
    Latest,
    /// The one of this number.
    Number(u32),
}

impl VersionSelector {
    /// Reads a version: `latest`, `-1` for the same, or a number.
    ///
    /// # Errors
    /// `InvalidVersion`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("latest") || text == "-1" {
            return Ok(Self::Latest);
        }
        match text.parse::<u32>() {
            Ok(number @ 1..=super::registering::NUMBER_MAX) => Ok(Self::Number(number)),
            _ => {
                let shown: String = text.chars().take(40).collect();
                let message = format!(
                    "The specified version '{shown}' is not a valid version id. Allowed values are between \
                     [1, 2^31-1] and the string \"latest\""
                );
                Err(SchemaError::new(Reason::InvalidVersion, message))
            }
        }
    }

    /// The version of a subject, deleted ones too where they are asked for.
    pub(super) fn of(self, subject: &StoredSubject, deleted: bool) -> Option<SubjectVersion> {
        let mut wanted = subject.versions.iter().filter(|version| deleted || !version.deleted);
        match self {
            Self::Latest => wanted.next_back().copied(),
            Self::Number(number) => wanted.find(|version| version.version == number).copied(),
        }
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Registry {
    /// The schema of an id in a context, which a subject or the context's own name says; in the default context
    /// where neither is given. Answered from memory where it was asked for before.
    ///
    /// # Errors
    /// `SchemaNotFound`.
    pub async fn by_id(&self, id: SchemaId, context: Option<&str>) -> Result<Schema> {
        let key = SchemaKey { context: context_of(context)?, id };
        self.schema(&key).await
    }

    /// The parsed schema of an id in the context of a subject. Answered from memory where it was asked for before:
    /// this is what reading and writing values goes by.
    ///
    /// # Errors
    /// `SchemaNotFound`.
    pub async fn parsed_by_id(&self, id: SchemaId, context: Option<&str>) -> Result<ParsedSchema> {
        self.parsed(&SchemaKey { context: context_of(context)?, id }).await
    }

    /// As [`Self::parsed_by_id`], of what is in memory alone: asks nobody, and waits for nothing.
    pub async fn parsed_in_memory(&self, id: SchemaId, context: Option<&str>) -> Option<ParsedSchema> {
        let context = context_of(context).ok()?;
        self.cache.parsed(&SchemaKey { context, id }).await
    }

    /// The greatest id that a version has in a context; `None` where there is no version.
    pub async fn max_id(&self, context: Option<&str>) -> Result<Option<SchemaId>> {
        let context = context_of(context)?;
        let mut max = None;
        self.each_subject("", |subject| {
            if subject.context == context {
                max = max.max(subject.versions.iter().map(|version| version.id).max());
            }
            true
        })
        .await?;
        Ok(max)
    }

    /// The schema of a GUID, in whichever context.
    ///
    /// # Errors
    /// `SchemaNotFound`.
    pub async fn by_guid(&self, guid: Uuid) -> Result<Schema> {
        let keys = self.ids_of_guid(guid).await?;
        let first = keys.into_iter().next().ok_or_else(|| SchemaError::schema_not_found(guid))?;
        self.schema(&first).await
    }

    /// Where the schema of a GUID is, by context and id; empty where it is not.
    pub async fn ids_of_guid(&self, guid: Uuid) -> Result<Vec<SchemaKey>> {
        Ok(self.store()?.find(Fingerprint(guid.into_bytes())).await?)
    }

    /// A version of a subject, as it is now.
    ///
    /// # Errors
    /// `SubjectNotFound`, `VersionNotFound`.
    pub async fn version(
        &self,
        subject: &str,
        version: VersionSelector,
        deleted: bool,
    ) -> Result<Registered> {
        let subject = Subject::parse(subject)?;
        if let Some(outside) = self.home_outside() {
            return self.keep(outside.version(&subject, version, deleted).await?).await;
        }
        let stored = self.subject(&subject, deleted).await?;
        let found = version.of(&stored, deleted).ok_or_else(|| SchemaError::version_not_found(version))?;
        self.registered(&stored, found).await
    }

    /// A subject's versions as they are, or were a moment ago ([`super::RegistryConfig::subject_ttl`]); what was
    /// changed by this registry is seen at once.
    ///
    /// # Errors
    /// `SubjectNotFound`.
    pub async fn current(&self, subject: &str) -> Result<Arc<StoredSubject>> {
        let subject = Subject::parse(subject)?;
        let name = subject.qualified();
        let now = self.clock.monotonic();
        let load = async {
            match self.home_outside() {
                Some(outside) => {
                    let (stored, latest) = outside.current(&subject, now, self.config.versions_max).await?;
                    self.keep(latest).await?;
                    Ok(Arc::new(stored))
                }
                None => self.subject(&subject, false).await.map(Arc::new),
            }
        };
        // Boxed, as what loads it is large, and hardly ever made.
        self.cache.subject_or(&name, now, Box::pin(load)).await
    }

    /// The version under which a subject has a schema, live ones only unless `deleted`.
    ///
    /// # Errors
    /// `SubjectNotFound`, `SchemaNotFound`; `InvalidSchema` where it cannot be read.
    pub async fn lookup(
        &self,
        subject: &str,
        schema: &NewSchema,
        normalize: bool,
        deleted: bool,
    ) -> Result<Registered> {
        let subject = Subject::parse(subject)?;
        if let Some(outside) = self.home_outside() {
            return self.keep(outside.lookup(&subject, schema, normalize, deleted).await?).await;
        }
        let stored = self.subject(&subject, deleted).await?;
        let normalize = normalize || self.in_force(&subject).await?.normalize;
        let read = self.read(&subject, schema, normalize, true).await?;
        let found = self.find_in(&stored, read.fingerprint, deleted).await?;
        let found = found.ok_or_else(|| SchemaError::new(Reason::SchemaNotFound, "Schema not found"))?;
        self.registered(&stored, found).await
    }

    /// A schema's text in a form: as it was registered for an empty one; `serialized` is the file descriptor of a
    /// Protobuf schema in base64.
    ///
    /// # Errors
    /// `InvalidRequest` for a form that schemas of its type do not have.
    pub async fn text(&self, schema: &Schema, form: &str) -> Result<String> {
        let content = schema.content();
        match (form, content.schema_type) {
            ("", _) => Ok(content.text.clone()),
            ("serialized", SchemaType::Protobuf) => {
                let key = SchemaKey { context: schema.context.clone(), id: schema.id };
                let parsed = self.parsed(&key).await?;
                Ok(parsed.as_protobuf().map(|it| BASE64_STANDARD.encode(it.serialized())).unwrap_or_default())
            }
            (other, of) => {
                let shown: String = other.chars().take(40).collect();
                let forms = if of == SchemaType::Protobuf { "`serialized`" } else { "none" };
                let message =
                    format!("the format {shown:?} is not known for {of} schemas, which have {forms}");
                Err(SchemaError::new(Reason::InvalidRequest, message))
            }
        }
    }

    /// A subject that has a version; a live one unless `deleted`.
    pub(super) async fn subject(&self, subject: &Subject, deleted: bool) -> Result<StoredSubject> {
        let found = self.stored(subject).await?;
        let found = found.filter(|found| deleted || is_live(found));
        found.ok_or_else(|| SchemaError::subject_not_found(subject))
    }

    /// A subject as it is kept, if it has any version.
    pub(super) async fn stored(&self, subject: &Subject) -> Result<Option<StoredSubject>> {
        Ok(self.store()?.subjects(vec![subject.qualified()]).await?.into_iter().next().flatten())
    }

    /// The latest version of a subject that is this content.
    pub(super) async fn find_in(
        &self,
        subject: &StoredSubject,
        fingerprint: Fingerprint,
        deleted: bool,
    ) -> Result<Option<SubjectVersion>> {
        let keys = self.store()?.find(fingerprint).await?;
        let of_context = keys.iter().filter(|key| key.context == subject.context);
        let ids: Vec<SchemaId> = of_context.map(|key| key.id).collect();
        let is_it = |version: &&SubjectVersion| ids.contains(&version.id);
        let found = match live(subject).rfind(is_it) {
            None if deleted => subject.versions.iter().rfind(is_it),
            found => found,
        };
        Ok(found.copied())
    }

    /// A version with its schema.
    pub(super) async fn registered(
        &self,
        subject: &StoredSubject,
        version: SubjectVersion,
    ) -> Result<Registered> {
        let key = SchemaKey { context: subject.context.clone(), id: version.id };
        Ok(Registered {
            subject: subject.name.clone(),
            version: version.version,
            deleted: version.deleted,
            schema: self.schema(&key).await?,
        })
    }

    /// A version of a registry outside, as it is shown; its content is kept, so that it is not asked for again.
    pub(super) async fn keep(&self, found: Found) -> Result<Registered> {
        let Found { subject, version, deleted, key, kept } = found;
        let kept = Arc::new(kept);
        let known = self.cache.content_or(&key, async { Ok(kept.clone()) }).await?;
        if !known.content.is_as(&kept.content) {
            let message = format!(
                "the schema registry: schema {} of '{subject}' is another one than before, and values were written by \
                 that; where the registry was made anew, restart this service",
                key.id
            );
            return Err(SchemaError::new(Reason::Store, message));
        }
        let schema = Schema { context: key.context, id: key.id, kept: known };
        Ok(Registered { subject, version, deleted, schema })
    }

    /// A schema by its key.
    pub(super) async fn schema(&self, key: &SchemaKey) -> Result<Schema> {
        let load = async {
            if let Some(outside) = self.home_outside() {
                return outside.schema(key).await.map(Arc::new);
            }
            let found = self.store()?.schemas(vec![key.clone()]).await?.into_iter().next().flatten();
            let stored = found.ok_or_else(|| SchemaError::schema_not_found(key.id))?;
            let content = Content::decode(&stored.value)?;
            Ok(Arc::new(Kept { content, fingerprint: Some(stored.fingerprint) }))
        };
        let kept = self.cache.content_or(key, Box::pin(load)).await?;
        Ok(Schema { context: key.context.clone(), id: key.id, kept })
    }

    /// Schemas by their keys, each in its place, in one call for all that are not in memory; `None` for what is not
    /// there.
    pub(super) async fn schemas(&self, keys: &[SchemaKey]) -> Result<Vec<Option<Schema>>> {
        if self.home_outside().is_some() {
            // It has no call for several.
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(match self.schema(key).await {
                    Err(error) if error.reason() == Reason::SchemaNotFound => None,
                    schema => Some(schema?),
                });
            }
            return Ok(found);
        }
        let mut found: Vec<Option<Arc<Kept>>> = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.cache.content(key).await);
        }
        let missing: Vec<usize> = (0..keys.len()).filter(|&index| found[index].is_none()).collect();
        if !missing.is_empty() {
            let wanted = missing.iter().map(|&index| keys[index].clone()).collect();
            let loaded = self.store()?.schemas(wanted).await?;
            for (index, stored) in missing.into_iter().zip(loaded) {
                let Some(stored) = stored else { continue };
                let content = Content::decode(&stored.value)?;
                let kept = Arc::new(Kept { content, fingerprint: Some(stored.fingerprint) });
                self.cache.keep_content(stored.key, kept.clone()).await;
                found[index] = Some(kept);
            }
        }
        let schema = |(key, kept): (&SchemaKey, Option<Arc<Kept>>)| {
            kept.map(|kept| Schema { context: key.context.clone(), id: key.id, kept })
        };
        Ok(keys.iter().zip(found).map(schema).collect())
    }

    /// A parsed schema by its key.
    pub(super) async fn parsed(&self, key: &SchemaKey) -> Result<ParsedSchema> {
        let parse = async {
            let schema = self.schema(key).await?;
            let content = schema.content();
            let resolved = self.resolve(&content.references).await?;
            self.parse(content.schema_type, content.text.clone(), resolved).await
        };
        self.cache.parsed_or(key, Box::pin(parse)).await
    }

    /// The versions of subjects that a schema is, by subject and version.
    pub(super) async fn uses(&self, key: &SchemaKey, deleted: bool) -> Result<Vec<VersionKey>> {
        if let Some(outside) = self.home_outside() {
            return outside.uses(key, deleted).await;
        }
        let uses = self.store()?.uses(key).await?;
        if deleted {
            return Ok(uses);
        }
        let mut names: Vec<String> = uses.iter().map(|used| used.subject.clone()).collect();
        names.dedup();
        let subjects = self.store()?.subjects(names).await?;
        let is_live = |used: &VersionKey| {
            let subject = subjects.iter().flatten().find(|subject| subject.name == used.subject);
            subject.is_some_and(|it| live(it).any(|version| version.version == used.version))
        };
        Ok(uses.into_iter().filter(is_live).collect())
    }
}

/// What was read of a schema that a client gave.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) content: Content,
    pub(super) fingerprint: Fingerprint,
    pub(super) parsed: ParsedSchema,
}

impl Read {
    pub(super) fn new(mut content: Content, parsed: ParsedSchema, normalize: bool) -> Self {
        let canonical = content::canonical(&parsed, normalize);
        if normalize {
            canonical.clone_into(&mut content.text);
        }
        let fingerprint = content.fingerprint(canonical);
        Self { content, fingerprint, parsed }
    }
}

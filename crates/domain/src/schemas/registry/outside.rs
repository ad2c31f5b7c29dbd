//! A registry outside in the place of a store: whoever writes and reads values finds the same here, and its rules are
//! its own.
//!
//! 1. What an id means does not change: it is asked for once, and what is said differently later is refused, so that
//!    no value is written or read by another schema than its id's.
//! 2. Its verdicts are handed on as they are; that it does not answer, or not as a registry does, is no verdict.
//! 3. What was registered here is seen here at once: nothing that was known before a registration is believed after.
//!
//! It has no call for the ids of all versions of a subject. They are asked for one by one, a few at a time, and
//! remembered for a while; the latest is asked for each time, and where it shows that a subject was made anew, what
//! was remembered of that subject is dropped.

use super::{
    checking::{Against, Check},
    content::{Content, Reference},
    error::{Reason, Result, SchemaError},
    listing::Deleted,
    lookup::{Kept, VersionSelector},
    registering::{NewSchema, Position},
    statistics::Statistics,
    subject::Subject,
};
use crate::schemas::SchemaType;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use moka::future::Cache as Moka;
use parking_lot::Mutex;
use ports::{
    Asked, Fingerprint, Monotonic, RegistryAgainst, RegistryError, RegistryReference, RegistrySchema,
    RegistryVersion, SchemaId, SchemaKey, SchemaRegistry, StoredSubject, SubjectVersion, VersionKey,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// So many versions of a subject are asked for at a time.
const CALLS: usize = 8;
/// How long it is remembered which schemas the versions of a subject are.
const IDS_FOR: Duration = Duration::from_secs(600);
/// So many versions, of all subjects, are remembered.
const IDS_MAX: u64 = 500_000;
/// How long subjects, once counted, are not counted again.
const COUNTED_FOR: Duration = Duration::from_secs(60);

/// A registry outside.
#[derive(Debug)]
pub(super) struct Outside {
    registry: Arc<dyn SchemaRegistry>,
    /// By subject.
    ids: Moka<String, Arc<Ids>>,
    counted: Mutex<Option<(Monotonic, Statistics)>>,
}

/// Which schemas the versions of a subject are.
#[derive(Debug)]
struct Ids {
    of: BTreeMap<u32, SchemaId>,
    /// Since when.
    at: Monotonic,
}

/// A version as it was answered.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) version: u32,
    pub(super) deleted: bool,
    pub(super) key: SchemaKey,
    pub(super) kept: Kept,
}

impl Outside {
    pub(super) fn new(registry: Arc<dyn SchemaRegistry>) -> Self {
        let weight = |_: &String, ids: &Arc<Ids>| u32::try_from(ids.of.len()).unwrap_or(u32::MAX).max(1);
        let ids = Moka::builder().max_capacity(IDS_MAX).weigher(weight).build();
        Self { registry, ids, counted: Mutex::default() }
    }

    /// The schema of an id.
    pub(super) async fn schema(&self, key: &SchemaKey) -> Result<Kept> {
        read(self.registry.schema(key).await?, key.id)
    }

    /// A version of a subject.
    pub(super) async fn version(
        &self,
        subject: &Subject,
        version: VersionSelector,
        deleted: bool,
    ) -> Result<Found> {
        let number = match version {
            VersionSelector::Latest => None,
            VersionSelector::Number(number) => Some(number),
        };
        found(subject, self.registry.version(&subject.qualified(), number, deleted).await?)
    }

    /// The live versions of a subject, and the latest of them with its schema.
    pub(super) async fn current(
        &self,
        subject: &Subject,
        now: Monotonic,
        versions_max: usize,
    ) -> Result<(StoredSubject, Found)> {
        let name = subject.qualified();
        let asked =
            tokio::try_join!(self.registry.versions(&name, false), self.registry.version(&name, None, false));
        // Some say so of a subject whose versions are all deleted.
        let asked = none_if(asked, Reason::VersionNotFound)?;
        let (versions, latest) = asked.ok_or_else(|| SchemaError::subject_not_found(subject))?;
        if versions.len() > versions_max {
            let message = format!(
                "the schema registry: subject '{name}' has {} versions; {versions_max} are the most",
                versions.len()
            );
            return Err(SchemaError::new(Reason::Store, message));
        }
        let latest = found(subject, latest)?;
        let known = self.ids.get(&name).await.filter(|ids| {
            let same = ids.of.get(&latest.version).is_none_or(|id| *id == latest.key.id);
            same && ids.of.keys().next_back().is_none_or(|last| *last <= latest.version)
                && now.since(ids.at) < IDS_FOR
        });
        let (mut of, at) = known.map_or((BTreeMap::new(), now), |ids| (ids.of.clone(), ids.at));
        of.insert(latest.version, latest.key.id);
        let missing: Vec<u32> =
            versions.iter().filter(|version| !of.contains_key(version)).copied().collect();
        let asked: Vec<(u32, Option<SchemaId>)> = stream::iter(missing)
            .map(|version| self.id_of(subject, version))
            .buffered(CALLS)
            .try_collect()
            .await?;
        of.extend(asked.into_iter().filter_map(|(version, id)| id.map(|id| (version, id))));
        // The list was made before the latest was asked for, or after: both belong to it.
        let mut numbers: BTreeSet<u32> = versions.into_iter().collect();
        numbers.insert(latest.version);
        let version = |number: u32| {
            let id = *of.get(&number)?;
            Some(SubjectVersion { version: number, id, deleted: false, tag: 0 })
        };
        let versions: Vec<SubjectVersion> = numbers.into_iter().filter_map(version).collect();
        self.ids.insert(name.clone(), Arc::new(Ids { of, at })).await;
        Ok((StoredSubject { name, context: subject.context().to_owned(), versions }, latest))
    }

    /// The schema that a version is; `None` where it is gone by now.
    async fn id_of(&self, subject: &Subject, version: u32) -> Result<(u32, Option<SchemaId>)> {
        match self.version(subject, VersionSelector::Number(version), false).await {
            Ok(found) => Ok((version, Some(found.key.id))),
            Err(error) if matches!(error.reason(), Reason::VersionNotFound | Reason::SubjectNotFound) => {
                Ok((version, None))
            }
            Err(error) => Err(error),
        }
    }

    /// The versions of a subject.
    pub(super) async fn versions(&self, subject: &Subject, deleted: Deleted) -> Result<Vec<u32>> {
        let name = subject.qualified();
        let all = self.registry.versions(&name, deleted != Deleted::Without).await?;
        if deleted != Deleted::Only {
            return Ok(all);
        }
        let live = none_if(self.registry.versions(&name, false).await, Reason::SubjectNotFound)?;
        let live: BTreeSet<u32> = live.into_iter().flatten().collect();
        Ok(all.into_iter().filter(|version| !live.contains(version)).collect())
    }

    /// The names of subjects of all contexts.
    pub(super) async fn subjects(&self, deleted: Deleted) -> Result<Vec<String>> {
        let all = self.registry.subjects(deleted != Deleted::Without).await?;
        if deleted != Deleted::Only {
            return Ok(all);
        }
        let live: BTreeSet<String> = self.registry.subjects(false).await?.into_iter().collect();
        Ok(all.into_iter().filter(|name| !live.contains(name)).collect())
    }

    /// The versions that a schema is; none of one that is not there.
    pub(super) async fn uses(&self, key: &SchemaKey, deleted: bool) -> Result<Vec<VersionKey>> {
        let uses = none_if(self.registry.uses(key, deleted).await, Reason::SchemaNotFound)?;
        Ok(uses.unwrap_or_default())
    }

    /// Under which version a subject has a schema.
    pub(super) async fn lookup(
        &self,
        subject: &Subject,
        schema: &NewSchema,
        normalize: bool,
        deleted: bool,
    ) -> Result<Found> {
        let asked = said(schema)?;
        found(subject, self.registry.lookup(&subject.qualified(), &asked, normalize, deleted).await?)
    }

    /// Registers a schema.
    pub(super) async fn register(
        &self,
        subject: &Subject,
        schema: &NewSchema,
        position: Position,
        normalize: bool,
    ) -> Result<Found> {
        if position != Position::default() {
            let message = "an `id` and a `version` are given to what is imported, which is done at the registry \
                           that `schema-registry.url` names; leave them out";
            return Err(SchemaError::new(Reason::NotSupported, message));
        }
        let new = said(schema)?;
        let found = found(subject, self.registry.register(&subject.qualified(), &new, normalize).await?)?;
        let (version, id) = (found.version, found.key.id.0);
        tracing::info!(%subject, version, id, "registered a schema at the registry outside");
        Ok(found)
    }

    /// Whether a schema may follow those of a subject.
    pub(super) async fn check(
        &self,
        subject: &Subject,
        schema: &NewSchema,
        against: Against,
        normalize: bool,
    ) -> Result<Check> {
        let against = match against {
            Against::Level => RegistryAgainst::Level,
            Against::Version(VersionSelector::Latest) => RegistryAgainst::Latest,
            Against::Version(VersionSelector::Number(number)) => RegistryAgainst::Version(number),
        };
        let asked = said(schema)?;
        let answer = self.registry.check(&subject.qualified(), &asked, against, normalize).await;
        match none_if(answer, Reason::SubjectNotFound) {
            Ok(Some(checked)) => {
                Ok(Check { is_compatible: checked.is_compatible, messages: checked.messages })
            }
            // Nothing is there that it could be at odds with.
            Ok(None) if !matches!(against, RegistryAgainst::Version(_)) => {
                Ok(Check { is_compatible: true, messages: Vec::new() })
            }
            Ok(None) => Err(SchemaError::subject_not_found(subject)),
            Err(error) => Err(error),
        }
    }

    /// Whether it serves, and how many subjects and contexts it has, as of a minute ago at most.
    pub(super) async fn statistics(&self, now: Monotonic) -> Result<Statistics> {
        if let Some(counted) = self.counted(now) {
            self.registry.ping().await?;
            return Ok(counted);
        }
        let names = self.registry.subjects(false).await?;
        let contexts: BTreeSet<String> = names
            .iter()
            .filter_map(|name| Subject::parse(name).ok())
            .map(|subject| subject.context().to_owned())
            .collect();
        let counted = Statistics {
            subjects: names.len() as u64,
            contexts: contexts.len() as u64,
            ..Statistics::default()
        };
        *self.counted.lock() = Some((now, counted.clone()));
        Ok(counted)
    }

    fn counted(&self, now: Monotonic) -> Option<Statistics> {
        let counted = self.counted.lock();
        counted.as_ref().filter(|(at, _)| now.since(*at) < COUNTED_FOR).map(|(_, counted)| counted.clone())
    }
}

/// What is not done here.
pub(super) fn elsewhere() -> SchemaError {
    let message =
        "is not done here, as the schemas are in the registry that `schema-registry.url` names: ask that one";
    SchemaError::new(Reason::NotSupported, message)
}

/// An answer, or `None` where the refusal is this one.
fn none_if<T>(asked: Asked<T>, reason: Reason) -> Result<Option<T>> {
    match asked.map_err(|error: RegistryError| SchemaError::from(error)) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.reason() == reason => Ok(None),
        Err(error) => Err(error),
    }
}

/// A version that was answered for a subject.
fn found(subject: &Subject, answered: RegistryVersion) -> Result<Found> {
    let key = SchemaKey { context: subject.context().to_owned(), id: answered.id };
    Ok(Found {
        subject: subject.qualified(),
        version: answered.version,
        deleted: answered.deleted,
        kept: read(answered.schema, answered.id)?,
        key,
    })
}

/// A schema as it was answered.
fn read(answered: RegistrySchema, id: SchemaId) -> Result<Kept> {
    let RegistrySchema { schema_type, text, references, metadata, rule_set, guid } = answered;
    let of = SchemaType::from_name(&schema_type).ok_or_else(|| {
        let shown: String = schema_type.chars().take(40).collect();
        let message = format!(
            "schema {id} of the registry is of the type {shown:?}; AVRO, JSON and PROTOBUF are known"
        );
        SchemaError::new(Reason::InvalidSchema, message)
    })?;
    let garbled = |what: &str| {
        SchemaError::new(Reason::Store, format!("the schema registry: {what} of schema {id} cannot be read"))
    };
    let reference = |to: RegistryReference| -> Result<Reference> {
        let version = to.version.ok_or_else(|| garbled("a reference"))?;
        Ok(Reference { name: to.name, subject: to.subject, version })
    };
    let extra = |what: &str, text: Option<String>| -> Result<Option<Value>> {
        text.map_or(Ok(None), |text| serde_json::from_str(&text).map_err(|_| garbled(what)))
    };
    let content = Content {
        schema_type: of,
        text,
        references: references.into_iter().map(reference).collect::<Result<_>>()?,
        metadata: extra("metadata", metadata)?,
        rule_set: extra("rules", rule_set)?,
    };
    Ok(Kept { content, fingerprint: guid.map(Fingerprint) })
}

/// A schema as the registry is given it, after what can be seen to be wrong with it.
fn said(schema: &NewSchema) -> Result<RegistrySchema> {
    schema.check()?;
    let reference = |to: &super::NewReference| RegistryReference {
        name: to.name.clone(),
        subject: to.subject.clone(),
        version: match to.version {
            VersionSelector::Latest => None,
            VersionSelector::Number(number) => Some(number),
        },
    };
    Ok(RegistrySchema {
        schema_type: schema.schema_type.as_str().to_owned(),
        text: schema.text.clone(),
        references: schema.references.iter().map(reference).collect(),
        metadata: schema.metadata.as_ref().map(Value::to_string),
        rule_set: schema.rule_set.as_ref().map(Value::to_string),
        guid: None,
    })
}

impl Content {
    /// Whether another text of this schema says the same. Some registries give it with other white space in different
    /// places.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let words =
            |content: &'_ Self| content.text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        self.schema_type == other.schema_type && (self.text == other.text || words(self) == words(other))
    }
}

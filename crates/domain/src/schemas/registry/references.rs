//! What schemas refer to, followed to the end.

use super::{
    Registry,
    content::{Content, Reference},
    error::{Reason, Result, SchemaError},
    live,
    lookup::{Read, VersionSelector},
    outside::Outside,
    registering::{NewReference, NewSchema},
    subject::Subject,
};
use crate::schemas::{ParsedSchema, Resolved, SchemaType, limits, parse};
use ports::{SchemaKey, StoredSubject, VersionKey};
use std::collections::{HashMap, HashSet};

impl Registry {
    /// Reads a schema that a client gave for a subject. What it refers to must be live, unless `deleted`.
    pub(super) async fn read(
        &self,
        subject: &Subject,
        schema: &NewSchema,
        normalize: bool,
        deleted: bool,
    ) -> Result<Read> {
        schema.check()?;
        let references = self.pin(subject, &schema.references, deleted).await?;
        let resolved = self.resolve(&references).await?;
        let text = schema.readable()?;
        let parsed = self.parse(schema.schema_type, text.clone(), resolved).await?;
        let content = Content {
            schema_type: schema.schema_type,
            text,
            references,
            metadata: schema.metadata.clone(),
            rule_set: schema.rule_set.clone(),
        };
        Ok(Read::new(content, parsed, normalize))
    }

    /// References as they are kept: with their contexts, and versions in place of `latest`.
    pub(super) async fn pin(
        &self,
        subject: &Subject,
        references: &[NewReference],
        deleted: bool,
    ) -> Result<Vec<Reference>> {
        let mut names = Vec::with_capacity(references.len());
        for reference in references {
            let to = Subject::parse(&reference.subject)?.relative_to(subject.context());
            names.push(to.qualified());
        }
        let subjects = self.store()?.subjects(names.clone()).await?;
        let pinned = references.iter().zip(names).zip(subjects).map(|((reference, name), found)| {
            let version = found.and_then(|found| reference.version.of(&found, deleted));
            let version = version.ok_or_else(|| not_there(&reference.name, &name, reference.version))?;
            Ok(Reference { name: reference.name.clone(), subject: name, version: version.version })
        });
        pinned.collect()
    }

    /// The texts that a schema with these references needs, its references' own among them. Each step of the way is
    /// two calls to the store, however many there are.
    pub(super) async fn resolve(&self, references: &[Reference]) -> Result<Vec<Resolved>> {
        let mut resolved: Vec<Resolved> = Vec::new();
        let mut by_name: HashMap<String, VersionKey> = HashMap::new();
        let mut seen: HashSet<(String, VersionKey)> = HashSet::new();
        let mut bytes = 0;
        let mut next: Vec<Reference> = references.to_vec();
        while !next.is_empty() {
            next.retain(|it| seen.insert((it.name.clone(), version_key(it))));
            if seen.len() > limits::REFERENCES_MAX {
                let message = format!(
                    "the schema refers to more than {} others, directly or through them; split it up",
                    limits::REFERENCES_MAX
                );
                return Err(SchemaError::new(Reason::InvalidSchema, message));
            }
            let mut after = Vec::new();
            for (reference, content) in next.iter().zip(self.referred(&next).await?) {
                let key = version_key(reference);
                match by_name.get(&reference.name) {
                    Some(other) if *other == key => continue,
                    Some(other) => return Err(two_of_one_name(&reference.name, other, &key)),
                    None => _ = by_name.insert(reference.name.clone(), key),
                }
                bytes += content.text.len();
                if bytes > limits::TOTAL_BYTES_MAX {
                    let message = format!(
                        "what the schema refers to has more than {} bytes; split it up",
                        limits::TOTAL_BYTES_MAX
                    );
                    return Err(SchemaError::new(Reason::InvalidSchema, message));
                }
                after.extend(content.references);
                resolved.push(Resolved { name: reference.name.clone(), text: content.text });
            }
            next = after;
        }
        Ok(resolved)
    }

    /// The contents of what is referred to. Deleted versions too: what refers to them is still read.
    async fn referred(&self, references: &[Reference]) -> Result<Vec<Content>> {
        if let Some(outside) = self.home_outside() {
            return self.referred_outside(outside, references).await;
        }
        let mut names: Vec<String> = references.iter().map(|it| it.subject.clone()).collect();
        names.sort();
        names.dedup();
        let subjects = self.store()?.subjects(names).await?;
        let subjects: HashMap<&str, &StoredSubject> =
            subjects.iter().flatten().map(|subject| (subject.name.as_str(), subject)).collect();
        let key = |reference: &Reference| {
            let subject = subjects.get(reference.subject.as_str());
            let version =
                subject.and_then(|it| it.versions.iter().find(|it| it.version == reference.version));
            let (subject, version) = subject.zip(version).ok_or_else(|| gone(reference))?;
            Ok(SchemaKey { context: subject.context.clone(), id: version.id })
        };
        let keys: Vec<SchemaKey> = references.iter().map(key).collect::<Result<_>>()?;
        let found = self.schemas(&keys).await?;
        let content = |(reference, schema): (&Reference, Option<super::lookup::Schema>)| {
            schema.map(|schema| schema.content().clone()).ok_or_else(|| gone(reference))
        };
        references.iter().zip(found).map(content).collect()
    }

    async fn referred_outside(&self, outside: &Outside, references: &[Reference]) -> Result<Vec<Content>> {
        let mut contents = Vec::with_capacity(references.len());
        for reference in references {
            let subject = Subject::parse(&reference.subject)?;
            let version = VersionSelector::Number(reference.version);
            let found =
                outside.version(&subject, version, true).await.map_err(|error| match error.reason() {
                    Reason::SubjectNotFound | Reason::VersionNotFound => gone(reference),
                    _ => error,
                })?;
            contents.push(found.kept.content);
        }
        Ok(contents)
    }

    /// Parses where it is in nobody's way.
    pub(super) async fn parse(
        &self,
        schema_type: SchemaType,
        text: String,
        references: Vec<Resolved>,
    ) -> Result<ParsedSchema> {
        self.compute(move || Ok(parse(schema_type, &text, &references)?)).await
    }

    /// That what is referred to is live now.
    pub(super) async fn check_live(&self, references: &[Reference]) -> Result<()> {
        let names: Vec<String> = references.iter().map(|it| it.subject.clone()).collect();
        let subjects = self.store()?.subjects(names).await?;
        for (reference, subject) in references.iter().zip(subjects) {
            let is_there =
                subject.is_some_and(|it| live(&it).any(|version| version.version == reference.version));
            if !is_there {
                return Err(not_there(&reference.name, &reference.subject, reference.version));
            }
        }
        Ok(())
    }
}

fn version_key(reference: &Reference) -> VersionKey {
    VersionKey { subject: reference.subject.clone(), version: reference.version }
}

fn not_there(name: &str, subject: &str, version: impl std::fmt::Display) -> SchemaError {
    let message = format!(
        "the reference `{name}` is to version {version} of subject '{subject}', which is not there; register it first"
    );
    SchemaError::new(Reason::InvalidSchema, message)
}

fn two_of_one_name(name: &str, one: &VersionKey, other: &VersionKey) -> SchemaError {
    let message = format!(
        "the name `{name}` refers to version {} of subject '{}' and to version {} of subject '{}'; one name must \
         be one schema",
        one.version, one.subject, other.version, other.subject
    );
    SchemaError::new(Reason::InvalidSchema, message)
}

fn gone(reference: &Reference) -> SchemaError {
    let message = format!(
        "a stored schema refers to version {} of subject '{}', which is not there any more",
        reference.version, reference.subject
    );
    SchemaError::new(Reason::Internal, message)
}

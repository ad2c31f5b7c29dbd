//! Schemas in maps.

use crate::schema_rules::{check_revision, id_exists, no_such_schema, version_exists};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{
    Fingerprint, RegisteredSchema, Result, Revision, SchemaChange, SchemaChanged, SchemaId, SchemaKey,
    SchemaSetting, SchemaStore, StoredSchema, StoredSubject, SubjectVersion, VersionKey,
};
use std::{collections::BTreeMap, ops::Bound};

/// `SchemaStore` in memory.
#[derive(Debug, Default)]
pub struct MemorySchemas(Mutex<Schemas>);

#[derive(Debug, Default)]
struct Schemas {
    revision: Revision,
    /// The last id of each context.
    last: BTreeMap<String, SchemaId>,
    kept: BTreeMap<SchemaKey, Kept>,
    subjects: BTreeMap<String, StoredSubject>,
    settings: BTreeMap<(SchemaSetting, String), Bytes>,
}

#[derive(Debug)]
struct Kept {
    stored: StoredSchema,
    references: Vec<VersionKey>,
}

impl Schemas {
    fn uses(&self, key: &SchemaKey) -> Vec<VersionKey> {
        let of_context = self.subjects.values().filter(|subject| subject.context == key.context);
        let versions = of_context.flat_map(|subject| {
            let found = subject.versions.iter().filter(|version| version.id == key.id);
            found.map(|version| VersionKey { subject: subject.name.clone(), version: version.version })
        });
        versions.collect()
    }

    fn make(&mut self, change: SchemaChange) -> Result<Option<SchemaId>> {
        match change {
            SchemaChange::Register { context, subject, version, tag, schema } => {
                return self.register(context, &subject, version, tag, schema).map(Some);
            }
            SchemaChange::Delete { subject, versions } => {
                let found = self.subjects.get_mut(&subject).into_iter().flat_map(|it| &mut it.versions);
                found
                    .filter(|version| versions.contains(&version.version))
                    .for_each(|version| version.deleted = true);
            }
            SchemaChange::Purge { subject, versions } => self.purge(&subject, &versions),
            SchemaChange::Set { setting, scope, value: Some(value) } => {
                self.settings.insert((setting, scope), value);
            }
            SchemaChange::Set { setting, scope, value: None } => {
                self.settings.remove(&(setting, scope));
            }
        }
        Ok(None)
    }

    fn register(
        &mut self,
        context: String,
        name: &str,
        version: u32,
        tag: u8,
        schema: RegisteredSchema,
    ) -> Result<SchemaId> {
        let there = self.subjects.get(name);
        if there.is_some_and(|subject| subject.versions.iter().any(|it| it.version == version)) {
            return Err(version_exists(name, version));
        }
        let last = self.last.get(&context).copied().unwrap_or(SchemaId(0));
        let id = match schema {
            RegisteredSchema::Known(id) => {
                if !self.kept.contains_key(&SchemaKey { context: context.clone(), id }) {
                    return Err(no_such_schema(&context, id));
                }
                id
            }
            RegisteredSchema::New { id, fingerprint, value, references } => {
                let id = id.unwrap_or(SchemaId(last.0 + 1));
                let key = SchemaKey { context: context.clone(), id };
                if self.kept.contains_key(&key) {
                    return Err(id_exists(&context, id));
                }
                self.last.insert(context.clone(), last.max(id));
                let stored = StoredSchema { key: key.clone(), fingerprint, value };
                self.kept.insert(key, Kept { stored, references });
                id
            }
        };
        let empty = || StoredSubject { name: name.to_owned(), context, versions: Vec::new() };
        let subject = self.subjects.entry(name.to_owned()).or_insert_with(empty);
        subject.versions.push(SubjectVersion { version, id, deleted: false, tag });
        subject.versions.sort_by_key(|version| version.version);
        Ok(id)
    }

    fn purge(&mut self, name: &str, versions: &[u32]) {
        let Some(subject) = self.subjects.get_mut(name) else { return };
        let context = subject.context.clone();
        let ids: Vec<SchemaId> = subject
            .versions
            .extract_if(.., |version| versions.contains(&version.version))
            .map(|version| version.id)
            .collect();
        if subject.versions.is_empty() {
            self.subjects.remove(name);
        }
        for id in ids {
            let key = SchemaKey { context: context.clone(), id };
            if self.uses(&key).is_empty() {
                self.kept.remove(&key);
            }
        }
    }
}

#[async_trait]
impl SchemaStore for MemorySchemas {
    async fn revision(&self) -> Result<Revision> {
        Ok(self.0.lock().revision)
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>> {
        let schemas = self.0.lock();
        Ok(keys.iter().map(|key| schemas.kept.get(key).map(|kept| kept.stored.clone())).collect())
    }

    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>> {
        let schemas = self.0.lock();
        let found = schemas.kept.iter().filter(|(_, kept)| kept.stored.fingerprint == fingerprint);
        Ok(found.map(|(key, _)| key.clone()).collect())
    }

    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>> {
        let schemas = self.0.lock();
        Ok(names.iter().map(|name| schemas.subjects.get(name).cloned()).collect())
    }

    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>> {
        let schemas = self.0.lock();
        let from = match after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let behind = schemas.subjects.range::<str, _>((from, Bound::Unbounded));
        let found = behind.take_while(|(name, _)| name.starts_with(prefix)).take(limit);
        Ok(found.map(|(_, subject)| subject.clone()).collect())
    }

    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>> {
        Ok(self.0.lock().uses(key))
    }

    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>> {
        let schemas = self.0.lock();
        let mut found: Vec<_> = schemas
            .kept
            .iter()
            .flat_map(|(key, kept)| {
                let to = kept.references.iter().filter(|to| to.subject == subject);
                to.map(|to| (to.version, key.clone()))
            })
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        let schemas = self.0.lock();
        Ok(scopes.into_iter().map(|scope| schemas.settings.get(&(setting, scope)).cloned()).collect())
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged> {
        change.check()?;
        let mut schemas = self.0.lock();
        check_revision(schemas.revision, expected)?;
        let id = schemas.make(change)?;
        schemas.revision.0 += 1;
        Ok(SchemaChanged { revision: schemas.revision, id })
    }
}

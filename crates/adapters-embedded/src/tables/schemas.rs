//! Schemas: their contents, the versions of subjects, and settings.
//!
//! What is looked for from the other side has a table of its own, whose rows are keys alone: contents by their
//! fingerprint, the versions that a schema is, and references in both directions. A change keeps them all in step,
//! as it is one transaction.

use super::{
    Tables,
    schema::{
        META, META_SCHEMAS, SCHEMA_FINGERPRINTS, SCHEMA_IDS, SCHEMA_REFERENCES, SCHEMA_REFERRERS,
        SCHEMA_SETTINGS, SCHEMA_USES, SCHEMA_VERSIONS, SCHEMAS,
    },
};
use crate::schema_rules::{CHANGE, check_revision, id_exists, no_such_schema, version_exists};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    Fingerprint, RegisteredSchema, Result, Revision, SchemaChange, SchemaChanged, SchemaId, SchemaKey,
    SchemaSetting, SchemaStore, StoredSchema, StoredSubject, SubjectVersion, VersionKey,
};
use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};

/// A row of [`SCHEMA_VERSIONS`]: context, id, whether it is deleted, tag.
type VersionRow<'a> = (&'a str, u32, bool, u8);

fn version((version, (_, id, deleted, tag)): (u32, VersionRow<'_>)) -> SubjectVersion {
    SubjectVersion { version, id: SchemaId(id), deleted, tag }
}

/// The subject of that name, as it is before any other change.
fn subject(
    versions: &impl ReadableTable<(&'static str, u32), VersionRow<'static>>,
    name: &str,
) -> Result<Option<StoredSubject>, Error> {
    let mut found: Option<StoredSubject> = None;
    for entry in versions.range((name, 0)..=(name, u32::MAX))? {
        let (key, row) = entry?;
        let (number, row) = (key.value().1, row.value());
        let empty =
            || StoredSubject { name: name.to_owned(), context: row.0.to_owned(), versions: Vec::new() };
        found.get_or_insert_with(empty).versions.push(version((number, row)));
    }
    Ok(found)
}

fn list(
    transaction: &ReadTransaction,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<StoredSubject>, Error> {
    let versions = transaction.open_table(SCHEMA_VERSIONS)?;
    let mut found = Vec::new();
    // A name that ends so stands behind all versions of the subject, and before any other name.
    let behind = |name: &str| format!("{name}\0");
    let mut from = match after {
        Some(after) if after >= prefix => behind(after),
        _ => prefix.to_owned(),
    };
    while found.len() < limit {
        let Some(entry) = versions.range((from.as_str(), 0)..)?.next() else { break };
        let name = entry?.0.value().0.to_owned();
        if !name.starts_with(prefix) {
            break;
        }
        found.extend(subject(&versions, &name)?);
        from = behind(&name);
    }
    Ok(found)
}

fn revision(table: &impl ReadableTable<&'static str, u64>) -> Result<Revision, Error> {
    Ok(Revision(table.get(META_SCHEMAS)?.map_or(0, |found| found.value())))
}

/// Makes a change at the revision that it expects.
fn make(
    transaction: &WriteTransaction,
    expected: Revision,
    change: &SchemaChange,
) -> Result<Result<SchemaChanged>, Error> {
    let mut meta = transaction.open_table(META)?;
    let found = revision(&meta)?;
    if let Err(refused) = check_revision(found, expected) {
        return Ok(Err(refused));
    }
    let id = match change {
        SchemaChange::Register { context, subject, version, tag, schema } => {
            match register(transaction, context, (subject, *version), *tag, schema)? {
                Ok(id) => Some(id),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        SchemaChange::Delete { subject, versions } => {
            delete(transaction, subject, versions)?;
            None
        }
        SchemaChange::Purge { subject, versions } => {
            purge(transaction, subject, versions)?;
            None
        }
        SchemaChange::Set { setting, scope, value } => {
            let mut settings = transaction.open_table(SCHEMA_SETTINGS)?;
            let key = (setting.as_str(), scope.as_str());
            match value {
                Some(value) => _ = settings.insert(key, &**value)?,
                None => _ = settings.remove(key)?,
            }
            None
        }
    };
    let revision = Revision(found.0 + 1);
    meta.insert(META_SCHEMAS, revision.0)?;
    Ok(Ok(SchemaChanged { revision, id }))
}

/// Checks all before it writes anything.
fn register(
    transaction: &WriteTransaction,
    context: &str,
    (subject, version): (&str, u32),
    tag: u8,
    schema: &RegisteredSchema,
) -> Result<Result<SchemaId>, Error> {
    let mut versions = transaction.open_table(SCHEMA_VERSIONS)?;
    let mut schemas = transaction.open_table(SCHEMAS)?;
    if versions.get((subject, version))?.is_some() {
        return Ok(Err(version_exists(subject, version)));
    }
    let id = match schema {
        RegisteredSchema::Known(id) => {
            if schemas.get((context, id.0))?.is_none() {
                return Ok(Err(no_such_schema(context, *id)));
            }
            id.0
        }
        RegisteredSchema::New { id, fingerprint, value, references } => {
            let mut ids = transaction.open_table(SCHEMA_IDS)?;
            let last = ids.get(context)?.map_or(0, |last| last.value());
            let id = id.map_or(last + 1, |id| id.0);
            if schemas.get((context, id))?.is_some() {
                return Ok(Err(id_exists(context, SchemaId(id))));
            }
            ids.insert(context, last.max(id))?;
            schemas.insert((context, id), (&fingerprint.0, &**value))?;
            transaction.open_table(SCHEMA_FINGERPRINTS)?.insert((&fingerprint.0, context, id), ())?;
            let mut to = transaction.open_table(SCHEMA_REFERENCES)?;
            let mut from = transaction.open_table(SCHEMA_REFERRERS)?;
            for VersionKey { subject, version } in references {
                to.insert((context, id, subject.as_str(), *version), ())?;
                from.insert((subject.as_str(), *version, context, id), ())?;
            }
            id
        }
    };
    versions.insert((subject, version), (context, id, false, tag))?;
    transaction.open_table(SCHEMA_USES)?.insert((context, id, subject, version), ())?;
    Ok(Ok(SchemaId(id)))
}

fn delete(transaction: &WriteTransaction, subject: &str, deleted: &[u32]) -> Result<(), Error> {
    let mut versions = transaction.open_table(SCHEMA_VERSIONS)?;
    for &version in deleted {
        let found = versions.get((subject, version))?.map(|found| {
            let (context, id, _, tag) = found.value();
            (context.to_owned(), id, tag)
        });
        if let Some((context, id, tag)) = found {
            versions.insert((subject, version), (context.as_str(), id, true, tag))?;
        }
    }
    Ok(())
}

fn purge(transaction: &WriteTransaction, subject: &str, purged: &[u32]) -> Result<(), Error> {
    let mut versions = transaction.open_table(SCHEMA_VERSIONS)?;
    let mut uses = transaction.open_table(SCHEMA_USES)?;
    for &version in purged {
        let row = versions.remove((subject, version))?;
        let Some((context, id)) = row.map(|row| (row.value().0.to_owned(), row.value().1)) else { continue };
        let context = context.as_str();
        uses.remove((context, id, subject, version))?;
        let all = (context, id, "", 0)..(context, id + 1, "", 0);
        let is_left = uses.range(all)?.next().transpose()?.is_some();
        if !is_left {
            remove_schema(transaction, context, id)?;
        }
    }
    Ok(())
}

fn remove_schema(transaction: &WriteTransaction, context: &str, id: u32) -> Result<(), Error> {
    let removed = transaction.open_table(SCHEMAS)?.remove((context, id))?.map(|row| *row.value().0);
    if let Some(fingerprint) = removed {
        transaction.open_table(SCHEMA_FINGERPRINTS)?.remove((&fingerprint, context, id))?;
    }
    let mut to = transaction.open_table(SCHEMA_REFERENCES)?;
    let mut from = transaction.open_table(SCHEMA_REFERRERS)?;
    let references = to
        .range((context, id, "", 0)..(context, id + 1, "", 0))?
        .map(|entry| entry.map(|(key, _)| (key.value().2.to_owned(), key.value().3)));
    let references: Vec<(String, u32)> = references.collect::<Result<_, _>>()?;
    for (subject, version) in references {
        to.remove((context, id, subject.as_str(), version))?;
        from.remove((subject.as_str(), version, context, id))?;
    }
    Ok(())
}

#[async_trait]
impl SchemaStore for Tables {
    async fn revision(&self) -> Result<Revision> {
        self.read("schema_store.revision", |transaction| revision(&transaction.open_table(META)?)).await
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>> {
        self.read("schema_store.schemas", move |transaction| {
            let schemas = transaction.open_table(SCHEMAS)?;
            let read = |key: SchemaKey| {
                let found = schemas.get((key.context.as_str(), key.id.0))?;
                Ok(found.map(|row| {
                    let (fingerprint, value) = row.value();
                    let (fingerprint, value) = (Fingerprint(*fingerprint), Bytes::copy_from_slice(value));
                    StoredSchema { key, fingerprint, value }
                }))
            };
            keys.into_iter().map(read).collect()
        })
        .await
    }

    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>> {
        self.read("schema_store.find", move |transaction| {
            let mut found = Vec::new();
            for entry in transaction.open_table(SCHEMA_FINGERPRINTS)?.range((&fingerprint.0, "", 0)..)? {
                let (key, _) = entry?;
                let (of, context, id) = key.value();
                if *of != fingerprint.0 {
                    break;
                }
                found.push(SchemaKey { context: context.to_owned(), id: SchemaId(id) });
            }
            Ok(found)
        })
        .await
    }

    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>> {
        self.read("schema_store.subjects", move |transaction| {
            let versions = transaction.open_table(SCHEMA_VERSIONS)?;
            names.iter().map(|name| subject(&versions, name)).collect()
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>> {
        let prefix = prefix.to_owned();
        self.read("schema_store.list", move |transaction| list(transaction, &prefix, after.as_deref(), limit))
            .await
    }

    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>> {
        let (context, id) = (key.context.clone(), key.id.0);
        self.read("schema_store.uses", move |transaction| {
            let uses = transaction.open_table(SCHEMA_USES)?;
            let all = (context.as_str(), id, "", 0)..(context.as_str(), id + 1, "", 0);
            let read = |entry: Result<(redb::AccessGuard<'_, _>, _), _>| {
                let (key, _) = entry?;
                let (_, _, subject, version): (&str, u32, &str, u32) = key.value();
                Ok(VersionKey { subject: subject.to_owned(), version })
            };
            uses.range(all)?.map(read).collect()
        })
        .await
    }

    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>> {
        let subject = subject.to_owned();
        self.read("schema_store.referrers", move |transaction| {
            let mut found = Vec::new();
            for entry in transaction.open_table(SCHEMA_REFERRERS)?.range((subject.as_str(), 0, "", 0)..)? {
                let (key, _) = entry?;
                let (to, version, context, id) = key.value();
                if to != subject {
                    break;
                }
                found.push((version, SchemaKey { context: context.to_owned(), id: SchemaId(id) }));
            }
            Ok(found)
        })
        .await
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        self.read("schema_store.settings", move |transaction| {
            let settings = transaction.open_table(SCHEMA_SETTINGS)?;
            let read = |scope: &String| {
                let found = settings.get((setting.as_str(), scope.as_str()))?;
                Ok(found.map(|found| Bytes::copy_from_slice(found.value())))
            };
            scopes.iter().map(read).collect()
        })
        .await
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged> {
        change.check()?;
        self.write(CHANGE, move |transaction| make(transaction, expected, &change)).await
    }
}

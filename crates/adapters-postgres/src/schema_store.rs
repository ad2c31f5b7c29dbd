//! Schemas on PostgreSQL: a statement a call, also for a change of many rows.
//!
//! # Why of changes at one revision one wins
//!
//! A change first moves the revision from what it expects, in the one row that has it; all else that the statement
//! does hangs on that. At READ COMMITTED a row that another change has is waited for and looked at again on what
//! that one left: then it is at another revision, nothing is moved, and nothing else is done, which is the conflict.
//! Where it is moved, no other change came since the statement began: it saw the tables as they are.
//!
//! What the keys of the tables refuse takes the whole statement back, the revision included. A change is sent once.
//! Where no answer comes it may have taken effect, and the error says so.

use crate::{error, pool::Pool};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    ErrorKind, Fingerprint, PortError, RegisteredSchema, Result, Revision, SchemaChange, SchemaChanged,
    SchemaId, SchemaKey, SchemaSetting, SchemaStore, StoredSchema, StoredSubject, SubjectVersion, VersionKey,
};
use sqlx::{
    AssertSqlSafe, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use std::{collections::HashMap, sync::Arc};

const REVISION: &str = "schema_store.revision";
const SCHEMAS: &str = "schema_store.schemas";
const FIND: &str = "schema_store.find";
const SUBJECTS: &str = "schema_store.subjects";
const LIST: &str = "schema_store.list";
const USES: &str = "schema_store.uses";
const REFERRERS: &str = "schema_store.referrers";
const SETTINGS: &str = "schema_store.settings";
const CHANGE: &str = "schema_store.change";

/// The store.
#[derive(Debug)]
pub(crate) struct Schemas {
    pool: Arc<Pool>,
    sql: Statements,
}

/// The statements, with the schema in them.
#[derive(Debug)]
struct Statements {
    revision: Arc<str>,
    schemas: Arc<str>,
    find: Arc<str>,
    subjects: Arc<str>,
    list: Arc<str>,
    uses: Arc<str>,
    referrers: Arc<str>,
    settings: Arc<str>,
    register_known: Arc<str>,
    register_new: Arc<str>,
    delete: Arc<str>,
    purge: Arc<str>,
    set: Arc<str>,
    unset: Arc<str>,
}

impl Statements {
    fn new(pool: &Pool) -> Self {
        // `$1` is the revision that a change expects.
        let turn = "WITH turn AS (UPDATE {schema}.schema_revision SET revision = revision + 1 \
                    WHERE revision = $1 RETURNING revision)";
        let change = |sql: &str| pool.sql(&format!("{turn}{sql}"));
        let columns = "subject, version, context, id, deleted, tag";
        Self {
            revision: pool.sql("SELECT revision FROM {schema}.schema_revision"),
            schemas: pool.sql(
                "SELECT context, id, fingerprint, value FROM {schema}.schemas \
                 WHERE (context, id) IN (SELECT * FROM unnest($1::text[], $2::integer[]))",
            ),
            find: pool
                .sql("SELECT context, id FROM {schema}.schemas WHERE fingerprint = $1 ORDER BY context, id"),
            subjects: pool.sql(&format!(
                "SELECT {columns} FROM {{schema}}.schema_versions WHERE subject = ANY($1::text[]) \
                 ORDER BY subject, version"
            )),
            // The first names behind one, each found by the index, and then all their versions.
            list: pool.sql(&format!(
                "WITH RECURSIVE names AS ( \
                   (SELECT subject, 1 AS nth FROM {{schema}}.schema_versions \
                    WHERE subject >= $1 AND ($2::text IS NULL OR subject > $2) ORDER BY subject LIMIT 1) \
                   UNION ALL \
                   SELECT (SELECT v.subject FROM {{schema}}.schema_versions v WHERE v.subject > names.subject \
                           ORDER BY v.subject LIMIT 1), nth + 1 \
                   FROM names WHERE nth < $3 AND starts_with(subject, $1)) \
                 SELECT {columns} FROM {{schema}}.schema_versions \
                 WHERE $3 > 0 AND subject IN (SELECT subject FROM names WHERE starts_with(subject, $1)) \
                 ORDER BY subject, version"
            )),
            uses: pool.sql(
                "SELECT subject, version FROM {schema}.schema_versions WHERE context = $1 AND id = $2 \
                 ORDER BY subject, version",
            ),
            referrers: pool.sql(
                "SELECT version, context, id FROM {schema}.schema_references WHERE subject = $1 \
                 ORDER BY version, context, id",
            ),
            settings: pool.sql(
                "SELECT scope, value FROM {schema}.schema_settings WHERE kind = $1 AND scope = ANY($2::text[])",
            ),
            register_known: change(
                ", known AS (SELECT s.id FROM {schema}.schemas s, turn WHERE s.context = $2 AND s.id = $6), \
                 added AS (INSERT INTO {schema}.schema_versions (subject, version, context, id, deleted, tag) \
                   SELECT $3, $4, $2, id, false, $5 FROM known) \
                 SELECT revision, (SELECT id FROM known) AS id, \
                   1 / (SELECT count(*) FROM known) AS known FROM turn",
            ),
            register_new: change(
                ", drawn AS (INSERT INTO {schema}.schema_ids AS ids (context, last) \
                   SELECT $2, coalesce($6::integer, 1) FROM turn \
                   ON CONFLICT (context) DO UPDATE SET last = greatest(ids.last, coalesce($6::integer, ids.last + 1)) \
                   RETURNING coalesce($6::integer, last) AS id), \
                 made AS (INSERT INTO {schema}.schemas (context, id, fingerprint, value) \
                   SELECT $2, id, $7, $8 FROM drawn), \
                 refers AS (INSERT INTO {schema}.schema_references (context, id, subject, version) \
                   SELECT DISTINCT $2, drawn.id, it.subject, it.version \
                   FROM drawn, unnest($9::text[], $10::integer[]) AS it (subject, version)), \
                 added AS (INSERT INTO {schema}.schema_versions (subject, version, context, id, deleted, tag) \
                   SELECT $3, $4, $2, id, false, $5 FROM drawn) \
                 SELECT revision, id FROM turn, drawn",
            ),
            delete: change(
                ", gone AS (UPDATE {schema}.schema_versions SET deleted = true FROM turn \
                   WHERE subject = $2 AND version = ANY($3::integer[])) \
                 SELECT revision FROM turn",
            ),
            // The parts of a statement do not see each other's effects: what is left of a schema is asked of all
            // versions but those that go.
            purge: change(
                ", gone AS (DELETE FROM {schema}.schema_versions v USING turn \
                   WHERE v.subject = $2 AND v.version = ANY($3::integer[]) RETURNING v.context, v.id), \
                 unused AS (SELECT DISTINCT context, id FROM gone WHERE NOT EXISTS ( \
                   SELECT 1 FROM {schema}.schema_versions v WHERE v.context = gone.context AND v.id = gone.id \
                   AND NOT (v.subject = $2 AND v.version = ANY($3::integer[])))), \
                 unmade AS (DELETE FROM {schema}.schemas s USING unused u \
                   WHERE s.context = u.context AND s.id = u.id), \
                 unrefers AS (DELETE FROM {schema}.schema_references r USING unused u \
                   WHERE r.context = u.context AND r.id = u.id) \
                 SELECT revision FROM turn",
            ),
            set: change(
                ", made AS (INSERT INTO {schema}.schema_settings (kind, scope, value) \
                   SELECT $2, $3, $4 FROM turn ON CONFLICT (kind, scope) DO UPDATE SET value = excluded.value) \
                 SELECT revision FROM turn",
            ),
            unset: change(
                ", gone AS (DELETE FROM {schema}.schema_settings USING turn WHERE kind = $2 AND scope = $3) \
                 SELECT revision FROM turn",
            ),
        }
    }
}

fn query(sql: &Arc<str>) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(sql.clone()))
}

impl Schemas {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let sql = Statements::new(&pool);
        Self { pool, sql }
    }

    /// Asks, and reads each row.
    async fn ask<T>(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        operation: &'static str,
        read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>> {
        let rows = self.pool.fetch_all(query, operation).await?;
        rows.iter().map(|row| read(row).map_err(|error| error::of(error, operation))).collect()
    }

    /// Subjects from the rows of their versions, which come by subject and version.
    async fn ask_subjects(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        operation: &'static str,
    ) -> Result<Vec<StoredSubject>> {
        let rows = self
            .ask(query, operation, |row| {
                let version = SubjectVersion {
                    version: number(row, "version")?,
                    id: SchemaId(number(row, "id")?),
                    deleted: row.try_get("deleted")?,
                    tag: row.try_get::<i16, _>("tag")? as u8,
                };
                Ok((row.try_get::<String, _>("subject")?, row.try_get::<String, _>("context")?, version))
            })
            .await?;
        let mut found: Vec<StoredSubject> = Vec::new();
        for (name, context, version) in rows {
            match found.last_mut().filter(|last| last.name == name) {
                Some(last) => last.versions.push(version),
                None => found.push(StoredSubject { name, context, versions: vec![version] }),
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl SchemaStore for Schemas {
    async fn revision(&self) -> Result<Revision> {
        let found = self.ask(query(&self.sql.revision), REVISION, revision).await?;
        found.first().copied().ok_or_else(|| error::corrupt(REVISION, "the revision of the schemas is gone"))
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>> {
        let contexts: Vec<&str> = keys.iter().map(|key| key.context.as_str()).collect();
        let ids: Vec<i32> = keys.iter().map(|key| key.id.0 as i32).collect();
        let query = query(&self.sql.schemas).bind(contexts).bind(ids);
        let found = self
            .ask(query, SCHEMAS, |row| {
                let key = key(row)?;
                let (fingerprint, value): (Vec<u8>, Vec<u8>) =
                    (row.try_get("fingerprint")?, row.try_get("value")?);
                let fingerprint = fingerprint.try_into().map(Fingerprint);
                let fingerprint = fingerprint.map_err(|_| sqlx::Error::Decode("a fingerprint".into()))?;
                Ok(StoredSchema { key, fingerprint, value: value.into() })
            })
            .await?;
        let found: HashMap<_, _> = found.into_iter().map(|schema| (schema.key.clone(), schema)).collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>> {
        self.ask(query(&self.sql.find).bind(fingerprint.0.to_vec()), FIND, key).await
    }

    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>> {
        names.iter().try_for_each(|name| check_name("subject", name, SUBJECTS))?;
        let found = self.ask_subjects(query(&self.sql.subjects).bind(&names), SUBJECTS).await?;
        let found: HashMap<_, _> = found.into_iter().map(|subject| (subject.name.clone(), subject)).collect();
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>> {
        check_name("prefix", prefix, LIST)?;
        check_name("subject", after.as_deref().unwrap_or_default(), LIST)?;
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        self.ask_subjects(query(&self.sql.list).bind(prefix).bind(after).bind(limit), LIST).await
    }

    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>> {
        let query = query(&self.sql.uses).bind(&key.context).bind(key.id.0 as i32);
        let read = |row: &PgRow| {
            Ok(VersionKey { subject: row.try_get("subject")?, version: number(row, "version")? })
        };
        self.ask(query, USES, read).await
    }

    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>> {
        check_name("subject", subject, REFERRERS)?;
        let read = |row: &PgRow| Ok((number(row, "version")?, key(row)?));
        self.ask(query(&self.sql.referrers).bind(subject), REFERRERS, read).await
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        scopes.iter().try_for_each(|scope| check_name("scope", scope, SETTINGS))?;
        let query = query(&self.sql.settings).bind(setting.as_str()).bind(&scopes);
        let read = |row: &PgRow| {
            Ok((row.try_get::<String, _>("scope")?, Bytes::from(row.try_get::<Vec<u8>, _>("value")?)))
        };
        let found: HashMap<_, _> = self.ask(query, SETTINGS, read).await?.into_iter().collect();
        Ok(scopes.iter().map(|scope| found.get(scope).cloned()).collect())
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged> {
        change.check()?;
        let query = bind(&self.sql, expected, &change);
        let read = |row: &PgRow| {
            let id =
                matches!(change, SchemaChange::Register { .. }).then(|| number(row, "id")).transpose()?;
            Ok(SchemaChanged { revision: revision(row)?, id: id.map(SchemaId) })
        };
        let changed = self.ask(query, CHANGE, read).await.map_err(|error| refused(error, &change))?;
        changed.first().copied().ok_or_else(|| {
            let detail = format!("the schemas are not at revision {} (any more)", expected.0);
            PortError::new(ErrorKind::Conflict, CHANGE, detail)
        })
    }
}

/// The statement of a change.
fn bind<'a>(
    sql: &Statements,
    expected: Revision,
    change: &'a SchemaChange,
) -> Query<'a, Postgres, PgArguments> {
    let begin = |sql: &Arc<str>| query(sql).bind(expected.0 as i64);
    let numbers = |numbers: &[u32]| numbers.iter().map(|&number| number as i32).collect::<Vec<_>>();
    match change {
        SchemaChange::Register { context, subject, version, tag, schema } => {
            let added = |query: Query<'a, Postgres, PgArguments>| {
                query.bind(context).bind(subject).bind(*version as i32).bind(i16::from(*tag))
            };
            match schema {
                RegisteredSchema::Known(id) => added(begin(&sql.register_known)).bind(id.0 as i32),
                RegisteredSchema::New { id, fingerprint, value, references } => {
                    let subjects: Vec<&str> = references.iter().map(|to| to.subject.as_str()).collect();
                    let versions: Vec<u32> = references.iter().map(|to| to.version).collect();
                    added(begin(&sql.register_new))
                        .bind(id.map(|id| id.0 as i32))
                        .bind(fingerprint.0.to_vec())
                        .bind(&value[..])
                        .bind(subjects)
                        .bind(numbers(&versions))
                }
            }
        }
        SchemaChange::Delete { subject, versions } => {
            begin(&sql.delete).bind(subject).bind(numbers(versions))
        }
        SchemaChange::Purge { subject, versions } => begin(&sql.purge).bind(subject).bind(numbers(versions)),
        SchemaChange::Set { setting, scope, value: Some(value) } => {
            begin(&sql.set).bind(setting.as_str()).bind(scope).bind(&value[..])
        }
        SchemaChange::Set { setting, scope, value: None } => {
            begin(&sql.unset).bind(setting.as_str()).bind(scope)
        }
    }
}

fn number(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    Ok(row.try_get::<i32, _>(column)?.cast_unsigned())
}

fn revision(row: &PgRow) -> Result<Revision, sqlx::Error> {
    Ok(Revision(row.try_get::<i64, _>("revision")?.cast_unsigned()))
}

fn key(row: &PgRow) -> Result<SchemaKey, sqlx::Error> {
    Ok(SchemaKey { context: row.try_get("context")?, id: SchemaId(number(row, "id")?) })
}

/// What the keys of the tables, or the division by how many schemas of an id there are, refused.
fn refused(error: PortError, change: &SchemaChange) -> PortError {
    let SchemaChange::Register { context, subject, version, schema, .. } = change else { return error };
    if !error::is_refused_by_a_key(&error) {
        return error;
    }
    let detail = match schema {
        RegisteredSchema::Known(id) => format!(
            "the subject {subject:?} has a version {version} already, or the context {context:?} no schema {id}"
        ),
        RegisteredSchema::New { .. } => format!(
            "the subject {subject:?} has a version {version} already, or the context {context:?} that schema"
        ),
    };
    PortError::new(ErrorKind::Invalid, CHANGE, detail).with_source(error)
}

/// What the server's texts cannot hold, so that nothing of that name is there.
fn check_name(what: &str, name: &str, operation: &'static str) -> Result<()> {
    if name.contains('\0') {
        let text = format!("the {what} {name:?} has the character U+0000; it must have none");
        return Err(PortError::new(ErrorKind::Invalid, operation, text));
    }
    Ok(())
}

//! Documents on PostgreSQL: one row each, one statement a change.
//!
//! # Why of changes at the same time one wins
//!
//! A change names the version that it expects in its condition, or that there is no row. At READ COMMITTED a row
//! that another change has is waited for, and the condition looked at again on what that one left; of insertions
//! the index of the primary key lets one through. What the condition does not hold for writes nothing and returns
//! nothing, which is the conflict.
//!
//! # Why versions grow, and none is given twice
//!
//! They are drawn from one sequence, which neither a deletion nor a rollback sets back. A change first takes the
//! turn of its document, a lock that ends with it, and draws after that: so changes of one document draw in the
//! order in which they take effect, also where it is deleted and made anew meanwhile. That names of other
//! documents may hash to the same turn costs a wait and no more.
//!
//! A change is sent once. Where no answer comes it may have taken effect, and the error says so.

use crate::{error, pool::Pool};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore, PortError, Result, Stored};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow};
use std::sync::Arc;

/// The largest document.
const VALUE_BYTES_MAX: usize = 16 << 20;

const GET: &str = "job_store.get";
const LIST: &str = "job_store.list";
const PUT: &str = "job_store.put";
const DELETE: &str = "job_store.delete";

/// The store.
#[derive(Debug)]
pub(crate) struct Documents {
    pool: Arc<Pool>,
    get: Arc<str>,
    list: Arc<str>,
    create: Arc<str>,
    replace: Arc<str>,
    delete: Arc<str>,
}

impl Documents {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        // `$1` is the kind and `$2` the name, in all that are about one document.
        let turn = "WITH turn AS (SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 1)))";
        let change = |sql: &str| pool.sql(&format!("{turn} {sql}"));
        Self {
            get: pool
                .sql("SELECT name, version, value FROM {schema}.documents WHERE kind = $1 AND name = $2"),
            list: pool
                .sql("SELECT name, version, value FROM {schema}.documents WHERE kind = $1 ORDER BY name"),
            create: change(
                "INSERT INTO {schema}.documents (kind, name, version, value) \
                 SELECT $1, $2, nextval('{schema}.document_versions'), $3 FROM turn \
                 ON CONFLICT (kind, name) DO NOTHING RETURNING version",
            ),
            replace: change(
                "UPDATE {schema}.documents SET version = nextval('{schema}.document_versions'), value = $3 \
                 FROM turn WHERE kind = $1 AND name = $2 AND version = $4 RETURNING version",
            ),
            delete: change(
                "DELETE FROM {schema}.documents USING turn \
                 WHERE kind = $1 AND name = $2 AND version = $3 RETURNING version",
            ),
            pool,
        }
    }
}

#[async_trait]
impl JobStore for Documents {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        check_name(name, GET)?;
        let query = sqlx::query(AssertSqlSafe(self.get.clone())).bind(kind.as_str()).bind(name);
        let rows = self.pool.fetch_all(query, GET).await?;
        rows.first().map(|row| stored(row).map_err(|error| error::of(error, GET))).transpose()
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        let query = sqlx::query(AssertSqlSafe(self.list.clone())).bind(kind.as_str());
        let rows = self.pool.fetch_all(query, LIST).await?;
        rows.iter().map(|row| stored(row).map_err(|error| error::of(error, LIST))).collect()
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64> {
        check_name(name, PUT)?;
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, kind) = (value.len(), kind.as_str());
            let text = format!("{kind} {name:?} has {bytes} bytes; it may have {VALUE_BYTES_MAX}");
            return Err(PortError::new(ErrorKind::TooLarge, PUT, text));
        }
        let sql = match expected {
            Expected::Absent => &self.create,
            Expected::Version(_) => &self.replace,
        };
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(kind.as_str()).bind(name).bind(&value[..]);
        let query = match expected {
            Expected::Absent => query,
            Expected::Version(version) => query.bind(version as i64),
        };
        let rows = self.pool.fetch_all(query, PUT).await?;
        let row = rows.first().ok_or_else(|| conflict((kind, name), expected, PUT))?;
        version(row).map_err(|error| error::of(error, PUT))
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        check_name(name, DELETE)?;
        let query = sqlx::query(AssertSqlSafe(self.delete.clone()));
        let query = query.bind(kind.as_str()).bind(name).bind(version as i64);
        let rows = self.pool.fetch_all(query, DELETE).await?;
        if rows.is_empty() {
            return Err(conflict((kind, name), Expected::Version(version), DELETE));
        }
        Ok(())
    }
}

fn stored(row: &PgRow) -> Result<Stored, sqlx::Error> {
    let value: Vec<u8> = row.try_get("value")?;
    Ok(Stored { name: row.try_get("name")?, version: version(row)?, value: value.into() })
}

fn version(row: &PgRow) -> Result<u64, sqlx::Error> {
    // The sequence has positive numbers only; those beyond them, as what is asked for, are in no row.
    row.try_get::<i64, _>("version").map(i64::cast_unsigned)
}

fn conflict((kind, name): (JobKind, &str), expected: Expected, operation: &'static str) -> PortError {
    let what = match expected {
        Expected::Absent => "is there already".to_owned(),
        Expected::Version(version) => format!("is not at version {version} (any more)"),
    };
    PortError::new(ErrorKind::Conflict, operation, format!("{} {name:?} {what}", kind.as_str()))
}

/// What the server's texts cannot hold.
fn check_name(name: &str, operation: &'static str) -> Result<()> {
    if name.contains('\0') {
        let text = format!("the name {name:?} has the character U+0000; it must have none");
        return Err(PortError::new(ErrorKind::Invalid, operation, text));
    }
    Ok(())
}

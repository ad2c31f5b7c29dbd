//! The schema, made and brought up to date by whichever replica comes first.
//!
//! All of it is one transaction under an advisory lock, so that of replicas that start together one does
//! the work, the others wait and find it done, and a crash in between leaves nothing half done. What was
//! migrated by a later version is refused rather than guessed at.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// What makes each version of the schema from the one before; never changed, only added to.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_claims.sql"),
    include_str!("migrations/0002_documents.sql"),
    include_str!("migrations/0003_schemas.sql"),
];

/// What keeps a schema from being brought up to date.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's or the connection's.
    Client(sqlx::Error),
    /// It is of a later version than this program knows.
    Newer(i32),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    pub(crate) fn newer_text(version: i32, schema: &str) -> String {
        let known = MIGRATIONS.len();
        format!(
            "PostgreSQL: the schema `{schema}` is of version {version}, and this program knows it up to {known}; \
             run the later program, or give this one a schema of its own (postgres.schema)"
        )
    }
}

/// Puts the schema's name into a statement. It was checked to be a plain identifier.
pub(crate) fn in_schema(sql: &str, schema: &str) -> String {
    sql.replace("{schema}", schema)
}

/// Brings the schema up to date.
pub(crate) async fn run(connection: &mut PgConnection, schema: &str) -> Result<(), Failure> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('event-streaming:' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    // Asked rather than `IF NOT EXISTS`, which wants the right to make what is there already.
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema)
        .fetch_one(&mut *transaction)
        .await?;
    if !there {
        let sql = in_schema("CREATE SCHEMA {schema}", schema);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
    }
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1 || '.migrations') IS NOT NULL")
        .bind(schema)
        .fetch_one(&mut *transaction)
        .await?;
    if !there {
        let sql = "CREATE TABLE {schema}.migrations (version integer PRIMARY KEY, \
                   applied_at timestamptz NOT NULL DEFAULT now())";
        sqlx::query(AssertSqlSafe(in_schema(sql, schema))).execute(&mut *transaction).await?;
    }
    let sql = in_schema("SELECT coalesce(max(version), 0) FROM {schema}.migrations", schema);
    let version: i32 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await?;
    if version as usize > MIGRATIONS.len() {
        return Err(Failure::Newer(version));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        sqlx::raw_sql(AssertSqlSafe(in_schema(sql, schema))).execute(&mut *transaction).await?;
        let sql = in_schema("INSERT INTO {schema}.migrations (version) VALUES ($1)", schema);
        sqlx::query(AssertSqlSafe(sql)).bind(index as i32 + 1).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

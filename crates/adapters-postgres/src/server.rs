//! A server: what is opened, and what it says of itself.

use crate::{
    cleanup::Cleanup,
    config::{PostgresConfig, PostgresStatus},
    error,
    idempotency_store::Claims,
    job_store::Documents,
    pool::Pool,
    schema_store::Schemas,
};
use ports::{ErrorKind, IdempotencyStore, JobStore, PortError, Result, SchemaStore};
use sqlx::Row as _;
use std::{sync::Arc, time::Duration};

/// PostgreSQL, open. Clones share its connections; the cleanup ends with the last of them.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: Arc<Pool>,
    claims: Arc<Claims>,
    documents: Arc<Documents>,
    schemas: Arc<Schemas>,
    _cleanup: Arc<Cleanup>,
}

impl Postgres {
    /// Checks the settings and makes what speaks to the server, which need not be there yet: it is
    /// connected to, and its schema made or brought up to date, when it is first needed. Must be called
    /// within a runtime of tokio's.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be right, as a URL of another kind. The text has no part of the
    /// URL.
    pub fn open(config: &PostgresConfig) -> Result<Self> {
        if config.cleanup_interval.is_zero() {
            let what = "the cleanup interval must be more than nothing";
            return Err(PortError::new(ErrorKind::Invalid, "postgres.open", what));
        }
        let pool = Arc::new(Pool::open(config)?);
        let claims = Arc::new(Claims::new(pool.clone()));
        let documents = Arc::new(Documents::new(pool.clone()));
        let schemas = Arc::new(Schemas::new(pool.clone()));
        let cleanup = Arc::new(Cleanup::begin(pool.clone(), config.cleanup_interval));
        Ok(Self { pool, claims, documents, schemas, _cleanup: cleanup })
    }

    /// The store of claims.
    pub fn idempotency(&self) -> Arc<dyn IdempotencyStore> {
        self.claims.clone()
    }

    /// The store of documents.
    pub fn jobs(&self) -> Arc<dyn JobStore> {
        self.documents.clone()
    }

    /// The store of schemas.
    pub fn schemas(&self) -> Arc<dyn SchemaStore> {
        self.schemas.clone()
    }

    /// Asks the server whether it serves, and whether it keeps what it is told.
    ///
    /// # Errors
    /// `Unavailable` (a standby is that too), `Timeout`, `Denied`, as a call to the store would have;
    /// `Unsupported` where the schema is of a later version of this program.
    pub async fn check(&self) -> Result<PostgresStatus> {
        const OPERATION: &str = "postgres.check";
        let query = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('synchronous_commit'), \
             current_setting('fsync'), pg_is_in_recovery()",
        );
        let rows = self.pool.fetch_all(query, OPERATION).await?;
        let row = rows.first().ok_or_else(|| error::corrupt(OPERATION, "no answer"))?;
        let text = |index: usize| row.try_get::<String, _>(index).map_err(|e| error::of(e, OPERATION));
        let (version, commit, fsync) = (text(0)?, text(1)?, text(2)?);
        if row.try_get::<bool, _>(3).map_err(|e| error::of(e, OPERATION))? {
            let what = "PostgreSQL: the server is a standby and takes no writes";
            return Err(PortError::new(ErrorKind::Unavailable, OPERATION, what));
        }
        Ok(PostgresStatus { version, warning: warning(&commit, &fsync) })
    }

    /// Ends the cleanup and closes the connections once what they do has come to its end, `patience` at
    /// most. Calls after it answer `Unavailable`.
    pub async fn close(&self, patience: Duration) {
        // What is cut off then had until its own deadline.
        let _ = tokio::time::timeout(patience, self.pool.close()).await;
    }
}

fn warning(commit: &str, fsync: &str) -> Option<String> {
    if fsync == "off" {
        let what =
            "it does not sync to its disk, so that a crash may forget or break everything (set fsync on)";
        return Some(what.to_owned());
    }
    let what = "it acknowledges before it has synced, so that a crash forgets what was done last (set \
                synchronous_commit on)";
    (commit == "off").then(|| what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_forget_is_warned_of() {
        assert_eq!(warning("on", "on"), None);
        assert_eq!(warning("remote_apply", "on"), None);
        assert!(warning("off", "on").is_some_and(|text| text.contains("synchronous_commit")));
        assert!(warning("on", "off").is_some_and(|text| text.contains("fsync")));
    }
}

//! Deletes what is over.
//!
//! A batch is one statement and one transaction: short, and bounded in what it locks. Rows that somebody
//! holds are left out, as they are about to be claimed anew; so the cleanup waits for nobody, can be in no
//! deadlock, and the replicas' do not get into each other's way.

use crate::pool::Pool;
use sqlx::AssertSqlSafe;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// The most rows of one statement.
const BATCH: i64 = 1000;
const OPERATION: &str = "postgres.cleanup";

/// The task that deletes what is over, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Cleanup(JoinHandle<()>);

impl Cleanup {
    /// Begins, on the runtime around it.
    pub(crate) fn begin(pool: Arc<Pool>, interval: Duration) -> Self {
        Self(tokio::spawn(async move {
            let sql = pool.sql(include_str!("cleanup.sql"));
            let mut serves = true;
            loop {
                tokio::time::sleep(interval).await;
                let result = pass(&pool, &sql).await;
                // Said when it changes, not at every pass.
                if let Err(error) = &result
                    && serves
                {
                    tracing::warn!(%error, "what is over of the claims cannot be deleted for now");
                }
                serves = result.is_ok();
            }
        }))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Deletes batch after batch until little is left.
async fn pass(pool: &Pool, sql: &Arc<str>) -> ports::Result<()> {
    loop {
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(BATCH);
        if pool.fetch_all(query, OPERATION).await?.len() < BATCH as usize {
            return Ok(());
        }
    }
}

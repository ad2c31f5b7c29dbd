//! How a connection is made, and whether one that was kept is good for another call.
//!
//! A call takes the connection out of its place and puts it back once its statement has come to its end.
//! What is dropped in between (the deadline passed, or the caller dropped the call) takes the connection
//! with it, which closes it: whoever came next would wait for the same answer. A place that is empty, or
//! whose connection lay still for long and does not answer, is given up when it is next asked for.

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::PgConnectOptions,
};
use std::{fmt, time::Duration};

/// A connection that lay still for so long is asked whether it is good before it is used.
const IDLE_UNCHECKED: Duration = Duration::from_secs(1);
/// One that is so old is replaced, so that calls come to be spread anew behind a name that leads elsewhere.
const AGE_MAX: Duration = Duration::from_mins(30);

/// Makes connections.
pub(crate) struct Connect {
    pub(crate) options: PgConnectOptions,
    /// Said on each first. Not at its start, as poolers in between refuse that.
    pub(crate) session: String,
    /// How long one may take to say that it is good.
    pub(crate) patience: Duration,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Connect").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Manager for Connect {
    type Type = Option<PgConnection>;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Self::Type, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        connection.execute(AssertSqlSafe(self.session.clone())).await?;
        Ok(Some(connection))
    }

    async fn recycle(&self, place: &mut Self::Type, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        let Some(connection) = place else {
            return Err(RecycleError::message("its connection was given up"));
        };
        if metrics.age() > AGE_MAX {
            return Err(RecycleError::message("it is old"));
        }
        if metrics.last_used() <= IDLE_UNCHECKED {
            return Ok(());
        }
        match tokio::time::timeout(self.patience, connection.ping()).await {
            Ok(answer) => Ok(answer?),
            Err(_late) => Err(RecycleError::message("it does not answer")),
        }
    }
}

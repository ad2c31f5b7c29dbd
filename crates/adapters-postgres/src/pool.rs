//! The connections, each call's share of one, and its deadline.
//!
//! A connection whose statement did not come to its end (the deadline passed, or the caller dropped the
//! call) is closed, not given to the next, who would wait for the same answer. The schema is brought up to
//! date before the first statement, whenever the server is there for it.

use crate::{
    config::PostgresConfig,
    error,
    migrations::{self, Failure},
};
use ports::{ErrorKind, PortError, Result};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use std::{fmt, str::FromStr as _, time::Duration};
use tokio::sync::OnceCell;

/// A connection that lay still for so long is asked whether it is good before it is used.
const IDLE_UNCHECKED: Duration = Duration::from_secs(1);

/// Connections to one server, and the schema there.
pub(crate) struct Pool {
    connections: PgPool,
    schema: String,
    timeout: Duration,
    /// Set once the schema is up to date.
    migrated: OnceCell<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the connections were made with holds the password.
        f.debug_struct("Pool").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Pool {
    /// Checks the settings; connects to nothing yet. Wants a runtime around it.
    pub(crate) fn open(config: &PostgresConfig) -> Result<Self> {
        let invalid = |what: &str| Err(PortError::new(ErrorKind::Invalid, "postgres.open", what));
        if !["postgres://", "postgresql://"].iter().any(|scheme| config.url.starts_with(scheme)) {
            return invalid("the url must be as postgres://USER@HOST:PORT/DATABASE");
        }
        if !is_identifier(&config.schema) {
            return invalid(
                "the schema must be a lower-case letter or an underscore, and then such or digits; 40 at most",
            );
        }
        if config.connections_max == 0 {
            return invalid("at least one connection is needed");
        }
        let Ok(options) = PgConnectOptions::from_str(&config.url) else {
            // Its own text may repeat a part of the URL.
            return invalid("the url cannot be read; it must be as postgres://USER@HOST:PORT/DATABASE");
        };
        let mut options = options.application_name("event-streaming").disable_statement_logging();
        if let Some(password) = &config.password {
            options = options.password(password);
        }
        let timeout_ms = config.request_timeout.as_millis();
        // Said on the connection rather than at its start, which poolers in between refuse. A write is
        // acknowledged by rows that were locked and read anew, which wants read committed.
        let session = format!(
            "SET statement_timeout = {timeout_ms}; SET lock_timeout = {timeout_ms}; \
             SET default_transaction_isolation = 'read committed'"
        );
        let connections = PgPoolOptions::new()
            .max_connections(config.connections_max)
            .acquire_timeout(config.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for > IDLE_UNCHECKED {
                        // One that broke is replaced, not reported.
                        return Ok(connection.ping().await.is_ok());
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { connection.execute(AssertSqlSafe(session)).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self {
            connections,
            schema: config.schema.clone(),
            timeout: config.request_timeout,
            migrated: OnceCell::new(),
        })
    }

    /// A statement with the schema in it.
    pub(crate) fn sql(&self, sql: &str) -> std::sync::Arc<str> {
        migrations::in_schema(sql, &self.schema).into()
    }

    /// Runs one statement, and gives all of its rows.
    pub(crate) async fn fetch_all(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        operation: &'static str,
    ) -> Result<Vec<PgRow>> {
        let run = async {
            self.migrated.get_or_try_init(|| self.migrate(operation)).await?;
            let mut share = self.share(operation).await?;
            let rows = query.fetch_all(&mut *share.connection).await;
            share.ended(rows).map_err(|error| error::of(error, operation))
        };
        match tokio::time::timeout(self.timeout, run).await {
            Ok(rows) => rows,
            Err(_late) => Err(error::late(operation)),
        }
    }

    /// Closes all connections, once what they do has come to its end.
    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }

    async fn migrate(&self, operation: &'static str) -> Result<()> {
        let mut share = self.share(operation).await?;
        match migrations::run(&mut share.connection, &self.schema).await {
            Ok(()) => share.ended(Ok(())).map_err(|error| error::of(error, operation)),
            Err(Failure::Client(error)) => Err(error::of(error, operation)),
            Err(Failure::Newer(version)) => {
                let text = Failure::newer_text(version, &self.schema);
                Err(PortError::new(ErrorKind::Unsupported, operation, text))
            }
        }
    }

    async fn share(&self, operation: &'static str) -> Result<Share> {
        let connection = self.connections.acquire().await.map_err(|error| error::of(error, operation))?;
        Ok(Share { connection, good: false })
    }
}

/// A call's hold on a connection.
struct Share {
    connection: PoolConnection<Postgres>,
    /// Whether it is as it was before the call.
    good: bool,
}

impl Share {
    fn ended<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.good = result.as_ref().err().is_none_or(error::leaves_connection_good);
        result
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.good {
            self.connection.close_on_drop();
        }
    }
}

/// Whether a text can stand in a statement as a name, as it is.
fn is_identifier(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_that_cannot_be_right_are_refused_without_their_secrets() {
        let config =
            || PostgresConfig { url: "postgres://me:hunter2@localhost/x".to_owned(), ..Default::default() };
        Pool::open(&config()).expect("it is good");
        for (config, word) in [
            (PostgresConfig { url: String::new(), ..config() }, "postgres://"),
            (PostgresConfig { url: "mysql://me:hunter2@localhost".to_owned(), ..config() }, "postgres://"),
            (
                PostgresConfig { url: "postgres://me:hunter2@local host".to_owned(), ..config() },
                "postgres://",
            ),
            (PostgresConfig { schema: "a; DROP".to_owned(), ..config() }, "schema"),
            (PostgresConfig { schema: "Upper".to_owned(), ..config() }, "schema"),
            (PostgresConfig { schema: "a".repeat(41), ..config() }, "schema"),
            (PostgresConfig { connections_max: 0, ..config() }, "connection"),
        ] {
            let error = Pool::open(&config).expect_err("it cannot be right");
            assert!(error.kind() == ErrorKind::Invalid && error.detail().contains(word), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

//! The connections, each call's hold on one, and its deadline.
//!
//! A connection goes back to where it was without being asked anything, so that one on which nothing comes
//! back any more holds up nobody; it is asked when it is next taken, if it lay still meanwhile. Where one
//! broke or did not answer in time, those that lie still share its way and most likely its fate, and are
//! given up with it. The schema is brought up to date before the first statement, whenever the server is
//! there for it.

use crate::{
    config::PostgresConfig,
    connections::Connect,
    error,
    migrations::{self, Failure},
};
use deadpool::managed::{self, Object, PoolConfig, PoolError, QueueMode};
use ports::{ErrorKind, PortError, Result};
use sqlx::{
    ConnectOptions as _, PgConnection, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use std::{fmt, str::FromStr as _, time::Duration};
use tokio::sync::OnceCell;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Connections to one server, and the schema there.
pub(crate) struct Pool {
    connections: managed::Pool<Connect>,
    schema: String,
    acquire_timeout: Duration,
    timeout: Duration,
    /// Set once the schema is up to date.
    migrated: OnceCell<()>,
    /// Of the calls under way.
    calls: TaskTracker,
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
        let connect = Connect {
            options,
            // A write is acknowledged by rows that were locked and read anew, which wants read committed.
            session: format!(
                "SET statement_timeout = {timeout_ms}; SET lock_timeout = {timeout_ms}; \
                 SET default_transaction_isolation = 'read committed'"
            ),
            // What is left is for a new one.
            patience: config.acquire_timeout / 2,
        };
        let settings = PoolConfig {
            max_size: config.connections_max as usize,
            // Few are kept busy rather than all half idle, to be asked whether they are good.
            queue_mode: QueueMode::Lifo,
            ..PoolConfig::default()
        };
        let connections = managed::Pool::builder(connect)
            .config(settings)
            .build()
            .map_err(|error| PortError::new(ErrorKind::Invalid, "postgres.open", error.to_string()))?;
        Ok(Self {
            connections,
            schema: config.schema.clone(),
            acquire_timeout: config.acquire_timeout,
            timeout: config.request_timeout,
            migrated: OnceCell::new(),
            calls: TaskTracker::new(),
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
            let (mut connection, place) = self.take(operation).await?;
            let rows = query.fetch_all(&mut connection).await;
            self.ended(connection, place, rows).map_err(|error| error::of(error, operation))
        };
        match tokio::time::timeout(self.timeout, run).await {
            Ok(rows) => rows,
            Err(_late) => {
                self.give_up_idle();
                Err(error::late(operation))
            }
        }
    }

    /// Closes all connections, once what they do has come to its end. Nothing is taken from now on.
    pub(crate) async fn close(&self) {
        self.connections.close();
        self.calls.close();
        self.calls.wait().await;
    }

    async fn migrate(&self, operation: &'static str) -> Result<()> {
        let (mut connection, place) = self.take(operation).await?;
        match migrations::run(&mut connection, &self.schema).await {
            Ok(()) => self.ended(connection, place, Ok(())).map_err(|error| error::of(error, operation)),
            Err(Failure::Client(error)) => Err(error::of(error, operation)),
            Err(Failure::Newer(version)) => {
                let text = Failure::newer_text(version, &self.schema);
                Err(PortError::new(ErrorKind::Unsupported, operation, text))
            }
        }
    }

    /// A connection, and where it is to be put back.
    async fn take(&self, operation: &'static str) -> Result<(PgConnection, Place)> {
        let call = self.calls.token();
        let error = match tokio::time::timeout(self.acquire_timeout, self.connections.get()).await {
            Ok(Ok(mut place)) => match place.take() {
                Some(connection) => return Ok((connection, Place { place, _call: call })),
                // No empty place is given out.
                None => sqlx::Error::WorkerCrashed,
            },
            Ok(Err(PoolError::Backend(error))) => error,
            Ok(Err(PoolError::Closed)) => sqlx::Error::PoolClosed,
            Ok(Err(_)) | Err(_) => sqlx::Error::PoolTimedOut,
        };
        Err(error::of(error, operation))
    }

    /// A statement came to its end: its connection goes back, unless it is no good any more.
    fn ended<T>(
        &self,
        connection: PgConnection,
        mut place: Place,
        result: std::result::Result<T, sqlx::Error>,
    ) -> std::result::Result<T, sqlx::Error> {
        if result.as_ref().err().is_none_or(error::leaves_connection_good) {
            *place.place = Some(connection);
        } else {
            self.give_up_idle();
        }
        result
    }

    fn give_up_idle(&self) {
        // Dropped, they are closed.
        drop(self.connections.retain(|_, _| false).removed);
    }
}

/// Where a connection was taken from, empty until it is put back.
struct Place {
    place: Object<Connect>,
    _call: TaskTrackerToken,
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

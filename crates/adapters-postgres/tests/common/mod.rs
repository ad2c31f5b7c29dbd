//! A real PostgreSQL for tests.
#![allow(dead_code, reason = "each test file takes its share")]
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_postgres::{Postgres, PostgresConfig};
use bytes::Bytes;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, PortError, Token};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::{future::Future, time::Duration};

/// So long that it does not end in a test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// Where the shared server is.
///
/// # Panics
/// When nobody says.
pub(crate) fn url() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        panic!(
            "these tests need a PostgreSQL: `make services-up`, then set DATABASE_URL as it says (`make test` \
             does both)"
        )
    })
}

/// How to reach it. Keys are random, so that tests can share a schema; that they make it together, too.
pub(crate) fn config() -> PostgresConfig {
    PostgresConfig {
        url: url(),
        schema: "event_streaming_test".to_owned(),
        connections_max: 4,
        acquire_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(20),
        ..PostgresConfig::default()
    }
}

/// In a schema that nobody else has; to be dropped at the end.
pub(crate) fn config_of_own() -> PostgresConfig {
    let schema = format!("test_{}", uuid::Uuid::new_v4().simple());
    PostgresConfig { schema, ..config() }
}

pub(crate) fn open(config: &PostgresConfig) -> Postgres {
    Postgres::open(config).expect("the settings are good")
}

/// Says something to the server, as an operator does.
pub(crate) async fn say(sql: String) {
    let mut connection = PgConnection::connect(&url()).await.expect("the server is there");
    connection.execute(AssertSqlSafe(sql)).await.expect("the server does that");
}

/// Asks the server for a number.
pub(crate) async fn ask(sql: String) -> i64 {
    let mut connection = PgConnection::connect(&url()).await.expect("the server is there");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect("the server answers")
}

pub(crate) async fn drop_schema(config: &PostgresConfig) {
    say(format!("DROP SCHEMA {} CASCADE", config.schema)).await;
}

/// A claim of a key that nobody has claimed.
pub(crate) fn request() -> ClaimRequest {
    let [key, token] = [(); 2].map(|()| uuid::Uuid::new_v4());
    ClaimRequest {
        key: ClaimKey(*key.as_bytes()),
        token: Token(token.as_u64_pair().1),
        lease: LONG,
        keep: LONG,
        ground: Ground::Free,
        note: Bytes::new(),
    }
}

/// Another's claim of the same key.
pub(crate) fn rival(request: &ClaimRequest) -> ClaimRequest {
    ClaimRequest { key: request.key, ..self::request() }
}

pub(crate) async fn claim(postgres: &Postgres, request: &ClaimRequest) -> Result<Claim, PortError> {
    postgres.idempotency().claim(vec![request.clone()]).await.map(|mut claims| claims.remove(0))
}

pub(crate) fn acquired(attempt: u32) -> Claim {
    Claim::Acquired { attempt, note: Bytes::new() }
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none for a minute.
pub(crate) async fn eventually<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asking).await.expect("it comes in time")
}

//! A real Redis for tests.
#![allow(dead_code, reason = "each test file takes its share")]
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_redis::{Redis, RedisConfig};
use bytes::Bytes;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, PortError, Token};
use redis::{Client, ConnectionAddr};
use std::{future::Future, time::Duration};

/// So long that it does not end in a test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// How to reach the shared server, under a prefix that nobody else has.
///
/// # Panics
/// When nobody says where it is.
pub(crate) fn config() -> RedisConfig {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| {
        panic!(
            "these tests need a Redis: `make services-up`, then set REDIS_URL as it says (`make test` does \
             both)"
        )
    });
    let client = Client::open(url).expect("REDIS_URL can be read");
    let info = client.get_connection_info();
    let ConnectionAddr::Tcp(host, port) = info.addr() else { panic!("REDIS_URL is no redis://HOST:PORT") };
    RedisConfig {
        host: host.clone(),
        port: *port,
        database: u16::try_from(info.redis_settings().db()).expect("a small number"),
        username: info.redis_settings().username().map(str::to_owned),
        password: info.redis_settings().password().map(str::to_owned),
        key_prefix: format!("{}:", testkit::fixtures::unique("test")),
        ..RedisConfig::default()
    }
}

pub(crate) fn open(config: &RedisConfig) -> Redis {
    Redis::open(config).expect("the settings are good")
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

pub(crate) async fn claim(redis: &Redis, request: &ClaimRequest) -> Result<Claim, PortError> {
    redis.idempotency().claim(vec![request.clone()]).await.map(|mut claims| claims.remove(0))
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

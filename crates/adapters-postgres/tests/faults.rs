//! The way to the server fails, and the server refuses; and claimants that share nothing but the server.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_postgres::{Postgres, PostgresConfig};
use common::{LONG, acquired, claim, config, eventually, open, request, rival, url};
use futures::future::join_all;
use ports::{Claim, ClaimRequest, Effect, ErrorKind, Retry, Settlement};
use sqlx::{Connection as _, PgConnection};
use std::time::Duration;
use testkit::Proxy;

async fn through_a_proxy(timeout: Duration) -> (Proxy, Postgres) {
    let url = url();
    let (front, database) = url.rsplit_once('/').expect("it names a database");
    let (front, server) = front.rsplit_once('@').expect("it names a user");
    let proxy = Proxy::to(server).await;
    let url = format!("{front}@127.0.0.1:{}/{database}", proxy.port());
    let config = PostgresConfig {
        url,
        request_timeout: timeout,
        acquire_timeout: timeout.min(Duration::from_millis(500)),
        connections_max: 1,
        ..config()
    };
    (proxy, open(&config))
}

/// With something said in the URL to every connection.
fn with_option(option: &str) -> PostgresConfig {
    let url = url();
    let sign = if url.contains('?') { '&' } else { '?' };
    PostgresConfig { url: format!("{url}{sign}{option}"), ..config() }
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_found_again_when_it_is_back() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(10)).await;
    let first = request();
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
    proxy.cut().await;
    for _ in 0..3 {
        let error = claim(&postgres, &request()).await.expect_err("there is no way to it");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.retry(), Retry::Transient { after: None });
        postgres.check().await.expect_err("there is no way to it");
    }
    proxy.open();
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1), "its own lease is as it was");
    postgres.check().await.expect("it is back");
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_no_error_of_opening() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(10)).await;
    proxy.cut().await;
    let first = request();
    claim(&postgres, &first).await.expect_err("it is not there");
    proxy.open();
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
}

#[tokio::test]
async fn a_store_that_answers_late_is_given_up_and_the_effect_unknown() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(1)).await;
    let first = request();
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
    proxy.hold();
    let error = claim(&postgres, &first).await.expect_err("nothing comes back");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
    // A new connection does not come about either.
    let settlement = (first.key, first.token, Settlement::Extend { lease: LONG });
    let error = postgres.idempotency().settle(vec![settlement]).await.expect_err("nothing comes back");
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    proxy.open();
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1), "asked once more, it counts nothing");
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_back_is_not_used_again() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(1)).await;
    let first = request();
    eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    proxy.lose();
    let error = claim(&postgres, &first).await.expect_err("nothing comes back");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let found = eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
}

#[tokio::test]
async fn a_row_that_somebody_holds_for_too_long_is_a_timeout() {
    let postgres = open(&PostgresConfig { request_timeout: Duration::from_secs(1), ..config() });
    let first = request();
    eventually(|| async { claim(&postgres, &first).await.ok() }).await;
    let mut holder = PgConnection::connect(&url()).await.expect("the server is there");
    let mut transaction = holder.begin().await.expect("a transaction");
    sqlx::query("SELECT 1 FROM event_streaming_test.claims WHERE key = $1 FOR UPDATE")
        .bind(uuid::Uuid::from_bytes(first.key.0))
        .execute(&mut *transaction)
        .await
        .expect("the row is there");
    let error = claim(&postgres, &rival(&first)).await.expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(claim(&postgres, &request()).await.expect("others are free"), acquired(1));
    transaction.rollback().await.expect("it ends");
    let settlement = (first.key, first.token, Settlement::Extend { lease: LONG });
    postgres.idempotency().settle(vec![settlement]).await.expect("it is free again");
}

/// On connections that were told to isolate more, which would let claimants fail instead of wait.
#[tokio::test(flavor = "multi_thread")]
async fn of_64_claimants_with_connections_of_their_own_one_has_the_key() {
    let config = PostgresConfig {
        connections_max: 1,
        ..with_option("options[default_transaction_isolation]=serializable")
    };
    let claimants: Vec<Postgres> = (0..64).map(|_| open(&config)).collect();
    for _ in 0..4 {
        let first = request();
        let calls = claimants.iter().map(|postgres| {
            let (postgres, request) = (postgres.clone(), rival(&first));
            tokio::spawn(async move { claim(&postgres, &request).await.expect("it can be claimed") })
        });
        let claims = join_all(calls).await.into_iter().map(|call| call.expect("the call ends"));
        let winners = claims.filter(|claim| !matches!(claim, Claim::InFlight { .. }));
        assert_eq!(winners.collect::<Vec<_>>(), [acquired(1)]);
    }
}

#[tokio::test]
async fn the_time_of_a_claimant_ends_no_lease() {
    let postgres = open(&config());
    let first = request();
    claim(&postgres, &first).await.expect("it can be claimed");
    tokio::time::pause();
    tokio::time::advance(2 * LONG).await;
    tokio::time::resume();
    let Claim::InFlight { ends_in } = claim(&postgres, &rival(&first)).await.expect("it can be asked") else {
        panic!("it is held");
    };
    assert!(ends_in > LONG / 2, "{ends_in:?}");
}

#[tokio::test]
async fn what_is_wrong_in_a_batch_is_refused_without_effect() {
    let postgres = open(&config());
    let first = request();
    let large = ClaimRequest { note: vec![0; 1025].into(), ..first.clone() };
    let error = claim(&postgres, &large).await.expect_err("it is too large");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::TooLarge, Effect::None));
    assert!(error.detail().contains("1025") && error.detail().contains("1024"), "{error}");
    let completion = Settlement::Complete { outcome: vec![0; 65_537].into(), keep: LONG };
    let settled = postgres.idempotency().settle(vec![(large.key, large.token, completion)]).await;
    assert_eq!(settled.expect_err("it is too large").kind(), ErrorKind::TooLarge);
    let twice = postgres.idempotency().claim(vec![first.clone(), rival(&first)]).await;
    let error = twice.expect_err("a key is named twice");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None), "{error}");
    assert_eq!(claim(&postgres, &first).await.expect("it can be claimed"), acquired(1));
}

#[tokio::test]
async fn what_the_server_refuses_says_what_it_is() {
    let url = url();
    let (front, _) = url.rsplit_once('/').expect("it names a database");
    let (_, server) = front.rsplit_once('@').expect("it names a user");
    for (url, kind) in [
        (format!("{front}/nowhere"), ErrorKind::Invalid),
        (format!("postgres://nobody:hunter2@{server}/event_streaming"), ErrorKind::Denied),
        (with_option("options[default_transaction_read_only]=on").url, ErrorKind::Unavailable),
    ] {
        let error = claim(&open(&PostgresConfig { url, ..config() }), &request()).await.expect_err("refused");
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_may_forget_is_warned_of() {
    let status = open(&config()).check().await.expect("it serves");
    assert!(status.version.starts_with(|c: char| c.is_ascii_digit()), "{status:?}");
    assert_eq!(status.warning, None);
    let careless = open(&with_option("options[synchronous_commit]=off"));
    let warning = careless.check().await.expect("it serves").warning.expect("it may forget");
    assert!(warning.contains("synchronous_commit"), "{warning}");
}

#[tokio::test]
async fn after_closing_nothing_is_taken() {
    let postgres = open(&config());
    claim(&postgres, &request()).await.expect("it can be claimed");
    postgres.close(Duration::from_secs(10)).await;
    let error = claim(&postgres, &request()).await.expect_err("it is closed");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
}

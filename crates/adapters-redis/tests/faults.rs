//! The way to the server fails, and the server does not; and claimants that share nothing but the server.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_redis::{Redis, RedisConfig};
use common::{LONG, acquired, claim, config, eventually, open, request, rival};
use futures::future::join_all;
use ports::{Claim, ClaimRequest, Effect, ErrorKind, Retry, Settlement};
use std::time::Duration;
use testkit::Proxy;

async fn through_a_proxy(timeout: Duration) -> (Proxy, Redis) {
    let config = config();
    let proxy = Proxy::to(&format!("{}:{}", config.host, config.port)).await;
    let (host, port) = ("127.0.0.1".to_owned(), proxy.port());
    let redis = open(&RedisConfig { host, port, request_timeout: timeout, ..config });
    (proxy, redis)
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_found_again_when_it_is_back() {
    let (proxy, redis) = through_a_proxy(Duration::from_secs(10)).await;
    let first = request();
    assert_eq!(claim(&redis, &first).await.expect("it can be claimed"), acquired(1));
    proxy.cut().await;
    for _ in 0..3 {
        let error = claim(&redis, &request()).await.expect_err("there is no way to it");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.retry(), Retry::Transient { after: None });
        redis.check().await.expect_err("there is no way to it");
    }
    proxy.open();
    let found = eventually(|| async { claim(&redis, &first).await.ok() }).await;
    assert_eq!(found, acquired(1), "its own lease is as it was");
    redis.check().await.expect("it is back");
}

#[tokio::test]
async fn a_connection_that_broke_while_nobody_used_it_costs_no_error() {
    let (proxy, redis) = through_a_proxy(Duration::from_secs(10)).await;
    for _ in 0..3 {
        claim(&redis, &request()).await.expect("it can be claimed");
        proxy.cut().await;
        proxy.open();
    }
}

#[tokio::test]
async fn a_store_that_answers_late_is_given_up_and_the_effect_unknown() {
    let (proxy, redis) = through_a_proxy(Duration::from_millis(200)).await;
    let first = request();
    assert_eq!(claim(&redis, &first).await.expect("it can be claimed"), acquired(1));
    proxy.hold();
    let error = claim(&redis, &first).await.expect_err("nothing comes back");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
    let settlement = (first.key, first.token, Settlement::Extend { lease: LONG });
    let error = redis.idempotency().settle(vec![settlement]).await.expect_err("nothing comes back");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
    proxy.open();
    let found = eventually(|| async { claim(&redis, &first).await.ok() }).await;
    assert_eq!(found, acquired(1), "asked once more, it counts nothing");
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_back_is_not_used_again() {
    let (proxy, redis) = through_a_proxy(Duration::from_millis(500)).await;
    let first = request();
    claim(&redis, &first).await.expect("it can be claimed");
    proxy.lose();
    assert_eq!(claim(&redis, &first).await.expect_err("nothing comes back").kind(), ErrorKind::Timeout);
    let found = eventually(|| async { claim(&redis, &first).await.ok() }).await;
    assert_eq!(found, acquired(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_claimants_with_connections_of_their_own_one_has_the_key() {
    let config = config();
    let claimants: Vec<Redis> = (0..64).map(|_| open(&config)).collect();
    for _ in 0..4 {
        let first = request();
        let calls = claimants.iter().map(|redis| {
            let (redis, request) = (redis.clone(), rival(&first));
            tokio::spawn(async move { claim(&redis, &request).await.expect("it can be claimed") })
        });
        let claims = join_all(calls).await.into_iter().map(|call| call.expect("the call ends"));
        let winners = claims.filter(|claim| !matches!(claim, Claim::InFlight { .. }));
        assert_eq!(winners.collect::<Vec<_>>(), [acquired(1)]);
    }
}

#[tokio::test]
async fn the_time_of_a_claimant_ends_no_lease() {
    let redis = open(&config());
    let first = request();
    claim(&redis, &first).await.expect("it can be claimed");
    tokio::time::pause();
    tokio::time::advance(2 * LONG).await;
    tokio::time::resume();
    let Claim::InFlight { ends_in } = claim(&redis, &rival(&first)).await.expect("it can be asked") else {
        panic!("it is held");
    };
    assert!(ends_in > LONG / 2, "{ends_in:?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let redis = open(&config());
    let large = ClaimRequest { note: vec![0; 1025].into(), ..request() };
    let error = claim(&redis, &large).await.expect_err("it is too large");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::TooLarge, Effect::None));
    assert!(error.detail().contains("1025") && error.detail().contains("1024"), "{error}");
    let completion = Settlement::Complete { outcome: vec![0; 65_537].into(), keep: LONG };
    let settled = redis.idempotency().settle(vec![(large.key, large.token, completion)]).await;
    assert_eq!(settled.expect_err("it is too large").kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_key_that_is_named_twice_is_had_once() {
    let redis = open(&config());
    let first = request();
    let batch = vec![first.clone(), rival(&first)];
    let claims = redis.idempotency().claim(batch).await.expect("they can be claimed");
    assert_eq!(claims[0], acquired(1));
    assert!(matches!(claims[1], Claim::InFlight { .. }), "{claims:?}");
}

//! The schema: made once, kept clean, and refused where a later version made it.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_postgres::PostgresConfig;
use common::{LONG, acquired, ask, claim, config_of_own, drop_schema, eventually, open, request, rival, say};
use futures::future::join_all;
use ports::{Claim, ClaimRequest, ErrorKind, Settlement};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_make_it_once() {
    let config = config_of_own();
    let replicas: Vec<_> = (0..8).map(|_| open(&config)).collect();
    let first = request();
    let calls = replicas.iter().map(|replica| {
        let (replica, request) = (replica.clone(), rival(&first));
        tokio::spawn(async move { claim(&replica, &request).await.expect("it can be claimed") })
    });
    let claims = join_all(calls).await.into_iter().map(|call| call.expect("the call ends"));
    assert_eq!(claims.filter(|claim| *claim == acquired(1)).count(), 1);
    assert_eq!(
        ask(format!("SELECT count(*) FROM {}.migrations", config.schema)).await,
        3,
        "each migration once"
    );
    drop_schema(&config).await;
}

#[tokio::test]
async fn what_a_later_version_made_is_refused_with_the_remedy() {
    let config = config_of_own();
    claim(&open(&config), &request()).await.expect("it can be claimed");
    say(format!("INSERT INTO {}.migrations (version) VALUES (99)", config.schema)).await;
    let later = open(&config);
    for error in [
        claim(&later, &request()).await.expect_err("it is refused"),
        later.check().await.expect_err("it is refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.detail().contains("99") && error.detail().contains("postgres.schema"), "{error}");
    }
    drop_schema(&config).await;
}

#[tokio::test]
async fn what_is_over_is_deleted_and_nothing_else_is() {
    let config = PostgresConfig { cleanup_interval: Duration::from_millis(20), ..config_of_own() };
    let postgres = open(&config);
    let brief = Duration::from_millis(1);
    let short = |request: ClaimRequest| ClaimRequest { lease: brief, keep: brief, ..request };
    let (held, finished, forgotten) = (request(), request(), request());
    // More than are deleted at once.
    let mut batch: Vec<_> = (0..2500).map(|_| short(request())).collect();
    batch.extend([held.clone(), finished.clone(), forgotten.clone()]);
    postgres.idempotency().claim(batch).await.expect("they can be claimed");
    let complete = |keep| Settlement::Complete { outcome: "outcome".into(), keep };
    let unknown = (request().key, request().token, Settlement::Extend { lease: LONG });
    let settlements = vec![
        (finished.key, finished.token, complete(LONG)),
        (forgotten.key, forgotten.token, complete(brief)),
        unknown,
    ];
    postgres.idempotency().settle(settlements).await.expect("they can be settled");
    let count = || ask(format!("SELECT count(*) FROM {}.claims", config.schema));
    eventually(|| async { (count().await == 2).then_some(()) }).await;
    assert!(matches!(claim(&postgres, &rival(&held)).await.expect("an answer"), Claim::InFlight { .. }));
    let done = Claim::Done { outcome: "outcome".into() };
    assert_eq!(claim(&postgres, &rival(&finished)).await.expect("an answer"), done);
    // The cleanup ends with the last handle, also when it waits.
    drop(postgres);
    drop_schema(&config).await;
}

/// Rows that are over, but not deleted yet, are as if they had never been.
#[tokio::test]
async fn what_is_over_is_unknown_before_it_is_deleted() {
    let config = PostgresConfig { cleanup_interval: LONG, ..config_of_own() };
    let postgres = open(&config);
    let (lapsed, given_back) = (request(), request());
    let batch = vec![lapsed.clone(), given_back.clone()];
    postgres.idempotency().claim(batch).await.expect("they can be claimed");
    let release = (given_back.key, given_back.token, Settlement::Release { counted: false });
    postgres.idempotency().settle(vec![release]).await.expect("it can be settled");
    say(format!(
        "UPDATE {}.claims SET attempts = 7, note = 'old', expires_at = now() - interval '1 ms'",
        config.schema
    ))
    .await;
    for request in [lapsed, given_back] {
        assert_eq!(claim(&postgres, &rival(&request)).await.expect("it can be claimed"), acquired(1));
    }
    assert_eq!(ask(format!("SELECT count(*) FROM {}.claims", config.schema)).await, 2);
    drop_schema(&config).await;
}

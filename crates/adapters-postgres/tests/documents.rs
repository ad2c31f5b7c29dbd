//! Documents while the way to the server fails or others are in the way, and the schema that they are in.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_postgres::{Postgres, PostgresConfig};
use common::{ask, claim, config, config_of_own, drop_schema, eventually, open, request, say, url};
use futures::future::join_all;
use ports::{Effect, ErrorKind, Expected, JobKind, Stored};
use sqlx::{Connection as _, PgConnection};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};
use testkit::{Proxy, fixtures::unique};

const KIND: JobKind = JobKind::Subscription;

async fn through_a_proxy(timeout: Duration) -> (Proxy, Postgres) {
    let url = url();
    let (front, database) = url.rsplit_once('/').expect("it names a database");
    let (front, server) = front.rsplit_once('@').expect("it names a user");
    let proxy = Proxy::to(server).await;
    let url = format!("{front}@127.0.0.1:{}/{database}", proxy.port());
    let acquire_timeout = timeout.min(Duration::from_millis(500));
    let config =
        PostgresConfig { url, request_timeout: timeout, acquire_timeout, connections_max: 1, ..config() };
    (proxy, open(&config))
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_found_again_when_it_is_back() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(10)).await;
    let (jobs, name) = (postgres.jobs(), unique("job"));
    let create = || jobs.put(KIND, &name, Expected::Absent, "one".into());
    let version = eventually(|| async { create().await.ok() }).await;
    proxy.cut().await;
    let errors = [
        jobs.get(KIND, &name).await.expect_err("there is no way to it"),
        jobs.list(KIND).await.expect_err("there is no way to it"),
        jobs.put(KIND, &name, Expected::Version(version), "".into()).await.expect_err("no way"),
        jobs.delete(KIND, &name, version).await.expect_err("there is no way to it"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    proxy.open();
    let found = eventually(|| async { jobs.get(KIND, &name).await.ok() }).await;
    assert_eq!(found, Some(Stored { name, version, value: "one".into() }));
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_says_that_it_may_have_had_its_effect() {
    let (proxy, postgres) = through_a_proxy(Duration::from_secs(10)).await;
    let (jobs, name) = (postgres.jobs(), unique("job"));
    eventually(|| async { jobs.get(KIND, &name).await.ok() }).await;
    // Prepared first: what is lost then is the answer to the change itself.
    let other = unique("job");
    jobs.put(KIND, &other, Expected::Absent, "".into()).await.expect("it is new");
    proxy.break_at_answer();
    let error = jobs.put(KIND, &name, Expected::Absent, "one".into()).await.expect_err("no answer came");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
    let found = eventually(|| async { jobs.get(KIND, &name).await.ok() }).await;
    assert_eq!(found.expect("it had its effect").value, "one");
}

#[tokio::test]
async fn a_document_that_somebody_holds_for_too_long_is_a_timeout() {
    let postgres = open(&PostgresConfig { request_timeout: Duration::from_secs(1), ..config() });
    let (jobs, name) = (postgres.jobs(), unique("job"));
    let create = || jobs.put(KIND, &name, Expected::Absent, "one".into());
    let version = eventually(|| async { create().await.ok() }).await;
    let mut holder = PgConnection::connect(&url()).await.expect("the server is there");
    let mut transaction = holder.begin().await.expect("a transaction");
    sqlx::query("SELECT 1 FROM event_streaming_test.documents WHERE name = $1 FOR UPDATE")
        .bind(&name)
        .execute(&mut *transaction)
        .await
        .expect("the row is there");
    let change = |value: &'static str| jobs.put(KIND, &name, Expected::Version(version), value.into());
    let error = change("two").await.expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    jobs.get(KIND, &name).await.expect("reading waits for nobody");
    transaction.rollback().await.expect("it ends");
    change("three").await.expect("it is free again");
}

/// Whoever makes a document that was deleted meanwhile gives it a version above all that it had.
#[tokio::test(flavor = "multi_thread")]
async fn versions_grow_while_many_make_change_and_delete_one_document() {
    static GREATEST: AtomicU64 = AtomicU64::new(0);
    let config = PostgresConfig { connections_max: 1, ..config() };
    let name = unique("job");
    let replicas = (0..8).map(|_| {
        let (postgres, name) = (open(&config), name.clone());
        tokio::spawn(async move {
            let jobs = postgres.jobs();
            let mut given = Vec::new();
            for _ in 0..60 {
                // Any version that anybody was told of before this change began is smaller.
                let before = GREATEST.load(SeqCst);
                let found = jobs.get(KIND, &name).await.expect("it can be asked");
                let version = match found {
                    None => jobs.put(KIND, &name, Expected::Absent, "made".into()).await,
                    Some(found) if found.version % 2 == 0 => {
                        let expected = Expected::Version(found.version);
                        jobs.put(KIND, &name, expected, "changed".into()).await
                    }
                    Some(found) => jobs.delete(KIND, &name, found.version).await.map(|()| 0),
                };
                match version {
                    Ok(0) => {}
                    Ok(version) => {
                        assert!(version > before, "{version} after {before}");
                        GREATEST.fetch_max(version, SeqCst);
                        given.push(version);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
            given
        })
    });
    let given: Vec<u64> =
        join_all(replicas).await.into_iter().flat_map(|given| given.expect("versions grow")).collect();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "none is given twice");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_without_effect() {
    let jobs = open(&config()).jobs();
    let large = vec![0; (16 << 20) + 1].into();
    let error = jobs.put(KIND, "a", Expected::Absent, large).await.expect_err("it is too large");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::TooLarge, Effect::None));
    assert!(error.detail().contains("16777217") && error.detail().contains("16777216"), "{error}");
    for error in [
        jobs.put(KIND, "a\0b", Expected::Absent, "".into()).await.expect_err("no such text"),
        jobs.get(KIND, "a\0b").await.expect_err("no such text"),
        jobs.delete(KIND, "a\0b", 1).await.expect_err("no such text"),
    ] {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None), "{error}");
        assert!(error.detail().contains("U+0000"), "{error}");
    }
}

#[tokio::test]
async fn a_schema_of_before_there_were_documents_is_brought_up_to_date() {
    let config = config_of_own();
    let schema = &config.schema;
    let first = request();
    claim(&open(&config), &first).await.expect("it can be claimed");
    say(format!(
        "DROP TABLE {schema}.documents; DROP SEQUENCE {schema}.document_versions; \
         DROP TABLE {schema}.schema_revision, {schema}.schema_ids, {schema}.schemas, {schema}.schema_references, \
         {schema}.schema_versions, {schema}.schema_settings; \
         DELETE FROM {schema}.migrations WHERE version >= 2"
    ))
    .await;
    let postgres = open(&config);
    postgres.jobs().put(KIND, "a", Expected::Absent, "one".into()).await.expect("the table is made");
    assert_eq!(ask(format!("SELECT count(*) FROM {schema}.claims")).await, 1, "claims stay");
    drop_schema(&config).await;
}

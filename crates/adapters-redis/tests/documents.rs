//! Documents while the way to the server fails, and what is too much or too many.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_redis::{Redis, RedisConfig};
use common::{config, eventually, open};
use ports::{Effect, ErrorKind, Expected, JobKind, SchemaChange, SchemaSetting, Stored};
use std::{collections::BTreeSet, time::Duration};
use testkit::Proxy;

const KIND: JobKind = JobKind::Subscription;

/// Through a proxy, and past it.
async fn two_ways(timeout: Duration) -> (Proxy, Redis, Redis) {
    let config = config();
    let proxy = Proxy::to(&format!("{}:{}", config.host, config.port)).await;
    let past = open(&config);
    let (host, port) = ("127.0.0.1".to_owned(), proxy.port());
    (proxy, open(&RedisConfig { host, port, request_timeout: timeout, ..config }), past)
}

fn stored(name: &str, version: u64, value: &'static str) -> Stored {
    Stored { name: name.to_owned(), version, value: value.into() }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_answered_as_if_it_had_come() {
    let (proxy, redis, past) = two_ways(Duration::from_secs(10)).await;
    let jobs = redis.jobs();
    assert_eq!(jobs.get(KIND, "a").await.expect("it can be asked"), None);
    proxy.break_at_answer();
    let first = jobs.put(KIND, "a", Expected::Absent, "one".into()).await.expect("it took effect once");
    assert_eq!(past.jobs().get(KIND, "a").await.expect("an answer"), Some(stored("a", first, "one")));
    proxy.break_at_answer();
    let second = jobs.put(KIND, "a", Expected::Version(first), "two".into()).await;
    let second = second.expect("it took effect once");
    assert_eq!(second, first + 1, "sent twice, it was one change");
    assert_eq!(past.jobs().get(KIND, "a").await.expect("an answer"), Some(stored("a", second, "two")));
    proxy.break_at_answer();
    jobs.delete(KIND, "a", second).await.expect("it took effect once");
    assert_eq!(past.jobs().get(KIND, "a").await.expect("an answer"), None);
    // That was one deletion's; the next finds nothing.
    let error = jobs.delete(KIND, "a", second).await.expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_found_again_when_it_is_back() {
    let (proxy, redis, _) = two_ways(Duration::from_secs(10)).await;
    let jobs = redis.jobs();
    let version = jobs.put(KIND, "a", Expected::Absent, "one".into()).await.expect("it is new");
    proxy.cut().await;
    let errors = [
        jobs.get(KIND, "a").await.expect_err("there is no way to it"),
        jobs.list(KIND).await.expect_err("there is no way to it"),
        jobs.put(KIND, "b", Expected::Absent, "".into()).await.expect_err("there is no way to it"),
        jobs.delete(KIND, "a", version).await.expect_err("there is no way to it"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    proxy.open();
    let found = eventually(|| async { jobs.get(KIND, "a").await.ok() }).await;
    assert_eq!(found, Some(stored("a", version, "one")));
}

#[tokio::test]
async fn a_change_that_is_not_answered_in_time_may_have_had_its_effect() {
    let (proxy, redis, _) = two_ways(Duration::from_millis(200)).await;
    let jobs = redis.jobs();
    jobs.get(KIND, "a").await.expect("it can be asked");
    proxy.hold();
    let error = jobs.put(KIND, "a", Expected::Absent, "one".into()).await.expect_err("nothing comes back");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_list_of_many_pages_has_every_document_once() {
    let redis = open(&config());
    let jobs = redis.jobs();
    let names: BTreeSet<_> = (0..1000).map(|n| format!("document-{n}")).collect();
    for name in &names {
        jobs.put(KIND, name, Expected::Absent, name.clone().into()).await.expect("it is new");
    }
    let listing = tokio::spawn({
        let jobs = redis.jobs();
        async move {
            let mut lists = Vec::new();
            for _ in 0..20 {
                lists.push(jobs.list(KIND).await.expect("they can be listed"));
            }
            lists
        }
    });
    // What else changes meanwhile is in it or not.
    for n in 0..200 {
        let name = format!("other-{n}");
        let version = jobs.put(KIND, &name, Expected::Absent, "".into()).await.expect("it is new");
        jobs.delete(KIND, &name, version).await.expect("it is there");
    }
    for list in listing.await.expect("the lists come") {
        assert!(list.is_sorted_by(|one, next| one.name < next.name), "by name, each once");
        let ours: BTreeSet<_> = list.into_iter().map(|it| it.name).filter(|it| names.contains(it)).collect();
        assert_eq!(ours.len(), names.len());
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let jobs = open(&config()).jobs();
    let large = vec![0; (16 << 20) + 1].into();
    let error = jobs.put(KIND, "a", Expected::Absent, large).await.expect_err("it is too large");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::TooLarge, Effect::None));
    assert!(error.detail().contains("16777217") && error.detail().contains("16777216"), "{error}");
}

#[tokio::test]
async fn a_conflict_says_what_is_there_and_what_was_expected() {
    let jobs = open(&config()).jobs();
    let version = jobs.put(KIND, "a", Expected::Absent, "one".into()).await.expect("it is new");
    let error = jobs.put(KIND, "a", Expected::Absent, "two".into()).await.expect_err("it is there");
    let said = format!("subscription \"a\" is at version {version}, and none was expected");
    assert!(error.detail().contains(&said), "{error}");
    let error = jobs.delete(KIND, "b", 7).await.expect_err("it is not there");
    assert!(error.detail().contains("\"b\" is not there, and version 7 was expected"), "{error}");
}

fn set(scope: &str, value: &'static str) -> SchemaChange {
    SchemaChange::Set { setting: SchemaSetting::Mode, scope: scope.to_owned(), value: Some(value.into()) }
}

#[tokio::test]
async fn a_change_of_schemas_whose_answer_was_lost_is_answered_as_if_it_had_come() {
    let (proxy, redis, past) = two_ways(Duration::from_secs(10)).await;
    let schemas = redis.schemas();
    let first = schemas.revision().await.expect("it can be asked");
    proxy.break_at_answer();
    let changed = schemas.change(first, set("a", "one")).await.expect("it took effect once");
    assert_eq!(changed.revision.0, first.0 + 1, "sent twice, it was one change");
    assert_eq!(past.schemas().revision().await.expect("an answer"), changed.revision);
    let found = past.schemas().settings(SchemaSetting::Mode, vec!["a".into()]).await.expect("an answer");
    assert_eq!(found, [Some("one".into())]);
    // What another changed in between is another's.
    let error = schemas.change(first, set("a", "two")).await.expect_err("it was changed");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn schemas_on_a_server_that_is_gone_are_unavailable() {
    let (proxy, redis, _) = two_ways(Duration::from_secs(10)).await;
    let schemas = redis.schemas();
    let first = schemas.revision().await.expect("it can be asked");
    proxy.cut().await;
    let error = schemas.change(first, set("a", "one")).await.expect_err("there is no way to it");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = schemas.list("", None, 10).await.expect_err("there is no way to it");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

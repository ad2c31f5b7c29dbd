//! A registry that fails, hangs and goes away.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_registry::RegistryConfig;
use common::{Reply, Scripted, client, config, failure, nobody, ok, schema};
use ports::{Effect, ErrorKind, Retry};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn what_is_transient_is_tried_again() {
    let registry = Scripted::new(|number, _| match number {
        0 => Reply::With(503, "x: y", String::new()),
        1 => Reply::Close,
        _ => ok(json!(["a"])),
    })
    .await;
    assert_eq!(registry.client().subjects(false).await.expect("at last"), ["a"]);
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn attempts_have_an_end_and_what_was_said_is_told() {
    let registry = Scripted::new(|_, _| common::refused(50001, "the store is away")).await;
    let error = failure(registry.client().subjects(false).await);
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    assert!(error.detail().contains("the store is away"), "{error}");
    assert_eq!(registry.requests().len(), 3);
    let registration = failure(registry.client().register("a", &schema("x"), false).await);
    assert_eq!(registration.effect(), Effect::Unknown, "it may have been registered");
}

#[tokio::test]
async fn a_registry_that_pushes_back_is_heard() {
    let registry = Scripted::new(|number, _| match number {
        0 => Reply::With(429, "retry-after: 0", String::new()),
        1 => ok(json!(["a"])),
        _ => Reply::With(429, "retry-after: 60", String::new()),
    })
    .await;
    assert_eq!(registry.client().subjects(false).await.expect("at last"), ["a"]);
    // So long nobody is kept waiting.
    let error = failure(registry.client().subjects(false).await);
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(error.retry(), Retry::Transient { after: Some(Duration::from_secs(60)) });
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn a_registry_that_hangs_is_waited_for_once_at_each_address() {
    let [first, second] =
        [Scripted::new(|_, _| Reply::Nothing).await, Scripted::new(|_, _| Reply::Nothing).await];
    let request_timeout = Duration::from_millis(50);
    let settings = RegistryConfig { request_timeout, ..config(&[first.url(), second.url()]) };
    let error = failure(client(&settings).subjects(false).await);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_not_reached() {
    let error = failure(client(&config(&[nobody().await])).subjects(false).await);
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    assert!(error.detail().contains("no connection"), "{error}");
    let registering = client(&config(&[nobody().await])).register("a", &schema("x"), false).await;
    assert_eq!(failure(registering).effect(), Effect::None, "nothing reached it");
}

#[tokio::test]
async fn the_next_address_takes_over_and_is_kept_to() {
    let second = Scripted::new(|_, _| ok(json!(["a"]))).await;
    let failing = Scripted::new(|_, _| Reply::With(500, "x: y", String::new())).await;
    let client = client(&config(&[failing.url(), nobody().await, second.url()]));
    for _ in 0..5 {
        assert_eq!(client.subjects(false).await.expect("of the third"), ["a"]);
    }
    assert_eq!(failing.requests().len(), 1);
    assert_eq!(second.requests().len(), 5);
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_does_no_harm() {
    let registry = Scripted::new(|number, _| if number == 1 { Reply::Close } else { ok(json!([])) }).await;
    let client = registry.client();
    for _ in 0..3 {
        client.subjects(false).await.expect("names");
    }
    assert_eq!(registry.requests().len(), 4);
}

//! Schemas in a registry outside: what whoever writes and reads values finds of it.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use domain::{
    breaker::{Breaker, BreakerStatus, GuardedRegistry, STORE},
    schemas::{
        SchemaType,
        registry::{
            Against, Deleted, NewReference, NewSchema, Page, Position, Reason, Registry, RegistryConfig,
            SchemaError, SubjectPrefix, VersionSelector,
        },
    },
};
use ports::{RegistryError, RegistrySchema, SchemaId, VersionKey};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use support::registry::{Fake, away, kept, refused, text};
use testkit::TestClock;
use tokio::time::advance;

fn over(fake: &Arc<Fake>) -> Registry {
    Registry::outside(fake.clone(), Arc::new(TestClock::new()), RegistryConfig::default())
}

fn both() -> (Arc<Fake>, Registry) {
    let fake = Arc::new(Fake::default());
    let registry = over(&fake);
    (fake, registry)
}

fn message(field: &str) -> NewSchema {
    NewSchema::new(SchemaType::Protobuf, text(field))
}

async fn add(registry: &Registry, subject: &str, schema: &NewSchema) -> (u32, u32) {
    let registered = registry.register(subject, schema, Position::default(), false).await.unwrap();
    (registered.schema.id.0, registered.version)
}

fn reason<T: std::fmt::Debug>(result: Result<T, SchemaError>) -> Reason {
    result.unwrap_err().reason()
}

async fn current(registry: &Registry, subject: &str) -> Vec<(u32, u32)> {
    let found = registry.current(subject).await.unwrap();
    found.versions.iter().map(|it| (it.version, it.id.0)).collect()
}

const ALL: Page = Page { offset: 0, limit: None };
const LATEST: VersionSelector = VersionSelector::Latest;

#[tokio::test]
async fn a_schema_is_asked_for_once_and_values_are_read_by_it() {
    let (fake, registry) = both();
    fake.put("orders-value", 1, kept("id"));
    for _ in 0..3 {
        let parsed = registry.parsed_by_id(SchemaId(1), Some("orders-value")).await.unwrap();
        let bytes = parsed.encode_json(None, json!({"id": "a"}).to_string().as_bytes()).unwrap();
        assert_eq!(bytes, b"\x0a\x01a"[..]);
    }
    assert_eq!(fake.asked(), ["schema . 1"]);
    assert_eq!(reason(registry.by_id(SchemaId(9), None).await), Reason::SchemaNotFound);
    assert_eq!(reason(registry.by_id(SchemaId(9), None).await), Reason::SchemaNotFound);
    assert_eq!(fake.asked().len(), 2, "what is not there may come");
    registry.by_id(SchemaId(1), Some(":.eu:a")).await.unwrap();
    assert_eq!(fake.asked(), ["schema .eu 1"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_finds_the_versions_of_a_subject_in_two_calls_once_they_are_known() {
    let (fake, registry) = both();
    for (version, field) in [(1, "a"), (2, "b"), (4, "c")] {
        fake.put("orders-value", version, kept(field));
    }
    assert_eq!(current(&registry, "orders-value").await, [(1, 1), (2, 2), (4, 3)]);
    let mut asked = fake.asked();
    asked.sort();
    let [list, latest] = ["versions orders-value", "version orders-value latest"];
    assert_eq!(asked, ["version orders-value 1", "version orders-value 2", latest, list]);
    // For a moment nobody is asked; then what may have changed is.
    assert_eq!(current(&registry, "orders-value").await.len(), 3);
    assert_eq!(fake.asked(), Vec::<String>::new());
    advance(RegistryConfig::default().subject_ttl).await;
    fake.put("orders-value", 5, kept("d"));
    assert_eq!(current(&registry, "orders-value").await, [(1, 1), (2, 2), (4, 3), (5, 4)]);
    let mut asked = fake.asked();
    asked.sort();
    assert_eq!(asked, [latest, list]);
    // The schema of the latest came with it.
    registry.parsed_by_id(SchemaId(4), Some("orders-value")).await.unwrap();
    assert_eq!(fake.asked(), Vec::<String>::new());
    assert_eq!(reason(registry.current("other").await), Reason::SubjectNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_was_made_anew_is_asked_for_anew() {
    let (fake, registry) = both();
    for (version, field) in [(1, "a"), (2, "b")] {
        fake.put("s", version, kept(field));
    }
    assert_eq!(current(&registry, "s").await, [(1, 1), (2, 2)]);
    fake.state.lock().subjects.clear();
    for (version, field) in [(1, "c"), (2, "d")] {
        fake.put("s", version, kept(field));
    }
    advance(RegistryConfig::default().subject_ttl).await;
    assert_eq!(current(&registry, "s").await, [(1, 3), (2, 4)]);
}

#[tokio::test]
async fn writers_read_what_they_wrote() {
    let (fake, registry) = both();
    assert_eq!(add(&registry, "s", &message("a")).await, (1, 1));
    assert_eq!(current(&registry, "s").await, [(1, 1)]);
    assert_eq!(add(&registry, "s", &message("b")).await, (2, 2));
    assert_eq!(current(&registry, "s").await, [(1, 1), (2, 2)]);
    fake.asked();
    // What was answered is kept: it is not asked for again.
    registry.parsed_by_id(SchemaId(2), None).await.unwrap();
    assert_eq!(fake.asked(), Vec::<String>::new());
    let found = registry.lookup("s", &message("a"), false, false).await.unwrap();
    assert_eq!((found.version, found.schema.id, found.schema.guid()), (1, SchemaId(1), None));
    assert_eq!(registry.version("s", LATEST, false).await.unwrap().version, 2);
}

#[tokio::test]
async fn references_are_followed_by_their_versions() {
    let (fake, registry) = both();
    fake.put("base", 3, kept("id"));
    let cart = "syntax = \"proto3\"; package shop; import \"order.proto\"; message Cart { Order order = 1; }";
    let reference =
        |version| NewReference { name: "order.proto".to_owned(), subject: "base".to_owned(), version };
    let new = NewSchema { references: vec![reference(LATEST)], ..NewSchema::new(SchemaType::Protobuf, cart) };
    add(&registry, "s", &new).await;
    let reader = over(&fake);
    fake.asked();
    reader.parsed_by_id(SchemaId(2), None).await.unwrap();
    assert_eq!(fake.asked(), ["schema . 2", "version base 3"]);
}

#[tokio::test]
async fn verdicts_keep_their_codes_and_an_outage_is_none() {
    let (fake, registry) = both();
    for (failure, reason, code) in [
        ((|| refused(409)) as fn() -> RegistryError, Reason::Incompatible, Some(409)),
        (|| refused(40901), Reason::Incompatible, Some(40901)),
        (|| refused(42201), Reason::InvalidSchema, Some(42201)),
        (|| refused(42205), Reason::NotPermitted, Some(42205)),
        (|| refused(422), Reason::InvalidRequest, Some(422)),
        // What this service may not is no fault of an event's.
        (|| refused(40301), Reason::Store, Some(40301)),
        (away, Reason::Store, None),
    ] {
        fake.fail(Some(failure));
        let error = registry.register("s", &message("a"), Position::default(), false).await.unwrap_err();
        assert_eq!((error.reason(), error.outside_code()), (reason, code));
        let error = registry.by_id(SchemaId(1), None).await.unwrap_err();
        assert_eq!((error.reason(), error.outside_code()), (reason, code));
    }
}

#[tokio::test]
async fn an_id_keeps_the_meaning_that_it_had() {
    let (fake, registry) = both();
    fake.put("s", 1, kept("a"));
    registry.parsed_by_id(SchemaId(1), None).await.unwrap();
    // Other white space is no other schema.
    fake.state.lock().schemas[0].text = text("a").replace("; ", ";\n");
    registry.version("s", LATEST, false).await.unwrap();
    // The registry was wiped, and begins from 1 again.
    fake.state.lock().schemas[0].text = text("b");
    for error in [
        registry.version("s", LATEST, false).await.unwrap_err(),
        registry.current("s").await.unwrap_err(),
        registry.register("s", &message("b"), Position::default(), false).await.unwrap_err(),
    ] {
        assert_eq!(error.reason(), Reason::Store);
        assert!(error.message().contains("another one than before"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_schema_here_is_told_apart_from_an_outage() {
    let (fake, registry) = both();
    fake.put("s", 1, RegistrySchema { schema_type: "THRIFT".to_owned(), ..kept("a") });
    let error = registry.by_id(SchemaId(1), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidSchema);
    assert!(error.message().contains("THRIFT") && error.message().contains("PROTOBUF"), "{error}");
    fake.put("t", 1, RegistrySchema { metadata: Some("{".to_owned()), ..kept("b") });
    assert_eq!(reason(registry.by_id(SchemaId(2), None).await), Reason::Store);
}

#[tokio::test]
async fn lists_and_checks_are_the_registrys() {
    let (fake, registry) = both();
    for subject in ["a", "b", ":.eu:c"] {
        fake.put(subject, 1, kept("x"));
    }
    let subjects = async |prefix: &str, deleted, page| {
        registry.subjects(&SubjectPrefix::parse(prefix).unwrap(), deleted, page).await.unwrap()
    };
    assert_eq!(subjects("", Deleted::Without, ALL).await, ["a", "b"]);
    assert_eq!(subjects(":*:", Deleted::Without, Page { offset: 1, limit: Some(1) }).await, ["a"]);
    assert_eq!(subjects("", Deleted::Only, ALL).await, ["gone"]);
    assert_eq!(registry.versions("a", Deleted::Without, ALL).await.unwrap(), [1]);
    let uses = registry.versions_of_id(SchemaId(1), Some("b"), false, ALL).await.unwrap();
    assert_eq!(uses, [VersionKey { subject: "b".to_owned(), version: 1 }]);
    assert_eq!(reason(registry.subjects_of_id(SchemaId(7), None, false, ALL).await), Reason::SchemaNotFound);
    let checked = registry.check("a", &message("y"), Against::Level, false).await.unwrap();
    assert!(!checked.is_compatible && checked.messages == ["why"]);
    // Of a subject that is not there anything may be the first.
    assert!(registry.check("z", &message("y"), Against::Version(LATEST), false).await.unwrap().is_compatible);
    let number = Against::Version(VersionSelector::Number(1));
    assert_eq!(reason(registry.check("z", &message("y"), number, false).await), Reason::SubjectNotFound);
}

#[tokio::test]
async fn what_is_the_operators_is_not_done_by_the_services_credentials() {
    let (fake, registry) = both();
    fake.put("a", 1, kept("x"));
    for reason in [
        reason(registry.delete_subject("a", false).await),
        reason(registry.delete_version("a", LATEST, false).await),
        reason(registry.set_config(Some("a"), &domain::schemas::registry::Config::default()).await),
        reason(registry.set_mode(None, domain::schemas::registry::Mode::ReadOnly, false).await),
        reason(registry.config(None, true).await),
        reason(registry.contexts(ALL).await),
        reason(
            registry
                .register("a", &message("y"), Position { id: Some(SchemaId(7)), version: None }, false)
                .await,
        ),
    ] {
        assert_eq!(reason, Reason::NotSupported);
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn subjects_are_counted_once_a_minute_and_the_registry_is_asked_how_it_is_each_time() {
    let (fake, registry) = both();
    fake.put("a", 1, kept("x"));
    fake.put(":.eu:b", 1, kept("x"));
    let counted = registry.statistics().await.unwrap();
    assert_eq!((counted.subjects, counted.contexts, counted.versions), (2, 2, None));
    registry.statistics().await.unwrap();
    assert_eq!(fake.asked(), ["subjects", "ping"]);
    fake.fail(Some(away));
    assert_eq!(reason(registry.statistics().await), Reason::Store);
    fake.fail(None);
    advance(Duration::from_secs(60)).await;
    registry.statistics().await.unwrap();
    assert_eq!(fake.asked(), ["ping", "subjects"]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_serve_is_left_alone_and_one_that_refuses_is_not() {
    let fake = Arc::new(Fake::default());
    let clock = Arc::new(TestClock::new());
    let breaker = Arc::new(Breaker::new("schema-registry", STORE, clock.clone()));
    let guarded = Arc::new(GuardedRegistry::new(fake.clone(), breaker.clone()));
    let registry = Registry::outside(guarded, clock, RegistryConfig::default());
    fake.fail(Some(|| refused(40301)));
    for _ in 0..20 {
        registry.by_id(SchemaId(1), None).await.unwrap_err();
    }
    assert_eq!(breaker.status(), BreakerStatus::Closed);
    fake.fail(Some(away));
    for _ in 0..STORE.connects {
        registry.by_id(SchemaId(1), None).await.unwrap_err();
    }
    fake.asked();
    let error = registry.by_id(SchemaId(1), None).await.unwrap_err();
    assert!(error.message().contains("left alone") && error.retry_after().is_some(), "{error}");
    assert_eq!(fake.asked(), Vec::<String>::new());
    // The next probe finds it back.
    fake.fail(None);
    fake.put("a", 1, kept("x"));
    advance(STORE.probe_first).await;
    registry.by_id(SchemaId(1), None).await.unwrap();
    assert_eq!(breaker.status(), BreakerStatus::Closed);
}

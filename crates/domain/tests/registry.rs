//! The registry's rules, over the store in memory.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::MemorySchemas;
use async_trait::async_trait;
use bytes::Bytes;
use domain::schemas::{
    CompatibilityLevel, SchemaType,
    registry::{
        Against, Config, Deleted, Mode, NewReference, NewSchema, Page, Position, Reason, Registry,
        RegistryConfig, SchemaError, SubjectPrefix, VersionSelector,
    },
};
use ports::{
    Fingerprint, Result as PortResult, Revision, SchemaChange, SchemaChanged, SchemaId, SchemaKey,
    SchemaSetting, SchemaStore, StoredSchema, StoredSubject, VersionKey,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use testkit::TestClock;

fn registry() -> Registry {
    over(Arc::new(MemorySchemas::default()))
}

fn over(store: Arc<dyn SchemaStore>) -> Registry {
    Registry::new(store, Arc::new(TestClock::new()), RegistryConfig::default())
}

/// A message whose fields are numbered from 1 on, all strings.
fn message(fields: &[&str]) -> NewSchema {
    let fields: Vec<String> =
        fields.iter().enumerate().map(|(at, name)| format!("string {name} = {};", at + 1)).collect();
    let text = format!("syntax = \"proto3\"; package shop; message Order {{ {} }}", fields.join(" "));
    NewSchema::new(SchemaType::Protobuf, text)
}

/// A message of another file that has one of `shop.Order`.
fn referring(name: &str, subject: &str, version: VersionSelector) -> NewSchema {
    let text =
        format!("syntax = \"proto3\"; package shop; import \"{name}\"; message Cart {{ Order order = 1; }}");
    let reference = NewReference { name: name.to_owned(), subject: subject.to_owned(), version };
    NewSchema { references: vec![reference], ..NewSchema::new(SchemaType::Protobuf, text) }
}

async fn add(registry: &Registry, subject: &str, schema: &NewSchema) -> (u32, u32) {
    let registered = registry.register(subject, schema, Position::default(), false).await.unwrap();
    (registered.schema.id.0, registered.version)
}

async fn refused(registry: &Registry, subject: &str, schema: &NewSchema) -> SchemaError {
    registry.register(subject, schema, Position::default(), false).await.unwrap_err()
}

async fn level(registry: &Registry, subject: Option<&str>, level: CompatibilityLevel) {
    registry.set_config(subject, &Config { level: Some(level), normalize: None }).await.unwrap();
}

fn reason<T: std::fmt::Debug>(result: Result<T, SchemaError>) -> Reason {
    result.unwrap_err().reason()
}

const ALL: Page = Page { offset: 0, limit: None };
const LATEST: VersionSelector = VersionSelector::Latest;

#[tokio::test]
async fn ids_count_schemas_and_versions_count_those_of_a_subject() {
    let registry = registry();
    assert_eq!(add(&registry, "a", &message(&["x"])).await, (1, 1));
    assert_eq!(add(&registry, "a", &message(&["x", "y"])).await, (2, 2));
    assert_eq!(add(&registry, "b", &message(&["z"])).await, (3, 1));
    // What is there already stays what it is.
    assert_eq!(add(&registry, "a", &message(&["x"])).await, (1, 1));
    assert_eq!(add(&registry, "b", &message(&["z"])).await, (3, 1));
    // The same schema has one id.
    assert_eq!(add(&registry, "c", &message(&["x", "y"])).await, (2, 1));
    let found = registry.version("a", LATEST, false).await.unwrap();
    assert_eq!((found.version, found.schema.id), (2, SchemaId(2)));
    assert_eq!(found.schema.content().text, message(&["x", "y"]).text);
    let uses = registry.versions_of_id(SchemaId(2), None, false, ALL).await.unwrap();
    let uses: Vec<_> = uses.iter().map(|it| (it.subject.as_str(), it.version)).collect();
    assert_eq!(uses, [("a", 2), ("c", 1)]);
    assert_eq!(registry.subjects_of_id(SchemaId(2), Some("c"), false, ALL).await.unwrap(), ["c"]);
    assert_eq!(reason(registry.by_id(SchemaId(4), None).await), Reason::SchemaNotFound);
    assert_eq!(registry.max_id(None).await.unwrap(), Some(SchemaId(3)));
}

#[tokio::test]
async fn what_differs_in_white_space_and_comments_is_one_schema() {
    let registry = registry();
    add(&registry, "a", &message(&["x"])).await;
    let spaced = message(&["x"]).text.replace("; ", ";\n\n  // as before\n  ");
    let spaced = NewSchema::new(SchemaType::Protobuf, spaced);
    assert_eq!(add(&registry, "a", &spaced).await, (1, 1));
    let found = registry.lookup("a", &spaced, false, false).await.unwrap();
    assert_eq!((found.version, found.schema.id), (1, SchemaId(1)));
    let guid = found.schema.guid().unwrap();
    assert_eq!(registry.by_guid(guid).await.unwrap().id, SchemaId(1));
    assert_eq!(reason(registry.lookup("a", &message(&["y"]), false, false).await), Reason::SchemaNotFound);
    assert_eq!(reason(registry.lookup("b", &spaced, false, false).await), Reason::SubjectNotFound);
}

#[tokio::test]
async fn a_new_version_must_fit_those_before_it() {
    let registry = registry();
    add(&registry, "a", &message(&["x"])).await;
    let other = NewSchema::new(
        SchemaType::Protobuf,
        "syntax = \"proto3\"; package shop; message Order { int32 x = 1; }",
    );
    let error = refused(&registry, "a", &other).await;
    assert_eq!(error.reason(), Reason::Incompatible);
    assert!(error.message().contains("FIELD_SCALAR_KIND_CHANGED"), "{error}");
    assert!(error.message().contains("oldSchemaVersion: 1"), "{error}");
    let check = registry.check("a", &other, Against::Level, false).await.unwrap();
    assert!(!check.is_compatible && !check.messages.is_empty());
    let check =
        registry.check("a", &other, Against::Version(VersionSelector::Number(1)), false).await.unwrap();
    assert!(!check.is_compatible);
    let check = registry.check("new", &other, Against::Version(LATEST), false).await.unwrap();
    assert!(check.is_compatible);
    let one = Against::Version(VersionSelector::Number(1));
    assert_eq!(reason(registry.check("new", &other, one, false).await), Reason::SubjectNotFound);
    let nine = Against::Version(VersionSelector::Number(9));
    assert_eq!(reason(registry.check("a", &other, nine, false).await), Reason::VersionNotFound);
    // The nearest level holds.
    level(&registry, None, CompatibilityLevel::None).await;
    level(&registry, Some("a"), CompatibilityLevel::Full).await;
    assert_eq!(refused(&registry, "a", &other).await.reason(), Reason::Incompatible);
    registry.delete_config(Some("a")).await.unwrap();
    assert_eq!(add(&registry, "a", &other).await, (2, 2));
    // By FULL the latest version counts, by FULL_TRANSITIVE all of them.
    level(&registry, None, CompatibilityLevel::Full).await;
    let third = NewSchema::new(SchemaType::Protobuf, other.text.replace('}', "string y = 2; }"));
    assert!(registry.check("a", &third, Against::Level, false).await.unwrap().is_compatible);
    level(&registry, None, CompatibilityLevel::FullTransitive).await;
    let check = registry.check("a", &third, Against::Level, false).await.unwrap();
    assert!(!check.is_compatible && check.messages.iter().any(|it| it == "{oldSchemaVersion: 1}"));
}

#[tokio::test]
async fn settings_hold_where_they_are_set_and_default_elsewhere() {
    let registry = registry();
    let level_of = async |subject: Option<&str>, global| {
        registry.config(subject, global).await.map(|config| config.level.unwrap())
    };
    assert_eq!(level_of(None, false).await.unwrap(), CompatibilityLevel::FullTransitive);
    assert_eq!(reason(level_of(Some("a"), false).await), Reason::ConfigNotSet);
    assert_eq!(level_of(Some("a"), true).await.unwrap(), CompatibilityLevel::FullTransitive);
    level(&registry, Some(":.x:"), CompatibilityLevel::Backward).await;
    assert_eq!(level_of(Some(":.x:a"), true).await.unwrap(), CompatibilityLevel::Backward);
    assert_eq!(level_of(Some("a"), true).await.unwrap(), CompatibilityLevel::FullTransitive);
    level(&registry, Some(":.x:a"), CompatibilityLevel::Forward).await;
    assert_eq!(level_of(Some(":.x:a"), false).await.unwrap(), CompatibilityLevel::Forward);
    let was = registry.delete_config(Some(":.x:a")).await.unwrap();
    assert_eq!(was.level, Some(CompatibilityLevel::Forward));
    assert_eq!(reason(registry.delete_config(Some(":.x:a")).await), Reason::SubjectNotFound);
    level(&registry, None, CompatibilityLevel::None).await;
    registry.delete_config(None).await.unwrap();
    assert_eq!(level_of(None, false).await.unwrap(), CompatibilityLevel::FullTransitive);

    assert_eq!(registry.mode(None, false).await.unwrap(), Mode::ReadWrite);
    assert_eq!(reason(registry.mode(Some("a"), false).await), Reason::ModeNotSet);
    registry.set_mode(Some("a"), Mode::ReadOnly, false).await.unwrap();
    assert_eq!(registry.mode(Some("a"), false).await.unwrap(), Mode::ReadOnly);
    assert_eq!(registry.delete_mode(Some("a")).await.unwrap(), Mode::ReadOnly);
    assert_eq!(reason(registry.delete_mode(Some("a")).await), Reason::SubjectNotFound);
}

#[tokio::test]
async fn a_mode_says_what_may_be_changed() {
    let registry = registry();
    add(&registry, "a", &message(&["x"])).await;
    registry.set_mode(Some("a"), Mode::ReadOnly, false).await.unwrap();
    assert_eq!(refused(&registry, "a", &message(&["x", "y"])).await.reason(), Reason::NotPermitted);
    // What is there is there.
    assert_eq!(add(&registry, "a", &message(&["x"])).await, (1, 1));
    assert_eq!(reason(registry.delete_subject("a", false).await), Reason::NotPermitted);
    let config = Config { level: Some(CompatibilityLevel::None), normalize: None };
    assert_eq!(reason(registry.set_config(Some("a"), &config).await), Reason::NotPermitted);
    add(&registry, "b", &message(&["x"])).await;
    registry.set_mode(Some("a"), Mode::ReadWrite, false).await.unwrap();
    registry.set_mode(None, Mode::ReadOnlyOverride, false).await.unwrap();
    assert_eq!(refused(&registry, "a", &message(&["x", "y"])).await.reason(), Reason::NotPermitted);
    registry.set_mode(None, Mode::ReadWrite, false).await.unwrap();
    add(&registry, "a", &message(&["x", "y"])).await;
}

#[tokio::test]
async fn an_import_keeps_ids_and_versions() {
    let registry = registry();
    add(&registry, "there", &message(&["x"])).await;
    assert_eq!(reason(registry.set_mode(None, Mode::Import, false).await), Reason::NotPermitted);
    assert_eq!(reason(registry.set_mode(Some("there"), Mode::Import, false).await), Reason::NotPermitted);
    let at = |id, version| Position { id: Some(SchemaId(id)), version: Some(version) };
    let import = async |subject: &str, schema: &NewSchema, position| {
        let registered = registry.register(subject, schema, position, false).await;
        registered.map(|registered| (registered.schema.id.0, registered.version))
    };
    assert_eq!(reason(import("a", &message(&["y"]), at(9, 1)).await), Reason::NotPermitted, "not importing");
    registry.set_mode(Some("a"), Mode::Import, false).await.unwrap();
    assert_eq!(refused(&registry, "a", &message(&["y"])).await.reason(), Reason::NotPermitted);
    assert_eq!(import("a", &message(&["y"]), at(20, 7)).await.unwrap(), (20, 7));
    assert_eq!(import("a", &message(&["y"]), at(20, 7)).await.unwrap(), (20, 7));
    // Nothing is asked of an import but to be readable.
    let other = NewSchema::new(SchemaType::Protobuf, "syntax = \"proto3\"; message Other { int32 y = 1; }");
    assert_eq!(import("a", &other, at(10, 3)).await.unwrap(), (10, 3));
    assert_eq!(
        reason(import("a", &message(&["z"]), at(10, 4)).await),
        Reason::NotPermitted,
        "the id is taken"
    );
    assert_eq!(
        reason(import("a", &message(&["z"]), at(11, 3)).await),
        Reason::NotPermitted,
        "so is the version"
    );
    assert_eq!(reason(import("a", &message(&["y"]), at(11, 7)).await), Reason::IdMismatch);
    assert_eq!(reason(import("a", &message(&["y"]), at(0, 7)).await), Reason::InvalidVersion);
    assert_eq!(registry.versions("a", Deleted::Without, ALL).await.unwrap(), [3, 7]);
    registry.set_mode(Some("a"), Mode::ReadWrite, false).await.unwrap();
    let at_version = |version| Position { id: None, version: Some(version) };
    assert_eq!(reason(import("there", &message(&["x", "z"]), at_version(3)).await), Reason::InvalidVersion);
    assert_eq!(import("there", &message(&["x", "z"]), at_version(2)).await.unwrap(), (21, 2));
}

#[tokio::test]
async fn what_is_deleted_is_deleted_softly_first() {
    let registry = registry();
    for fields in [&["x"][..], &["x", "y"], &["x", "y", "z"]] {
        add(&registry, "a", &message(fields)).await;
    }
    let delete = async |version, permanent| {
        registry.delete_version("a", VersionSelector::Number(version), permanent).await
    };
    assert_eq!(reason(delete(2, true).await), Reason::VersionNotSoftDeleted);
    assert_eq!(delete(2, false).await.unwrap(), 2);
    assert_eq!(reason(delete(2, false).await), Reason::VersionSoftDeleted);
    assert_eq!(reason(delete(9, false).await), Reason::VersionNotFound);
    assert_eq!(registry.versions("a", Deleted::Without, ALL).await.unwrap(), [1, 3]);
    assert_eq!(registry.versions("a", Deleted::With, ALL).await.unwrap(), [1, 2, 3]);
    assert_eq!(registry.versions("a", Deleted::Only, ALL).await.unwrap(), [2]);
    // Data that was written by it is still read.
    assert_eq!(registry.by_id(SchemaId(2), None).await.unwrap().content().text, message(&["x", "y"]).text);
    assert_eq!(
        reason(registry.version("a", VersionSelector::Number(2), false).await),
        Reason::VersionNotFound
    );
    assert!(registry.version("a", VersionSelector::Number(2), true).await.unwrap().deleted);
    // Registered again, it is a new version of the same id.
    assert_eq!(add(&registry, "a", &message(&["x", "y"])).await, (2, 4));
    assert_eq!(delete(2, true).await.unwrap(), 2);
    assert_eq!(registry.versions("a", Deleted::With, ALL).await.unwrap(), [1, 3, 4]);

    level(&registry, Some("a"), CompatibilityLevel::None).await;
    assert_eq!(reason(registry.delete_subject("a", true).await), Reason::SubjectNotSoftDeleted);
    assert_eq!(registry.delete_version("a", LATEST, false).await.unwrap(), 4);
    assert_eq!(registry.delete_subject("a", false).await.unwrap(), [1, 3]);
    assert_eq!(reason(registry.config(Some("a"), false).await), Reason::ConfigNotSet);
    assert_eq!(reason(registry.delete_subject("a", false).await), Reason::SubjectSoftDeleted);
    assert_eq!(reason(registry.versions("a", Deleted::Without, ALL).await), Reason::SubjectNotFound);
    assert_eq!(registry.delete_subject("a", true).await.unwrap(), [1, 3, 4]);
    assert_eq!(reason(registry.delete_subject("a", true).await), Reason::SubjectNotFound);
    assert_eq!(reason(registry.by_id(SchemaId(2), None).await), Reason::SchemaNotFound);
    assert_eq!(add(&registry, "a", &message(&["x"])).await, (4, 1), "no id is given again");
}

#[tokio::test]
async fn references_are_followed_and_hold_what_they_refer_to() {
    let registry = registry();
    let error = refused(&registry, "cart", &referring("order.proto", "order", LATEST)).await;
    assert_eq!(error.reason(), Reason::InvalidSchema);
    assert!(error.message().contains("order.proto") && error.message().contains("'order'"), "{error}");
    add(&registry, "order", &message(&["x"])).await;
    assert_eq!(add(&registry, "cart", &referring("order.proto", "order", LATEST)).await, (2, 1));
    let content = registry.version("cart", LATEST, false).await.unwrap();
    assert_eq!(content.schema.content().references[0].version, 1, "the latest is pinned");
    // One more step.
    let text = "syntax = \"proto3\"; package shop; import \"cart.proto\"; message Shop { Cart cart = 1; }";
    let reference = NewReference { name: "cart.proto".into(), subject: "cart".into(), version: LATEST };
    let shop = NewSchema { references: vec![reference], ..NewSchema::new(SchemaType::Protobuf, text) };
    assert_eq!(add(&registry, "shop", &shop).await, (3, 1));
    assert_eq!(registry.referenced_by("order", LATEST, false, ALL).await.unwrap(), [SchemaId(2)]);
    assert_eq!(
        registry.referenced_by("cart", VersionSelector::Number(1), false, ALL).await.unwrap(),
        [SchemaId(3)]
    );
    // A version that is referred to stays, a subject too; others of it do not.
    add(&registry, "order", &message(&["x", "y"])).await;
    let error = registry.delete_version("order", VersionSelector::Number(1), false).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ReferenceExists);
    assert!(error.message().contains("'cart'"), "{error}");
    assert_eq!(reason(registry.delete_subject("order", false).await), Reason::ReferenceExists);
    assert_eq!(registry.delete_version("order", VersionSelector::Number(2), false).await.unwrap(), 2);
    registry.delete_subject("shop", false).await.unwrap();
    registry.delete_subject("cart", false).await.unwrap();
    assert_eq!(registry.referenced_by("order", LATEST, false, ALL).await.unwrap(), []);
    assert_eq!(
        registry.referenced_by("order", VersionSelector::Number(1), true, ALL).await.unwrap(),
        [SchemaId(2)]
    );
    registry.delete_subject("order", false).await.unwrap();
    // Data of what was deleted softly is still read, so what it needs is not removed.
    assert_eq!(reason(registry.delete_subject("order", true).await), Reason::ReferenceExists);
    registry.parsed_by_id(SchemaId(3), None).await.unwrap();
    for subject in ["shop", "cart", "order"] {
        registry.delete_subject(subject, true).await.unwrap();
    }
}

#[tokio::test]
async fn a_subject_whose_versions_refer_to_each_other_is_deleted_as_a_whole() {
    let registry = registry();
    add(&registry, "a", &message(&["x"])).await;
    level(&registry, None, CompatibilityLevel::None).await;
    add(&registry, "a", &referring("order.proto", "a", LATEST)).await;
    let one = VersionSelector::Number(1);
    assert_eq!(reason(registry.delete_version("a", one, false).await), Reason::ReferenceExists);
    assert_eq!(registry.delete_subject("a", false).await.unwrap(), [1, 2]);
    assert_eq!(registry.delete_subject("a", true).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn one_name_refers_to_one_schema() {
    let registry = registry();
    add(&registry, "one", &message(&["x"])).await;
    add(&registry, "other", &message(&["y"])).await;
    let reference =
        |subject: &str| NewReference { name: "order.proto".into(), subject: subject.into(), version: LATEST };
    let mut cart = referring("order.proto", "one", LATEST);
    cart.references = vec![reference("one"), reference("other")];
    let error = refused(&registry, "cart", &cart).await;
    assert_eq!(error.reason(), Reason::InvalidSchema);
    assert!(error.message().contains("'one'") && error.message().contains("'other'"), "{error}");
    cart.references = vec![reference("one"), reference("one")];
    add(&registry, "cart", &cart).await;
}

#[tokio::test]
async fn contexts_have_ids_of_their_own() {
    let registry = registry();
    assert_eq!(add(&registry, "a", &message(&["x"])).await, (1, 1));
    assert_eq!(add(&registry, ":.x:a", &message(&["y"])).await, (1, 1));
    assert_eq!(add(&registry, ":.x:b", &message(&["x"])).await, (2, 1));
    assert_eq!(add(&registry, ":.:a", &message(&["x"])).await, (1, 1));
    let text = |context| {
        let registry = &registry;
        async move { registry.by_id(SchemaId(1), context).await.unwrap().content().text.clone() }
    };
    assert_eq!(text(None).await, message(&["x"]).text);
    assert_eq!(text(Some(":.x:")).await, message(&["y"]).text);
    assert_eq!(text(Some(":.x:whatever")).await, message(&["y"]).text);
    assert_eq!(registry.contexts(ALL).await.unwrap(), [".", ".x"]);
    let subjects = async |prefix: &str| {
        registry.subjects(&SubjectPrefix::parse(prefix).unwrap(), Deleted::Without, ALL).await.unwrap()
    };
    assert_eq!(subjects("").await, ["a"]);
    assert_eq!(subjects(":.x:").await, [":.x:a", ":.x:b"]);
    assert_eq!(subjects(":*:").await, [":.x:a", ":.x:b", "a"]);
    let guid = registry.by_id(SchemaId(1), None).await.unwrap().guid().unwrap();
    let ids = registry.ids_of_guid(guid).await.unwrap();
    assert_eq!(
        ids.iter().map(|key| (key.context.as_str(), key.id.0)).collect::<Vec<_>>(),
        [(".", 1), (".x", 2)]
    );
    // A reference is within its schema's context.
    add(&registry, ":.x:cart", &referring("order.proto", "b", LATEST)).await;
    assert_eq!(registry.referenced_by(":.x:b", LATEST, false, ALL).await.unwrap(), [SchemaId(3)]);
}

#[tokio::test]
async fn lists_are_given_in_parts() {
    let registry = registry();
    for subject in ["a", "b", "c", "d"] {
        add(&registry, subject, &message(&["x"])).await;
    }
    add(&registry, "b", &message(&["x", "y"])).await;
    registry.delete_subject("c", false).await.unwrap();
    let page = |offset, limit| Page { offset, limit: Some(limit) };
    let all = SubjectPrefix::all();
    let subjects = async |deleted, page| registry.subjects(&all, deleted, page).await.unwrap();
    assert_eq!(subjects(Deleted::Without, page(1, 1)).await, ["b"]);
    assert_eq!(subjects(Deleted::With, page(2, 9)).await, ["c", "d"]);
    assert_eq!(subjects(Deleted::Only, ALL).await, ["c"]);
    assert_eq!(subjects(Deleted::With, page(0, 0)).await, Vec::<String>::new());
    let list = async |latest, page| {
        let listed = registry.list(&all, Deleted::Without, latest, page).await.unwrap();
        listed.iter().map(|it| (it.subject.clone(), it.version)).collect::<Vec<_>>()
    };
    let of = |subject: &str, version| (subject.to_owned(), version);
    assert_eq!(list(false, ALL).await, [of("a", 1), of("b", 1), of("b", 2), of("d", 1)]);
    assert_eq!(list(true, page(1, 2)).await, [of("b", 2), of("d", 1)]);
    let counted = registry.statistics().await.unwrap();
    assert_eq!(
        (counted.subjects, counted.versions, counted.deleted_versions, counted.contexts),
        (3, Some(4), Some(1), 1)
    );
    assert!(counted.by_type.contains(&(SchemaType::Protobuf, 4)));
    add(&registry, "e", &message(&["x"])).await;
    assert_eq!(registry.statistics().await.unwrap().subjects, 4);
}

#[tokio::test]
async fn what_is_wrong_with_a_schema_is_said() {
    let registry = registry();
    let text = |text: &str| NewSchema::new(SchemaType::Protobuf, text);
    assert_eq!(refused(&registry, "a", &text(" ")).await.reason(), Reason::InvalidSchema);
    assert_eq!(refused(&registry, "a", &text("message {")).await.reason(), Reason::InvalidSchema);
    assert_eq!(refused(&registry, "a", &text(&"x".repeat((1 << 20) + 1))).await.reason(), Reason::TooLarge);
    assert_eq!(refused(&registry, "", &message(&["x"])).await.reason(), Reason::InvalidSubject);
    assert_eq!(refused(&registry, "__GLOBAL", &message(&["x"])).await.reason(), Reason::InvalidSubject);
    let rules = NewSchema { rule_set: Some(7.into()), ..message(&["x"]) };
    assert_eq!(refused(&registry, "a", &rules).await.reason(), Reason::InvalidRuleSet);
    assert_eq!(
        registry.subjects(&SubjectPrefix::all(), Deleted::With, ALL).await.unwrap(),
        Vec::<String>::new()
    );
    for wrong in ["0", "-2", "x", "", "2147483648"] {
        assert_eq!(reason(VersionSelector::parse(wrong)), Reason::InvalidVersion, "{wrong}");
    }
    assert_eq!(VersionSelector::parse("-1").unwrap(), LATEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_get_versions_without_a_gap_at_two_replicas() {
    const CALLS: u32 = 50;
    let store: Arc<dyn SchemaStore> = Arc::new(MemorySchemas::default());
    let replicas = [Arc::new(over(store.clone())), Arc::new(over(store))];
    let calls: Vec<_> = (0..CALLS)
        .map(|nth| {
            let registry = replicas[nth as usize % 2].clone();
            // Each with a field that no other has: all of them may follow each other in any order.
            let text = format!(
                "syntax = \"proto3\"; package shop; message Order {{ string f{nth} = {}; }}",
                nth + 1
            );
            let schema = NewSchema::new(SchemaType::Protobuf, text);
            tokio::spawn(
                async move { (add(&registry, "a", &schema).await, add(&registry, "a", &schema).await) },
            )
        })
        .collect();
    let mut given = BTreeSet::new();
    for call in calls {
        let (first, again) = call.await.unwrap();
        assert_eq!(first, again, "the second time it is what it is");
        given.insert(first);
    }
    assert_eq!(given.into_iter().collect::<Vec<_>>(), (1..=CALLS).map(|n| (n, n)).collect::<Vec<_>>());
    let versions = replicas[0].versions("a", Deleted::With, ALL).await.unwrap();
    assert_eq!(versions, (1..=CALLS).collect::<Vec<_>>());
}

/// Counts the calls that ask for contents and subjects.
#[derive(Debug, Default)]
struct Counting {
    store: MemorySchemas,
    schemas: AtomicUsize,
    subjects: AtomicUsize,
}

#[async_trait]
impl SchemaStore for Counting {
    async fn revision(&self) -> PortResult<Revision> {
        self.store.revision().await
    }
    async fn schemas(&self, keys: Vec<SchemaKey>) -> PortResult<Vec<Option<StoredSchema>>> {
        self.schemas.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        self.store.schemas(keys).await
    }
    async fn find(&self, fingerprint: Fingerprint) -> PortResult<Vec<SchemaKey>> {
        self.store.find(fingerprint).await
    }
    async fn subjects(&self, names: Vec<String>) -> PortResult<Vec<Option<StoredSubject>>> {
        self.subjects.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        self.store.subjects(names).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> PortResult<Vec<StoredSubject>> {
        self.store.list(prefix, after, limit).await
    }
    async fn uses(&self, key: &SchemaKey) -> PortResult<Vec<VersionKey>> {
        self.store.uses(key).await
    }
    async fn referrers(&self, subject: &str) -> PortResult<Vec<(u32, SchemaKey)>> {
        self.store.referrers(subject).await
    }
    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> PortResult<Vec<Option<Bytes>>> {
        self.store.settings(setting, scopes).await
    }
    async fn change(&self, expected: Revision, change: SchemaChange) -> PortResult<SchemaChanged> {
        self.store.change(expected, change).await
    }
}

#[tokio::test]
async fn a_schema_that_many_ask_for_is_loaded_once_and_then_never_again() {
    let store = Arc::new(Counting::default());
    add(&over(store.clone()), "a", &message(&["x"])).await;
    let registry = over(store.clone());
    store.schemas.store(0, SeqCst);
    let asking = (0..20).map(|_| registry.parsed_by_id(SchemaId(1), None));
    for parsed in futures::future::join_all(asking).await {
        assert_eq!(parsed.unwrap().record_name(), Some("shop.Order"));
    }
    assert_eq!(store.schemas.load(SeqCst), 1);
    registry.by_id(SchemaId(1), None).await.unwrap();
    registry.parsed_by_id(SchemaId(1), None).await.unwrap();
    assert_eq!(store.schemas.load(SeqCst), 1);
    let cache = registry.cache_statistics().await;
    assert!(cache.hit_rate() > 0.0 && cache.entries == 1, "{cache:?}");
    // What is not there is asked for each time: it may come.
    for _ in 0..2 {
        assert_eq!(reason(registry.parsed_by_id(SchemaId(2), None).await), Reason::SchemaNotFound);
    }
    assert_eq!(store.schemas.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_subject_is_known_for_a_moment_and_changes_made_here_are_seen_at_once() {
    let store = Arc::new(Counting::default());
    let clock = Arc::new(TestClock::new());
    let registry = Registry::new(store.clone(), clock.clone(), RegistryConfig::default());
    let elsewhere = over(store.clone());
    assert_eq!(reason(registry.current("a").await), Reason::SubjectNotFound);
    add(&elsewhere, "a", &message(&["x"])).await;
    let known = async || registry.current("a").await.unwrap().versions.len();
    assert_eq!(known().await, 1);
    add(&elsewhere, "a", &message(&["x", "y"])).await;
    store.subjects.store(0, SeqCst);
    assert_eq!(known().await, 1, "as it was a moment ago");
    assert_eq!(store.subjects.load(SeqCst), 0);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(known().await, 2);
    add(&registry, "a", &message(&["x", "y", "z"])).await;
    assert_eq!(known().await, 3);
}

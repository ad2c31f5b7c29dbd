//! Registering, settings, and what is refused.

use super::{Backend, Room, content, known, new, new_with, version};
use crate::conformance::backend::expect_kind;
use bytes::Bytes;
use ports::{
    ErrorKind, RegisteredSchema, SchemaChange, SchemaId, SchemaSetting, StoredSchema, StoredSubject,
    SubjectVersion,
};

pub(super) async fn a_schema_is_registered_and_read_back(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    assert_eq!(room.of(&subject).await, None);
    assert_eq!(room.get(1).await, None);
    let (fingerprint, value) = content();
    let schema =
        RegisteredSchema::New { id: None, fingerprint, value: value.clone(), references: Vec::new() };
    let before = room.revision().await;
    let changed = room.change(room.register(&subject, 1, schema)).await;
    assert!(changed.revision > before);
    assert_eq!(changed.id, Some(SchemaId(1)));
    let found = room.backend.schemas().schemas(vec![room.key(1)]).await.expect("it can be asked");
    assert_eq!(found, [Some(StoredSchema { key: room.key(1), fingerprint, value })]);
    let versions = vec![SubjectVersion { version: 1, id: SchemaId(1), deleted: false, tag: 7 }];
    let expected = StoredSubject { name: subject.clone(), context: room.context.clone(), versions };
    assert_eq!(room.of(&subject).await, Some(expected));
    let uses = room.backend.schemas().uses(&room.key(1)).await.expect("it can be asked");
    assert_eq!(uses, [version(&subject, 1)]);
}

pub(super) async fn ids_count_from_one_within_a_context(backend: Backend) {
    let mut room = Room::new(backend);
    for expected in 1..=3 {
        assert_eq!(room.add(&room.subject("a"), expected, new()).await, expected);
    }
    assert_eq!(room.add(&room.subject("b"), 1, new()).await, 4);
    let first = std::mem::take(&mut room.context);
    let room = Room::new(room.backend);
    assert_ne!(first, room.context);
    assert_eq!(room.add(&room.subject("a"), 1, new()).await, 1);
}

pub(super) async fn a_schema_may_be_versions_of_several_subjects(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    assert_eq!(room.add(&a, 1, new()).await, 1);
    assert_eq!(room.add(&b, 1, known(1)).await, 1);
    assert_eq!(room.add(&b, 2, new()).await, 2);
    assert_eq!(room.add(&b, 3, known(1)).await, 1);
    assert_eq!(room.versions(&b).await, [(1, 1, false), (2, 2, false), (3, 1, false)]);
    let uses = room.backend.schemas().uses(&room.key(1)).await.expect("it can be asked");
    assert_eq!(uses, [version(&a, 1), version(&b, 1), version(&b, 3)]);
}

pub(super) async fn a_change_wants_the_revision_that_is_there(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    let stale = room.revision().await;
    room.add(&subject, 1, new()).await;
    let set = |value: Option<Bytes>| SchemaChange::Set {
        setting: SchemaSetting::Mode,
        scope: subject.clone(),
        value,
    };
    for change in [
        room.register(&subject, 2, new()),
        SchemaChange::Delete { subject: subject.clone(), versions: vec![1] },
        SchemaChange::Purge { subject: subject.clone(), versions: vec![1] },
        set(Some(Bytes::from_static(b"x"))),
        set(None),
    ] {
        expect_kind(room.backend.schemas().change(stale, change).await, ErrorKind::Conflict);
    }
    assert_eq!(room.versions(&subject).await, [(1, 1, false)]);
    let scopes = vec![subject.clone()];
    assert_eq!(room.backend.schemas().settings(SchemaSetting::Mode, scopes).await.expect("asked"), [None]);
    // What lost used up no id.
    assert_eq!(room.add(&subject, 2, new()).await, 2);
}

pub(super) async fn every_change_moves_the_revision(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    let set = SchemaChange::Set { setting: SchemaSetting::Config, scope: subject.clone(), value: None };
    let mut last = room.revision().await;
    for change in [
        room.register(&subject, 1, new()),
        SchemaChange::Delete { subject: subject.clone(), versions: vec![1] },
        SchemaChange::Purge { subject: subject.clone(), versions: vec![1] },
        set,
    ] {
        let changed = room.change(change).await;
        assert!(changed.revision > last, "{changed:?} after {last:?}");
        assert!(room.revision().await >= changed.revision);
        last = changed.revision;
    }
}

pub(super) async fn what_is_there_already_is_refused_without_effect(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    room.add(&subject, 1, new()).await;
    for change in [
        room.register(&subject, 1, new()),
        room.register(&subject, 1, known(1)),
        room.register(&subject, 2, new_with(Some(1), &[])),
        room.register(&subject, 2, known(9)),
    ] {
        expect_kind(room.try_change(change).await, ErrorKind::Invalid);
    }
    assert_eq!(room.versions(&subject).await, [(1, 1, false)]);
    assert_eq!(room.add(&subject, 2, new()).await, 2, "what was refused used up no id");
}

pub(super) async fn an_id_that_is_given_moves_those_to_come(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    assert_eq!(room.add(&subject, 4, new_with(Some(10), &[])).await, 10);
    assert_eq!(room.add(&subject, 2, new_with(Some(5), &[])).await, 5);
    assert_eq!(room.add(&subject, 5, new()).await, 11);
    assert_eq!(room.versions(&subject).await, [(2, 5, false), (4, 10, false), (5, 11, false)]);
}

pub(super) async fn settings_are_set_changed_and_removed(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    let set = async |setting, scope: &str, value: Option<&'static str>| {
        let value = value.map(Bytes::from);
        let changed = room.change(SchemaChange::Set { setting, scope: scope.to_owned(), value }).await;
        assert_eq!(changed.id, None);
    };
    let get = async |setting| {
        let scopes = vec![a.clone(), room.subject("c"), b.clone()];
        room.backend.schemas().settings(setting, scopes).await.expect("they can be asked")
    };
    set(SchemaSetting::Config, &a, Some("one")).await;
    set(SchemaSetting::Config, &b, Some("two")).await;
    set(SchemaSetting::Mode, &b, Some("three")).await;
    let some = |text: &'static str| Some(Bytes::from(text));
    assert_eq!(get(SchemaSetting::Config).await, [some("one"), None, some("two")]);
    assert_eq!(get(SchemaSetting::Mode).await, [None, None, some("three")]);
    set(SchemaSetting::Config, &a, Some("four")).await;
    set(SchemaSetting::Config, &b, None).await;
    assert_eq!(get(SchemaSetting::Config).await, [some("four"), None, None]);
    assert_eq!(get(SchemaSetting::Mode).await, [None, None, some("three")]);
    // The scope of everything has no name.
    let change = SchemaChange::Set { setting: SchemaSetting::Mode, scope: String::new(), value: some("all") };
    room.change(change).await;
    let all = room.backend.schemas().settings(SchemaSetting::Mode, vec![String::new()]).await;
    assert_eq!(all.expect("it can be asked"), [some("all")]);
}

pub(super) async fn what_cannot_be_kept_is_refused_without_effect(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    let (fingerprint, _) = content();
    let large = Bytes::from(vec![0; (16 << 20) + 1]);
    let large = RegisteredSchema::New { id: None, fingerprint, value: large, references: Vec::new() };
    expect_kind(room.try_change(room.register(&subject, 1, large)).await, ErrorKind::TooLarge);
    let long = format!("{subject}{}", "x".repeat(1024));
    let wrong = format!("{subject}\0");
    for change in [
        room.register(&long, 1, new()),
        room.register(&wrong, 1, new()),
        room.register(&subject, 1, new_with(None, &[(&wrong, 1)])),
        SchemaChange::Delete { subject: wrong.clone(), versions: vec![1] },
        SchemaChange::Set { setting: SchemaSetting::Mode, scope: wrong.clone(), value: None },
    ] {
        expect_kind(room.try_change(change).await, ErrorKind::Invalid);
    }
    assert_eq!(room.of(&subject).await, None);
    assert_eq!(room.add(&subject, 1, new()).await, 1);
}

pub(super) async fn what_was_written_survives_a_restart(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    let (fingerprint, value) = content();
    let schema =
        RegisteredSchema::New { id: None, fingerprint, value: value.clone(), references: Vec::new() };
    room.add(&a, 1, schema).await;
    room.add(&b, 1, new_with(None, &[(&a, 1)])).await;
    room.add(&b, 2, new()).await;
    room.change(SchemaChange::Delete { subject: b.clone(), versions: vec![1] }).await;
    room.change(SchemaChange::Purge { subject: b.clone(), versions: vec![2] }).await;
    let mode = Some(Bytes::from_static(b"mode"));
    let set = SchemaChange::Set { setting: SchemaSetting::Mode, scope: a.clone(), value: mode.clone() };
    let last = room.change(set).await.revision;
    let room = Room { backend: room.backend.reopened().await, context: room.context };
    assert!(room.revision().await >= last);
    assert_eq!(room.get(1).await, Some(value));
    assert_eq!(room.versions(&a).await, [(1, 1, false)]);
    assert_eq!(room.versions(&b).await, [(1, 2, true)]);
    let schemas = room.backend.schemas();
    assert_eq!(schemas.find(fingerprint).await.expect("asked"), [room.key(1)]);
    assert_eq!(schemas.referrers(&a).await.expect("asked"), [(1, room.key(2))]);
    assert_eq!(schemas.settings(SchemaSetting::Mode, vec![a]).await.expect("asked"), [mode]);
    assert_eq!(room.add(&b, 3, new()).await, 4, "an id is not given again");
}

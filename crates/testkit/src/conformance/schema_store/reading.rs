//! Finding and listing.

use super::{Backend, Room, content, known, new, new_with};
use crate::fixtures;
use bytes::Bytes;
use ports::{Fingerprint, RegisteredSchema, SchemaChange, SchemaId, VersionKey};

/// The greatest version that there is.
const LAST: u32 = i32::MAX.unsigned_abs();

pub(super) async fn many_are_read_each_in_its_place(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    for number in 1..=2 {
        room.add(&a, number, new()).await;
    }
    room.add(&b, 1, known(2)).await;
    let schemas = room.backend.schemas();
    let keys = [2, 9, 1, 2].map(|id| room.key(id)).to_vec();
    let found = schemas.schemas(keys).await.expect("they can be asked");
    let ids: Vec<_> = found.into_iter().map(|found| found.map(|found| found.key.id)).collect();
    assert_eq!(ids, [Some(SchemaId(2)), None, Some(SchemaId(1)), Some(SchemaId(2))]);
    let names = vec![b.clone(), room.subject("none"), a.clone(), b.clone()];
    let found = schemas.subjects(names).await.expect("they can be asked");
    let names: Vec<_> = found.into_iter().map(|found| found.map(|found| found.name)).collect();
    assert_eq!(names, [Some(b.clone()), None, Some(a), Some(b)]);
    assert_eq!(schemas.schemas(Vec::new()).await.expect("asked"), []);
    assert_eq!(schemas.subjects(Vec::new()).await.expect("asked"), []);
}

pub(super) async fn contents_are_found_by_their_fingerprint(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    let (fingerprint, value) = content();
    let schema = |id: Option<u32>| RegisteredSchema::New {
        id: id.map(SchemaId),
        fingerprint,
        value: value.clone(),
        references: Vec::new(),
    };
    assert_eq!(room.backend.schemas().find(fingerprint).await.expect("asked"), []);
    room.add(&subject, 1, new()).await;
    room.add(&subject, 2, schema(None)).await;
    // Two ids of one content come of ids that are given.
    room.add(&subject, 3, schema(Some(7))).await;
    let found = room.backend.schemas().find(fingerprint).await.expect("it can be asked");
    assert_eq!(found, [room.key(2), room.key(7)]);
    let near = Fingerprint((u128::from_be_bytes(fingerprint.0) ^ 1).to_be_bytes());
    assert_eq!(room.backend.schemas().find(near).await.expect("asked"), []);
}

pub(super) async fn references_are_found_from_what_they_refer_to(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    for number in 1..=2 {
        room.add(&a, number, new()).await;
    }
    room.add(&b, 1, new_with(None, &[(&a, 2), (&a, 1)])).await;
    room.add(&b, 2, new_with(None, &[(&b, 1), (&a, 2)])).await;
    let schemas = room.backend.schemas();
    let of_a = [(1, room.key(3)), (2, room.key(3)), (2, room.key(4))];
    assert_eq!(schemas.referrers(&a).await.expect("asked"), of_a);
    assert_eq!(schemas.referrers(&b).await.expect("asked"), [(1, room.key(4))]);
    assert_eq!(schemas.referrers(&room.subject("")).await.expect("asked"), []);
    // Deleted softly, they refer to what they referred to.
    room.change(SchemaChange::Delete { subject: b, versions: vec![1, 2] }).await;
    assert_eq!(schemas.referrers(&a).await.expect("asked"), of_a);
}

pub(super) async fn subjects_are_listed_by_prefix_and_page(backend: Backend) {
    let room = Room::new(backend);
    let ends = ["a", "ä", "aa", "b", "ba", "\u{1F600}", "c"];
    for end in ends {
        room.add(&room.subject(end), 1, new()).await;
    }
    room.change(SchemaChange::Delete { subject: room.subject("b"), versions: vec![1] }).await;
    room.change(SchemaChange::Purge { subject: room.subject("c"), versions: vec![1] }).await;
    let list = async |prefix: &str, after: Option<&str>, limit: usize| {
        let (prefix, after) = (room.subject(prefix), after.map(|end| room.subject(end)));
        let found = room.backend.schemas().list(&prefix, after, limit).await;
        let found = found.expect("they can be listed");
        let cut = room.subject("").len();
        found.iter().map(|subject| subject.name[cut..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 100).await, ["a", "aa", "b", "ba", "ä", "\u{1F600}"]);
    assert_eq!(list("", None, 2).await, ["a", "aa"]);
    assert_eq!(list("", Some("aa"), 2).await, ["b", "ba"]);
    assert_eq!(list("", Some("ba"), 100).await, ["ä", "\u{1F600}"]);
    assert_eq!(list("b", None, 100).await, ["b", "ba"]);
    assert_eq!(list("b", Some("a"), 100).await, ["b", "ba"]);
    assert_eq!(list("b", Some("b"), 100).await, ["ba"]);
    assert_eq!(list("b", Some("c"), 100).await, Vec::<String>::new());
    assert_eq!(list("x", None, 100).await, Vec::<String>::new());
    let whole = room.backend.schemas().list(&room.subject("b"), None, 1).await.expect("listed");
    assert_eq!(room.of(&room.subject("b")).await.as_ref(), whole.first());
}

pub(super) async fn names_and_contents_are_kept_as_they_are(backend: Backend) {
    let room = Room::new(backend);
    let mut rng = fixtures::rng(7);
    let names = ["/ä\u{1F600}", "%2F", "'; --", ":.x:{y}", " ", "*[?\\"].map(|end| room.subject(end));
    let contents = [
        Bytes::new(),
        fixtures::payload(&mut rng, 100_000),
        Bytes::from_static(&[0, 255, 0]),
        Bytes::from_static(b"{}"),
        fixtures::payload(&mut rng, 17),
        fixtures::payload(&mut rng, 1 << 20),
    ];
    for (index, (name, value)) in names.iter().zip(&contents).enumerate() {
        let (fingerprint, _) = content();
        let references = vec![VersionKey { subject: name.clone(), version: LAST }];
        let schema = RegisteredSchema::New { id: None, fingerprint, value: value.clone(), references };
        let id = room.add(name, LAST - 1, schema).await;
        assert_eq!(id as usize, index + 1);
        assert_eq!(room.get(id).await.as_ref(), Some(value));
        assert_eq!(room.versions(name).await, [(LAST - 1, id, false)]);
        assert_eq!(room.backend.schemas().referrers(name).await.expect("asked"), [(LAST, room.key(id))]);
    }
}

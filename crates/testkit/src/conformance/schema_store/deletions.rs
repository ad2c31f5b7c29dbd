//! Deleting softly and for good.

use super::{Backend, Room, content, known, new, new_with, version};
use ports::{RegisteredSchema, SchemaChange};

fn delete(subject: &str, versions: &[u32]) -> SchemaChange {
    SchemaChange::Delete { subject: subject.to_owned(), versions: versions.to_vec() }
}

fn purge(subject: &str, versions: &[u32]) -> SchemaChange {
    SchemaChange::Purge { subject: subject.to_owned(), versions: versions.to_vec() }
}

pub(super) async fn what_is_deleted_softly_stays_to_be_read(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    for number in 1..=3 {
        room.add(&subject, number, new()).await;
    }
    room.change(delete(&subject, &[1, 3])).await;
    assert_eq!(room.versions(&subject).await, [(1, 1, true), (2, 2, false), (3, 3, true)]);
    assert!(room.get(1).await.is_some());
    let uses = room.backend.schemas().uses(&room.key(3)).await.expect("it can be asked");
    assert_eq!(uses, [version(&subject, 3)]);
    // Twice is as once.
    room.change(delete(&subject, &[1])).await;
    assert_eq!(room.versions(&subject).await, [(1, 1, true), (2, 2, false), (3, 3, true)]);
}

pub(super) async fn what_is_purged_is_gone_with_the_schemas_that_nothing_is_left_of(backend: Backend) {
    let room = Room::new(backend);
    let (a, b) = (room.subject("a"), room.subject("b"));
    let (fingerprint, value) = content();
    let schema = RegisteredSchema::New { id: None, fingerprint, value, references: Vec::new() };
    room.add(&a, 1, schema).await;
    room.add(&a, 2, new_with(None, &[(&a, 1)])).await;
    room.add(&b, 1, known(1)).await;
    let schemas = room.backend.schemas();
    room.change(purge(&a, &[1])).await;
    assert_eq!(room.versions(&a).await, [(2, 2, false)]);
    assert!(room.get(1).await.is_some(), "another subject has it");
    assert_eq!(schemas.uses(&room.key(1)).await.expect("asked"), [version(&b, 1)]);
    assert_eq!(schemas.referrers(&a).await.expect("asked"), [(1, room.key(2))]);
    room.change(purge(&a, &[2])).await;
    assert_eq!(room.of(&a).await, None);
    assert_eq!(room.get(2).await, None);
    assert_eq!(schemas.referrers(&a).await.expect("asked"), []);
    assert_eq!(schemas.find(fingerprint).await.expect("asked"), [room.key(1)]);
    room.change(purge(&b, &[1])).await;
    assert_eq!(room.get(1).await, None);
    assert_eq!(schemas.find(fingerprint).await.expect("asked"), []);
    assert_eq!(schemas.uses(&room.key(1)).await.expect("asked"), []);
    assert_eq!(schemas.list(&room.context, None, 10).await.expect("asked"), []);
}

pub(super) async fn an_id_is_not_given_again_after_a_purge(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    room.add(&subject, 1, new()).await;
    room.add(&subject, 2, new()).await;
    room.change(purge(&subject, &[1, 2])).await;
    assert_eq!(room.add(&subject, 1, new()).await, 3);
    assert_eq!(room.versions(&subject).await, [(1, 3, false)]);
}

pub(super) async fn what_is_not_there_is_passed_over(backend: Backend) {
    let room = Room::new(backend);
    let subject = room.subject("a");
    for change in [delete(&subject, &[1]), purge(&subject, &[1])] {
        room.change(change).await;
    }
    room.add(&subject, 1, new()).await;
    room.add(&subject, 2, new()).await;
    room.change(delete(&subject, &[2, 5])).await;
    room.change(purge(&subject, &[2, 5])).await;
    assert_eq!(room.versions(&subject).await, [(1, 1, false)]);
}

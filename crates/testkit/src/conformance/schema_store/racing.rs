//! Several replicas at once.

use super::{Backend, Room, new};
use bytes::Bytes;
use ports::{ErrorKind, SchemaChange, SchemaSetting};

pub(super) async fn of_concurrent_changes_at_one_revision_exactly_one_wins(backend: Backend) {
    let room = Room::new(backend);
    let scope = room.subject("a");
    let mut rounds = 0;
    while rounds < 5 {
        let revision = room.revision().await;
        let calls: Vec<_> = (0..16_u8)
            .map(|nth| {
                let (schemas, scope) = (room.backend.schemas().clone(), scope.clone());
                let value = Some(Bytes::copy_from_slice(&[nth]));
                let set = SchemaChange::Set { setting: SchemaSetting::Mode, scope, value };
                tokio::spawn(async move { (nth, schemas.change(revision, set).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for call in calls {
            match call.await.expect("the call ends") {
                (nth, Ok(_)) => winners.push(nth),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert!(winners.len() < 2, "one revision is left once: {winners:?}");
        // Another test may have been faster than all of them.
        let Some(winner) = winners.first() else { continue };
        let found = room.backend.schemas().settings(SchemaSetting::Mode, vec![scope.clone()]).await;
        assert_eq!(found.expect("asked"), [Some(Bytes::copy_from_slice(&[*winner]))]);
        rounds += 1;
    }
}

pub(super) async fn concurrent_registrations_leave_no_gap_and_lose_nothing(backend: Backend) {
    const CALLS: u32 = 40;
    let room = Room::new(backend);
    let subject = room.subject("a");
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let (schemas, subject, context) =
                (room.backend.schemas().clone(), subject.clone(), room.context.clone());
            let schema = new();
            tokio::spawn(async move {
                loop {
                    let revision = schemas.revision().await.expect("asked");
                    let found = schemas.subjects(vec![subject.clone()]).await.expect("asked");
                    let version = found[0].as_ref().map_or(0, |it| it.versions.len() as u32) + 1;
                    let (context, subject, schema) = (context.clone(), subject.clone(), schema.clone());
                    let change = SchemaChange::Register { context, subject, version, tag: 0, schema };
                    match schemas.change(revision, change).await {
                        Ok(changed) => return (version, changed.id.expect("an id").0),
                        // What was read was of before another's change, and never of half of one.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut given = Vec::new();
    for call in calls {
        given.push(call.await.expect("the call ends"));
    }
    given.sort_unstable();
    let all: Vec<_> = (1..=CALLS).map(|number| (number, number)).collect();
    assert_eq!(given, all);
    let found: Vec<_> = room.versions(&subject).await.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(found, all);
}

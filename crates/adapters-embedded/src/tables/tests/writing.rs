//! The one writer: what waits becomes one transaction, and a failing disk is told and overcome.

use super::{super::Tables, Disk};
use crate::{
    group::{GroupConfig, Groups},
    memory::MemoryLog,
};
use bytes::Bytes;
use ports::{
    Effect, ErrorKind, Expected, GroupId, GroupMembership, JobKind, JobStore, MembershipEvent, OffsetCommit,
    OffsetStore, TopicAdmin, TopicName, TopicPartition, TopicSpec,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};
use testkit::{SystemLikeClock, conformance::within};

const KIND: JobKind = JobKind::Subscription;

/// Holds the writer up until what it gives is dropped.
pub(crate) async fn hold_up(tables: &Tables) -> mpsc::Sender<()> {
    let (let_go, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let tables = tables.clone();
    tokio::spawn(async move {
        let held = tables.write("test.hold", move |_| {
            begun.send(()).unwrap();
            // Ends when the other end is dropped.
            let _ = wait.recv();
            Ok(Ok(()))
        });
        held.await.unwrap();
    });
    within("the writer begins", has_begun).await.unwrap();
    let_go
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_becomes_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let tables = disk.open(dir.path());
    let put = |name: String| {
        let tables = tables.clone();
        async move { tables.put(KIND, &name, Expected::Absent, Bytes::from_static(b"x")).await.unwrap() }
    };
    let before = disk.syncs.load(Ordering::SeqCst);
    put("one".to_owned()).await;
    let of_one = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(of_one > 0, "a change is on disk when it is answered");

    let let_go = hold_up(&tables).await;
    let mut puts = futures::future::join_all((0..25).map(|nth| put(nth.to_string())));
    assert!(futures::poll!(&mut puts).is_pending(), "all of them wait");
    let before = disk.syncs.load(Ordering::SeqCst);
    drop(let_go);
    let versions = within("the changes", puts).await;
    assert_eq!(versions.len(), 25);
    // The transaction that was held up, and that of all the others.
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - before, 2 * of_one);
    assert_eq!(tables.list(KIND).await.unwrap().len(), 26);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_in_one_transaction_each_sees_those_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::open(dir.path()).unwrap();
    let let_go = hold_up(&tables).await;
    let put = |value: &'static [u8]| tables.put(KIND, "same", Expected::Absent, Bytes::from_static(value));
    let (first, second, other) =
        (put(b"first"), put(b"second"), tables.put(KIND, "other", Expected::Absent, Bytes::new()));
    let mut all = std::pin::pin!(async { tokio::join!(first, second, other) });
    assert!(futures::poll!(&mut all).is_pending(), "all of them wait");
    drop(let_go);
    let (first, second, other) = within("the changes", all).await;
    let version = first.unwrap();
    let error = second.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    other.unwrap();
    let stored = tables.get(KIND, "same").await.unwrap().unwrap();
    assert_eq!((stored.version, &*stored.value), (version, b"first".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_changes_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let tables = disk.open(dir.path());
    let first = tables.put(KIND, "a", Expected::Absent, Bytes::from_static(b"before")).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let value = Bytes::from(vec![1; 1_000_000]);
        let error = tables.put(KIND, "a", Expected::Version(first), value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    disk.full.store(false, Ordering::SeqCst);
    let second = tables.put(KIND, "a", Expected::Version(first), Bytes::from_static(b"after")).await.unwrap();
    assert!(second > first);
    drop(tables);
    let stored = Tables::open(dir.path()).unwrap().get(KIND, "a").await.unwrap().unwrap();
    assert_eq!((stored.version, &*stored.value), (second, b"after".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_caller_went_away_is_over_before_its_partition_moves() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::open(dir.path()).unwrap();
    let clock = Arc::new(SystemLikeClock::new());
    let topics = Arc::new(MemoryLog::new(clock.clone()));
    let (topic, group) = (TopicName::new("t").unwrap(), GroupId::new("g").unwrap());
    let spec =
        TopicSpec { name: topic.clone(), partitions: 1, replication_factor: None, config: BTreeMap::new() };
    topics.create(spec).await.unwrap();
    let groups = Groups::new(topics, clock, GroupConfig::default());
    let offsets = tables.offsets(groups.clone());
    let partition = TopicPartition::new(topic.clone(), 0);

    let mut first = groups.join(&group, std::slice::from_ref(&topic)).await.unwrap();
    let MembershipEvent::Assigned { generation, .. } = first.next().await.unwrap() else {
        panic!("not assigned")
    };
    let mut second = groups.join(&group, std::slice::from_ref(&topic)).await.unwrap();
    let let_go = hold_up(&tables).await;
    {
        let commit =
            OffsetCommit { partition: partition.clone(), generation, next: 7, metadata: "last".into() };
        let mut committing = std::pin::pin!(offsets.commit(&group, vec![commit]));
        assert!(futures::poll!(&mut committing).is_pending(), "the writer is held up");
    }
    first.leave().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.next()).await;
    assert!(early.is_err(), "assigned before the commit was over: {early:?}");
    drop(let_go);
    let event = within("the assignment", second.next()).await.unwrap();
    assert!(matches!(event, MembershipEvent::Assigned { .. }), "{event:?}");
    let committed = offsets.committed(&group, &[partition]).await.unwrap().remove(0).unwrap();
    assert_eq!((committed.next, &*committed.metadata), (7, "last"), "the new owner reads what was written");
}

//! Who does not own a partition commits nothing for it; who is about to lose it still can.

use super::member::{Group, OnRevoke, commit, partitions, position};
use crate::conformance::{Backend, backend::expect_kind};
use parking_lot::Mutex;
use ports::{ErrorKind, Generation, Result, Retry, TopicPartition};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

fn expect_fenced(outcome: Result<()>) {
    let error = expect_kind(outcome, ErrorKind::Fenced);
    assert_eq!(error.retry(), Retry::Permanent, "another is the owner for good");
}

pub(super) async fn a_revocation_is_told_before_it_takes_effect(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    // Takes its time with the window; the group's ledger tells when another is assigned too early.
    let told = Arc::new(Mutex::new(0));
    let slow: OnRevoke = {
        let told = told.clone();
        Arc::new(move |revoked| {
            let told = told.clone();
            Box::pin(async move {
                *told.lock() += revoked.len();
                tokio::time::sleep(Duration::from_millis(300)).await;
            })
        })
    };
    let mut first = group.join_with(&[&topic], slow).await;
    first.until_owns(&all).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    assert!(*told.lock() >= second.owned().len(), "what the second has was revoked from the first");
}

pub(super) async fn the_new_owner_reads_what_was_committed_in_the_window(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let done: Arc<Mutex<BTreeMap<TopicPartition, Option<String>>>> = Arc::default();
    let commits: OnRevoke = {
        let (offsets, id, done) = (backend.offsets().clone(), group.id.clone(), done.clone());
        Arc::new(move |revoked| {
            let (offsets, id, done) = (offsets.clone(), id.clone(), done.clone());
            Box::pin(async move {
                let last = |(partition, generation): (&TopicPartition, &Generation)| {
                    position(partition, *generation, 100 + u64::from(partition.partition), "last words")
                };
                let last: Vec<_> = revoked.iter().map(last).collect();
                let outcomes = commit(&offsets, &id, &last).await;
                for (partition, outcome) in revoked.into_keys().zip(outcomes) {
                    done.lock().insert(partition, outcome.err().map(|error| error.to_string()));
                }
            })
        })
    };
    let mut first = group.join_with(&[&topic], commits).await;
    let owned = first.until_owns(&all).await;
    let early: Vec<_> = owned.iter().map(|(it, generation)| position(it, *generation, 1, "early")).collect();
    group.commit(&early).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    let taken: Vec<_> = second.owned().into_keys().collect();
    let committed = group.committed(&taken).await;
    for (partition, committed) in taken.iter().zip(committed) {
        assert_eq!(done.lock().get(partition), Some(&None), "the commit in the window succeeds");
        let committed = committed.expect("it was committed");
        assert_eq!(committed.next, 100 + u64::from(partition.partition));
        assert_eq!(committed.metadata, "last words");
    }
}

pub(super) async fn a_partition_that_moved_is_fenced_for_its_old_owner_alone(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let before = first.until_owns(&all).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    for (moved, generation) in second.owned() {
        group.commit(&[position(&moved, generation, 7, "")]).await;
        expect_fenced(group.try_commit(&[position(&moved, before[&moved], 3, "")]).await.remove(0));
        assert_eq!(group.position(&moved).await, Some(7), "the refused commit changed nothing");
    }
    for (kept, generation) in first.owned() {
        group.commit(&[position(&kept, generation, 5, "")]).await;
    }
}

pub(super) async fn a_commit_of_an_old_generation_is_fenced_and_changes_nothing(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let all = partitions(&topic, 1);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let old = first.until_owns(&all).await[&partition];
    group.commit(&[position(&partition, old, 5, "first")]).await;
    first.leave().await;
    expect_fenced(group.try_commit(&[position(&partition, old, 6, "gone")]).await.remove(0));
    let mut second = group.join(&[&topic]).await;
    let new = second.until_owns(&all).await[&partition];
    assert_ne!(old, new);
    expect_fenced(group.try_commit(&[position(&partition, old, 6, "late")]).await.remove(0));
    let committed =
        group.committed(std::slice::from_ref(&partition)).await.remove(0).expect("it was committed");
    assert_eq!((committed.next, &*committed.metadata), (5, "first"), "the refused commits changed nothing");
    group.commit(&[position(&partition, new, 8, "second")]).await;
    expect_fenced(group.try_commit(&[position(&partition, old, 6, "later")]).await.remove(0));
    assert_eq!(group.position(&partition).await, Some(8));
}

pub(super) async fn a_commit_for_another_members_partition_is_fenced(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let all = partitions(&topic, 2);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    let (mine, my_generation) = first.owned().pop_first().expect("it owns one");
    let (theirs, their_generation) = second.owned().pop_first().expect("it owns one");
    group.commit(&[position(&theirs, their_generation, 7, "")]).await;
    // Each of one request is judged by itself.
    let never = Generation(u64::MAX);
    let outcomes = group
        .try_commit(&[
            position(&theirs, my_generation, 1, ""),
            position(&mine, my_generation, 3, ""),
            position(&theirs, never, 1, ""),
        ])
        .await;
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().expect("one outcome a commit");
    expect_fenced(next());
    next().expect("it is the owner");
    expect_fenced(next());
    assert_eq!(group.position(&theirs).await, Some(7), "the refused commits changed nothing");
    assert_eq!(group.position(&mine).await, Some(3));
}

pub(super) async fn a_commit_without_membership_is_fenced(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let group = Group::new(&backend);
    for generation in [0, 1, u64::MAX] {
        expect_fenced(
            group.try_commit(&[position(&partition, Generation(generation), 1, "")]).await.remove(0),
        );
    }
    assert_eq!(group.position(&partition).await, None);
}

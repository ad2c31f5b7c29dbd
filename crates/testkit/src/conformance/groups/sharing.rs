//! Each partition has one owner, and finds a new one.

use super::member::{Group, Member, partitions};
use crate::{
    conformance::{Backend, backend::within},
    fixtures,
};
use ports::MembershipEvent;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub(super) async fn a_single_member_gets_all_partitions(backend: Backend) {
    let backend = Arc::new(backend);
    let (one, two) = (backend.topic(3).await, backend.topic(1).await);
    let group = Group::new(&backend);
    let mut member = group.join(&[&one, &two]).await;
    let all = &partitions(&one, 3) | &partitions(&two, 1);
    member.until_owns(&all).await;
    member.leave().await;
}

pub(super) async fn two_members_share_all_partitions(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(6).await;
    let all = partitions(&topic, 6);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    first.until_owns(&all).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 2).await;
    first.leave().await;
    second.leave().await;
}

pub(super) async fn many_members_share_all_partitions_and_some_have_none(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(3).await;
    let group = Group::new(&backend);
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..5 {
        members.push(group.join(&[&topic]).await);
    }
    let mut all: Vec<_> = members.iter_mut().collect();
    group.settle(&mut all, &partitions(&topic, 3), 0).await;
    while members.len() > 1 {
        members.pop().expect("there is one more").leave().await;
    }
    members[0].until_owns(&partitions(&topic, 3)).await;
}

pub(super) async fn what_a_member_leaves_goes_to_the_others(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    first.leave().await;
    second.until_owns(&all).await;
    second.leave().await;
    let mut third = group.join(&[&topic]).await;
    third.until_owns(&all).await;
}

pub(super) async fn dropping_a_membership_leaves_the_group(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    first.vanish().await;
    second.until_owns(&all).await;
}

pub(super) async fn dropping_a_join_leaves_the_group(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let group = Group::new(&backend);
    let names = [topic.clone()];
    for patience_us in [0, 50, 500, 5000] {
        let joining = backend.membership().join(&group.id, &names);
        // Whether the join was quicker or not, nothing of it is kept.
        let joined = tokio::time::timeout(Duration::from_micros(patience_us), joining).await;
        drop(joined);
    }
    let mut member = group.join(&[&topic]).await;
    member.until_owns(&partitions(&topic, 2)).await;
}

pub(super) async fn a_partition_goes_only_to_members_that_read_its_topic(backend: Backend) {
    let backend = Arc::new(backend);
    let (shared, own) = (backend.topic(4).await, backend.topic(2).await);
    let group = Group::new(&backend);
    let mut first = group.join(&[&shared]).await;
    let mut second = group.join(&[&shared, &own]).await;
    let all = &partitions(&shared, 4) | &partitions(&own, 2);
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    assert!(first.owned().keys().all(|partition| partition.topic == shared), "{:?}", first.owned());
    second.leave().await;
    first.until_owns(&partitions(&shared, 4)).await;
}

pub(super) async fn groups_do_not_share(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(3).await;
    let all = partitions(&topic, 3);
    let (one, two) = (Group::new(&backend), Group::new(&backend));
    let mut first = one.join(&[&topic]).await;
    let mut second = two.join(&[&topic]).await;
    first.until_owns(&all).await;
    second.until_owns(&all).await;
    assert!(first.owned().keys().eq(&all), "the other group took nothing");
}

pub(super) async fn partitions_that_are_added_are_assigned(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    first.until_owns(&partitions(&topic, 1)).await;
    backend.admin().add_partitions(&topic, 4).await.expect("partitions can be added");
    first.until_owns(&partitions(&topic, 4)).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &partitions(&topic, 4), 1).await;
}

pub(super) async fn a_topic_that_is_created_after_the_join_is_assigned(backend: Backend) {
    let backend = Arc::new(backend);
    let (there, later) = (backend.topic(1).await, fixtures::topic_name("later"));
    let group = Group::new(&backend);
    let mut member = group.join(&[&there, &later]).await;
    member.until_owns(&partitions(&there, 1)).await;
    backend.create(&later, 2, &[]).await;
    member.until_owns(&(&partitions(&there, 1) | &partitions(&later, 2))).await;
}

pub(super) async fn dropping_a_wait_for_the_next_event_loses_none(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let mut membership = backend
        .membership()
        .join(&group.id, std::slice::from_ref(&topic))
        .await
        .expect("the group can be joined");
    let mut owned = BTreeSet::new();
    let assigning = async {
        let mut round = 0;
        while owned != all {
            round += 1;
            let patience = Duration::from_micros(round % 7 * 300);
            match tokio::time::timeout(patience, membership.next()).await {
                Ok(Ok(MembershipEvent::Assigned { partitions, .. })) => owned.extend(partitions),
                Ok(Ok(
                    MembershipEvent::Revoked { partitions, .. } | MembershipEvent::Lost { partitions },
                )) => {
                    owned.retain(|partition| !partitions.contains(partition));
                }
                // Told and gone on from, or dropped.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    };
    within("being assigned all partitions", assigning).await;
    within("leaving", membership.leave()).await.expect("the group can be left");
}

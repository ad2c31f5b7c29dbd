//! Groups are seen, moved and deleted from outside.

use super::member::{Group, partitions, position};
use crate::{
    conformance::{
        Backend,
        backend::{eventually, expect_kind, within},
    },
    fixtures,
};
use ports::{
    Committed, ErrorKind, GroupInfo, GroupName, GroupOffsets, GroupState, GroupSummary, Offset, Result,
    TopicName, TopicPartition,
};
use std::{collections::BTreeSet, sync::Arc};

fn name(group: &Group) -> GroupName {
    GroupName::from(&group.id)
}

fn at(topic: &TopicName, partition: u32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

fn plain(next: Offset) -> Committed {
    Committed { next, metadata: String::new().into() }
}

async fn listed(backend: &Backend, group: &Group) -> Option<GroupSummary> {
    let list = within("a list", backend.groups().list()).await.expect("groups can be listed");
    assert!(list.is_sorted_by(|a, b| a.name < b.name), "by name, each once");
    list.into_iter().find(|found| found.name == name(group))
}

async fn described(backend: &Backend, group: &Group) -> Option<GroupInfo> {
    let name = name(group);
    within("a description", backend.groups().describe(&name)).await.expect("groups can be described")
}

async fn offsets(backend: &Backend, groups: &[GroupName]) -> Vec<GroupOffsets> {
    let all = within("reading positions", backend.groups().offsets(groups)).await;
    assert_eq!(all.len(), groups.len(), "one answer a group");
    all.into_iter().map(|offsets| offsets.expect("positions can be read")).collect()
}

async fn try_set(backend: &Backend, group: &Group, to: &[(TopicPartition, Offset)]) -> Vec<Result<()>> {
    let outcomes = within("setting", backend.groups().set_offsets(&name(group), to)).await;
    assert_eq!(outcomes.len(), to.len(), "one outcome a position");
    outcomes
}

async fn set(backend: &Backend, group: &Group, to: &[(TopicPartition, Offset)]) {
    for outcome in try_set(backend, group, to).await {
        outcome.expect("the position is set");
    }
}

/// A group without members that has these positions in the partitions of a new topic.
async fn idle(backend: &Arc<Backend>, next: &[Offset]) -> (Group, TopicName) {
    let topic = backend.topic(next.len() as u32).await;
    let group = Group::new(backend);
    let to: Vec<_> = (0..).zip(next).map(|(partition, next)| (at(&topic, partition), *next)).collect();
    set(backend, &group, &to).await;
    (group, topic)
}

pub(super) async fn a_group_with_members_is_listed_and_described(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let all = partitions(&topic, 4);
    let group = Group::new(&backend);
    let mut first = group.join(&[&topic]).await;
    let mut second = group.join(&[&topic]).await;
    group.settle(&mut [&mut first, &mut second], &all, 1).await;
    let info = eventually("the group being stable", || async {
        described(&backend, &group).await.filter(|info| {
            info.state == GroupState::Stable && info.members.iter().all(|m| !m.assignment.is_empty())
        })
    })
    .await;
    assert_eq!(info.name, name(&group));
    assert_eq!(info.members.len(), 2);
    assert!(info.members.is_sorted_by(|a, b| a.id < b.id), "by id: {info:?}");
    assert!(info.members.iter().all(|m| !m.client_id.is_empty() && !m.host.is_empty()), "{info:?}");
    let owned: Vec<BTreeSet<_>> = info.members.iter().map(|member| member.assignment.clone()).collect();
    assert!(owned[0].is_disjoint(&owned[1]) && &owned[0] | &owned[1] == all, "{owned:?}");
    let listed = listed(&backend, &group).await.expect("it is listed");
    assert_eq!((listed.state, listed.group_type), (info.state, info.group_type));
}

pub(super) async fn a_group_that_its_members_left_is_empty_and_keeps_its_positions(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let generation = member.until_owns(&partitions(&topic, 1)).await[&at(&topic, 0)];
    group.commit(&[position(&at(&topic, 0), generation, 5, "beyond")]).await;
    member.leave().await;
    let info = described(&backend, &group).await.expect("it is there");
    assert_eq!((info.state, info.members.len()), (GroupState::Empty, 0));
    assert_eq!(listed(&backend, &group).await.map(|found| found.state), Some(GroupState::Empty));
    let committed = Committed { next: 5, metadata: "beyond".into() };
    assert_eq!(offsets(&backend, &[name(&group)]).await, [GroupOffsets::from([(at(&topic, 0), committed)])]);
}

pub(super) async fn a_group_that_is_not_there_is_not_described_and_has_no_positions(backend: Backend) {
    let backend = Arc::new(backend);
    let group = Group::new(&backend);
    assert_eq!(described(&backend, &group).await, None);
    assert_eq!(listed(&backend, &group).await, None);
    assert_eq!(offsets(&backend, &[name(&group)]).await, [GroupOffsets::new()]);
}

pub(super) async fn positions_of_many_groups_are_read_in_the_order_of_the_question(backend: Backend) {
    const COUNT: usize = 40;
    let backend = Arc::new(backend);
    let topic = backend.topic(3).await;
    let nobody = Group::new(&backend);
    let mut names = vec![name(&nobody)];
    for number in 0..COUNT as u64 {
        let group = Group::new(&backend);
        set(&backend, &group, &[(at(&topic, 0), number), (at(&topic, 2), 100 + number)]).await;
        names.push(name(&group));
    }
    // Backwards, and the first twice: as they are asked for.
    names.reverse();
    names.push(names[0].clone());
    let all = offsets(&backend, &names).await;
    let expected = |number: u64| {
        GroupOffsets::from([(at(&topic, 0), plain(number)), (at(&topic, 2), plain(100 + number))])
    };
    for number in 0..COUNT {
        assert_eq!(all[COUNT - 1 - number], expected(number as u64));
    }
    assert_eq!((&all[COUNT], &all[COUNT + 1]), (&GroupOffsets::new(), &all[0]));
}

pub(super) async fn nothing_asked_is_nothing_answered(backend: Backend) {
    let backend = Arc::new(backend);
    let (group, _) = idle(&backend, &[1]).await;
    assert!(offsets(&backend, &[]).await.is_empty());
    assert!(try_set(&backend, &group, &[]).await.is_empty());
    assert!(backend.groups().delete_offsets(&name(&group), &[]).await.is_empty());
}

pub(super) async fn the_next_member_begins_at_the_positions_that_were_set(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let all = partitions(&topic, 2);
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&all).await;
    let commits: Vec<_> = owned.iter().map(|(it, generation)| position(it, *generation, 50, "x")).collect();
    group.commit(&commits).await;
    member.leave().await;
    // Back and forth, and beyond what is there: the log does not ask why.
    set(&backend, &group, &[(at(&topic, 0), 7), (at(&topic, 1), 5_000_000_000)]).await;
    let expected = [Some(plain(7)), Some(plain(5_000_000_000))];
    let of: Vec<_> = all.iter().cloned().collect();
    assert_eq!(group.committed(&of).await, expected, "with no metadata");
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&all).await;
    assert_eq!(group.committed(&of).await, expected, "joining changes nothing");
    group.commit(&[position(&of[0], owned[&of[0]], 8, "")]).await;
    assert_eq!(group.position(&of[0]).await, Some(8));
}

pub(super) async fn a_position_that_was_set_survives_a_restart(backend: Backend) {
    let backend = Arc::new(backend);
    let (group, topic) = idle(&backend, &[3]).await;
    let id = group.id.clone();
    drop(group);
    let backend = Arc::try_unwrap(backend).expect("nobody else holds the backend").reopened().await;
    let backend = Arc::new(backend);
    let group = Group::named(&backend, id);
    assert_eq!(offsets(&backend, &[name(&group)]).await, [GroupOffsets::from([(at(&topic, 0), plain(3))])]);
    let listed = listed(&backend, &group).await.expect("it is listed");
    assert_eq!(listed.state, GroupState::Empty);
}

pub(super) async fn a_group_with_members_is_not_moved(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, 2)).await;
    group.commit(&[position(&at(&topic, 0), owned[&at(&topic, 0)], 5, "mine")]).await;
    for outcome in try_set(&backend, &group, &[(at(&topic, 0), 1), (at(&topic, 1), 1)]).await {
        expect_kind(outcome, ErrorKind::Conflict);
    }
    let committed = group.committed(&[at(&topic, 0), at(&topic, 1)]).await;
    assert_eq!(committed, [Some(Committed { next: 5, metadata: "mine".into() }), None]);
}

pub(super) async fn a_position_in_a_partition_that_is_not_there_is_refused_alone(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let group = Group::new(&backend);
    let nowhere = at(&fixtures::topic_name("nowhere"), 0);
    let to = [(at(&topic, 7), 1), (at(&topic, 0), 2), (nowhere, 3)];
    let mut outcomes = try_set(&backend, &group, &to).await.into_iter();
    let mut next = || outcomes.next().expect("one outcome a position");
    expect_kind(next(), ErrorKind::NotFound);
    next().expect("it is there");
    expect_kind(next(), ErrorKind::NotFound);
    assert_eq!(offsets(&backend, &[name(&group)]).await, [GroupOffsets::from([(at(&topic, 0), plain(2))])]);
}

pub(super) async fn an_offset_that_no_log_can_hold_is_refused(backend: Backend) {
    let backend = Arc::new(backend);
    let (group, topic) = idle(&backend, &[2]).await;
    let outcome = try_set(&backend, &group, &[(at(&topic, 0), i64::MAX as u64 + 1)]).await.remove(0);
    expect_kind(outcome, ErrorKind::Invalid);
    assert_eq!(group.position(&at(&topic, 0)).await, Some(2));
}

pub(super) async fn positions_are_forgotten_one_by_one(backend: Backend) {
    let backend = Arc::new(backend);
    let (group, topic) = idle(&backend, &[1, 2, 3]).await;
    let (other, other_topic) = idle(&backend, &[9]).await;
    // One of them has none any more the second time.
    for _ in 0..2 {
        let of = [at(&topic, 0), at(&topic, 2)];
        for outcome in within("forgetting", backend.groups().delete_offsets(&name(&group), &of)).await {
            outcome.expect("the position is forgotten");
        }
    }
    let left = [GroupOffsets::from([(at(&topic, 1), plain(2))]), [(at(&other_topic, 0), plain(9))].into()];
    assert_eq!(offsets(&backend, &[name(&group), name(&other)]).await, left);
    let unknown = Group::new(&backend);
    let outcomes = backend.groups().delete_offsets(&name(&unknown), &[at(&topic, 0)]).await;
    for outcome in outcomes {
        expect_kind(outcome, ErrorKind::NotFound);
    }
}

pub(super) async fn positions_that_a_member_reads_are_not_forgotten(backend: Backend) {
    let backend = Arc::new(backend);
    let (read, left) = (backend.topic(1).await, backend.topic(1).await);
    let group = Group::new(&backend);
    set(&backend, &group, &[(at(&read, 0), 1), (at(&left, 0), 2)]).await;
    let mut member = group.join(&[&read]).await;
    member.until_owns(&partitions(&read, 1)).await;
    let outcomes = eventually("the group having settled", || async {
        let of = [at(&read, 0), at(&left, 0)];
        let outcomes = backend.groups().delete_offsets(&name(&group), &of).await;
        // While members come, nothing is forgotten at all.
        outcomes[1].is_ok().then_some(outcomes)
    })
    .await;
    let mut outcomes = outcomes.into_iter();
    expect_kind(outcomes.next().expect("one outcome a position"), ErrorKind::Conflict);
    assert_eq!(offsets(&backend, &[name(&group)]).await, [GroupOffsets::from([(at(&read, 0), plain(1))])]);
}

pub(super) async fn a_group_is_deleted_with_its_positions(backend: Backend) {
    let backend = Arc::new(backend);
    let (group, topic) = idle(&backend, &[1, 2]).await;
    let (other, _) = idle(&backend, &[3]).await;
    within("deleting", backend.groups().delete(&name(&group))).await.expect("it has no members");
    assert_eq!(described(&backend, &group).await, None);
    assert_eq!(listed(&backend, &group).await, None);
    assert_eq!(group.committed(&[at(&topic, 0), at(&topic, 1)]).await, [None, None]);
    expect_kind(backend.groups().delete(&name(&group)).await, ErrorKind::NotFound);
    assert!(described(&backend, &other).await.is_some(), "the other group is untouched");
}

pub(super) async fn a_group_whose_members_are_there_is_not_deleted(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let group = Group::new(&backend);
    set(&backend, &group, &[(at(&topic, 0), 4)]).await;
    let mut member = group.join(&[&topic]).await;
    member.until_owns(&partitions(&topic, 1)).await;
    expect_kind(backend.groups().delete(&name(&group)).await, ErrorKind::Conflict);
    assert_eq!(group.position(&at(&topic, 0)).await, Some(4));
}

//! Positions are kept.

use super::member::{Group, partitions, position};
use crate::{
    conformance::{Backend, backend::expect_kind},
    fixtures,
};
use ports::{Committed, ErrorKind, TopicPartition};
use std::sync::Arc;

pub(super) async fn nothing_is_committed_at_first(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let of: Vec<_> = partitions(&topic, 2).into_iter().collect();
    let group = Group::new(&backend);
    assert_eq!(group.committed(&of).await, [None, None]);
    let mut member = group.join(&[&topic]).await;
    member.until_owns(&partitions(&topic, 2)).await;
    assert_eq!(group.committed(&of).await, [None, None], "being assigned commits nothing");
    assert_eq!(group.committed(&[]).await, []);
}

pub(super) async fn what_was_committed_is_read_back_in_the_order_of_the_question(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(4).await;
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, 4)).await;
    let of: Vec<_> = owned.keys().cloned().collect();
    let commits: Vec<_> = [3, 0, 2]
        .iter()
        .map(|nth| position(&of[*nth], owned[&of[*nth]], 10 * *nth as u64, format!("of {nth}")))
        .collect();
    group.commit(&commits).await;
    let committed = |nth: u64| Some(Committed { next: 10 * nth, metadata: format!("of {nth}").into() });
    let question = [2, 1, 3, 0, 2].map(|nth: usize| of[nth].clone());
    let answer = [committed(2), None, committed(3), committed(0), committed(2)];
    assert_eq!(group.committed(&question).await, answer);
}

pub(super) async fn a_commit_replaces_position_and_metadata(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let generation = member.until_owns(&partitions(&topic, 1)).await[&partition];
    // A position may go back, as a seek does.
    for (next, metadata) in [(5, "five"), (9, ""), (2, "back"), (0, "")] {
        group.commit(&[position(&partition, generation, next, metadata)]).await;
        let committed = group.committed(std::slice::from_ref(&partition)).await;
        assert_eq!(committed, [Some(Committed { next, metadata: metadata.into() })]);
    }
}

pub(super) async fn metadata_of_4096_bytes_of_text_is_kept(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, 2)).await;
    let texts = ["x".repeat(4096), format!("é{}\u{1F600}", "ü".repeat(2045))];
    assert!(texts.iter().all(|text| text.len() == 4096), "bytes, not characters");
    let commits: Vec<_> = owned
        .iter()
        .zip(&texts)
        .map(|((it, generation), text)| position(it, *generation, 1, text.as_str()))
        .collect();
    group.commit(&commits).await;
    let of: Vec<_> = owned.into_keys().collect();
    for (committed, text) in group.committed(&of).await.into_iter().zip(texts) {
        assert_eq!(&*committed.expect("it was committed").metadata, text.as_str());
    }
}

pub(super) async fn an_empty_commit_has_no_outcomes(backend: Backend) {
    let backend = Arc::new(backend);
    let group = Group::new(&backend);
    assert!(group.try_commit(&[]).await.is_empty());
}

pub(super) async fn a_bad_commit_fails_alone(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(3).await;
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, 3)).await;
    let of: Vec<_> = owned.keys().cloned().collect();
    let too_large = "x".repeat(4097);
    let commits = [
        position(&of[0], owned[&of[0]], 1, "good"),
        position(&of[1], owned[&of[1]], 2, too_large),
        position(&of[2], owned[&of[2]], 3, "good too"),
    ];
    let mut outcomes = group.try_commit(&commits).await.into_iter();
    let mut next = || outcomes.next().expect("one outcome a commit");
    next().expect("it is a good one");
    expect_kind(next(), ErrorKind::TooLarge);
    next().expect("it is a good one");
    let committed = group.committed(&of).await;
    let positions: Vec<_> = committed.into_iter().map(|it| it.map(|it| it.next)).collect();
    assert_eq!(positions, [Some(1), None, Some(3)]);
}

pub(super) async fn groups_have_positions_of_their_own(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let (one, two) = (Group::new(&backend), Group::new(&backend));
    let mut first = one.join(&[&topic]).await;
    let mut second = two.join(&[&topic]).await;
    let of_one = first.until_owns(&partitions(&topic, 1)).await[&partition];
    let of_two = second.until_owns(&partitions(&topic, 1)).await[&partition];
    one.commit(&[position(&partition, of_one, 11, "")]).await;
    assert_eq!(two.position(&partition).await, None);
    two.commit(&[position(&partition, of_two, 22, "")]).await;
    assert_eq!(one.position(&partition).await, Some(11));
    assert_eq!(two.position(&partition).await, Some(22));
}

pub(super) async fn many_commits_at_once_are_all_kept(backend: Backend) {
    const COUNT: u32 = 16;
    let backend = Arc::new(backend);
    let topic = backend.topic(COUNT).await;
    let group = Arc::new(Group::new(&backend));
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, COUNT)).await;
    let mut committers = Vec::new();
    for (partition, generation) in owned {
        let group = group.clone();
        committers.push(tokio::spawn(async move {
            for next in 1..=20 {
                group.commit(&[position(&partition, generation, next, next.to_string())]).await;
            }
            assert_eq!(group.position(&partition).await, Some(20));
        }));
    }
    for committer in committers {
        committer.await.expect("all its commits are kept");
    }
}

pub(super) async fn a_commit_survives_a_restart_and_the_next_membership_goes_on(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let all = partitions(&topic, 2);
    let group = Group::new(&backend);
    let id = group.id.clone();
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&all).await;
    let commits: Vec<_> =
        owned.iter().map(|(it, generation)| position(it, *generation, 42, format!("beyond {it}"))).collect();
    group.commit(&commits).await;
    member.leave().await;
    drop(group);
    let backend = Arc::try_unwrap(backend).expect("nobody else holds the backend").reopened().await;
    let backend = Arc::new(backend);
    let group = Group::named(&backend, id);
    let mut member = group.join(&[&topic]).await;
    let owned = member.until_owns(&all).await;
    let of: Vec<_> = owned.keys().cloned().collect();
    for (partition, committed) in of.iter().zip(group.committed(&of).await) {
        let expected = Committed { next: 42, metadata: format!("beyond {partition}").into() };
        assert_eq!(committed, Some(expected));
        group.commit(&[position(partition, owned[partition], 43, "")]).await;
    }
}

pub(super) async fn a_group_with_members_cannot_be_deleted(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let group = Group::new(&backend);
    let mut member = group.join(&[&topic]).await;
    let generation = member.until_owns(&partitions(&topic, 1)).await[&partition];
    group.commit(&[position(&partition, generation, 5, "")]).await;
    expect_kind(backend.offsets().delete(&group.id).await, ErrorKind::Conflict);
    assert_eq!(group.position(&partition).await, Some(5));
    group.commit(&[position(&partition, generation, 6, "")]).await;
}

pub(super) async fn a_deleted_group_has_no_positions(backend: Backend) {
    let backend = Arc::new(backend);
    let topic = backend.topic(2).await;
    let (deleted, other) = (Group::new(&backend), Group::new(&backend));
    let of: Vec<_> = partitions(&topic, 2).into_iter().collect();
    for group in [&deleted, &other] {
        let mut member = group.join(&[&topic]).await;
        let owned = member.until_owns(&partitions(&topic, 2)).await;
        let commits: Vec<_> =
            owned.iter().map(|(it, generation)| position(it, *generation, 5, "x")).collect();
        group.commit(&commits).await;
        member.leave().await;
    }
    backend.offsets().delete(&deleted.id).await.expect("a group without members can be deleted");
    assert_eq!(deleted.committed(&of).await, [None, None]);
    let kept = Some(Committed { next: 5, metadata: "x".into() });
    assert_eq!(other.committed(&of).await, [kept.clone(), kept], "the other group is untouched");
    // It can begin anew.
    let mut member = deleted.join(&[&topic]).await;
    let owned = member.until_owns(&partitions(&topic, 2)).await;
    deleted.commit(&[position(&of[0], owned[&of[0]], 1, "")]).await;
    assert_eq!(deleted.position(&of[0]).await, Some(1));
}

pub(super) async fn a_group_that_is_not_known_can_be_deleted(backend: Backend) {
    backend.offsets().delete(&fixtures::group_id("nobody")).await.expect("there is nothing to forget");
}

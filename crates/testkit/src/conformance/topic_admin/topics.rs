//! Topics come, grow and go.

use crate::{
    conformance::{
        Backend,
        backend::{expect_kind, spec},
    },
    fixtures,
};
use ports::{ErrorKind, TopicInfo, TopicName, TopicPartition};
use std::collections::BTreeMap;

async fn describe(backend: &Backend, topic: &TopicName) -> TopicInfo {
    backend.admin().describe(topic).await.expect("it can be asked").expect("the topic exists")
}

async fn exists(backend: &Backend, topic: &TopicName) -> bool {
    let described = backend.admin().describe(topic).await.expect("it can be asked").is_some();
    let listed =
        backend.admin().list().await.expect("topics can be listed").iter().any(|it| it.name == *topic);
    assert_eq!(described, listed, "a topic is listed when it can be described");
    described
}

pub(super) async fn a_topic_is_usable_once_it_is_created(backend: Backend) {
    for _ in 0..3 {
        let topic = backend.topic(3).await;
        for number in 0..3 {
            let partition = TopicPartition::new(topic.clone(), number);
            assert_eq!(backend.append_values(&partition, ["x"]).await[0].offset, 0);
            assert_eq!(backend.read_all(&partition).await.len(), 1);
        }
        assert_eq!(describe(&backend, &topic).await.partitions.len(), 3);
    }
}

pub(super) async fn a_topic_cannot_be_created_twice(backend: Backend) {
    let topic = backend.topic(2).await;
    backend.append_values(&TopicPartition::new(topic.clone(), 0), ["x"]).await;
    let again = backend.admin().create(spec(&topic, 5, BTreeMap::new())).await;
    expect_kind(again, ErrorKind::AlreadyExists);
    let info = describe(&backend, &topic).await;
    assert_eq!(info.partitions.len(), 2);
    assert_eq!(info.partitions[0].latest, 1, "what it holds is untouched");
}

pub(super) async fn a_topic_without_partitions_is_refused_by_name(backend: Backend) {
    let topic = fixtures::topic_name("conformance");
    let error =
        expect_kind(backend.admin().create(spec(&topic, 0, BTreeMap::new())).await, ErrorKind::Invalid);
    assert!(error.detail().to_lowercase().contains("partitions"), "{error}");
    assert!(!exists(&backend, &topic).await);
}

pub(super) async fn a_replication_that_cannot_be_is_refused_by_name(backend: Backend) {
    let topic = fixtures::topic_name("conformance");
    let mut wanted = spec(&topic, 1, BTreeMap::new());
    wanted.replication_factor = Some(999);
    let error = expect_kind(backend.admin().create(wanted.clone()).await, ErrorKind::Invalid);
    assert!(error.detail().to_lowercase().contains("replication"), "{error}");
    assert!(!exists(&backend, &topic).await);
    wanted.replication_factor = Some(1);
    backend.admin().create(wanted).await.expect("one copy is always possible");
    assert_eq!(describe(&backend, &topic).await.partitions[0].replicas.len(), 1);
}

pub(super) async fn topics_are_listed_with_what_they_hold(backend: Backend) {
    let empty = backend.topic(1).await;
    let full = backend.topic(3).await;
    backend.append_values(&TopicPartition::new(full.clone(), 0), ["a", "b", "c"]).await;
    backend.append_values(&TopicPartition::new(full.clone(), 2), ["d"]).await;
    backend.admin().trim(&full, &[(0, 1)]).await.expect("the topic can be trimmed");
    let list = backend.admin().list().await.expect("topics can be listed");
    assert!(list.is_sorted_by(|one, next| one.name < next.name), "by name, each once");
    let find = |name: &TopicName| list.iter().find(|it| it.name == *name).expect("it is listed");
    assert_eq!((find(&empty).partitions, find(&empty).events, find(&empty).internal), (1, 0, false));
    assert_eq!((find(&full).partitions, find(&full).events, find(&full).internal), (3, 3, false));
}

pub(super) async fn a_topic_is_described_with_its_offsets(backend: Backend) {
    let topic = backend.topic(2).await;
    backend.append_values(&TopicPartition::new(topic.clone(), 1), ["a", "b", "c"]).await;
    backend.admin().trim(&topic, &[(1, 2)]).await.expect("the topic can be trimmed");
    let info = describe(&backend, &topic).await;
    assert_eq!(info.name, topic);
    assert!(!info.id.is_empty());
    assert!(!info.internal);
    let offsets: Vec<_> = info.partitions.iter().map(|it| (it.partition, it.earliest, it.latest)).collect();
    assert_eq!(offsets, [(0, 0, 0), (1, 2, 3)]);
    let nodes = backend.admin().cluster().await.expect("the cluster can be asked").nodes;
    for partition in info.partitions {
        let leader = partition.leader.expect("a partition that serves has a leader");
        assert!(nodes.contains(&leader));
        assert!(partition.replicas.contains(&leader));
        assert!(partition.in_sync_replicas.contains(&leader));
    }
    assert_eq!(describe(&backend, &topic).await.id, info.id, "the id stays");
}

pub(super) async fn an_unknown_topic_is_not_described(backend: Backend) {
    let topic = fixtures::topic_name("nowhere");
    assert!(!exists(&backend, &topic).await);
    assert!(!exists(&backend, &topic).await, "asking made no topic");
}

pub(super) async fn names_that_look_alike_stay_apart(backend: Backend) {
    // Kafka takes names that differ in `.` and `_` alone for the same, in its metrics, and refuses them.
    let base = fixtures::unique("Look-Alike");
    let long = format!("{base}{}", "x".repeat(TopicName::LENGTH_MAX - base.len()));
    let names = [
        base.clone(),
        base.to_lowercase(),
        base.to_uppercase(),
        format!("{base}."),
        format!("{base}-0"),
        long,
    ];
    let names: Vec<_> = names.iter().map(|name| TopicName::new(name).expect("a legal name")).collect();
    for (nth, name) in names.iter().enumerate() {
        backend.create(name, 1, &[]).await;
        let values = (0..=nth).map(|value| value.to_string());
        backend.append_values(&TopicPartition::new(name.clone(), 0), values).await;
    }
    for (nth, name) in names.iter().enumerate() {
        assert_eq!(describe(&backend, name).await.partitions[0].latest, nth as u64 + 1, "{name}");
    }
    backend.admin().delete(&names[0]).await.expect("the topic can be deleted");
    for name in &names[1..] {
        assert!(exists(&backend, name).await, "{name} is not {}", names[0]);
    }
}

pub(super) async fn partitions_can_be_added_but_not_taken(backend: Backend) {
    let topic = backend.topic(2).await;
    backend.append_values(&TopicPartition::new(topic.clone(), 1), ["a"]).await;
    for total in [0, 1, 2] {
        expect_kind(backend.admin().add_partitions(&topic, total).await, ErrorKind::Invalid);
    }
    backend.admin().add_partitions(&topic, 5).await.expect("partitions can be added");
    let info = describe(&backend, &topic).await;
    let offsets: Vec<_> = info.partitions.iter().map(|it| (it.partition, it.latest)).collect();
    assert_eq!(offsets, [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0)]);
    let added = TopicPartition::new(topic, 4);
    assert_eq!(backend.append_values(&added, ["b"]).await[0].offset, 0);
    assert_eq!(backend.read_all(&added).await.len(), 1);
}

pub(super) async fn a_trim_answers_the_earliest_offsets(backend: Backend) {
    let topic = backend.topic(3).await;
    for number in 0..3 {
        let values = (0..10).map(|nth| nth.to_string());
        backend.append_values(&TopicPartition::new(topic.clone(), number), values).await;
    }
    let trimmed = backend.admin().trim(&topic, &[(2, 7), (0, 4)]).await.expect("the topic can be trimmed");
    assert_eq!(trimmed, [7, 4]);
    // What is trimmed already stays so.
    let again =
        backend.admin().trim(&topic, &[(0, 2), (2, 10), (1, 0)]).await.expect("the topic can be trimmed");
    assert_eq!(again, [4, 10, 0]);
    let info = describe(&backend, &topic).await;
    let offsets: Vec<_> = info.partitions.iter().map(|it| (it.earliest, it.latest)).collect();
    assert_eq!(offsets, [(4, 10), (0, 10), (10, 10)]);
}

pub(super) async fn a_trim_beyond_the_end_changes_nothing(backend: Backend) {
    let topic = backend.topic(1).await;
    backend.append_values(&TopicPartition::new(topic.clone(), 0), ["a", "b"]).await;
    expect_kind(backend.admin().trim(&topic, &[(0, 3)]).await, ErrorKind::OutOfRange);
    let info = describe(&backend, &topic).await;
    assert_eq!((info.partitions[0].earliest, info.partitions[0].latest), (0, 2));
}

pub(super) async fn a_deleted_topic_is_gone_and_can_be_made_again(backend: Backend) {
    let topic = fixtures::topic_name("conformance");
    for partitions in 1..4 {
        backend.create(&topic, partitions, &[]).await;
        assert_eq!(describe(&backend, &topic).await.partitions.len(), partitions as usize);
        backend.append_values(&TopicPartition::new(topic.clone(), 0), ["x"]).await;
        backend.admin().delete(&topic).await.expect("the topic can be deleted");
        assert!(!exists(&backend, &topic).await, "a deleted topic is gone");
    }
}

pub(super) async fn what_is_unknown_is_not_found(backend: Backend) {
    let topic = fixtures::topic_name("nowhere");
    let admin = backend.admin();
    let changes = [("retention.ms".to_owned(), Some("1000".to_owned()))].into();
    expect_kind(admin.alter(&topic, &changes).await, ErrorKind::NotFound);
    expect_kind(admin.add_partitions(&topic, 2).await, ErrorKind::NotFound);
    expect_kind(admin.trim(&topic, &[(0, 0)]).await, ErrorKind::NotFound);
    expect_kind(admin.delete(&topic).await, ErrorKind::NotFound);
    let known = backend.topic(1).await;
    expect_kind(admin.trim(&known, &[(1, 0)]).await, ErrorKind::NotFound);
}

pub(super) async fn the_cluster_has_an_id_and_a_node(backend: Backend) {
    let cluster = backend.admin().cluster().await.expect("the cluster can be asked");
    assert!(!cluster.id.is_empty());
    assert!(!cluster.nodes.is_empty());
    let again = backend.admin().cluster().await.expect("the cluster can be asked");
    assert_eq!(again.id, cluster.id);
}

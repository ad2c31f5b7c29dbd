//! Members over topics in memory, on paused time.

use super::super::{GroupConfig, Groups};
use crate::memory::MemoryLog;
use ports::{
    Clock, ErrorKind, Generation, GroupId, GroupMembership, Membership, MembershipEvent, MockTopicAdmin,
    OffsetCommit, PortError, TopicAdmin, TopicInfo, TopicName, TopicPartition, TopicSpec,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::TestClock;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(1);

struct Rig {
    groups: Groups,
    /// Beside the groups' back.
    topics: Arc<MemoryLog>,
    id: GroupId,
    topic: TopicName,
}

impl Rig {
    /// Groups over one topic of so many partitions.
    async fn new(partitions: u32) -> Self {
        Self::with_interval(partitions, INTERVAL).await
    }

    async fn with_interval(partitions: u32, topics_interval: Duration) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let topics = Arc::new(MemoryLog::new(clock.clone()));
        let config = GroupConfig { revocation_patience: PATIENCE, topics_interval };
        let groups = Groups::new(topics.clone(), clock, config);
        let rig =
            Self { groups, topics, id: GroupId::new("g").unwrap(), topic: TopicName::new("t").unwrap() };
        rig.topics.create(rig.spec(partitions)).await.unwrap();
        rig
    }

    fn spec(&self, partitions: u32) -> TopicSpec {
        TopicSpec { name: self.topic.clone(), partitions, replication_factor: None, config: BTreeMap::new() }
    }

    async fn join(&self) -> Box<dyn Membership> {
        self.groups.join(&self.id, std::slice::from_ref(&self.topic)).await.unwrap()
    }

    fn partition(&self, number: u32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), number)
    }

    /// Whether a commit would be let through.
    fn admits(&self, partition: u32, generation: Generation) -> bool {
        let (outcomes, _permit) = self.admit(partition, generation);
        outcomes[0].is_ok()
    }

    fn admit(
        &self,
        partition: u32,
        generation: Generation,
    ) -> (Vec<ports::Result<()>>, super::super::CommitPermit) {
        let partition = self.partition(partition);
        let commit = OffsetCommit { partition, generation, next: 1, metadata: "".into() };
        self.groups.admit(&self.id, &[commit])
    }
}

async fn assigned(member: &mut Box<dyn Membership>) -> (Generation, Vec<u32>) {
    match member.next().await.unwrap() {
        MembershipEvent::Assigned { generation, partitions } => {
            (generation, partitions.iter().map(|it| it.partition).collect())
        }
        other => panic!("not an assignment: {other:?}"),
    }
}

async fn lost(member: &mut Box<dyn Membership>) -> Vec<u32> {
    match member.next().await.unwrap() {
        MembershipEvent::Lost { partitions } => partitions.iter().map(|it| it.partition).collect(),
        other => panic!("not a loss: {other:?}"),
    }
}

/// Nothing is told for so long.
async fn silent(member: &mut Box<dyn Membership>, time: Duration) {
    let told = tokio::time::timeout(time, member.next()).await;
    assert!(told.is_err(), "told {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_is_not_let_go_of_ends_when_patience_does() {
    let rig = Rig::new(2).await;
    let mut first = rig.join().await;
    let (old, _) = assigned(&mut first).await;
    let mut second = rig.join().await;
    let MembershipEvent::Revoked { partitions, handover } = first.next().await.unwrap() else {
        panic!("not revoked")
    };
    let [moved] = partitions.as_slice() else { panic!("one of two goes: {partitions:?}") };
    silent(&mut second, PATIENCE.saturating_sub(Duration::from_millis(1))).await;
    assert!(rig.admits(moved.partition, old), "it is still the first's");
    let (new, taken) = assigned(&mut second).await;
    assert_eq!(taken, [moved.partition]);
    assert_eq!(lost(&mut first).await, [moved.partition]);
    assert!(!rig.admits(moved.partition, old));
    assert!(rig.admits(moved.partition, new));
    assert!(rig.admits(1 - moved.partition, old), "the other one stays");
    // Too late to change anything.
    handover.release();
    silent(&mut second, Duration::from_mins(1)).await;
    assert!(rig.admits(moved.partition, new));
}

#[tokio::test(start_paused = true)]
async fn letting_go_ends_a_revocation_at_once() {
    let rig = Rig::new(2).await;
    let mut first = rig.join().await;
    let (old, _) = assigned(&mut first).await;
    let mut second = rig.join().await;
    let began = Instant::now();
    let MembershipEvent::Revoked { partitions, handover } = first.next().await.unwrap() else {
        panic!("not revoked")
    };
    // Forgotten is let go of.
    drop(handover);
    assert!(!rig.admits(partitions[0].partition, old));
    let (_, taken) = assigned(&mut second).await;
    assert_eq!(taken, [partitions[0].partition]);
    assert_eq!(began.elapsed(), Duration::ZERO);
    silent(&mut first, Duration::from_mins(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_listens_to_nothing_loses_by_patience_and_learns_it_later() {
    let rig = Rig::new(2).await;
    let mut deaf = rig.join().await;
    assigned(&mut deaf).await;
    let mut second = rig.join().await;
    let (_, taken) = assigned(&mut second).await;
    assert_eq!(lost(&mut deaf).await, taken, "there is nothing to let go of any more");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_under_way_holds_its_partition() {
    let rig = Rig::new(1).await;
    let mut first = rig.join().await;
    let (old, _) = assigned(&mut first).await;
    let mut second = rig.join().await;
    let (outcomes, permit) = rig.admit(0, old);
    assert!(outcomes[0].is_ok());
    first.leave().await.unwrap();
    assert!(!rig.admits(0, old), "nothing more is let through");
    silent(&mut second, Duration::from_mins(1)).await;
    drop(permit);
    let (new, _) = assigned(&mut second).await;
    assert!(rig.admits(0, new));
}

#[tokio::test(start_paused = true)]
async fn new_partitions_are_found_by_looking_from_time_to_time() {
    let rig = Rig::new(1).await;
    let mut member = rig.join().await;
    assigned(&mut member).await;
    let began = Instant::now();
    rig.topics.add_partitions(&rig.topic, 3).await.unwrap();
    let (_, added) = assigned(&mut member).await;
    assert_eq!(added, [1, 2]);
    assert!(began.elapsed() <= INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn changes_through_the_groups_own_topics_are_seen_at_once() {
    let rig = Rig::with_interval(1, Duration::from_hours(1)).await;
    let mut member = rig.join().await;
    assigned(&mut member).await;
    let began = Instant::now();
    rig.groups.admin().add_partitions(&rig.topic, 2).await.unwrap();
    assert_eq!(assigned(&mut member).await.1, [1]);
    rig.groups.admin().delete(&rig.topic).await.unwrap();
    assert_eq!(lost(&mut member).await, [0, 1]);
    rig.groups.admin().create(rig.spec(1)).await.unwrap();
    assert_eq!(assigned(&mut member).await.1, [0]);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_is_lost_and_assigned_anew() {
    let rig = Rig::new(1).await;
    let mut member = rig.join().await;
    let (old, _) = assigned(&mut member).await;
    // Too quick to be seen missing.
    rig.topics.delete(&rig.topic).await.unwrap();
    rig.topics.create(rig.spec(1)).await.unwrap();
    assert_eq!(lost(&mut member).await, [0]);
    let (new, _) = assigned(&mut member).await;
    assert!(!rig.admits(0, old), "positions of the old topic are not committed for the new one");
    assert!(rig.admits(0, new));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_described_does_not_hold_up_the_others() {
    let mut admin = MockTopicAdmin::new();
    admin.expect_describe().returning(|topic| match topic.as_str() {
        "bad" => Err(PortError::new(ErrorKind::Corrupt, "topic_admin.describe", "damaged")),
        _ => Ok(Some(TopicInfo {
            name: topic.clone(),
            id: "1".to_owned(),
            partitions: vec![ports::PartitionInfo {
                partition: 0,
                leader: Some(0),
                replicas: vec![0],
                in_sync_replicas: vec![0],
                earliest: 0,
                latest: 0,
            }],
            config: BTreeMap::new(),
            internal: false,
        })),
    });
    let groups = Groups::new(Arc::new(admin), Arc::new(TestClock::new()), GroupConfig::default());
    let topics = ["bad", "good"].map(|name| TopicName::new(name).unwrap());
    let mut member = groups.join(&GroupId::new("g").unwrap(), &topics).await.unwrap();
    let MembershipEvent::Assigned { partitions, .. } = member.next().await.unwrap() else {
        panic!("not assigned")
    };
    assert_eq!(partitions, [TopicPartition::new(topics[1].clone(), 0)]);
    silent(&mut member, Duration::from_mins(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_group_is_forgotten() {
    let rig = Rig::new(1).await;
    let mut member = rig.join().await;
    let (generation, _) = assigned(&mut member).await;
    let (_, permit) = rig.admit(0, generation);
    drop(member);
    assert!(!rig.groups.has_members(&rig.id));
    assert_eq!(rig.groups.0.groups.lock().len(), 1, "a commit is under way");
    drop(permit);
    assert_eq!(rig.groups.0.groups.lock().len(), 0);
}

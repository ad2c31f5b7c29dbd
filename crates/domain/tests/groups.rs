//! Consumer groups over the reference model: shown, moved, deleted, judged.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use domain::{
    Error, ErrorCode, Limits,
    groups::{GroupReset, Groups, ResetTo, TopicOffset},
    lag::{LagConfig, LagMonitor, Verdict},
    subscriptions::{DeliveryConfig, NewSubscription, SubscriptionPorts, Subscriptions},
    topics::{NewTopic, TopicDefaults, Topics},
};
use ports::{
    AppendRequest, Clock, Committed, GroupId, GroupInfo, GroupMember, GroupName, GroupOffsets, GroupState,
    GroupSummary, GroupType, Membership, MembershipEvent, MockEventLog, MockGroupAdmin, Offset, OffsetCommit,
    Record, Timestamp, TopicName, TopicPartition,
};
use proptest::prelude::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::clock::TestClock;

struct World {
    clock: Arc<TestClock>,
    memory: Memory,
    subscriptions: Arc<Subscriptions>,
    monitor: Arc<LagMonitor>,
    groups: Groups,
}

fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), partition)
}

impl World {
    /// Topics `orders` of two partitions and `mails` of one.
    async fn new() -> Self {
        let clock = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let limits = Arc::new(Limits::default());
        let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
        for (name, partitions) in [("orders", 2), ("mails", 1)] {
            let new = NewTopic { name: name.into(), partitions: Some(partitions), ..NewTopic::default() };
            topics.create(new).await.unwrap();
        }
        let ports = SubscriptionPorts {
            log: memory.log(),
            membership: memory.membership(),
            offsets: memory.offsets(),
            jobs: memory.jobs(),
            idempotency: memory.idempotency(),
            clock: clock.clone(),
        };
        let subscriptions = Subscriptions::new(ports, topics.clone(), limits, DeliveryConfig::default());
        subscriptions.start().await.unwrap();
        let (admin, log) = (memory.groups(), memory.log());
        let config = LagConfig::default();
        let monitor = LagMonitor::new(admin.clone(), log.clone(), topics.clone(), clock.clone(), config);
        let monitor = Arc::new(monitor);
        let groups =
            Groups::new(admin, log, clock.clone(), topics, subscriptions.clone(), Some(monitor.clone()));
        Self { clock, memory, subscriptions, monitor, groups }
    }

    /// Appends records of these times to a partition.
    async fn append(&self, to: &TopicPartition, times: impl IntoIterator<Item = i64>) {
        let record = |ms| (to.partition, Record { timestamp: Timestamp(ms), ..Record::default() });
        let records: Vec<_> = times.into_iter().map(record).collect();
        let request = AppendRequest { topic: to.topic.clone(), records, timeout: Duration::from_secs(1) };
        for outcome in self.memory.log().append(request).await.outcomes {
            outcome.unwrap();
        }
    }

    async fn set(&self, group: &str, to: &[(TopicPartition, Offset)]) {
        for outcome in self.memory.groups().set_offsets(&GroupName::new(group).unwrap(), to).await {
            outcome.unwrap();
        }
    }

    async fn committed(&self, group: &str) -> Vec<(TopicPartition, Offset)> {
        let name = GroupName::new(group).unwrap();
        let offsets = self.memory.groups().offsets(&[name]).await.remove(0).unwrap();
        offsets.into_iter().map(|(at, committed)| (at, committed.next)).collect()
    }

    /// A member that owns all of `orders`.
    async fn join(&self, group: &str) -> (Box<dyn Membership>, ports::Generation) {
        let id = GroupId::new(group).unwrap();
        let topics = [TopicName::new("orders").unwrap()];
        let mut member = self.memory.membership().join(&id, &topics).await.unwrap();
        let MembershipEvent::Assigned { generation, .. } = member.next().await.unwrap() else {
            panic!("it is assigned first")
        };
        (member, generation)
    }

    async fn commit(&self, group: &str, generation: ports::Generation, partition: u32, next: Offset) {
        let commit =
            OffsetCommit { partition: at("orders", partition), generation, next, metadata: "".into() };
        let id = GroupId::new(group).unwrap();
        self.memory.offsets().commit(&id, vec![commit]).await.remove(0).unwrap();
    }

    async fn reset(&self, group: &str, to: ResetTo) -> Result<Vec<(String, Option<i64>)>, Error> {
        self.reset_part(group, None, None, to).await
    }

    /// Where each partition comes to stand, and what was asked for where that is not there.
    async fn reset_part(
        &self,
        group: &str,
        topic: Option<&str>,
        partitions: Option<&[i64]>,
        to: ResetTo,
    ) -> Result<Vec<(String, Option<i64>)>, Error> {
        let reset = GroupReset {
            topic: topic.map(str::to_owned),
            partitions: partitions.map(<[i64]>::to_vec),
            to,
            dry_run: false,
        };
        let before = self.committed(group).await;
        let dry = self.groups.reset(group, GroupReset { dry_run: true, ..reset.clone() }).await;
        assert_eq!(self.committed(group).await, before, "a dry run changes nothing");
        let done = self.groups.reset(group, reset).await;
        match (dry, done) {
            (Ok(dry), Ok(done)) => {
                assert_eq!((&dry.moved, dry.dry_run, done.dry_run), (&done.moved, true, false));
                let after = self.committed(group).await;
                for moved in &done.moved {
                    assert!(after.contains(&(moved.at.clone(), moved.after)), "it is done: {moved:?}");
                    let was = before.iter().find(|(at, _)| *at == moved.at).map(|(_, next)| *next);
                    assert_eq!(moved.before, was);
                }
                Ok(done.moved.iter().map(|it| (format!("{}={}", it.at, it.after), it.clamped_from)).collect())
            }
            (Err(dry), Err(done)) => {
                assert_eq!((dry.code(), dry.detail()), (done.code(), done.detail()));
                assert_eq!(self.committed(group).await, before, "what is refused changes nothing");
                Err(done)
            }
            (dry, done) => panic!("a dry run tells what would be: {dry:?}, {done:?}"),
        }
    }
}

fn plain(places: &[&str]) -> Vec<(String, Option<i64>)> {
    places.iter().map(|place| ((*place).to_owned(), None)).collect()
}

/// Offsets 0 to 9 in `orders-0` at times 1000 to 10 000, of which 0 to 2 are gone; none in `orders-1`.
async fn filled() -> World {
    let world = World::new().await;
    world.append(&at("orders", 0), (1..=10).map(|n| n * 1000)).await;
    world.memory.admin().trim(&TopicName::new("orders").unwrap(), &[(0, 3)]).await.unwrap();
    world.append(&at("mails", 0), [5]).await;
    world.set("billing", &[(at("orders", 0), 7), (at("mails", 0), 1)]).await;
    world
}

#[tokio::test]
async fn a_group_is_shown_with_its_lag_in_events_and_in_time() {
    let world = filled().await;
    let now = world.clock.wall().0;
    world.append(&at("orders", 1), [now - 4_000, now - 1_000]).await;
    world.set("billing", &[(at("orders", 1), 0)]).await;
    let view = world.groups.get("billing").await.unwrap();
    assert_eq!((view.info.state, view.is_subscription, view.total_lag()), (GroupState::Empty, false, 5));
    let shown: Vec<_> =
        view.positions.iter().map(|it| (it.at.to_string(), it.committed, it.end, it.lag())).collect();
    assert_eq!(
        shown,
        [
            ("mails-0".to_owned(), Some(1), Some(1), Some(0)),
            ("orders-0".to_owned(), Some(7), Some(10), Some(3)),
            ("orders-1".to_owned(), Some(0), Some(2), Some(2)),
        ]
    );
    let times: Vec<_> = view.positions.iter().map(|it| it.lag_time.unwrap().as_millis() as i64).collect();
    assert_eq!(times, [0, now - 8_000, 4_000], "the age of the first that was not read");
    // What retention took is behind, and the first that is left tells how long.
    world.set("billing", &[(at("orders", 0), 1)]).await;
    let view = world.groups.get("billing").await.unwrap();
    assert_eq!(
        (view.positions[1].lag(), view.positions[1].lag_time.unwrap().as_millis()),
        (Some(9), (now - 4_000) as u128)
    );
    assert_eq!(world.groups.get("nobody").await.unwrap_err().code(), ErrorCode::GroupNotFound);
}

#[tokio::test]
async fn partitions_that_members_read_without_a_position_are_shown_and_so_are_positions_in_nothing() {
    let world = filled().await;
    let (_member, generation) = world.join("readers").await;
    world.commit("readers", generation, 0, 5).await;
    let view = world.groups.get("readers").await.unwrap();
    assert_eq!(view.info.state, GroupState::Stable);
    assert_eq!(view.info.members[0].assignment, [at("orders", 0), at("orders", 1)].into());
    let shown: Vec<_> = view.positions.iter().map(|it| (it.committed, it.end, it.lag())).collect();
    assert_eq!(shown, [(Some(5), Some(10), Some(5)), (None, Some(0), None)]);
    world.memory.admin().delete(&TopicName::new("mails").unwrap()).await.unwrap();
    let view = world.groups.get("billing").await.unwrap();
    let gone = &view.positions[0];
    assert_eq!((gone.at.to_string().as_str(), gone.end, gone.lag_time), ("mails-0", None, None));
}

#[tokio::test]
async fn a_group_is_reset_to_each_kind_of_place() {
    let world = filled().await;
    let reset = async |to| world.reset_part("billing", Some("orders"), None, to).await.unwrap();
    assert_eq!(reset(ResetTo::Earliest).await, plain(&["orders-0=3", "orders-1=0"]));
    assert_eq!(reset(ResetTo::Latest).await, plain(&["orders-0=10", "orders-1=0"]));
    assert_eq!(reset(ResetTo::Timestamp(Timestamp(5_500))).await, plain(&["orders-0=5", "orders-1=0"]));
    assert_eq!(reset(ResetTo::Timestamp(Timestamp(10_001))).await, plain(&["orders-0=10", "orders-1=0"]));
    let clamped = |place: &str, from| (place.to_owned(), Some(from));
    assert_eq!(
        reset(ResetTo::Offset(8)).await,
        [plain(&["orders-0=8"]), vec![clamped("orders-1=0", 8)]].concat()
    );
    let shifted = [plain(&["orders-0=6"]), vec![clamped("orders-1=0", -2)]].concat();
    assert_eq!(reset(ResetTo::ShiftBy(-2)).await, shifted);
    let only = async |to| world.reset_part("billing", Some("orders"), Some(&[0]), to).await.unwrap();
    assert_eq!(only(ResetTo::ShiftBy(-100)).await, [clamped("orders-0=3", -94)]);
    assert_eq!(only(ResetTo::ShiftBy(i64::MAX)).await, [clamped("orders-0=10", i64::MAX)]);
    assert_eq!(only(ResetTo::ShiftBy(i64::MIN)).await, [clamped("orders-0=3", i64::MIN + 10)]);
    assert_eq!(only(ResetTo::Offset(1)).await, [clamped("orders-0=3", 1)]);
    let list = vec![
        TopicOffset { topic: "mails".into(), partition: 0, offset: 0 },
        TopicOffset { topic: "orders".into(), partition: 0, offset: 99 },
    ];
    let moved = world.reset("billing", ResetTo::Offsets(list)).await.unwrap();
    assert_eq!(moved, [plain(&["mails-0=0"]), vec![clamped("orders-0=10", 99)]].concat());
    // Without a topic it is about all of the topics that it has positions in.
    let moved = world.reset("billing", ResetTo::Earliest).await.unwrap();
    assert_eq!(moved, plain(&["mails-0=0", "orders-0=3", "orders-1=0"]));
}

#[tokio::test]
async fn a_shift_passes_over_what_has_no_position_unless_it_is_named() {
    let world = filled().await;
    let moved = world.reset_part("billing", Some("orders"), None, ResetTo::ShiftBy(1)).await.unwrap();
    assert_eq!(moved, plain(&["orders-0=8"]));
    let named = world.reset_part("billing", Some("orders"), Some(&[1]), ResetTo::ShiftBy(1)).await;
    assert_eq!(named.unwrap_err().fields()[0].field, "to.shiftBy");
}

#[tokio::test]
async fn what_cannot_be_reset_to_is_refused_by_its_field() {
    let world = filled().await;
    let later = Timestamp(world.clock.wall().0 + 1);
    let one = |topic: &str, partition, offset| TopicOffset { topic: topic.into(), partition, offset };
    let list = |items: &[TopicOffset]| ResetTo::Offsets(items.to_vec());
    for (topic, partitions, to, field) in [
        (None, None, ResetTo::Timestamp(later), "to.timestamp"),
        (None, None, ResetTo::Offset(-1), "to.offset"),
        (None, Some(vec![0]), ResetTo::Latest, "topic"),
        (Some("a/b"), None, ResetTo::Latest, "topic"),
        (Some("orders"), Some(vec![]), ResetTo::Latest, "partitions"),
        (Some("orders"), Some(vec![0, 2]), ResetTo::Latest, "partitions[1]"),
        (Some("orders"), Some(vec![0, -1]), ResetTo::Latest, "partitions[1]"),
        (Some("orders"), Some(vec![1, 1]), ResetTo::Latest, "partitions[1]"),
        (Some("orders"), None, list(&[one("orders", 0, 1)]), "topic"),
        (None, None, list(&[]), "to.offsets"),
        (None, None, list(&[one("orders", 0, 1), one("..", 0, 1)]), "to.offsets[1].topic"),
        (None, None, list(&[one("orders", 9, 1)]), "to.offsets[0].partition"),
        (None, None, list(&[one("orders", -9, 1)]), "to.offsets[0].partition"),
        (None, None, list(&[one("nowhere", 0, 1)]), "to.offsets[0].partition"),
        (None, None, list(&[one("orders", 0, 1), one("orders", 0, 2)]), "to.offsets[1].partition"),
        (None, None, list(&[one("orders", 0, -1)]), "to.offsets[0].offset"),
    ] {
        let error = world.reset_part("billing", topic, partitions.as_deref(), to.clone()).await.unwrap_err();
        assert_eq!(
            (error.code(), error.fields()[0].field.as_str()),
            (ErrorCode::InvalidRequest, field),
            "{to:?}"
        );
    }
    let code = |outcome: Result<_, Error>| outcome.map(|_: Vec<_>| ()).unwrap_err().code();
    let nowhere = world.reset_part("billing", Some("nowhere"), None, ResetTo::Latest).await;
    assert_eq!(code(nowhere), ErrorCode::TopicNotFound);
    assert_eq!(code(world.reset("nobody", ResetTo::Latest).await), ErrorCode::GroupNotFound);
    assert_eq!(world.groups.get("").await.unwrap_err().fields()[0].field, "group");
}

#[tokio::test]
async fn a_group_with_members_is_neither_moved_nor_deleted_and_who_holds_it_is_said() {
    let world = filled().await;
    world.set("readers", &[(at("mails", 0), 1), (at("orders", 0), 4)]).await;
    let (member, _) = world.join("readers").await;
    let held = [
        world.reset("readers", ResetTo::Latest).await.unwrap_err(),
        world.groups.delete("readers").await.unwrap_err(),
        world.groups.delete_offsets("readers", "orders", None).await.unwrap_err(),
    ];
    for error in held {
        assert_eq!(error.code(), ErrorCode::GroupActive);
        assert!(error.detail().contains("`event-streaming` at localhost (member `member-"), "{error}");
    }
    let deleted = world.groups.delete_offsets("readers", "mails", None).await.unwrap();
    assert_eq!(deleted, [(at("mails", 0), 1)], "no member reads that topic");
    drop(member);
    assert_eq!(world.reset("readers", ResetTo::Latest).await.unwrap(), plain(&["orders-0=10", "orders-1=0"]));
    world.groups.delete("readers").await.unwrap();
    assert_eq!(world.groups.delete("readers").await.unwrap_err().code(), ErrorCode::GroupNotFound);
}

#[tokio::test]
async fn positions_that_were_deleted_are_answered_and_can_be_put_back() {
    let world = filled().await;
    world.set("billing", &[(at("orders", 1), 0)]).await;
    let before = world.committed("billing").await;
    assert_eq!(
        world.groups.delete_offsets("billing", "orders", Some(&[1])).await.unwrap(),
        [(at("orders", 1), 0)]
    );
    let deleted = world.groups.delete_offsets("billing", "orders", None).await.unwrap();
    assert_eq!(deleted, [(at("orders", 0), 7)]);
    assert_eq!(world.groups.delete_offsets("billing", "orders", None).await.unwrap(), []);
    let back = [("orders", 0, 7), ("orders", 1, 0)];
    let back = back.map(|(topic, partition, offset)| TopicOffset { topic: topic.into(), partition, offset });
    world.reset("billing", ResetTo::Offsets(back.to_vec())).await.unwrap();
    assert_eq!(world.committed("billing").await, before);
    let wrong = world.groups.delete_offsets("billing", "orders", Some(&[-1])).await.unwrap_err();
    assert_eq!(wrong.fields()[0].field, "partitions[0]");
}

#[tokio::test]
async fn the_group_of_a_subscription_is_shown_and_never_changed_behind_its_back() {
    let world = filled().await;
    let new =
        NewSubscription { name: "mail".into(), topics: vec!["orders".into()], ..NewSubscription::default() };
    world.subscriptions.create(new).await.unwrap();
    let listed = world.groups.list().await.unwrap();
    let names: Vec<_> =
        listed.iter().map(|group| (group.summary.name.as_str(), group.is_subscription)).collect();
    assert_eq!(names, [("billing", false), ("mail", true)]);
    assert!(world.groups.get("mail").await.unwrap().is_subscription);
    let reset = world.reset("mail", ResetTo::Earliest).await.unwrap_err();
    assert_eq!(reset.code(), ErrorCode::NotSupported);
    for error in [
        world.groups.delete("mail").await.unwrap_err(),
        world.groups.delete_offsets("mail", "orders", None).await.unwrap_err(),
    ] {
        assert!(error.code() == ErrorCode::Conflict && error.detail().contains("subscription"), "{error}");
    }
}

#[tokio::test]
async fn what_is_behind_for_a_reason_of_its_subscription_says_so() {
    let world = filled().await;
    let new =
        NewSubscription { name: "mail".into(), topics: vec!["orders".into()], ..NewSubscription::default() };
    world.subscriptions.create(new).await.unwrap();
    assert_eq!(world.groups.lag("mail").await.unwrap().cause, None);
    world.subscriptions.pause("mail").await.unwrap();
    assert_eq!(world.groups.lag("mail").await.unwrap().cause.unwrap().code, "paused");
    assert_eq!(world.groups.lag("billing").await.unwrap().cause, None, "of others nothing is known");
}

#[tokio::test]
async fn a_reader_that_stops_stalls_falls_behind_and_goes_back_is_judged_so() {
    let world = filled().await;
    let verdict = async |group: &str| world.groups.lag(group).await.unwrap().verdict;
    assert_eq!(verdict("billing").await, None, "it was not sampled yet");
    let (member, generation) = world.join("readers").await;
    for round in 0..10_u64 {
        world.append(&at("orders", 0), [1, 2]).await;
        world.commit("readers", generation, 0, 4 + round).await;
        world.monitor.sample().await.unwrap();
        let expected = if round < 9 { Verdict::Ok } else { Verdict::Warn };
        assert_eq!(verdict("readers").await, Some(expected), "it moves, and falls behind: {round}");
    }
    assert_eq!(verdict("billing").await, Some(Verdict::Stopped), "it has no members, and lies still");
    assert_eq!(world.groups.lag("billing").await.unwrap().samples, 10);
    world.commit("readers", generation, 0, 5).await;
    world.monitor.sample().await.unwrap();
    assert_eq!(verdict("readers").await, Some(Verdict::Rewound));
    for _ in 0..9 {
        world.monitor.sample().await.unwrap();
    }
    assert_eq!(verdict("readers").await, Some(Verdict::Stalled), "it has members, and lies still");
    drop(member);
    for round in 1..=10 {
        world.monitor.sample().await.unwrap();
        let expected = if round < 10 { Verdict::Stalled } else { Verdict::Stopped };
        assert_eq!(verdict("readers").await, Some(expected), "{round}");
    }
    world.reset("readers", ResetTo::Latest).await.unwrap();
    world.monitor.sample().await.unwrap();
    let lag = world.groups.lag("readers").await.unwrap();
    assert_eq!((lag.verdict, lag.total_lag), (Some(Verdict::Ok), 0));
    world.groups.delete("readers").await.unwrap();
    world.monitor.sample().await.unwrap();
    assert_eq!(world.monitor.verdicts(&GroupName::new("readers").unwrap()).partitions.len(), 0);
}

#[tokio::test]
async fn positions_in_what_is_gone_have_no_verdict_and_hold_up_none() {
    let world = filled().await;
    world.set("billing", &[(at("orders", 1), 0)]).await;
    world.memory.admin().delete(&TopicName::new("mails").unwrap()).await.unwrap();
    for _ in 0..10 {
        world.monitor.sample().await.unwrap();
    }
    let judged = world.monitor.verdicts(&GroupName::new("billing").unwrap()).partitions;
    assert_eq!(judged, [(at("orders", 0), Verdict::Stopped), (at("orders", 1), Verdict::Ok)].into());
    // A topic that was made anew has fewer partitions; those that it has are judged anew.
    let orders = TopicName::new("orders").unwrap();
    world.memory.admin().delete(&orders).await.unwrap();
    let config = std::collections::BTreeMap::new();
    let spec = ports::TopicSpec { name: orders, partitions: 1, replication_factor: None, config };
    world.memory.admin().create(spec).await.unwrap();
    world.monitor.sample().await.unwrap();
    let judged = world.monitor.verdicts(&GroupName::new("billing").unwrap());
    assert_eq!(judged.partitions[&at("orders", 0)], Verdict::Ok);
}

/// Groups whose calls are counted.
fn counted(groups: usize, partitions: u32) -> (Arc<MockGroupAdmin>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut admin = MockGroupAdmin::new();
    let counting = calls.clone();
    admin.expect_list().returning(move || {
        counting.fetch_add(1, Relaxed);
        let summary = |number| GroupSummary {
            name: GroupName::new(&format!("group-{number:04}")).unwrap(),
            state: GroupState::Stable,
            group_type: GroupType::Classic,
        };
        Ok((0..groups).map(summary).collect())
    });
    let counting = calls.clone();
    admin.expect_offsets().returning(move |names| {
        counting.fetch_add(1, Relaxed);
        let position = |partition| (at("orders", partition), Committed { next: 5, metadata: "".into() });
        let offsets: GroupOffsets = (0..partitions).map(position).collect();
        names.iter().map(|_| Ok(offsets.clone())).collect()
    });
    (Arc::new(admin), calls)
}

/// A log of one topic with so many partitions, whose questions for ends are counted.
fn ends(partitions: u32) -> (Arc<MockEventLog>, Arc<AtomicUsize>, Arc<Topics>, Arc<TestClock>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut log = MockEventLog::new();
    let counting = calls.clone();
    log.expect_locate().returning(move |_, at| {
        counting.fetch_add(1, Relaxed);
        Ok(vec![7; at.len()])
    });
    let log = Arc::new(log);
    let clock = Arc::new(TestClock::new());
    let mut admin = ports::MockTopicAdmin::new();
    admin.expect_describe().returning(move |name| {
        let partition = |partition| ports::PartitionInfo {
            partition,
            leader: Some(0),
            replicas: vec![0],
            in_sync_replicas: vec![0],
            earliest: 0,
            latest: 7,
        };
        let partitions = (0..partitions).map(partition).collect();
        let config = std::collections::BTreeMap::new();
        Ok(Some(ports::TopicInfo { name: name.clone(), id: "1".into(), partitions, config, internal: false }))
    });
    let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
    let topics =
        Topics::new(Arc::new(admin), log.clone(), clock.clone(), Arc::new(Limits::default()), defaults);
    (log, calls, topics, clock)
}

#[tokio::test]
async fn a_thousand_groups_over_one_topic_are_sampled_by_six_calls() {
    let (admin, groups) = counted(1000, 100);
    let (log, ends, topics, clock) = ends(100);
    let monitor = LagMonitor::new(admin, log, topics, clock, LagConfig::default());
    for round in 1..=10 {
        monitor.sample().await.unwrap();
        let calls = (groups.load(Relaxed), ends.load(Relaxed));
        assert_eq!(calls, (5 * round, round), "one list, four times positions, one time ends");
    }
    let verdicts = monitor.verdicts(&GroupName::new("group-0999").unwrap());
    assert_eq!((verdicts.samples, verdicts.partitions.len()), (10, 100));
    assert!(verdicts.partitions.values().all(|verdict| *verdict == Verdict::Stalled));
}

#[tokio::test]
async fn what_is_beyond_the_bound_is_not_sampled() {
    let (admin, _) = counted(10, 10);
    let (log, _, topics, clock) = ends(10);
    let config = LagConfig { windows_max: 25, ..LagConfig::default() };
    let monitor = LagMonitor::new(admin, log, topics, clock, config);
    for _ in 0..3 {
        monitor.sample().await.unwrap();
    }
    let of = |number: u32| {
        monitor.verdicts(&GroupName::new(&format!("group-{number:04}")).unwrap()).partitions.len()
    };
    assert_eq!((0..10).map(of).collect::<Vec<_>>(), [10, 10, 5, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn samples_are_taken_every_interval_also_after_one_that_failed() {
    let (log, _, topics, clock) = ends(1);
    let mut admin = MockGroupAdmin::new();
    let rounds = Arc::new(AtomicUsize::new(0));
    let counting = rounds.clone();
    admin.expect_list().returning(move || match counting.fetch_add(1, Relaxed) {
        1 => Err(ports::PortError::new(ports::ErrorKind::Unavailable, "group_admin.list", "away")),
        _ => Ok(Vec::new()),
    });
    let config = LagConfig { interval: Duration::from_secs(10), ..LagConfig::default() };
    let monitor = LagMonitor::new(Arc::new(admin), log, topics, clock, config);
    // Ends in the middle between two rounds.
    let ended = tokio::time::timeout(Duration::from_secs(45), monitor.run()).await;
    assert!(ended.is_err(), "it goes on for ever");
    assert_eq!(rounds.load(Relaxed), 4);
}

#[tokio::test]
async fn a_group_that_is_joined_while_it_is_reset_is_told_by_whom() {
    let world = World::new().await;
    let mut admin = MockGroupAdmin::new();
    let looks = AtomicUsize::new(0);
    admin.expect_describe().returning(move |name| {
        let member = GroupMember {
            id: "m-1".into(),
            client_id: "shop".into(),
            host: "10.0.0.7".into(),
            assignment: [].into(),
        };
        let members = if looks.fetch_add(1, Relaxed) == 0 { Vec::new() } else { vec![member] };
        let state = if members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        Ok(Some(GroupInfo { name: name.clone(), state, group_type: GroupType::Classic, members }))
    });
    admin.expect_offsets().returning(|names| names.iter().map(|_| Ok(GroupOffsets::new())).collect());
    admin.expect_set_offsets().returning(|_, to| {
        let conflict =
            || ports::PortError::new(ports::ErrorKind::Conflict, "group_admin.set_offsets", "has members");
        to.iter().map(|_| Err(conflict())).collect()
    });
    let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
    let (memory, clock) = (&world.memory, world.clock.clone());
    let topics =
        Topics::new(memory.admin(), memory.log(), clock.clone(), Arc::new(Limits::default()), defaults);
    let groups = Groups::new(Arc::new(admin), memory.log(), clock, topics, world.subscriptions.clone(), None);
    let to = ResetTo::Latest;
    let reset = GroupReset { topic: Some("orders".into()), partitions: None, to, dry_run: false };
    let error = groups.reset("late", reset).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::GroupActive);
    assert!(error.detail().contains("`shop` at 10.0.0.7 (member `m-1`)"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_reset_ever_leaves_what_a_partition_holds(
        (records, trimmed, from) in (0..30_u64, 0..30_u64, 0..60_u64),
        to in prop_oneof![
            any::<i64>().prop_map(ResetTo::Offset), (0..40_i64).prop_map(ResetTo::Offset),
            any::<i64>().prop_map(ResetTo::ShiftBy), (-40..40_i64).prop_map(ResetTo::ShiftBy),
            (0..40_i64).prop_map(|ms| ResetTo::Timestamp(Timestamp(ms))),
            Just(ResetTo::Earliest), Just(ResetTo::Latest),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            world.append(&at("mails", 0), 0..records as i64).await;
            let earliest = trimmed.min(records);
            world.memory.admin().trim(&TopicName::new("mails").unwrap(), &[(0, earliest)]).await.unwrap();
            world.set("g", &[(at("mails", 0), from)]).await;
            match world.reset("g", to.clone()).await {
                Ok(_) => {
                    let next = world.committed("g").await[0].1;
                    assert!((earliest..=records).contains(&next), "{to:?}: {next}");
                }
                Err(error) => assert!(matches!(to, ResetTo::Offset(offset) if offset < 0), "{error}"),
            }
        });
    }
}

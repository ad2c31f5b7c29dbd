//! Topics over a cluster whose nodes learn things one after another, or do not answer.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use domain::{
    ErrorCode, Limits,
    topics::{NewTopic, TopicDefaults, Topics},
};
use ports::{
    Clock, ErrorKind, MockClock, MockEventLog, MockTopicAdmin, Monotonic, PartitionInfo, PortError,
    TopicInfo, TopicName,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use testkit::clock::TestClock;

fn info(name: &TopicName) -> TopicInfo {
    let partition = |partition| PartitionInfo {
        partition,
        leader: Some(0),
        replicas: vec![0],
        in_sync_replicas: vec![0],
        earliest: 0,
        latest: 0,
    };
    TopicInfo {
        name: name.clone(),
        id: "one".into(),
        partitions: (0..3).map(partition).collect(),
        config: BTreeMap::new(),
        internal: false,
    }
}

fn topics(admin: MockTopicAdmin) -> Arc<Topics> {
    topics_at(Arc::new(TestClock::new()), admin)
}

fn topics_at(clock: Arc<dyn Clock>, admin: MockTopicAdmin) -> Arc<Topics> {
    let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
    let log = Arc::new(MockEventLog::new());
    Topics::new(Arc::new(admin), log, clock, Arc::new(Limits::default()), defaults)
}

/// Topics that are described by what `answer` says to the n-th question.
fn described_by(
    answer: impl Fn(u32, &TopicName) -> ports::Result<Option<TopicInfo>> + Send + Sync + 'static,
) -> MockTopicAdmin {
    let asked = AtomicU32::new(0);
    let mut admin = MockTopicAdmin::new();
    admin.expect_describe().returning(move |name| answer(asked.fetch_add(1, Relaxed), name));
    admin
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_is_described_though_not_all_nodes_have_heard_of_it() {
    let mut admin = described_by(|asked, name| Ok((asked >= 3).then(|| info(name))));
    admin.expect_create().returning(|_| Ok(()));
    let made = topics(admin).create(NewTopic { name: "orders".into(), ..NewTopic::default() }).await.unwrap();
    assert_eq!(made.name.as_str(), "orders");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_and_that_nobody_hears_of_is_not_waited_for_without_end() {
    let mut admin = described_by(|_, _| Ok(None));
    admin.expect_create().returning(|_| Ok(()));
    let new = NewTopic { name: "orders".into(), ..NewTopic::default() };
    assert_eq!(topics(admin).create(new).await.unwrap_err().code(), ErrorCode::TopicNotFound);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_of_a_topic_holds_while_nobody_answers_and_no_longer_than_that() {
    let name = TopicName::new("orders").unwrap();
    let topics = topics(described_by(|asked, name| match asked {
        0 => Ok(Some(info(name))),
        1 => Err(PortError::new(ErrorKind::Timeout, "topic_admin.describe", "nobody answers")),
        _ => Ok(None),
    }));
    let known = topics.meta(&name).await.unwrap();
    assert_eq!(known.as_ref().unwrap().partitions, 3);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(topics.meta(&name).await.unwrap(), known, "nobody answers");
    assert_eq!(topics.meta(&name).await.unwrap(), known, "and nobody is asked each time");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(topics.meta(&name).await.unwrap(), None, "it is not there");
}

#[tokio::test]
async fn what_nobody_answered_for_long_is_not_asked_again_at_once() {
    let seconds = Arc::new(AtomicU64::new(0));
    let (shown, asked) = (seconds.clone(), Arc::new(AtomicU32::new(0)));
    let mut clock = MockClock::new();
    clock.expect_monotonic().returning(move || Monotonic(Duration::from_secs(shown.load(Relaxed))));
    let (passing, counted) = (seconds.clone(), asked.clone());
    let topics = topics_at(
        Arc::new(clock),
        described_by(move |asked, name| {
            counted.store(asked + 1, Relaxed);
            if asked == 0 {
                return Ok(Some(info(name)));
            }
            passing.fetch_add(20, Relaxed);
            Err(PortError::new(ErrorKind::Timeout, "topic_admin.describe", "nobody answers"))
        }),
    );
    let name = TopicName::new("orders").unwrap();
    let known = topics.meta(&name).await.unwrap();
    seconds.store(11, Relaxed);
    assert_eq!(topics.meta(&name).await.unwrap(), known);
    assert_eq!(topics.meta(&name).await.unwrap(), known);
    assert_eq!(asked.load(Relaxed), 2, "once for the first answer, once for the one that did not come");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_nothing_is_known_of_is_not_made_up_while_nobody_answers() {
    let topics = topics(described_by(|_, _| {
        Err(PortError::new(ErrorKind::Timeout, "topic_admin.describe", "nobody answers"))
    }));
    let error = topics.meta(&TopicName::new("orders").unwrap()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
}

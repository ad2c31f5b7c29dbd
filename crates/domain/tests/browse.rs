//! What browsing, the live tail and the operator's view of topics promise, over the reference model.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use adapters_embedded::memory::Memory;
use domain::{
    Error, ErrorCode, Limits,
    browse::{Browser, Cursor, Page, Start},
    topics::{NewTopic, Purge, TopicChange, TopicDefaults, Topics},
};
use ports::{AppendRequest, Clock, PartitionId, Position, Record, Timestamp, TopicName};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::clock::TestClock;

struct Fixture {
    memory: Memory,
    clock: Arc<dyn Clock>,
    topics: Arc<Topics>,
    browser: Browser,
}

const TOPIC: &str = "orders";

impl Fixture {
    async fn new(partitions: i64) -> Self {
        Self::with_limits(partitions, Limits::default()).await
    }

    async fn with_limits(partitions: i64, limits: Limits) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let memory = Memory::new(clock.clone());
        let limits = Arc::new(limits);
        let defaults = TopicDefaults { auto_create: false, partitions: 3, replication_factor: None };
        let topics = Topics::new(memory.admin(), memory.log(), clock.clone(), limits.clone(), defaults);
        let new = NewTopic { name: TOPIC.into(), partitions: Some(partitions), ..NewTopic::default() };
        topics.create(new).await.unwrap();
        let browser = Browser::new(memory.log(), topics.clone(), limits, clock.clone());
        Self { memory, clock, topics, browser }
    }

    /// Appends values at their own times, in milliseconds.
    async fn append(&self, records: &[(PartitionId, i64, &'static str)]) {
        let record = |&(partition, time, value): &(PartitionId, i64, &'static str)| {
            let value = Some(value.into());
            (partition, Record { value, timestamp: Timestamp(time), ..Record::default() })
        };
        let request = AppendRequest {
            topic: TopicName::new(TOPIC).unwrap(),
            records: records.iter().map(record).collect(),
            timeout: Duration::from_secs(1),
        };
        assert!(self.memory.log().append(request).await.outcomes.iter().all(Result::is_ok));
    }

    async fn page(&self, start: Start, limit: i64) -> Page {
        self.browser.page(TOPIC, start, Some(limit)).await.unwrap()
    }

    async fn refused(&self, start: Start, limit: Option<i64>) -> Error {
        self.browser.page(TOPIC, start, limit).await.unwrap_err()
    }
}

fn values(page: &Page) -> Vec<&str> {
    page.events
        .iter()
        .map(|e| std::str::from_utf8(e.record.record.value.as_deref().unwrap()).unwrap())
        .collect()
}

fn earliest() -> Start {
    Start::From(Position::Earliest)
}

#[tokio::test(start_paused = true)]
async fn pages_by_cursor_give_everything_once_and_merge_partitions_by_time() {
    let it = Fixture::new(3).await;
    it.append(&[(0, 10, "a"), (1, 20, "b"), (2, 30, "c"), (0, 40, "d"), (1, 50, "e"), (0, 60, "f")]).await;
    let mut seen = Vec::new();
    let mut start = earliest();
    loop {
        let page = it.page(start, 2).await;
        if page.events.is_empty() {
            break;
        }
        seen.extend(values(&page).into_iter().map(str::to_owned));
        start = Start::Cursor(page.next.to_string().parse().unwrap());
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_can_begin_at_an_offset_a_time_or_the_end() {
    let it = Fixture::new(2).await;
    it.append(&[(0, 10, "a"), (0, 20, "b"), (1, 30, "c"), (0, 40, "d")]).await;
    assert_eq!(values(&it.page(Start::Partition { partition: 0, offset: 1 }, 10).await), ["b", "d"]);
    assert_eq!(values(&it.page(Start::From(Position::Timestamp(Timestamp(30))), 10).await), ["c", "d"]);
    let end = it.page(Start::From(Position::Latest), 10).await;
    assert!(end.events.is_empty());
    assert_eq!(end.next, Cursor(BTreeMap::from([(0, 3), (1, 1)])));
}

#[tokio::test(start_paused = true)]
async fn what_retention_took_is_passed_over() {
    let it = Fixture::new(1).await;
    it.append(&[(0, 10, "a"), (0, 20, "b"), (0, 30, "c")]).await;
    it.topics.purge(TOPIC, Purge::Offsets(BTreeMap::from([("0".into(), 2)]))).await.unwrap();
    assert_eq!(values(&it.page(Start::Partition { partition: 0, offset: 0 }, 10).await), ["c"]);
    assert_eq!(values(&it.page(Start::Cursor(Cursor(BTreeMap::from([(0, 1)]))), 10).await), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_bounded_in_bytes_and_goes_on_where_it_ended() {
    let limits = Limits { response_bytes_max: 100, ..Limits::default() };
    let it = Fixture::with_limits(1, limits).await;
    it.append(&[(0, 10, "a"), (0, 20, "b"), (0, 30, "c"), (0, 40, "d"), (0, 50, "e")]).await;
    let first = it.page(earliest(), 100).await;
    assert!((1..5).contains(&first.events.len()), "{first:?}");
    let rest = it.page(Start::Cursor(first.next.clone()), 100).await;
    assert_eq!(rest.events[0].record.offset, first.events.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_bad_place_is_refused_by_field() {
    let it = Fixture::new(2).await;
    it.append(&[(0, 10, "a")]).await;
    let field = |error: Error| {
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        error.fields()[0].field.clone()
    };
    assert_eq!(field(it.refused(Start::Partition { partition: 2, offset: 0 }, None).await), "partition");
    assert_eq!(field(it.refused(Start::Partition { partition: -1, offset: 0 }, None).await), "partition");
    assert_eq!(field(it.refused(Start::Partition { partition: 0, offset: -1 }, None).await), "offset");
    assert_eq!(field(it.refused(Start::Partition { partition: 0, offset: 2 }, None).await), "offset");
    assert_eq!(field(it.refused(Start::Cursor(Cursor(BTreeMap::from([(7, 0)]))), None).await), "cursor");
    assert_eq!(field(it.refused(earliest(), Some(0)).await), "limit");
    assert_eq!(field(it.refused(earliest(), Some(i64::MAX)).await), "limit");
    for cursor in ["", "0", "0:", ":1", "0:1,", "0:1,0:2", "x:1", "0:-1", "0:99999999999999999999"] {
        assert_eq!(cursor.parse::<Cursor>().unwrap_err().fields()[0].field, "cursor", "{cursor}");
    }
    let unknown = it.browser.page("nope", earliest(), None).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::TopicNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_tail_gives_what_comes_and_its_cursors_resume_without_gap_or_repeat() {
    let it = Fixture::new(2).await;
    it.append(&[(0, 10, "before")]).await;
    let mut tail = it.browser.tail(TOPIC, Start::From(Position::Latest)).await.unwrap();
    assert!(tail.next(Duration::from_secs(5)).await.unwrap().events.is_empty());
    it.append(&[(0, 20, "a"), (1, 30, "b"), (0, 40, "c")]).await;
    let mut cursors = Vec::new();
    while cursors.len() < 3 {
        for (browsed, cursor) in tail.next(Duration::from_secs(5)).await.unwrap().events {
            cursors.push((browsed.record.record.timestamp.0, cursor));
        }
    }
    // A client that saw only the first one goes on with the other two.
    let mut resumed = it.browser.tail(TOPIC, Start::Cursor(cursors[0].1.clone())).await.unwrap();
    let mut rest = Vec::new();
    while rest.len() < 2 {
        let events = resumed.next(Duration::from_secs(5)).await.unwrap().events;
        rest.extend(events.into_iter().map(|(browsed, _)| browsed.record.record.timestamp.0));
    }
    rest.push(cursors[0].0);
    rest.sort_unstable();
    assert_eq!(rest, [20, 30, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_is_overtaken_by_retention_goes_on_and_one_whose_topic_goes_ends() {
    let it = Fixture::new(1).await;
    it.append(&[(0, 10, "a"), (0, 20, "b"), (0, 30, "c")]).await;
    let mut tail = it.browser.tail(TOPIC, earliest()).await.unwrap();
    it.topics.purge(TOPIC, Purge::Offsets(BTreeMap::from([("0".into(), 2)]))).await.unwrap();
    let batch = tail.next(Duration::from_secs(5)).await.unwrap();
    assert_eq!(batch.events.len(), 1);
    it.topics.delete(TOPIC).await.unwrap();
    let gone = tail.next(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::TopicNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_changed_purged_and_deleted() {
    let it = Fixture::new(2).await;
    let again = NewTopic { name: TOPIC.into(), ..NewTopic::default() };
    assert_eq!(it.topics.create(again).await.unwrap_err().code(), ErrorCode::AlreadyExists);
    let change = TopicChange {
        partitions: Some(4),
        config: BTreeMap::from([("retention.ms".into(), Some("60000".into()))]),
    };
    let changed = it.topics.alter(TOPIC, change).await.unwrap();
    assert_eq!(changed.partitions.len(), 4);
    assert_eq!(changed.config["retention.ms"], "60000");
    let reset = TopicChange { partitions: None, config: BTreeMap::from([("retention.ms".into(), None)]) };
    assert_ne!(
        it.topics.alter(TOPIC, reset).await.unwrap().config.get("retention.ms").map(String::as_str),
        Some("60000")
    );
    it.append(&[(0, 10, "a"), (0, 20, "b")]).await;
    let purged = it.topics.purge(TOPIC, Purge::All).await.unwrap();
    assert_eq!(purged, BTreeMap::from([(0, 2), (1, 0), (2, 0), (3, 0)]));
    it.topics.delete(TOPIC).await.unwrap();
    assert_eq!(it.topics.get(TOPIC).await.unwrap_err().code(), ErrorCode::TopicNotFound);
    assert!(it.topics.list().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bad_topic_is_refused_by_field_and_changes_nothing() {
    let it = Fixture::new(2).await;
    let new = |name: &str, partitions, replication_factor, config: &[(&str, &str)]| NewTopic {
        name: name.into(),
        partitions,
        replication_factor,
        config: config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    for (new, field) in [
        (new("a/b", None, None, &[]), "name"),
        (new("ok", Some(0), None, &[]), "partitions"),
        (new("ok", Some(1_000_000), None, &[]), "partitions"),
        (new("ok", Some(1), Some(0), &[]), "replicationFactor"),
        (new("ok", Some(1), Some(99), &[]), "replicationFactor"),
        (new("ok", Some(1), None, &[("retention.ms", "soon")]), "config.retention.ms"),
        (new("ok", Some(1), None, &[("", "1")]), "config."),
    ] {
        let error = it.topics.create(new).await.unwrap_err();
        assert_eq!(
            (error.code(), error.fields().first().map(|f| f.field.as_str())),
            (ErrorCode::InvalidRequest, Some(field))
        );
    }
    let fewer = TopicChange {
        partitions: Some(1),
        config: BTreeMap::from([("retention.ms".into(), Some("5".into()))]),
    };
    assert_eq!(it.topics.alter(TOPIC, fewer).await.unwrap_err().fields()[0].field, "partitions");
    assert_ne!(it.topics.get(TOPIC).await.unwrap().config.get("retention.ms").map(String::as_str), Some("5"));
    for (purge, field) in [
        (BTreeMap::from([("0".to_owned(), 1)]), "before.0"),
        (BTreeMap::from([("0".to_owned(), -1)]), "before.0"),
        (BTreeMap::from([("9".to_owned(), 0)]), "before.9"),
        (BTreeMap::from([("x".to_owned(), 0)]), "before.x"),
    ] {
        assert_eq!(it.topics.purge(TOPIC, Purge::Offsets(purge)).await.unwrap_err().fields()[0].field, field);
    }
    assert_eq!(it.topics.list().await.unwrap().len(), 1);
    assert_eq!(it.clock.monotonic(), ports::Monotonic::default());
}

#[tokio::test(start_paused = true)]
async fn the_directory_notices_within_seconds_what_another_hand_changed() {
    let it = Fixture::new(2).await;
    let name = TopicName::new(TOPIC).unwrap();
    assert_eq!(it.topics.meta(&name).await.unwrap().unwrap().partitions, 2);
    it.memory.admin().add_partitions(&name, 5).await.unwrap();
    assert_eq!(it.topics.meta(&name).await.unwrap().unwrap().partitions, 2, "it is remembered");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(it.topics.meta(&name).await.unwrap().unwrap().partitions, 5);
}

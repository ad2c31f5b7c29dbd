//! What publishing promises, over mocks: each test scripts what the log says.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Event, Limits,
    partition::{PartitionStrategy, by_hash},
    publish::{
        Item, Pattern, PublishConfig, PublishContext, Publisher, Rejected, Route, RouteMatch, TopicRule,
    },
    topics::{TopicDefaults, Topics},
};
use ports::{
    AppendRequest, AppendResult, Appended, Effect, ErrorKind, MockEventLog, MockTopicAdmin, PartitionInfo,
    PortError, Timestamp, TopicInfo, TopicName,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use testkit::clock::TestClock;

fn describe(name: &TopicName, partitions: u32) -> TopicInfo {
    TopicInfo {
        name: name.clone(),
        id: format!("id-of-{name}"),
        partitions: (0..partitions)
            .map(|partition| PartitionInfo {
                partition,
                leader: Some(0),
                replicas: vec![0],
                in_sync_replicas: vec![0],
                earliest: 0,
                latest: 0,
            })
            .collect(),
        config: BTreeMap::from([("max.message.bytes".to_owned(), "2000".to_owned())]),
        internal: false,
    }
}

/// Topics that begin with `orders` are there, with four partitions each.
fn admin() -> MockTopicAdmin {
    let mut admin = MockTopicAdmin::new();
    admin
        .expect_describe()
        .returning(|name| Ok(name.as_str().starts_with("orders").then(|| describe(name, 4))));
    admin
}

type Requests = Arc<Mutex<Vec<AppendRequest>>>;

/// A log that keeps what it is asked, and answers each record by `outcome`.
fn log(
    outcome: impl Fn(usize, &ports::Record) -> ports::Result<Appended> + Send + Sync + 'static,
) -> (MockEventLog, Requests) {
    let requests = Requests::default();
    let kept = requests.clone();
    let mut log = MockEventLog::new();
    log.expect_append().returning(move |request| {
        let outcomes =
            request.records.iter().enumerate().map(|(index, (_, record))| outcome(index, record)).collect();
        kept.lock().unwrap().push(request);
        AppendResult::complete(outcomes)
    });
    (log, requests)
}

fn accepting() -> (MockEventLog, Requests) {
    log(|index, record| Ok(Appended { offset: 100 + index as u64, timestamp: record.timestamp }))
}

fn publisher_with(
    log: MockEventLog,
    admin: MockTopicAdmin,
    config: PublishConfig,
    auto_create: bool,
) -> Publisher {
    let clock = Arc::new(TestClock::new());
    let limits = Arc::new(Limits { batch_events_max: 5, ..Limits::default() });
    let log: Arc<dyn ports::EventLog> = Arc::new(log);
    let defaults = TopicDefaults { auto_create, partitions: 3, replication_factor: None };
    let topics = Topics::new(Arc::new(admin), log.clone(), clock.clone(), limits.clone(), defaults);
    Publisher::new(log, topics, clock, limits, config)
}

fn publisher(log: MockEventLog) -> Publisher {
    publisher_with(log, admin(), PublishConfig::default(), false)
}

fn context() -> PublishContext {
    PublishContext {
        principal: ByteString::from_static("anonymous"),
        source: ByteString::from_static("/event-streaming"),
        correlation_id: Some(ByteString::from_static("from-the-request")),
        traceparent: None,
        tracestate: None,
    }
}

fn keyed(key: &'static str, data: &'static str) -> Event {
    Event {
        key: Some(Bytes::from_static(key.as_bytes())),
        data: Some(Bytes::from_static(data.as_bytes())),
        ..Event::default()
    }
}

fn items(events: impl IntoIterator<Item = Event>) -> Vec<Item> {
    events.into_iter().map(Ok).collect()
}

fn header(record: &ports::Record, name: &str) -> Option<String> {
    let header = record.headers.iter().find(|header| *header.name == *name)?;
    Some(String::from_utf8(header.value.clone()?.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_append_and_is_answered_in_its_order() {
    let (log, requests) = accepting();
    let receipts = publisher(log)
        .publish(Some("orders"), items([keyed("a", "1"), keyed("b", "2")]), &context())
        .await
        .unwrap();
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 1, "one append for the whole batch");
    for (index, (receipt, key)) in receipts.into_iter().zip(["a", "b"]).enumerate() {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.offset, 100 + index as u64);
        assert_eq!(receipt.partition, by_hash(key.as_bytes(), 4));
        assert_eq!(receipt.timestamp, TestClock::EPOCH);
        let record = &requests[0].records[index].1;
        assert_eq!(header(record, "ce_id").as_deref(), Some(&*receipt.id));
        assert_eq!(header(record, "ce_correlationid").as_deref(), Some("from-the-request"));
    }
}

#[tokio::test]
async fn a_correlation_id_in_the_event_beats_the_requests() {
    let (log, requests) = accepting();
    let event = Event { correlation_id: Some("its-own".into()), ..Event::default() };
    publisher(log).publish(Some("orders"), items([event]), &context()).await.unwrap();
    assert_eq!(
        header(&requests.lock().unwrap()[0].records[0].1, "ce_correlationid").as_deref(),
        Some("its-own")
    );
}

/// A key's order holds only if nothing of that key is appended behind a gap.
#[tokio::test]
async fn what_follows_a_failed_event_of_its_key_is_not_appended() {
    let (log, requests) = accepting();
    let batch = vec![
        Err(Rejected { error: Error::invalid("type", "is wrong"), key: Some(Bytes::from_static(b"a")) }),
        Ok(keyed("b", "1")),
        Ok(keyed("a", "2")),
        Ok(Event { id: Some("".into()), ..keyed("b", "3") }),
        Ok(keyed("b", "4")),
    ];
    let results = publisher(log).publish(Some("orders"), batch, &context()).await.unwrap();
    let codes: Vec<_> = results.iter().map(|r| r.as_ref().err().map(Error::code)).collect();
    assert_eq!(
        codes,
        [
            Some(ErrorCode::InvalidRequest),
            None,
            Some(ErrorCode::PredecessorFailed),
            Some(ErrorCode::InvalidRequest),
            Some(ErrorCode::PredecessorFailed),
        ]
    );
    let requests = requests.lock().unwrap();
    assert_eq!(requests[0].records.len(), 1);
    assert_eq!(requests[0].records[0].1.value.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn an_unknown_topic_fails_the_request_and_is_asked_for_again_next_time() {
    let (log, requests) = accepting();
    let publisher = publisher(log);
    let error = publisher.publish(Some("unknown"), items([keyed("a", "1")]), &context()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TopicNotFound);
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_names_and_sizes_of_requests_name_the_field() {
    let (log, _) = accepting();
    let publisher = publisher(log);
    let long = "a".repeat(250);
    for name in ["..", "a/b", "a\0b", "", long.as_str()] {
        let error = publisher.publish(Some(name), items([Event::default()]), &context()).await.unwrap_err();
        assert_eq!(
            (error.code(), &*error.fields()[0].field),
            (ErrorCode::InvalidRequest, "topic"),
            "{name:?}"
        );
    }
    let error = publisher.publish(Some("orders"), vec![], &context()).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "events");
    let six = items((0..6).map(|_| Event::default()));
    let error = publisher.publish(Some("orders"), six, &context()).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "events");
}

#[tokio::test]
async fn a_partition_that_is_not_there_and_an_event_too_large_fail_alone() {
    let (log, _) = accepting();
    let batch = items([
        Event { partition: Some(4), ..Event::default() },
        Event { data: Some(Bytes::from(vec![b'x'; 3000])), ..Event::default() },
        Event { partition: Some(3), ..Event::default() },
    ]);
    let results = publisher(log).publish(Some("orders"), batch, &context()).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().fields()[0].field, "partition");
    assert_eq!(results[1].as_ref().unwrap_err().code(), ErrorCode::EventTooLarge);
    assert_eq!(results[2].as_ref().unwrap().partition, 3);
}

#[tokio::test]
async fn nothing_accepted_for_want_of_the_log_fails_the_request_and_says_the_effect() {
    let (log, _) = log(|index, _| {
        let error = PortError::new(ErrorKind::Unavailable, "event_log.append", "the log is away");
        Err(if index == 1 { error.effect_unknown() } else { error })
    });
    let error = publisher(log)
        .publish(Some("orders"), items([keyed("a", "1"), keyed("b", "2")]), &context())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert_eq!(error.effect(), Some(Effect::Unknown), "one of them may be there");
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn a_part_that_the_log_refused_leaves_the_receipts_of_the_rest() {
    let (log, _) = log(|index, record| match index {
        0 => {
            Err(PortError::new(ErrorKind::Timeout, "event_log.append", "no answer in time").effect_unknown())
        }
        _ => Ok(Appended { offset: 7, timestamp: record.timestamp }),
    });
    let results = publisher(log)
        .publish(Some("orders"), items([keyed("a", "1"), keyed("b", "2")]), &context())
        .await
        .unwrap();
    let error = results[0].as_ref().unwrap_err();
    assert_eq!((error.code(), error.effect()), (ErrorCode::Timeout, Some(Effect::Unknown)));
    assert_eq!(results[1].as_ref().unwrap().offset, 7);
}

#[tokio::test]
async fn routes_send_events_without_a_topic_to_one_each_with_one_append_a_topic() {
    let (log, requests) = accepting();
    let topic = |name: &str| TopicName::new(name).unwrap();
    let config = PublishConfig {
        routes: vec![
            Route { when: RouteMatch::Type(Pattern::new("order.*")), topic: topic("orders") },
            Route {
                when: RouteMatch::Attribute { name: "region".into(), value: Pattern::new("eu") },
                topic: topic("orders.eu"),
            },
            Route { when: RouteMatch::Type(Pattern::new("lost")), topic: topic("unknown") },
        ],
        topics: vec![TopicRule {
            topics: Pattern::new("orders.e*"),
            strategy: PartitionStrategy::Tenant,
            event_type: Some("from-rule".into()),
        }],
        ..PublishConfig::default()
    };
    let publisher = publisher_with(log, admin(), config, false);
    let of_type = |t: &str| Event { event_type: Some(t.into()), ..Event::default() };
    let eu = Event {
        extensions: vec![("region".into(), "eu".into())],
        tenant_id: Some("t1".into()),
        ..Event::default()
    };
    let batch = items([of_type("order.created"), eu, of_type("order.paid"), of_type("x"), of_type("lost")]);
    let results = publisher.publish(None, batch, &context()).await.unwrap();
    let topics: Vec<_> = results.iter().map(|r| r.as_ref().map(|r| r.topic.to_string()).ok()).collect();
    assert_eq!(topics, [Some("orders".into()), Some("orders.eu".into()), Some("orders".into()), None, None]);
    assert_eq!(results[1].as_ref().unwrap().partition, by_hash(b"t1", 4));
    assert_eq!(results[3].as_ref().unwrap_err().fields()[0].field, "type");
    assert_eq!(results[4].as_ref().unwrap_err().code(), ErrorCode::TopicNotFound);
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    let of_eu = requests.iter().find(|r| r.topic.as_str() == "orders.eu").unwrap();
    assert_eq!(header(&of_eu.records[0].1, "ce_type").as_deref(), Some("from-rule"));
}

#[tokio::test]
async fn a_topic_is_made_by_need_only_where_that_is_turned_on() {
    let made = Arc::new(Mutex::new(None));
    let mut admin = MockTopicAdmin::new();
    let (kept, seen) = (made.clone(), made.clone());
    admin.expect_create().returning(move |spec| {
        *kept.lock().unwrap() = Some(spec);
        Ok(())
    });
    admin
        .expect_describe()
        .returning(move |name| Ok(seen.lock().unwrap().as_ref().map(|_| describe(name, 3))));
    let (log, _) = accepting();
    let publisher = publisher_with(log, admin, PublishConfig::default(), true);
    publisher.publish(Some("new"), items([Event::default()]), &context()).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(made.lock().unwrap().as_ref().unwrap().partitions, 3);
}

#[tokio::test]
async fn a_topic_that_went_is_looked_up_anew() {
    let asked = Arc::new(Mutex::new(0));
    let mut admin = MockTopicAdmin::new();
    let count = asked.clone();
    admin.expect_describe().returning(move |name| {
        *count.lock().unwrap() += 1;
        Ok(Some(describe(name, 1)))
    });
    let (log, _) = log(|_, _| Err(PortError::new(ErrorKind::NotFound, "event_log.append", "no such topic")));
    let publisher = publisher_with(log, admin, PublishConfig::default(), false);
    for round in 1..=2 {
        let results = publisher.publish(Some("orders"), items([Event::default()]), &context()).await.unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().code(), ErrorCode::TopicNotFound);
        assert_eq!(*asked.lock().unwrap(), round, "what was remembered is forgotten");
    }
}

#[tokio::test]
async fn a_report_after_the_deadline_is_still_heard() {
    let (tell, heard) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let mut log = MockEventLog::new();
    log.expect_append().returning(move |_| {
        let tell = tell.lock().unwrap().take().unwrap();
        AppendResult {
            outcomes: vec![Err(
                PortError::new(ErrorKind::Timeout, "event_log.append", "late").effect_unknown()
            )],
            late: Some(Box::pin(async move {
                let _ = tell.send(());
                vec![(0, Ok(Appended { offset: 1, timestamp: Timestamp(0) }))]
            })),
        }
    });
    let results =
        publisher(log).publish(Some("orders"), items([Event::default()]), &context()).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().code(), ErrorCode::Timeout);
    heard.await.expect("the late report is awaited");
}

#[test]
fn a_pattern_matches_any_run_at_its_stars() {
    for (pattern, text, fits) in [
        ("order.*", "order.created", true),
        ("order.*", "orders", false),
        ("*", "", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("ab*ba", "aba", false),
        ("exact", "exact", true),
        ("exact", "exactly", false),
    ] {
        assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
    }
}

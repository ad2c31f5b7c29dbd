//! What is peculiar to Kafka and its client, beside the conformance lists.
//!
//! Not tested here, and why: a fatal error of the producer or of a member can only be injected through
//! librdkafka's own test hook; that a broker's death stalls a partition until it has left the in-sync replicas
//! needs three nodes (`make test-matrix`); header names and metadata that are no UTF-8 cannot be written with
//! the client crate, and are read by `ffi.rs` for that reason.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_kafka::{Kafka, KafkaConfig};
use common::{abort_a_transaction, config};
use ports::{
    AppendRequest, AppendResult, Effect, ErrorKind, Position, ReadLimits, Record, TopicName, TopicPartition,
    TopicSpec,
};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::{collections::BTreeMap, time::Duration};
use testkit::fixtures;

const PATIENCE: Duration = Duration::from_secs(60);

async fn topic(kafka: &Kafka, partitions: u32, config: &[(&str, &str)]) -> TopicName {
    let name = fixtures::topic_name("pitfalls");
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = TopicSpec { name: name.clone(), partitions, replication_factor: None, config };
    kafka.topic_admin().create(spec).await.expect("the topic can be made");
    name
}

async fn append(
    kafka: &Kafka,
    topic: &TopicName,
    count: usize,
    bytes: usize,
    timeout: Duration,
) -> AppendResult {
    let value = fixtures::payload(&mut fixtures::rng(1), bytes);
    let record = || Record { value: Some(value.clone()), ..Record::default() };
    let records = (0..count).map(|_| (0, record())).collect();
    kafka.event_log().append(AppendRequest { topic: topic.clone(), records, timeout }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_clients_are_made_and_calls_say_that_nothing_happened() {
    // A port that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = listener.local_addr().expect("its number").to_string();
    drop(listener);
    let config = KafkaConfig {
        bootstrap_servers: nobody,
        request_timeout: Duration::from_secs(1),
        ..KafkaConfig::default()
    };
    let kafka = Kafka::open(config).expect("opening does not wait for a broker");
    let topic = TopicName::new("orders").expect("a name");
    let result = append(&kafka, &topic, 3, 10, Duration::from_secs(5)).await;
    assert!(result.late.is_none());
    for outcome in result.outcomes {
        let error = outcome.expect_err("there is no broker");
        assert_eq!(error.effect(), Effect::None, "{error:?}");
        assert!(error.is_safe_to_retry(), "{error:?}");
    }
    let described = kafka.topic_admin().describe(&topic).await.expect_err("there is no broker");
    assert!(matches!(described.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{described:?}");
    kafka.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_buffer_holds_publishers_back_and_loses_nothing() {
    let kafka =
        Kafka::open(KafkaConfig { producer_buffer_bytes: 64 << 10, ..config() }).expect("the clients");
    let topic = topic(&kafka, 1, &[]).await;
    let appends = (0..40).map(|_| append(&kafka, &topic, 50, 1000, PATIENCE));
    let results = futures::future::join_all(appends).await;
    let mut offsets: Vec<_> = results
        .into_iter()
        .flat_map(|result| result.outcomes)
        .map(|outcome| outcome.expect("all fit in the end").offset)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..2000).collect::<Vec<_>>(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_records_fit_a_topic_that_takes_small_batches() {
    let kafka = Kafka::open(config()).expect("the clients");
    let topic = topic(&kafka, 1, &[("max.message.bytes", "20000")]).await;
    let result = append(&kafka, &topic, 500, 1000, PATIENCE).await;
    let offsets: Vec<_> = result.outcomes.into_iter().map(|it| it.expect("small enough").offset).collect();
    assert_eq!(offsets, (0..500).collect::<Vec<_>>(), "in the order of the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_at_the_end_is_passed_and_what_comes_after_it_is_read() {
    let kafka = Kafka::open(config()).expect("the clients");
    let place = TopicPartition::new(topic(&kafka, 1, &[]).await, 0);
    append(&kafka, &place.topic, 2, 10, PATIENCE).await;
    abort_a_transaction(place.clone()).await;
    let log = kafka.event_log();
    let end = log.locate(&place.topic, &[(0, Position::Latest)]).await.expect("the end")[0];
    assert!(end > 2, "there is a gap");
    let mut reader = log.open(&place, 0).await.expect("a reader");
    let limits = ReadLimits { records_max: 10, bytes_max: 1 << 20, wait_max: Duration::from_secs(10) };
    let (mut seen, mut at) = (0, 0);
    let walk = async {
        while at < end {
            let fetched = reader.next(limits).await.expect("it can be read");
            seen += fetched.records.len();
            at = fetched.next;
        }
        append(&kafka, &place.topic, 1, 10, PATIENCE).await;
        while seen < 3 {
            seen += reader.next(limits).await.expect("it can be read").records.len();
        }
    };
    tokio::time::timeout(PATIENCE, walk).await.expect("the gap is passed");
    assert_eq!(seen, 3, "what was aborted is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_of_the_client_is_named() {
    let mut config = config();
    config.common = BTreeMap::from([("no.such.setting".to_owned(), "1".to_owned())]);
    let error = Kafka::open(config).expect_err("librdkafka refuses it");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.detail().contains("no.such.setting"), "{error}");
}

/// librdkafka takes an earlier batch for acknowledged when a later one of the same partition was, trusting
/// the broker to accept them in order alone. A leader that does not know the producer yet accepts any: what it
/// refused first, while it was becoming the leader, would be lost with a receipt
/// (<https://github.com/confluentinc/confluent-kafka-go/issues/921>).
#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_leader_refuses_first_is_never_taken_for_acknowledged() {
    const PARTITIONS: u32 = 12;
    let cluster = MockCluster::new(1).expect("librdkafka's mock of a broker");
    let topic = TopicName::new("orders").expect("a name");
    cluster.create_topic(topic.as_str(), PARTITIONS as i32 + 1, 1).expect("a topic");
    // Long enough that requests follow each other before the first is answered.
    cluster.broker_round_trip_time(1, Duration::from_millis(50)).expect("a slow broker");
    let config = KafkaConfig {
        bootstrap_servers: cluster.bootstrap_servers(),
        request_timeout: Duration::from_secs(1),
        ..KafkaConfig::default()
    };
    let kafka = Kafka::open(config).expect("the clients");
    let log = kafka.event_log();
    let append = |partition| {
        let record = || Record { value: Some("an event".into()), ..Record::default() };
        let records = (0..50).map(|_| (partition, record())).collect();
        log.append(AppendRequest { topic: topic.clone(), records, timeout: PATIENCE })
    };
    // The client knows the topic from now on; the leaders of the other partitions know nothing of the client.
    append(PARTITIONS).await;
    for partition in 0..PARTITIONS {
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION],
        );
        let results = futures::future::join_all((0..20).map(|_| append(partition))).await;
        let mut offsets: Vec<_> = results
            .iter()
            .flat_map(|result| &result.outcomes)
            .map(|outcome| outcome.as_ref().expect("all are taken in the end").offset)
            .collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..1000).collect::<Vec<_>>(), "each has a place of its own");
    }
    kafka.close(PATIENCE).await;
}

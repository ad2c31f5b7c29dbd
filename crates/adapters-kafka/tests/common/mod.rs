//! A real Kafka for tests.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_kafka::KafkaConfig;
use ports::TopicPartition;
use rdkafka::{
    config::ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use std::time::Duration;

/// Where the Kafka is.
///
/// # Panics
/// When nobody says.
pub(crate) fn brokers() -> String {
    std::env::var("KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!(
            "these tests need a Kafka: `scripts/services.sh up kafka`, then set KAFKA_BROKERS as \
             `scripts/services.sh env` says (`make test` does both)"
        )
    })
}

/// How to reach it.
pub(crate) fn config() -> KafkaConfig {
    KafkaConfig { bootstrap_servers: brokers(), ..KafkaConfig::default() }
}

/// Leaves records in a partition that nobody may read, and a marker.
pub(crate) async fn abort_a_transaction(partition: TopicPartition) {
    let abort = move || {
        let id = testkit::fixtures::unique("transaction");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers())
            .set("transactional.id", id)
            .create()
            .expect("a producer");
        let patience = Duration::from_secs(30);
        let end = || {
            let number = partition.partition as i32;
            let marks = producer.client().fetch_watermarks(partition.topic.as_str(), number, patience);
            marks.expect("the end of the partition").1
        };
        let before = end();
        producer.init_transactions(patience).expect("transactions begin");
        producer.begin_transaction().expect("a transaction begins");
        for _ in 0..3 {
            let record: BaseRecord<'_, [u8], str> = BaseRecord::to(partition.topic.as_str());
            let record = record.partition(partition.partition as i32).payload("never happened");
            producer.send(record).map_err(|(e, _)| e).expect("it is queued");
        }
        producer.flush(patience).expect("it is written");
        producer.abort_transaction(patience).expect("it is aborted");
        // The coordinator answers before it has the marker written.
        let written = (0..1000).any(|_| {
            producer.poll(Duration::from_millis(10));
            end() >= before + 4
        });
        assert!(written, "the marker is written");
    };
    tokio::task::spawn_blocking(abort).await.expect("a transaction is aborted");
}

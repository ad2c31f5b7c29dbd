//! The conformance lists on a real Kafka, which `KAFKA_BROKERS` names.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_kafka::{GroupProtocol, Kafka, KafkaConfig};
use common::{abort_a_transaction, config};
use testkit::Backend;

async fn kafka() -> Backend {
    open(config())
}

/// With the newer group protocol (KIP-848), in which brokers assign and there is no session of the client's own.
async fn kafka_with_assigning_brokers() -> Backend {
    open(KafkaConfig { group_protocol: GroupProtocol::Consumer, ..config() })
}

/// The client of a process that has just started.
fn open(config: KafkaConfig) -> Backend {
    let kafka = Kafka::open(config.clone()).expect("the clients can be made");
    Backend::new()
        .with_log(kafka.event_log())
        .with_admin(kafka.topic_admin())
        .with_membership(kafka.membership())
        .with_offsets(kafka.offsets())
        .with_groups(kafka.groups())
        .with_gaps(|partition| Box::pin(async move { abort_a_transaction(partition).await }))
        .with_reopen(move || Box::pin(async move { open(config) }))
}

testkit::event_log_conformance!(kafka_event_log, kafka);
testkit::topic_admin_conformance!(kafka_topic_admin, kafka);
testkit::group_membership_conformance!(kafka_group_membership, kafka);
testkit::offset_store_conformance!(kafka_offset_store, kafka);
testkit::group_admin_conformance!(kafka_group_admin, kafka);
testkit::group_membership_conformance!(
    kafka_assigning_brokers_group_membership,
    kafka_with_assigning_brokers
);
testkit::offset_store_conformance!(kafka_assigning_brokers_offset_store, kafka_with_assigning_brokers);
testkit::group_admin_conformance!(kafka_assigning_brokers_group_admin, kafka_with_assigning_brokers);

//! The conformance lists on a real Kafka, which `KAFKA_BROKERS` names.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_kafka::Kafka;
use common::{abort_a_transaction, config};
use testkit::Backend;

async fn kafka() -> Backend {
    open()
}

/// The client of a process that has just started.
fn open() -> Backend {
    let kafka = Kafka::open(config()).expect("the clients can be made");
    Backend::new()
        .with_log(kafka.event_log())
        .with_admin(kafka.topic_admin())
        .with_membership(kafka.membership())
        .with_offsets(kafka.offsets())
        .with_gaps(|partition| Box::pin(async move { abort_a_transaction(partition).await }))
        .with_reopen(|| Box::pin(async { open() }))
}

testkit::event_log_conformance!(kafka_event_log, kafka);
testkit::topic_admin_conformance!(kafka_topic_admin, kafka);
testkit::group_membership_conformance!(kafka_group_membership, kafka);
testkit::offset_store_conformance!(kafka_offset_store, kafka);

//! What other systems' suites check of consuming and needs the real binary: on both logs what is told by HTTP
//! alone, and on Kafka what only a topic there has: transactions of other producers, and gaps that compaction
//! left.
//!
//! Each test names the suite and the test that it was taken from. What of those suites needs no binary is in
//! the domain's own tests.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, PATIENCE, Service, Setup, eventually, on_every_log, unique};
use futures::future::join_all;
use rdkafka::{
    config::ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, ops::Range, time::Duration};
use tempfile::TempDir;

on_every_log! {
    what_a_purge_took_from_under_a_commit_is_passed_and_what_was_done_beyond_stays_done,
    clients_that_hang_up_while_they_wait_take_nothing_with_them,
}

struct Fixture {
    setup: Setup,
    service: Service,
    client: Client,
    topic: String,
    name: String,
    data: TempDir,
}

/// A topic of one partition, and a subscription to it.
async fn fixture(log: &Log, config: &Value, more: &Value) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("scenarios"), unique("sub"));
    let new = json!({"name": topic, "partitions": 1, "config": config});
    client.post("/v1/topics", &new).await.expect(201);
    let path = format!("/v1/topics/{topic}");
    eventually("the topic is known", async || (client.get(&path).await.status == 200).then_some(())).await;
    client.subscribe(&name, &topic, more).await;
    Fixture { setup, service, client, topic, name, data }
}

impl Fixture {
    async fn lag_is(&self, lag: u64) {
        let path = format!("/v1/subscriptions/{}", self.name);
        eventually("the lag is what it should be", async || {
            (self.client.get(&path).await.expect(200)["lag"] == lag).then_some(())
        })
        .await;
    }

    async fn nothing_comes(&self) {
        assert_eq!(self.client.pull(&self.name, 100, "2s").await, Vec::<Value>::new());
    }

    async fn started_again(self) -> Self {
        let Self { setup, service, topic, name, data, .. } = self;
        service.stop().await;
        let service = setup.start(data.path()).await;
        let client = service.client();
        Self { setup, service, client, topic, name, data }
    }
}

fn numbers(deliveries: &[Value]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery["event"]["data"].as_i64().expect("a number")).collect()
}

/// Parallel Consumer, `PartitionStateCommittedOffsetIT`: `committedOffsetLower`,
/// `bootstrapPollOffsetHigherDueToRetentionOrCompaction`; with events done beyond what was committed, on both
/// sides of where the log begins now.
async fn what_a_purge_took_from_under_a_commit_is_passed_and_what_was_done_beyond_stays_done(log: Log) {
    let more = json!({"ordering": "none", "dedup": {"enabled": false}});
    let it = fixture(&log, &json!({}), &more).await;
    it.client.publish_batch(&it.topic, &(0..20).map(|n| json!({"data": n})).collect::<Vec<_>>()).await;
    let out = it.client.pull_count(&it.name, 20).await;
    let done: Vec<Value> =
        out.into_iter().filter(|one| numbers(std::slice::from_ref(one))[0] % 2 == 1).collect();
    it.client.ack(&it.name, &done).await;
    it.client.post(&format!("/v1/subscriptions/{}/pause", it.name), &json!({})).await.expect(200);
    let path = format!("/v1/topics/{}/purge", it.topic);
    let purged = it.client.post(&path, &json!({"before": {"0": 11}})).await.expect(200);
    assert_eq!(purged["earliestOffsets"], json!({"0": 11}));
    let it = it.started_again().await;
    it.client.post(&format!("/v1/subscriptions/{}/resume", it.name), &json!({})).await.expect(200);
    let mut rest = it.client.pull_count(&it.name, 4).await;
    rest.sort_by_key(|one| one["event"]["data"].as_i64());
    assert_eq!(numbers(&rest), [12, 14, 16, 18]);
    it.client.ack(&it.name, &rest).await;
    it.lag_is(0).await;
    it.nothing_comes().await;
}

/// Watermill: `TestConcurrentClose`, `TestSubscribeCtx`; a client closes by ending its connection.
async fn clients_that_hang_up_while_they_wait_take_nothing_with_them(log: Log) {
    let it = fixture(&log, &json!({}), &json!({"ordering": "none", "ackTimeout": "1h"})).await;
    let clients = 10;
    let hang_up = (1..=clients).map(async |n| {
        let waits = it.client.pull(&it.name, 100, "30s");
        // Nothing was published: none is answered before it hangs up.
        tokio::time::timeout(Duration::from_millis(50 * n), waits).await.expect_err("nothing is there");
    });
    join_all(hang_up).await;
    // Until the service has noticed, one of them may be given what is there; it is not to be noticed by that.
    let mut published = 0;
    eventually("none of them is waited for any more", async || {
        it.client.publish(&it.topic, &json!({"data": 0})).await;
        published += 1;
        (!it.client.pull(&it.name, 100, "2s").await.is_empty()).then_some(())
    })
    .await;
    assert!(published < clients, "each of them took something with it");
    it.client.publish_batch(&it.topic, &(1..=50).map(|n| json!({"data": n})).collect::<Vec<_>>()).await;
    let mut out = it.client.pull_count(&it.name, 50).await;
    out.sort_by_key(|one| one["event"]["data"].as_i64());
    assert_eq!(numbers(&out), (1..=50).collect::<Vec<_>>());
    assert!(out.iter().all(|one| one["attempt"] == 1), "they go out for the first time: {out:?}");
}

/// A Kafka, and how another client reaches it.
async fn kafka() -> (Log, String) {
    let log = Log::kafka().await;
    let Log::Kafka(server) = &log else { unreachable!("it is one") };
    let brokers = server.address.clone();
    (log, brokers)
}

/// Another producer, in a transaction.
struct Transaction {
    producer: BaseProducer,
    topic: String,
}

impl Transaction {
    fn begin(brokers: &str, topic: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("transactional.id", unique("transaction"));
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions begin");
        producer.begin_transaction().expect("a transaction begins");
        Self { producer, topic: topic.to_owned() }
    }

    /// Writes numbers, which are in the log when this returns, and may not be read yet.
    fn write(&self, numbers: Range<i64>) {
        for number in numbers {
            let value = number.to_string();
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&self.topic).partition(0).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        }
        self.producer.flush(PATIENCE).expect("it is written");
    }

    fn end(self, commits: bool) {
        let ended = if commits {
            self.producer.commit_transaction(PATIENCE)
        } else {
            self.producer.abort_transaction(PATIENCE)
        };
        ended.expect("the transaction ends");
    }
}

/// Parallel Consumer, `TransactionMarkersTest`: `overLappingTransactions`, `dontBlockFirstRecords`.
#[tokio::test(flavor = "multi_thread")]
async fn of_transactions_that_overlap_the_committed_come_and_markers_hold_nothing_up() {
    let (log, brokers) = kafka().await;
    let it = fixture(&log, &json!({}), &json!({"ordering": "partition"})).await;
    it.client.publish_batch(&it.topic, &[json!({"data": 1}), json!({"data": 2})]).await;
    let topic = it.topic.clone();
    let open = tokio::task::spawn_blocking(move || {
        let (long, aborted) = (Transaction::begin(&brokers, &topic), Transaction::begin(&brokers, &topic));
        long.write(10..15);
        aborted.write(100..105);
        let short = Transaction::begin(&brokers, &topic);
        short.write(20..25);
        short.end(true);
        long.write(15..20);
        aborted.end(false);
        long
    })
    .await
    .expect("two of three are over");
    let first = it.client.pull_count(&it.name, 2).await;
    assert_eq!(numbers(&first), [1, 2], "what lies before them all is not held up");
    it.client.ack(&it.name, &first).await;
    it.nothing_comes().await;
    tokio::task::spawn_blocking(move || open.end(true)).await.expect("it is over");
    let rest = it.client.pull_count(&it.name, 15).await;
    let expected = [10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 15, 16, 17, 18, 19];
    assert_eq!(numbers(&rest), expected, "as they lie in the log, and nothing of what was aborted");
    it.client.ack(&it.name, &rest).await;
    // A marker is the last that lies there: the commit passes it too.
    it.lag_is(0).await;
    let it = it.started_again().await;
    it.lag_is(0).await;
    it.nothing_comes().await;
    it.client.publish_batch(&it.topic, &[json!({"data": 3})]).await;
    assert_eq!(numbers(&it.client.pull_count(&it.name, 1).await), [3]);
}

/// Parallel Consumer, `PartitionStateCommittedOffsetIT`: `compactedTopic`.
#[tokio::test(flavor = "multi_thread")]
async fn what_compaction_took_is_passed_and_what_was_done_beyond_a_commit_stays_done() {
    let compacted = json!({
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100",
        "delete.retention.ms": "100",
    });
    let (log, _) = kafka().await;
    let it = fixture(&log, &compacted, &json!({"ordering": "none"})).await;
    let keyed = |n: i64| json!({"key": format!("k{}", n % 30), "data": n});
    it.client.publish_batch(&it.topic, &(0..60).map(keyed).collect::<Vec<_>>()).await;
    let out = it.client.pull_count(&it.name, 60).await;
    let (done, left): (Vec<Value>, Vec<Value>) =
        out.into_iter().partition(|one| numbers(std::slice::from_ref(one))[0] % 2 == 1);
    it.client.ack(&it.name, &done).await;
    let path = format!("/v1/subscriptions/{}/ack", it.name);
    let given_back: Vec<_> = left.iter().map(|one| &one["ackId"]).collect();
    it.client.post(&path, &json!({"release": given_back})).await.expect(200);
    it.client.post(&format!("/v1/subscriptions/{}/pause", it.name), &json!({})).await.expect(200);
    let mut more = 60;
    let there = eventually("the first half is compacted away", async || {
        // What is written last lies in the segment that is not touched.
        it.client.publish_batch(&it.topic, &[json!({"key": "last", "data": more})]).await;
        more += 1;
        let there = it.client.browse_all(&it.topic).await;
        (there.iter().all(|event| event["data"].as_i64() >= Some(30))).then_some(there)
    })
    .await;
    assert!(there.len() >= 30, "{there:?}");
    let it = it.started_again().await;
    let left = it.client.browse_all(&it.topic).await;
    let left: BTreeSet<i64> = left.iter().filter_map(|event| event["data"].as_i64()).collect();
    let expected: BTreeSet<i64> = left.into_iter().filter(|n| *n < 60 && n % 2 == 0).collect();
    it.client.post(&format!("/v1/subscriptions/{}/resume", it.name), &json!({})).await.expect(200);
    let mut came = BTreeSet::new();
    eventually("all that is left has come", async || {
        let out = it.client.pull(&it.name, 100, "2s").await;
        it.client.ack(&it.name, &out).await;
        came.extend(numbers(&out));
        expected.is_subset(&came).then_some(())
    })
    .await;
    assert!(came.iter().all(|n| *n >= 60 || n % 2 == 0), "what was done came again: {came:?}");
    it.lag_is(0).await;
    it.nothing_comes().await;
}

//! Replays over the real binary: complete whatever dies, and no more than was asked for.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Service, Setup, eventually, on_every_log, unique};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tempfile::TempDir;

on_every_log!(
    a_replay_whose_process_is_killed_is_complete_and_repeats_a_batch_a_kill_at_most,
    a_replay_that_rests_outlives_the_process_and_goes_on_when_it_is_told,
    what_was_handled_is_handled_once_more_when_its_topic_is_replayed,
    a_range_of_time_and_a_filter_are_kept_to,
    a_replay_ends_although_the_topic_goes_on_to_grow,
    a_subscription_is_given_a_range_again_once_each_whatever_is_killed,
);

const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    setup: Setup,
    service: Service,
    client: Client,
    topic: String,
    target: String,
    data: TempDir,
}

async fn fixture(log: &Log) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, target) = (unique("source"), unique("target"));
    client.create_topic(&topic, 3).await;
    client.create_topic(&target, 2).await;
    Fixture { setup, service, client, topic, target, data }
}

impl Fixture {
    /// Publishes so many events of 20 keys.
    async fn publish(&self, count: i64) {
        let event = |n: i64| json!({"key": format!("k{}", n % 20), "type": kind(n), "data": {"n": n}});
        for from in (0..count).step_by(1000) {
            let events: Vec<Value> = (from..(from + 1000).min(count)).map(event).collect();
            self.client.publish_batch(&self.topic, &events).await;
        }
    }

    async fn begin(&self, more: &Value) -> String {
        let mut body = json!({"topic": self.topic, "target": {"topic": self.target}});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let job = self.client.post("/v1/replays", &body).await.expect(202);
        job["id"].as_str().expect("an id").to_owned()
    }

    async fn job(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/replays/{id}")).await.expect(200)
    }

    async fn tell(&self, id: &str, what: &str) -> Value {
        self.client.post(&format!("/v1/replays/{id}/{what}"), &json!({})).await.expect(200)
    }

    async fn completed(&self, id: &str) -> Value {
        let job = eventually("the replay does not run any more", async || {
            let job = self.job(id).await;
            (job["state"] != "running").then_some(job)
        })
        .await;
        assert_eq!(job["state"], "completed", "{job}");
        job
    }

    /// Acknowledges so many deliveries as they come: what arrives while a run of its key is out waits for it.
    async fn handled(&self, name: &str, count: usize) -> Vec<Value> {
        let mut handled = Vec::new();
        while handled.len() < count {
            let out = self.client.pull(name, 100, "20s").await;
            assert!(!out.is_empty(), "only {} of {count} came", handled.len());
            self.client.ack(name, &out).await;
            handled.extend(out);
        }
        handled
    }

    async fn written(&self) -> Vec<Value> {
        self.client.browse_all(&self.target).await
    }

    async fn killed(self) -> Self {
        let Self { setup, service, topic, target, data, .. } = self;
        service.kill().await;
        let service = setup.start(data.path()).await;
        let client = service.client();
        Self { setup, service, client, topic, target, data }
    }
}

fn kind(n: i64) -> &'static str {
    if n % 2 == 0 { "even" } else { "odd" }
}

fn numbers(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["data"]["n"].as_i64().expect("a number")).collect()
}

/// Of each key the numbers in the order in which they first lie there.
fn by_key(events: &[Value]) -> BTreeMap<String, Vec<i64>> {
    let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| (event["partition"].as_i64(), event["offset"].as_i64()));
    for event in events {
        let n = event["data"]["n"].as_i64().expect("a number");
        if seen.insert(n) {
            by_key.entry(event["key"].to_string()).or_default().push(n);
        }
    }
    by_key
}

async fn a_replay_whose_process_is_killed_is_complete_and_repeats_a_batch_a_kill_at_most(log: Log) {
    let mut it = fixture(&log).await;
    it.publish(6_000).await;
    let id = it.begin(&json!({"ratePerSecond": 2_000, "batchSize": 50})).await;
    for share in [0.2, 0.5, 0.8] {
        eventually("it has come so far", async || {
            let written = it.job(&id).await["written"].as_f64().expect("a number");
            (written >= share * 6_000.0).then_some(())
        })
        .await;
        it = it.killed().await;
    }
    let job = it.completed(&id).await;
    assert_eq!((&job["written"], &job["total"]), (&json!(6_000), &json!(6_000)));
    let written = it.written().await;
    let different: BTreeSet<i64> = numbers(&written).into_iter().collect();
    assert_eq!(different, (0..6_000).collect(), "complete");
    assert!(written.len() <= 6_000 + 3 * 50, "{} were written", written.len());
    for (key, numbers) in by_key(&written) {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

async fn a_replay_that_rests_outlives_the_process_and_goes_on_when_it_is_told(log: Log) {
    let it = fixture(&log).await;
    it.publish(1_000).await;
    let id = it.begin(&json!({"ratePerSecond": 200, "batchSize": 10})).await;
    eventually("it writes", async || (!it.written().await.is_empty()).then_some(())).await;
    assert_eq!(it.tell(&id, "pause").await["state"], "paused");
    let it = it.killed().await;
    assert_eq!(it.job(&id).await["state"], "paused");
    let so_far = it.written().await.len();
    assert_eq!(it.tell(&id, "resume").await["state"], "running");
    let job = it.completed(&id).await;
    assert_eq!(job["written"], 1_000);
    assert!(so_far < 1_000);
    let written = numbers(&it.written().await);
    assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), 1_000);
}

/// Deduplication must take a replay for what it is: again, and once.
async fn what_was_handled_is_handled_once_more_when_its_topic_is_replayed(log: Log) {
    let it = fixture(&log).await;
    let name = unique("sub");
    it.client.subscribe(&name, &it.topic, &json!({})).await;
    it.publish(60).await;
    it.handled(&name, 60).await;
    let path = format!("/replay?topic={}&fromTimestamp=0&filter=type%20%3D%3D%20%27odd%27", it.topic);
    let job = it.client.post(&path, &json!({})).await.expect(200);
    assert_eq!((&job["state"], &job["written"]), (&json!("completed"), &json!(30)));
    let again = it.handled(&name, 30).await;
    let mut came: Vec<i64> =
        again.iter().map(|it| it["event"]["data"]["n"].as_i64().expect("a number")).collect();
    came.sort_unstable();
    assert_eq!(came, (0..60).filter(|n| n % 2 == 1).collect::<Vec<_>>());
    for delivery in &again {
        assert_eq!(delivery["event"]["headers"]["es_replay_id"], job["id"]);
        assert_eq!(delivery["event"]["headers"]["es_original_topic"], json!(it.topic));
    }
    assert!(it.client.pull(&name, 100, "1s").await.is_empty());
}

async fn a_range_of_time_and_a_filter_are_kept_to(log: Log) {
    let it = fixture(&log).await;
    it.publish(100).await;
    let all = it.client.browse_all(&it.topic).await;
    let mut times: Vec<&str> = all.iter().map(|event| event["timestamp"].as_str().expect("a time")).collect();
    times.sort_unstable();
    // All were published at about one time: the range is what lies between two of them.
    let (from, to) = (times[0], times[times.len() - 1]);
    let trial = json!({
        "topic": it.topic, "target": {"topic": it.target}, "filter": "data.n < 40", "dryRun": true,
        "from": {"timestamp": from},
    });
    let trial = it.client.post("/v1/replays", &trial).await.expect(200);
    assert_eq!((&trial["matched"], &trial["complete"]), (&json!(40), &json!(true)));
    assert_eq!(trial["matchedByType"], json!({"even": 20, "odd": 20}));
    let inside = all.iter().filter(|event| event["timestamp"].as_str().is_some_and(|time| time < to));
    let expected: BTreeSet<i64> =
        inside.map(|event| event["data"]["n"].as_i64().expect("a number")).collect();
    if from < to {
        let id = it.begin(&json!({"from": {"timestamp": from}, "to": {"timestamp": to}})).await;
        it.completed(&id).await;
        assert_eq!(numbers(&it.written().await).into_iter().collect::<BTreeSet<_>>(), expected);
    }
    let offsets = json!({"from": {"offsets": {"0": 2}}, "to": {"offsets": {"0": 5}}});
    let before = it.written().await.len();
    let id = it.begin(&offsets).await;
    it.completed(&id).await;
    assert_eq!(it.written().await.len() - before, 3);
}

async fn a_replay_ends_although_the_topic_goes_on_to_grow(log: Log) {
    let it = fixture(&log).await;
    it.publish(500).await;
    let body =
        json!({"topic": it.topic, "target": {"topic": it.topic}, "batchSize": 20, "ratePerSecond": 500});
    let job = it.client.post("/v1/replays", &body).await.expect(202);
    let id = job["id"].as_str().expect("an id");
    it.client.publish_batch(&it.topic, &[json!({"key": "late", "data": {"n": 500}})]).await;
    let job = it.completed(id).await;
    assert_eq!((&job["read"], &job["written"]), (&json!(500), &json!(500)));
    let all = it.client.browse_all(&it.topic).await;
    assert_eq!(all.len(), 1_001);
    let replayed = all.iter().filter(|event| event["headers"]["es_replay_id"].is_string());
    assert!(replayed.clone().count() == 500 && replayed.clone().all(|event| event["data"]["n"] != 500));
}

/// An operator's remedy after a handler was mended: the same events for it alone, each once, with live ones beside.
async fn a_subscription_is_given_a_range_again_once_each_whatever_is_killed(log: Log) {
    let it = fixture(&log).await;
    let (name, other) = (unique("sub"), unique("other"));
    for name in [&name, &other] {
        it.client.subscribe(name, &it.topic, &json!({})).await;
    }
    it.publish(300).await;
    it.handled(&name, 300).await;
    it.handled(&other, 300).await;
    let body = json!({
        "topic": it.topic, "target": {"subscription": name}, "filter": "type == 'odd'",
        "ratePerSecond": 100, "batchSize": 10,
    });
    let job = it.client.post("/v1/replays", &body).await.expect(202);
    assert_eq!(job["target"]["subscription"], json!(name));
    let id = job["id"].as_str().expect("an id").to_owned();
    let mut again = it.handled(&name, 40).await;
    let it = it.killed().await;
    it.client.publish_batch(&it.topic, &[json!({"key": "live", "type": "odd", "data": {"n": 1001}})]).await;
    // With deduplication on, what the kill had queued twice is one.
    again.extend(it.handled(&name, 151 - again.len()).await);
    let job = it.completed(&id).await;
    assert_eq!(job["written"], 150);
    let mut came: Vec<i64> =
        again.iter().map(|it| it["event"]["data"]["n"].as_i64().expect("a number")).collect();
    came.sort_unstable();
    let expected: Vec<i64> = (0..300).filter(|n| n % 2 == 1).chain([1001]).collect();
    assert_eq!(came, expected);
    for delivery in &again {
        assert_eq!((&delivery["event"]["topic"], &delivery["attempt"]), (&json!(it.topic), &json!(1)));
    }
    assert!(it.client.pull(&name, 100, "1s").await.is_empty());
    let live = it.handled(&other, 1).await;
    assert_eq!(live[0]["event"]["data"]["n"], 1001, "nobody else is given them");
    assert!(it.client.pull(&other, 100, "1s").await.is_empty());
}

/// What was aborted is not replayed, and the markers that transactions leave, at the very end too, are no events
/// that a replay waits for. Compression is the producer's matter.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_and_transactional_partitions_are_replayed_to_their_end() {
    let log = Log::kafka().await;
    let Log::Kafka(server) = &log else { unreachable!("it is one") };
    let it = fixture(&log).await;
    let (brokers, topic) = (server.address.clone(), it.topic.clone());
    tokio::task::spawn_blocking(move || {
        for (at, compression) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &brokers).set("transactional.id", unique("transaction"));
            config.set("compression.type", *compression);
            let producer: BaseProducer = config.create().expect("a producer");
            producer.init_transactions(PATIENCE).expect("transactions begin");
            for (batch, commits) in [(0, true), (1, false), (2, true), (3, false)] {
                producer.begin_transaction().expect("one begins");
                for n in 0..10 {
                    let value = format!("{{\"n\":{}}}", (at * 4 + batch) * 10 + n);
                    let record: BaseRecord<'_, str, str> =
                        BaseRecord::to(&topic).partition(1).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).expect("it is queued");
                }
                let ended = if commits {
                    producer.commit_transaction(PATIENCE)
                } else {
                    producer.flush(PATIENCE).expect("it is written");
                    producer.abort_transaction(PATIENCE)
                };
                ended.expect("it ends");
            }
        }
    })
    .await
    .expect("all was written");
    let id = it.begin(&json!({"batchSize": 7})).await;
    let job = it.completed(&id).await;
    assert_eq!(job["written"], 100, "{job}");
    let expected: BTreeSet<i64> = (0..200).filter(|n| (n / 10) % 2 == 0).collect();
    assert_eq!(numbers(&it.written().await).into_iter().collect::<BTreeSet<_>>(), expected);
}

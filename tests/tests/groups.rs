//! Consumer groups as an operator sees and moves them: the service's own on every log, and on Kafka those of
//! other programs, compared with what Kafka's own tool says.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, GroupTool, Log, Setup, eventually, kafka, on_every_log, unique};
use rdkafka::{
    Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

on_every_log!(
    the_group_of_a_subscription_is_shown_with_its_lag_and_a_cause,
    a_group_that_is_not_there_and_bad_requests_are_told_by_field,
);

/// A service that samples often, so that a verdict comes soon.
async fn sampling(log: &Log, data: &tempfile::TempDir) -> event_streaming_tests::Service {
    Setup::on(log).set("lag.sample-interval", "200ms").set("lag.window", "5").start(data.path()).await
}

async fn the_group_of_a_subscription_is_shown_with_its_lag_and_a_cause(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = sampling(&log, &data).await;
    let client = service.client();
    let (topic, name) = (unique("groups"), unique("sub"));
    client.create_topic(&topic, 1).await;
    client.subscribe(&name, &topic, &json!({})).await;
    let events: Vec<Value> = (0..10).map(|n| json!({"key": "k", "data": n})).collect();
    client.publish_batch(&topic, &events).await;
    let pulled = client.pull_count(&name, 4).await;
    client.ack(&name, &pulled).await;
    let path = format!("/v1/groups/{name}");
    let done = pulled.len();
    let group = eventually("what was acknowledged being committed", async || {
        let group = client.get(&path).await.expect(200);
        (group["offsets"][0]["committed"] == done).then_some(group)
    })
    .await;
    assert_eq!((&group["state"], &group["subscription"]), (&json!("Stable"), &json!(true)));
    assert_eq!(group["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(group["members"][0]["assignments"][0]["topic"], topic);
    let position = &group["offsets"][0];
    assert_eq!((&position["end"], &position["lag"]), (&json!(10), &json!(10 - done)));
    assert!(position["lagTime"].is_string(), "{position}");
    let listed = client.get("/v1/groups").await.expect(200);
    let found = listed["groups"].as_array().expect("groups").iter().find(|group| group["group"] == name);
    assert_eq!(found.expect("it is listed")["subscription"], true);

    client.post(&format!("/v1/subscriptions/{name}/pause"), &json!({})).await.expect(200);
    let lag = eventually("the verdict on a group that lies still", async || {
        let lag = client.get(&format!("{path}/lag")).await.expect(200);
        (lag["verdict"] == "STALLED").then_some(lag)
    })
    .await;
    assert_eq!((&lag["cause"]["code"], &lag["totalLag"]), (&json!("paused"), &json!(10 - done)));
    assert_eq!(lag["partitions"][0]["verdict"], "STALLED");

    let reset = client.post(&format!("{path}/offsets/reset"), &json!({"to": "earliest"})).await;
    assert_eq!(reset.expect(501)["code"], "not_supported");
    assert_eq!(client.delete(&path).await.expect(409)["code"], "conflict");
    service.stop().await;
}

async fn a_group_that_is_not_there_and_bad_requests_are_told_by_field(log: Log) {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&log).set("lag.enabled", "false").start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("groups"), unique("sub"));
    client.create_topic(&topic, 1).await;
    client.subscribe(&name, &topic, &json!({})).await;
    // On Kafka it is there once the subscription has joined it.
    let lag = eventually("the group being there", async || {
        let answer = client.get(&format!("/v1/groups/{name}/lag")).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!((&lag["verdict"], &lag["samples"]), (&Value::Null, &json!(0)), "nothing is sampled");
    for path in ["", "/lag"] {
        let answer = client.get(&format!("/v1/groups/nobody{path}")).await.expect(404);
        assert_eq!(answer["code"], "group_not_found");
    }
    let reset = client.post("/v1/groups/nobody/offsets/reset", &json!({"to": "latest"})).await;
    assert_eq!(reset.expect(404)["code"], "group_not_found");
    let reset = client.post("/v1/groups/nobody/offsets/reset", &json!({"to": "middle"})).await.expect(400);
    assert_eq!(reset["errors"][0]["field"], "to");
    let put = client.send(client.request(Method::PUT, "/v1/groups")).await;
    assert_eq!(put.expect(405)["code"], "method_not_allowed");
    service.stop().await;
}

/// A program that reads a topic as a member of a group, and commits what it is told to.
struct Reader {
    consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    polling: Option<JoinHandle<()>>,
    topic: String,
}

impl Reader {
    async fn join(group: &str, topic: &str, client_id: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka().await.address)
            .set("group.id", group)
            .set("client.id", client_id)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer");
        consumer.subscribe(&[topic]).expect("it subscribes");
        let (consumer, stop) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let (polled, stopping) = (consumer.clone(), stop.clone());
        let polling = std::thread::spawn(move || {
            while !stopping.load(Relaxed) {
                let _ = polled.poll(Duration::from_millis(50));
            }
        });
        let reader = Self { consumer, stop, polling: Some(polling), topic: topic.to_owned() };
        eventually("partitions being assigned", async || {
            let assigned = reader.consumer.assignment().ok()?.count();
            (assigned > 0).then_some(())
        })
        .await;
        reader
    }

    /// Commits the same offset in each of so many partitions.
    fn commit(&self, partitions: i32, next: i64) {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(next));
            added.expect("an offset");
        }
        self.consumer.commit(&list, CommitMode::Sync).expect("it is committed");
    }

    /// Leaves the group.
    async fn leave(mut self) {
        self.stop.store(true, Relaxed);
        let polling = self.polling.take();
        let left = tokio::task::spawn_blocking(move || {
            if let Some(polling) = polling {
                polling.join().expect("it polls to the end");
            }
            drop(self);
        });
        left.await.expect("it leaves");
    }
}

/// `partition=offset` of each element of a list of offsets, or of a column of the tool's table.
fn of_list(list: &Value) -> BTreeMap<u32, String> {
    let place = |it: &Value| (it["partition"].as_u64().unwrap_or_default() as u32, it["offset"].to_string());
    list.as_array().expect("a list").iter().map(place).collect()
}

fn of_table(
    table: &BTreeMap<(String, u32), BTreeMap<String, String>>,
    column: &str,
) -> BTreeMap<u32, String> {
    table.iter().map(|((_, partition), row)| (*partition, row[column].clone())).collect()
}

/// A topic of two partitions with 20 events in each, the first 5 of them gone, and the time of one in the
/// middle.
async fn filled(client: &Client) -> (String, String) {
    let topic = unique("groups");
    client.create_topic(&topic, 2).await;
    let mut time = String::new();
    for n in 0..20 {
        for partition in 0..2 {
            let receipt = client.publish(&topic, &json!({"partition": partition, "data": n})).await;
            if n == 9 {
                receipt["timestamp"].as_str().expect("a time").clone_into(&mut time);
            }
        }
    }
    client.post(&format!("/v1/topics/{topic}/purge"), &json!({"before": {"0": 5, "1": 5}})).await.expect(200);
    (topic, time)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_consumers_group_is_described_and_reset_as_kafkas_own_tool_says() {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::kafka().await).start(data.path()).await;
    let (client, tool) = (service.client(), GroupTool::find().await);
    let (topic, time) = filled(&client).await;
    // A name that no subscription could have.
    let group = unique("plain/group");
    let path = format!("/v1/groups/{}", group.replace('/', "%2F"));
    let reset_path = format!("{path}/offsets/reset");

    let reader = Reader::join(&group, &topic, "shop").await;
    reader.commit(2, 12);
    let shown = client.get(&path).await.expect(200);
    let told = tool.describe(&group).await;
    assert_eq!(shown["state"], "Stable");
    let member = &shown["members"][0];
    assert_eq!(member["assignments"], json!([{"topic": topic, "partitions": [0, 1]}]));
    for position in shown["offsets"].as_array().expect("positions") {
        let partition = position["partition"].as_u64().expect("a number") as u32;
        let row = &told[&(topic.clone(), partition)];
        for (field, column) in [("committed", "CURRENT-OFFSET"), ("end", "LOG-END-OFFSET"), ("lag", "LAG")] {
            assert_eq!(position[field].to_string(), row[column], "{field}");
        }
        assert_eq!(member["id"], row["CONSUMER-ID"]);
        assert_eq!(member["clientId"], row["CLIENT-ID"]);
        assert_eq!(member["host"], row["HOST"].trim_start_matches('/'));
    }
    let refused = client.post(&reset_path, &json!({"to": "earliest"})).await.expect(409);
    assert_eq!(refused["code"], "group_active");
    assert!(refused["detail"].as_str().expect("a detail").contains("`shop` at "), "{refused}");
    assert_eq!(client.delete(&path).await.expect(409)["code"], "group_active");

    reader.leave().await;
    eventually("the group being empty", async || {
        (client.get(&path).await.expect(200)["state"] == "Empty").then_some(())
    })
    .await;
    for (to, as_told) in [
        (json!("earliest"), vec!["--to-earliest"]),
        (json!({"timestamp": time}), vec!["--to-datetime", time.trim_end_matches('Z')]),
        (json!({"shiftBy": 3}), vec!["--shift-by", "3"]),
        (json!("latest"), vec!["--to-latest"]),
        (json!({"shiftBy": -30}), vec!["--shift-by", "-30"]),
        (json!({"offset": 15}), vec!["--to-offset", "15"]),
        (json!({"offset": 99}), vec!["--to-offset", "99"]),
    ] {
        let before = of_table(&tool.describe(&group).await, "CURRENT-OFFSET");
        let would = of_table(&tool.would_reset(&group, &topic, &as_told).await, "NEW-OFFSET");
        let dry = json!({"topic": topic, "to": to, "dryRun": true});
        let dry = client.post(&reset_path, &dry).await.expect(200);
        assert_eq!((of_list(&dry["before"]), of_list(&dry["after"])), (before, would.clone()), "{to}");
        let done = client.post(&reset_path, &json!({"topic": topic, "to": to})).await.expect(200);
        assert_eq!((&done["before"], &done["after"]), (&dry["before"], &dry["after"]), "{to}");
        assert_eq!(of_table(&tool.describe(&group).await, "CURRENT-OFFSET"), would, "{to}");
    }
    let own = json!([
        {"topic": topic, "partition": 0, "offset": 7}, {"topic": topic, "partition": 1, "offset": 300}
    ]);
    let done = client.post(&reset_path, &json!({"to": {"offsets": own}})).await.expect(200);
    let clamped = json!({"topic": topic, "partition": 1, "offset": 20, "clampedFrom": 300});
    assert_eq!(done["after"], json!([{"topic": topic, "partition": 0, "offset": 7}, clamped]));
    let told = of_table(&tool.describe(&group).await, "CURRENT-OFFSET");
    assert_eq!(told, [(0, "7".to_owned()), (1, "20".to_owned())].into());

    let request = client.request(Method::DELETE, &format!("{path}/offsets?topic={topic}&partitions=1"));
    let deleted = client.send(request).await.expect(200);
    assert_eq!(deleted["deleted"], json!([{"topic": topic, "partition": 1, "offset": 20}]));
    let told = of_table(&tool.describe(&group).await, "CURRENT-OFFSET");
    assert_eq!(told, [(0, "7".to_owned())].into());
    client.delete(&path).await.expect(204);
    client.get(&path).await.expect(404);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_consumers_that_fall_behind_go_back_stall_and_stop_are_judged_so() {
    let log = Log::kafka().await;
    let data = tempfile::tempdir().expect("a folder");
    let service = sampling(&log, &data).await;
    let client = service.client();
    let topic = unique("groups");
    client.create_topic(&topic, 1).await;
    let group = unique("plain");
    let path = format!("/v1/groups/{group}/lag");
    let verdict = async || client.get(&path).await.expect(200)["verdict"].clone();
    let reader = Reader::join(&group, &topic, "shop").await;
    let mut next = 0;
    eventually("a reader that falls behind", async || {
        let events: Vec<Value> = (0..5).map(|n| json!({"data": n})).collect();
        client.publish_batch(&topic, &events).await;
        next += 1;
        reader.commit(1, next);
        (verdict().await == "WARN").then_some(())
    })
    .await;
    reader.commit(1, 1);
    eventually("a reader that went back", async || (verdict().await == "REWOUND").then_some(())).await;
    eventually("a reader that is stuck", async || (verdict().await == "STALLED").then_some(())).await;
    reader.leave().await;
    eventually("a reader that is gone", async || (verdict().await == "STOPPED").then_some(())).await;
    let reset = client.post(&format!("/v1/groups/{group}/offsets/reset"), &json!({"to": "latest"})).await;
    reset.expect(200);
    eventually("a group that has caught up", async || (verdict().await == "OK").then_some(())).await;
    service.stop().await;
}

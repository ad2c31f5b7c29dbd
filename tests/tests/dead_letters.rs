//! Dead letters over the real binary: what is listed is what lies there, and what is decided outlives the process.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Service, Setup, eventually, on_every_log, unique};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tempfile::TempDir;

on_every_log!(
    dead_letters_are_listed_as_soon_as_they_are_there_and_in_pages,
    what_was_decided_is_known_after_the_process_was_killed,
    what_is_redriven_is_handled_once_whatever_is_killed,
);

struct Fixture {
    setup: Setup,
    service: Service,
    client: Client,
    topic: String,
    name: String,
    data: TempDir,
}

async fn fixture(log: &Log) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(log);
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("source"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&name, &topic, &json!({"ordering": "none", "deadLetter": {"stormGuard": null}})).await;
    Fixture { setup, service, client, topic, name, data }
}

impl Fixture {
    /// Publishes numbers that cannot be handled.
    async fn fail(&self, numbers: std::ops::Range<i64>) {
        let count = numbers.clone().count();
        let event = |n: i64| json!({"key": format!("k{}", n % 20), "type": "created", "data": {"n": n}});
        let events: Vec<Value> = numbers.map(event).collect();
        self.client.publish_batch(&self.topic, &events).await;
        let out = self.client.pull_count(&self.name, count).await;
        let reject: Vec<Value> =
            out.iter().map(|it| json!({"ackId": it["ackId"], "reason": "no such customer"})).collect();
        let path = format!("/v1/subscriptions/{}/ack", self.name);
        let decided = self.client.post(&path, &json!({"reject": reject})).await.expect(200);
        let results = decided["results"].as_array().expect("results");
        assert!(results.iter().all(|result| result["status"] == "ok"), "{decided}");
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/subscriptions/{}/dead-letters{rest}", self.name)
    }

    async fn get(&self, rest: &str) -> Value {
        self.client.get(&self.path(rest)).await.expect(200)
    }

    async fn patch(&self, id: &str, body: &Value) -> Value {
        let request = self.client.request(Method::PATCH, &self.path(&format!("/{id}"))).json(body);
        self.client.send(request).await.expect(200)
    }

    async fn all(&self, limit: usize, query: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("?limit={limit}{query}{cursor}")).await;
            all.extend(page["deadLetters"].as_array().expect("a list").iter().cloned());
            match page["cursor"].as_str() {
                None => return all,
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
    }

    async fn killed(self) -> Self {
        let Self { setup, service, topic, name, data, .. } = self;
        service.kill().await;
        let service = setup.start(data.path()).await;
        let client = service.client();
        Self { setup, service, client, topic, name, data }
    }
}

fn numbers(letters: &[Value]) -> BTreeSet<i64> {
    letters.iter().map(|letter| letter["event"]["data"]["n"].as_i64().expect("a number")).collect()
}

async fn dead_letters_are_listed_as_soon_as_they_are_there_and_in_pages(log: Log) {
    let it = fixture(&log).await;
    assert_eq!(it.get("").await, json!({"deadLetters": [], "cursor": null}));
    for batch in 0..5 {
        it.fail(batch * 40..(batch + 1) * 40).await;
        let all = it.all(17, "").await;
        assert_eq!(numbers(&all), (0..(batch + 1) * 40).collect());
        assert_eq!(all.len() as i64, (batch + 1) * 40);
    }
    let filtered = it.all(5, "&filter=data.n%20%3E%20150&error=rejected").await;
    assert_eq!(numbers(&filtered), (151..200).collect());
    let summary = it.get("/summary").await;
    assert_eq!(
        summary,
        json!({"kinds": {"rejected": 200}, "types": {"created": 200}, "statuses": {"parked": 200}})
    );
}

async fn what_was_decided_is_known_after_the_process_was_killed(log: Log) {
    let it = fixture(&log).await;
    it.fail(0..30).await;
    let all = it.all(100, "").await;
    let id = |at: usize| all[at]["id"].as_str().expect("an id").to_owned();
    let edited = it.patch(&id(0), &json!({"data": {"n": -1}, "headers": {"x-mended": "yes"}})).await;
    assert_eq!(
        (&edited["event"]["data"], &edited["unedited"]["data"]),
        (&json!({"n": -1}), &all[0]["event"]["data"])
    );
    for at in 1..4 {
        it.client.delete(&it.path(&format!("/{}?reason=gone", id(at)))).await.expect(204);
    }
    let it = it.killed().await;
    assert_eq!(it.get("/summary").await["statuses"], json!({"parked": 27, "discarded": 3}));
    let shown = it.get(&format!("/{}", id(0))).await;
    assert_eq!((&shown["event"], &shown["edited"]), (&edited["event"], &json!(true)));
    let discarded = it.all(2, "&status=discarded").await;
    assert_eq!(discarded.len(), 3);
    let shown = it.get(&format!("/{}", id(2))).await;
    assert_eq!(
        (&shown["history"][0]["decision"], &shown["history"][0]["reason"]),
        (&json!("discarded"), &json!("gone"))
    );
    it.fail(30..35).await;
    assert_eq!(it.all(10, "").await.len(), 35);
    assert!(it.service.output().contains("ready"));
}

/// The way back: to its own subscription alone, complete and once, and marked as redriven.
async fn what_is_redriven_is_handled_once_whatever_is_killed(log: Log) {
    let it = fixture(&log).await;
    it.fail(0..150).await;
    let other = unique("other");
    it.client.subscribe(&other, &it.topic, &json!({"start": "latest"})).await;
    let all = json!({"all": true, "ratePerSecond": 60});
    let mut dry = all.clone();
    dry["dryRun"] = json!(true);
    let trial = it.client.post(&it.path("/redrive"), &dry).await.expect(200);
    assert_eq!((&trial["matched"], &trial["complete"]), (&json!(150), &json!(true)));
    let job = it.client.post(&it.path("/redrive"), &all).await.expect(202);
    assert_eq!((&job["kind"], &job["target"]["subscription"]), (&json!("redrive"), &json!(it.name)));
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    eventually("some are queued", async || {
        let job = it.client.get(&path).await.expect(200);
        (job["written"].as_i64() >= Some(30)).then_some(())
    })
    .await;
    let it = it.killed().await;
    let mut handled: Vec<i64> = Vec::new();
    while handled.len() < 150 {
        let out = it.client.pull(&it.name, 100, "20s").await;
        assert!(!out.is_empty(), "only {} came", handled.len());
        handled.extend(out.iter().map(|of| of["event"]["data"]["n"].as_i64().expect("a number")));
        assert!(out.iter().all(|of| of["attempt"] == 1 && of["event"]["topic"] == json!(it.topic)));
        it.client.ack(&it.name, &out).await;
    }
    handled.sort_unstable();
    assert_eq!(handled, (0..150).collect::<Vec<_>>());
    assert!(it.client.pull(&it.name, 100, "1s").await.is_empty());
    let job = eventually("the redrive comes to its end", async || {
        let job = it.client.get(&path).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await;
    assert_eq!((&job["state"], &job["written"]), (&json!("completed"), &json!(150)), "{job}");
    let summary = it.get("/summary").await;
    assert_eq!(summary["statuses"], json!({"redriven": 150}));
    let again = it.client.post(&it.path("/redrive"), &json!({"all": true})).await.expect(202);
    let path = format!("/v1/replays/{}", again["id"].as_str().expect("an id"));
    let again = eventually("there is nothing to redrive", async || {
        let job = it.client.get(&path).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await;
    assert_eq!((&again["state"], &again["written"]), (&json!("completed"), &json!(0)));
    assert!(it.client.pull(&other, 100, "1s").await.is_empty(), "nobody else is given them");
}

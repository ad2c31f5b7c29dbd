//! Replays over HTTP: the shapes on the wire, and what goes wrong by its field.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use serde_json::{Value, json};
use support::Front;

/// A topic with so many events, and an empty one to replay into.
async fn front(events: usize) -> Front {
    let front = Front::new().await;
    front.create_topic("orders", 3).await;
    front.create_topic("again", 2).await;
    let events: Vec<Value> = (0..events)
        .map(|n| json!({"key": format!("k{}", n % 5), "type": if n % 2 == 0 { "even" } else { "odd" }, "data": {"n": n}}))
        .collect();
    front.post("/v1/topics/orders/events", &json!({"events": events})).await.expect(200);
    front
}

async fn ended(front: &Front, id: &str) -> Value {
    loop {
        let job = front.get(&format!("/v1/replays/{id}")).await.expect(200);
        if job["state"] != "running" {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn written(front: &Front) -> Vec<Value> {
    let page = front.get("/v1/topics/again/events?from=earliest&limit=1000").await.expect(200);
    page["events"].as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_begun_watched_and_listed() {
    let front = front(60).await;
    let body =
        json!({"topic": "orders", "target": {"topic": "again"}, "filter": "data.n >= 20", "batchSize": 7});
    let job = front.post("/v1/replays", &body).await.expect(202);
    assert_eq!(
        (&job["kind"], &job["state"], &job["total"]),
        (&json!("replay"), &json!("running"), &json!(60))
    );
    let job = ended(&front, job["id"].as_str().unwrap()).await;
    assert_eq!(job["state"], "completed");
    assert_eq!((&job["read"], &job["matched"], &job["written"]), (&json!(60), &json!(40), &json!(40)));
    assert_eq!(job["error"], Value::Null);
    assert!(job["finishedAt"].is_string());
    for partition in job["partitions"].as_object().unwrap().values() {
        assert_eq!(partition["next"], partition["to"]);
    }
    let list = front.get("/v1/replays").await.expect(200);
    assert_eq!(list["replays"][0]["id"], job["id"]);
    let events = written(&front).await;
    assert_eq!(events.len(), 40);
    assert!(events.iter().all(|event| event["data"]["n"].as_u64().unwrap() >= 20));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_counts_and_a_sample_and_makes_no_job() {
    let front = front(60).await;
    let body =
        json!({"topic": "orders", "target": {"topic": "again"}, "filter": "type == 'odd'", "dryRun": true});
    let trial = front.post("/v1/replays", &body).await.expect(200);
    assert_eq!((&trial["complete"], &trial["matched"]), (&json!(true), &json!(30)));
    assert_eq!(trial["matchedByType"], json!({"odd": 30}));
    assert_eq!(trial["sample"].as_array().unwrap().len(), 10);
    assert_eq!(trial["sample"][0]["type"], "odd");
    assert!(written(&front).await.is_empty());
    assert_eq!(front.get("/v1/replays").await.expect(200)["replays"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn the_short_form_waits_for_the_end_and_appends_to_its_own_topic() {
    let front = front(30).await;
    let job = front
        .post("/replay?topic=orders&fromTimestamp=0&filter=type%20%3D%3D%20%27even%27", &json!({}))
        .await;
    let job = job.expect(200);
    assert_eq!((&job["state"], &job["written"]), (&json!("completed"), &json!(15)));
    assert_eq!(job["target"], json!({"topic": "orders"}));
    let job = front.post("/replay?topic=orders&targetTopic=again", &json!({})).await.expect(200);
    assert_eq!(job["written"], 45);
    assert_eq!(written(&front).await.len(), 45);
    for (query, field) in [
        ("", "topic"),
        ("topic=orders&fromTimestamp=soon", "fromTimestamp"),
        ("topic=orders&fromTimestamp=-1", "fromTimestamp"),
        ("topic=orders&fromTimestamp=5&toTimestamp=5", "to.timestamp"),
        ("topic=orders&from=5", "from"),
    ] {
        let answer = front.post(&format!("/replay?{query}"), &json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, field), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_rests_goes_on_and_ends_when_it_is_told() {
    let front = front(60).await;
    let body = json!({"topic": "orders", "target": {"topic": "again"}, "ratePerSecond": 1});
    let job = front.post("/v1/replays", &body).await.expect(202);
    let id = job["id"].as_str().unwrap();
    let tell = async |what: &str| front.post(&format!("/v1/replays/{id}/{what}"), &json!({})).await;
    assert_eq!(tell("pause").await.expect(200)["state"], "paused");
    assert_eq!(tell("resume").await.expect(200)["state"], "running");
    assert_eq!(tell("cancel").await.expect(200)["state"], "cancelled");
    assert_eq!(tell("resume").await.expect(409)["code"], "conflict");
    assert_eq!(front.get("/v1/replays/nowhere").await.expect(404)["code"], "replay_not_found");
    assert_eq!(tell("restart").await.status, 404);
    front.send("DELETE", &format!("/v1/replays/{id}"), &[], "").await.expect(405);
}

#[tokio::test(start_paused = true)]
async fn bad_input_names_its_field() {
    let front = front(6).await;
    for (body, status, field) in [
        (json!({"target": {"topic": "again"}}), 400, "topic"),
        (json!({"topic": "orders"}), 400, "target"),
        (json!({"topic": "orders", "target": {"topic": "nowhere"}}), 404, "target.topic"),
        (
            json!({"topic": "orders", "target": {"topic": "again"}, "from": {"offsets": {"9": 0}}}),
            400,
            "from.offsets.9",
        ),
        (json!({"topic": "orders", "target": {"topic": "again"}, "batchSize": 0}), 400, "batchSize"),
        (
            json!({"topic": "orders", "target": {"topic": "again", "subscription": "mail"}}),
            400,
            "target.subscription",
        ),
        (
            json!({"topic": "orders", "target": {"subscription": "mail", "dedup": "skip-done"}}),
            501,
            "target.dedup",
        ),
    ] {
        let answer = front.post("/v1/replays", &body).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (status, field), "{body}");
    }
    let nobody = json!({"topic": "orders", "target": {"subscription": "nobody"}});
    assert_eq!(front.post("/v1/replays", &nobody).await.expect(404)["code"], "subscription_not_found");
    let missing = json!({"topic": "nowhere", "target": {"topic": "again"}});
    assert_eq!(front.post("/v1/replays", &missing).await.expect(404)["code"], "topic_not_found");
}

//! Consumer groups over HTTP, over the backend in memory and without a network.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use serde_json::{Value, json};
use support::Front;

const EVENTS: &str = "/v1/topics/orders/events";

/// Ten events in one partition, and a group that has read four of them: what a subscription left that another
/// program took over.
async fn front() -> Front {
    let front = Front::new().await;
    front.create_topic("orders", 1).await;
    let events: Vec<Value> = (0..10).map(|n| json!({"data": n, "time": 1_000 * (n + 1)})).collect();
    front.post(EVENTS, &json!({"events": events})).await.expect(200);
    front.set_offsets("billing", "orders", 4).await;
    front
}

#[tokio::test]
async fn groups_are_listed_and_shown_with_members_positions_and_lag() {
    let front = front().await;
    front.post("/v1/subscriptions", &json!({"name": "mail", "topics": ["orders"]})).await.expect(201);
    let listed = front.get("/v1/groups").await.expect(200);
    assert_eq!(
        listed,
        json!({"groups": [
            {"group": "billing", "state": "Empty", "type": "Consumer", "subscription": false},
            {"group": "mail", "state": "Stable", "type": "Consumer", "subscription": true},
        ]})
    );
    let shown = front.get("/v1/groups/billing").await.expect(200);
    assert_eq!(
        (&shown["group"], &shown["totalLag"], &shown["members"]),
        (&json!("billing"), &json!(6), &json!([]))
    );
    let position = &shown["offsets"][0];
    assert_eq!((&position["topic"], &position["partition"]), (&json!("orders"), &json!(0)));
    assert_eq!(
        (&position["committed"], &position["end"], &position["lag"]),
        (&json!(4), &json!(10), &json!(6))
    );
    assert!(position["lagTime"].as_str().unwrap().ends_with(['s', 'm', 'h']), "{position}");
    let ours = front.get("/v1/groups/mail").await.expect(200);
    assert_eq!(ours["members"][0]["assignments"], json!([{"topic": "orders", "partitions": [0]}]));
    assert_eq!(ours["offsets"][0]["committed"], Value::Null, "nothing was committed there");
    let lag = front.get("/v1/groups/billing/lag").await.expect(200);
    let expected = (&json!(6), &Value::Null, &Value::Null, &json!(0));
    assert_eq!((&lag["totalLag"], &lag["verdict"], &lag["cause"], &lag["samples"]), expected);
    for _ in 0..10 {
        front.sample().await;
    }
    let lag = front.get("/v1/groups/billing/lag").await.expect(200);
    assert_eq!((&lag["verdict"], &lag["partitions"][0]["verdict"]), (&json!("STOPPED"), &json!("STOPPED")));
}

#[tokio::test]
async fn a_reset_answers_before_and_after_and_what_was_clamped() {
    let front = front().await;
    let reset = async |body: Value| front.post("/v1/groups/billing/offsets/reset", &body).await;
    let place = |offset: Value| json!([{"topic": "orders", "partition": 0, "offset": offset}]);
    let dry = reset(json!({"to": "earliest", "dryRun": true})).await.expect(200);
    let expected =
        json!({"group": "billing", "dryRun": true, "before": place(json!(4)), "after": place(json!(0))});
    assert_eq!(dry, expected);
    let beyond = reset(json!({"topic": "orders", "partitions": [0], "to": {"offset": 99}})).await.expect(200);
    assert_eq!(beyond["before"], place(json!(4)), "the dry run changed nothing");
    assert_eq!(
        beyond["after"],
        json!([{"topic": "orders", "partition": 0, "offset": 10, "clampedFrom": 99}])
    );
    let timed = reset(json!({"to": {"timestamp": "1970-01-01T00:00:07Z"}})).await.expect(200);
    assert_eq!(timed["after"], place(json!(6)));
    let shifted = reset(json!({"to": {"shiftBy": -2}})).await.expect(200);
    assert_eq!(shifted["after"], place(json!(4)));
    // What a reset answered as before undoes it.
    let undone = reset(json!({"to": {"offsets": shifted["before"]}})).await.expect(200);
    assert_eq!(undone["after"], place(json!(6)));
}

#[tokio::test]
async fn what_cannot_be_done_has_its_code_and_its_field() {
    let front = front().await;
    front.post("/v1/subscriptions", &json!({"name": "mail", "topics": ["orders"]})).await.expect(201);
    let reset = async |group: &str, body: Value| {
        let answer = front.post(&format!("/v1/groups/{group}/offsets/reset"), &body).await;
        let code = answer.body["code"].as_str().unwrap().to_owned();
        (answer.status.as_u16(), code, answer.field().to_owned())
    };
    let is = |status: u16, code: &str, field: &str| (status, code.to_owned(), field.to_owned());
    let latest = || json!({"to": "latest"});
    assert_eq!(reset("nobody", latest()).await, is(404, "group_not_found", ""));
    assert_eq!(reset("mail", latest()).await, is(501, "not_supported", ""));
    assert_eq!(reset("billing", json!({})).await, is(400, "invalid_request", "to"));
    let wrong = json!({"to": "latest", "topic": "orders", "partitions": []});
    assert_eq!(reset("billing", wrong).await, is(400, "invalid_request", "partitions"));
    let wrong = json!({"to": "latest", "topic": "orders", "partitions": [0, 7]});
    assert_eq!(reset("billing", wrong).await, is(400, "invalid_request", "partitions[1]"));
    let later = json!({"to": {"timestamp": "9999-01-01T00:00:00Z"}});
    assert_eq!(reset("billing", later).await, is(400, "invalid_request", "to.timestamp"));
    let wrong = json!({"to": "latest", "topic": "nowhere"});
    assert_eq!(reset("billing", wrong).await, is(404, "topic_not_found", ""));
    let delete = async |path: &str| front.send("DELETE", path, &[], "").await;
    let ours = delete("/v1/groups/mail").await.expect(409);
    assert_eq!(ours["code"], "conflict");
    assert_eq!(delete("/v1/groups/billing/offsets").await.field(), "topic");
    assert_eq!(delete("/v1/groups/billing/offsets?topic=orders&partitions=x").await.field(), "partitions");
    assert_eq!(delete("/v1/groups/billing/offsets?topics=orders").await.field(), "topics");
    let allow = front.get("/v1/groups/billing/offsets/reset").await;
    assert_eq!((allow.status.as_u16(), &allow.headers["allow"]), (405, &"POST".parse().unwrap()));
    front.get("/v1/groups/billing/nothing").await.expect(404);
}

#[tokio::test]
async fn positions_are_forgotten_and_answered_and_a_group_is_deleted() {
    let front = front().await;
    let delete = async |path: &str| front.send("DELETE", path, &[], "").await;
    let deleted = delete("/v1/groups/billing/offsets?topic=orders&partitions=0").await.expect(200);
    assert_eq!(deleted["deleted"], json!([{"topic": "orders", "partition": 0, "offset": 4}]));
    front.get("/v1/groups/billing").await.expect(404);
    front.set_offsets("billing", "orders", 4).await;
    delete("/v1/groups/billing").await.expect(204);
    assert_eq!(delete("/v1/groups/billing").await.expect(404)["code"], "group_not_found");
}

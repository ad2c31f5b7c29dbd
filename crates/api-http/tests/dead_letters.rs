//! Dead letters over HTTP: the shapes on the wire, and what goes wrong by its field.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Front};

const PATH: &str = "/v1/subscriptions/mail/dead-letters";

/// A subscription that could not handle so many events.
async fn front(count: usize) -> Front {
    let front = Front::new().await;
    front.create_topic("orders", 2).await;
    let mail = json!({"name": "mail", "topics": ["orders"], "ordering": "none"});
    front.post("/v1/subscriptions", &mail).await.expect(201);
    reject(&front, 0..count).await;
    front
}

async fn reject(front: &Front, numbers: std::ops::Range<usize>) {
    let count = numbers.len();
    if count == 0 {
        return;
    }
    let events: Vec<Value> =
        numbers.map(|n| json!({"key": format!("k{n}"), "type": "created", "data": {"n": n}})).collect();
    front.post("/v1/topics/orders/events", &json!({"events": events})).await.expect(200);
    let mut left = count;
    while left > 0 {
        let pull = json!({"max": left, "wait": "20s"});
        let out = front.post("/v1/subscriptions/mail/pull", &pull).await.expect(200);
        let out = out["deliveries"].as_array().unwrap().clone();
        left -= out.len();
        let reject: Vec<Value> =
            out.iter().map(|it| json!({"ackId": it["ackId"], "reason": "no such customer"})).collect();
        front.post("/v1/subscriptions/mail/ack", &json!({"reject": reject})).await.expect(200);
    }
}

async fn patch(front: &Front, id: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    front.send("PATCH", &format!("{PATH}/{id}"), &headers, body.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_in_pages_with_their_context() {
    let front = front(5).await;
    let page = front.get(&format!("{PATH}?limit=3")).await.expect(200);
    let letters = page["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), 3);
    let letter = &letters[0];
    assert_eq!(
        (&letter["status"], &letter["edited"], &letter["attempts"]),
        (&json!("parked"), &json!(false), &json!(1))
    );
    assert_eq!(letter["error"], json!({"kind": "rejected", "message": "no such customer", "chain": []}));
    assert!(letter["firstFailedAt"].is_string() && letter["lastFailedAt"].is_string());
    assert_eq!(letter["deadLetter"]["topic"], "mail.dlq");
    assert_eq!((&letter["event"]["topic"], &letter["event"]["type"]), (&json!("orders"), &json!("created")));
    assert!(letter["event"]["data"]["n"].is_u64() && letter["event"]["headers"].is_null());
    let cursor = page["cursor"].as_str().unwrap();
    let rest = front.get(&format!("{PATH}?limit=3&cursor={cursor}")).await.expect(200);
    assert_eq!((rest["deadLetters"].as_array().unwrap().len(), &rest["cursor"]), (2, &Value::Null));
    let filtered =
        front.get(&format!("{PATH}?filter=data.n%20%3D%3D%203&error=rejected&status=parked")).await;
    let filtered = filtered.expect(200);
    assert_eq!(filtered["deadLetters"].as_array().unwrap().len(), 1);
    assert_eq!(filtered["deadLetters"][0]["event"]["data"]["n"], 3);
    let summary = front.get(&format!("{PATH}/summary")).await.expect(200);
    assert_eq!(
        summary,
        json!({"kinds": {"rejected": 5}, "types": {"created": 5}, "statuses": {"parked": 5}})
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_without_dead_letters_has_an_empty_list() {
    let front = front(0).await;
    assert_eq!(front.get(PATH).await.expect(200), json!({"deadLetters": [], "cursor": null}));
    let summary = front.get(&format!("{PATH}/summary")).await.expect(200);
    assert_eq!(summary, json!({"kinds": {}, "types": {}, "statuses": {}}));
    let missing = front.get(&format!("{PATH}/00000000-0000-8000-8000-000000000000")).await.expect(404);
    assert_eq!(missing["code"], "dead_letter_not_found");
    let nobody = front.get("/v1/subscriptions/nobody/dead-letters").await.expect(404);
    assert_eq!(nobody["code"], "subscription_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_edited_and_discarded_and_its_history_is_shown() {
    let front = front(2).await;
    let page = front.get(PATH).await.expect(200);
    let id = page["deadLetters"][0]["id"].as_str().unwrap();
    let was = page["deadLetters"][0]["event"].clone();
    let edit = json!({"key": "other", "data": {"n": 99}, "headers": {"x-mended": "yes"}});
    let edited = patch(&front, id, &edit).await.expect(200);
    assert_eq!((&edited["status"], &edited["edited"]), (&json!("parked"), &json!(true)));
    assert_eq!((&edited["event"]["key"], &edited["event"]["data"]), (&json!("other"), &json!({"n": 99})));
    assert_eq!((&edited["event"]["headers"], &edited["unedited"]), (&json!({"x-mended": "yes"}), &was));
    let nulled = patch(&front, id, &json!({"data": null})).await.expect(200);
    assert_eq!((&nulled["event"]["key"], &nulled["event"]["data"]), (&json!("other"), &Value::Null));
    let bytes = patch(&front, id, &json!({"data_base64": "AP8="})).await.expect(200);
    assert_eq!(bytes["event"]["data_base64"], "AP8=");
    front.send("DELETE", &format!("{PATH}/{id}?reason=no%20longer"), &[], "").await.expect(204);
    front.send("DELETE", &format!("{PATH}/{id}"), &[], "").await.expect(204);
    let shown = front.get(&format!("{PATH}/{id}")).await.expect(200);
    assert_eq!(shown["status"], "discarded");
    let history = shown["history"].as_array().unwrap();
    assert_eq!(history.len(), 4);
    assert_eq!((&history[0]["decision"], &history[0]["by"]), (&json!("edited"), &json!("anonymous")));
    assert_eq!(history[0]["changed"], json!(["key", "data", "headers"]));
    assert_eq!((&history[3]["decision"], &history[3]["reason"]), (&json!("discarded"), &json!("no longer")));
    let refused = patch(&front, id, &json!({"key": null})).await.expect(409);
    assert_eq!(refused["code"], "conflict");
    let summary = front.get(&format!("{PATH}/summary?status=discarded")).await.expect(200);
    assert_eq!(
        (&summary["kinds"], &summary["statuses"]),
        (&json!({"rejected": 1}), &json!({"parked": 1, "discarded": 1}))
    );
}

#[tokio::test(start_paused = true)]
async fn bad_input_names_its_field() {
    let front = front(1).await;
    let page = front.get(PATH).await.expect(200);
    let id = page["deadLetters"][0]["id"].as_str().unwrap();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("cursor=x", "cursor"),
        ("status=lost", "status"),
        ("filter=data.", "filter"),
        ("kind=x", "kind"),
    ] {
        let answer = front.get(&format!("{PATH}?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, field), "{query}");
    }
    for (body, field) in [
        (json!({"key": 1}), "key"),
        (json!({"partition": 1}), "partition"),
        (json!({"headers": {"es_x": "1"}}), "headers.es_x"),
        (json!({"data": 1, "data_base64": ""}), "data_base64"),
        (json!({}), ""),
    ] {
        let answer = patch(&front, id, &body).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, field), "{body}");
    }
    let long = "x".repeat(1_001);
    let answer = front.send("DELETE", &format!("{PATH}/{id}?reason={long}"), &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "reason"));
    front.send("POST", PATH, &[], "").await.expect(405);
    front.send("POST", &format!("{PATH}/{id}"), &[], "").await.expect(405);
    for (body, status, field) in [
        (json!({}), 400, "ids"),
        (json!({"ids": []}), 400, "ids"),
        (json!({"ids": [7]}), 400, "ids[0]"),
        (json!({"ids": ["nobody"]}), 404, "ids[0]"),
        (json!({"ids": [id], "all": true}), 400, "ids"),
        (json!({"filter": "type =="}), 400, "filter"),
        (json!({"all": true, "ratePerSecond": 0}), 400, "ratePerSecond"),
        (json!({"all": true, "dryrun": true}), 400, "dryrun"),
    ] {
        let answer = front.post(&format!("{PATH}/redrive"), &body).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (status, field), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_redriven_by_a_job_and_tried_first() {
    let front = front(4).await;
    let (path, all) = (format!("{PATH}/redrive"), json!({"filter": "data.n != 3", "dryRun": true}));
    let trial = front.post(&path, &all).await.expect(200);
    assert_eq!((&trial["matched"], &trial["matchedByType"]), (&json!(3), &json!({"created": 3})));
    let job = front.post(&path, &json!({"filter": "data.n != 3"})).await.expect(202);
    assert_eq!((&job["kind"], &job["target"]["subscription"]), (&json!("redrive"), &json!("mail")));
    let id = job["id"].as_str().unwrap();
    let job = loop {
        let job = front.get(&format!("/v1/replays/{id}")).await.expect(200);
        if job["state"] != "running" {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((&job["state"], &job["written"]), (&json!("completed"), &json!(3)), "{job}");
    let summary = front.get(&format!("{PATH}/summary")).await.expect(200);
    assert_eq!(summary["statuses"], json!({"parked": 1, "redriven": 3}));
}

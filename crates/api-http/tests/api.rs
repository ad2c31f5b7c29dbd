//! What the front promises, over the backend in memory and without a network.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_http::{Component, Health, Peer};
use domain::Limits;
use http::Request;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::Front;

const EVENTS: &str = "/v1/topics/orders/events";

async fn front() -> Front {
    let front = Front::new().await;
    front.create_topic("orders", 1).await;
    front
}

#[tokio::test]
async fn an_event_is_receipted_and_shown_as_it_was_sent() {
    let front = front().await;
    let sent = json!({
        "id": "1", "type": "order.created", "source": "/shop", "time": "2026-01-02T03:04:05.678Z", "key": "k",
        "headers": {"x": ["a", null]}, "data": {"n": 1}, "extensions": {"region": "eu"}
    });
    let receipt = front.post(EVENTS, &sent).await.expect(200);
    assert_eq!(
        receipt,
        json!({"id": "1", "topic": "orders", "partition": 0, "offset": 0,
               "timestamp": "2026-01-02T03:04:05.678Z", "duplicate": false})
    );
    let page = front.get(&format!("{EVENTS}?from=earliest")).await.expect(200);
    for (field, value) in sent.as_object().unwrap() {
        assert_eq!(&page["events"][0][field], value);
    }
    assert_eq!(page["next"], "0:1");
}

#[tokio::test]
async fn a_batch_with_a_bad_item_is_207_and_one_without_is_200() {
    let front = front().await;
    let good = json!({"events": [{"data": 1}, {"data": 2}]});
    assert_eq!(front.post(EVENTS, &good).await.expect(200)["published"], 2);
    let mixed = json!({"events": [{"data": 1}, {"type": 5, "key": "k"}, {"key": "k"}, 7]});
    let body = front.post(EVENTS, &mixed).await.expect(207);
    assert_eq!((&body["published"], &body["failed"]), (&json!(1), &json!(3)));
    assert_eq!(body["results"][1]["error"]["errors"][0]["field"], "events[1].type");
    assert_eq!(body["results"][2]["error"]["code"], "predecessor_failed");
    assert_eq!(body["results"][3]["error"]["errors"][0]["field"], "events[3]");
}

#[tokio::test]
async fn every_format_of_cloudevents_is_taken() {
    let front = front().await;
    let event =
        json!({"specversion": "1.0", "id": "s", "source": "/s", "type": "t", "region": "eu", "data": 1});
    let send = async |kind: &str, headers: &[(&str, &str)], body: String| {
        let headers = [&[("content-type", kind)], headers].concat();
        front.send("POST", EVENTS, &headers, body).await
    };
    send("application/cloudevents+json; charset=utf-8", &[], event.to_string()).await.expect(200);
    let batch = json!([event, {"specversion": "1.0", "id": "x"}]).to_string();
    let body = send("application/cloudevents-batch+json", &[], batch).await.expect(207);
    assert_eq!(body["results"][1]["error"]["errors"][0]["field"], "events[1].source");
    send("text/plain", &[("ce-id", "b"), ("ce-region", "eu")], "text".into()).await.expect(200);
    // Its body would be mistaken for an event.
    let refused = send("application/json", &[("ce-specversion", "1.0"), ("ce-id", "b")], "{}".into()).await;
    assert_eq!((refused.status.as_u16(), refused.field()), (400, "content-type"));

    let page = front.get(&format!("{EVENTS}?from=earliest")).await.expect(200);
    let shown: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|e| (&e["id"], &e["extensions"])).collect();
    let eu = json!({"region": "eu"});
    assert_eq!(shown, [(&json!("s"), &eu), (&json!("s"), &eu), (&json!("b"), &eu)]);
    assert_eq!(page["events"][2]["data_base64"], "dGV4dA==");
}

#[tokio::test]
async fn a_correlation_id_and_a_trace_travel_with_the_event() {
    let front = front().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers =
        [("content-type", "application/json"), ("x-correlation-id", "c-7"), ("traceparent", traceparent)];
    let answer = front.send("POST", EVENTS, &headers, "{}").await;
    assert_eq!(answer.headers["x-correlation-id"], "c-7");
    front.send("POST", EVENTS, &headers, r#"{"correlationid":"own"}"#).await.expect(200);
    let page = front.get(&format!("{EVENTS}?from=earliest")).await.expect(200);
    let [first, second] = [&page["events"][0], &page["events"][1]];
    assert_eq!((&first["correlationid"], &first["traceparent"]), (&json!("c-7"), &json!(traceparent)));
    assert_eq!(second["correlationid"], "own", "what the body says beats the header");
    let made = front.get("/v1/nowhere").await;
    assert_eq!(made.headers["x-correlation-id"].to_str().unwrap(), made.body["correlationId"]);
}

#[tokio::test]
async fn what_is_known_and_not_built_is_501_and_named() {
    let front = front().await;
    let answer = front.get(&format!("{EVENTS}?filter=true")).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (501, "filter"));
    front.get("/actuator/metrics").await.expect(501);
}

#[tokio::test]
async fn an_expression_that_is_wrong_is_400_with_its_place_and_one_that_is_right_is_shown() {
    let front = front().await;
    let create = async |more: Value| {
        let mut body = json!({"name": "mail", "topics": ["orders"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        front.post("/v1/subscriptions", &body).await
    };
    for (more, field, said) in [
        (
            json!({"filter": "typ == 'a'"}),
            "filter",
            "line 1, column 1: `typ` is not known; did you mean `type`?",
        ),
        (json!({"filter": "type == 'a' &&\n"}), "filter", "line 2, column 1: "),
        (json!({"filter": ""}), "filter", "is empty"),
        (json!({"filter": "offset"}), "filter", "must be true or false"),
        (json!({"filter": "(".repeat(4000)}), "filter", "nested deeper than 32"),
        (json!({"filter": " ".repeat(5000)}), "filter", "at most 4096 are taken"),
        (json!({"filter": ["type"]}), "filter", "must be a string"),
        (json!({"dedup": {"key": "data.order +"}}), "dedup.key", "line 1, column 13: "),
        (json!({"dedup": {"enabled": false, "key": "order"}}), "dedup.key", "`order` is not known"),
    ] {
        let answer = create(more.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (400, field), "{more}");
        let message = answer.body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(said), "{more}: {message}");
    }
    front.get("/v1/subscriptions/mail").await.expect(404);
    let right = json!({"filter": "type == 'a'", "dedup": {"key": "data.order"}});
    let shown = create(right).await.expect(201);
    assert_eq!((&shown["filter"], &shown["dedup"]["key"]), (&json!("type == 'a'"), &json!("data.order")));
    assert_eq!((&shown["filtered"], &shown["filterErrors"]), (&json!(0), &json!({"count": 0, "last": null})));
}

#[tokio::test]
async fn what_a_filter_passed_over_and_could_not_tell_is_shown() {
    let front = front().await;
    let new = json!({"name": "mail", "topics": ["orders"], "filter": "data.total > 10"});
    front.post("/v1/subscriptions", &new).await.expect(201);
    let events = json!({"events": [{"data": {"total": 11}}, {"data": {"total": 9}}, {"data": "x"}]});
    front.post(EVENTS, &events).await.expect(200);
    let pull = json!({"max": 10, "wait": "20s"});
    let pulled = front.post("/v1/subscriptions/mail/pull", &pull).await.expect(200);
    assert_eq!(pulled["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(pulled["deliveries"][0]["event"]["data"]["total"], 11);
    let shown = front.get("/v1/subscriptions/mail").await.expect(200);
    assert_eq!((&shown["filtered"], &shown["filterErrors"]["count"]), (&json!(2), &json!(1)));
    let last = &shown["filterErrors"]["last"];
    assert_eq!(
        (&last["topic"], &last["partition"], &last["offset"]),
        (&json!("orders"), &json!(0), &json!(2))
    );
    assert_eq!(last["reason"], "a string has no field `total`");
}

#[tokio::test]
async fn a_wrong_path_method_type_or_size_is_a_problem() {
    let front = Front::with(Limits { request_bytes_max: 1000, ..Limits::default() }).await;
    front.create_topic("orders", 1).await;
    for (method, path, kind, body, status, code) in [
        ("GET", "/v1/nowhere", "", String::new(), 404, "not_found"),
        ("PUT", "/v1/topics", "", String::new(), 405, "method_not_allowed"),
        ("POST", "/v1/topics", "text/plain", "x".into(), 415, "unsupported_media_type"),
        ("POST", EVENTS, "application/json", "x".repeat(1001), 413, "request_too_large"),
        ("POST", "/v1/topics/none/events", "application/json", "{}".into(), 404, "topic_not_found"),
        (
            "POST",
            "/v1/subscriptions/none/pull",
            "application/json",
            "{}".into(),
            404,
            "subscription_not_found",
        ),
        (
            "POST",
            "/v1/subscriptions/none/ack",
            "application/json",
            "{}".into(),
            404,
            "subscription_not_found",
        ),
    ] {
        let answer = front.send(method, path, &[("content-type", kind)], body).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        if status == 405 {
            assert_eq!(answer.headers["allow"], "GET, POST");
        }
    }
}

#[tokio::test]
async fn bad_utf_8_is_refused_in_bodies_and_names() {
    let front = front().await;
    let headers = [("content-type", "application/json")];
    let answer = front.send("POST", EVENTS, &headers, &b"{\"type\":\"\xff\"}"[..]).await;
    assert_eq!(answer.status, 400);
    let answer = front.get("/v1/topics/%ff%fe").await;
    assert_eq!((answer.status.as_u16(), answer.field()), (400, "topic"));
}

#[tokio::test]
async fn topics_are_made_shown_changed_purged_and_deleted() {
    let front = front().await;
    front.post(EVENTS, &json!({"events": [{"data": 1}, {"data": 2}]})).await.expect(200);
    let listed = front.get("/v1/topics").await.expect(200);
    let row = json!({"name": "orders", "partitions": 1, "internal": false, "events": 2});
    assert_eq!(listed, json!({"topics": [row]}));
    let shown = front.get("/v1/topics/orders").await.expect(200);
    let partition = &shown["partitions"][0];
    assert_eq!((&partition["earliestOffset"], &partition["latestOffset"]), (&json!(0), &json!(2)));
    let headers = [("content-type", "application/json")];
    let changed = front.send("PATCH", "/v1/topics/orders", &headers, r#"{"partitions":2}"#).await.expect(200);
    assert_eq!(changed["partitions"].as_array().unwrap().len(), 2);
    let purged = front.post("/v1/topics/orders/purge", &json!({"before": {"0": 1}})).await.expect(200);
    assert_eq!(purged, json!({"earliestOffsets": {"0": 1}}));
    front.send("DELETE", "/v1/topics/orders", &[], "").await.expect(204);
    front.get("/v1/topics/orders").await.expect(404);
}

#[tokio::test]
async fn a_subscription_is_made_shown_pulled_decided_and_deleted() {
    let front = front().await;
    let definition = json!({"name": "mail", "topics": ["orders"], "ordering": "none", "ackTimeout": "30s"});
    let made = front.post("/v1/subscriptions", &definition).await;
    assert!(made.headers.contains_key("etag"));
    let made = made.expect(201);
    assert_eq!((&made["delivery"], &made["start"]), (&json!({"mode": "pull"}), &json!("earliest")));
    front.post("/v1/subscriptions", &definition).await.expect(409);
    front.post(EVENTS, &json!({"data": {"n": 1}})).await.expect(200);

    let pulled =
        front.post("/v1/subscriptions/mail/pull", &json!({"max": 10, "wait": "30s"})).await.expect(200);
    let [delivery] = pulled["deliveries"].as_array().unwrap().as_slice() else { panic!("{pulled}") };
    assert_eq!((&delivery["attempt"], &delivery["event"]["data"]), (&json!(1), &json!({"n": 1})));
    assert!(delivery["deadline"].is_string() && delivery["run"].is_string(), "{delivery}");
    let id = &delivery["ackId"];
    let decided = json!({"ack": [id, "foreign"], "extend": [{"ackId": id, "by": "30s"}]});
    let results = front.post("/v1/subscriptions/mail/ack", &decided).await.expect(200);
    assert_eq!(results["results"][0], json!({"ackId": id, "status": "ok"}));
    assert_eq!(results["results"][1], json!({"ackId": "foreign", "status": "unknown"}));
    let empty = front.send("POST", "/v1/subscriptions/mail/pull", &[], "").await.expect(200);
    assert_eq!(empty, json!({"deliveries": []}));

    front.send("DELETE", "/v1/subscriptions/mail", &[], "").await.expect(204);
    assert_eq!(front.get("/v1/subscriptions").await.expect(200), json!({"subscriptions": []}));
}

#[tokio::test]
async fn a_waiting_pull_is_answered_when_the_server_stops() {
    let front = front().await;
    front.post("/v1/subscriptions", &json!({"name": "mail", "topics": ["orders"]})).await.expect(201);
    let body = json!({"wait": "60s"});
    let pull = front.post("/v1/subscriptions/mail/pull", &body);
    let (pulled, ()) = tokio::join!(pull, async { front.stop.cancel() });
    assert_eq!(pulled.expect(200), json!({"deliveries": []}));
}

/// The messages of a tail until `count` of them carried data.
async fn follow(
    front: &Front,
    query: &str,
    last_event_id: Option<&str>,
    count: usize,
) -> Vec<(String, Value)> {
    let mut request = Request::builder().uri(format!("/event-streaming{EVENTS}/tail{query}"));
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
    let reply = front.router.handle(request, Peer::none()).await;
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let mut body = reply.into_body();
    let mut text = String::new();
    let mut found = Vec::new();
    while found.len() < count {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        while let Some((message, rest)) = text.split_once("\n\n") {
            if let Some((id, data)) = message.strip_prefix("id: ").and_then(|m| m.split_once("\ndata: ")) {
                found.push((id.to_owned(), serde_json::from_str(data).unwrap()));
            }
            text = rest.to_owned();
        }
    }
    found
}

#[tokio::test]
async fn a_tail_goes_on_behind_the_last_event_that_was_seen() {
    let front = front().await;
    let pretty = "{\"data\": {\n\"n\":\r\n 0}}";
    front.send("POST", EVENTS, &[("content-type", "application/json")], pretty).await.expect(200);
    front.post(EVENTS, &json!({"events": [{"data": {"n": 1}}, {"data": {"n": 2}}]})).await.expect(200);
    let first = follow(&front, "?from=earliest", None, 3).await;
    let seen: Vec<_> = first.iter().map(|(id, event)| (id.as_str(), &event["data"]["n"])).collect();
    assert_eq!(seen, [("0:1", &json!(0)), ("0:2", &json!(1)), ("0:3", &json!(2))]);
    let resumed = follow(&front, "?from=earliest", Some("0:2"), 1).await;
    assert_eq!(resumed[0].1["data"]["n"], 2);
    let bad = front.send("GET", &format!("{EVENTS}/tail"), &[("last-event-id", "x")], "").await;
    assert_eq!((bad.status.as_u16(), bad.field()), (400, "last-event-id"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_tail_sends_signs_of_life_and_ends_with_the_server() {
    let front = front().await;
    let request = Request::builder().uri(format!("/event-streaming{EVENTS}/tail"));
    let reply =
        front.router.handle(request.body(Full::<bytes::Bytes>::default()).unwrap(), Peer::none()).await;
    let mut body = reply.into_body();
    for expected in ["retry: 1000\n\n", ": still here\n\n", ": still here\n\n"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
    front.stop.cancel();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn health_says_what_its_watcher_says() {
    let front = Front::new().await;
    let health = front.get("/actuator/health").await.expect(200);
    let embedded = json!({"status": "UP", "details": {"nodeCount": 1}});
    assert_eq!(health, json!({"status": "UP", "components": {"embedded": embedded}}));
    front.get("/actuator/health/readiness").await.expect(200);
    let down = Component { name: "kafka", up: false, needed: true, details: Vec::new() };
    front.health.send_replace(Health { ready: true, components: vec![down] });
    assert_eq!(front.get("/actuator/health").await.expect(503)["components"]["kafka"]["status"], "DOWN");
    front.get("/actuator/health/readiness").await.expect(503);
    front.get("/actuator/health/liveness").await.expect(200);
    // What some topics alone need does not keep the others from being served.
    let partly = Component { name: "schemaRegistry", up: false, needed: false, details: Vec::new() };
    front.health.send_replace(Health { ready: true, components: vec![partly] });
    let health = front.get("/actuator/health").await.expect(200);
    assert_eq!(health["components"]["schemaRegistry"]["status"], "DOWN");
    front.get("/actuator/health/readiness").await.expect(200);
}

/// Method, path, headers and body.
type Parts = (String, String, Vec<(String, Vec<u8>)>, Vec<u8>);

/// Requests of every shape, right and wrong.
fn request() -> impl Strategy<Value = Parts> {
    let method = prop_oneof!["GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS", "[A-Z]{1,8}"];
    let path = prop_oneof![
        "/v1/(topics|subscriptions)(/(orders|mail|%[0-9a-f]{2}|[.]{1,3}))?(/(events|events/tail|purge|pull|ack))?",
        "(/[a-z0-9.%-]{0,6}){0,9}",
    ];
    let query = prop_oneof![
        Just(String::new()),
        "[?](from|cursor|partition|offset|limit|typo)=[0-9a-z:,-]{0,22}(&limit=[0-9a-z-]{0,5})?",
    ];
    let header = (
        prop_oneof![
            "ce-[a-z]{1,8}|x-correlation-id|traceparent|last-event-id|idempotency-key",
            Just("content-type".to_owned()),
        ],
        prop_oneof![
            "application/(json|cloudevents[+]json|cloudevents-batch[+]json)|text/plain"
                .prop_map(String::into_bytes),
            proptest::collection::vec(prop_oneof![Just(b'\t'), 32..127_u8, 128..=255_u8], 0..12),
        ],
    );
    let body = prop_oneof![
        "\\{(\"(name|topics|events|data|key|max|wait|ack|before|type|headers)\":(1|\"a\"|\\[\\]|\\{\\}|null|-1),?){0,4}\\}"
            .prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let path = (path, query).prop_map(|(path, query)| format!("/event-streaming{path}{query}"));
    (method, path, proptest::collection::vec(header, 0..4), body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_answered_with_a_failure_of_ours((method, path, headers, body) in request()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let front = front().await;
            front.post("/v1/subscriptions", &json!({"name": "mail", "topics": ["orders"]})).await.expect(201);
            let mut request = Request::builder().method(method.as_str()).uri(&path);
            for (name, value) in &headers {
                request = request.header(name.as_str(), value.as_slice());
            }
            // What cannot even be said over HTTP is not asked.
            let Ok(request) = request.body(Full::new(bytes::Bytes::from(body))) else { return Ok(()) };
            let reply = front.router.handle(request, Peer::none()).await;
            let status = reply.status().as_u16();
            prop_assert!(status < 500 || status == 501, "{method} {path} {headers:?}: {status}");
            prop_assert!(reply.headers().contains_key("x-correlation-id"));
            Ok(())
        })?;
    }
}

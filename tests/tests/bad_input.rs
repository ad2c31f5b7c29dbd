//! Bad input is refused with a problem that names the field, and the service goes on.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Answer, Client, Log, Service, Setup, on_every_log, raw_exchange, unique};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};

on_every_log!(
    a_bad_event_is_refused_by_field,
    a_bad_batch_is_refused,
    a_bad_cloudevent_is_refused_by_attribute,
    a_bad_topic_is_refused_by_field,
    an_illegal_name_in_a_path_is_refused,
    an_unknown_topic_is_not_found,
    a_bad_place_to_browse_from_is_refused_by_parameter,
    a_bad_subscription_is_refused_by_field,
    a_bad_pull_or_acknowledgement_is_refused_by_field,
    a_wrong_method_path_or_type_is_a_problem_too,
    a_body_beyond_the_limit_is_refused,
    half_sent_requests_and_slow_clients_hold_nobody_up,
);

struct Fixture {
    service: Service,
    client: Client,
    topic: String,
    _data: TempDir,
}

/// The most that a body may have here: small, so that all of one fits into the sockets' buffers and
/// the answer is read whatever the server does with the rest.
const BODY_MAX: usize = 64 * 1024;

async fn fixture(log: &Log) -> Fixture {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(log).set("limits.request-bytes-max", "64KiB").start(data.path()).await;
    let client = service.client();
    let topic = unique("bad");
    client.create_topic(&topic, 2).await;
    Fixture { service, client, topic, _data: data }
}

impl Fixture {
    fn events(&self) -> String {
        format!("/v1/topics/{}/events", self.topic)
    }

    /// Sends each body and expects a 400 that names its field.
    async fn refused(&self, path: &str, rows: impl IntoIterator<Item = (Value, &str)>) {
        for (body, field) in rows {
            let answer = self.client.post(path, &body).await;
            problem(answer, &format!("POST {path} {}", shortened(&body)), 400, field);
        }
    }

    /// After everything: it is healthy, still takes events, and nothing bad got in.
    async fn goes_on(self) {
        assert!(self.client.browse_all(&self.topic).await.is_empty(), "something of it was appended");
        self.client.publish(&self.topic, &json!({"data": "good"})).await;
        assert_eq!(self.client.get("/actuator/health").await.expect(200)["status"], "UP");
        let output = self.service.output();
        assert!(!output.contains("panicked at"), "it panicked");
    }
}

fn shortened(body: &Value) -> String {
    body.to_string().chars().take(120).collect()
}

/// Checks the shape of RFC 9457 and that `field` is named (an empty one: any or none).
#[track_caller]
fn problem(answer: Answer, what: &str, status: u16, field: &str) {
    let kind = answer
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = answer.body;
    assert_eq!(answer.status.as_u16(), status, "{what}: {body}");
    assert!(kind.starts_with("application/problem+json"), "{what}: content-type is {kind:?}");
    assert_eq!(body["status"], status, "{what}: {body}");
    for text in ["type", "title", "code", "detail", "correlationId"] {
        assert!(body[text].is_string(), "{what}: no {text} in {body}");
    }
    let named =
        || body["errors"].as_array().is_some_and(|errors| errors.iter().any(|error| error["field"] == field));
    assert!(field.is_empty() || named(), "{what}: {field} is not named in {body}");
}

async fn a_bad_event_is_refused_by_field(log: Log) {
    let it = fixture(&log).await;
    let path = it.events();
    it.refused(
        &path,
        [
            (json!({"data": 1, "typo": 2}), "typo"),
            (json!({"data": 1, "type": 5}), "type"),
            (json!({"data": 1, "id": ""}), "id"),
            (json!({"data": 1, "id": ["x"]}), "id"),
            (json!({"data": 1, "time": "yesterday"}), "time"),
            (json!({"data": 1, "partition": -1}), "partition"),
            (json!({"data": 1, "partition": 99}), "partition"),
            (json!({"data": 1, "partition": 1.5}), "partition"),
            (json!({"data": 1, "partition": "0"}), "partition"),
            (json!({"data": 1, "partition": 1e30}), "partition"),
            (json!({"data": 1, "key": {"a": 1}}), "key"),
            (json!({"data": 1, "headers": ["a"]}), "headers"),
            (json!({"data": 1, "headers": {"a": 5}}), "headers.a"),
            (json!({"data": 1, "headers": {"a": {"base64": "%"}}}), "headers.a"),
            (json!({"data": 1, "extensions": {"Not-A-Name": 1}}), "extensions.Not-A-Name"),
            (json!({"data": 1, "extensions": {"nested": {}}}), "extensions.nested"),
            (json!({"data": 1, "data_base64": "AA=="}), "data_base64"),
            (json!({"data_base64": "not base 64"}), "data_base64"),
            (json!({"data": 1, "specversion": "0.3"}), "specversion"),
        ],
    )
    .await;
    // No JSON at all has no field to name.
    let nested = format!("{{\"data\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let broken: [(&str, &[u8]); 8] = [
        ("nothing", b""),
        ("cut off", b"{\"data\": "),
        ("an array", b"[]"),
        ("a string", b"\"x\""),
        ("null", b"null"),
        ("more than one", b"{\"data\":1}{\"data\":2}"),
        ("bad UTF-8", b"{\"type\":\"\xff\xfe\",\"data\":1}"),
        ("nested deeply", nested.as_bytes()),
    ];
    for (what, body) in broken {
        let answer = it.client.post_bytes(&path, &[("content-type", "application/json")], body).await;
        problem(answer, what, 400, "");
    }
    it.goes_on().await;
}

async fn a_bad_batch_is_refused(log: Log) {
    let it = fixture(&log).await;
    let path = it.events();
    let huge: Vec<Value> = (0..10_001).map(|_| json!({})).collect();
    it.refused(
        &path,
        [
            (json!({"events": []}), "events"),
            (json!({"events": {}}), "events"),
            (json!({"events": huge}), "events"),
            (json!({"events": [{"data": 1}], "typo": 1}), "typo"),
        ],
    )
    .await;
    // Bad items fail alone, so here all fail and nothing is appended.
    let items = json!({"events": [{"type": 5}, 7, null, {"data": 1, "partition": -1}]});
    let body = it.client.post(&path, &items).await.expect(207);
    assert_eq!((&body["published"], &body["failed"]), (&json!(0), &json!(4)), "{body}");
    for (index, result) in body["results"].as_array().expect("results").iter().enumerate() {
        let error = &result["error"];
        let field = error["errors"][0]["field"].as_str().unwrap_or_default();
        assert_eq!(error["status"], 400, "{body}");
        assert!(field.starts_with(&format!("events[{index}]")), "{body}");
    }
    it.goes_on().await;
}

async fn a_bad_cloudevent_is_refused_by_attribute(log: Log) {
    let it = fixture(&log).await;
    let path = it.events();
    let good = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1});
    let with = |field: &str, value: Value| {
        let mut event = good.clone();
        event[field] = value;
        event
    };
    for (event, field) in [
        (with("specversion", json!("0.3")), "specversion"),
        (with("id", json!("")), "id"),
        (with("type", json!(7)), "type"),
        (with("time", json!("soon")), "time"),
        (with("Region", json!("eu")), "Region"),
        (json!({"specversion": "1.0", "source": "/s", "type": "t"}), "id"),
        (json!({"id": "1", "source": "/s", "type": "t"}), "specversion"),
    ] {
        let headers = [("content-type", "application/cloudevents+json")];
        let answer = it.client.post_bytes(&path, &headers, event.to_string()).await;
        problem(answer, &event.to_string(), 400, field);
    }
    let headers = [("content-type", "text/plain"), ("ce-time", "soon"), ("ce-type", "t")];
    let answer = it.client.post_bytes(&path, &headers, "x").await;
    problem(answer, "binary with a bad ce-time", 400, "ce-time");
    it.goes_on().await;
}

async fn a_bad_topic_is_refused_by_field(log: Log) {
    let it = fixture(&log).await;
    let long = "a".repeat(250);
    for name in ["", ".", "..", "a/b", "../../etc/passwd", "a\\b", "a\0b", "a b", "é", "a\n", long.as_str()]
    {
        it.refused("/v1/topics", [(json!({"name": name, "partitions": 1}), "name")]).await;
    }
    let name = unique("never");
    it.refused(
        "/v1/topics",
        [
            (json!({"name": 7}), "name"),
            (json!({"partitions": 1}), "name"),
            (json!({"name": name, "partitions": 0}), "partitions"),
            (json!({"name": name, "partitions": -1}), "partitions"),
            (json!({"name": name, "partitions": 2.5}), "partitions"),
            (json!({"name": name, "partitions": "3"}), "partitions"),
            (json!({"name": name, "partitions": 1_000_000_000_000_i64}), "partitions"),
            (json!({"name": name, "partitions": 2_000_000_000}), "partitions"),
            (json!({"name": name, "partitions": 1, "replicationFactor": 0}), "replicationFactor"),
            (json!({"name": name, "partitions": 1, "replicationFactor": -3}), "replicationFactor"),
            (json!({"name": name, "partitions": 1, "replicationFactor": 99}), "replicationFactor"),
            (json!({"name": name, "partitions": 1, "config": {"no.such.key": "1"}}), "config.no.such.key"),
            (
                json!({"name": name, "partitions": 1, "config": {"retention.ms": "long"}}),
                "config.retention.ms",
            ),
            (json!({"name": name, "partitions": 1, "config": []}), "config"),
            (json!({"name": name, "partitions": 1, "typo": 1}), "typo"),
        ],
    )
    .await;
    it.client.get(&format!("/v1/topics/{name}")).await.expect(404);
    it.goes_on().await;
}

async fn an_illegal_name_in_a_path_is_refused(log: Log) {
    let it = fixture(&log).await;
    let base_path = format!("/{}", it.service.http().splitn(4, '/').nth(3).unwrap_or_default());
    let long = "a".repeat(250);
    for name in
        ["%2e%2e", "..%2f..%2fetc%2fpasswd", "a%2Fb", "a%00b", "%ff%fe", "a%20b", "%C3%A9", long.as_str()]
    {
        for (method, rest, body) in [("GET", "", ""), ("POST", "/events", "{\"data\":1}"), ("DELETE", "", "")]
        {
            let request = format!(
                "{method} {base_path}/v1/topics/{name}{rest} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = raw_exchange(it.service.http(), request.as_bytes()).await;
            assert_eq!(answer.status, Some(400), "{method} {name}{rest}: {}", answer.text);
            assert!(answer.text.contains("\"field\":\"topic\""), "{method} {name}{rest}: {}", answer.text);
        }
    }
    it.goes_on().await;
}

async fn an_unknown_topic_is_not_found(log: Log) {
    let it = fixture(&log).await;
    let unknown = unique("unknown");
    let path = format!("/v1/topics/{unknown}");
    for answer in [
        it.client.get(&path).await,
        it.client.delete(&path).await,
        it.client.get(&format!("{path}/events?from=earliest")).await,
        it.client.get(&format!("{path}/events/tail")).await,
        it.client.post(&format!("{path}/events"), &json!({"data": 1})).await,
        it.client.post(&format!("{path}/events"), &json!({"events": [{"data": 1}]})).await,
        it.client.post("/v1/subscriptions", &json!({"name": unique("sub"), "topics": [unknown]})).await,
    ] {
        assert_eq!(answer.body["code"], "topic_not_found", "{}", answer.body);
        problem(answer, "an unknown topic", 404, "");
    }
    it.goes_on().await;
}

async fn a_bad_place_to_browse_from_is_refused_by_parameter(log: Log) {
    let it = fixture(&log).await;
    let path = it.events();
    for (query, field) in [
        ("partition=-1&offset=0", "partition"),
        ("partition=x&offset=0", "partition"),
        ("partition=99&offset=0", "partition"),
        ("partition=99999999999999999999&offset=0", "partition"),
        ("partition=0&offset=-5", "offset"),
        ("partition=0&offset=99999999999999999999", "offset"),
        ("from=earliest&limit=-1", "limit"),
        ("from=earliest&limit=all", "limit"),
        ("from=earliest&limit=99999999999999999999", "limit"),
        ("from=never", "from"),
        ("cursor=nonsense", "cursor"),
        ("cursor=0:x", "cursor"),
        ("cursor=99:0", "cursor"),
        ("cursor=0:99999999999999999999", "cursor"),
        ("typo=1", "typo"),
    ] {
        let answer = it.client.get(&format!("{path}?{query}")).await;
        problem(answer, query, 400, field);
    }
    let answer = it.client.get(&format!("{path}/tail?from=never")).await;
    problem(answer, "tail?from=never", 400, "from");
    it.goes_on().await;
}

async fn a_bad_subscription_is_refused_by_field(log: Log) {
    let it = fixture(&log).await;
    let long = "a".repeat(201);
    for name in ["", ".", "..", "a/b", "a\0b", long.as_str()] {
        it.refused("/v1/subscriptions", [(json!({"name": name, "topics": [it.topic]}), "name")]).await;
    }
    let name = unique("sub");
    let with = |field: &str, value: Value| {
        let mut definition = json!({"name": name, "topics": [it.topic]});
        definition[field] = value;
        definition
    };
    it.refused(
        "/v1/subscriptions",
        [
            (json!({"topics": [it.topic]}), "name"),
            (json!({"name": name}), "topics"),
            (with("topics", json!([])), "topics"),
            (with("topics", json!("orders")), "topics"),
            (with("topics", json!(["a/b"])), "topics[0]"),
            (with("delivery", json!({"mode": "carrier-pigeon"})), "delivery.mode"),
            (with("ordering", json!("random")), "ordering"),
            (with("maxInFlight", json!(0)), "maxInFlight"),
            (with("maxInFlight", json!(-1)), "maxInFlight"),
            (with("ackTimeout", json!("soon")), "ackTimeout"),
            (with("ackTimeout", json!("-1s")), "ackTimeout"),
            (with("ackTimeout", json!("0s")), "ackTimeout"),
            (with("ackTimeout", json!(30)), "ackTimeout"),
            (with("start", json!("never")), "start"),
            (with("filter", json!("type = 'a'")), "filter"),
            (with("filter", json!("typ == 'a'")), "filter"),
            (with("filter", json!("[".repeat(4000))), "filter"),
            (with("filter", json!("type.matches('(')")), "filter"),
            (with("dedup", json!({"key": "data."})), "dedup.key"),
            (with("typo", json!(1)), "typo"),
        ],
    )
    .await;
    it.client.get(&format!("/v1/subscriptions/{name}")).await.expect(404);
    it.goes_on().await;
}

async fn a_bad_pull_or_acknowledgement_is_refused_by_field(log: Log) {
    let it = fixture(&log).await;
    let name = unique("sub");
    it.client.subscribe(&name, &it.topic, &json!({})).await;
    it.refused(
        &format!("/v1/subscriptions/{name}/pull"),
        [
            (json!({"max": -1}), "max"),
            (json!({"max": 0}), "max"),
            (json!({"max": "many"}), "max"),
            (json!({"wait": "soon"}), "wait"),
            (json!({"wait": "-1s"}), "wait"),
            (json!({"wait": 5}), "wait"),
            (json!({"typo": 1}), "typo"),
        ],
    )
    .await;
    it.refused(
        &format!("/v1/subscriptions/{name}/ack"),
        [
            (json!({"ack": "one"}), "ack"),
            (json!({"ack": [7]}), "ack[0]"),
            (json!({"extend": [{"ackId": "a", "by": "soon"}]}), "extend[0].by"),
            (json!({"extend": [{"by": "30s"}]}), "extend[0].ackId"),
            (json!({"typo": []}), "typo"),
        ],
    )
    .await;
    let unknown = unique("unknown");
    for path in [format!("/v1/subscriptions/{unknown}/pull"), format!("/v1/subscriptions/{unknown}/ack")] {
        let answer = it.client.post(&path, &json!({})).await;
        assert_eq!(answer.body["code"], "subscription_not_found", "{}", answer.body);
        problem(answer, &path, 404, "");
    }
    it.goes_on().await;
}

async fn a_wrong_method_path_or_type_is_a_problem_too(log: Log) {
    let it = fixture(&log).await;
    let put = it.client.send(it.client.request(Method::PUT, "/v1/topics")).await;
    assert_eq!(put.body["code"], "method_not_allowed", "{}", put.body);
    problem(put, "PUT /v1/topics", 405, "");
    let nowhere = it.client.get("/v1/nowhere").await;
    assert_eq!(nowhere.body["code"], "not_found", "{}", nowhere.body);
    problem(nowhere, "GET /v1/nowhere", 404, "");
    let text = it.client.post_bytes("/v1/topics", &[("content-type", "text/plain")], "name: x").await;
    assert_eq!(text.body["code"], "unsupported_media_type", "{}", text.body);
    problem(text, "POST /v1/topics as text", 415, "");
    it.goes_on().await;
}

async fn a_body_beyond_the_limit_is_refused(log: Log) {
    let it = fixture(&log).await;
    let body = json!({"data": "x".repeat(BODY_MAX)}).to_string();
    let base_path = format!("/{}", it.service.http().splitn(4, '/').nth(3).unwrap_or_default());
    let head = format!(
        "POST {base_path}{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n",
        it.events()
    );
    let announced = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // The same without saying beforehand how much comes.
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for request in [announced, chunked] {
        let answer = raw_exchange(it.service.http(), request.as_bytes()).await;
        assert_eq!(answer.status, Some(413), "{}", answer.text);
        assert!(answer.text.contains("\"request_too_large\""), "{}", answer.text);
    }
    it.goes_on().await;
}

async fn half_sent_requests_and_slow_clients_hold_nobody_up(log: Log) {
    let it = fixture(&log).await;
    let base_path = format!("/{}", it.service.http().splitn(4, '/').nth(3).unwrap_or_default());
    let head = format!(
        "POST {base_path}{} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n",
        it.events()
    );
    for request in [
        format!("{head}content-length: 100\r\n\r\n{{\"data\": 1}}"),
        format!("{head}transfer-encoding: chunked\r\n\r\nff\r\n{{\"data\": 1}}"),
        head.clone(),
        "GET ".to_owned(),
        "\0\u{1}\u{2} nonsense\r\n\r\n".to_owned(),
        format!("{head}content-length: -1\r\n\r\n{{}}"),
        format!("{head}content-length: 99999999999999999999999\r\n\r\n{{}}"),
    ] {
        let answer = raw_exchange(it.service.http(), request.as_bytes()).await;
        let refused = answer.status.is_none_or(|status| (400..500).contains(&status));
        assert!(refused, "{request:?}: {}", answer.text);
    }
    // Many that began a request and say nothing more.
    let authority = it.service.http().trim_start_matches("http://").split('/').next().expect("an authority");
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(authority).await.expect("it accepts connections");
        let part = if number % 2 == 0 { &head[..20] } else { &format!("{head}content-length: 50\r\n\r\n{{") };
        stream.write_all(part.as_bytes()).await.expect("it reads");
        slow.push(stream);
    }
    it.client.publish(&it.topic, &json!({"data": "while they wait"})).await;
    let events = it.client.browse_all(&it.topic).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(it.client.get("/actuator/health").await.expect(200)["status"], "UP");
    drop(slow);
    // Nor do they keep it from stopping.
    let status = it.service.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

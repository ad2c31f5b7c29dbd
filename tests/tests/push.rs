//! Webhooks, end to end: what they are sent, what their answers mean, and that nothing is lost, overtaken
//! or held against an event that is not its fault.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use api_grpc::proto::{
    CreateSubscriptionRequest, PullRequest, PushTarget, subscriber_client::SubscriberClient,
    subscriptions_client::SubscriptionsClient,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use event_streaming_tests::{
    Client, Log, Pushed, Receiver, Reply, Service, Setup, eventually, on_every_log, unique,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

on_every_log!(
    each_format_is_sent_as_cloudevents_says_and_is_signed,
    a_batch_is_answered_event_by_event,
    what_is_refused_is_a_dead_letter_that_says_why,
    a_key_keeps_its_order_though_one_in_ten_fails,
    retry_after_beats_the_backoff_and_is_bounded,
    an_outage_opens_the_circuit_and_counts_no_attempt,
    a_webhook_that_is_gone_pauses_its_subscription_for_good,
    kills_count_no_attempt_and_what_was_done_is_not_sent_again,
    a_stop_hands_back_what_is_under_way,
    an_address_that_is_not_public_is_not_reached,
    answers_that_are_none_are_failures,
    a_bad_target_is_refused_by_field,
    a_target_is_told_and_shown_over_grpc_too,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Fixture {
    setup: Setup,
    service: Service,
    client: Client,
    receiver: Receiver,
    topic: String,
    name: String,
    data: TempDir,
}

/// A service, and a receiver that says yes to everything.
async fn fixture(log: &Log) -> Fixture {
    let receiver = Receiver::new(|_| Reply::status(200)).await;
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(log)
        .set("webhooks.allow", &format!("[127.0.0.1:{}]", receiver.port()))
        .set("delivery.drain-timeout", "2s");
    let service = setup.start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("push"), unique("sub"));
    client.create_topic(&topic, 2).await;
    Fixture { setup, service, client, receiver, topic, name, data }
}

impl Fixture {
    /// Subscribes the receiver; `delivery` and `more` are laid over the definition.
    async fn subscribe(&self, delivery: &Value, more: &Value) -> Value {
        let mut more = more.clone();
        more["delivery"] = json!({"mode": "push", "url": self.receiver.url()});
        for (field, value) in delivery.as_object().into_iter().flatten() {
            more["delivery"][field] = value.clone();
        }
        self.client.subscribe(&self.name, &self.topic, &more).await
    }

    /// Publishes these values, under a key for each remainder by `keys`.
    async fn publish(&self, numbers: impl IntoIterator<Item = i64>, keys: i64) {
        let event = |n: i64| json!({"id": n.to_string(), "key": format!("k{}", n % keys), "data": n});
        let events: Vec<_> = numbers.into_iter().map(event).collect();
        self.client.publish_batch(&self.topic, &events).await;
    }

    async fn shown(&self) -> Value {
        self.client.get(&format!("/v1/subscriptions/{}", self.name)).await.expect(200)
    }

    async fn pushed(&self, count: usize) -> Vec<Pushed> {
        eventually("it was pushed", async || {
            let pushed = self.receiver.pushed();
            (pushed.len() >= count).then_some(pushed)
        })
        .await
    }

    async fn state(&self, state: &str) -> Value {
        eventually(state, async || {
            let shown = self.shown().await;
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    /// Waits until so many requests came in all, and everything that was published is done.
    async fn all_done(&self, requests: usize) {
        // What is not read yet is not known to lag.
        self.pushed(requests).await;
        eventually("nothing is left", async || (self.shown().await["lag"] == 0).then_some(())).await;
    }

    async fn dead_letters(&self) -> Vec<Value> {
        let topic = format!("{}.dlq", self.name);
        let there = self.client.get(&format!("/v1/topics/{topic}")).await.status == 200;
        if there { self.client.browse_all(&topic).await } else { Vec::new() }
    }

    async fn started_again(self, kill: bool) -> Self {
        let Self { setup, service, receiver, topic, name, data, .. } = self;
        if kill {
            service.kill().await;
        } else {
            assert!(service.stop().await.success());
        }
        let service = setup.start(data.path()).await;
        let client = service.client();
        Self { setup, service, client, receiver, topic, name, data }
    }
}

fn number(pushed: &Pushed) -> i64 {
    pushed.text().parse().expect("a number")
}

/// Standard Webhooks 1.0: `v1,` and the HMAC of id, time and body.
fn is_signed(pushed: &Pushed) -> bool {
    let key = BASE64_STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
    mac.update(format!("{}.{}.", pushed.header("webhook-id"), pushed.header("webhook-timestamp")).as_bytes());
    mac.update(&pushed.body);
    let expected = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    pushed.header("webhook-signature") == format!("v1,{expected}")
}

async fn each_format_is_sent_as_cloudevents_says_and_is_signed(log: Log) {
    let mut it = fixture(&log).await;
    let event = json!({
        "id": "e1", "type": "order.created", "source": "/shop", "subject": "o 1", "key": "k",
        "tenantid": "t1", "extensions": {"region": "eu"}, "data": {"n": 1},
    });
    it.client.publish(&it.topic, &event).await;
    for (format, kind) in [
        ("binary", "application/json"),
        ("structured", "application/cloudevents+json; charset=utf-8"),
        ("batch", "application/cloudevents-batch+json; charset=utf-8"),
    ] {
        it.name = unique("sub");
        let said = r#"{"results":[{"id":"e1","status":"ack"}]}"#;
        it.receiver.answer(move |_| Reply::Status(200, said.to_owned()));
        let before = it.receiver.pushed().len();
        let headers = json!({"authorization": "Bearer hunter2"});
        it.subscribe(&json!({"format": format, "secret": SECRET, "headers": headers}), &json!({})).await;
        let pushed = it.pushed(before + 1).await.remove(before);
        it.all_done(before + 1).await;
        assert!(is_signed(&pushed), "{pushed:?}");
        assert_eq!((pushed.header("content-type"), pushed.header("authorization")), (kind, "Bearer hunter2"));
        assert_eq!(pushed.header("es-subscription"), it.name);
        let mut sent = match format {
            "binary" => {
                assert_eq!((pushed.text(), pushed.header("ce-subject")), (r#"{"n":1}"#.into(), "o%201"));
                let of = |name: &str| json!(pushed.header(&format!("ce-{name}")));
                json!({"id": of("id"), "type": of("type"), "source": of("source"), "tenantid": of("tenantid"),
                    "region": of("region"), "partitionkey": of("partitionkey"), "subject": "o 1", "data": {"n": 1}})
            }
            _ => serde_json::from_str(&pushed.text()).expect("JSON"),
        };
        if format == "batch" {
            sent = sent[0].take();
            assert_eq!(sent["esattempt"], 1, "{sent}");
        } else {
            assert_eq!(pushed.header("es-attempt"), "1");
        }
        for (name, value) in [
            ("id", json!("e1")),
            ("type", json!("order.created")),
            ("source", json!("/shop")),
            ("subject", json!("o 1")),
            ("tenantid", json!("t1")),
            ("region", json!("eu")),
            ("partitionkey", json!("k")),
            ("data", json!({"n": 1})),
        ] {
            assert_eq!(sent[name], value, "{name} of {sent}");
        }
        let shown = it.shown().await["delivery"].take();
        let expected = json!({
            "mode": "push", "url": it.receiver.url(), "format": format, "secret": "***", "timeout": "15s",
            "headers": {"authorization": "***"}, "concurrency": 16,
        });
        assert_eq!(shown, expected, "what is secret is not given back");
    }
    let pull = it.client.post(&format!("/v1/subscriptions/{}/pull", it.name), &json!({})).await.expect(409);
    assert_eq!(pull["code"], "conflict");
}

async fn a_batch_is_answered_event_by_event(log: Log) {
    let it = fixture(&log).await;
    let mut asked_again = false;
    it.receiver.answer(move |pushed| {
        let events: Vec<Value> = serde_json::from_slice(&pushed.body).expect("a batch");
        let results: Vec<_> = events
            .iter()
            .map(|event| match event["data"].as_i64() {
                Some(2) if !std::mem::replace(&mut asked_again, true) => {
                    json!({"id": event["id"], "status": "retry", "reason": "not now"})
                }
                Some(4) => json!({"id": event["id"], "status": "reject", "reason": "it is wrong"}),
                _ => json!({"id": event["id"], "status": "ack"}),
            })
            .collect();
        Reply::Status(200, json!({"results": results}).to_string())
    });
    it.publish(0..6, 1).await;
    it.subscribe(&json!({"format": "batch"}), &json!({"retry": {"initialDelay": "10ms"}})).await;
    it.all_done(1).await;
    let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
    for pushed in it.receiver.pushed() {
        let events: Vec<Value> = serde_json::from_slice(&pushed.body).expect("a batch");
        let numbers: Vec<_> = events.iter().map(|event| event["data"].as_i64().expect("a number")).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        for event in &events {
            let attempt = event["esattempt"].as_u64().expect("a number");
            seen.insert(event["data"].as_i64().expect("a number"), attempt);
        }
    }
    assert_eq!(seen, [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (5, 1)].into());
    let letters = it.dead_letters().await;
    assert_eq!((letters.len(), &letters[0]["data"]), (1, &json!(4)));
    assert_eq!(letters[0]["headers"]["es_dlq_error_message"], "it is wrong");

    // What has no order among itself goes together.
    let it = Fixture { name: unique("sub"), ..it };
    let before = it.receiver.pushed().len();
    it.subscribe(&json!({"format": "batch"}), &json!({"ordering": "none", "deadLetter": {"enabled": false}}))
        .await;
    it.all_done(before + 1).await;
    let requests = it.receiver.pushed().len() - before;
    assert!(requests < 6, "{requests} requests for 6 events");
}

async fn what_is_refused_is_a_dead_letter_that_says_why(log: Log) {
    let it = fixture(&log).await;
    it.receiver.answer(|_| Reply::Status(422, "no such order".to_owned()));
    it.publish([1], 1).await;
    it.subscribe(&json!({}), &json!({})).await;
    it.all_done(1).await;
    let letters = it.dead_letters().await;
    assert_eq!((it.receiver.pushed().len(), letters.len()), (1, 1), "it is not sent again");
    let headers = &letters[0]["headers"];
    assert_eq!(
        (&headers["es_dlq_error_kind"], &headers["es_dlq_attempts"]),
        (&json!("http-422"), &json!("1"))
    );
    let message = headers["es_dlq_error_message"].as_str().expect("a message");
    assert!(message.contains("no such order"), "{message}");
}

async fn a_key_keeps_its_order_though_one_in_ten_fails(log: Log) {
    let it = fixture(&log).await;
    it.receiver.answer(|pushed| {
        let attempt: i64 = pushed.header("es-attempt").parse().expect("a number");
        Reply::status(if (number(pushed) + attempt) % 10 == 0 { 500 } else { 204 })
    });
    it.publish(0..300, 8).await;
    let retry = json!({"maxRetries": -1, "initialDelay": "20ms", "maxDelay": "50ms"});
    it.subscribe(&json!({}), &json!({"retry": retry})).await;
    it.all_done(300).await;
    let mut done: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut ids: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for pushed in it.receiver.pushed() {
        let n = number(&pushed);
        ids.entry(n).or_default().insert(pushed.header("webhook-id").to_owned());
        // Each attempt is sent before anything that comes behind it.
        let of_key = done.entry(n % 8).or_default();
        if of_key.last() != Some(&n) {
            of_key.push(n);
        }
    }
    for (key, numbers) in &done {
        let expected: Vec<_> = (0..300).filter(|n| n % 8 == *key).collect();
        assert_eq!(*numbers, expected, "key {key}");
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "the id is the same at each attempt");
    assert_eq!(ids.values().flatten().collect::<BTreeSet<_>>().len(), 300, "and each event has its own");
}

async fn retry_after_beats_the_backoff_and_is_bounded(log: Log) {
    let it = fixture(&log).await;
    // By the backoff it would come in an hour.
    let retry = json!({"initialDelay": "1h", "maxDelay": "1h", "jitter": "none"});
    it.receiver.answer(|pushed| match pushed.header("es-attempt") {
        "1" => Reply::With(503, "retry-after: 1"),
        _ => Reply::status(200),
    });
    it.publish([1], 1).await;
    it.subscribe(&json!({}), &json!({"retry": retry})).await;
    assert_eq!(it.pushed(2).await[1].header("es-attempt"), "2");
    it.all_done(2).await;

    // And by what is asked for, too, but for `maxDelay`.
    let it = Fixture { name: unique("sub"), ..it };
    it.receiver.answer(|pushed| match pushed.header("es-attempt") {
        "1" => Reply::With(429, "retry-after: 3600"),
        _ => Reply::status(200),
    });
    it.subscribe(&json!({}), &json!({"retry": {"initialDelay": "10ms", "maxDelay": "1s"}})).await;
    assert_eq!(it.pushed(4).await[3].header("es-attempt"), "2");
    it.all_done(4).await;
}

async fn an_outage_opens_the_circuit_and_counts_no_attempt(log: Log) {
    let mut it = fixture(&log).await;
    it.receiver.down().await;
    it.publish(0..40, 40).await;
    let retry = json!({"maxRetries": 1, "initialDelay": "10ms", "maxDelay": "20ms"});
    it.subscribe(&json!({}), &json!({"retry": retry})).await;
    let open = it.state("circuit-open").await;
    let cause = &open["causes"][0];
    assert_eq!((&cause["code"], &open["lag"]), (&json!("circuit-open"), &json!(40)), "{open}");
    let detail = cause["detail"].as_str().expect("a detail");
    assert!(detail.contains("connect"), "it says why: {detail}");

    // It listens again, and is out of order all the same.
    it.receiver.answer(|_| Reply::status(503));
    it.receiver.up().await;
    eventually("a probe that is refused is the reason", async || {
        let shown = it.shown().await;
        shown["causes"][0]["detail"].as_str().is_some_and(|detail| detail.contains("http-503")).then_some(())
    })
    .await;
    let probes = it.receiver.pushed().len();
    it.receiver.answer(|_| Reply::status(200));
    it.all_done(probes + 40).await;
    it.state("active").await;
    let pushed = it.receiver.pushed();
    assert!(pushed.iter().all(|pushed| pushed.header("es-attempt") == "1"), "no attempt was counted");
    assert_eq!(pushed[probes..].iter().map(number).collect::<BTreeSet<_>>(), (0..40).collect());
    assert_eq!(it.dead_letters().await, Vec::<Value>::new());
}

async fn a_webhook_that_is_gone_pauses_its_subscription_for_good(log: Log) {
    let it = fixture(&log).await;
    it.receiver.answer(|_| Reply::Status(410, "moved on".to_owned()));
    it.subscribe(&json!({"concurrency": 4}), &json!({})).await;
    let path = format!("/v1/subscriptions/{}", it.name);
    let version = it.client.get(&path).await.headers["etag"].clone();
    it.publish(0..100, 100).await;
    eventually("that it is paused is kept", async || {
        (it.client.get(&path).await.headers["etag"] != version).then_some(())
    })
    .await;
    let paused = it.state("paused").await;
    assert_eq!(paused["causes"][0]["code"], "handler-gone", "{paused}");
    let detail = paused["causes"][0]["detail"].as_str().expect("a detail");
    assert!(detail.contains("410") && detail.contains("moved on"), "{detail}");
    let it = it.started_again(true).await;
    let paused = it.state("paused").await;
    assert_eq!(paused["causes"][0]["code"], "handler-gone");
    let before = it.receiver.pushed().len();
    assert!(before <= 8, "{before} requests to a webhook that wants none");
    it.receiver.answer(|_| Reply::status(200));
    it.client.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    it.all_done(before + 100).await;
    let after: BTreeSet<_> = it.receiver.pushed()[before..].iter().map(number).collect();
    assert_eq!(after, (0..100).collect());
    assert_eq!(it.dead_letters().await, Vec::<Value>::new());
}

/// What a crash cut off comes at once, with all its attempts: a webhook has not to wait for leases.
async fn kills_count_no_attempt_and_what_was_done_is_not_sent_again(log: Log) {
    let mut it = fixture(&log).await;
    it.receiver.answer(|pushed| match number(pushed) {
        n if n < 50 => Reply::status(200),
        _ => Reply::Nothing,
    });
    it.publish(0..100, 100).await;
    let retry = json!({"maxRetries": 0});
    it.subscribe(&json!({"timeout": "5m", "concurrency": 100}), &json!({"retry": retry})).await;
    eventually("half is done, the rest is out", async || {
        let shown = it.shown().await;
        let pushed = it.receiver.pushed().iter().map(number).collect::<BTreeSet<_>>();
        (shown["inFlight"] == 50 && pushed.len() == 100).then_some(())
    })
    .await;
    for _ in 0..3 {
        let before = it.receiver.pushed().len();
        it = it.started_again(true).await;
        let again = it.pushed(before + 50).await;
        let again: BTreeSet<_> = again[before..].iter().map(number).collect();
        assert_eq!(again, (50..100).collect(), "what was done is not sent again");
    }
    let before = it.receiver.pushed().len();
    it.receiver.answer(|_| Reply::status(200));
    it = it.started_again(true).await;
    it.all_done(before + 50).await;
    let pushed = it.receiver.pushed();
    assert_eq!(pushed[before..].iter().map(number).collect::<BTreeSet<_>>(), (50..100).collect());
    assert!(pushed.iter().all(|pushed| pushed.header("es-attempt") == "1"));
    assert_eq!(it.dead_letters().await, Vec::<Value>::new());
}

async fn a_stop_hands_back_what_is_under_way(log: Log) {
    let it = fixture(&log).await;
    it.receiver.answer(|_| Reply::Nothing);
    it.publish([1], 1).await;
    it.subscribe(&json!({"timeout": "5m"}), &json!({"retry": {"maxRetries": 0}})).await;
    it.pushed(1).await;
    it.receiver.answer(|_| Reply::status(200));
    let it = it.started_again(false).await;
    it.all_done(2).await;
    let last = it.receiver.pushed().pop().expect("it was pushed");
    assert_eq!(last.header("es-attempt"), "1", "what was cut off counts no attempt");
    assert_eq!(it.dead_letters().await, Vec::<Value>::new());
}

async fn an_address_that_is_not_public_is_not_reached(log: Log) {
    let it = fixture(&log).await;
    // Only one address and port of this machine is allowed: others are refused outright…
    for url in [format!("http://127.0.0.2:{}/", it.receiver.port()), "http://127.0.0.1:1/".to_owned()] {
        let target = json!({"mode": "push", "url": url});
        let definition = json!({"name": it.name, "topics": [it.topic], "delivery": target});
        let refused = it.client.post("/v1/subscriptions", &definition).await.expect(400);
        assert_eq!(refused["errors"][0]["field"], "delivery.url", "{refused}");
    }
    // …and what was allowed once is not reached when it is not any more.
    it.subscribe(&json!({}), &json!({"retry": {"maxRetries": 0}})).await;
    let setup = it.setup.clone().set("webhooks.allow", "[]");
    let it = Fixture { setup, ..it }.started_again(false).await;
    it.publish(0..5, 5).await;
    let open = it.state("circuit-open").await;
    let detail = open["causes"][0]["detail"].as_str().expect("a detail");
    assert!(detail.contains("denied"), "{detail}");
    assert_eq!((it.receiver.pushed().len(), &open["lag"]), (0, &json!(5)));
    assert_eq!(it.dead_letters().await, Vec::<Value>::new());
}

async fn answers_that_are_none_are_failures(log: Log) {
    let it = fixture(&log).await;
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {0}\r\n\r\n{1}", 10 << 20, "x".repeat(10 << 20));
    it.receiver.answer(move |pushed| match number(pushed) {
        0 => Reply::Bytes(b"SSH-2.0-x\r\n\r\n".to_vec()),
        1 => Reply::Endless,
        2 => Reply::Bytes(large.clone().into_bytes()),
        3 => Reply::Nothing,
        4 => Reply::Bytes(Vec::new()),
        5 => Reply::With(302, "location: http://127.0.0.1:1/"),
        _ => Reply::status(200),
    });
    it.publish(0..7, 7).await;
    it.subscribe(&json!({"timeout": "2s"}), &json!({"retry": {"maxRetries": 0}})).await;
    it.all_done(7).await;
    let letters = it.dead_letters().await;
    let kinds: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| {
            let kind = letter["headers"]["es_dlq_error_kind"].as_str().expect("a kind");
            (letter["data"].as_i64().expect("a number"), kind)
        })
        .collect();
    let expected = [
        (0, "answer-invalid"),
        (1, "timeout"),
        (2, "answer-too-large"),
        (3, "timeout"),
        (4, "connection-lost"),
        (5, "http-302"),
    ];
    assert_eq!(kinds, expected.into());
}

async fn a_bad_target_is_refused_by_field(log: Log) {
    let it = fixture(&log).await;
    let url = it.receiver.url();
    for (delivery, field) in [
        (json!({"mode": "push"}), "delivery.url"),
        (json!({"mode": "push", "url": "ftp://example.com/"}), "delivery.url"),
        (json!({"mode": "push", "url": "https://user:hunter2@example.com/"}), "delivery.url"),
        (json!({"mode": "push", "url": "http://169.254.169.254/latest"}), "delivery.url"),
        (json!({"mode": "push", "url": "http://[::ffff:10.0.0.1]/"}), "delivery.url"),
        (json!({"mode": "push", "url": url, "format": "xml"}), "delivery.format"),
        (json!({"mode": "push", "url": url, "secret": "hunter2"}), "delivery.secret"),
        (json!({"mode": "push", "url": url, "timeout": "-1s"}), "delivery.timeout"),
        (json!({"mode": "push", "url": url, "timeout": "99999d"}), "delivery.timeout"),
        (json!({"mode": "push", "url": url, "concurrency": 0}), "delivery.concurrency"),
        (json!({"mode": "push", "url": url, "headers": {"Host": "x"}}), "delivery.headers.Host"),
        (json!({"mode": "push", "url": url, "headers": {"x": "a\r\nb"}}), "delivery.headers.x"),
        (json!({"mode": "push", "url": url, "retries": 1}), "delivery.retries"),
        (json!({"mode": "pull", "url": url}), "delivery.url"),
        (json!({"secret": SECRET}), "delivery.secret"),
    ] {
        let definition = json!({"name": it.name, "topics": [it.topic], "delivery": delivery});
        let refused = it.client.post("/v1/subscriptions", &definition).await.expect(400);
        assert_eq!(refused["errors"][0]["field"], field, "{delivery}: {refused}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
    it.client.get(&format!("/v1/subscriptions/{}", it.name)).await.expect(404);
}

async fn a_target_is_told_and_shown_over_grpc_too(log: Log) {
    let it = fixture(&log).await;
    it.publish([1], 1).await;
    let endpoint = Channel::from_shared(it.service.grpc().to_owned()).expect("an address");
    let channel = endpoint.connect().await.expect("gRPC is served");
    let mut subscriptions = SubscriptionsClient::new(channel.clone());
    let push = PushTarget {
        url: format!("{}?token=hunter2", it.receiver.url()),
        format: Some("structured".to_owned()),
        secret: Some(SECRET.to_owned()),
        headers: [("x-origin".to_owned(), "hunter2".to_owned())].into(),
        ..PushTarget::default()
    };
    let create = CreateSubscriptionRequest {
        name: it.name.clone(),
        topics: vec![it.topic.clone()],
        mode: Some("push".to_owned()),
        push: Some(push),
        ..CreateSubscriptionRequest::default()
    };
    let shown = subscriptions.create_subscription(create.clone()).await.expect("it is made").into_inner();
    assert_eq!(shown.mode, "push");
    let target = shown.push.expect("a target");
    assert!(target.url.ends_with("/hook?token=***"), "{}", target.url);
    assert_eq!(target.secret.as_deref(), Some("***"));
    assert_eq!(target.headers.get("x-origin").map(String::as_str), Some("***"));
    assert_eq!((target.timeout.map(|t| t.seconds), target.concurrency), (Some(15), Some(16)));
    let pushed = it.pushed(1).await.remove(0);
    assert!(is_signed(&pushed) && pushed.header("x-origin") == "hunter2", "{pushed:?}");
    it.all_done(1).await;
    let pull = PullRequest { subscription: it.name.clone(), ..PullRequest::default() };
    let refused = SubscriberClient::new(channel).pull(pull).await.expect_err("it pushes");
    assert_eq!(refused.code(), Code::Aborted);
    let without = CreateSubscriptionRequest { name: unique("sub"), push: None, ..create };
    let refused = subscriptions.create_subscription(without).await.expect_err("it has no target");
    assert_eq!(refused.code(), Code::InvalidArgument);
    it.client.delete(&format!("/v1/subscriptions/{}", it.name)).await.expect(204);
}

//! Webhooks: what is sent for a run, and what answers mean.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    push,
    subscriptions::{
        Payload,
        policy::{PushFormat, PushTarget},
    },
};
use parking_lot::Mutex;
use ports::{
    Clock, ErrorKind, EventHandler, Failure, GroupId, HandlerDelivery, Header, Monotonic, Outcome, PortError,
    Record, Result, StoredRecord, Timestamp, TopicName, WebhookRequest, WebhookResponse, Webhooks,
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};
use testkit::clock::TestClock;

/// Answers what it was told to, one after another, and keeps what it was sent.
struct Script {
    clock: Arc<dyn Clock>,
    /// Each answer, and how long it takes.
    answers: Mutex<VecDeque<(Duration, Result<WebhookResponse>)>>,
    requests: Mutex<Vec<WebhookRequest>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait]
impl Webhooks for Script {
    fn check(&self, _url: &str) -> Result<()> {
        Ok(())
    }

    async fn post(&self, request: WebhookRequest) -> Result<WebhookResponse> {
        self.requests.lock().push(request);
        let (takes, answer) = self.answers.lock().pop_front().expect("a request too many");
        self.clock.sleep_until(self.clock.monotonic() + takes).await;
        answer
    }
}

struct Rig {
    handler: Arc<dyn EventHandler>,
    script: Arc<Script>,
    clock: Arc<TestClock>,
}

impl Rig {
    fn new(format: PushFormat, answers: Vec<Result<WebhookResponse>>) -> Self {
        Self::of(target(format), answers.into_iter().map(|answer| (Duration::ZERO, answer)).collect())
    }

    fn of(target: PushTarget, answers: VecDeque<(Duration, Result<WebhookResponse>)>) -> Self {
        let clock = Arc::new(TestClock::new());
        let script = Arc::new(Script {
            clock: clock.clone(),
            answers: Mutex::new(answers),
            requests: Mutex::default(),
        });
        let name = GroupId::new("mail").expect("a name");
        let handler = push::handler(name, target, Payload::Json, script.clone(), clock.clone())
            .expect("the target is good");
        Self { handler, script, clock }
    }

    fn requests(&self) -> Vec<WebhookRequest> {
        std::mem::take(&mut *self.script.requests.lock())
    }

    fn delivery(&self, offset: u64) -> HandlerDelivery {
        let headers = vec![
            Header::new("ce_id", Bytes::from(format!("e-{offset}"))),
            Header::new("ce_source", "/shop"),
            Header::new("ce_type", "order created"),
            Header::new("content-type", "application/json"),
            Header::new("traceparent", TRACEPARENT),
            Header::new("x-origin", "web"),
        ];
        let value = Some(Bytes::from_static(b"{\"a\": 1.50}"));
        let key = Some(Bytes::from("k"));
        HandlerDelivery {
            id: format!("d-{offset}"),
            attempt: 2,
            deadline: self.clock.monotonic() + Duration::from_secs(30),
            topic: TopicName::new("orders").expect("a name"),
            partition: 3,
            record: Arc::new(StoredRecord {
                offset,
                record: Record { key, value, headers, timestamp: Timestamp(1) },
            }),
        }
    }

    fn run(&self, count: u64) -> Vec<HandlerDelivery> {
        (1..=count).map(|offset| self.delivery(offset)).collect()
    }
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn target(format: PushFormat) -> PushTarget {
    PushTarget {
        url: "https://example.com/hook".to_owned(),
        format,
        secret: Some(SECRET.to_owned()),
        timeout: Duration::from_secs(15),
        headers: BTreeMap::from([("Authorization".to_owned(), "Bearer hunter2-hunter2".to_owned())]),
        concurrency: 1,
    }
}

fn answer(status: u16) -> Result<WebhookResponse> {
    saying(status, "")
}

#[allow(clippy::unnecessary_wraps, reason = "scripts hold errors beside answers")]
fn saying(status: u16, body: &'static str) -> Result<WebhookResponse> {
    Ok(WebhookResponse { status, retry_after: None, body: Bytes::from_static(body.as_bytes()) })
}

fn header<'a>(request: &'a WebhookRequest, name: &str) -> Option<&'a str> {
    let mut found = request.headers.iter().filter(|(n, _)| n == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert_eq!(found.next(), None, "{name} is sent twice");
    value
}

fn failure(outcome: &Outcome) -> &Failure {
    match outcome {
        Outcome::Ack => panic!("it did not fail"),
        Outcome::Retry { failure, .. }
        | Outcome::Reject { failure }
        | Outcome::NotReached { failure }
        | Outcome::Gone { failure } => failure,
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ack => "ack",
        Outcome::Retry { outage: true, .. } => "outage",
        Outcome::Retry { .. } => "retry",
        Outcome::Reject { .. } => "reject",
        Outcome::NotReached { .. } => "not reached",
        Outcome::Gone { .. } => "gone",
    }
}

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn binary_mode_sends_the_value_as_it_is_and_attributes_as_headers() {
    let rig = Rig::new(PushFormat::Binary, vec![answer(200)]);
    assert_eq!(rig.handler.handle(&rig.run(1)).await, [Outcome::Ack]);
    let [request] = rig.requests().try_into().expect("one request");
    assert_eq!(request.body, "{\"a\": 1.50}");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "/shop"),
        ("ce-type", "order%20created"),
        ("ce-partitionkey", "k"),
        ("content-type", "application/json"),
        ("traceparent", TRACEPARENT),
        ("authorization", "Bearer hunter2-hunter2"),
        ("es-subscription", "mail"),
        ("es-topic", "orders"),
        ("es-partition", "3"),
        ("es-offset", "1"),
        ("es-attempt", "2"),
        ("webhook-id", "d-1"),
        ("webhook-timestamp", "1767225600"),
    ] {
        assert_eq!(header(&request, name), Some(value), "{name}");
    }
    assert!(header(&request, "webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
    assert_eq!(header(&request, "x-origin"), None);
    assert_eq!(request.timeout, Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn structured_mode_sends_the_envelope() {
    let rig = Rig::new(PushFormat::Structured, vec![answer(204)]);
    assert_eq!(rig.handler.handle(&rig.run(1)).await, [Outcome::Ack]);
    let [request] = rig.requests().try_into().expect("one request");
    assert_eq!(header(&request, "content-type"), Some("application/cloudevents+json; charset=utf-8"));
    assert_eq!(header(&request, "ce-id"), None);
    let event: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!((&event["id"], &event["data"]["a"]), (&"e-1".into(), &1.5.into()));
}

#[tokio::test(start_paused = true)]
async fn an_id_is_the_same_at_each_attempt_and_the_signature_is_of_the_attempt() {
    let rig = Rig::new(PushFormat::Binary, vec![answer(503), answer(503)]);
    rig.handler.handle(&rig.run(1)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.handler.handle(&rig.run(1)).await;
    let [first, second] = rig.requests().try_into().expect("two requests");
    assert_eq!(header(&first, "webhook-id"), header(&second, "webhook-id"));
    assert_ne!(header(&first, "webhook-timestamp"), header(&second, "webhook-timestamp"));
    assert_ne!(header(&first, "webhook-signature"), header(&second, "webhook-signature"));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_calls_itself_an_envelope_is_not_sent_as_one() {
    let rig = Rig::new(PushFormat::Binary, vec![answer(200), answer(200)]);
    for kind in [&b"Application/CloudEvents+json"[..], b"text/plain\r\nx-forged: 1"] {
        let mut delivery = rig.delivery(1);
        Arc::make_mut(&mut delivery.record).record.headers =
            vec![Header::new("content-type", Bytes::from_static(kind))];
        rig.handler.handle(&[delivery]).await;
    }
    for request in rig.requests() {
        assert_eq!(header(&request, "content-type"), Some("application/octet-stream"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_type_nobody_said_is_called_json_where_it_is() {
    let rig = Rig::new(PushFormat::Binary, vec![answer(200), answer(200)]);
    for (value, kind) in [(&b"{\"a\": 1}"[..], Some("application/json")), (b"\xff{", None)] {
        let mut delivery = rig.delivery(1);
        let record = &mut Arc::make_mut(&mut delivery.record).record;
        record.headers.retain(|header| header.name != "content-type");
        record.value = Some(Bytes::from_static(value));
        rig.handler.handle(&[delivery]).await;
        let request = rig.requests().pop().expect("it is sent");
        assert_eq!((header(&request, "content-type"), &*request.body), (kind, value));
    }
}

#[tokio::test(start_paused = true)]
async fn no_event_of_a_run_is_sent_before_the_one_ahead_of_it_is_acknowledged() {
    for format in [PushFormat::Binary, PushFormat::Structured] {
        for (status, expected) in [(503, "outage"), (400, "reject"), (410, "gone")] {
            let rig = Rig::new(format, vec![answer(200), answer(status)]);
            let outcomes = rig.handler.handle(&rig.run(4)).await;
            assert_eq!(words(&outcomes), ["ack", expected]);
            let ids: Vec<_> =
                rig.requests().iter().map(|r| header(r, "webhook-id").map(str::to_owned)).collect();
            assert_eq!(ids, [Some("d-1".to_owned()), Some("d-2".to_owned())]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_answer_means_what_is_documented() {
    for (statuses, expected) in [
        (&[200, 201, 202, 204, 299][..], "ack"),
        (&[401, 403, 404, 405, 408, 425, 429, 500, 502, 503, 504, 599], "outage"),
        (&[301, 302, 307, 308, 100, 101, 999], "outage"),
        (&[410], "gone"),
        (&[400, 402, 406, 409, 413, 415, 418, 422, 431, 499], "reject"),
    ] {
        for &status in statuses {
            let rig = Rig::new(PushFormat::Binary, vec![saying(status, "why\u{7}\nnot")]);
            let outcomes = rig.handler.handle(&rig.run(1)).await;
            assert_eq!(words(&outcomes), [expected], "{status}");
            if expected != "ack" {
                let failure = failure(&outcomes[0]);
                assert_eq!(failure.kind, format!("http-{status}"));
                assert!(failure.message.ends_with(": why not"), "{}", failure.message);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_reach_the_webhook_is_told_from_what_may_have() {
    let error = |kind| PortError::new(kind, "webhooks.post", "because");
    for (error, expected, kind) in [
        (error(ErrorKind::Unavailable), "not reached", "connect"),
        (error(ErrorKind::Timeout), "not reached", "connect"),
        (error(ErrorKind::Denied), "not reached", "denied"),
        (error(ErrorKind::Throttled), "not reached", "throttled"),
        (error(ErrorKind::Unsupported), "not reached", "unsupported"),
        (error(ErrorKind::Unavailable).effect_unknown(), "outage", "connection-lost"),
        (error(ErrorKind::Timeout).effect_unknown(), "outage", "timeout"),
        (error(ErrorKind::TooLarge).effect_unknown(), "outage", "answer-too-large"),
        (error(ErrorKind::Invalid).effect_unknown(), "outage", "answer-invalid"),
    ] {
        let error = error.with_source("deeper");
        let rig = Rig::new(PushFormat::Binary, vec![Err(error)]);
        let outcomes = rig.handler.handle(&rig.run(2)).await;
        assert_eq!(words(&outcomes), [expected], "{kind}");
        let failure = failure(&outcomes[0]);
        assert_eq!((&*failure.kind, &*failure.message), (kind, "because"));
        assert_eq!(failure.chain, ["deeper"]);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    // The clock begins at 2026-01-01T00:00:00Z.
    for (status, text, expected) in [
        (429, Some("7"), Some(7)),
        (503, Some("Thu, 01 Jan 2026 00:02:00 GMT"), Some(120)),
        (302, Some("1"), Some(1)),
        (503, Some("soon"), None),
        (503, None, None),
    ] {
        let response = WebhookResponse { status, retry_after: text.map(Into::into), body: Bytes::new() };
        let rig = Rig::new(PushFormat::Binary, vec![Ok(response)]);
        let [outcome] = rig.handler.handle(&rig.run(1)).await.try_into().expect("one outcome");
        let Outcome::Retry { after, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after, expected.map(Duration::from_secs), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_failure_tells_a_secret_that_the_webhook_sends_back() {
    let body = "authorization: Bearer hunter2-hunter2, MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let rig = Rig::new(PushFormat::Binary, vec![saying(400, body)]);
    let outcomes = rig.handler.handle(&rig.run(1)).await;
    let shown = format!("{outcomes:?} {:?}", rig.handler);
    assert!(!shown.contains("hunter2") && !shown.contains("MfKQ"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_before_its_delivery_does_and_a_run_whose_time_is_up_tells_what_it_has() {
    let answers = [(Duration::from_secs(9), answer(200)), (Duration::ZERO, answer(200))];
    let rig = Rig::of(target(PushFormat::Binary), answers.into());
    let mut run = rig.run(2);
    for delivery in &mut run {
        delivery.deadline = Monotonic(Duration::from_secs(9)) + rig.clock.monotonic().0;
    }
    assert_eq!(rig.handler.handle(&run).await, [Outcome::Ack]);
    let [request] = rig.requests().try_into().expect("one request");
    assert_eq!(request.timeout, Duration::from_millis(8900));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_answered_event_by_event() {
    let body = r#"{"results":[
        {"id":"d-2","status":"retry","reason":"busy\u0007"}, {"id":"e-1","status":"ack"},
        {"id":"e-3","status":"reject","reason":"no"}, {"id":"unknown","status":"ack"}, 7,
        {"id":"e-4","status":"perhaps"}, {"id":"e-1","status":"reject"}], "more": true}"#;
    let rig = Rig::new(PushFormat::Batch, vec![saying(200, body)]);
    let outcomes = rig.handler.handle(&rig.run(5)).await;
    assert_eq!(words(&outcomes), ["ack", "retry", "reject", "retry", "retry"]);
    assert_eq!(failure(&outcomes[1]).message, "busy");
    assert!(failure(&outcomes[3]).message.contains("perhaps"));
    assert_eq!(failure(&outcomes[4]).kind, "batch-no-result");

    let [request] = rig.requests().try_into().expect("one request");
    assert_eq!(header(&request, "content-type"), Some("application/cloudevents-batch+json; charset=utf-8"));
    let events: Vec<serde_json::Value> = serde_json::from_slice(&request.body).expect("JSON");
    let said = |name: &str| events.iter().map(|event| event[name].clone()).collect::<Vec<_>>();
    assert_eq!(said("id"), ["e-1", "e-2", "e-3", "e-4", "e-5"]);
    assert_eq!(said("esdeliveryid"), ["d-1", "d-2", "d-3", "d-4", "d-5"]);
    assert_eq!(said("esoffset"), [1, 2, 3, 4, 5]);
    assert_eq!(header(&request, "es-attempt"), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_answered_event_by_event_comes_again() {
    for body in
        ["", "ok", "{}", "[]", "{\"results\":null}", "{\"results\":[{\"id\":\"d-1\",\"status\":\"ack\"}"]
    {
        let rig = Rig::new(PushFormat::Batch, vec![saying(200, body)]);
        let outcomes = rig.handler.handle(&rig.run(3)).await;
        assert_eq!(words(&outcomes), ["outage"; 3], "{body}");
    }
    let rig = Rig::new(PushFormat::Batch, vec![saying(200, "{\"results\":[]}"), answer(500), answer(410)]);
    assert_eq!(words(&rig.handler.handle(&rig.run(2)).await), ["retry"; 2]);
    assert_eq!(words(&rig.handler.handle(&rig.run(2)).await), ["outage"; 2]);
    assert_eq!(words(&rig.handler.handle(&rig.run(2)).await), ["gone"; 2]);
}

#[tokio::test(start_paused = true)]
async fn events_of_one_id_take_the_results_of_that_id_in_their_order() {
    let body = r#"{"results":[{"id":"e-1","status":"ack"},{"id":"e-1","status":"reject"}]}"#;
    let rig = Rig::new(PushFormat::Batch, vec![saying(200, body)]);
    let mut run = rig.run(3);
    for delivery in &mut run {
        Arc::make_mut(&mut delivery.record).record.headers[0] = Header::new("ce_id", "e-1");
    }
    assert_eq!(words(&rig.handler.handle(&run).await), ["ack", "reject", "retry"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_named_by_the_events_in_it() {
    let rig = Rig::new(PushFormat::Batch, vec![answer(500), answer(500), answer(500)]);
    rig.handler.handle(&rig.run(2)).await;
    rig.handler.handle(&rig.run(2)).await;
    rig.handler.handle(&rig.run(3)).await;
    let requests = rig.requests();
    let ids: Vec<_> = requests.iter().map(|request| header(request, "webhook-id")).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_nothing_asks_for_nothing() {
    for format in [PushFormat::Binary, PushFormat::Structured, PushFormat::Batch] {
        let rig = Rig::new(format, Vec::new());
        assert_eq!(rig.handler.handle(&[]).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_not_made_for_a_target_that_is_no_good() {
    let rig = Rig::new(PushFormat::Binary, Vec::new());
    let wrong = PushTarget { secret: Some("whsec_hunter2".to_owned()), ..target(PushFormat::Binary) };
    let name = GroupId::new("mail").expect("a name");
    let error = push::handler(name, wrong, Payload::Json, rig.script.clone(), rig.clock.clone())
        .expect_err("it must be refused");
    assert_eq!(error.fields()[0].field, "delivery.secret");
    assert!(!format!("{error:?}").contains("hunter2"));
}

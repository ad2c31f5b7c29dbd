//! A client as any application would have one: reqwest, JSON, and the paths of the API.

use crate::{PATIENCE, eventually};
use futures::{Stream, StreamExt};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use std::{pin::Pin, time::Duration};

/// Speaks to one service.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null where there is none; a string where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// Its body, after the status was looked at.
    ///
    /// # Panics
    /// When the status is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "answered: {}", self.body);
        self.body
    }
}

impl Client {
    /// A client of the service at `base`, base path included.
    pub fn new(base: &str) -> Self {
        let http =
            reqwest::Client::builder().timeout(PATIENCE).build().expect("a client without TLS can be made");
        Self { http, base: base.to_owned() }
    }

    /// A request to `path`, which begins with a slash.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request; `None` when the connection broke or could not be made.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> Option<Answer> {
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.ok()?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Some(Answer { status, headers, body })
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let described = format!("{request:?}");
        self.try_send(request).await.unwrap_or_else(|| panic!("no answer to {described}"))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// POST of bytes of any type, with further headers.
    pub async fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        let mut request = self.request(Method::POST, path).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Creates a topic.
    pub async fn create_topic(&self, name: &str, partitions: u32) {
        self.post("/v1/topics", &json!({"name": name, "partitions": partitions})).await.expect(201);
        // On a cluster a topic is there when its controller says so, and known to each node a moment later.
        let path = format!("/v1/topics/{name}");
        eventually("the topic is known", async || {
            (self.get(&path).await.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Publishes one event and gives its receipt.
    pub async fn publish(&self, topic: &str, event: &Value) -> Value {
        self.post(&format!("/v1/topics/{topic}/events"), event).await.expect(200)
    }

    /// Publishes a batch, all of which must be accepted, and gives the receipts in its order.
    ///
    /// # Panics
    /// When an item failed.
    pub async fn publish_batch(&self, topic: &str, events: &[Value]) -> Vec<Value> {
        let body =
            self.post(&format!("/v1/topics/{topic}/events"), &json!({"events": events})).await.expect(200);
        assert_eq!(body["failed"], 0, "{body}");
        let receipts = body["results"].as_array().expect("results is an array").clone();
        assert_eq!(receipts.len(), events.len());
        receipts
    }

    /// Everything in a topic, by browsing from its start to its end, in the order given.
    pub async fn browse_all(&self, topic: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut path = format!("/v1/topics/{topic}/events?from=earliest&limit=1000");
        loop {
            let mut page = self.get(&path).await.expect(200);
            let next = page["next"].as_str().expect("next is a cursor").to_owned();
            match page["events"].take() {
                Value::Array(found) if found.is_empty() => return events,
                Value::Array(found) => events.extend(found),
                other => panic!("events is no array: {other}"),
            }
            path = format!("/v1/topics/{topic}/events?cursor={next}&limit=1000");
        }
    }

    /// Creates a pull subscription to `topic` from its start; `more` is laid over the definition.
    pub async fn subscribe(&self, name: &str, topic: &str, more: &Value) -> Value {
        let mut definition =
            json!({"name": name, "topics": [topic], "delivery": {"mode": "pull"}, "start": "earliest"});
        for (field, value) in more.as_object().into_iter().flatten() {
            definition[field] = value.clone();
        }
        self.post("/v1/subscriptions", &definition).await.expect(201)
    }

    /// Pulls once: what is there, or comes within `wait`.
    pub async fn pull(&self, subscription: &str, max: u32, wait: &str) -> Vec<Value> {
        let mut body = self
            .post(&format!("/v1/subscriptions/{subscription}/pull"), &json!({"max": max, "wait": wait}))
            .await
            .expect(200);
        match body["deliveries"].take() {
            Value::Array(deliveries) => deliveries,
            other => panic!("deliveries is no array: {other}"),
        }
    }

    /// Pulls until `count` deliveries have come.
    pub async fn pull_count(&self, subscription: &str, count: usize) -> Vec<Value> {
        let mut deliveries = Vec::new();
        eventually("the deliveries came", async || {
            let missing = count - deliveries.len();
            deliveries.extend(self.pull(subscription, missing as u32, "2s").await);
            (deliveries.len() >= count).then_some(())
        })
        .await;
        deliveries
    }

    /// Acknowledges deliveries, all of which must be confirmed.
    ///
    /// # Panics
    /// When one is not.
    pub async fn ack(&self, subscription: &str, deliveries: &[Value]) {
        let ids: Vec<&Value> = deliveries.iter().map(|delivery| &delivery["ackId"]).collect();
        let body = self
            .post(&format!("/v1/subscriptions/{subscription}/ack"), &json!({"ack": ids}))
            .await
            .expect(200);
        let results = body["results"].as_array().expect("results is an array");
        assert_eq!(results.len(), deliveries.len(), "{body}");
        for (id, result) in ids.iter().zip(results) {
            assert_eq!((&result["ackId"], &result["status"]), (*id, &json!("ok")), "{body}");
        }
    }

    /// Follows a topic as server-sent events; `query` begins with `?` or is empty.
    pub async fn tail(&self, topic: &str, query: &str, last_event_id: Option<&str>) -> Tail {
        let mut request = self
            .request(Method::GET, &format!("/v1/topics/{topic}/events/tail{query}"))
            .header("accept", "text/event-stream")
            .timeout(Duration::from_mins(10));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("the tail is answered");
        assert_eq!(response.status(), StatusCode::OK);
        let kind =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "content-type is {kind:?}");
        let chunks =
            response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()).unwrap_or_default());
        Tail { chunks: Box::pin(chunks), buffer: Vec::new() }
    }
}

/// Server-sent events as they come.
pub struct Tail {
    chunks: Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").finish_non_exhaustive()
    }
}

impl Tail {
    /// The next event that carries data: its id and that data. Comments, which keep the connection
    /// alive, are passed over.
    ///
    /// # Panics
    /// When none comes in time, or the stream ends.
    pub async fn next(&mut self) -> (String, Value) {
        let read = async {
            loop {
                while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                    let message: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    if let Some(event) = parse(&String::from_utf8_lossy(&message)) {
                        return event;
                    }
                }
                let chunk = self.chunks.next().await.expect("the stream goes on");
                // A line may end in any of the three ways; none is part of JSON on one line.
                self.buffer.extend(chunk.into_iter().filter(|&byte| byte != b'\r'));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an event comes in time")
    }
}

fn parse(message: &str) -> Option<(String, Value)> {
    let field = |name: &str| {
        let lines = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data")?;
    let data = serde_json::from_str(&data).unwrap_or_else(|e| panic!("data is no JSON ({e}): {data}"));
    Some((field("id").unwrap_or_default(), data))
}

//! Requests: an event, or a run, in the format that a target asks for.

use super::{
    cloudevents::{attributes, event_of, header_value, json_of, percent_encoded, push_json, put_delivery},
    signature::SigningKeys,
};
use crate::{
    event::{Event, header},
    subscriptions::{
        Payload,
        policy::{PushFormat, PushTarget},
    },
};
use bytes::Bytes;
use ports::{GroupId, HandlerDelivery, Timestamp, WebhookRequest};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, time::Duration};

type Headers = Vec<(String, String)>;

/// Makes the requests of one subscription.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) target: PushTarget,
    pub(super) subscription: GroupId,
    pub(super) payload: Payload,
    pub(super) keys: SigningKeys,
}

impl Requests {
    /// The request for one event, in binary or structured mode.
    pub(super) fn one(
        &self,
        delivery: &HandlerDelivery,
        now: Timestamp,
        timeout: Duration,
    ) -> WebhookRequest {
        let event = event_of(delivery);
        let attributes = attributes(&event, delivery);
        let mut headers = self.headers(24 + attributes.len());
        put(&mut headers, "es-topic", delivery.topic.as_str());
        put(&mut headers, "es-partition", delivery.partition.to_string());
        put(&mut headers, "es-offset", delivery.record.offset.to_string());
        put(&mut headers, "es-attempt", delivery.attempt.to_string());
        // As the standard headers, so that a receiver's tracing takes the trace up.
        for (name, value) in
            [(header::TRACEPARENT, &event.traceparent), (header::TRACESTATE, &event.tracestate)]
        {
            if let Some(value) = value
                && is_header_text(value)
            {
                put(&mut headers, name, &**value);
            }
        }
        let body = if self.target.format == PushFormat::Structured {
            put(&mut headers, header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8");
            let mut body = Vec::new();
            push_json(&mut body, &attributes, &event, self.payload);
            body.into()
        } else {
            for (name, value) in &attributes {
                put(&mut headers, format!("ce-{name}"), header_value(value));
            }
            if let Some(kind) = content_type(&event) {
                put(&mut headers, header::CONTENT_TYPE, kind);
            }
            event.data.clone().unwrap_or_default()
        };
        self.finish(headers, &percent_encoded(&delivery.id), body, now, timeout)
    }

    /// The request for a run, in batched mode.
    pub(super) fn batch(&self, run: &[HandlerDelivery], now: Timestamp, timeout: Duration) -> WebhookRequest {
        let mut body = Vec::new();
        for (index, delivery) in run.iter().enumerate() {
            body.push(if index == 0 { b'[' } else { b',' });
            let event = event_of(delivery);
            let mut attributes = attributes(&event, delivery);
            put_delivery(&mut attributes, delivery);
            push_json(&mut body, &attributes, &event, self.payload);
        }
        body.push(b']');
        let mut headers = self.headers(8);
        put(&mut headers, header::CONTENT_TYPE, "application/cloudevents-batch+json; charset=utf-8");
        self.finish(headers, &batch_id(run), body.into(), now, timeout)
    }

    fn headers(&self, more: usize) -> Headers {
        let mut headers = Headers::with_capacity(self.target.headers.len() + more);
        headers.extend(self.target.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())));
        put(&mut headers, "es-subscription", self.subscription.as_str());
        headers
    }

    fn finish(
        &self,
        mut headers: Headers,
        id: &str,
        body: Bytes,
        now: Timestamp,
        timeout: Duration,
    ) -> WebhookRequest {
        let seconds = now.0.max(0) / 1000;
        put(&mut headers, "webhook-id", id);
        put(&mut headers, "webhook-timestamp", seconds.to_string());
        if let Some(signature) = self.keys.sign(id, seconds, &body) {
            put(&mut headers, "webhook-signature", signature);
        }
        WebhookRequest { url: self.target.url.clone(), headers, body, timeout }
    }
}

fn put(headers: &mut Headers, name: impl Into<String>, value: impl Into<String>) {
    headers.push((name.into(), value.into()));
}

/// The media type of a body in binary mode. JSON whose type nobody said is called what it is: CloudEvents wants
/// the type said that the JSON format, in which it may have come, implies.
fn content_type(event: &Event) -> Option<&str> {
    let Some(kind) = event.content_type.as_deref().filter(|kind| !kind.is_empty()) else {
        let is_json = event.data.as_deref().is_some_and(|data| json_of(data).is_some());
        return is_json.then_some("application/json");
    };
    // A receiver would take a value of CloudEvents' own types for the envelope, and believe the attributes
    // that the publisher put in there.
    let is_envelope = kind.trim_start().to_ascii_lowercase().starts_with("application/cloudevents");
    Some(if is_envelope || !is_header_text(kind) { "application/octet-stream" } else { kind })
}

/// Whether a text may stand in a header as it is.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim().len() == text.len()
}

/// Names the events that are in a batch: the same events have the same id, others another.
fn batch_id(run: &[HandlerDelivery]) -> String {
    let mut hash = Sha256::new();
    for delivery in run {
        hash.update((delivery.id.len() as u64).to_be_bytes());
        hash.update(delivery.id.as_bytes());
    }
    let mut id = String::from("batch_");
    for byte in &hash.finalize()[..16] {
        // A text takes every character.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

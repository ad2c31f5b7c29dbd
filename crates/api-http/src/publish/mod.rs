//! Publish: one event or a batch, in every format, answered item by item.

mod cloudevents;
mod draft;
mod json_event;
mod preferences;

pub(crate) use draft::{Draft, Source, is_json};

use crate::{
    body,
    json::{push_string, push_u64},
    problem::{Naming, Problem, push_problem},
    request::{media_type, trace_context},
    respond::{Reply, json},
    router::Call,
    time::push_time,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Result,
    publish::{ANONYMOUS, PublishContext, Receipt, Refused},
};
use http::{HeaderValue, StatusCode};
use hyper::body::Body;
use json_event::Published;

/// The source of an event that names none.
const DEFAULT_SOURCE: &str = "/event-streaming";

/// What the body of a publish request is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Structured,
    Batched,
    Binary,
}

impl Format {
    fn of(media_type: Option<&str>) -> Self {
        let Some(media_type) = media_type else { return Self::Binary };
        let known = [
            ("application/json", Self::Json),
            ("application/cloudevents+json", Self::Structured),
            ("application/cloudevents-batch+json", Self::Batched),
        ];
        let found = known.into_iter().find(|(name, _)| media_type.eq_ignore_ascii_case(name));
        found.map_or(Self::Binary, |(_, format)| format)
    }

    fn naming(self) -> Naming {
        match self {
            Self::Json => Naming::Service,
            Self::Structured | Self::Batched => Naming::CloudEvents,
            Self::Binary => Naming::Binary,
        }
    }
}

/// `POST /v1/topics/{topic}/events`, and `POST /v1/events` without a topic.
pub(crate) async fn publish<B>(call: &Call<'_>, topic: Option<&str>, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let format = Format::of(media_type(call.headers));
    let naming = format.naming();
    let key = preferences::idempotency_key(call.headers)?;
    let body = body::read(body, &call.bounds()).await?;
    let body_bytes = body.len();
    let published = read(call, format, body).map_err(|error| Problem::named(error, naming))?;
    let Published { mut items, is_batch } = published;
    // Where the key came in the header, a fault of it is the header's.
    let problem = |error: Error| match &key {
        Some(_) => {
            preferences::of_header(error).map_or_else(|error| Problem::named(error, naming), Problem::from)
        }
        None => Problem::named(error, naming),
    };
    if let Some(key) = &key {
        preferences::give_key(key, &mut items, is_batch)?;
    }
    let (traceparent, tracestate) = trace_context(call.headers);
    let context = PublishContext {
        principal: ByteString::from_static(ANONYMOUS),
        source: ByteString::from_static(DEFAULT_SOURCE),
        correlation_id: Some(call.correlation_id.clone()),
        traceparent,
        tracestate,
    };
    let publisher = &call.services.publisher;
    if preferences::respond_async(call.headers) {
        let accepted = Box::pin(publisher.accept(topic, items, body_bytes, &context)).await;
        let ids = accepted.map_err(|Refused { index, error }| match index.filter(|_| is_batch) {
            Some(index) => problem(error).of_item(index),
            None => problem(error),
        })?;
        return Ok(accepted_reply(&ids));
    }
    let results = publisher.publish(topic, items, &context).await?;
    if is_batch {
        return Ok(batch_reply(&results, naming, call.correlation_id));
    }
    let no_result = || Err(Error::new(ErrorCode::Internal, "there is no receipt"));
    let receipt = results.into_iter().next().unwrap_or_else(no_result);
    let receipt = receipt.map_err(problem)?;
    let mut out = Vec::with_capacity(192 + receipt.id.len() + receipt.topic.as_str().len());
    push_receipt(&mut out, &receipt);
    Ok(json(StatusCode::OK, out))
}

fn read(call: &Call<'_>, format: Format, body: Bytes) -> Result<Published> {
    let limits = &call.services.limits;
    if format == Format::Binary {
        return cloudevents::read_binary(call.headers, body, limits).map(Published::one);
    }
    if format == Format::Json && call.headers.contains_key("ce-specversion") {
        // Its body would be taken for an event of another shape.
        return Err(Error::invalid(
            "content-type",
            "must not be `application/json` for CloudEvents in binary mode, as that is the service's own format; \
             send another JSON type, as `application/vnd.example+json`, or `application/cloudevents+json`",
        ));
    }
    let body = ByteString::try_from(body)
        .map_err(|_| Error::new(ErrorCode::InvalidRequest, "the body is not UTF-8, which JSON must be"))?;
    let source = Source { body: &body, limits };
    match format {
        Format::Structured => cloudevents::read(source, &body).map(Published::one),
        Format::Batched => json_event::read_batch(source, &body, cloudevents::read).map(Published::batch),
        Format::Json | Format::Binary => json_event::read(source),
    }
}

/// What will be published later, by its ids.
fn accepted_reply(ids: &[ByteString]) -> Reply {
    let mut out = Vec::with_capacity(32 + ids.len() * 40);
    out.extend_from_slice(b"{\"accepted\":");
    push_u64(&mut out, ids.len() as u64);
    out.extend_from_slice(b",\"ids\":[");
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(&mut out, id);
    }
    out.extend_from_slice(b"]}");
    let mut reply = json(StatusCode::ACCEPTED, out);
    let applied = HeaderValue::from_static(preferences::RESPOND_ASYNC);
    reply.headers_mut().insert("preference-applied", applied);
    reply
}

fn push_receipt(out: &mut Vec<u8>, receipt: &Receipt) {
    out.extend_from_slice(b"{\"id\":");
    push_string(out, &receipt.id);
    // A topic's name needs no escape.
    out.extend_from_slice(b",\"topic\":\"");
    out.extend_from_slice(receipt.topic.as_str().as_bytes());
    out.extend_from_slice(b"\",\"partition\":");
    push_u64(out, u64::from(receipt.partition));
    out.extend_from_slice(b",\"offset\":");
    push_u64(out, receipt.offset);
    out.extend_from_slice(b",\"timestamp\":");
    push_time(out, receipt.timestamp);
    out.extend_from_slice(if receipt.duplicate { b",\"duplicate\":true}" } else { b",\"duplicate\":false}" });
}

fn batch_reply(results: &[Result<Receipt>], naming: Naming, correlation_id: &str) -> Reply {
    let failed = results.iter().filter(|result| result.is_err()).count();
    let mut out = Vec::with_capacity(64 + results.len() * 192);
    out.extend_from_slice(b"{\"published\":");
    push_u64(&mut out, (results.len() - failed) as u64);
    out.extend_from_slice(b",\"failed\":");
    push_u64(&mut out, failed as u64);
    out.extend_from_slice(b",\"results\":[");
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match result {
            Ok(receipt) => push_receipt(&mut out, receipt),
            Err(error) => {
                out.extend_from_slice(b"{\"error\":");
                push_problem(&mut out, error, naming, Some(index), correlation_id);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"]}");
    json(if failed == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS }, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_by_the_content_type() {
        assert_eq!(Format::of(Some("application/json")), Format::Json);
        assert_eq!(Format::of(Some("Application/JSON")), Format::Json);
        assert_eq!(Format::of(Some("application/cloudevents+json")), Format::Structured);
        assert_eq!(Format::of(Some("application/cloudevents-batch+json")), Format::Batched);
        assert_eq!(Format::of(Some("application/vnd.x+json")), Format::Binary);
        assert_eq!(Format::of(None), Format::Binary);
    }
}

//! Subscriptions: create, list, describe, delete, pull, and decide what was pulled.

use crate::{
    json::{Object, integer, push_string, push_u64, short, string},
    problem::Problem,
    respond::{Reply, json as json_reply, no_content, value},
    router::Call,
    show::push_event,
    time::{push_time, read_time},
    topics::json_body,
};
use bytes::Bytes;
use domain::{
    Error, Result,
    delivery::Status,
    event::time_text,
    push::NewPush,
    subscriptions::{
        AckRequest, DeliveryMode, ExpressionErrors, NewSubscription, Payload, Pulled, RejectItem, RetryItem,
        Skip, StartSpec, SubscriptionView, parse_duration,
        policy::{NewDeadLetter, NewDedup, NewRetry, NewStormGuard},
        show_duration,
    },
};
use http::{HeaderValue, StatusCode, header};
use hyper::body::Body;
use ports::Timestamp;
use serde_json::{Value, json};
use std::{borrow::Cow, time::Duration};

/// All fields of a definition.
const FIELDS: [&str; 13] = [
    "name",
    "topics",
    "filter",
    "delivery",
    "ordering",
    "maxInFlight",
    "ackTimeout",
    "retry",
    "deadLetter",
    "dedup",
    "payload",
    "start",
    "adoptGroup",
];
/// The fields of `delivery`; all but the first are of push alone.
const DELIVERY_FIELDS: [&str; 7] = ["mode", "url", "format", "secret", "timeout", "headers", "concurrency"];

/// `POST /v1/subscriptions`.
pub(crate) async fn create<B>(call: &Call<'_>, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let view = call.services.subscriptions.create(read_new(&body)?).await?;
    Ok(shown(StatusCode::CREATED, &view))
}

/// `PUT /v1/subscriptions/{name}`.
pub(crate) async fn replace<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let revision = call.headers.get(header::IF_MATCH).map(read_tag).transpose()?.flatten();
    let body = json_body(call, body).await?;
    let view = call.services.subscriptions.replace(name, read_fields(&body)?, revision).await?;
    Ok(shown(StatusCode::OK, &view))
}

/// What stands behind the revision in the tag of a paused subscription.
const PAUSED: &str = "-paused";

/// The revision that an `If-Match` names (RFC 9110, section 13.1.1); any one is `None`.
fn read_tag(value: &HeaderValue) -> Result<Option<u64>> {
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = tag.and_then(|tag| tag.strip_suffix(PAUSED).unwrap_or(tag).parse().ok());
    number.map(Some).ok_or_else(|| {
        let message = format!(
            "must be the `ETag` of the subscription as it was read, as `\"3\"` (given: {:?})",
            short(text)
        );
        Error::invalid("If-Match", message)
    })
}

fn read_new(body: &str) -> Result<NewSubscription> {
    let new = read_fields(body)?;
    if new.name.is_empty() {
        return Err(Error::invalid("name", "is missing"));
    }
    Ok(new)
}

fn read_fields(body: &str) -> Result<NewSubscription> {
    let mut object = Object::body(body, &FIELDS)?;
    let mut new = NewSubscription {
        name: object.string("name")?.unwrap_or_default(),
        topics: object.strings("topics")?,
        ordering: object.string("ordering")?,
        max_in_flight: object.integer("maxInFlight")?,
        ack_timeout: object.string("ackTimeout")?,
        payload: object.string("payload")?,
        filter: object.string("filter")?,
        start: object.raw("start").map(read_start).transpose()?,
        adopt_group: object.boolean("adoptGroup")?.unwrap_or_default(),
        ..NewSubscription::default()
    };
    if let Some(raw) = object.raw("retry") {
        new.retry = read_retry(raw)?;
    }
    if let Some(raw) = object.raw("deadLetter") {
        new.dead_letter = read_dead_letter(raw)?;
    }
    if let Some(raw) = object.raw("dedup") {
        let mut dedup = Object::at("dedup", raw, &["enabled", "ttl", "onStoreFailure", "key"])?;
        new.dedup = NewDedup {
            enabled: dedup.boolean("enabled")?,
            ttl: dedup.string("ttl")?,
            on_store_failure: dedup.string("onStoreFailure")?,
            key: dedup.string("key")?,
        };
    }
    if let Some(raw) = object.raw("delivery") {
        let mut delivery = Object::at("delivery", raw, &DELIVERY_FIELDS)?;
        new.delivery_mode = delivery.string("mode")?;
        new.push = read_push(delivery)?;
    }
    new.not_built.extend(object.named());
    Ok(new)
}

fn read_push(mut delivery: Object<'_>) -> Result<NewPush> {
    let headers = delivery.raw("headers").map(|raw| {
        let read = |field: &str, raw| string(field, raw).map(Cow::into_owned);
        Object::map("delivery.headers", raw)?.entries(read)
    });
    Ok(NewPush {
        url: delivery.string("url")?,
        format: delivery.string("format")?,
        secret: delivery.string("secret")?,
        timeout: delivery.string("timeout")?,
        headers: headers.transpose()?,
        concurrency: delivery.integer("concurrency")?,
    })
}

fn read_retry(raw: &str) -> Result<NewRetry> {
    const FIELDS: [&str; 6] = ["strategy", "maxRetries", "initialDelay", "maxDelay", "multiplier", "jitter"];
    let mut retry = Object::at("retry", raw, &FIELDS)?;
    Ok(NewRetry {
        strategy: retry.string("strategy")?,
        max_retries: retry.integer("maxRetries")?,
        initial_delay: retry.string("initialDelay")?,
        max_delay: retry.string("maxDelay")?,
        multiplier: retry.number("multiplier")?,
        jitter: retry.string("jitter")?,
    })
}

fn read_dead_letter(raw: &str) -> Result<NewDeadLetter> {
    let mut dead_letter = Object::at("deadLetter", raw, &["enabled", "topic", "stormGuard"])?;
    let off = dead_letter.is_null("stormGuard");
    let storm_guard = match dead_letter.raw("stormGuard") {
        None => off.then_some(None),
        Some(raw) => {
            let mut guard = Object::at("deadLetter.stormGuard", raw, &["ratio", "window"])?;
            Some(Some(NewStormGuard { ratio: guard.number("ratio")?, window: guard.integer("window")? }))
        }
    };
    let (enabled, topic) = (dead_letter.boolean("enabled")?, dead_letter.string("topic")?);
    Ok(NewDeadLetter { enabled, topic, storm_guard })
}

fn read_start(raw: &str) -> Result<StartSpec> {
    if raw.starts_with('{') {
        let topics = Object::map("start", raw)?;
        let offsets = topics.entries(|field, raw| Object::map(field, raw)?.entries(integer))?;
        return Ok(StartSpec::Offsets(offsets));
    }
    let text = if raw.starts_with('"') { string("start", raw)? } else { Cow::Borrowed(raw) };
    match &*text {
        "earliest" => Ok(StartSpec::Earliest),
        "latest" => Ok(StartSpec::Latest),
        text => read_time(text).map(|time| StartSpec::Time(time.0)).ok_or_else(|| {
            let message = format!(
                "must be `earliest`, `latest`, a time between 1970 and 9999, or offsets as \
                 {{\"orders\": {{\"0\": 10}}}} (given: {:?})",
                short(text)
            );
            Error::invalid("start", message)
        }),
    }
}

/// `GET /v1/subscriptions`.
pub(crate) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let views = call.services.subscriptions.list().await?;
    let views: Vec<Value> = views.iter().map(show).collect();
    Ok(value(StatusCode::OK, &json!({"subscriptions": views})))
}

/// `GET /v1/subscriptions/{name}`.
pub(crate) async fn get(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    let view = call.services.subscriptions.get(name).await?;
    Ok(shown(StatusCode::OK, &view))
}

/// `DELETE /v1/subscriptions/{name}`.
pub(crate) async fn delete(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    call.services.subscriptions.delete(name).await?;
    Ok(no_content())
}

fn shown(status: StatusCode, view: &SubscriptionView) -> Reply {
    let mut reply = value(status, &show(view));
    // Being paused is shown and not replaced: the tag tells it, and any of both is the revision's.
    let paused = if view.definition.paused.is_some() { PAUSED } else { "" };
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}{paused}\"", view.definition.revision)) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    reply
}

/// What is in force, and how it goes.
fn show(view: &SubscriptionView) -> Value {
    let definition = &view.definition;
    let (retry, dedup, dead_letter) = (&definition.retry, &definition.dedup, definition.dead_letter_policy());
    let topics: Vec<&str> = definition.topics.iter().map(ports::TopicName::as_str).collect();
    let causes: Vec<Value> = view
        .causes
        .iter()
        .map(|cause| json!({"code": cause.code, "since": time_text(cause.since), "detail": cause.detail}))
        .collect();
    json!({
        "name": definition.name.as_str(),
        "topics": topics,
        "filter": definition.filter,
        "delivery": show_delivery(&definition.mode),
        "ordering": definition.ordering.as_str(),
        "maxInFlight": definition.max_in_flight,
        "ackTimeout": show_duration(definition.ack_timeout).to_string(),
        "retry": {
            "strategy": retry.strategy.as_str(),
            "maxRetries": retry.max_retries.map_or(-1, i64::from),
            "initialDelay": show_duration(retry.initial_delay).to_string(),
            "maxDelay": show_duration(retry.max_delay).to_string(),
            "multiplier": retry.multiplier,
            "jitter": retry.jitter.as_str(),
        },
        "deadLetter": {
            "enabled": dead_letter.enabled,
            "topic": dead_letter.topic.as_str(),
            "stormGuard": dead_letter.storm_guard.map(|guard| json!({"ratio": guard.ratio, "window": guard.window})),
        },
        "dedup": {
            "enabled": dedup.enabled,
            "ttl": show_duration(dedup.ttl).to_string(),
            "onStoreFailure": dedup.on_store_failure.as_str(),
            "key": dedup.key,
        },
        "payload": match definition.payload { Payload::Json => "json", Payload::Bytes => "bytes" },
        "start": match &definition.start {
            StartSpec::Earliest => json!("earliest"),
            StartSpec::Latest => json!("latest"),
            StartSpec::Time(ms) => json!(time_text(Timestamp(*ms))),
            StartSpec::Offsets(offsets) => json!(offsets),
        },
        "createdAt": time_text(definition.created_at()),
        "state": view.state.as_str(),
        "causes": causes,
        "lag": view.lag,
        "inFlight": view.in_flight,
        "held": view.held,
        "filtered": view.filtered,
        "filterErrors": show_errors(&view.filter_errors),
        "dedupKeyErrors": show_errors(&view.dedup_key_errors),
        "members": view.members,
    })
}

/// How often an expression could not be evaluated, and why the last time.
fn show_errors(errors: &ExpressionErrors) -> Value {
    let last = errors.last.as_ref().map(|last| {
        json!({
            "topic": last.topic.as_str(),
            "partition": last.partition,
            "offset": last.offset,
            "at": time_text(last.at),
            "reason": last.reason,
        })
    });
    json!({"count": errors.count, "last": last})
}

/// How events are delivered; what may be a credential is masked.
fn show_delivery(mode: &DeliveryMode) -> Value {
    let mut shown = json!({"mode": mode.as_str()});
    if let DeliveryMode::Push(target) = mode {
        let headers: serde_json::Map<_, _> =
            target.shown_headers().map(|(name, mask)| (name.to_owned(), json!(mask))).collect();
        shown["url"] = json!(target.shown_url());
        shown["format"] = json!(target.format.as_str());
        shown["secret"] = json!(target.shown_secret());
        shown["timeout"] = json!(show_duration(target.timeout).to_string());
        shown["headers"] = headers.into();
        shown["concurrency"] = json!(target.concurrency);
    }
    shown
}

/// `POST /v1/subscriptions/{name}/pull`.
pub(crate) async fn pull<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let (max, wait) = read_pull(&body)?;
    let pulling = call.services.subscriptions.pull(name, max, wait);
    if wait.is_none_or(|wait| wait.is_zero()) {
        return Ok(deliveries(pulling.await?));
    }
    // Dropping the pull gives back what it would have been given.
    tokio::select! {
        biased;
        pulled = pulling => Ok(deliveries(pulled?)),
        () = call.stop.cancelled() => Ok(no_deliveries()),
        () = call.peer.gone() => Ok(no_deliveries()),
    }
}

fn read_pull(body: &str) -> Result<(Option<i64>, Option<Duration>)> {
    if body.is_empty() {
        return Ok((None, None));
    }
    let mut object = Object::body(body, &["max", "wait"])?;
    let max = object.integer("max")?;
    let wait = object.string("wait")?.map(|text| duration("wait", &text)).transpose()?;
    Ok((max, wait))
}

fn duration(field: &str, text: &str) -> Result<Duration> {
    parse_duration(text).map_err(|message| Error::invalid(field, message))
}

fn no_deliveries() -> Reply {
    json_reply(StatusCode::OK, b"{\"deliveries\":[]}".to_vec())
}

fn deliveries(pulled: Pulled) -> Reply {
    let payload = pulled.definition.payload;
    let mut out = Vec::with_capacity(32 + pulled.deliveries.len() * 768);
    out.extend_from_slice(b"{\"deliveries\":[");
    for (index, delivery) in pulled.deliveries.into_iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"ackId\":" } else { b",{\"ackId\":" });
        push_string(&mut out, &delivery.ack_id);
        out.extend_from_slice(b",\"attempt\":");
        push_u64(&mut out, u64::from(delivery.attempt));
        out.extend_from_slice(b",\"deadline\":");
        push_time(&mut out, delivery.deadline);
        out.extend_from_slice(b",\"run\":");
        push_string(&mut out, &delivery.run);
        out.extend_from_slice(b",\"event\":");
        push_event(&mut out, &delivery.topic, delivery.partition, &delivery.record, payload, &delivery.value);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    json_reply(StatusCode::OK, out)
}

/// `POST /v1/subscriptions/{name}/ack`.
pub(crate) async fn ack<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let results = call.services.subscriptions.acknowledge(name, read_ack(&body)?).await?;
    let mut out = Vec::with_capacity(32 + results.len() * 128);
    out.extend_from_slice(b"{\"results\":[");
    for (index, (id, status)) in results.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"ackId\":" } else { b",{\"ackId\":" });
        push_string(&mut out, id);
        out.extend_from_slice(b",\"status\":");
        push_string(&mut out, status_word(*status));
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(json_reply(StatusCode::OK, out))
}

fn read_ack(body: &str) -> Result<AckRequest> {
    let mut object = Object::body(body, &["ack", "retry", "reject", "extend", "release"])?;
    let mut request = AckRequest {
        ack: object.strings("ack")?,
        release: object.strings("release")?,
        ..AckRequest::default()
    };
    for (field, raw) in object.array("extend")? {
        let mut item = Object::at(&field, raw, &["ackId", "by"])?;
        let (id, by) = (required(&mut item, "ackId")?, required(&mut item, "by")?);
        request.extend.push((id, duration(&item.field("by"), &by)?));
    }
    for (field, raw) in object.array("retry")? {
        let mut item = Object::at(&field, raw, &["ackId", "after", "reason"])?;
        let ack_id = required(&mut item, "ackId")?;
        let after = item.string("after")?;
        let after = after.map(|text| duration(&item.field("after"), &text)).transpose()?;
        request.retry.push(RetryItem { ack_id, after, reason: item.string("reason")? });
    }
    for (field, raw) in object.array("reject")? {
        let mut item = Object::at(&field, raw, &["ackId", "reason"])?;
        let ack_id = required(&mut item, "ackId")?;
        request.reject.push(RejectItem { ack_id, reason: item.string("reason")? });
    }
    Ok(request)
}

fn required(item: &mut Object<'_>, name: &str) -> Result<String> {
    item.string(name)?.ok_or_else(|| Error::invalid(item.field(name), "is missing"))
}

/// `POST /v1/subscriptions/{name}/pause`.
pub(crate) async fn pause(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    Ok(shown(StatusCode::OK, &call.services.subscriptions.pause(name).await?))
}

/// `POST /v1/subscriptions/{name}/resume`.
pub(crate) async fn resume(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    Ok(shown(StatusCode::OK, &call.services.subscriptions.resume(name).await?))
}

/// `POST /v1/subscriptions/{name}/skip`.
pub(crate) async fn skip<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let mut object = Object::body(&body, &["topic", "partition", "offset", "reason"])?;
    let missing = |name: &str| Error::invalid(name, "is missing");
    let skip = Skip {
        topic: required(&mut object, "topic")?,
        partition: object.integer("partition")?.ok_or_else(|| missing("partition"))?,
        offset: object.integer("offset")?.ok_or_else(|| missing("offset"))?,
        reason: required(&mut object, "reason")?,
    };
    call.services.subscriptions.skip(name, skip).await?;
    Ok(no_content())
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Expired => "expired",
        Status::Superseded => "superseded",
        Status::Unknown => "unknown",
        Status::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;
    use proptest::prelude::*;

    fn field(error: &Error) -> &str {
        error.fields().first().map_or("", |field| &field.field)
    }

    #[test]
    fn a_definition_is_read() {
        let new = read_new(
            r#"{"name":"mail","topics":["orders"],"delivery":{"mode":"pull"},"ordering":"none","maxInFlight":7,
            "ackTimeout":"30s","payload":"json","start":{"orders":{"0":10}},"filter":null}"#,
        )
        .unwrap();
        let expected = NewSubscription {
            name: "mail".into(),
            topics: vec!["orders".into()],
            delivery_mode: Some("pull".into()),
            ordering: Some("none".into()),
            max_in_flight: Some(7),
            ack_timeout: Some("30s".into()),
            payload: Some("json".into()),
            start: Some(StartSpec::Offsets([("orders".into(), [("0".into(), 10)].into())].into())),
            ..NewSubscription::default()
        };
        assert_eq!(new, expected);
    }

    #[test]
    fn what_becomes_of_failures_is_read() {
        let new = read_new(
            r#"{"name":"mail","topics":["orders"],"adoptGroup":true,
            "retry":{"strategy":"in-place","maxRetries":-1,"initialDelay":"1s","multiplier":1.5,"jitter":"none"},
            "deadLetter":{"enabled":false,"topic":"dead","stormGuard":null},
            "dedup":{"enabled":true,"ttl":"2h","onStoreFailure":"process"}}"#,
        )
        .unwrap();
        assert!(new.adopt_group);
        assert_eq!((new.retry.max_retries, new.retry.multiplier), (Some(-1), Some(1.5)));
        assert_eq!(new.dead_letter.storm_guard, Some(None), "null turns it off");
        assert_eq!(new.dead_letter.topic.as_deref(), Some("dead"));
        assert_eq!(new.dedup.on_store_failure.as_deref(), Some("process"));
        let new = read_new(r#"{"name":"a","topics":[],"deadLetter":{"stormGuard":{"ratio":0.5}}}"#).unwrap();
        let guard = NewStormGuard { ratio: Some(0.5), window: None };
        assert_eq!(new.dead_letter.storm_guard, Some(Some(guard)));
    }

    #[test]
    fn where_to_push_to_is_read() {
        let new = read_new(
            r#"{"name":"a","topics":[],"delivery":{"mode":"push","url":"https://x","format":"batch","secret":"s",
            "timeout":"5s","headers":{"x-a":"1"},"concurrency":4}}"#,
        )
        .unwrap();
        let expected = NewPush {
            url: Some("https://x".into()),
            format: Some("batch".into()),
            secret: Some("s".into()),
            timeout: Some("5s".into()),
            headers: Some([("x-a".into(), "1".into())].into()),
            concurrency: Some(4),
        };
        assert_eq!((new.delivery_mode.as_deref(), new.push), (Some("push"), expected));
    }

    #[test]
    fn expressions_are_handed_on_as_they_are() {
        let new =
            read_new(r#"{"name":"a","topics":[],"filter":"type == 'x'","dedup":{"key":"data.id"}}"#).unwrap();
        assert_eq!(new.filter.as_deref(), Some("type == 'x'"));
        assert_eq!(new.dedup.key.as_deref(), Some("data.id"));
        let new = read_new(r#"{"name":"a","topics":[],"filter":null,"dedup":{"key":null}}"#).unwrap();
        assert_eq!((new.filter, new.dedup.key), (None, None));
        let new = read_new(r#"{"name":"a","topics":[],"filter":""}"#).unwrap();
        assert_eq!(new.filter.as_deref(), Some(""), "it is for the domain to refuse");
    }

    #[test]
    fn a_fault_is_named() {
        for (body, name) in [
            (r#"{"topics":["orders"]}"#, "name"),
            (r#"{"name":"a","topics":"orders"}"#, "topics"),
            (r#"{"name":"a","topics":["a",7]}"#, "topics[1]"),
            (r#"{"name":"a","delivery":"pull"}"#, "delivery"),
            (r#"{"name":"a","delivery":{"modes":1}}"#, "delivery.modes"),
            (r#"{"name":"a","delivery":{"mode":1}}"#, "delivery.mode"),
            (r#"{"name":"a","delivery":{"url":1}}"#, "delivery.url"),
            (r#"{"name":"a","delivery":{"concurrency":"4"}}"#, "delivery.concurrency"),
            (r#"{"name":"a","delivery":{"headers":[]}}"#, "delivery.headers"),
            (r#"{"name":"a","delivery":{"headers":{"x":1}}}"#, "delivery.headers.x"),
            (r#"{"name":"a","delivery":{"headers":{"x":"1","x":"2"}}}"#, "delivery.headers.x"),
            (r#"{"name":"a","maxInFlight":"7"}"#, "maxInFlight"),
            (r#"{"name":"a","ackTimeout":30}"#, "ackTimeout"),
            (r#"{"name":"a","filter":true}"#, "filter"),
            (r#"{"name":"a","dedup":{"key":["id"]}}"#, "dedup.key"),
            (r#"{"name":"a","start":"never"}"#, "start"),
            (r#"{"name":"a","start":{"orders":{"0":"x"}}}"#, "start.orders.0"),
            (r#"{"name":"a","start":{"orders":7}}"#, "start.orders"),
            (r#"{"name":"a","typo":1}"#, "typo"),
        ] {
            assert_eq!(field(&read_new(body).unwrap_err()), name, "{body}");
        }
        for (body, name) in [
            (r#"{"max":"many"}"#, "max"),
            (r#"{"wait":"soon"}"#, "wait"),
            (r#"{"wait":"-1s"}"#, "wait"),
            (r#"{"wait":5}"#, "wait"),
            (r#"{"typo":1}"#, "typo"),
        ] {
            assert_eq!(field(&read_pull(body).unwrap_err()), name, "{body}");
        }
        for (body, name) in [
            (r#"{"ack":"one"}"#, "ack"),
            (r#"{"ack":[7]}"#, "ack[0]"),
            (r#"{"extend":[{"ackId":"a","by":"soon"}]}"#, "extend[0].by"),
            (r#"{"extend":[{"by":"30s"}]}"#, "extend[0].ackId"),
            (r#"{"extend":[7]}"#, "extend[0]"),
            (r#"{"retry":[{"after":"5s"}]}"#, "retry[0].ackId"),
            (r#"{"retry":[{"ackId":"a","after":"-1s"}]}"#, "retry[0].after"),
            (r#"{"reject":[{"ackId":"a"},{"ackId":7}]}"#, "reject[1].ackId"),
            (r#"{"reject":[{"ackId":"a","why":"x"}]}"#, "reject[0].why"),
            (r#"{"typo":[]}"#, "typo"),
        ] {
            assert_eq!(field(&read_ack(body).unwrap_err()), name, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(
            body in "\\PC{0,60}|\\{(\"(name|topics|start|ack|extend|max|wait)\":[^,]{0,12},?){0,3}\\}"
        ) {
            let errors = [read_new(&body).err(), read_pull(&body).err(), read_ack(&body).err()];
            for error in errors.into_iter().flatten() {
                prop_assert!(matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotSupported));
            }
        }
    }
}

//! Topics: create, list, describe, change, delete, purge.

use crate::{
    body,
    json::{Object, integer, short, string},
    problem::Problem,
    request::media_type,
    respond::{Reply, no_content, value},
    router::Call,
    time::read_time,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, ErrorCode, Result,
    event_schemas::{NewTopicSchema, TopicSchemaChange, TopicWithSchema},
    topics::{NewTopic, Purge, TopicChange},
};
use http::StatusCode;
use hyper::body::Body;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The body of a request that must be JSON, or nothing where nothing was sent.
///
/// # Errors
/// Another type, bad UTF-8, and what [`body::read`] says.
pub(crate) async fn json_body<B>(call: &Call<'_>, body: B) -> Result<ByteString, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let media_type = media_type(call.headers);
    if let Some(other) = media_type.filter(|media_type| !media_type.eq_ignore_ascii_case("application/json"))
    {
        let detail = format!("the body must be `application/json`, not `{}`", short(other));
        return Err(Error::new(ErrorCode::UnsupportedMediaType, detail).into());
    }
    let body = body::read(body, &call.bounds()).await?;
    ByteString::try_from(body).map_err(|_| {
        Error::new(ErrorCode::InvalidRequest, "the body is not UTF-8, which JSON must be").into()
    })
}

/// `POST /v1/topics`.
pub(crate) async fn create<B>(call: &Call<'_>, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let (new, schema) = read_new(&body)?;
    let created = call.services.schemas.create_topic(new, schema).await?;
    Ok(value(StatusCode::CREATED, &show(&created)))
}

fn read_new(body: &str) -> Result<(NewTopic, Option<NewTopicSchema>)> {
    let mut object = Object::body(body, &["name", "partitions", "replicationFactor", "config", "schema"])?;
    let config = object.raw("config").map(|raw| Object::map("config", raw)).transpose()?;
    let schema = object.raw("schema").map(read_schema).transpose()?;
    let new = NewTopic {
        name: object.string("name")?.ok_or_else(|| Error::invalid("name", "is missing"))?,
        partitions: object.integer("partitions")?,
        replication_factor: object.integer("replicationFactor")?,
        config: config.map(|config| config.entries(setting)).transpose()?.unwrap_or_default(),
    };
    Ok((new, schema))
}

/// What a topic's values are to follow.
fn read_schema(raw: &str) -> Result<NewTopicSchema> {
    let mut object = Object::at("schema", raw, &["subject", "required", "autoRegister"])?;
    Ok(NewTopicSchema {
        subject: object.string("subject")?,
        required: object.boolean("required")?,
        auto_register: object.boolean("autoRegister")?,
    })
}

/// The value of a setting: a string, or a number or boolean as it stands.
fn setting(field: &str, raw: &str) -> Result<String> {
    match raw.as_bytes().first() {
        Some(b'"') => string(field, raw).map(Cow::into_owned),
        Some(b'{' | b'[' | b'n') => Err(Error::invalid(field, "must be a string, a number or a boolean")),
        _ => Ok(raw.to_owned()),
    }
}

/// `GET /v1/topics`.
pub(crate) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let topics = call.services.topics.list().await?;
    let shown: Vec<Value> = topics
        .iter()
        .map(|topic| {
            json!({
                "name": topic.name.as_str(), "partitions": topic.partitions, "internal": topic.internal,
                "events": topic.events,
            })
        })
        .collect();
    Ok(value(StatusCode::OK, &json!({"topics": shown})))
}

/// `GET /v1/topics/{topic}`.
pub(crate) async fn get(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    let topic = call.services.schemas.topic(name).await?;
    Ok(value(StatusCode::OK, &show(&topic)))
}

/// `PATCH /v1/topics/{topic}`.
pub(crate) async fn alter<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let (change, schema) = read_change(&body)?;
    let topic = call.services.schemas.alter_topic(name, change, schema).await?;
    Ok(value(StatusCode::OK, &show(&topic)))
}

/// A change, and to which schema, where that is said: null takes it away.
fn read_change(body: &str) -> Result<(TopicChange, Option<TopicSchemaChange>)> {
    let mut object = Object::body(body, &["partitions", "config", "schema"])?;
    let schema = if object.is_null("schema") {
        Some(TopicSchemaChange::Nothing)
    } else {
        object.raw("schema").map(read_schema).transpose()?.map(TopicSchemaChange::Follow)
    };
    let config = object.raw("config").map(|raw| Object::map("config", raw)).transpose()?;
    let change = |field: &str, raw: &str| match raw {
        "null" => Ok(None),
        raw => setting(field, raw).map(Some),
    };
    let change = TopicChange {
        partitions: object.integer("partitions")?,
        config: config.map(|config| config.entries(change)).transpose()?.unwrap_or_default(),
    };
    Ok((change, schema))
}

/// `DELETE /v1/topics/{topic}`.
pub(crate) async fn delete(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    call.services.schemas.delete_topic(name).await?;
    Ok(no_content())
}

/// `POST /v1/topics/{topic}/purge`.
pub(crate) async fn purge<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let earliest = call.services.topics.purge(name, read_purge(&body)?).await?;
    let shown: serde_json::Map<String, Value> =
        earliest.into_iter().map(|(partition, offset)| (partition.to_string(), offset.into())).collect();
    Ok(value(StatusCode::OK, &json!({"earliestOffsets": shown})))
}

fn read_purge(body: &str) -> Result<Purge> {
    if body.is_empty() {
        return Ok(Purge::All);
    }
    let mut object = Object::body(body, &["before"])?;
    let Some(raw) = object.raw("before") else { return Ok(Purge::All) };
    if raw.starts_with('{') {
        return Object::map("before", raw)?.entries(integer).map(Purge::Offsets);
    }
    let text = if raw.starts_with('"') { string("before", raw)? } else { Cow::Borrowed(raw) };
    read_time(&text).map(Purge::Before).ok_or_else(|| {
        let message = format!(
            "must be a time between 1970 and 9999, or offsets by partition as {{\"0\": 100}} (given: {:?})",
            short(&text)
        );
        Error::invalid("before", message)
    })
}

fn show(TopicWithSchema { info, schema }: &TopicWithSchema) -> Value {
    let partitions: Vec<Value> = info
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition, "leader": partition.leader, "replicas": partition.replicas,
                "inSyncReplicas": partition.in_sync_replicas, "earliestOffset": partition.earliest,
                "latestOffset": partition.latest,
            })
        })
        .collect();
    let mut shown = json!({"name": info.name.as_str(), "partitions": partitions, "config": info.config});
    if let Some(schema) = schema {
        shown["schema"] = json!({
            "subject": schema.subject, "required": schema.required, "autoRegister": schema.auto_register,
        });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(error: &Error) -> &str {
        error.fields().first().map_or("", |field| &field.field)
    }

    #[test]
    fn a_fault_in_a_new_topic_is_named() {
        for (body, name) in [
            (r#"{"name":7}"#, "name"),
            (r#"{"partitions":1}"#, "name"),
            (r#"{"name":"a","partitions":2.5}"#, "partitions"),
            (r#"{"name":"a","partitions":"3"}"#, "partitions"),
            (r#"{"name":"a","config":[]}"#, "config"),
            (r#"{"name":"a","config":{"x":null}}"#, "config.x"),
            (r#"{"name":"a","typo":1}"#, "typo"),
            (r#"{"name":"a","schema":"s"}"#, "schema"),
            (r#"{"name":"a","schema":{"required":"yes"}}"#, "schema.required"),
            (r#"{"name":"a","schema":{"autoregister":true}}"#, "schema.autoregister"),
        ] {
            assert_eq!(field(&read_new(body).unwrap_err()), name, "{body}");
        }
        let (new, schema) = read_new(r#"{"name":"a","config":{"retention.ms":1000,"x":"y"}}"#).unwrap();
        assert_eq!(schema, None);
        assert_eq!(new.config["retention.ms"], "1000");
    }

    #[test]
    fn a_purge_says_how_far() {
        assert_eq!(read_purge("").unwrap(), Purge::All);
        assert_eq!(read_purge("{}").unwrap(), Purge::All);
        assert_eq!(read_purge(r#"{"before":"1000"}"#).unwrap(), Purge::Before(ports::Timestamp(1000)));
        assert_eq!(read_purge(r#"{"before":1000}"#).unwrap(), Purge::Before(ports::Timestamp(1000)));
        assert_eq!(
            read_purge(r#"{"before":{"0":100}}"#).unwrap(),
            Purge::Offsets([("0".into(), 100)].into())
        );
        for (body, name) in [
            (r#"{"before":"soon"}"#, "before"),
            (r#"{"before":-5}"#, "before"),
            (r#"{"before":[]}"#, "before"),
            (r#"{"before":{"0":"x"}}"#, "before.0"),
            (r#"{"until":1}"#, "until"),
        ] {
            assert_eq!(field(&read_purge(body).unwrap_err()), name, "{body}");
        }
    }

    #[test]
    fn null_takes_a_setting_back() {
        let (change, schema) = read_change(r#"{"partitions":6,"config":{"a":null,"b":"1"}}"#).unwrap();
        assert_eq!(schema, None);
        assert_eq!(read_change(r#"{"schema":null}"#).unwrap().1, Some(TopicSchemaChange::Nothing));
        assert_eq!(
            read_change(r#"{"schema":{}}"#).unwrap().1,
            Some(TopicSchemaChange::Follow(NewTopicSchema::default()))
        );
        assert_eq!(change.partitions, Some(6));
        assert_eq!(change.config, [("a".into(), None), ("b".into(), Some("1".into()))].into());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "\\PC{0,60}|\\{(\"(name|partitions|config|before)\":[^,]{0,12},?){0,3}\\}") {
            for error in [read_new(&body).err(), read_change(&body).err(), read_purge(&body).err()].into_iter().flatten() {
                prop_assert_eq!(error.code(), ErrorCode::InvalidRequest);
            }
        }
    }
}

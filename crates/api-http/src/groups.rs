//! Consumer groups: list, describe, lag, reset, delete.

use crate::{
    json::{Object, integer, short, string},
    problem::Problem,
    request::Query,
    respond::{Reply, no_content, value},
    router::Call,
    time::read_time,
    topics::json_body,
};
use bytes::Bytes;
use domain::{
    Error, Result,
    event::time_text,
    groups::{
        GroupListing, GroupReset, GroupView, LagView, PartitionLag, Position, ResetOutcome, ResetTo,
        TopicOffset,
    },
    lag::Verdict,
    subscriptions::{Cause, show_duration},
};
use http::StatusCode;
use hyper::body::Body;
use ports::{GroupMember, GroupState, GroupType, Offset, PartitionId, TopicName, TopicPartition};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// `GET /v1/groups`.
pub(crate) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let groups = call.services.groups.list().await?;
    let show = |GroupListing { summary, is_subscription }: &GroupListing| {
        json!({
            "group": summary.name.as_str(), "state": state(summary.state),
            "type": group_type(summary.group_type), "subscription": is_subscription,
        })
    };
    let shown: Vec<Value> = groups.iter().map(show).collect();
    Ok(value(StatusCode::OK, &json!({"groups": shown})))
}

/// `GET /v1/groups/{group}`.
pub(crate) async fn get(call: &Call<'_>, group: &str) -> Result<Reply, Problem> {
    let view = call.services.groups.get(group).await?;
    Ok(value(StatusCode::OK, &show_group(&view)))
}

/// `GET /v1/groups/{group}/lag`.
pub(crate) async fn lag(call: &Call<'_>, group: &str) -> Result<Reply, Problem> {
    let view = call.services.groups.lag(group).await?;
    Ok(value(StatusCode::OK, &show_lag(&view)))
}

/// `DELETE /v1/groups/{group}`.
pub(crate) async fn delete(call: &Call<'_>, group: &str) -> Result<Reply, Problem> {
    call.services.groups.delete(group).await?;
    Ok(no_content())
}

/// `POST /v1/groups/{group}/offsets/reset`.
pub(crate) async fn reset<B>(call: &Call<'_>, group: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let outcome = call.services.groups.reset(group, read_reset(&body)?).await?;
    Ok(value(StatusCode::OK, &show_outcome(group, &outcome)))
}

/// `DELETE /v1/groups/{group}/offsets?topic=…&partitions=0,1`.
pub(crate) async fn delete_offsets(call: &Call<'_>, group: &str) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["topic", "partitions"])?;
    let topic = query.text("topic").ok_or_else(|| Error::invalid("topic", "is missing"))?;
    let partitions = query.text("partitions").map(read_numbers).transpose()?;
    let were = call.services.groups.delete_offsets(group, topic, partitions.as_deref()).await?;
    let shown: Vec<Value> = were.iter().map(|(at, offset)| place(at, Some(*offset))).collect();
    Ok(value(StatusCode::OK, &json!({"group": group, "deleted": shown})))
}

fn read_reset(body: &str) -> Result<GroupReset> {
    let mut object = Object::body(body, &["topic", "partitions", "to", "dryRun"])?;
    let is_given = object.named().iter().any(|name| name == "partitions");
    let partitions = match object.array("partitions")?.as_slice() {
        // Left out it is all of them; an empty one is refused later.
        [] if !is_given => None,
        given => Some(given.iter().map(|(field, raw)| integer(field, raw)).collect::<Result<_>>()?),
    };
    let to = object.raw("to").ok_or_else(|| Error::invalid("to", MISSING))?;
    Ok(GroupReset {
        topic: object.string("topic")?,
        partitions,
        to: read_to(to)?,
        dry_run: object.boolean("dryRun")?.unwrap_or(false),
    })
}

/// What may stand as `to`.
const MISSING: &str =
    "must be `earliest`, `latest`, or an object with one of `timestamp`, `offset`, `shiftBy`, `offsets`";

fn read_to(raw: &str) -> Result<ResetTo> {
    if raw.starts_with('"') {
        return match &*string("to", raw)? {
            "earliest" => Ok(ResetTo::Earliest),
            "latest" => Ok(ResetTo::Latest),
            other => Err(Error::invalid("to", format!("{MISSING} (given: {:?})", short(other)))),
        };
    }
    if !raw.starts_with('{') {
        return Err(Error::invalid("to", MISSING));
    }
    let mut object = Object::at("to", raw, &["timestamp", "offset", "shiftBy", "offsets"])?;
    if object.named().len() != 1 {
        return Err(Error::invalid("to", MISSING));
    }
    if let Some(raw) = object.raw("timestamp") {
        let text = if raw.starts_with('"') { string("to.timestamp", raw)? } else { Cow::Borrowed(raw) };
        return read_time(&text).map(ResetTo::Timestamp).ok_or_else(|| {
            let message = format!("must be a time between 1970 and 9999 (given: {:?})", short(&text));
            Error::invalid("to.timestamp", message)
        });
    }
    if let Some(offset) = object.integer("offset")? {
        return Ok(ResetTo::Offset(offset));
    }
    if let Some(by) = object.integer("shiftBy")? {
        return Ok(ResetTo::ShiftBy(by));
    }
    let mut offsets = Vec::new();
    for (field, raw) in object.array("offsets")? {
        let mut item = Object::at(&field, raw, &["topic", "partition", "offset"])?;
        let missing = |name: &str| Error::invalid(format!("{field}.{name}"), "is missing");
        offsets.push(TopicOffset {
            topic: item.string("topic")?.ok_or_else(|| missing("topic"))?,
            partition: item.integer("partition")?.ok_or_else(|| missing("partition"))?,
            offset: item.integer("offset")?.ok_or_else(|| missing("offset"))?,
        });
    }
    Ok(ResetTo::Offsets(offsets))
}

fn read_numbers(text: &str) -> Result<Vec<i64>> {
    let number = |part: &str| {
        let wrong = || {
            let message =
                format!("must be numbers of partitions, separated by commas (given: {:?})", short(text));
            Error::invalid("partitions", message)
        };
        part.parse().map_err(|_| wrong())
    };
    text.split(',').map(number).collect()
}

/// A group's state, in Kafka's words.
fn state(state: GroupState) -> &'static str {
    match state {
        GroupState::Stable => "Stable",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Empty => "Empty",
        GroupState::Dead => "Dead",
        GroupState::Unknown => "Unknown",
    }
}

/// A group's type, in Kafka's words.
fn group_type(group_type: GroupType) -> &'static str {
    match group_type {
        GroupType::Classic => "Classic",
        GroupType::Consumer => "Consumer",
        GroupType::Simple => "Simple",
        GroupType::Unknown => "Unknown",
    }
}

fn place(at: &TopicPartition, offset: Option<Offset>) -> Value {
    json!({"topic": at.topic.as_str(), "partition": at.partition, "offset": offset})
}

fn duration(duration: Duration) -> String {
    show_duration(duration).to_string()
}

fn show_member(member: &GroupMember) -> Value {
    let mut by_topic: BTreeMap<&TopicName, Vec<PartitionId>> = BTreeMap::new();
    for at in &member.assignment {
        by_topic.entry(&at.topic).or_default().push(at.partition);
    }
    let shown: Vec<Value> = by_topic
        .into_iter()
        .map(|(topic, partitions)| json!({"topic": topic.as_str(), "partitions": partitions}))
        .collect();
    json!({"id": member.id, "clientId": member.client_id, "host": member.host, "assignments": shown})
}

fn show_position(position: &Position) -> Value {
    json!({
        "topic": position.at.topic.as_str(), "partition": position.at.partition,
        "committed": position.committed, "end": position.end, "lag": position.lag(),
        "lagTime": position.lag_time.map(duration),
    })
}

fn show_group(view: &GroupView) -> Value {
    let GroupView { info, is_subscription, positions } = view;
    json!({
        "group": info.name.as_str(), "state": state(info.state), "type": group_type(info.group_type),
        "subscription": is_subscription, "totalLag": view.total_lag(),
        "members": info.members.iter().map(show_member).collect::<Vec<_>>(),
        "offsets": positions.iter().map(show_position).collect::<Vec<_>>(),
    })
}

fn show_lag(view: &LagView) -> Value {
    let partition = |PartitionLag { position, verdict }: &PartitionLag| {
        let mut shown = show_position(position);
        shown["verdict"] = json!(verdict.map(Verdict::as_str));
        shown
    };
    let cause =
        |cause: &Cause| json!({"code": cause.code, "since": time_text(cause.since), "detail": cause.detail});
    json!({
        "group": view.group.as_str(), "totalLag": view.total_lag, "lagTime": view.lag_time.map(duration),
        "verdict": view.verdict.map(Verdict::as_str), "cause": view.cause.as_ref().map(cause),
        "samples": view.samples, "partitions": view.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

fn show_outcome(group: &str, ResetOutcome { moved, dry_run }: &ResetOutcome) -> Value {
    let before: Vec<Value> = moved.iter().map(|moved| place(&moved.at, moved.before)).collect();
    let after: Vec<Value> = moved
        .iter()
        .map(|moved| {
            let mut shown = place(&moved.at, Some(moved.after));
            if let Some(asked) = moved.clamped_from {
                shown["clampedFrom"] = json!(asked);
            }
            shown
        })
        .collect();
    json!({"group": group, "dryRun": dry_run, "before": before, "after": after})
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;
    use ports::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn each_place_to_reset_to_is_read() {
        let to = |raw: &str| read_to(raw).unwrap();
        assert_eq!(to(r#""earliest""#), ResetTo::Earliest);
        assert_eq!(to(r#""latest""#), ResetTo::Latest);
        assert_eq!(to(r#"{"offset":7}"#), ResetTo::Offset(7));
        assert_eq!(to(r#"{"shiftBy":-7,"offset":null}"#), ResetTo::ShiftBy(-7));
        assert_eq!(to(r#"{"timestamp":"1970-01-01T00:00:01Z"}"#), ResetTo::Timestamp(Timestamp(1000)));
        assert_eq!(to(r#"{"timestamp":1000}"#), ResetTo::Timestamp(Timestamp(1000)));
        let own = TopicOffset { topic: "t".into(), partition: 1, offset: 2 };
        assert_eq!(
            to(r#"{"offsets":[{"topic":"t","partition":1,"offset":2}]}"#),
            ResetTo::Offsets(vec![own])
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, field) in [
            ("{}", "to"),
            (r#"{"to":"end"}"#, "to"),
            (r#"{"to":5}"#, "to"),
            (r#"{"to":{}}"#, "to"),
            (r#"{"to":{"offset":1,"shiftBy":2}}"#, "to"),
            (r#"{"to":{"offset":"1"}}"#, "to.offset"),
            (r#"{"to":{"shiftby":1}}"#, "to.shiftby"),
            (r#"{"to":{"timestamp":"soon"}}"#, "to.timestamp"),
            (r#"{"to":{"offsets":[{"topic":"t","partition":0}]}}"#, "to.offsets[0].offset"),
            (r#"{"to":{"offsets":[{"topic":"t","partition":"x","offset":1}]}}"#, "to.offsets[0].partition"),
            (r#"{"to":"latest","partitions":[0,"x"]}"#, "partitions[1]"),
            (r#"{"to":"latest","dryrun":true}"#, "dryrun"),
        ] {
            let error = read_reset(body).unwrap_err();
            assert_eq!(error.fields()[0].field, field, "{body}");
        }
        assert!(read_numbers("1,,2").is_err() && read_numbers("").is_err());
        assert_eq!(read_numbers("1,2").unwrap(), [1, 2]);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "\\PC{0,60}|\\{(\"(topic|partitions|to|dryRun)\":[^,]{0,20},?){0,3}\\}") {
            if let Err(error) = read_reset(&body) {
                prop_assert_eq!(error.code(), ErrorCode::InvalidRequest);
            }
        }
    }
}

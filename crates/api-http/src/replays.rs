//! Replays: begin, watch, pause, resume and cancel.

use crate::{
    json::{Object, integer, short, string},
    problem::Problem,
    request::Query,
    respond::{Reply, value},
    router::Call,
    show::push_event,
    time::read_time,
    topics::json_body,
};
use bytes::Bytes;
use domain::{
    Error, Result,
    dead_letters::Selection,
    event::time_text,
    event_schemas::ShownValue,
    jobs::{Bound, Job, NewRedrive, NewReplay, Span, State, Target, Trial},
    subscriptions::Payload,
};
use http::StatusCode;
use hyper::body::Body;
use ports::{PartitionId, Timestamp};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// How long the short form waits for the end of its replay.
const SHORT_FORM_WITHIN: Duration = Duration::from_secs(50);

/// `POST /v1/replays`.
pub(crate) async fn create<B>(call: &Call<'_>, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let (new, dry_run) = read_new(&body)?;
    if dry_run {
        let trial = call.services.jobs.try_replay(new).await?;
        let values = call.services.schemas.shown(&trial.sample).await;
        return Ok(value(StatusCode::OK, &show_trial(&trial, &values)));
    }
    let job = call.services.jobs.replay(new).await?;
    Ok(shown(call, StatusCode::ACCEPTED, &job))
}

/// `POST /v1/subscriptions/{name}/dead-letters/redrive`.
pub(crate) async fn redrive<B>(call: &Call<'_>, name: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let (new, dry_run) = read_redrive(&body)?;
    if dry_run {
        let trial = call.services.jobs.try_redrive(name, new).await?;
        let values = call.services.schemas.shown(&trial.sample).await;
        return Ok(value(StatusCode::OK, &show_trial(&trial, &values)));
    }
    let job = call.services.jobs.redrive(name, new).await?;
    Ok(shown(call, StatusCode::ACCEPTED, &job))
}

fn read_redrive(body: &str) -> Result<(NewRedrive, bool)> {
    let mut object = Object::body(body, &["ids", "filter", "all", "ratePerSecond", "dryRun"])?;
    let ids = object.array("ids")?.into_iter().map(|(field, raw)| string(&field, raw).map(Cow::into_owned));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let (filter, all) = (object.string("filter")?, object.boolean("all")?.unwrap_or_default());
    let selection = match (ids.is_empty(), filter, all) {
        (false, None, false) => Selection::Ids(ids),
        (true, Some(filter), false) => Selection::Filter(filter),
        (true, None, true) => Selection::All,
        (true, None, false) => {
            return Err(Error::invalid(
                "ids",
                "or `filter`, or `all: true`, must say which dead letters are meant",
            ));
        }
        _ => return Err(Error::invalid("ids", "`filter` and `all` must not be given beside each other")),
    };
    let new = NewRedrive { selection, rate_per_second: object.integer("ratePerSecond")? };
    Ok((new, object.boolean("dryRun")?.unwrap_or_default()))
}

fn read_new(body: &str) -> Result<(NewReplay, bool)> {
    const KNOWN: [&str; 10] = [
        "topic",
        "from",
        "to",
        "filter",
        "target",
        "ratePerSecond",
        "bytesPerSecond",
        "speed",
        "batchSize",
        "dryRun",
    ];
    let mut object = Object::body(body, &KNOWN)?;
    let (target_topic, target_subscription) = match object.raw("target") {
        None => (None, None),
        Some(raw) => {
            let mut target = Object::at("target", raw, &["topic", "subscription", "dedup"])?;
            let dedup = target.string("dedup")?;
            let (topic, subscription) = (target.string("topic")?, target.string("subscription")?);
            match dedup.as_deref() {
                None => {}
                Some("again") if subscription.is_some() => {}
                Some("again" | "skip-done") if subscription.is_none() => {
                    let message = "is for a subscription; of a topic's consumers each decides for itself";
                    return Err(Error::invalid("target.dedup", message));
                }
                Some("skip-done") => return Err(Error::not_built("target.dedup")),
                Some(other) => {
                    let message = format!("must be `again` or `skip-done` (given: {:?})", short(other));
                    return Err(Error::invalid("target.dedup", message));
                }
            }
            (topic, subscription)
        }
    };
    let new = NewReplay {
        topic: object.string("topic")?.ok_or_else(|| Error::invalid("topic", "is missing"))?,
        from: object.raw("from").map(|raw| read_bound("from", raw)).transpose()?,
        to: object.raw("to").map(|raw| read_bound("to", raw)).transpose()?,
        filter: object.string("filter")?,
        target_topic,
        target_subscription,
        rate_per_second: object.integer("ratePerSecond")?,
        bytes_per_second: object.integer("bytesPerSecond")?,
        speed: object.number("speed")?,
        batch_size: object.integer("batchSize")?,
    };
    Ok((new, object.boolean("dryRun")?.unwrap_or_default()))
}

fn read_bound(field: &str, raw: &str) -> Result<Bound> {
    let mut bound = Object::at(field, raw, &["timestamp", "offsets", "last"])?;
    let (timestamp, offsets) = (bound.raw("timestamp"), bound.raw("offsets"));
    let last = bound.integer("last")?;
    match (timestamp, offsets, last) {
        (Some(raw), None, None) => {
            let field = format!("{field}.timestamp");
            let text = if raw.starts_with('"') { string(&field, raw)? } else { Cow::Borrowed(raw) };
            let time = read_time(&text).ok_or_else(|| {
                let given = short(&text);
                Error::invalid(&field, format!("must be a time between 1970 and 9999 (given: {given:?})"))
            })?;
            Ok(Bound::Time(time))
        }
        (None, Some(raw), None) => {
            Object::map(&format!("{field}.offsets"), raw)?.entries(integer).map(Bound::Offsets)
        }
        (None, None, Some(last)) => Ok(Bound::Last(last)),
        _ => Err(Error::invalid(field, "must hold one of `timestamp`, `offsets` and `last`")),
    }
}

/// `GET /v1/replays`.
pub(crate) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let now = call.services.jobs.now();
    let jobs = call.services.jobs.list().await?;
    let jobs: Vec<Value> = jobs.iter().map(|job| show(job, now)).collect();
    Ok(value(StatusCode::OK, &json!({"replays": jobs})))
}

/// `GET /v1/replays/{id}`.
pub(crate) async fn get(call: &Call<'_>, id: &str) -> Result<Reply, Problem> {
    let job = call.services.jobs.get(id).await?;
    Ok(shown(call, StatusCode::OK, &job))
}

/// `POST /v1/replays/{id}/pause`.
pub(crate) async fn pause(call: &Call<'_>, id: &str) -> Result<Reply, Problem> {
    let job = call.services.jobs.pause(id).await?;
    Ok(shown(call, StatusCode::OK, &job))
}

/// `POST /v1/replays/{id}/resume`.
pub(crate) async fn resume(call: &Call<'_>, id: &str) -> Result<Reply, Problem> {
    let job = call.services.jobs.resume(id).await?;
    Ok(shown(call, StatusCode::OK, &job))
}

/// `POST /v1/replays/{id}/cancel`.
pub(crate) async fn cancel(call: &Call<'_>, id: &str) -> Result<Reply, Problem> {
    let job = call.services.jobs.cancel(id).await?;
    Ok(shown(call, StatusCode::OK, &job))
}

/// `POST /replay`: a replay in a line, that waits for its end.
pub(crate) async fn short_form(call: &Call<'_>) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["topic", "fromTimestamp", "toTimestamp", "targetTopic", "filter"])?;
    let topic = query.text("topic").ok_or_else(|| Error::invalid("topic", "is missing"))?.to_owned();
    let time = |name: &str| -> Result<Option<Bound>> {
        let Some(millis) = query.integer(name)? else { return Ok(None) };
        if !(0..=crate::time::MAX).contains(&millis) {
            let message = format!("must be epoch milliseconds between 1970 and 9999 (given: {millis})");
            return Err(Error::invalid(name, message));
        }
        Ok(Some(Bound::Time(Timestamp(millis))))
    };
    let new = NewReplay {
        target_topic: Some(query.text("targetTopic").unwrap_or(&topic).to_owned()),
        from: time("fromTimestamp")?,
        to: time("toTimestamp")?,
        filter: query.text("filter").map(str::to_owned),
        topic,
        ..NewReplay::default()
    };
    let job = call.services.jobs.replay(new).await?;
    let job = call.services.jobs.wait(&job.id.to_string(), SHORT_FORM_WITHIN).await?;
    let status = if job.state == State::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(shown(call, status, &job))
}

fn shown(call: &Call<'_>, status: StatusCode, job: &Job) -> Reply {
    value(status, &show(job, call.services.jobs.now()))
}

fn show(job: &Job, now: Timestamp) -> Value {
    let progress = &job.progress;
    let target = match &job.task.target {
        Target::Topic(topic) => json!({"topic": topic}),
        Target::Subscription { name, .. } => json!({"subscription": name, "dedup": "again"}),
    };
    let outlook = job.outlook(now);
    json!({
        "id": job.id.to_string(),
        "kind": job.kind.as_str(),
        "state": job.state.as_str(),
        "topic": job.task.topic,
        "filter": job.task.filter,
        "target": target,
        "ratePerSecond": job.task.rate_per_second,
        "bytesPerSecond": job.task.bytes_per_second,
        "speed": job.task.speed,
        "batchSize": job.task.batch_size,
        "read": progress.read,
        "matched": progress.matched,
        "written": progress.written,
        "total": progress.total(),
        "filterErrors": progress.filter_errors,
        "startedAt": time_text(job.started_at()),
        "finishedAt": job.finished_at().map(time_text),
        "readPerSecond": outlook.as_ref().map(|outlook| outlook.per_second),
        "estimatedEnd": outlook.map(|outlook| time_text(outlook.ends_at)),
        "error": job.error,
        "partitions": spans(&progress.partitions),
    })
}

fn spans(partitions: &BTreeMap<PartitionId, Span>) -> Map<String, Value> {
    let span = |span: &Span| {
        let mut shown = json!({"from": span.from, "to": span.to, "next": span.next});
        if span.gone > 0 {
            shown["gone"] = span.gone.into();
        }
        shown
    };
    partitions.iter().map(|(partition, of)| (partition.to_string(), span(of))).collect()
}

fn show_trial(trial: &Trial, values: &[ShownValue]) -> Value {
    let sample: Vec<Value> = trial
        .sample
        .iter()
        .zip(values)
        .map(|(of, shown)| {
            let mut out = Vec::new();
            push_event(&mut out, &of.topic, of.partition, &of.record, Payload::Json, shown);
            serde_json::from_slice(&out).unwrap_or_default()
        })
        .collect();
    let by_partition: Map<String, Value> = trial
        .by_partition
        .iter()
        .map(|(partition, count)| (partition.to_string(), (*count).into()))
        .collect();
    let by_type: Map<String, Value> = trial
        .by_type
        .iter()
        .map(|(of, count)| (of.clone().unwrap_or_else(|| "(other)".to_owned()), (*count).into()))
        .collect();
    json!({
        "dryRun": true,
        "complete": trial.complete,
        "read": trial.progress.read,
        "matched": trial.progress.matched,
        "total": trial.progress.total(),
        "filterErrors": trial.progress.filter_errors,
        "matchedByPartition": by_partition,
        "matchedByType": by_type,
        "sample": sample,
        "partitions": spans(&trial.progress.partitions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;
    use proptest::prelude::*;

    #[test]
    fn a_fault_in_a_replay_is_named() {
        for (body, name) in [
            ("{}", "topic"),
            (r#"{"topic":7}"#, "topic"),
            (r#"{"topic":"a","from":5}"#, "from"),
            (r#"{"topic":"a","from":{}}"#, "from"),
            (r#"{"topic":"a","from":{"last":1,"timestamp":0}}"#, "from"),
            (r#"{"topic":"a","from":{"timestamp":"soon"}}"#, "from.timestamp"),
            (r#"{"topic":"a","from":{"first":1}}"#, "from.first"),
            (r#"{"topic":"a","to":{"offsets":[1]}}"#, "to.offsets"),
            (r#"{"topic":"a","to":{"offsets":{"0":"x"}}}"#, "to.offsets.0"),
            (r#"{"topic":"a","target":"b"}"#, "target"),
            (r#"{"topic":"a","target":{"topic":1}}"#, "target.topic"),
            (r#"{"topic":"a","target":{"topic":"b","dedup":"again"}}"#, "target.dedup"),
            (r#"{"topic":"a","target":{"subscription":"b","dedup":"never"}}"#, "target.dedup"),
            (r#"{"topic":"a","speed":"fast"}"#, "speed"),
            (r#"{"topic":"a","ratePerSecond":1.5}"#, "ratePerSecond"),
            (r#"{"topic":"a","dryRun":1}"#, "dryRun"),
            (r#"{"topic":"a","dryrun":true}"#, "dryrun"),
        ] {
            assert_eq!(read_new(body).unwrap_err().fields()[0].field, name, "{body}");
        }
        let body = r#"{"topic":"a","from":{"timestamp":"1970-01-01T00:00:01Z"},"to":{"offsets":{"1":5}},
            "target":{"topic":"b"},"speed":2,"dryRun":true}"#;
        let (new, dry_run) = read_new(body).unwrap();
        assert!(dry_run);
        assert_eq!(new.from, Some(Bound::Time(Timestamp(1000))));
        assert_eq!(new.to, Some(Bound::Offsets([("1".to_owned(), 5)].into())));
        assert_eq!((new.target_topic.as_deref(), new.speed), (Some("b"), Some(2.0)));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(
            body in "\\PC{0,60}|\\{(\"(topic|from|to|target|speed|dryRun)\":[^,]{0,12},?){0,3}\\}"
        ) {
            if let Err(error) = read_new(&body) {
                prop_assert!(matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotSupported));
            }
        }
    }
}

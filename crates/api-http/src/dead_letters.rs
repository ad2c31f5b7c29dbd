//! Dead letters: list, show, count, edit and discard.

use crate::{
    json::{Object, members, push_string, push_u64, unknown_field},
    problem::Problem,
    publish::{Draft, Source},
    request::Query,
    respond::{Reply, json, no_content, value},
    router::Call,
    show::push_event,
    topics::json_body,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Limits, Result,
    dead_letters::{EditData, EditLetter, Letter, LetterDetail, ListLetters, Recorded},
    event::time_text,
    subscriptions::Payload,
};
use http::StatusCode;
use hyper::body::Body;
use ports::Timestamp;
use serde_json::json;

/// `GET /v1/subscriptions/{name}/dead-letters`.
pub(crate) async fn list(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["limit", "cursor", "error", "status", "filter"])?;
    let text = |name: &str| query.text(name).map(str::to_owned);
    let list = ListLetters {
        limit: query.integer("limit")?,
        cursor: text("cursor"),
        error: text("error"),
        status: text("status"),
        filter: text("filter"),
    };
    let page = call.services.dead_letters.list(name, list).await?;
    let mut out = Vec::with_capacity(64 + page.letters.len() * 1024);
    out.extend_from_slice(b"{\"deadLetters\":[");
    for (index, letter) in page.letters.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'{');
        push_letter(&mut out, letter);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"cursor\":");
    match &page.cursor {
        Some(cursor) => push_string(&mut out, cursor),
        None => out.extend_from_slice(b"null"),
    }
    for (field, count) in [("filterErrors", page.filter_errors), ("notListed", page.unlisted)] {
        if count > 0 {
            push_name(&mut out, field);
            push_u64(&mut out, count);
        }
    }
    out.push(b'}');
    Ok(json(StatusCode::OK, out))
}

/// `GET /v1/subscriptions/{name}/dead-letters/summary`.
pub(crate) async fn summary(call: &Call<'_>, name: &str) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["status"])?;
    let summary = call.services.dead_letters.summary(name, query.text("status")).await?;
    let statuses: serde_json::Map<_, _> = summary
        .statuses
        .iter()
        .map(|(status, count)| (status.as_str().to_owned(), (*count).into()))
        .collect();
    let mut shown = json!({"kinds": summary.kinds, "types": summary.types, "statuses": statuses});
    if summary.unlisted > 0 {
        shown["notListed"] = summary.unlisted.into();
    }
    Ok(value(StatusCode::OK, &shown))
}

/// `GET /v1/subscriptions/{name}/dead-letters/{id}`.
pub(crate) async fn get(call: &Call<'_>, name: &str, id: &str) -> Result<Reply, Problem> {
    let detail = call.services.dead_letters.get(name, id).await?;
    Ok(shown(&detail))
}

/// `PATCH /v1/subscriptions/{name}/dead-letters/{id}`.
pub(crate) async fn edit<B>(call: &Call<'_>, name: &str, id: &str, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let body = json_body(call, body).await?;
    let edit = read_edit(&body, &call.services.limits)?;
    let detail = call.services.dead_letters.edit(name, id, edit).await?;
    Ok(shown(&detail))
}

/// `DELETE /v1/subscriptions/{name}/dead-letters/{id}`.
pub(crate) async fn discard(call: &Call<'_>, name: &str, id: &str) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["reason"])?;
    let reason = query.text("reason").filter(|reason| !reason.is_empty()).map(str::to_owned);
    call.services.dead_letters.discard(name, id, reason).await?;
    Ok(no_content())
}

/// What is to be another, as it is said: null is a value, what is left out is none.
fn read_edit(body: &ByteString, limits: &Limits) -> Result<EditLetter> {
    const KNOWN: [&str; 4] = ["key", "data", "data_base64", "headers"];
    // Faults of the whole, and members that are given twice.
    Object::body(body, &KNOWN)?;
    let source = Source { body, limits };
    let mut draft = Draft::default();
    let (mut has_key, mut has_headers, mut is_json, mut is_bytes) = (false, false, false, false);
    members(body, |name, raw| match &*name {
        "key" => {
            has_key = true;
            draft.key(source, "key", raw)
        }
        "headers" => {
            has_headers = true;
            draft.headers(source, raw)
        }
        "data" => {
            is_json = true;
            draft.attribute(source, "data", raw).map(drop)
        }
        "data_base64" => {
            is_bytes = true;
            draft.attribute(source, "data_base64", raw).map(drop)
        }
        other => Err(unknown_field(other.to_owned(), other, &KNOWN)),
    })?;
    let event = draft.finish(source)?;
    let data = match event.data {
        Some(json) if is_json => Some(EditData::Json(json)),
        Some(bytes) => Some(EditData::Bytes(bytes)),
        None => (is_json || is_bytes).then_some(EditData::Null),
    };
    Ok(EditLetter { key: has_key.then_some(event.key), data, headers: has_headers.then_some(event.headers) })
}

fn shown(detail: &LetterDetail) -> Reply {
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    push_letter(&mut out, &detail.letter);
    if let Some((was, value)) = &detail.original {
        push_name(&mut out, "unedited");
        push_event(&mut out, &was.topic, was.partition, &was.record, Payload::Json, value);
    }
    push_name(&mut out, "history");
    out.push(b'[');
    for (index, recorded) in detail.history.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_decision(&mut out, recorded);
    }
    out.extend_from_slice(b"]}");
    json(StatusCode::OK, out)
}

/// The members of a dead letter, without the braces.
fn push_letter(out: &mut Vec<u8>, letter: &Letter) {
    out.extend_from_slice(b"\"id\":");
    push_string(out, &letter.id.to_string());
    push_name(out, "status");
    push_string(out, letter.status.as_str());
    push_name(out, "edited");
    out.extend_from_slice(if letter.edited { b"true" } else { b"false" });
    push_name(out, "error");
    out.extend_from_slice(b"{\"kind\":");
    push_string(out, &letter.error.kind);
    push_name(out, "message");
    push_string(out, &letter.error.message);
    push_name(out, "chain");
    out.push(b'[');
    for (index, cause) in letter.error.chain.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, cause);
    }
    out.extend_from_slice(b"]}");
    push_name(out, "attempts");
    match letter.attempts {
        Some(attempts) => push_u64(out, attempts.into()),
        None => out.extend_from_slice(b"null"),
    }
    push_time(out, "firstFailedAt", letter.first_failed_at);
    push_time(out, "lastFailedAt", Some(letter.last_failed_at));
    if let Some(previous) = &letter.previous {
        push_name(out, "previous");
        push_string(out, previous);
    }
    push_name(out, "deadLetter");
    out.extend_from_slice(b"{\"topic\":");
    push_string(out, letter.topic.as_str());
    push_name(out, "partition");
    push_u64(out, letter.partition.into());
    push_name(out, "offset");
    push_u64(out, letter.offset);
    out.push(b'}');
    push_name(out, "event");
    let event = &letter.event;
    push_event(out, &event.topic, event.partition, &event.record, Payload::Json, &letter.value);
}

fn push_decision(out: &mut Vec<u8>, recorded: &Recorded) {
    out.extend_from_slice(b"{\"decision\":");
    push_string(out, recorded.kind.as_str());
    push_time(out, "at", Some(recorded.at));
    push_name(out, "by");
    push_string(out, &recorded.by);
    for (name, text) in [("reason", &recorded.reason), ("job", &recorded.job)] {
        if let Some(text) = text {
            push_name(out, name);
            push_string(out, text);
        }
    }
    let edit = &recorded.edit;
    let changed =
        [("key", edit.key.is_some()), ("data", edit.data.is_some()), ("headers", edit.headers.is_some())];
    let changed: Vec<&str> = changed.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    if !changed.is_empty() {
        push_name(out, "changed");
        out.extend_from_slice(json!(changed).to_string().as_bytes());
    }
    out.push(b'}');
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    push_string(out, name);
    out.push(b':');
}

fn push_time(out: &mut Vec<u8>, name: &str, time: Option<Timestamp>) {
    push_name(out, name);
    match time {
        Some(time) => push_string(out, &time_text(time)),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ErrorCode;
    use ports::Header;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<EditLetter> {
        read_edit(&ByteString::from(body), &Limits::default())
    }

    #[test]
    fn what_is_left_out_is_told_from_what_is_null() {
        assert_eq!(read("{}").unwrap(), EditLetter::default());
        assert_eq!(read(r#"{"key":null}"#).unwrap().key, Some(None));
        assert_eq!(read(r#"{"key":"k"}"#).unwrap().key, Some(Some(Bytes::from("k"))));
        let data = |body| read(body).unwrap().data;
        assert_eq!(data(r#"{"data":null}"#), Some(EditData::Null));
        assert_eq!(data(r#"{"data":{"n": 1.0}}"#), Some(EditData::Json(Bytes::from(r#"{"n": 1.0}"#))));
        assert_eq!(data(r#"{"data":"text"}"#), Some(EditData::Json(Bytes::from("\"text\""))));
        assert_eq!(data(r#"{"data_base64":""}"#), Some(EditData::Bytes(Bytes::new())));
        let headers = read(r#"{"headers":{"a":"b"}}"#).unwrap().headers;
        assert_eq!(headers, Some(vec![Header::new("a", "b")]));
        assert_eq!(read(r#"{"headers":{}}"#).unwrap().headers, Some(Vec::new()));
    }

    #[test]
    fn a_fault_in_an_edit_is_named() {
        for (body, field) in [
            (r#"{"id":"x"}"#, "id"),
            (r#"{"key":1}"#, "key"),
            (r#"{"key":"a","key":"b"}"#, "key"),
            (r#"{"data":1,"data_base64":"YQ=="}"#, "data_base64"),
            (r#"{"data_base64":"?"}"#, "data_base64"),
            (r#"{"headers":[]}"#, "headers"),
            (r#"{"headers":{"a":1}}"#, "headers.a"),
        ] {
            assert_eq!(read(body).unwrap_err().fields()[0].field, field, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "\\PC{0,40}|\\{(\"(key|data|data_base64|headers)\":[^,]{0,9},?){0,3}\\}") {
            if let Err(error) = read(&body) {
                prop_assert_eq!(error.code(), ErrorCode::InvalidRequest);
            }
        }
    }
}

//! Reading a topic without a subscription: pages, and the live tail as server-sent events.

use crate::{
    connection::Peer,
    json::{push_string, short},
    problem::{Naming, Problem, push_problem},
    request::Query,
    respond::{Reply, ReplyBody, json},
    router::Call,
    show::push_event,
    time::read_time,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    Error, Result,
    browse::{Browsed, Cursor, Start, Tail},
    event_schemas::{EventSchemas, ShownValue},
    subscriptions::Payload,
};
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, StatusCode, header};
use ports::{PartitionId, Position};
use std::{fmt::Write, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// `GET /v1/topics/{topic}/events`.
pub(crate) async fn page(call: &Call<'_>, topic: &str) -> Result<Reply, Problem> {
    let query =
        Query::read(call.query, &["partition", "offset", "from", "cursor", "limit", "filter", "decode"])?;
    let decode = query.flag("decode", true)?;
    let start = start(&query)?.unwrap_or(Start::From(Position::Earliest));
    let page = call.services.browser.page(topic, start, query.integer("limit")?).await?;
    let mut out = Vec::with_capacity(64 + page.events.len() * 512);
    out.extend_from_slice(b"{\"events\":[");
    let values = values(&call.services.schemas, decode, page.events.iter()).await;
    for (index, (browsed, value)) in page.events.iter().zip(&values).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(&mut out, &browsed.topic, browsed.partition, &browsed.record, payload(decode), value);
    }
    out.extend_from_slice(b"],\"next\":");
    push_string(&mut out, &page.next.to_string());
    out.push(b'}');
    Ok(json(StatusCode::OK, out))
}

/// The values of records as they are to be shown.
async fn values<'a>(
    schemas: &EventSchemas,
    decode: bool,
    events: impl ExactSizeIterator<Item = &'a Browsed>,
) -> Vec<ShownValue> {
    if !decode {
        return vec![ShownValue::Plain; events.len()];
    }
    schemas.shown(events).await
}

fn payload(decode: bool) -> Payload {
    if decode { Payload::Json } else { Payload::Bytes }
}

/// Where the query says to begin; `None` where it says nothing.
fn start(query: &Query<'_>) -> Result<Option<Start>> {
    if query.text("filter").is_some() {
        return Err(Error::not_built("filter"));
    }
    let (partition, offset) = (query.integer("partition")?, query.integer("offset")?);
    let (from, cursor) = (query.text("from"), query.text("cursor"));
    let said = [("partition", partition.is_some()), ("from", from.is_some()), ("cursor", cursor.is_some())];
    let mut said = said.into_iter().filter_map(|(name, is_said)| is_said.then_some(name));
    if let (Some(first), Some(second)) = (said.next(), said.next()) {
        return Err(Error::invalid(second, format!("must not be given beside `{first}`")));
    }
    if offset.is_some() && partition.is_none() {
        return Err(Error::invalid("offset", "must be given with `partition`"));
    }
    if let Some(partition) = partition {
        return Ok(Some(Start::Partition { partition, offset: offset.unwrap_or(0) }));
    }
    if let Some(cursor) = cursor {
        return cursor.parse().map(|cursor| Some(Start::Cursor(cursor)));
    }
    from.map(|from| position(from).map(Start::From)).transpose()
}

fn position(from: &str) -> Result<Position> {
    match from {
        "earliest" => Ok(Position::Earliest),
        "latest" => Ok(Position::Latest),
        text => read_time(text).map(Position::Timestamp).ok_or_else(|| {
            let message = format!(
                "must be `earliest`, `latest`, or a time between 1970 and 9999 as RFC 3339 or milliseconds \
                 (given: {:?})",
                short(text)
            );
            Error::invalid("from", message)
        }),
    }
}

/// `GET /v1/topics/{topic}/events/tail`.
pub(crate) async fn tail(call: &Call<'_>, topic: &str) -> Result<Reply, Problem> {
    let query = Query::read(call.query, &["partition", "offset", "from", "cursor", "filter", "decode"])?;
    let decode = query.flag("decode", true)?;
    let mut start = start(&query)?.unwrap_or(Start::From(Position::Latest));
    if let Some(cursor) = last_event_id(call)? {
        start = resume(start, cursor);
    }
    // Begun before the head of the answer leaves: what is published after it is shown.
    let tail = call.services.browser.tail(topic, start).await?;
    let follower = Follower {
        tail: Some(tail),
        schemas: call.services.schemas.clone(),
        decode,
        peer: call.peer.clone(),
        stop: call.stop.clone(),
        // Well within the time that a connection may lie still.
        heartbeat: call.config.heartbeat.min(call.config.idle_timeout / 2),
        correlation_id: call.correlation_id.clone(),
    };
    // A client that lost the connection comes again soon, with the id of the last event.
    let hello = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    let events = stream::unfold(follower, |mut follower| async {
        let bytes = follower.next().await?;
        Some((bytes, follower))
    });
    let mut reply = Response::new(ReplyBody::stream(hello.chain(events).boxed()));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(reply)
}

/// Where to go on: what was seen beats where it began, and a tail of one partition stays one.
fn resume(start: Start, cursor: Cursor) -> Start {
    let Start::Partition { partition, .. } = start else { return Start::Cursor(cursor) };
    let seen = PartitionId::try_from(partition).ok().and_then(|number| cursor.0.get(&number).copied());
    seen.map_or(start, |offset| Start::Partition { partition, offset: offset as i64 })
}

fn last_event_id(call: &Call<'_>) -> Result<Option<Cursor>> {
    let Some(value) = call.headers.get("last-event-id").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    cursor.map(Some).ok_or_else(|| {
        Error::invalid("last-event-id", "must be the id of an event of this tail, as `0:220,1:17`")
    })
}

/// Follows a tail for one client.
struct Follower {
    /// Gone once the tail has failed.
    tail: Option<Tail>,
    schemas: Arc<EventSchemas>,
    decode: bool,
    peer: Peer,
    stop: CancellationToken,
    heartbeat: Duration,
    correlation_id: ByteString,
}

impl Follower {
    /// The next messages; `None` at the end: the client went, the server stops, or the log fails.
    async fn next(&mut self) -> Option<Bytes> {
        let tail = self.tail.as_mut()?;
        let batch = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            batch = tail.next(self.heartbeat) => batch,
            () = self.peer.gone() => return None,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                self.tail = None;
                let mut out = Vec::from(&b"event: error\ndata: "[..]);
                push_problem(&mut out, &error, Naming::Service, None, &self.correlation_id);
                out.extend_from_slice(b"\n\n");
                return Some(out.into());
            }
        };
        if batch.events.is_empty() {
            return Some(Bytes::from_static(b": still here\n\n"));
        }
        let mut out = Vec::with_capacity(batch.events.len() * 512);
        let mut id = String::new();
        let events = batch.events.iter().map(|(browsed, _)| browsed);
        let values = values(&self.schemas, self.decode, events).await;
        for ((browsed, cursor), value) in batch.events.iter().zip(&values) {
            id.clear();
            // Writing to a string does not fail.
            let _ = write!(id, "{cursor}");
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(b"\ndata: ");
            let start = out.len();
            let payload = payload(self.decode);
            push_event(&mut out, &browsed.topic, browsed.partition, &browsed.record, payload, value);
            one_line(&mut out[start..]);
            out.extend_from_slice(b"\n\n");
        }
        Some(out.into())
    }
}

/// Ends of lines within JSON are nothing but space, and would end the message's line.
fn one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 6] = ["partition", "offset", "from", "cursor", "limit", "filter"];

    fn begins(query: &str) -> Result<Option<Start>> {
        start(&Query::read(Some(query), &KNOWN)?)
    }

    #[test]
    fn a_place_to_begin_at_is_read() {
        assert_eq!(begins("").unwrap(), None);
        assert_eq!(
            begins("partition=1&offset=7").unwrap(),
            Some(Start::Partition { partition: 1, offset: 7 })
        );
        assert_eq!(begins("from=latest").unwrap(), Some(Start::From(Position::Latest)));
        assert_eq!(
            begins("from=1970-01-01T01:00:01+01:00").unwrap(),
            Some(Start::From(Position::Timestamp(ports::Timestamp(1000))))
        );
        let cursor = Cursor([(0, 220), (1, 17)].into());
        assert_eq!(begins("cursor=0:220,1:17").unwrap(), Some(Start::Cursor(cursor)));
    }

    #[test]
    fn a_bad_place_is_named() {
        for (query, field) in [
            ("partition=x", "partition"),
            ("partition=0&offset=99999999999999999999", "offset"),
            ("offset=1", "offset"),
            ("from=never", "from"),
            ("from=-1", "from"),
            ("from=earliest&cursor=0:1", "cursor"),
            ("partition=0&from=earliest", "from"),
            ("cursor=nonsense", "cursor"),
            ("cursor=", "cursor"),
            ("filter=true", "filter"),
            ("typo=1", "typo"),
        ] {
            assert_eq!(begins(query).unwrap_err().fields()[0].field, field, "{query}");
        }
    }

    #[test]
    fn a_tail_of_one_partition_resumes_as_one() {
        let cursor = |text: &str| text.parse::<Cursor>().unwrap();
        let one = |offset| Start::Partition { partition: 2, offset };
        assert_eq!(resume(one(0), cursor("2:7")), one(7));
        assert_eq!(resume(one(5), cursor("1:7")), one(5));
        let all = resume(Start::From(Position::Latest), cursor("1:7,2:9"));
        assert_eq!(all, Start::Cursor(cursor("1:7,2:9")));
    }

    #[test]
    fn an_event_is_one_line() {
        let mut json = *b"{\r\n\"a\": 1\n}";
        one_line(&mut json);
        assert_eq!(&json, b"{  \"a\": 1 }");
    }

    proptest! {
        #[test]
        fn any_place_is_read_or_refused(
            name in proptest::sample::select(&KNOWN[..]),
            value in "[0-9:,a-z+-]{0,24}",
        ) {
            let _ = begins(&format!("{name}={value}"));
        }
    }
}

//! Pulls and acknowledgements over HTTP, one after the other on each connection. Of an answer no more is
//! looked at than ids and statuses.

use super::consume::Span;
use crate::{Outcome, http, http::Connection};
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{task::JoinSet, time::Instant};

const ACK_ID: &[u8] = b"\"ackId\":\"";
const OK: &[u8] = b"\"status\":\"ok\"";

/// Takes `events` deliveries of a subscription, `max` at a time over so many connections, and acknowledges
/// each request's together; returns when all are confirmed.
pub(crate) async fn all(
    base: &str,
    subscription: &str,
    max: usize,
    connections: usize,
    events: u64,
) -> Outcome<Span> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let connection = Connection::open(base).await?;
        tasks.spawn(one(connection, base.to_owned(), subscription.to_owned(), max, events, done.clone()));
    }
    let mut span: Option<Span> = None;
    while let Some(one) = tasks.join_next().await {
        let one = one.map_err(|e| e.to_string())??;
        span = match (span, one) {
            (Some(a), Some(b)) => Some(Span { first: a.first.min(b.first), last: a.last.max(b.last) }),
            (a, b) => a.or(b),
        };
    }
    match (done.load(Ordering::Acquire), span) {
        (count, Some(span)) if count == events => Ok(span),
        (count, _) => Err(format!("{count} deliveries of {events} events were confirmed")),
    }
}

async fn one(
    mut connection: Connection,
    base: String,
    subscription: String,
    max: usize,
    events: u64,
    done: Arc<AtomicU64>,
) -> Outcome<Option<Span>> {
    let pull = request(&base, &subscription, "pull", &format!("{{\"max\":{max},\"wait\":\"500ms\"}}"));
    let mut span: Option<Span> = None;
    while done.load(Ordering::Acquire) < events {
        let (status, body) = connection.exchange(pull.as_bytes()).await?;
        if status != 200 {
            return Err(format!("a pull was answered with {status}: {}", String::from_utf8_lossy(body)));
        }
        let (ack, count) = acknowledgement(body);
        if count == 0 {
            continue;
        }
        let came = Instant::now();
        let (status, body) =
            connection.exchange(request(&base, &subscription, "ack", &ack).as_bytes()).await?;
        if status != 200 || occurrences(body, OK) != count {
            return Err(format!("{count} acknowledgements: {status} {}", String::from_utf8_lossy(body)));
        }
        done.fetch_add(count as u64, Ordering::AcqRel);
        let first = span.map_or(came, |span| span.first);
        span = Some(Span { first, last: Instant::now() });
    }
    Ok(span)
}

fn request(base: &str, subscription: &str, what: &str, body: &str) -> String {
    let (authority, path) = http::split(base);
    format!(
        "POST {path}/v1/subscriptions/{subscription}/{what} HTTP/1.1\r\nhost: {authority}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body that acknowledges all deliveries of an answer, and how many they are.
fn acknowledgement(answer: &[u8]) -> (String, usize) {
    let mut body = String::from("{\"ack\":[");
    let mut count = 0;
    let mut rest = answer;
    while let Some(at) = memchr::memmem::find(rest, ACK_ID) {
        rest = &rest[at + ACK_ID.len()..];
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let comma = if count > 0 { "," } else { "" };
        let _infallible = write!(body, "{comma}\"{}\"", String::from_utf8_lossy(&rest[..end]));
        rest = &rest[end..];
        count += 1;
    }
    body.push_str("]}");
    (body, count)
}

fn occurrences(text: &[u8], of: &[u8]) -> usize {
    memchr::memmem::find_iter(text, of).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_deliveries_of_an_answer_are_acknowledged() {
        let answer = br#"{"deliveries":[{"ackId":"a-1","attempt":1,"event":{}},{"ackId":"b-2","event":{}}]}"#;
        assert_eq!(acknowledgement(answer), (r#"{"ack":["a-1","b-2"]}"#.to_owned(), 2));
        assert_eq!(acknowledgement(br#"{"deliveries":[]}"#).1, 0);
    }
}

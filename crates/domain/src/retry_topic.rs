//! Topics of a subscription's own, in which events wait to be delivered to it alone: its retry topics, one a delay, in
//! which they wait for their next attempt, and its queue, in which they wait that are replayed into it or redriven.
//!
//! A record there is the event as it was, key and value byte for byte, and beside it, in headers, where it
//! first lay, what went wrong and when it is due. They are taken off when it is read: a handler is given the
//! event as it first lay.

use crate::{
    dead_letter::{self, Origin},
    delivery::{DeadLetter, Failures, Retried},
};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{Failure, GroupId, Header, Record, Timestamp, TopicName};
use std::{str::FromStr, time::Duration};
use uuid::Uuid;

/// Names of the headers that a record of a retry topic has beside those of its event.
pub mod header {
    /// What all of them begin with.
    pub const PREFIX: &str = "es_retry_";
    /// The topic that it first lay in.
    pub const TOPIC: &str = "es_retry_topic";
    /// Its partition there.
    pub const PARTITION: &str = "es_retry_partition";
    /// Its offset there.
    pub const OFFSET: &str = "es_retry_offset";
    /// Its time there, in epoch milliseconds.
    pub const TIMESTAMP: &str = "es_retry_timestamp";
    /// The log that it lay in, as the subscription names it: 16 hexadecimal digits.
    pub const LOG: &str = "es_retry_log";
    /// The epoch in which it was delivered from there, a UUID.
    pub const EPOCH: &str = "es_retry_epoch";
    /// Deliveries that counted.
    pub const ATTEMPTS: &str = "es_retry_attempts";
    /// When it is due, in epoch milliseconds.
    pub const NOT_BEFORE: &str = "es_retry_not_before";
    /// When it failed first, in epoch milliseconds.
    pub const FIRST_FAILED_AT: &str = "es_retry_first_failed_at";
    /// When it failed last, in epoch milliseconds.
    pub const LAST_FAILED_AT: &str = "es_retry_last_failed_at";
    /// How it failed last, in a word.
    pub const ERROR_KIND: &str = "es_retry_error_kind";
    /// How it failed last, for a person.
    pub const ERROR_MESSAGE: &str = "es_retry_error_message";
    /// What caused that, a line each, outermost first.
    pub const ERROR_CHAIN: &str = "es_retry_error_chain";
}

/// The most retry topics of a subscription.
pub const TIERS_MAX: usize = 16;

/// The retry topic of a subscription for a delay.
#[allow(clippy::expect_used, reason = "a subscription's name leaves room for it")]
pub fn topic(subscription: &GroupId, delay: Duration) -> TopicName {
    let millis = delay.as_millis();
    let delay =
        if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") };
    TopicName::new(&format!("{subscription}.retry.{delay}")).expect("it is a name and fits")
}

/// The queue of a subscription.
#[allow(clippy::expect_used, reason = "a subscription's name leaves room for it")]
pub fn queue(subscription: &GroupId) -> TopicName {
    TopicName::new(&format!("{subscription}.queue")).expect("it is a name and fits")
}

/// An event as it is read from such a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The event, as it first lay.
    pub record: Record,
    /// Where it first lay, and what went wrong.
    pub retried: Retried,
    /// Deliveries that counted.
    pub attempts: u32,
    /// When it is due.
    pub not_before: Timestamp,
}

/// The record that waits for `not_before`.
pub fn record(origin: &Origin<'_>, letter: &DeadLetter, not_before: Timestamp) -> Record {
    let source = &letter.record.record;
    let mut headers: Vec<Header> =
        source.headers.iter().filter(|of| !of.name.starts_with(header::PREFIX)).cloned().collect();
    let Failures { first_at, last_at, last, .. } = &letter.failures;
    let mut put = |name: &'static str, value: String| {
        headers.push(Header { name: ByteString::from_static(name), value: Some(Bytes::from(value)) });
    };
    put_place(origin, &mut put);
    put(header::ATTEMPTS, letter.attempts.to_string());
    put(header::NOT_BEFORE, not_before.0.to_string());
    put(header::FIRST_FAILED_AT, first_at.0.to_string());
    put(header::LAST_FAILED_AT, last_at.0.to_string());
    put(header::ERROR_KIND, dead_letter::cut(&last.kind, dead_letter::KIND_BYTES_MAX));
    put(header::ERROR_MESSAGE, dead_letter::cut(&last.message, dead_letter::MESSAGE_BYTES_MAX));
    put(header::ERROR_CHAIN, dead_letter::cut(&last.chain.join("\n"), dead_letter::CHAIN_BYTES_MAX));
    Record { key: source.key.clone(), value: source.value.clone(), headers, timestamp: source.timestamp }
}

/// The record that waits in the queue, to be delivered at once and as if it never was. `origin` says where the event
/// first lay, and the epoch in which it is delivered: in another one than before it is another delivery.
pub(crate) fn queued(origin: &Origin<'_>, record: Record) -> Record {
    let mut record = record;
    record.headers.retain(|of| !of.name.starts_with(header::PREFIX));
    let mut put = |name: &'static str, value: String| {
        record.headers.push(Header { name: ByteString::from_static(name), value: Some(Bytes::from(value)) });
    };
    put_place(origin, &mut put);
    put(header::ATTEMPTS, "0".to_owned());
    put(header::NOT_BEFORE, "0".to_owned());
    record
}

fn put_place(origin: &Origin<'_>, put: &mut impl FnMut(&'static str, String)) {
    put(header::TOPIC, origin.topic.to_string());
    put(header::PARTITION, origin.partition.to_string());
    put(header::OFFSET, origin.offset.to_string());
    put(header::TIMESTAMP, origin.timestamp.0.to_string());
    put(header::LOG, format!("{:016x}", origin.log));
    put(header::EPOCH, origin.epoch.to_string());
}

/// Reads a record of such a topic. One that no subscription wrote is given back as it is.
///
/// # Errors
/// The record.
pub fn read(record: Record) -> Result<Waiting, Record> {
    let Some((retried, attempts, not_before, timestamp)) = parse(&record) else { return Err(record) };
    let mut record = record;
    record.headers.retain(|of| !of.name.starts_with(header::PREFIX));
    record.timestamp = timestamp;
    Ok(Waiting { record, retried, attempts, not_before })
}

fn parse(record: &Record) -> Option<(Retried, u32, Timestamp, Timestamp)> {
    let text = |name: &str| {
        let header = record.headers.iter().find(|header| header.name == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    };
    let timestamp = |name: &str| number(text(name)?).map(Timestamp);
    let attempts = number(text(header::ATTEMPTS)?)?;
    let failures = || {
        let mut last = Failure::new(text(header::ERROR_KIND)?, text(header::ERROR_MESSAGE)?);
        last.chain = text(header::ERROR_CHAIN)?.lines().map(str::to_owned).collect();
        let first_at = timestamp(header::FIRST_FAILED_AT)?;
        Some(Failures { first_at, last_at: timestamp(header::LAST_FAILED_AT)?, last, lapses_only: false })
    };
    let failures = failures();
    if attempts > 0 && failures.is_none() {
        return None;
    }
    let retried = Retried {
        topic: TopicName::new(text(header::TOPIC)?).ok()?,
        partition: number(text(header::PARTITION)?)?,
        offset: number(text(header::OFFSET)?)?,
        log: u64::from_str_radix(text(header::LOG)?, 16).ok()?,
        epoch: Uuid::parse_str(text(header::EPOCH)?).ok()?,
        failures,
    };
    Some((retried, attempts, timestamp(header::NOT_BEFORE)?, timestamp(header::TIMESTAMP)?))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{
        CoreConfig, Decision, Delivery, Effect, Incoming, Now, Ordering, PartitionCore, backoff::Backoff,
    };
    use ports::StoredRecord;

    fn letter(record: Record) -> DeadLetter {
        // The ticket is a core's: one that gives an event out and has it back.
        let mut core = PartitionCore::new(core_config(), 1, 0, 1);
        let stored = StoredRecord { offset: 7, record };
        let incoming = Incoming {
            record: stored,
            key: None,
            attempts: 0,
            retried: None,
            not_before: None,
            passed_over: false,
        };
        core.fetched(Now::default(), vec![incoming], 8);
        let mut failure = Failure::new("handler", "it says no");
        failure.chain = vec!["it says no".into(), "as it may".into()];
        let delivery = give(&mut core);
        core.decide(Now::default(), delivery.lease, Decision::Retry { after: None, failure });
        let mut effects = Vec::new();
        core.take_effects(&mut effects);
        match effects.pop() {
            Some(Effect::RetryElsewhere { letter, .. }) => *letter,
            other => panic!("it is to wait elsewhere: {other:?}"),
        }
    }

    fn give(core: &mut PartitionCore) -> Delivery {
        let mut taken = Vec::new();
        core.take(1, 1, usize::MAX, false, &mut taken);
        core.deliver(Now::default(), taken[0].ticket, None, false).unwrap()
    }

    fn core_config() -> CoreConfig {
        let delay = Duration::from_secs(5);
        CoreConfig {
            ordering: Ordering::None,
            ack_timeout: delay,
            run_max: 1,
            claims: false,
            deliveries_max: None,
            backoff: Backoff { initial: delay, max: delay, multiplier: 1.0, full_jitter: false },
            retry_elsewhere: true,
            buffer_events_max: 10,
            buffer_bytes_max: 1 << 20,
            held_events_max: 10,
            held_bytes_max: 1 << 20,
        }
    }

    /// What a handler is given the second time must be what it was given the first time, and a dead letter of
    /// it must name the place where it first lay: whatever is lost here is lost for good.
    #[test]
    fn what_waited_is_read_as_it_first_lay() {
        let header = |name: &'static str, value: Option<&'static [u8]>| Header {
            name: ByteString::from_static(name),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: Some(Bytes::from_static(b"\x00\x01")),
            headers: vec![header("ce_id", Some(b"1")), header("x", None), header("x", Some(b"\xff"))],
            timestamp: Timestamp(1_000),
        };
        let letter = letter(record.clone());
        let (subscription, topic) = (GroupId::new("mail").unwrap(), TopicName::new("orders").unwrap());
        let origin = Origin {
            subscription: &subscription,
            log: 0xfeed,
            epoch: Uuid::from_u128(5),
            topic: &topic,
            partition: 3,
            offset: 7,
            timestamp: record.timestamp,
        };
        let mut kept = super::record(&origin, &letter, Timestamp(9_000));
        kept.timestamp = Timestamp(4_000);
        let waiting = read(kept).unwrap();
        assert_eq!(waiting.record, record);
        let retried = Retried {
            topic: topic.clone(),
            partition: 3,
            offset: 7,
            log: 0xfeed,
            epoch: Uuid::from_u128(5),
            failures: Some(letter.failures.clone()),
        };
        assert_eq!(waiting.retried, retried);
        assert_eq!((waiting.attempts, waiting.not_before), (1, Timestamp(9_000)));
    }

    /// What is queued is a first delivery, in an epoch of its own: as if it had never failed.
    #[test]
    fn what_is_queued_is_read_as_it_first_lay_without_attempts_or_failures() {
        let (subscription, topic) = (GroupId::new("mail").unwrap(), TopicName::new("orders").unwrap());
        let record = Record {
            value: Some(Bytes::from_static(b"x")),
            headers: vec![Header::new("ce_id", "1")],
            timestamp: Timestamp(5),
            ..Record::default()
        };
        let origin = Origin {
            subscription: &subscription,
            log: 1,
            epoch: Uuid::from_u128(5),
            topic: &topic,
            partition: 3,
            offset: 7,
            timestamp: record.timestamp,
        };
        let kept = Record { timestamp: Timestamp(1_000), ..queued(&origin, record.clone()) };
        let Waiting { record: read, retried, attempts, not_before } = read(kept).unwrap();
        assert_eq!((read, attempts, not_before), (record, 0, Timestamp(0)));
        assert_eq!((retried.offset, retried.epoch, retried.failures), (7, Uuid::from_u128(5), None));
        assert_eq!(queue(&subscription).as_str(), "mail.queue");
    }

    /// Whoever may write to the topic may write anything: it is an event then, and no more.
    #[test]
    fn what_no_subscription_wrote_is_given_back_as_it_is() {
        let mut record = Record { value: Some(Bytes::from_static(b"x")), ..Record::default() };
        assert_eq!(read(record.clone()), Err(record.clone()));
        let name = ByteString::from_static(header::OFFSET);
        record.headers.push(Header { name, value: Some(Bytes::from_static(b"-1")) });
        assert_eq!(read(record.clone()), Err(record));
    }

    #[test]
    fn a_topic_is_named_after_its_subscription_and_its_delay() {
        let of = |millis| topic(&GroupId::new("mail").unwrap(), Duration::from_millis(millis)).to_string();
        assert_eq!([of(5_000), of(90_000), of(250)], ["mail.retry.5s", "mail.retry.90s", "mail.retry.250ms"]);
        let longest = GroupId::new(&"g".repeat(200)).unwrap();
        topic(&longest, Duration::from_secs(366 * 24 * 3600));
    }
}

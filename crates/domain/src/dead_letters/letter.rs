//! A dead letter as it is read: the event as it was, and what became of it.
//!
//! Dead letters of this service say it in their own headers ([`crate::dead_letter::header`]). Those of others are
//! shown with what context they have: Spring's (`kafka_dlt-…`, numbers as big-endian bytes) and Kafka Connect's
//! (`__connect.errors.…`, all of it text).

use crate::{
    browse::Browsed,
    dead_letter::header,
    event::{self, parse_time},
    event_schemas::ShownValue,
};
use ports::{Header, Headers, Offset, PartitionId, StoredRecord, Timestamp, TopicName};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// Names a dead letter: the same, however often it was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId([u8; 16]);

impl LetterId {
    #[cfg(test)]
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id of one that has none of its own: by where it lies.
    pub fn of_place(topic: &TopicName, partition: PartitionId, offset: Offset) -> Self {
        let digest = Sha256::new()
            .chain_update(topic.as_str())
            .chain_update([0])
            .chain_update(partition.to_be_bytes())
            .chain_update(offset.to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(*uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes())
    }

    /// Reads an id; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(|uuid| Self(*uuid.as_bytes()))
    }

    /// A half of it that is as good as random.
    pub(super) fn half(&self) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[8..]);
        u64::from_be_bytes(half)
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LetterStatus {
    /// It lies there.
    Parked,
    /// It was given back to the subscription.
    Redriven,
    /// Somebody decided that it is not needed.
    Discarded,
}

impl LetterStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Parked, Self::Redriven, Self::Discarded];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// Where an event first lay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its time there.
    pub timestamp: Timestamp,
}

/// How an event failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterError {
    /// In a word; `unknown` where nothing is said.
    pub kind: String,
    /// For a person.
    pub message: String,
    /// What caused that, outermost first.
    pub chain: Vec<String>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// The dead letter topic.
    pub topic: TopicName,
    /// Its partition there.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
    /// Where the event first lay, where that is said.
    pub original: Option<Original>,
    /// How it failed last.
    pub error: LetterError,
    /// Deliveries that counted, where that is said.
    pub attempts: Option<u32>,
    /// When it failed first, where that is said.
    pub first_failed_at: Option<Timestamp>,
    /// When it failed last; the record's time where nothing is said.
    pub last_failed_at: Timestamp,
    /// The dead letter of the same event that was redriven before.
    pub previous: Option<String>,
    /// What became of it.
    pub status: LetterStatus,
    /// Whether the event is another than it was, as somebody edited it.
    pub edited: bool,
    /// The event as it was, or as it was edited, with where it first lay (where it lies, if nothing is said of that).
    pub event: Browsed,
    /// Its value, as far as that was read by a schema.
    pub value: ShownValue,
    /// The headers that say what became of it.
    pub(super) context: Headers,
}

/// What the headers of a record say of its failure. Nothing is copied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) id: Option<LetterId>,
    pub(super) subscription: Option<&'a str>,
    topic: Option<&'a str>,
    partition: Option<u32>,
    offset: Option<u64>,
    timestamp: Option<i64>,
    attempts: Option<u32>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    kind: Option<&'a str>,
    /// What is not the cause itself, but wraps it.
    outer_kind: Option<&'a str>,
    message: Option<&'a str>,
    chain: Option<&'a str>,
    trace: Option<&'a str>,
    previous: Option<&'a str>,
    pub(super) event_type: Option<&'a str>,
}

/// What stands before the names of Spring's headers.
const SPRING: &str = "kafka_dlt-";
/// What stands before the names of Kafka Connect's headers.
const CONNECT: &str = "__connect.errors.";

impl<'a> Said<'a> {
    /// Reads headers, each once. Of several of one name the first counts, but for how it failed, of which it is the
    /// last.
    pub(super) fn of(headers: &'a [Header]) -> Self {
        let mut said = Self::default();
        for header in headers {
            let Some(value) = header.value.as_deref() else { continue };
            if let Some(name) = header.name.strip_prefix(header::PREFIX) {
                said.own(name, text(value));
            } else if let Some(name) = header.name.strip_prefix(SPRING) {
                said.spring(name, value);
            } else if let Some(name) = header.name.strip_prefix(CONNECT) {
                said.connect(name, text(value));
            } else if &*header.name == event::header::TYPE {
                said.event_type = said.event_type.or(text(value));
            } else if &*header.name == "retry_topic-attempts" {
                said.attempts = big_endian(value).and_then(|of| u32::try_from(of).ok());
            }
        }
        said
    }

    fn own(&mut self, name: &str, value: Option<&'a str>) {
        let number = || value.and_then(|text| text.parse::<u64>().ok());
        match name {
            "id" => self.id = self.id.or(value.and_then(LetterId::parse)),
            "subscription" => self.subscription = self.subscription.or(value),
            "topic" => self.topic = self.topic.or(value),
            "partition" => self.partition = self.partition.or(number().and_then(|of| u32::try_from(of).ok())),
            "offset" => self.offset = self.offset.or(number()),
            "timestamp" => self.timestamp = self.timestamp.or(value.and_then(|text| text.parse().ok())),
            "attempts" => self.attempts = number().and_then(|of| u32::try_from(of).ok()),
            "first_failed_at" => self.first = value.and_then(parse_time),
            "last_failed_at" => self.last = value.and_then(parse_time),
            "error_kind" => self.kind = value,
            "error_message" => self.message = value,
            "error_chain" => self.chain = value,
            "previous" => self.previous = value,
            _ => {}
        }
    }

    fn spring(&mut self, name: &str, value: &'a [u8]) {
        let number = || big_endian(value);
        match name {
            "original-topic" => self.topic = self.topic.or(text(value)),
            "original-partition" => {
                self.partition = self.partition.or(number().and_then(|of| u32::try_from(of).ok()));
            }
            "original-offset" => self.offset = self.offset.or(number().and_then(|of| u64::try_from(of).ok())),
            "original-timestamp" => self.timestamp = self.timestamp.or(number()),
            // What Spring wraps every failure of a listener in says nothing of it.
            "exception-cause-fqcn" => self.kind = text(value),
            "exception-fqcn" => self.outer_kind = text(value),
            "exception-message" => self.message = text(value),
            "exception-stacktrace" => self.trace = text(value),
            _ => {}
        }
    }

    fn connect(&mut self, name: &str, value: Option<&'a str>) {
        let number = || value.and_then(|text| text.parse::<u64>().ok());
        match name {
            "topic" => self.topic = self.topic.or(value),
            "partition" => self.partition = self.partition.or(number().and_then(|of| u32::try_from(of).ok())),
            "offset" => self.offset = self.offset.or(number()),
            "exception.class.name" => self.kind = value,
            "exception.message" => self.message = value,
            "exception.stacktrace" => self.trace = value,
            _ => {}
        }
    }

    pub(super) fn kind(&self) -> &'a str {
        self.kind.or(self.outer_kind).filter(|kind| !kind.is_empty()).unwrap_or("unknown")
    }

    pub(super) fn last_failed_at(&self, record: Timestamp) -> Timestamp {
        self.last.unwrap_or(record)
    }

    fn chain(&self) -> Vec<String> {
        if let Some(chain) = self.chain {
            return chain.lines().map(str::to_owned).collect();
        }
        // Of a stack of calls what matters is who caused whom.
        let causes =
            self.trace.unwrap_or_default().lines().filter_map(|line| line.trim().strip_prefix("Caused by: "));
        causes.map(str::to_owned).collect()
    }

    fn original(&self, timestamp: Timestamp) -> Option<Original> {
        Some(Original {
            topic: TopicName::new(self.topic?).ok()?,
            partition: self.partition?,
            offset: self.offset?,
            timestamp: self.timestamp.map_or(timestamp, Timestamp),
        })
    }
}

impl Letter {
    /// Reads what lies in a dead letter topic. It is parked, as far as that record says.
    pub(super) fn read(topic: &TopicName, partition: PartitionId, stored: StoredRecord) -> Self {
        let StoredRecord { offset, mut record } = stored;
        let said = Said::of(&record.headers);
        let original = said.original(record.timestamp);
        let id = said.id.unwrap_or_else(|| LetterId::of_place(topic, partition, offset));
        let error = LetterError {
            kind: said.kind().to_owned(),
            message: said.message.unwrap_or_default().to_owned(),
            chain: said.chain(),
        };
        let (attempts, first_failed_at) = (said.attempts, said.first);
        let last_failed_at = said.last_failed_at(record.timestamp);
        let previous = said.previous.map(str::to_owned);
        let is_own = |of: &Header| of.name.starts_with(header::PREFIX);
        let (context, headers) = std::mem::take(&mut record.headers).into_iter().partition(is_own);
        record.headers = headers;
        let event = match &original {
            Some(original) => {
                record.timestamp = original.timestamp;
                Browsed {
                    topic: original.topic.clone(),
                    partition: original.partition,
                    record: StoredRecord { offset: original.offset, record },
                }
            }
            None => Browsed { topic: topic.clone(), partition, record: StoredRecord { offset, record } },
        };
        Self {
            id,
            topic: topic.clone(),
            partition,
            offset,
            original,
            error,
            attempts,
            first_failed_at,
            last_failed_at,
            previous,
            status: LetterStatus::Parked,
            edited: false,
            event,
            value: ShownValue::Plain,
            context,
        }
    }

    /// What it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        let context: usize =
            self.context.iter().map(|of| of.value.as_ref().map_or(0, bytes::Bytes::len) + 40).sum();
        self.event.record.record.size() + context
    }
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// A number as Java writes it.
fn big_endian(value: &[u8]) -> Option<i64> {
    match value.len() {
        4 => value.try_into().ok().map(|bytes| i64::from(i32::from_be_bytes(bytes))),
        8 => value.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ports::Record;
    use proptest::prelude::*;

    fn read(headers: Vec<(&str, Vec<u8>)>) -> Letter {
        let headers = headers.into_iter().map(|(name, value)| Header::new(name, value)).collect();
        let record = Record {
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from("v")),
            headers,
            timestamp: Timestamp(1_000),
        };
        Letter::read(&TopicName::new("dead").unwrap(), 3, StoredRecord { offset: 7, record })
    }

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn spring_s_dead_letters_are_read_with_their_context() {
        let letter = read(vec![
            ("kafka_dlt-original-topic", bytes("orders")),
            ("kafka_dlt-original-partition", 2_i32.to_be_bytes().to_vec()),
            ("kafka_dlt-original-offset", 900_i64.to_be_bytes().to_vec()),
            ("kafka_dlt-original-timestamp", 500_i64.to_be_bytes().to_vec()),
            (
                "kafka_dlt-exception-fqcn",
                bytes("org.springframework.kafka.listener.ListenerExecutionFailedException"),
            ),
            ("kafka_dlt-exception-cause-fqcn", bytes("java.lang.IllegalStateException")),
            ("kafka_dlt-exception-message", bytes("no stock")),
            (
                "kafka_dlt-exception-stacktrace",
                bytes("a.B: x\n\tat a.B.c(B.java:1)\nCaused by: c.D: no stock\n\t... 1 more"),
            ),
            ("retry_topic-attempts", 4_i32.to_be_bytes().to_vec()),
        ]);
        let original = letter.original.clone().unwrap();
        assert_eq!(
            (original.topic.as_str(), original.partition, original.offset, original.timestamp.0),
            ("orders", 2, 900, 500)
        );
        assert_eq!(
            (letter.error.kind.as_str(), letter.error.message.as_str()),
            ("java.lang.IllegalStateException", "no stock")
        );
        assert_eq!(letter.error.chain, ["c.D: no stock"]);
        assert_eq!(
            (letter.attempts, letter.first_failed_at, letter.last_failed_at.0),
            (Some(4), None, 1_000)
        );
        assert_eq!(letter.id, LetterId::of_place(&TopicName::new("dead").unwrap(), 3, 7));
        assert_eq!((letter.event.topic.as_str(), letter.event.record.offset), ("orders", 900));
        assert_eq!(letter.event.record.record.headers.len(), 9, "what another wrote is shown as it is");
    }

    #[test]
    fn kafka_connect_s_dead_letters_are_read_with_their_context() {
        let letter = read(vec![
            ("__connect.errors.topic", bytes("orders")),
            ("__connect.errors.partition", bytes("2")),
            ("__connect.errors.offset", bytes("900")),
            ("__connect.errors.stage", bytes("VALUE_CONVERTER")),
            ("__connect.errors.exception.class.name", bytes("org.apache.kafka.connect.errors.DataException")),
            ("__connect.errors.exception.message", bytes("no JSON")),
        ]);
        assert_eq!(letter.original.map(|of| (of.partition, of.offset)), Some((2, 900)));
        assert_eq!(letter.error.kind, "org.apache.kafka.connect.errors.DataException");
        assert_eq!((letter.error.message.as_str(), letter.attempts), ("no JSON", None));
    }

    #[test]
    fn a_record_that_says_nothing_of_its_failure_is_shown_where_it_lies() {
        let letter = read(vec![("x", bytes("y"))]);
        assert_eq!((letter.original, letter.error.kind.as_str()), (None, "unknown"));
        assert_eq!(
            (letter.event.topic.as_str(), letter.event.partition, letter.event.record.offset),
            ("dead", 3, 7)
        );
    }

    proptest! {
        #[test]
        fn any_headers_are_read(headers in proptest::collection::vec(
            ("(es_dlq_|kafka_dlt-|__connect.errors.)(id|topic|partition|offset|original-offset|attempts|last_failed_at)",
             proptest::collection::vec(any::<u8>(), 0..12)), 0..8,
        )) {
            let letter = read(headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect());
            prop_assert!(!letter.error.kind.is_empty());
            prop_assert_eq!(LetterId::parse(&letter.id.to_string()), Some(letter.id));
        }
    }
}

//! Dead letters: the record as it was, and beside it what became of it.
//!
//! Key and value are kept byte for byte, and so are all headers but those that an earlier dead letter left.
//! The names of the headers are the wire's: clients and other tools read them.

use crate::{delivery::DeadLetter, event::time_text, partition};
use bytes::Bytes;
use bytestring::ByteString;
use ports::{GroupId, Header, Offset, PartitionId, Record, Timestamp, TopicName};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names of the headers that a dead letter has beside those of its event.
pub mod header {
    /// What all of them begin with.
    pub const PREFIX: &str = "es_dlq_";
    /// Names the dead letter; written twice, it is one.
    pub const ID: &str = "es_dlq_id";
    /// The dead letter that it was before it was redriven.
    pub const PREVIOUS: &str = "es_dlq_previous";
    /// The topic that it lay in.
    pub const TOPIC: &str = "es_dlq_topic";
    /// Its partition there.
    pub const PARTITION: &str = "es_dlq_partition";
    /// Its offset there.
    pub const OFFSET: &str = "es_dlq_offset";
    /// Its time there, in epoch milliseconds.
    pub const TIMESTAMP: &str = "es_dlq_timestamp";
    /// The subscription that could not handle it.
    pub const SUBSCRIPTION: &str = "es_dlq_subscription";
    /// Deliveries that counted.
    pub const ATTEMPTS: &str = "es_dlq_attempts";
    /// When it failed first, RFC 3339.
    pub const FIRST_FAILED_AT: &str = "es_dlq_first_failed_at";
    /// When it failed last, RFC 3339.
    pub const LAST_FAILED_AT: &str = "es_dlq_last_failed_at";
    /// How it failed last, in a word.
    pub const ERROR_KIND: &str = "es_dlq_error_kind";
    /// How it failed last, for a person.
    pub const ERROR_MESSAGE: &str = "es_dlq_error_message";
    /// What caused that, a line each, outermost first.
    pub const ERROR_CHAIN: &str = "es_dlq_error_chain";
}

/// The most bytes of a chain of causes; the rest is cut off.
pub const CHAIN_BYTES_MAX: usize = 16 << 10;
/// The most bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// The most bytes of a kind.
pub(crate) const KIND_BYTES_MAX: usize = 200;
/// What a dead letter's record may have beyond its event's.
pub const HEADROOM_BYTES: usize = 64 << 10;

/// Where an event lay, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The subscription that could not handle it.
    pub subscription: &'a GroupId,
    /// Tells the subscription and the log from others of their names.
    pub log: u64,
    /// The epoch in which it was delivered.
    pub epoch: Uuid,
    /// The topic.
    pub topic: &'a TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// The record's time.
    pub timestamp: Timestamp,
}

impl Origin<'_> {
    /// The id of the dead letter: the same whoever writes it and however often, another after a seek, a
    /// redrive or for a topic that was made again.
    pub fn id(&self) -> ByteString {
        let digest = Sha256::new()
            .chain_update(self.subscription.as_str())
            .chain_update(self.log.to_be_bytes())
            .chain_update(self.epoch.as_bytes())
            .chain_update(self.partition.to_be_bytes())
            .chain_update(self.offset.to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string().into()
    }
}

/// The record that keeps a dead letter.
pub fn record(origin: &Origin<'_>, letter: &DeadLetter) -> Record {
    let source = &letter.record.record;
    let mut headers: Vec<Header> =
        source.headers.iter().filter(|of| !of.name.starts_with(header::PREFIX)).cloned().collect();
    let failures = &letter.failures;
    let chain = failures.last.chain.join("\n");
    let previous = source.headers.iter().find(|of| of.name == header::PREVIOUS).cloned();
    headers.extend(previous);
    let mut put = |name: &'static str, value: String| {
        headers.push(Header { name: ByteString::from_static(name), value: Some(Bytes::from(value)) });
    };
    put(header::ID, origin.id().to_string());
    put(header::TOPIC, origin.topic.to_string());
    put(header::PARTITION, origin.partition.to_string());
    put(header::OFFSET, origin.offset.to_string());
    put(header::TIMESTAMP, origin.timestamp.0.to_string());
    put(header::SUBSCRIPTION, origin.subscription.to_string());
    put(header::ATTEMPTS, letter.attempts.to_string());
    put(header::FIRST_FAILED_AT, time_text(failures.first_at));
    put(header::LAST_FAILED_AT, time_text(failures.last_at));
    put(header::ERROR_KIND, cut(&failures.last.kind, KIND_BYTES_MAX));
    put(header::ERROR_MESSAGE, cut(&failures.last.message, MESSAGE_BYTES_MAX));
    put(header::ERROR_CHAIN, cut(&chain, CHAIN_BYTES_MAX));
    Record { key: source.key.clone(), value: source.value.clone(), headers, timestamp: source.timestamp }
}

/// The partition of a dead letter among so many: by its key, so that those of one key stay in order; without
/// one by its id.
pub fn partition_of(record: &Record, id: &str, partitions: u32) -> PartitionId {
    partition::by_hash(record.key.as_deref().unwrap_or(id.as_bytes()), partitions)
}

pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

//! What is hashed, and what is kept beside a claim and in a record.
//!
//! All numbers are big-endian; every kept text begins with a version, so that another version's is told from
//! a damaged one, and neither is believed.
//!
//! - **Claim key**: the first 16 bytes of SHA-256 over the label `event-streaming/publish/1`, the principal
//!   and the idempotency key, each behind its length as 8 bytes.
//! - **Content**: the first 16 bytes of SHA-256 over the label `event-streaming/content/1`, the topic and
//!   every field of the event as it was sent, each with whether it is there and its length. Extensions are
//!   sorted by name, headers stand in their order. Trace context and correlation id are left out: they are a
//!   try's own. So is what the service fills in.
//! - **Mark** (the header `es_idempotency_key`): base64url of claim key, operation (8 bytes) and content.
//! - **Note**: version 1, flags, operation, a hash of the topic's id (8 bytes), partition (4 bytes), offset
//!   (8 bytes), the topic's name.
//! - **Outcome**: version 1, content, partition (4 bytes), offset (8 bytes), timestamp (8 bytes), the length
//!   of the topic's name (2 bytes) and the name, the event's id.

use crate::{event::Event, publish::Receipt};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Buf, BufMut, Bytes};
use bytestring::ByteString;
use ports::{ClaimKey, Offset, PartitionId, Timestamp, Token, TopicName};
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;

/// A hash of what an event says.
pub(in crate::publish) type Content = [u8; 16];

/// SHA-256 over parts that cannot run into each other.
struct Parts(Sha256);

impl Parts {
    fn new(label: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.put(label.as_bytes());
        parts
    }

    fn put(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn put_optional(&mut self, part: Option<&[u8]>) {
        self.0.update([u8::from(part.is_some())]);
        if let Some(part) = part {
            self.put(part);
        }
    }

    fn first<const N: usize>(self) -> [u8; N] {
        const { assert!(N <= 32) };
        let hash = self.0.finalize();
        let mut first = [0; N];
        first.copy_from_slice(&hash[..N]);
        first
    }
}

/// The claim of a principal's idempotency key.
pub(in crate::publish) fn claim_key(principal: &str, idempotency_key: &str) -> ClaimKey {
    let mut parts = Parts::new("event-streaming/publish/1");
    parts.put(principal.as_bytes());
    parts.put(idempotency_key.as_bytes());
    ClaimKey(parts.first())
}

/// The hash of what an event for `topic` says, before anything is filled in.
pub(in crate::publish) fn content(topic: &TopicName, event: &Event) -> Content {
    let text = |text: &Option<ByteString>| text.clone().map(ByteString::into_bytes);
    let mut parts = Parts::new("event-streaming/content/1");
    parts.put(topic.as_str().as_bytes());
    for part in [
        &text(&event.id),
        &text(&event.source),
        &text(&event.event_type),
        &text(&event.subject),
        &event.key,
        &event.data,
        &text(&event.content_type),
        &text(&event.data_schema),
        &text(&event.tenant_id),
        &text(&event.user_id),
        &text(&event.causation_id),
    ] {
        parts.put_optional(part.as_deref());
    }
    parts.put_optional(event.time.map(|time| time.0.to_be_bytes()).as_ref().map(|bytes| &bytes[..]));
    parts.put_optional(event.partition.map(u32::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    parts.put(&(event.headers.len() as u64).to_be_bytes());
    for header in &event.headers {
        parts.put(header.name.as_bytes());
        parts.put_optional(header.value.as_deref());
    }
    let mut extensions: Vec<_> = event.extensions.iter().collect();
    extensions.sort();
    for (name, value) in extensions {
        parts.put(name.as_bytes());
        parts.put(value.as_bytes());
    }
    // Put only where it is there: the hashes of events without one stay what they were.
    if let Some(message_type) = &event.message_type {
        parts.put(b"messagetype");
        parts.put(message_type.as_bytes());
    }
    parts.first()
}

/// A hash that tells a topic from another that had its name.
pub(in crate::publish) fn topic_id(id: &str) -> [u8; 8] {
    let mut parts = Parts::new("event-streaming/topic/1");
    parts.put(id.as_bytes());
    parts.first()
}

/// What a record says of the claim under which it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::publish) struct Mark {
    pub(in crate::publish) key: ClaimKey,
    /// The token of the first claim of the operation: what tells it from an earlier use of the same key.
    pub(in crate::publish) operation: Token,
    pub(in crate::publish) content: Content,
}

impl Mark {
    pub(in crate::publish) fn encode(&self) -> Bytes {
        let mut raw = [0; 40];
        raw[..16].copy_from_slice(&self.key.0);
        raw[16..24].copy_from_slice(&self.operation.0.to_be_bytes());
        raw[24..].copy_from_slice(&self.content);
        URL_SAFE_NO_PAD.encode(raw).into()
    }

    pub(in crate::publish) fn decode(text: &[u8]) -> Option<Self> {
        let mut raw = [0; 40];
        if URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()? != raw.len() {
            return None;
        }
        let mut left = &raw[..];
        let mut key = [0; 16];
        left.copy_to_slice(&mut key);
        let operation = Token(left.get_u64());
        let mut content = [0; 16];
        left.copy_to_slice(&mut content);
        Some(Self { key: ClaimKey(key), operation, content })
    }
}

/// What a claimant leaves for the next one, should it leave nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::publish) struct Note {
    /// Whether the note speaks for all claimants so far, not only for the one that wrote it.
    pub(in crate::publish) covers_all: bool,
    pub(in crate::publish) operation: Token,
    pub(in crate::publish) topic: TopicName,
    pub(in crate::publish) topic_id: [u8; 8],
    pub(in crate::publish) partition: PartitionId,
    /// An offset that is not beyond the end of the partition at the time of the claim, where one is known:
    /// what was appended under it lies there or behind.
    pub(in crate::publish) from: Option<Offset>,
}

const COVERS_ALL: u8 = 1;
const HAS_FROM: u8 = 2;

impl Note {
    pub(in crate::publish) fn encode(&self) -> Bytes {
        let mut raw = Vec::with_capacity(30 + self.topic.as_str().len());
        raw.put_u8(VERSION);
        let covers_all = if self.covers_all { COVERS_ALL } else { 0 };
        raw.put_u8(covers_all | if self.from.is_some() { HAS_FROM } else { 0 });
        raw.put_u64(self.operation.0);
        raw.put_slice(&self.topic_id);
        raw.put_u32(self.partition);
        raw.put_u64(self.from.unwrap_or_default());
        raw.put_slice(self.topic.as_str().as_bytes());
        raw.into()
    }

    pub(in crate::publish) fn decode(raw: &[u8]) -> Option<Self> {
        let mut left = raw;
        if left.try_get_u8().ok()? != VERSION {
            return None;
        }
        let flags = left.try_get_u8().ok()?;
        let operation = Token(left.try_get_u64().ok()?);
        let mut topic_id = [0; 8];
        left.try_copy_to_slice(&mut topic_id).ok()?;
        let partition = left.try_get_u32().ok()?;
        let from = left.try_get_u64().ok()?;
        Some(Self {
            covers_all: flags & COVERS_ALL != 0,
            operation,
            topic: TopicName::new(std::str::from_utf8(left).ok()?).ok()?,
            topic_id,
            partition,
            from: (flags & HAS_FROM != 0).then_some(from),
        })
    }
}

/// What is kept of a published event: what it said, and its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::publish) struct Published {
    pub(in crate::publish) content: Content,
    pub(in crate::publish) receipt: Receipt,
}

impl Published {
    pub(in crate::publish) fn encode(&self) -> Bytes {
        let Receipt { id, topic, partition, offset, timestamp, duplicate: _ } = &self.receipt;
        let topic = topic.as_str().as_bytes();
        let mut raw = Vec::with_capacity(39 + topic.len() + id.len());
        raw.put_u8(VERSION);
        raw.put_slice(&self.content);
        raw.put_u32(*partition);
        raw.put_u64(*offset);
        raw.put_i64(timestamp.0);
        raw.put_u16(topic.len() as u16);
        raw.put_slice(topic);
        raw.put_slice(id.as_bytes());
        raw.into()
    }

    /// The receipt that is given to whoever publishes the same again.
    pub(in crate::publish) fn decode(raw: &[u8]) -> Option<Self> {
        let mut left = raw;
        if left.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mut content = [0; 16];
        left.try_copy_to_slice(&mut content).ok()?;
        let partition = left.try_get_u32().ok()?;
        let offset = left.try_get_u64().ok()?;
        let timestamp = Timestamp(left.try_get_i64().ok()?);
        let length = usize::from(left.try_get_u16().ok()?);
        let (topic, id) = left.split_at_checked(length)?;
        let topic = TopicName::new(std::str::from_utf8(topic).ok()?).ok()?;
        let id = ByteString::from(std::str::from_utf8(id).ok()?);
        Some(Self { content, receipt: Receipt { id, topic, partition, offset, timestamp, duplicate: true } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::Header;
    use proptest::prelude::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn keys_of_different_principals_have_nothing_to_do_with_each_other() {
        assert_eq!(claim_key("a", "k"), claim_key("a", "k"));
        assert_ne!(claim_key("a", "k"), claim_key("b", "k"));
        assert_ne!(claim_key("ab", "c"), claim_key("a", "bc"), "the parts do not run into each other");
        // Kept in stores: it must not change by itself.
        assert_eq!(format!("{:?}", claim_key("anonymous", "order-1")), PINNED);
    }

    const PINNED: &str = "007d0c8ef452d0329b4706922592517c";

    #[test]
    fn every_field_is_content_but_those_of_a_try() {
        let text = |text: &str| Some(ByteString::from(text));
        let base = || Event { key: Some(Bytes::from_static(b"k")), ..Event::default() };
        let of = |change: &dyn Fn(&mut Event)| {
            let mut event = base();
            change(&mut event);
            content(&topic("orders"), &event)
        };
        let plain = content(&topic("orders"), &base());
        assert_ne!(plain, content(&topic("other"), &base()));
        let fields: [&dyn Fn(&mut Event); 17] = [
            &|e| e.id = text("x"),
            &|e| e.source = text("x"),
            &|e| e.event_type = text("x"),
            &|e| e.subject = text("x"),
            &|e| e.key = None,
            &|e| e.key = Some(Bytes::new()),
            &|e| e.data = Some(Bytes::new()),
            &|e| e.data = Some(Bytes::from_static(b"x")),
            &|e| e.content_type = text("x"),
            &|e| e.data_schema = text("x"),
            &|e| e.tenant_id = text("x"),
            &|e| e.user_id = text("x"),
            &|e| e.causation_id = text("x"),
            &|e| e.time = Some(Timestamp(0)),
            &|e| e.partition = Some(0),
            &|e| e.headers = vec![Header { name: "x".into(), value: None }],
            &|e| e.extensions = vec![("x".into(), "y".into())],
        ];
        let mut seen = std::collections::HashSet::from([plain]);
        for (index, field) in fields.iter().enumerate() {
            assert!(seen.insert(of(*field)), "change {index} is not told from the others");
        }
        assert_eq!(plain, of(&|e| e.correlation_id = text("x")));
        assert_eq!(plain, of(&|e| (e.traceparent, e.tracestate) = (text("x"), text("y"))));
        assert_eq!(plain, of(&|e| e.idempotency_key = text("x")));
        let pair = |a: &'static str, b: &'static str| vec![(a.into(), "1".into()), (b.into(), "1".into())];
        assert_eq!(of(&|e| e.extensions = pair("a", "b")), of(&|e| e.extensions = pair("b", "a")));
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(
            (key, content, operation, topic_id) in any::<([u8; 16], [u8; 16], u64, [u8; 8])>(),
            (name, id) in ("[a-z]{1,249}", "\\PC{0,40}"),
            (partition, offset, time, covers_all) in any::<(u32, u64, i64, bool)>(),
            from in any::<Option<u64>>(),
        ) {
            let mark = Mark { key: ClaimKey(key), operation: Token(operation), content };
            prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
            let topic = topic(&name);
            let note = Note { covers_all, operation: Token(operation), topic: topic.clone(), topic_id, partition, from };
            prop_assert!(note.encode().len() <= 1024, "a store takes it");
            prop_assert_eq!(Note::decode(&note.encode()), Some(note));
            let receipt =
                Receipt { id: id.into(), topic, partition, offset, timestamp: Timestamp(time), duplicate: true };
            let published = Published { content, receipt };
            prop_assert_eq!(Published::decode(&published.encode()), Some(published));
        }

        #[test]
        fn hostile_bytes_are_none_of_ours_and_do_no_harm(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Note::decode(&raw), Published::decode(&raw));
            prop_assert!(Mark::decode(&raw).is_none_or(|mark| mark.encode() == raw));
        }

        #[test]
        fn what_is_cut_is_not_believed(at in 0_usize..39) {
            let receipt = Receipt {
                id: "i".into(), topic: topic("t"), partition: 1, offset: 2, timestamp: Timestamp(3), duplicate: true,
            };
            let whole = Published { content: [7; 16], receipt }.encode();
            prop_assert_eq!(Published::decode(&whole[..at]), None);
        }
    }
}

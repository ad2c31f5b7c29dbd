//! Which partition an event goes to.

use crate::event::Event;
use bytes::Bytes;
use ports::PartitionId;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a topic's events are spread over its partitions. An event that names its partition goes there
/// whatever the strategy; one that lacks what the strategy looks at goes by its key, and without a key
/// to the sticky partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PartitionStrategy {
    /// By the key, as Kafka's Java client does.
    #[default]
    Key,
    /// By `tenantid`.
    Tenant,
    /// By `type`.
    Type,
    /// By `userid`.
    User,
    /// By the first value of this header.
    Header(String),
    /// By the value at this JSON pointer (RFC 6901) in a JSON payload.
    Field(String),
    /// Each event to the next partition.
    RoundRobin,
    /// To one partition until some 16 KiB have gone there, then to another.
    Sticky,
}

/// Chooses partitions for one topic.
#[derive(Debug, Default)]
pub struct Partitioner {
    strategy: PartitionStrategy,
    turns: AtomicU64,
    sticky_bytes: AtomicU64,
}

/// As much as the sticky partition takes before the next one: the default `batch.size` of Kafka's clients.
const STICKY_BYTES: u64 = 16 << 10;

impl Partitioner {
    /// Chooses by `strategy`.
    pub fn new(strategy: PartitionStrategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// Whether nothing but its key says where an event with a key goes.
    pub fn goes_by_key(&self) -> bool {
        self.strategy == PartitionStrategy::Key
    }

    /// The partition for `event` among `partitions`, which is at least 1. Does not look at the
    /// partition that the event may name.
    pub fn choose(&self, event: &Event, partitions: u32) -> PartitionId {
        let of_text =
            |text: &Option<bytestring::ByteString>| text.as_ref().map(|t| by_hash(t.as_bytes(), partitions));
        let chosen = match &self.strategy {
            PartitionStrategy::Key => None,
            PartitionStrategy::Tenant => of_text(&event.tenant_id),
            PartitionStrategy::Type => of_text(&event.event_type),
            PartitionStrategy::User => of_text(&event.user_id),
            PartitionStrategy::Header(name) => event
                .headers
                .iter()
                .find(|header| *header.name == **name)
                .and_then(|header| header.value.as_ref())
                .map(|value| by_hash(value, partitions)),
            PartitionStrategy::Field(pointer) => event
                .data
                .as_ref()
                .and_then(|data| field(data, pointer))
                .map(|value| by_hash(&value, partitions)),
            PartitionStrategy::RoundRobin => {
                Some((self.turns.fetch_add(1, Ordering::Relaxed) % u64::from(partitions)) as u32)
            }
            PartitionStrategy::Sticky => Some(self.sticky(event, partitions)),
        };
        chosen
            .or_else(|| event.key.as_ref().map(|key| by_hash(key, partitions)))
            .unwrap_or_else(|| self.sticky(event, partitions))
    }

    fn sticky(&self, event: &Event, partitions: u32) -> PartitionId {
        let bytes = event.data.as_ref().map_or(0, Bytes::len) as u64 + 64;
        let turn = self.sticky_bytes.fetch_add(bytes, Ordering::Relaxed) / STICKY_BYTES;
        // The turn is scattered, so that topics written side by side do not move in step.
        by_hash(&turn.to_be_bytes(), partitions)
    }
}

fn field(data: &Bytes, pointer: &str) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(data).ok()?;
    match value.pointer(pointer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

/// The partition of a key: `toPositive(murmur2(key)) % partitions`, as Kafka's `BuiltInPartitioner`.
pub fn by_hash(key: &[u8], partitions: u32) -> PartitionId {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Murmur2 as Kafka's Java client computes it (`Utils.murmur2`), seed included.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A key must land where every other Kafka client puts it, or a key's order breaks between clients.
    #[test]
    fn murmur2_equals_kafkas_java_client() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/murmur2_vectors.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let key = match case.get("key").and_then(|k| k.as_str()) {
                Some(text) => text.as_bytes().to_vec(),
                None => hex(case["key_hex"].as_str().unwrap()),
            };
            let expected = case["murmur2"].as_i64().unwrap() as i32;
            assert_eq!(murmur2(&key) as i32, expected, "{case}");
            for (partitions, partition) in case["partition"].as_object().unwrap() {
                assert_eq!(
                    u64::from(by_hash(&key, partitions.parse().unwrap())),
                    partition.as_u64().unwrap()
                );
            }
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn event(change: impl FnOnce(&mut Event)) -> Event {
        let mut event = Event::default();
        change(&mut event);
        event
    }

    #[test]
    fn each_strategy_looks_at_its_own_part_of_the_event() {
        let with_all = event(|e| {
            e.key = Some(Bytes::from_static(b"key"));
            e.tenant_id = Some("tenant".into());
            e.event_type = Some("type".into());
            e.user_id = Some("user".into());
            e.headers = vec![ports::Header::new("h", Bytes::from_static(b"header"))];
            e.data = Some(Bytes::from_static(br#"{"a":{"b":"field"},"n":7}"#));
        });
        let n = 1_000_003;
        for (strategy, by) in [
            (PartitionStrategy::Key, "key"),
            (PartitionStrategy::Tenant, "tenant"),
            (PartitionStrategy::Type, "type"),
            (PartitionStrategy::User, "user"),
            (PartitionStrategy::Header("h".into()), "header"),
            (PartitionStrategy::Field("/a/b".into()), "field"),
            (PartitionStrategy::Field("/n".into()), "7"),
            (PartitionStrategy::Field("/missing".into()), "key"),
            (PartitionStrategy::Header("missing".into()), "key"),
        ] {
            assert_eq!(Partitioner::new(strategy).choose(&with_all, n), by_hash(by.as_bytes(), n), "{by}");
        }
    }

    #[test]
    fn round_robin_takes_each_partition_in_turn() {
        let partitioner = Partitioner::new(PartitionStrategy::RoundRobin);
        let chosen: Vec<_> = (0..6).map(|_| partitioner.choose(&Event::default(), 3)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn events_without_a_key_stay_with_a_partition_for_a_while_and_reach_all_in_time() {
        let partitioner = Partitioner::default();
        let kib = event(|e| e.data = Some(Bytes::from(vec![0; 1024])));
        let chosen: Vec<_> = (0..2000).map(|_| partitioner.choose(&kib, 4)).collect();
        let changes = chosen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes < 200, "it stays for some 16 KiB, and changed {changes} times");
        assert_eq!(chosen.into_iter().collect::<HashSet<_>>().len(), 4);
    }
}

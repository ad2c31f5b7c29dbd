//! Names that nobody else has, and records.

use bytes::Bytes;
use ports::{Clock, GroupId, Record, Timestamp, TopicName};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// A topic's name that is new, so that tests can share a server.
pub fn topic_name(hint: &str) -> TopicName {
    TopicName::new(&unique(hint)).expect("a hint is a part of a legal name")
}

/// A group's name that is new.
pub fn group_id(hint: &str) -> GroupId {
    GroupId::new(&unique(hint)).expect("a hint is a part of a legal name")
}

/// A name that is new.
pub fn unique(hint: &str) -> String {
    format!("{hint}-{}", Uuid::new_v4().simple())
}

/// A source of randomness that gives the same for the same seed.
pub fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// `length` random bytes, which no compression makes smaller.
pub fn payload(rng: &mut StdRng, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes.into()
}

/// Random bytes, fewer than `length_max`.
pub fn some_payload(rng: &mut StdRng, length_max: usize) -> Bytes {
    let length = rng.random_range(0..length_max.max(1));
    payload(rng, length)
}

/// A record with no key and this value, as of now.
pub fn record(value: impl Into<Bytes>) -> Record {
    Record { key: None, value: Some(value.into()), headers: Vec::new(), timestamp: now() }
}

/// A record with a key.
pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Record {
    Record { key: Some(key.into()), ..record(value) }
}

/// The machine's time.
pub fn now() -> Timestamp {
    crate::clock::SystemLikeClock::new().wall()
}

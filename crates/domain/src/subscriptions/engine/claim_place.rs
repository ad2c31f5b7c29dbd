//! Where the keys of claims lie.
//!
//! Stores keep claims in the order of their keys, and a claim that lies by itself costs a page of its own, read
//! and written. So a key begins with where its event is among others: the time in its id, where that is a UUID
//! of version 7, as of all ids that the service gives; or its offset, where it has no id.
//!
//! The rest is 88 bits of a hash over all that tells the event from others, among them an epoch that no client
//! knows. What a key begins with depends on no more than the hash does, so that copies of an event still have
//! one key.

use ports::ClaimKey;
use uuid::Uuid;

/// So many bytes of a key say where it lies: of milliseconds, 34 years.
const PLACE: usize = 5;

/// A key of these 128 bits of a hash, beside those whose place is near.
pub(super) fn key_at(place: Option<u64>, mut hash: [u8; 16]) -> ClaimKey {
    if let Some(place) = place {
        hash[..PLACE].copy_from_slice(&place.to_be_bytes()[8 - PLACE..]);
    }
    ClaimKey(hash)
}

/// The milliseconds in an id that is a UUID of version 7 (RFC 9562, section 5.7).
pub(super) fn time_of(id: &[u8]) -> Option<u64> {
    let id = Uuid::try_parse_ascii(id).ok().filter(|id| id.get_version_num() == 7)?;
    Some(id.as_u64_pair().0 >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::new_id;
    use ports::Timestamp;

    const HASH: [u8; 16] = [0xab; 16];

    #[test]
    fn ids_that_the_service_gives_lie_in_the_order_of_their_times() {
        let key = |ms: u64| {
            let id = new_id(Timestamp(1_700_000_000_000 + ms as i64));
            // Whatever the hash is.
            key_at(time_of(id.as_bytes()), [ms.reverse_bits() as u8; 16])
        };
        assert!((0..1000).map(key).is_sorted());
        assert_eq!(time_of(new_id(Timestamp(1_700_000_000_123)).as_bytes()), Some(1_700_000_000_123));
    }

    #[test]
    fn other_ids_lie_where_their_hash_says() {
        let others: [&[u8]; 4] = [b"order-1", b"", b"\xff", b"8f14e45f-ceea-467f-9575-4f1b2a3c4d5e"];
        for id in others {
            assert_eq!(key_at(time_of(id), HASH), ClaimKey(HASH));
        }
    }

    #[test]
    fn of_one_place_the_hash_tells_keys_apart() {
        let one = key_at(Some(7), HASH);
        let mut other = HASH;
        other[PLACE] ^= 1;
        assert_ne!(key_at(Some(7), other), one);
        assert_eq!((&one.0[..PLACE], &one.0[PLACE..]), (&[0, 0, 0, 0, 7][..], &HASH[PLACE..]));
    }
}

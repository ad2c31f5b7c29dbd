//! `ackId`s: a lease as a client holds it, signed so that it cannot be made up or changed.
//!
//! A version, what [`AckTarget`] holds, big-endian, and the first 16 bytes of HMAC-SHA-256 over them (RFC
//! 2104; truncation to half the output, section 5). Version 1 is 57 bytes, 76 characters of base64url; version
//! 2 has the claim too, 81 bytes and 108 characters, so that whoever owns the partition when the decision
//! comes can complete it, whether it has read the event or not.

use super::{ClaimTag, Lease, LeaseId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ports::{ClaimKey, PartitionId, Token};
use sha2::Sha256;

const PLAIN: u8 = 1;
const CLAIMED: u8 = 2;
const PLAIN_BODY: usize = 1 + 8 + 8 + 4 + 4 + 8 + 8;
const CLAIMED_BODY: usize = PLAIN_BODY + 16 + 8;
const TAG: usize = 16;

/// What an `ackId` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckTarget {
    /// The subscription, as a hash of its id.
    pub subscription_uid: u64,
    /// The topic, as a hash of its name.
    pub topic: u64,
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: Lease,
    /// The claim that the delivery went out under, where it did.
    pub claim: Option<ClaimTag>,
}

/// Makes and reads `ackId`s with one key.
#[derive(Clone)]
pub struct AckIds {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for AckIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AckIds").finish_non_exhaustive()
    }
}

impl AckIds {
    /// With a key that no client knows.
    #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(key: [u8; 32]) -> Self {
        Self { mac: Hmac::new_from_slice(&key).expect("HMAC takes a key of any length") }
    }

    /// The `ackId` of a lease.
    pub fn encode(&self, target: &AckTarget) -> String {
        let mut bytes = [0; CLAIMED_BODY + TAG];
        bytes[0] = if target.claim.is_some() { CLAIMED } else { PLAIN };
        bytes[1..9].copy_from_slice(&target.subscription_uid.to_be_bytes());
        bytes[9..17].copy_from_slice(&target.topic.to_be_bytes());
        bytes[17..21].copy_from_slice(&target.partition.to_be_bytes());
        bytes[21..25].copy_from_slice(&target.lease.id.session.to_be_bytes());
        bytes[25..33].copy_from_slice(&target.lease.id.number.to_be_bytes());
        bytes[33..PLAIN_BODY].copy_from_slice(&target.lease.offset.to_be_bytes());
        let mut body = PLAIN_BODY;
        if let Some(claim) = &target.claim {
            bytes[body..body + 16].copy_from_slice(&claim.key.0);
            bytes[body + 16..CLAIMED_BODY].copy_from_slice(&claim.token.0.to_be_bytes());
            body = CLAIMED_BODY;
        }
        let tag = self.mac.clone().chain_update(&bytes[..body]).finalize().into_bytes();
        bytes[body..body + TAG].copy_from_slice(&tag[..TAG]);
        URL_SAFE_NO_PAD.encode(&bytes[..body + TAG])
    }

    /// What an `ackId` names; `None` where it was not made by [`Self::encode`] with the same key. Compares
    /// in constant time.
    pub fn decode(&self, id: &str) -> Option<AckTarget> {
        // base64's decoder wants room for whole groups of three bytes.
        let mut bytes = [0; CLAIMED_BODY + TAG + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(id, &mut bytes).ok()?;
        if length != PLAIN_BODY + TAG && length != CLAIMED_BODY + TAG {
            return None;
        }
        let (body, tag) = bytes[..length].split_at(length - TAG);
        self.mac.clone().chain_update(body).verify_truncated_left(tag).ok()?;
        let long = |from: usize| u64::from_be_bytes(std::array::from_fn(|i| body[from + i]));
        let short = |from: usize| u32::from_be_bytes(std::array::from_fn(|i| body[from + i]));
        let claim = match (body[0], body.len()) {
            (PLAIN, PLAIN_BODY) => None,
            (CLAIMED, CLAIMED_BODY) => Some(ClaimTag {
                key: ClaimKey(std::array::from_fn(|i| body[PLAIN_BODY + i])),
                token: Token(long(PLAIN_BODY + 16)),
            }),
            _ => return None,
        };
        let id = LeaseId { session: short(21), number: long(25) };
        Some(AckTarget {
            subscription_uid: long(1),
            topic: long(9),
            partition: short(17),
            lease: Lease { id, offset: long(33) },
            claim,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target() -> impl Strategy<Value = AckTarget> {
        (any::<(u64, u64, u32, u32, u64, u64)>(), any::<Option<([u8; 16], u64)>>()).prop_map(
            |((uid, topic, partition, session, number, offset), claim)| {
                let lease = Lease { id: LeaseId { session, number }, offset };
                let claim = claim.map(|(key, token)| ClaimTag { key: ClaimKey(key), token: Token(token) });
                AckTarget { subscription_uid: uid, topic, partition, lease, claim }
            },
        )
    }

    proptest! {
        #[test]
        fn it_reads_back_what_it_made_and_nothing_else(
            target in target(), place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_=. é-]",
        ) {
            let ids = AckIds::new([7; 32]);
            let id = ids.encode(&target);
            prop_assert_eq!(ids.decode(&id), Some(target));
            prop_assert_eq!(AckIds::new([8; 32]).decode(&id), None);
            let at = place.index(id.len());
            let tampered = format!("{}{with}{}", &id[..at], &id[at + 1..]);
            prop_assert!(tampered == id || ids.decode(&tampered).is_none(), "{tampered}");
            prop_assert_eq!(ids.decode(&id[..at]), None);
        }

        #[test]
        fn any_text_is_read_without_harm(text in ".{0,200}") {
            prop_assert_eq!(AckIds::new([7; 32]).decode(&text), None);
        }
    }
}

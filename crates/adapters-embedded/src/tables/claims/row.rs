//! The row of a key, as bytes.
//!
//! ```text
//! version u8 = 1 | state u8 | token u64 | forgotten at u64 | queued at u64       26 bytes, then
//!     state 0, done:                    the outcome
//!     state 1, leased:                  attempt u32 | ends u64 | length of received u16 | received | note
//!     state 2 and 3, released, counting as an attempt or not: as leased
//! ```
//!
//! Numbers are big-endian, times milliseconds by the store's time. A row that is anything else is refused
//! with what is wrong with it.

use crate::claims::{NOTE_BYTES_MAX, OUTCOME_BYTES_MAX};
use bytes::{Buf, BufMut, Bytes};
use ports::Token;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 26;
/// What a lease has beyond the head, its notes apart.
const LEASE_BYTES: usize = 14;
/// Where in the head it stands at which time the row is queued.
const QUEUED_AT: std::ops::Range<usize> = 18..26;

const DONE: u8 = 0;
const LEASED: u8 = 1;
const RELEASED_COUNTED: u8 = 2;
const RELEASED_UNCOUNTED: u8 = 3;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The time of its entry in the queue of what is to be forgotten.
    pub(super) queued: u64,
    pub(super) known: Known,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its last lease, which may have ended.
    Leased(Lease),
    /// It was done under this token.
    Done { token: Token, forgotten_at: u64, outcome: Bytes },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) ends: u64,
    pub(super) forgotten_at: u64,
    /// Whether it was released, and if so, whether it counts as an attempt.
    pub(super) released: Option<bool>,
    /// The note that its claimant got, for when it asks again.
    pub(super) received: Bytes,
    /// The note that the next claimant gets.
    pub(super) note: Bytes,
}

impl Known {
    /// When nothing is known of the key any more.
    pub(super) fn forgotten_at(&self) -> u64 {
        match self {
            Self::Leased(lease) => lease.forgotten_at,
            Self::Done { forgotten_at, .. } => *forgotten_at,
        }
    }
}

impl Row {
    /// Puts it into `buffer`, in place of what was there.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        let (state, token) = match &self.known {
            Known::Done { token, .. } => (DONE, token),
            Known::Leased(lease) => {
                let state = match lease.released {
                    None => LEASED,
                    Some(true) => RELEASED_COUNTED,
                    Some(false) => RELEASED_UNCOUNTED,
                };
                (state, &lease.token)
            }
        };
        buffer.extend([VERSION, state]);
        buffer.put_u64(token.0);
        buffer.put_u64(self.known.forgotten_at());
        buffer.put_u64(self.queued);
        match &self.known {
            Known::Done { outcome, .. } => buffer.extend_from_slice(outcome),
            Known::Leased(lease) => {
                buffer.put_u32(lease.attempt);
                buffer.put_u64(lease.ends);
                // At most NOTE_BYTES_MAX, as it was a note.
                buffer.put_u16(lease.received.len() as u16);
                buffer.extend_from_slice(&lease.received);
                buffer.extend_from_slice(&lease.note);
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (_, mut rest) = head(bytes)?;
        rest.advance(1);
        let state = rest.get_u8();
        let token = Token(rest.get_u64());
        let forgotten_at = rest.get_u64();
        let queued = rest.get_u64();
        let released = match state {
            DONE => {
                check("outcome", rest.len(), OUTCOME_BYTES_MAX)?;
                let outcome = Bytes::copy_from_slice(rest);
                return Ok(Self { queued, known: Known::Done { token, forgotten_at, outcome } });
            }
            LEASED => None,
            RELEASED_COUNTED => Some(true),
            RELEASED_UNCOUNTED => Some(false),
            other => return Err(format!("its state is {other}, 0 to 3 are known")),
        };
        if rest.len() < LEASE_BYTES {
            let wanted = HEAD_BYTES + LEASE_BYTES;
            return Err(format!("it has {} bytes, a lease has at least {wanted}", bytes.len()));
        }
        let (attempt, ends, length) = (rest.get_u32(), rest.get_u64(), usize::from(rest.get_u16()));
        check("received note", length, NOTE_BYTES_MAX.min(rest.len()))?;
        let (received, note) = rest.split_at(length);
        check("note", note.len(), NOTE_BYTES_MAX)?;
        let (received, note) = (Bytes::copy_from_slice(received), Bytes::copy_from_slice(note));
        let lease = Lease { token, attempt, ends, forgotten_at, released, received, note };
        Ok(Self { queued, known: Known::Leased(lease) })
    }
}

/// The times of a row, without the rest of it: when it is forgotten, and at which time it is queued.
pub(super) fn times(bytes: &[u8]) -> Result<(u64, u64), String> {
    let (mut head, _) = head(bytes)?;
    head.advance(10);
    Ok((head.get_u64(), head.get_u64()))
}

/// Notes in a row, whose head is whole, at which time it is queued.
pub(super) fn set_queued(row: &mut [u8], queued: u64) {
    if let Some(place) = row.get_mut(QUEUED_AT) {
        place.copy_from_slice(&queued.to_be_bytes());
    }
}

/// The head, and all of it.
fn head(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    match (bytes.first(), bytes.get(..HEAD_BYTES)) {
        (Some(&VERSION), Some(head)) => Ok((head, bytes)),
        (Some(&VERSION), None) => {
            Err(format!("it has {} bytes, a row has at least {HEAD_BYTES}", bytes.len()))
        }
        (Some(version), _) => Err(format!("its version is {version}, this program knows {VERSION}")),
        (None, _) => Err("it is empty".to_owned()),
    }
}

fn check(what: &str, length: usize, length_max: usize) -> Result<(), String> {
    if length <= length_max {
        return Ok(());
    }
    Err(format!("its {what} has {length} bytes, at most {length_max} are possible"))
}

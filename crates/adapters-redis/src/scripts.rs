//! The two scripts, and how requests and answers are packed for them.
//!
//! Numbers are big-endian. Times are milliseconds in six bytes, which last for 8900 years and are exact in
//! Lua's numbers. The scripts themselves say what is stored.
//!
//! # Why a claim has one winner
//!
//! A server runs one script at a time, and a script reads and writes its keys with nothing in between. So
//! of claims at the same time one comes first and finds the key free, and the others find its lease. The
//! time is the server's, read once a script.

use crate::error;
use bytes::Bytes;
use ports::{Claim, ClaimRequest, Ground, Result, Settled, Settlement, Token};
use std::time::Duration;

/// The script that claims.
pub(crate) const CLAIM: &str = include_str!("claim.lua");
/// The script that settles.
pub(crate) const SETTLE: &str = include_str!("settle.lua");

/// As errors call them.
pub(crate) const CLAIM_OPERATION: &str = "idempotency_store.claim";
pub(crate) const SETTLE_OPERATION: &str = "idempotency_store.settle";

/// The longest time that is kept in six bytes; nobody asks for more than a year.
const MS_MAX: u64 = (1 << 46) - 1;

/// Appends a request as `claim.lua` reads it.
pub(crate) fn pack_claim(request: &ClaimRequest, into: &mut Vec<u8>) {
    let (ground, own) = match request.ground {
        Ground::Free => (0, Token(0)),
        Ground::Own { token, counted } => (1 + u8::from(counted), token),
        Ground::TakeOver { counted } => (3 + u8::from(counted), Token(0)),
    };
    into.extend_from_slice(&request.token.0.to_be_bytes());
    into.extend_from_slice(&ms(request.lease));
    into.extend_from_slice(&ms(request.keep));
    into.push(ground);
    into.extend_from_slice(&own.0.to_be_bytes());
    into.extend_from_slice(&request.note);
}

/// Appends a settlement as `settle.lua` reads it.
pub(crate) fn pack_settlement(token: Token, settlement: &Settlement, into: &mut Vec<u8>) {
    let (kind, span, outcome) = match settlement {
        Settlement::Complete { outcome, keep } => (b'D', *keep, &outcome[..]),
        Settlement::Extend { lease } => (b'L', *lease, &[][..]),
        Settlement::Release { counted: false } => (b'R', Duration::ZERO, &[][..]),
        Settlement::Release { counted: true } => (b'C', Duration::ZERO, &[][..]),
    };
    into.push(kind);
    into.extend_from_slice(&token.0.to_be_bytes());
    into.extend_from_slice(&ms(span));
    into.extend_from_slice(outcome);
}

/// Reads what `claim.lua` answers for one key.
pub(crate) fn unpack_claim(answer: Vec<u8>) -> Result<Claim> {
    let mut answer = Bytes::from(answer);
    let kind = answer.first().copied();
    let wrong = || error::corrupt(CLAIM_OPERATION, "an answer to a claim is none");
    match kind {
        Some(b'D') => Ok(Claim::Done { outcome: answer.split_off(1) }),
        Some(b'F') => {
            let bytes: [u8; 6] = answer[1..].try_into().map_err(|_| wrong())?;
            let ms = bytes.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
            Ok(Claim::InFlight { ends_in: Duration::from_millis(ms) })
        }
        Some(b'A') if answer.len() >= 5 => {
            let note = answer.split_off(5);
            let attempt: [u8; 4] = answer[1..].try_into().map_err(|_| wrong())?;
            Ok(Claim::Acquired { attempt: u32::from_be_bytes(attempt), note })
        }
        _ => Err(wrong()),
    }
}

/// Reads a letter of what `settle.lua` answers.
pub(crate) fn unpack_settled(letter: u8) -> Result<Settled> {
    match letter {
        b'A' => Ok(Settled::Applied),
        b'F' => Ok(Settled::Fenced),
        _ => Err(error::corrupt(SETTLE_OPERATION, "an answer to a settlement is none")),
    }
}

/// Rounded up, so that nothing is shorter than it was asked for.
fn ms(time: Duration) -> [u8; 6] {
    let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(MS_MAX).min(MS_MAX);
    let [_, _, bytes @ ..] = ms.to_be_bytes();
    bytes
}

//! What a claim or a settlement makes of what is known of a key. Without I/O; times are the store's, in
//! milliseconds.

use super::row::{Known, Lease};
use bytes::Bytes;
use ports::{Claim, ClaimKey, ClaimRequest, Ground, Settled, Settlement, Token};
use std::time::Duration;

/// What becomes of the key's row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Put(Known),
    Remove,
}

/// Milliseconds, rounded up, so that nothing ends before its time.
pub(super) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    whole.saturating_add(u64::from(!duration.subsec_nanos().is_multiple_of(1_000_000)))
}

/// Whether a claimant has the key from the lease before: the attempt it gets and the note.
fn succeed(last: Lease, token: Token, ground: Ground, now: u64) -> Result<(u32, Bytes), Claim> {
    if last.token == token {
        return Ok((last.attempt, last.received));
    }
    let counts = match (last.released, ground) {
        (Some(counted), _) | (None, Ground::TakeOver { counted }) => counted,
        (None, Ground::Own { token, counted }) if token == last.token => counted,
        _ if last.ends <= now => true,
        _ => return Err(Claim::InFlight { ends_in: Duration::from_millis(last.ends - now) }),
    };
    Ok((last.attempt.saturating_add(u32::from(counts)), last.note))
}

/// Answers a claim, given what is known of its key and not past its time.
pub(super) fn claim(known: Option<Known>, request: ClaimRequest, now: u64) -> (Claim, Change) {
    let had = match known {
        None => Ok((1, Bytes::new())),
        Some(Known::Done { outcome, .. }) => Err(Claim::Done { outcome }),
        Some(Known::Leased(last)) => succeed(last, request.token, request.ground, now),
    };
    let (attempt, received) = match had {
        Ok(had) => had,
        Err(answer) => return (answer, Change::Nothing),
    };
    let ends = now.saturating_add(millis(request.lease));
    let lease = Lease {
        token: request.token,
        attempt,
        ends,
        forgotten_at: ends.saturating_add(millis(request.keep)),
        released: None,
        received: received.clone(),
        note: request.note,
    };
    (Claim::Acquired { attempt, note: received }, Change::Put(Known::Leased(lease)))
}

/// Answers a settlement, given what is known of its key and not past its time.
pub(super) fn settle(
    known: Option<Known>,
    (_, token, settlement): (ClaimKey, Token, Settlement),
    now: u64,
) -> (Settled, Change) {
    let change = match (known, settlement) {
        (None, Settlement::Complete { outcome, keep }) => complete(token, outcome, keep, now),
        (Some(Known::Done { token: by, .. }), Settlement::Complete { .. }) if by == token => Change::Nothing,
        (Some(Known::Leased(last)), settlement) if last.token == token => match settlement {
            Settlement::Complete { outcome, keep } => complete(token, outcome, keep, now),
            Settlement::Extend { lease } => last_until(last, now.saturating_add(millis(lease)), None),
            Settlement::Release { counted: false } if last.attempt == 1 => Change::Remove,
            Settlement::Release { counted } => last_until(last, now, Some(counted)),
        },
        _ => return (Settled::Fenced, Change::Nothing),
    };
    (Settled::Applied, change)
}

fn complete(token: Token, outcome: Bytes, keep: Duration, now: u64) -> Change {
    let forgotten_at = now.saturating_add(millis(keep));
    Change::Put(Known::Done { token, forgotten_at, outcome })
}

/// The lease with another end. It is remembered for as long after it as before.
fn last_until(last: Lease, ends: u64, released: Option<bool>) -> Change {
    let keep = last.forgotten_at.saturating_sub(last.ends);
    Change::Put(Known::Leased(Lease { ends, forgotten_at: ends.saturating_add(keep), released, ..last }))
}

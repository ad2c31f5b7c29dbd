//! What both stores of claims refuse.

use ports::{ClaimKey, ClaimRequest, ErrorKind, PortError, Result, Settlement, Token};

/// The longest note, in bytes.
pub(crate) const NOTE_BYTES_MAX: usize = 1 << 10;

/// The longest outcome, in bytes.
pub(crate) const OUTCOME_BYTES_MAX: usize = 64 << 10;

pub(crate) const CLAIM: &str = "idempotency_store.claim";
pub(crate) const SETTLE: &str = "idempotency_store.settle";

/// `TooLarge` where a note is; `Invalid` where a key is named twice.
pub(crate) fn check_requests(requests: &[ClaimRequest]) -> Result<()> {
    for (nth, request) in requests.iter().enumerate() {
        check_length(CLAIM, nth, "note", request.note.len(), NOTE_BYTES_MAX)?;
    }
    check_distinct(CLAIM, requests.iter().map(|request| request.key))
}

/// `TooLarge` where an outcome is; `Invalid` where a key is named twice.
pub(crate) fn check_settlements(settlements: &[(ClaimKey, Token, Settlement)]) -> Result<()> {
    for (nth, (_, _, settlement)) in settlements.iter().enumerate() {
        if let Settlement::Complete { outcome, .. } = settlement {
            check_length(SETTLE, nth, "outcome", outcome.len(), OUTCOME_BYTES_MAX)?;
        }
    }
    check_distinct(SETTLE, settlements.iter().map(|(key, ..)| *key))
}

fn check_length(
    operation: &'static str,
    nth: usize,
    what: &str,
    length: usize,
    length_max: usize,
) -> Result<()> {
    if length <= length_max {
        return Ok(());
    }
    let detail = format!("item {nth}: its {what} has {length} bytes, at most {length_max} are kept");
    Err(PortError::new(ErrorKind::TooLarge, operation, detail))
}

/// A key that a call names twice would be given to two claimants.
fn check_distinct(operation: &'static str, keys: impl ExactSizeIterator<Item = ClaimKey>) -> Result<()> {
    if keys.len() < 2 {
        return Ok(());
    }
    let mut places: Vec<_> = keys.zip(0_usize..).collect();
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => {
            let (first, second) = (pair[0].1, pair[1].1);
            let detail = format!("items {first} and {second} name one key, a call names each once");
            Err(PortError::new(ErrorKind::Invalid, operation, detail))
        }
    }
}

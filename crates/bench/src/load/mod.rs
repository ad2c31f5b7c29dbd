//! Loads, each over a window, each giving what was acknowledged.

pub(crate) mod consume;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod paced;
pub(crate) mod pull;
pub(crate) mod raw;

use crate::Outcome;

/// Looks whether an answer confirms all of `events`. A status of 200 says so; the first answer of a
/// connection is looked at in full, and what the log holds is counted after each run.
fn confirm(status: u16, body: &[u8], events: usize, in_full: bool) -> Outcome<()> {
    let whole = || {
        const RECEIPT: &[u8] = b"\"offset\":";
        body.windows(RECEIPT.len()).filter(|window| *window == RECEIPT).count() == events
    };
    if status == 200 && (!in_full || whole()) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&body[..body.len().min(500)]);
    Err(format!("{events} events were answered with {status}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_confirms_every_event_or_is_an_error() {
        let body = br#"{"results":[{"offset":1},{"offset":2}]}"#;
        assert!(confirm(200, body, 2, true).is_ok());
        assert!(confirm(200, body, 3, true).is_err());
        assert!(confirm(207, body, 2, false).is_err());
    }
}

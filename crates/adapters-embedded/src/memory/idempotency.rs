//! Claims in a map.

use crate::claims;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{
    Claim, ClaimKey, ClaimRequest, Clock, Ground, IdempotencyStore, Monotonic, Result, Settled, Settlement,
    Token,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// `IdempotencyStore` in memory. It forgets a key when it is asked for it, and not before.
#[derive(Debug)]
pub struct MemoryIdempotency {
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<ClaimKey, Known>>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
enum Known {
    Leased(Lease),
    Done { token: Token, outcome: Bytes, until: Monotonic },
}

/// The last lease of a key, whether or not it goes on.
#[derive(Clone, Debug)]
struct Lease {
    token: Token,
    attempt: u32,
    /// What the claimant got.
    received: Bytes,
    /// What the next one gets.
    note: Bytes,
    ends: Monotonic,
    keep: Duration,
    /// Whether it was released, and if so, whether it counts.
    released: Option<bool>,
}

impl Lease {
    fn has_ended(&self, now: Monotonic) -> bool {
        self.released.is_some() || self.ends <= now
    }

    /// Which attempt the next lease is, where this one counts or not.
    fn next(&self, counted: bool) -> u32 {
        if counted { self.attempt.saturating_add(1) } else { self.attempt }
    }
}

impl Known {
    fn is_forgotten(&self, now: Monotonic) -> bool {
        match self {
            Self::Leased(lease) => lease.ends + lease.keep <= now,
            Self::Done { until, .. } => *until <= now,
        }
    }
}

impl MemoryIdempotency {
    /// A store that knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Does `each` to every item of a call, at one moment.
    fn with_each<T, R>(
        &self,
        items: Vec<T>,
        each: impl Fn(&mut BTreeMap<ClaimKey, Known>, Monotonic, T) -> R,
        key: impl Fn(&T) -> ClaimKey,
    ) -> Vec<R> {
        let mut known = self.known.lock();
        let now = self.clock.monotonic();
        let one = |item| {
            let key = key(&item);
            if known.get(&key).is_some_and(|it| it.is_forgotten(now)) {
                known.remove(&key);
            }
            each(&mut known, now, item)
        };
        items.into_iter().map(one).collect()
    }
}

#[allow(
    clippy::match_same_arms,
    reason = "each ground stands by itself, in the order in which they are tried"
)]
fn claim(known: &mut BTreeMap<ClaimKey, Known>, now: Monotonic, request: ClaimRequest) -> Claim {
    let ClaimRequest { key, token, lease, keep, ground, note } = request;
    let (attempt, received) = match known.get(&key) {
        None => (1, Bytes::new()),
        Some(Known::Done { outcome, .. }) => return Claim::Done { outcome: outcome.clone() },
        Some(Known::Leased(last)) => match (last.released, ground) {
            _ if last.token == token => (last.attempt, last.received.clone()),
            (Some(counted), _) => (last.next(counted), last.note.clone()),
            (None, Ground::TakeOver { counted }) => (last.next(counted), last.note.clone()),
            (None, Ground::Own { token, counted }) if token == last.token => {
                (last.next(counted), last.note.clone())
            }
            _ if last.has_ended(now) => (last.next(true), last.note.clone()),
            _ => return Claim::InFlight { ends_in: last.ends.since(now) },
        },
    };
    let answer = Claim::Acquired { attempt, note: received.clone() };
    let ends = now + lease;
    let lease = Lease { token, attempt, received, note, ends, keep, released: None };
    known.insert(key, Known::Leased(lease));
    answer
}

fn settle(
    known: &mut BTreeMap<ClaimKey, Known>,
    now: Monotonic,
    (key, token, settlement): (ClaimKey, Token, Settlement),
) -> Settled {
    match (known.get_mut(&key), settlement) {
        (Some(Known::Done { token: by, .. }), Settlement::Complete { .. }) if *by == token => {}
        (None, Settlement::Complete { outcome, keep }) => {
            known.insert(key, Known::Done { token, outcome, until: now + keep });
        }
        (Some(Known::Leased(last)), settlement) if last.token == token => match settlement {
            Settlement::Complete { outcome, keep } => {
                known.insert(key, Known::Done { token, outcome, until: now + keep });
            }
            Settlement::Extend { lease } => {
                last.ends = now + lease;
                last.released = None;
            }
            Settlement::Release { counted: false } if last.attempt == 1 => {
                known.remove(&key);
            }
            Settlement::Release { counted } => {
                last.ends = now;
                last.released = Some(counted);
            }
        },
        _ => return Settled::Fenced,
    }
    Settled::Applied
}

#[async_trait]
impl IdempotencyStore for MemoryIdempotency {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        claims::check_requests(&requests)?;
        Ok(self.with_each(requests, claim, |request| request.key))
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        claims::check_settlements(&settlements)?;
        Ok(self.with_each(settlements, settle, |(key, ..)| *key))
    }
}

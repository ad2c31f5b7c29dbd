//! Claims in a map.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{
    Claim, ClaimKey, ClaimRequest, Clock, Ground, IdempotencyStore, Monotonic, Result, Settled, Settlement,
    Token,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// `IdempotencyStore` in memory.
#[derive(Debug)]
pub struct MemoryIdempotency {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<ClaimKey, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    token: Token,
    attempts: u32,
    note: Bytes,
    state: State,
    /// When nothing is known of it any more.
    expires: Monotonic,
}

#[derive(Clone, Debug)]
enum State {
    Held { until: Monotonic, keep: Duration },
    Free,
    Done { outcome: Bytes },
}

impl MemoryIdempotency {
    /// An empty store that goes by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }
}

impl Entry {
    fn held(request: &ClaimRequest, attempts: u32, now: Monotonic) -> Self {
        let until = now + request.lease;
        Self {
            token: request.token,
            attempts,
            note: request.note.clone(),
            state: State::Held { until, keep: request.keep },
            expires: until + request.keep,
        }
    }

    /// What a request comes to where this is known.
    fn answer(&mut self, request: ClaimRequest, now: Monotonic) -> Claim {
        let counted = match (&self.state, request.ground) {
            (State::Done { outcome }, _) => return Claim::Done { outcome: outcome.clone() },
            // Asked again: the first answer was lost.
            (State::Held { .. }, _) if self.token == request.token => {
                *self = Self { note: self.note.clone(), ..Self::held(&request, self.attempts, now) };
                return Claim::Acquired { attempt: self.attempts, note: Bytes::new() };
            }
            (State::Free, _) => true,
            (_, Ground::Own { token, counted }) if token == self.token => counted,
            (_, Ground::TakeOver { counted }) => counted,
            (State::Held { until, .. }, _) if *until <= now => true,
            (State::Held { until, .. }, _) => return Claim::InFlight { ends_in: until.since(now) },
        };
        let attempts = self.attempts + u32::from(counted);
        let note = std::mem::take(&mut self.note);
        *self = Self::held(&request, attempts, now);
        Claim::Acquired { attempt: attempts, note }
    }
}

#[async_trait]
impl IdempotencyStore for MemoryIdempotency {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        let now = self.clock.monotonic();
        let mut entries = self.entries.lock();
        let claim = |request: ClaimRequest| {
            let known = entries.get_mut(&request.key).filter(|entry| entry.expires > now);
            match known {
                Some(entry) => entry.answer(request, now),
                None => {
                    entries.insert(request.key, Entry::held(&request, 1, now));
                    Claim::Acquired { attempt: 1, note: Bytes::new() }
                }
            }
        };
        Ok(requests.into_iter().map(claim).collect())
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        let now = self.clock.monotonic();
        let mut entries = self.entries.lock();
        let settle = |(key, token, settlement): (ClaimKey, Token, Settlement)| {
            let known = entries.get_mut(&key).filter(|entry| entry.expires > now);
            let Some(entry) = known else {
                return match settlement {
                    Settlement::Complete { outcome, keep } => {
                        let state = State::Done { outcome };
                        let entry =
                            Entry { token, attempts: 1, note: Bytes::new(), state, expires: now + keep };
                        entries.insert(key, entry);
                        Settled::Applied
                    }
                    Settlement::Release { .. } => Settled::Applied,
                    Settlement::Extend { .. } => Settled::Fenced,
                };
            };
            if entry.token != token {
                return Settled::Fenced;
            }
            match (&entry.state, settlement) {
                (State::Done { .. }, Settlement::Complete { .. }) => {}
                (State::Done { .. }, _) | (State::Free, Settlement::Extend { .. }) => return Settled::Fenced,
                (_, Settlement::Complete { outcome, keep }) => {
                    (entry.state, entry.expires) = (State::Done { outcome }, now + keep);
                }
                (State::Held { keep, .. }, Settlement::Extend { lease }) => {
                    let keep = *keep;
                    let until = now + lease;
                    (entry.state, entry.expires) = (State::Held { until, keep }, until + keep);
                }
                (State::Free, Settlement::Release { .. }) => {}
                (State::Held { keep, .. }, Settlement::Release { counted }) => {
                    let keep = *keep;
                    entry.attempts -= u32::from(!counted);
                    (entry.state, entry.expires) = (State::Free, now + keep);
                    if entry.attempts == 0 {
                        entries.remove(&key);
                    }
                }
            }
            Settled::Applied
        };
        Ok(settlements.into_iter().map(settle).collect())
    }
}

//! The contract of a store of claims, as plainly as it can be said.

use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    Claim, ClaimKey, ClaimRequest, Clock, Ground, IdempotencyStore, Monotonic, Result, Settled, Settlement,
    Token,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use testkit::clock::TestClock;

#[derive(Debug)]
struct Entry {
    token: Token,
    ends: Monotonic,
    /// Those that counted, with the one under way.
    attempts: u32,
    note: Bytes,
    /// What the claimant of the present lease was answered.
    answer: Claim,
    outcome: Option<(Bytes, Monotonic)>,
}

#[derive(Debug)]
pub(crate) struct Model {
    clock: Arc<TestClock>,
    entries: Mutex<HashMap<ClaimKey, Entry>>,
}

impl Model {
    pub(crate) fn new(clock: Arc<TestClock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }
}

#[async_trait]
impl IdempotencyStore for Model {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        let now = self.clock.monotonic();
        let mut entries = self.entries.lock().unwrap();
        let claim = |request: ClaimRequest| {
            let ends = now + request.lease;
            let (attempts, note) = match entries.get_mut(&request.key) {
                None => (1, Bytes::new()),
                Some(Entry { outcome: Some((outcome, until)), .. }) if *until > now => {
                    return Claim::Done { outcome: outcome.clone() };
                }
                Some(Entry { outcome: Some(_), .. }) => (1, Bytes::new()),
                Some(entry) if entry.token == request.token => {
                    entry.ends = ends;
                    return entry.answer.clone();
                }
                Some(entry) => {
                    let counted = match request.ground {
                        Ground::Own { token, counted } if token == entry.token => counted,
                        Ground::TakeOver { counted } => counted,
                        _ if entry.ends > now => return Claim::InFlight { ends_in: entry.ends.since(now) },
                        _ => true,
                    };
                    (entry.attempts + u32::from(counted), entry.note.clone())
                }
            };
            let answer = Claim::Acquired { attempt: attempts, note };
            let entry = Entry {
                token: request.token,
                ends,
                attempts,
                note: request.note,
                answer: answer.clone(),
                outcome: None,
            };
            entries.insert(request.key, entry);
            answer
        };
        Ok(requests.into_iter().map(claim).collect())
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        let now = self.clock.monotonic();
        let mut entries = self.entries.lock().unwrap();
        let settle = |(key, token, settlement): (ClaimKey, Token, Settlement)| {
            let Some(entry) = entries.get_mut(&key).filter(|entry| entry.token == token) else {
                return Settled::Fenced;
            };
            match settlement {
                Settlement::Complete { .. } if entry.outcome.is_some() => Settled::Applied,
                _ if entry.outcome.is_some() => Settled::Fenced,
                Settlement::Complete { outcome, keep } => {
                    entry.outcome = Some((outcome, now + keep));
                    Settled::Applied
                }
                Settlement::Extend { lease } => {
                    entry.ends = now + lease;
                    Settled::Applied
                }
                Settlement::Release { counted } => {
                    entry.ends = Monotonic::default();
                    if counted {
                        return Settled::Applied;
                    }
                    entry.attempts -= 1;
                    if entry.attempts == 0 {
                        entries.remove(&key);
                    }
                    Settled::Applied
                }
            }
        };
        Ok(settlements.into_iter().map(settle).collect())
    }
}

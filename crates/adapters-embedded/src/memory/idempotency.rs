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

fn claim(known: &mut BTreeMap<ClaimKey, Known>, now: Monotonic, request: ClaimRequest) -> Claim {
    let ClaimRequest { key, token, lease, keep, ground, note } = request;
    let (attempt, received) = match known.get(&key) {
        None => (1, Bytes::new()),
        Some(Known::Done { outcome, .. }) => return Claim::Done { outcome: outcome.clone() },
        Some(Known::Leased(last)) if last.token == token => (last.attempt, last.received.clone()),
        Some(Known::Leased(last)) => {
            let counted = match (last.released, ground) {
                (Some(counted), _) | (None, Ground::TakeOver { counted }) => counted,
                (None, Ground::Own { token, counted }) if token == last.token => counted,
                _ if last.ends <= now => true,
                _ => return Claim::InFlight { ends_in: last.ends.since(now) },
            };
            (last.attempt.saturating_add(u32::from(counted)), last.note.clone())
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ports::{Effect, ErrorKind};
    use testkit::{
        TestClock,
        fault::{Faults, FaultyIdempotencyStore},
    };

    const HOUR: Duration = Duration::from_hours(1);

    fn request(token: u64) -> ClaimRequest {
        let (key, token, ground) = (ClaimKey([1; 16]), Token(token), Ground::Free);
        ClaimRequest { key, token, lease: HOUR, keep: HOUR, ground, note: Bytes::new() }
    }

    fn completion() -> Vec<(ClaimKey, Token, Settlement)> {
        vec![(ClaimKey([1; 16]), Token(1), Settlement::Complete { outcome: Bytes::new(), keep: HOUR })]
    }

    #[tokio::test(start_paused = true)]
    async fn it_forgets_under_paused_time() {
        let store = MemoryIdempotency::new(Arc::new(TestClock::new()));
        let acquired = |attempt| Claim::Acquired { attempt, note: Bytes::new() };
        assert_eq!(store.claim(vec![request(1)]).await.unwrap(), [acquired(1)]);
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(store.claim(vec![request(2)]).await.unwrap(), [Claim::InFlight { ends_in: HOUR / 2 }]);
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(store.claim(vec![request(2)]).await.unwrap(), [acquired(2)]);
        tokio::time::advance(2 * HOUR).await;
        assert_eq!(store.claim(vec![request(3)]).await.unwrap(), [acquired(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_on_purpose_before_the_effect_or_after_it() {
        let clock = Arc::new(TestClock::new());
        let store = Arc::new(MemoryIdempotency::new(clock.clone()));
        let faulty = FaultyIdempotencyStore::new(store.clone(), clock.clone(), 1, Faults::default());
        let fail = |before, after| Faults { error_before: before, error_after: after, ..Faults::default() };

        faulty.set(fail(1.0, 0.0));
        let error = faulty.claim(vec![request(1)]).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
        let error = faulty.settle(completion()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
        let acquired = [Claim::Acquired { attempt: 1, note: Bytes::new() }];
        assert_eq!(store.claim(vec![request(2)]).await.unwrap(), acquired, "nothing was done");
        let release = vec![(ClaimKey([1; 16]), Token(2), Settlement::Release { counted: false })];
        assert_eq!(store.settle(release).await.unwrap(), [Settled::Applied]);

        faulty.set(fail(0.0, 1.0));
        let error = faulty.claim(vec![request(1)]).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        assert!(matches!(store.claim(vec![request(2)]).await.unwrap()[..], [Claim::InFlight { .. }]));
        let error = faulty.settle(completion()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown));

        let delay_max = Duration::from_secs(9);
        faulty.set(Faults { delay: 1.0, delay_max, ..Faults::default() });
        let before = clock.monotonic();
        let done = [Claim::Done { outcome: Bytes::new() }];
        assert_eq!(faulty.claim(vec![request(2)]).await.unwrap(), done, "it was done");
        let waited = clock.monotonic().since(before);
        assert!(waited > Duration::ZERO && waited <= delay_max, "{waited:?} of paused time");
    }
}

//! A log and a store of claims that fail on purpose, for simulations.
//!
//! Each call draws from a seeded source, so that a run can be repeated: it may wait first, fail before it has
//! an effect, or have its effect and fail then.

use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    AppendRequest, AppendResult, Capabilities, Claim, ClaimKey, ClaimRequest, Clock, ErrorKind, EventLog,
    Fetched, IdempotencyStore, LogReader, Offset, PartitionId, PortError, Position, ReadLimits, Result,
    Settled, Settlement, Token, TopicName, TopicPartition,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// How often a call fails or waits, each from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Fails with `Unavailable` and no effect, and is not passed on.
    pub error_before: f64,
    /// Is passed on, then fails with `Unavailable`, the effect unknown.
    pub error_after: f64,
    /// Waits before it is passed on, a random time up to `delay_max`.
    pub delay: f64,
    /// The longest wait.
    pub delay_max: Duration,
}

#[derive(Debug)]
struct Dice {
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    clock: Arc<dyn Clock>,
}

/// What becomes of a call that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    FailAfter,
}

impl Dice {
    fn new(clock: Arc<dyn Clock>, seed: u64, faults: Faults) -> Arc<Self> {
        let (faults, rng) = (Mutex::new(faults), Mutex::new(StdRng::seed_from_u64(seed)));
        Arc::new(Self { faults, rng, clock })
    }

    /// Waits or fails where the dice say so.
    async fn roll(&self, operation: &'static str) -> Result<Verdict> {
        let faults = *self.faults.lock();
        let (before, after, delay) = {
            let mut rng = self.rng.lock();
            let before = rng.random_bool(faults.error_before);
            let after = rng.random_bool(faults.error_after);
            let delay = rng.random_bool(faults.delay).then(|| faults.delay_max.mul_f64(rng.random()));
            (before, after, delay)
        };
        if let Some(delay) = delay {
            self.clock.sleep_until(self.clock.monotonic() + delay).await;
        }
        match (before, after) {
            (true, _) => {
                Err(PortError::new(ErrorKind::Unavailable, operation, "failed on purpose, before it began"))
            }
            (_, true) => Ok(Verdict::FailAfter),
            _ => Ok(Verdict::Pass),
        }
    }
}

fn failed_after(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Unavailable, operation, "failed on purpose, after it was done").effect_unknown()
}

impl Verdict {
    fn judge<T>(self, operation: &'static str, result: Result<T>) -> Result<T> {
        match self {
            Self::Pass => result,
            Self::FailAfter => result.and_then(|_| Err(failed_after(operation))),
        }
    }
}

/// A log that fails as [`Faults`] say. Its readers do too.
#[derive(Clone, Debug)]
pub struct FaultyLog {
    inner: Arc<dyn EventLog>,
    dice: Arc<Dice>,
}

impl FaultyLog {
    /// `inner` with faults drawn from `seed`.
    pub fn new(inner: Arc<dyn EventLog>, clock: Arc<dyn Clock>, seed: u64, faults: Faults) -> Self {
        Self { inner, dice: Dice::new(clock, seed, faults) }
    }

    /// From now on these faults; the readers that are open follow.
    pub fn set(&self, faults: Faults) {
        *self.dice.faults.lock() = faults;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventLog for FaultyLog {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        const OPERATION: &str = "event_log.append";
        let count = request.records.len();
        match self.dice.roll(OPERATION).await {
            Err(error) => AppendResult::complete((0..count).map(|_| Err(error.duplicate())).collect()),
            Ok(Verdict::Pass) => self.inner.append(request).await,
            Ok(Verdict::FailAfter) => {
                let AppendResult { outcomes, late } = self.inner.append(request).await;
                let outcomes = outcomes
                    .into_iter()
                    .map(|outcome| Verdict::FailAfter.judge(OPERATION, outcome))
                    .collect();
                AppendResult { outcomes, late }
            }
        }
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        const OPERATION: &str = "event_log.open";
        let verdict = self.dice.roll(OPERATION).await?;
        let inner = verdict.judge(OPERATION, self.inner.open(partition, from).await)?;
        Ok(Box::new(FaultyReader { inner, dice: self.dice.clone() }))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        const OPERATION: &str = "event_log.locate";
        let verdict = self.dice.roll(OPERATION).await?;
        verdict.judge(OPERATION, self.inner.locate(topic, at).await)
    }
}

#[derive(Debug)]
struct FaultyReader {
    inner: Box<dyn LogReader>,
    dice: Arc<Dice>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LogReader for FaultyReader {
    /// A read that failed goes on from the same place, so a failure after it would lose what it brought:
    /// both kinds fail before.
    async fn next(&mut self, limits: ReadLimits) -> Result<Fetched> {
        const OPERATION: &str = "event_log.next";
        match self.dice.roll(OPERATION).await? {
            Verdict::Pass => self.inner.next(limits).await,
            Verdict::FailAfter => Err(failed_after(OPERATION)),
        }
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        const OPERATION: &str = "event_log.seek";
        let verdict = self.dice.roll(OPERATION).await?;
        verdict.judge(OPERATION, self.inner.seek(to).await)
    }
}

/// A store of claims that fails as [`Faults`] say, each call as a whole.
#[derive(Clone, Debug)]
pub struct FaultyIdempotencyStore {
    inner: Arc<dyn IdempotencyStore>,
    dice: Arc<Dice>,
}

impl FaultyIdempotencyStore {
    /// `inner` with faults drawn from `seed`.
    pub fn new(inner: Arc<dyn IdempotencyStore>, clock: Arc<dyn Clock>, seed: u64, faults: Faults) -> Self {
        Self { inner, dice: Dice::new(clock, seed, faults) }
    }

    /// From now on these faults.
    pub fn set(&self, faults: Faults) {
        *self.dice.faults.lock() = faults;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyStore for FaultyIdempotencyStore {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        const OPERATION: &str = "idempotency_store.claim";
        let verdict = self.dice.roll(OPERATION).await?;
        verdict.judge(OPERATION, self.inner.claim(requests).await)
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        const OPERATION: &str = "idempotency_store.settle";
        let verdict = self.dice.roll(OPERATION).await?;
        verdict.judge(OPERATION, self.inner.settle(settlements).await)
    }
}

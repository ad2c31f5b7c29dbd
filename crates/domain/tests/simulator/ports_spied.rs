//! The ports of one process: they fail on purpose, stop having effects when the process is killed, and tell
//! the oracle what they did.

use super::oracle::Oracle;
use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    AppendRequest, AppendResult, Capabilities, Claim, ClaimKey, ClaimRequest, Clock, Committed, ErrorKind,
    EventLog, Expected, GroupId, IdempotencyStore, JobKind, JobStore, LogReader, Offset, OffsetCommit,
    OffsetStore, PartitionId, PortError, Position, Result, Settled, Settlement, Stored, Token, TopicName,
    TopicPartition,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use testkit::fault::Faults;

/// Whether a process lives, and how its calls fail.
#[derive(Debug)]
pub(crate) struct Life {
    dead: AtomicBool,
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    clock: Arc<dyn Clock>,
    pub(crate) oracle: Arc<Oracle>,
}

impl Life {
    pub(crate) fn new(clock: Arc<dyn Clock>, oracle: Arc<Oracle>, seed: u64, faults: Faults) -> Arc<Self> {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { dead: AtomicBool::new(false), faults: Mutex::new(faults), rng, clock, oracle })
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, SeqCst);
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        if self.dead.load(SeqCst) {
            return Err(PortError::new(ErrorKind::Unavailable, operation, "the process was killed"));
        }
        Ok(())
    }

    /// Before a call: it may be late or fail. Answers whether it is to fail after its effect.
    async fn before(&self, operation: &'static str) -> Result<bool> {
        let faults = *self.faults.lock();
        let (fails, fails_after, delay) = {
            let mut rng = self.rng.lock();
            let fails = rng.random_bool(faults.error_before);
            let fails_after = rng.random_bool(faults.error_after);
            (
                fails,
                fails_after,
                rng.random_bool(faults.delay).then(|| faults.delay_max.mul_f64(rng.random())),
            )
        };
        if let Some(delay) = delay {
            self.clock.sleep_until(self.clock.monotonic() + delay).await;
        }
        self.check(operation)?;
        if fails {
            return Err(PortError::new(
                ErrorKind::Unavailable,
                operation,
                "failed on purpose, before it began",
            ));
        }
        Ok(fails_after)
    }

    fn after<T>(&self, fails: bool, operation: &'static str, result: Result<T>) -> Result<T> {
        self.check(operation)?;
        if fails && result.is_ok() {
            let error =
                PortError::new(ErrorKind::Unavailable, operation, "failed on purpose, after it was done");
            return Err(error.effect_unknown());
        }
        result
    }
}

#[derive(Debug)]
pub(crate) struct Spied<T: ?Sized> {
    pub(crate) inner: Arc<T>,
    pub(crate) life: Arc<Life>,
}

#[async_trait]
impl EventLog for Spied<dyn EventLog> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, request: AppendRequest) -> AppendResult {
        const OPERATION: &str = "append";
        let count = request.records.len();
        let failed =
            |error: &PortError| AppendResult::complete((0..count).map(|_| Err(error.duplicate())).collect());
        let fails = match self.life.before(OPERATION).await {
            Ok(fails) => fails,
            Err(error) => return failed(&error),
        };
        let records: Vec<_> = request.records.iter().map(|(_, record)| record.clone()).collect();
        let topic = request.topic.clone();
        let partitions: Vec<_> = request.records.iter().map(|(partition, _)| *partition).collect();
        let mut result = self.inner.append(request).await;
        for ((outcome, record), partition) in result.outcomes.iter().zip(&records).zip(partitions) {
            match outcome {
                Ok(at) if topic.as_str().contains(".retry.") => {
                    self.life.oracle.waits(&TopicPartition::new(topic.clone(), partition), at.offset, record);
                }
                Ok(_) => self.life.oracle.dead_letter(record),
                Err(_) => {}
            }
        }
        result.outcomes =
            result.outcomes.into_iter().map(|outcome| self.life.after(fails, OPERATION, outcome)).collect();
        result
    }

    async fn open(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>> {
        let fails = self.life.before("open").await?;
        let inner = self.inner.open(partition, from).await;
        let inner = self.life.after(fails, "open", inner)?;
        Ok(Box::new(SpiedReader { inner, life: self.life.clone() }))
    }

    async fn locate(&self, topic: &TopicName, at: &[(PartitionId, Position)]) -> Result<Vec<Offset>> {
        let fails = self.life.before("locate").await?;
        self.life.after(fails, "locate", self.inner.locate(topic, at).await)
    }
}

#[derive(Debug)]
struct SpiedReader {
    inner: Box<dyn LogReader>,
    life: Arc<Life>,
}

#[async_trait]
impl LogReader for SpiedReader {
    async fn next(&mut self, limits: ports::ReadLimits) -> Result<ports::Fetched> {
        // A read that failed goes on from the same place: it fails before alone.
        if self.life.before("next").await? {
            return Err(PortError::new(ErrorKind::Unavailable, "next", "failed on purpose"));
        }
        self.inner.next(limits).await
    }

    async fn seek(&mut self, to: Offset) -> Result<()> {
        self.inner.seek(to).await
    }
}

#[async_trait]
impl OffsetStore for Spied<dyn OffsetStore> {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        const OPERATION: &str = "commit";
        let count = commits.len();
        let fails = match self.life.before(OPERATION).await {
            Ok(fails) => fails,
            Err(error) => return (0..count).map(|_| Err(error.duplicate())).collect(),
        };
        let outcomes = self.inner.commit(group, commits.clone()).await;
        for (outcome, commit) in outcomes.iter().zip(&commits) {
            if outcome.is_ok() {
                self.life.oracle.committed(commit);
            }
        }
        outcomes.into_iter().map(|outcome| self.life.after(fails, OPERATION, outcome)).collect()
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        let fails = self.life.before("committed").await?;
        self.life.after(fails, "committed", self.inner.committed(group, of).await)
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        self.inner.delete(group).await
    }
}

#[async_trait]
impl IdempotencyStore for Spied<dyn IdempotencyStore> {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        let fails = self.life.before("claim").await?;
        let mut keys: Vec<_> = requests.iter().map(|request| request.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), requests.len(), "the keys of one call are distinct");
        self.life.after(fails, "claim", self.inner.claim(requests).await)
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        let fails = self.life.before("settle").await?;
        let mut keys: Vec<_> = settlements.iter().map(|(key, ..)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), settlements.len(), "the keys of one call are distinct");
        let outcomes = self.inner.settle(settlements.clone()).await?;
        for ((key, token, settlement), outcome) in settlements.iter().zip(&outcomes) {
            if matches!(settlement, Settlement::Complete { .. }) && *outcome == Settled::Applied {
                self.life.oracle.completed(*key, *token);
            }
        }
        self.life.after(fails, "settle", Ok(outcomes))
    }
}

#[async_trait]
impl JobStore for Spied<dyn JobStore> {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        let fails = self.life.before("get").await?;
        self.life.after(fails, "get", self.inner.get(kind, name).await)
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        self.inner.list(kind).await
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: bytes::Bytes) -> Result<u64> {
        let fails = self.life.before("put").await?;
        self.life.after(fails, "put", self.inner.put(kind, name, expected, value).await)
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        self.inner.delete(kind, name, version).await
    }
}

/// The faults of a bad day.
pub(crate) fn bad_day(rng: &mut StdRng) -> Faults {
    let some =
        |rng: &mut StdRng, most: f64| if rng.random_bool(0.3) { 0.0 } else { rng.random::<f64>() * most };
    Faults {
        error_before: some(rng, 0.2),
        error_after: some(rng, 0.2),
        delay: some(rng, 0.5),
        delay_max: Duration::from_millis(rng.random_range(1..2_000)),
    }
}

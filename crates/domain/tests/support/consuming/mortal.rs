//! What a process writes by; once it is dead, nothing that it does has an effect.

use async_trait::async_trait;
use ports::{
    Claim, ClaimKey, ClaimRequest, Committed, ErrorKind, GroupId, IdempotencyStore, OffsetCommit,
    OffsetStore, PortError, Result, Settled, Settlement, Token, TopicPartition,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

#[derive(Debug)]
pub(super) struct Mortal<S: ?Sized> {
    pub(super) dead: Arc<AtomicBool>,
    pub(super) inner: Arc<S>,
}

impl<S: ?Sized> Mortal<S> {
    fn alive(&self) -> Result<()> {
        let dead = || PortError::new(ErrorKind::Unavailable, "writing", "the process was killed");
        (!self.dead.load(SeqCst)).then_some(()).ok_or_else(dead)
    }
}

#[async_trait]
impl OffsetStore for Mortal<dyn OffsetStore> {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        if self.alive().is_err() {
            return commits.iter().map(|_| self.alive()).collect();
        }
        self.inner.commit(group, commits).await
    }

    async fn committed(&self, group: &GroupId, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        self.inner.committed(group, of).await
    }

    async fn delete(&self, group: &GroupId) -> Result<()> {
        self.inner.delete(group).await
    }
}

#[async_trait]
impl IdempotencyStore for Mortal<dyn IdempotencyStore> {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        self.alive()?;
        self.inner.claim(requests).await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        self.alive()?;
        self.inner.settle(settlements).await
    }
}

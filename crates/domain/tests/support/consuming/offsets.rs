//! Offsets whose commits are held up, or fail, while a test says so.

use async_trait::async_trait;
use ports::{Committed, ErrorKind, GroupId, OffsetCommit, OffsetStore, PortError, Result, TopicPartition};
use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct HeldOffsets {
    inner: Arc<dyn OffsetStore>,
    held: watch::Sender<bool>,
    fails: AtomicBool,
    begun: AtomicUsize,
}

impl HeldOffsets {
    pub(crate) fn new(inner: Arc<dyn OffsetStore>) -> Arc<Self> {
        let (fails, begun) = (AtomicBool::default(), AtomicUsize::default());
        Arc::new(Self { inner, held: watch::Sender::new(false), fails, begun })
    }

    /// From now on commits wait, or go on.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// From now on commits fail, or work.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, SeqCst);
    }

    /// How many commits have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }
}

#[async_trait]
impl OffsetStore for HeldOffsets {
    async fn commit(&self, group: &GroupId, commits: Vec<OffsetCommit>) -> Vec<Result<()>> {
        self.begun.fetch_add(1, Relaxed);
        let mut held = self.held.subscribe();
        // The sender is here, so it is there.
        let _ = held.wait_for(|held| !held).await;
        if self.fails.load(SeqCst) {
            let away = || PortError::new(ErrorKind::Unavailable, "offset_store.commit", "the group is away");
            return commits.iter().map(|_| Err(away())).collect();
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

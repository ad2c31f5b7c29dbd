//! Commits: one under way at a time, of all partitions that have come on since the last.

use super::{Context, PartitionKey};
use crate::delivery::{PartitionCore, commit_map};
use futures::future::BoxFuture;
use ports::{Generation, Offset, OffsetCommit, Result, TopicPartition};
use std::{future::Future, sync::Arc};

/// How far a partition's progress has come, to tell whether there is something to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    next: Offset,
    acked: u64,
}

impl Mark {
    pub(super) fn of(core: &PartitionCore) -> Self {
        Self { next: core.committable(), acked: core.counters().acked }
    }
}

/// One partition's part of a commit.
pub(super) struct Part {
    pub(super) key: PartitionKey,
    pub(super) session: u32,
    pub(super) mark: Mark,
    commit: OffsetCommit,
}

impl Part {
    /// What is to be committed of a partition now.
    pub(super) fn of(
        key: PartitionKey,
        session: u32,
        partition: &TopicPartition,
        generation: Generation,
        log: u64,
        core: &PartitionCore,
    ) -> Self {
        let mark = Mark::of(core);
        let progress = commit_map::Progress {
            log,
            epoch: commit_map::Epoch::default(),
            next: mark.next,
            done: core.done_beyond(),
            attempts: [],
        };
        let metadata = commit_map::encode(progress, commit_map::BYTES_MAX).text;
        let commit = OffsetCommit {
            partition: partition.clone(),
            generation,
            next: mark.next,
            metadata: metadata.into(),
        };
        Self { key, session, mark, commit }
    }
}

/// A part, and what became of it.
pub(super) struct Committed {
    pub(super) key: PartitionKey,
    pub(super) session: u32,
    pub(super) mark: Mark,
    pub(super) outcome: Result<()>,
}

/// A commit that is under way, or none.
#[derive(Default)]
pub(super) struct UnderWay(Option<BoxFuture<'static, Vec<Committed>>>);

impl UnderWay {
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a commit. There must be none.
    pub(super) fn begin(&mut self, context: Arc<Context>, parts: Vec<Part>) {
        self.0 = Some(Box::pin(commit(context, parts)));
    }

    /// Its outcome; waits for ever where there is none. Dropping the future loses nothing.
    pub(super) fn outcome(&mut self) -> impl Future<Output = Vec<Committed>> + '_ {
        std::future::poll_fn(|context| match &mut self.0 {
            None => std::task::Poll::Pending,
            Some(commit) => {
                let outcome = commit.as_mut().poll(context);
                if outcome.is_ready() {
                    self.0 = None;
                }
                outcome
            }
        })
    }
}

async fn commit(context: Arc<Context>, parts: Vec<Part>) -> Vec<Committed> {
    let (marks, commits): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| ((part.key, part.session, part.mark), part.commit)).unzip();
    let outcomes = context.ports.offsets.commit(&context.definition.name, commits).await;
    let done = |((key, session, mark), outcome)| Committed { key, session, mark, outcome };
    marks.into_iter().zip(outcomes).map(done).collect()
}

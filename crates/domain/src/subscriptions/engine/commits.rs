//! Commits: one under way at a time, of all partitions that have come on since the last.

use super::{Context, PartitionKey, owned::Owned};
use crate::delivery::{PartitionCore, commit_map};
use futures::future::BoxFuture;
use ports::{Offset, OffsetCommit, Result};
use std::{future::Future, sync::Arc};

/// How far a partition's progress has come, to tell whether there is something to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    next: Offset,
    done: u64,
    /// Attempts of undecided events are told too, where no store counts them.
    attempts: u64,
}

impl Mark {
    /// The committed offset.
    pub(super) fn next(self) -> Offset {
        self.next
    }

    pub(super) fn of(core: &PartitionCore) -> Self {
        let counters = core.counters();
        let attempts = if core.config().claims { 0 } else { counters.lapsed + counters.failed };
        Self { next: core.committable(), done: counters.done + counters.passed_over, attempts }
    }
}

/// One partition's part of a commit.
pub(super) struct Part {
    pub(super) key: PartitionKey,
    pub(super) session: u32,
    pub(super) mark: Mark,
    /// There is little room left for what is done beyond the committed offset.
    pub(super) full: bool,
    commit: OffsetCommit,
}

impl Part {
    /// What is to be committed of a partition now.
    pub(super) fn of(key: PartitionKey, owned: &Owned, bytes_max: usize) -> Self {
        let Owned { session, partition, generation, log, epoch, core, .. } = owned;
        let (session, generation, log, epoch) = (*session, *generation, *log, *epoch);
        let mark = Mark::of(core);
        let done = core.done_beyond();
        let progress = commit_map::Progress {
            log,
            epoch,
            next: mark.next,
            done: done.ranges(),
            attempts: core.attempts().iter().map(|(offset, attempts)| (*offset, *attempts)),
        };
        let encoded = commit_map::encode(progress, bytes_max);
        let commit = OffsetCommit {
            partition: partition.clone(),
            generation,
            next: mark.next,
            metadata: encoded.text.into(),
        };
        // Three quarters of the room: what is out may still need the rest.
        let full = encoded.used * 4 > bytes_max * 3;
        Self { key, session, mark, full, commit }
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

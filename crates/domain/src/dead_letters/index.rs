//! An index that is kept up with its topics: one task reads what was added, when somebody asks and now and then.
//!
//! It goes in rounds. A round finds the end of the decisions first and that of the dead letters after it, reads the
//! dead letters up to theirs, and then the decisions up to theirs: a decision is made of what is there, so that it is
//! never folded before its dead letter. Who asks waits for a round that began afterwards, and so is shown all that
//! was written before.

use super::{
    Shared,
    decision::Recorded,
    letter::{LetterId, Said},
    table::{Fact, Found, Table},
};
use crate::{
    error::{Error, ErrorCode, Result},
    jobs::{Span, source::Source},
};
use parking_lot::{Mutex, RwLock};
use ports::{GroupId, Monotonic, Offset, PartitionId, Position, StoredRecord, Timestamp, TopicName};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// How often it is looked what was added, where nobody asks.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// An index that nobody asked for so long is given up.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// How long somebody who asks waits for a round.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many records are taken up at once.
const BATCH: usize = 1_000;

/// What the last round came to.
#[derive(Clone, Debug, Default)]
struct Done {
    /// Who asked no later is answered.
    upto: u64,
    failed: Option<Error>,
}

/// The index of a subscription's dead letters.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) subscription: GroupId,
    pub(super) topic: TopicName,
    /// Where decisions are; `None` where the topic's name leaves no room for it.
    pub(super) decisions: Option<TopicName>,
    pub(super) table: RwLock<Table>,
    /// One decision after another.
    pub(super) deciding: tokio::sync::Mutex<()>,
    asked_at: Mutex<Monotonic>,
    asked: AtomicU64,
    wake: Notify,
    done: watch::Sender<Done>,
}

impl Index {
    pub(super) fn new(subscription: GroupId, topic: TopicName, max: usize, now: Monotonic) -> Self {
        let decisions = TopicName::new(&format!("{topic}.decisions")).ok();
        Self {
            subscription,
            topic,
            decisions,
            table: RwLock::new(Table::new(max)),
            deciding: tokio::sync::Mutex::default(),
            asked_at: Mutex::new(now),
            asked: AtomicU64::new(0),
            wake: Notify::new(),
            done: watch::Sender::default(),
        }
    }

    /// Notes that somebody needs it.
    pub(super) fn touch(&self, now: Monotonic) {
        *self.asked_at.lock() = now;
    }

    /// Whether nobody has needed it for long.
    pub(super) fn is_idle(&self, now: Monotonic) -> bool {
        now.since(*self.asked_at.lock()) >= IDLE
    }

    /// Waits until all that was written before this call is known.
    ///
    /// # Errors
    /// `Unavailable` where the log does not serve, or there was too much to be read within [`PATIENCE`]: what was read
    /// stays known, and the next call goes on from there.
    ///
    /// # Cancellation
    /// Has no effect.
    pub(super) async fn catch_up(&self, shared: &Shared) -> Result<()> {
        let mut done = self.done.subscribe();
        let ticket = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        let until = shared.clock.monotonic() + PATIENCE;
        let round = async {
            loop {
                {
                    let seen = done.borrow_and_update();
                    if seen.upto >= ticket {
                        return seen.failed.clone().map_or(Ok(()), Err);
                    }
                }
                if done.changed().await.is_err() {
                    return Err(Error::new(ErrorCode::Unavailable, "the service stops"));
                }
            }
        };
        tokio::select! {
            biased;
            answered = round => answered,
            () = shared.clock.sleep_until(until) => {
                let detail = format!(
                    "the dead letters of `{}` are still being read; ask again in a moment", self.subscription
                );
                Err(Error::new(ErrorCode::Unavailable, detail))
            }
        }
    }
}

/// What keeps an index up.
pub(super) struct Follower {
    index: Arc<Index>,
    shared: Arc<Shared>,
    /// What tells the topics from others that were given their names.
    topic_id: Option<String>,
    decisions_id: Option<String>,
}

impl Follower {
    pub(super) fn new(index: Arc<Index>, shared: Arc<Shared>) -> Self {
        Self { index, shared, topic_id: None, decisions_id: None }
    }

    /// Goes on until `is_over` says so; it is asked between rounds.
    pub(super) async fn run(mut self, is_over: impl Fn(&Index) -> bool) {
        let index = self.index.clone();
        let mut was_well = true;
        loop {
            let upto = index.asked.load(Ordering::Acquire);
            let mut round = self.round().await;
            if matches!(&round, Err(error) if error.code() == ErrorCode::NotFound) {
                // A topic went while it was read: the next round knows it.
                self.shared.topics.forget(&index.topic);
                index.decisions.iter().for_each(|topic| self.shared.topics.forget(topic));
                round = self.round().await;
            }
            if let Err(error) = &round
                && std::mem::replace(&mut was_well, false)
            {
                tracing::warn!(subscription = %index.subscription, topic = %index.topic, %error, "dead letters cannot be read for now");
            }
            was_well = was_well || round.is_ok();
            index.done.send_replace(Done { upto, failed: round.err() });
            if is_over(&index) {
                return;
            }
            let clock = &self.shared.clock;
            tokio::select! {
                () = index.wake.notified() => {}
                () = clock.sleep_until(clock.monotonic() + FOLLOW_EVERY) => {}
            }
        }
    }

    async fn round(&mut self) -> Result<()> {
        let (index, shared) = (self.index.clone(), self.shared.clone());
        let decisions_end = self.decisions_end().await?;
        let Some(meta) = shared.topics.meta_if_there(&index.topic).await? else {
            index.table.write().clear();
            self.topic_id = None;
            return Ok(());
        };
        if self.topic_id.as_ref().is_some_and(|known| *known != meta.id) {
            index.table.write().clear();
        }
        self.topic_id = Some(meta.id.clone());
        let at: Vec<_> = (0..meta.partitions)
            .flat_map(|partition| [(partition, Position::Earliest), (partition, Position::Latest)])
            .collect();
        let offsets = shared.log.locate(&index.topic, &at).await?;
        let mut spans = BTreeMap::new();
        {
            let mut table = index.table.write();
            for (partition, ends) in (0..meta.partitions).zip(offsets.chunks_exact(2)) {
                let (earliest, latest) = (ends[0], ends[1]);
                if latest < table.next(partition) {
                    // It is another one than it was, or has lost its end.
                    table.forget(partition);
                }
                let next = table.next(partition).max(earliest);
                if next < latest {
                    spans.insert(partition, Span { from: next, to: latest, next, gone: 0 });
                }
            }
        }
        self.read(&index.topic, &spans, |table, events| take_up(table, &index, events)).await?;
        {
            // After that, so that what was decided about one that lies further on again goes over to it.
            let mut table = index.table.write();
            for (partition, ends) in (0..meta.partitions).zip(offsets.chunks_exact(2)) {
                table.trim(partition, ends[0]);
            }
        }
        if let (Some(topic), Some(end)) = (&index.decisions, decisions_end) {
            let next = index.table.read().decisions_next;
            if next < end {
                let spans = BTreeMap::from([(0, Span { from: next, to: end, next, gone: 0 })]);
                self.read(topic, &spans, fold).await?;
                let mut table = index.table.write();
                table.decisions_next = table.decisions_next.max(end);
            }
        }
        Ok(())
    }

    /// The end of the decisions; `None` where there are none. Where they are others than they were, all is read anew.
    async fn decisions_end(&mut self) -> Result<Option<Offset>> {
        let (index, shared) = (self.index.clone(), self.shared.clone());
        let Some(topic) = &index.decisions else { return Ok(None) };
        let id = shared.topics.meta_if_there(topic).await?.map(|meta| meta.id.clone());
        let end = match &id {
            Some(_) => shared.log.locate(topic, &[(0, Position::Latest)]).await?.first().copied(),
            None => None,
        };
        let is_other = self.decisions_id.is_some() && self.decisions_id != id;
        if is_other || end.unwrap_or_default() < index.table.read().decisions_next {
            index.table.write().clear();
        }
        self.decisions_id = id;
        Ok(end)
    }

    /// Reads spans, and has what they hold taken up.
    async fn read(
        &self,
        topic: &TopicName,
        spans: &BTreeMap<PartitionId, Span>,
        take: impl Fn(&mut Table, &[(PartitionId, StoredRecord)]),
    ) -> Result<()> {
        let is_letters = *topic == self.index.topic;
        let mut source = Source::new(self.shared.log.clone(), topic.clone(), spans, false, BATCH);
        while source.ready().await? {
            let taken = source.take(BATCH, usize::MAX, Timestamp(i64::MAX));
            {
                let mut table = self.index.table.write();
                take(&mut table, &taken.events);
                if is_letters {
                    taken.next.iter().for_each(|(partition, next)| table.read_to(*partition, *next));
                }
            }
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }
}

/// Takes up dead letters, those of other subscriptions apart.
fn take_up(table: &mut Table, index: &Index, events: &[(PartitionId, StoredRecord)]) {
    table.insert(events.iter().filter_map(|(partition, stored)| {
        let said = Said::of(&stored.record.headers);
        if said.subscription.is_some_and(|name| name != index.subscription.as_str()) {
            return None;
        }
        let of_place = || LetterId::of_place(&index.topic, *partition, stored.offset);
        Some(Found {
            id: said.id.unwrap_or_else(of_place),
            partition: *partition,
            offset: stored.offset,
            time: said.last_failed_at(stored.record.timestamp).0,
            kind: said.kind(),
            event_type: said.event_type,
            bytes: stored.record.size(),
        })
    }));
}

fn fold(table: &mut Table, events: &[(PartitionId, StoredRecord)]) {
    for recorded in events.iter().filter_map(|(_, stored)| Recorded::read(stored)) {
        table.fold(&Fact {
            id: recorded.id,
            offset: recorded.offset,
            kind: recorded.kind,
            edited_at: recorded.edited_at,
            bytes: recorded.bytes,
        });
    }
}
